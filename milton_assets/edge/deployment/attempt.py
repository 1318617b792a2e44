"""One attempt to change what a target serves: the order of steps that a crash at any of them survives.

What belongs here: that order, up to the installed release. What does not: which record may follow which (`states`),
what is done after a crash (`recovery`), the single steps (`staging`, `sealed`, `layout`, `loadtest`), and the order
from there on (`activation`).

The order: copy into `staging/` on the same file system, fsync, read every byte back from the disk; admit and load test
what was *written*; rename into `releases/`, fsync; say `activating`; swap the link, fsync; watch its health; say
`committed`; move `last-known-good`. The journal is fsynced at each word.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from milton_assets.edge.deployment.activation import Ready
from milton_assets.edge.deployment.capacity import check_memory, check_room
from milton_assets.edge.deployment.fileops import Fd, exists, folder_beneath, opened
from milton_assets.edge.deployment.guard import activate
from milton_assets.edge.deployment.headers import check_headers
from milton_assets.edge.deployment.history import Deployment
from milton_assets.edge.deployment.ids import mint
from milton_assets.edge.deployment.layout import RELEASES, STAGING
from milton_assets.edge.deployment.safeguards import Safeguards, guarded
from milton_assets.edge.deployment.sealed import ReleaseDamaged, Sealed, check_folder, open_bundle, read_sealed
from milton_assets.edge.deployment.session import Session, judged_at
from milton_assets.edge.deployment.settling import Settling, require_healthy
from milton_assets.edge.deployment.staging import stage
from milton_assets.edge.deployment.states import (
    Accepted,
    Installed,
    LoadTested,
    Operation,
    Release,
    Started,
    TargetState,
    Verified,
)
from milton_assets.vocabulary.digest import short
from milton_assets.vocabulary.edge_target import EdgeTarget
from milton_assets.vocabulary.errors import BadInput, MiltonError


class OtherManifest(MiltonError):
    """The same files under another manifest than the target knows them by."""


class NothingBefore(MiltonError):
    """There is no release to roll back to."""


def release_of(sealed: Sealed) -> Release:
    """What the journal keeps of a release."""
    manifest = sealed.manifest
    return Release(
        digest=manifest.release_digest,
        bundle=manifest.name,
        model_version=manifest.model_version,
        run_id=manifest.run_id,
        counter=manifest.counter,
        primary=manifest.primary,
        manifest_sha256=sealed.manifest_sha256,
        decision_sha256=manifest.decision_sha256,
        evidence_sha256=manifest.evidence_sha256,
    )


def check_same_manifest(state: TargetState, sealed: Sealed) -> None:
    """Raise `OtherManifest` when the target knows the release under another manifest than `sealed`.

    The folder's name is the release's, so taking the new manifest would change what may be in service right now, and no
    rollback could bring the old one back.
    """
    known = state.releases.get(sealed.manifest.release_digest)
    if known is not None and known.manifest_sha256 != sealed.manifest_sha256:
        raise OtherManifest(
            f"the target has the release {short(known.digest)} already, under the manifest of {known.bundle} "
            f"(counter {known.counter})",
            expected=f"that manifest, {known.manifest_sha256}, or other files",
            remedy="bundle the run again: the new bundle is a release of its own",
        )


def nothing_before(target: EdgeTarget) -> NothingBefore:
    """The error for a rollback that has nowhere to go."""
    return NothingBefore(
        f"the target {target.name} has no release before the one in service",
        expected="an earlier release that was committed and not collected",
        remedy="deploy the bundle you want with `milton deploy --bundle DIR`",
    )


class Attempt(Settling):
    """One attempt on a target in hand. Use `deploy` or `roll_back`, once."""

    def __init__(self, session: Session, safeguards: Safeguards, actor: str, *, accept_clock: bool = False) -> None:
        super().__init__(session, mint(session.now(), session.state.deployments))
        self._accept_clock = accept_clock
        self._safeguards = replace(safeguards, on_progress=guarded(safeguards.on_progress, session.note))
        self._actor = actor

    def deploy(self, bundle: Path) -> Deployment:
        """Take the bundle into service. Raises `DeploymentFailed`, or what interrupted it."""
        self._start(Operation.DEPLOY, str(bundle))
        with self._on_failure(self._fail):
            ready = self._from_bundle(bundle)
            self._prepare(ready)
        return activate(self._session, self._safeguards, self._id, ready)

    def roll_back(self) -> Deployment:
        """Go back to the release before. Raises `DeploymentFailed`, or what interrupted it."""
        self._start(Operation.ROLLBACK, None)
        with self._on_failure(self._fail):
            ready = self._from_target()
            self._prepare(ready)
        return activate(self._session, self._safeguards, self._id, ready)

    def _start(self, operation: Operation, bundle: str | None) -> None:
        self._journal.append(
            Started(at=self._now(), deployment=self._id, operation=operation, actor=self._actor, bundle=bundle)
        )

    def _from_bundle(self, bundle: Path) -> Ready:
        with opened(self._ops, open_bundle(self._ops, bundle)) as source:
            sealed = read_sealed(self._ops, source, str(bundle))
            release = self._accept(release_of(sealed))
            check_same_manifest(self._session.state, sealed)
            self._admit(bundle)
            self._check_memory(sealed)
            if self._is_installed(sealed):
                return Ready(release, sealed, self._installed_path(release), staged=False)
            return Ready(release, sealed, self._stage(source, sealed, bundle), staged=True)

    def _from_target(self) -> Ready:
        previous = self._session.state.previous
        if previous is None:
            raise nothing_before(self._session.target)
        release = self._accept(self._session.state.releases[previous])
        path = self._installed_path(release)
        with folder_beneath(self._ops, self._session.folder, (RELEASES, release.digest)) as folder:
            sealed = read_sealed(self._ops, folder, str(path))
            if sealed.manifest_sha256 != release.manifest_sha256:
                raise ReleaseDamaged(
                    f"{path} has another manifest than the one that was deployed",
                    expected=release.manifest_sha256,
                    remedy="deploy the release's bundle again",
                )
            self._check_memory(sealed)
            self._read_back(folder, sealed, path)
        return Ready(release, sealed, path, staged=False)

    def _accept(self, release: Release) -> Release:
        self._safeguards.at("accept", f"{release.bundle}, release {short(release.digest)}")
        self._journal.append(Accepted(at=self._now(), deployment=self._id, release=release))
        return release

    def _admit(self, folder: Path) -> None:
        state = self._session.state
        now = judged_at(self._now(), state.last_at, accept_clock=self._accept_clock)
        for admit in self._safeguards.policies:
            admit(folder, now=now, highest_counter=state.highest_counter, trial=self._safeguards.trial)

    def _check_memory(self, sealed: Sealed) -> None:
        will_load = self._safeguards.load_test is not None or self._safeguards.health is not None
        check_memory(self._safeguards.memory, sealed.manifest.requirements.ram_bytes, will_load=will_load)

    def _is_installed(self, sealed: Sealed) -> bool:
        """Whether the target holds this very release already, whole."""
        digest = sealed.manifest.release_digest
        with folder_beneath(self._ops, self._session.folder, (RELEASES,)) as releases:
            if not exists(digest, releases):
                return False
            with opened(self._ops, self._ops.open_folder(digest, releases)) as folder:
                path = self._session.target.path / RELEASES / digest
                try:
                    if read_sealed(self._ops, folder, str(path)) != sealed:
                        return False
                    self._read_back(folder, sealed, path)
                except (BadInput, ReleaseDamaged) as error:
                    self._session.note(f"what is installed is replaced: {error.problem}")
                    return False
        return True

    def _stage(self, source: Fd, sealed: Sealed, bundle: Path) -> Path:
        check_room(self._ops.free_bytes(self._session.folder), sealed.needed_bytes)
        self._safeguards.at("copy", f"{sealed.size_bytes / (1 << 20):,.0f} MiB")
        path = self._session.target.path / STAGING / self._id
        with folder_beneath(self._ops, self._session.folder, (STAGING,)) as staging:
            self._ops.mkdir(self._id, staging)
            with opened(self._ops, self._ops.open_folder(self._id, staging)) as staged:
                stage(self._ops, source, staged, sealed, str(bundle), self._safeguards.on_progress)
                self._read_back(staged, sealed, path)
            self._ops.fsync(staging)
        return path

    def _read_back(self, folder: Fd, sealed: Sealed, path: Path) -> None:
        self._safeguards.at("verify", "from the target's disk")
        check_folder(self._ops, folder, sealed, str(path), from_disk=True, on_progress=self._safeguards.on_progress)

    def _prepare(self, ready: Ready) -> None:
        check_headers(ready.folder, ready.sealed.manifest)
        self._admit(ready.folder)
        self._journal.append(
            Verified(
                at=self._now(),
                deployment=self._id,
                files=len(ready.sealed.expected()),
                size_bytes=ready.sealed.size_bytes,
                reused=not ready.staged,
            )
        )
        self._load_test(ready)
        self._install(ready)

    def _load_test(self, ready: Ready) -> None:
        test = self._safeguards.load_test
        if test is None:
            return
        self._safeguards.at("load test", ready.release.primary)
        report = test(ready.folder / ready.release.primary, ready.release.model_version, ready.sealed.manifest.health)
        require_healthy(report, "the load test")
        self._journal.append(LoadTested(at=self._now(), deployment=self._id, report=report))

    def _install(self, ready: Ready) -> None:
        self._safeguards.at("install", short(ready.release.digest))
        if ready.staged:
            digest = ready.release.digest
            with (
                folder_beneath(self._ops, self._session.folder, (STAGING,)) as staging,
                folder_beneath(self._ops, self._session.folder, (RELEASES,)) as releases,
            ):
                if exists(digest, releases):
                    self._ops.exchange(self._id, staging, digest, releases)
                else:
                    self._ops.rename(self._id, staging, digest, releases)
                self._ops.fsync(releases)
                self._ops.fsync(staging)
        self._journal.append(Installed(at=self._now(), deployment=self._id))

    def _installed_path(self, release: Release) -> Path:
        return self._session.target.path / RELEASES / release.digest
