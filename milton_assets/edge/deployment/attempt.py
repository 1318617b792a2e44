"""One attempt to change what a target serves: the order of steps that a crash at any of them survives.

What belongs here: that order, up to the installed release. What does not: which record may follow which (`states`),
what is done after a crash (`recovery`), the single steps (`copying`, `edge.release`, `layout`, `loadtest`), and the
order from there on (`activation`).

The order: verify the bundle, all but its weights' bytes; copy it into `staging/` on the same file system, fsync; verify
what was *written*, whole, from the disk; admit and load test that; rename into `releases/`, fsync; say `activating`;
swap the link, fsync; watch its health; say `committed`; move `last-known-good`. The journal is fsynced at each word.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from milton_assets.edge.deployment.activation import Ready
from milton_assets.edge.deployment.attempt_ending import JournalledAttempt, require_healthy
from milton_assets.edge.deployment.capacity import check_memory, check_room, check_runtime
from milton_assets.edge.deployment.copying import copy_release
from milton_assets.edge.deployment.fileops import exists
from milton_assets.edge.deployment.guard import activate
from milton_assets.edge.deployment.history import Deployment
from milton_assets.edge.deployment.ids import check_deployment_id, mint
from milton_assets.edge.deployment.layout import RELEASES, STAGING
from milton_assets.edge.deployment.offloading import check_offloading
from milton_assets.edge.deployment.safeguards import Safeguards, guarded
from milton_assets.edge.deployment.session import Session, judged_at
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
from milton_assets.edge.release import Folder, ReleaseDamaged, ReleaseDocuments, read_documents, verify_release
from milton_assets.edge.release.disk import folder_beneath, opened
from milton_assets.vocabulary.digest import short
from milton_assets.vocabulary.edge_target import EdgeTarget
from milton_assets.vocabulary.errors import BadInput, MiltonError


class OtherManifest(MiltonError):
    """The same files under another manifest than the target knows them by."""


class AttemptKnown(MiltonError):
    """An attempt under an id that the target has seen."""


class NothingBefore(MiltonError):
    """There is no release to roll back to."""


def release_of(documents: ReleaseDocuments) -> Release:
    """What the journal keeps of a release."""
    manifest = documents.manifest
    return Release(
        digest=manifest.release_digest,
        bundle=manifest.name,
        model_version=manifest.model_version,
        run_id=manifest.run_id,
        counter=manifest.counter,
        primary=manifest.primary,
        manifest_sha256=documents.manifest_sha256,
        decision_sha256=manifest.decision_sha256,
        evidence_sha256=manifest.evidence_sha256,
    )


def check_same_manifest(state: TargetState, documents: ReleaseDocuments) -> None:
    """Raise `OtherManifest` when the target knows the release under another manifest than `documents`.

    The folder's name is the release's, so taking the new manifest would change what may be in service right now, and no
    rollback could bring the old one back.
    """
    known = state.releases.get(documents.manifest.release_digest)
    if known is not None and known.manifest_sha256 != documents.manifest_sha256:
        raise OtherManifest(
            f"the target has the release {short(known.digest)} already, under the manifest of {known.bundle} "
            f"(counter {known.counter})",
            expected=f"that manifest, {known.manifest_sha256}, or other files",
            remedy="bundle the run again: the new bundle is a release of its own",
        )


def check_deployed_manifest(path: Path, documents: ReleaseDocuments, release: Release) -> None:
    """Raise `ReleaseDamaged` when the release in that folder has another manifest than the journal knows it by."""
    if documents.manifest_sha256 != release.manifest_sha256:
        raise ReleaseDamaged(
            f"{path} has another manifest than the one that was deployed",
            expected=release.manifest_sha256,
            remedy="deploy the release's bundle again",
        )


def nothing_before(target: EdgeTarget) -> NothingBefore:
    """The error for a rollback that has nowhere to go."""
    return NothingBefore(
        f"the target {target.name} has no release before the one in service",
        expected="an earlier release that was committed and not collected",
        remedy="deploy the bundle you want with `milton deploy --bundle DIR`",
    )


class Attempt(JournalledAttempt):
    """One attempt on a target in hand. Use `deploy` or `roll_back`, once."""

    def __init__(
        self,
        session: Session,
        safeguards: Safeguards,
        actor: str,
        *,
        accept_clock: bool = False,
        deployment_id: str | None = None,
    ) -> None:
        taken = session.state.deployments
        if deployment_id is not None and check_deployment_id(deployment_id) in taken:
            raise AttemptKnown(
                f"the target knows the attempt {deployment_id} already",
                expected="an id of its own for each attempt",
                remedy="`milton history` says how it ended",
            )
        super().__init__(session, deployment_id or mint(session.now(), taken))
        self._accept_clock = accept_clock
        self._safeguards = replace(safeguards, on_progress=guarded(safeguards.on_progress, session.note))
        self._actor = actor

    def deploy(self, bundle: Path) -> Deployment:
        """Take the bundle into service. Raises `DeploymentFailed`, or what interrupted it."""
        self._start(Operation.DEPLOY, self._session.target.tell(bundle))
        with self._on_failure(self._fail):
            ready = self._from_bundle(bundle)
            self._prepare(ready, going_back=False)
        return activate(self._session, self._safeguards, self._id, ready)

    def roll_back(self) -> Deployment:
        """Go back to the release before. Raises `DeploymentFailed`, or what interrupted it."""
        self._start(Operation.ROLLBACK, None)
        with self._on_failure(self._fail):
            ready = self._from_target()
            self._prepare(ready, going_back=True)
        return activate(self._session, self._safeguards, self._id, ready)

    def _start(self, operation: Operation, bundle: str | None) -> None:
        self._journal.append(
            Started(at=self._now(), deployment=self._id, operation=operation, actor=self._actor, bundle=bundle)
        )

    def _from_bundle(self, bundle: Path) -> Ready:
        with Folder(bundle, self._ops) as source:
            documents = read_documents(source)
            release = self._accept(release_of(documents))
            check_same_manifest(self._session.state, documents)
            verify_release(source, contents=False, known_by=documents).require()
            self._admit(bundle)
            check_runtime(self._safeguards.runtime, documents.manifest.requirements)
            check_offloading(documents.manifest, self._safeguards.runtime, self._safeguards.gpus)
            self._check_memory(documents)
            if (installed := self._installed(documents)) is not None:
                return Ready(release, installed, self._installed_path(release), staged=False)
            return Ready(release, documents, self._stage(source, documents), staged=True)

    def _from_target(self) -> Ready:
        previous = self._session.state.previous
        if previous is None:
            raise nothing_before(self._session.target)
        release = self._accept(self._session.state.releases[previous])
        path = self._installed_path(release)
        with self._opened_release(release.digest) as folder:
            documents = read_documents(folder)
            check_deployed_manifest(path, documents, release)
            self._check_memory(documents)
            self._verify(folder, documents)
        return Ready(release, documents, path, staged=False)

    def _accept(self, release: Release) -> Release:
        self._safeguards.at("accept", f"{release.bundle}, release {short(release.digest)}")
        self._journal.append(Accepted(at=self._now(), deployment=self._id, release=release))
        return release

    def _admit(self, folder: Path, *, going_back: bool = False) -> None:
        state = self._session.state
        now = judged_at(self._now(), state.last_at, accept_clock=self._accept_clock)
        counter = None if going_back else state.highest_counter
        for admit in self._safeguards.policies:
            admit(folder, now=now, highest_counter=counter, trial=self._safeguards.trial)

    def _check_memory(self, documents: ReleaseDocuments) -> None:
        will_load = self._safeguards.load_test is not None or self._safeguards.health is not None
        check_memory(self._safeguards.memory, documents.manifest.requirements.ram_bytes, will_load=will_load)

    def _installed(self, documents: ReleaseDocuments) -> ReleaseDocuments | None:
        """What the target holds of this very release already; None when it is not there whole, or gains by a copy.

        Its own signatures stay: the files are the same, and an attempt that fails later must not have taken anything
        from what is in service. A copy gives way only to one that bears all its signatures and another.
        """
        digest = documents.manifest.release_digest
        with folder_beneath(self._ops, self._session.folder, (RELEASES,)) as releases:
            if not exists(digest, releases):
                return None
        try:
            with self._opened_release(digest) as folder:
                found = read_documents(folder)
                more = documents.fingerprints() > found.fingerprints()
                if found.manifest_sha256 != documents.manifest_sha256 or more:
                    return None
                self._verify(folder, found)
        except (BadInput, ReleaseDamaged) as error:
            self._session.note(f"what is installed is replaced: {error.problem}")
            return None
        if found.unlisted != documents.unlisted:
            self._session.note("the release is installed already, and keeps the signatures it has")
        return found

    @contextmanager
    def _opened_release(self, digest: str) -> Iterator[Folder]:
        path = self._session.target.path / RELEASES / digest
        with (
            folder_beneath(self._ops, self._session.folder, (RELEASES,)) as releases,
            opened(self._ops, self._ops.open_folder(digest, releases)) as handle,
            Folder(path, self._ops, beneath=handle) as folder,
        ):
            yield folder

    def _stage(self, source: Folder, documents: ReleaseDocuments) -> Path:
        check_room(self._ops.free_bytes(self._session.folder), documents.needed_bytes)
        self._safeguards.at("copy", f"{documents.size_bytes / (1 << 20):,.0f} MiB")
        path = self._session.target.path / STAGING / self._id
        with folder_beneath(self._ops, self._session.folder, (STAGING,)) as staging:
            self._ops.mkdir(self._id, staging)
            with opened(self._ops, self._ops.open_folder(self._id, staging)) as staged:
                copy_release(self._ops, source, staged, documents, self._safeguards.on_progress)
                with Folder(path, self._ops, beneath=staged) as written:
                    self._verify(written, documents)
            self._ops.fsync(staging)
        return path

    def _verify(self, written: Folder, documents: ReleaseDocuments) -> None:
        """Verify a release on the target: from its disk, past the page cache, and with one name for each file."""
        self._safeguards.at("verify", "from the target's disk")
        on_progress = self._safeguards.on_progress
        verify_release(
            written, from_disk=True, one_name_each=True, known_by=documents, on_progress=on_progress
        ).require()

    def _prepare(self, ready: Ready, *, going_back: bool) -> None:
        self._admit(ready.folder, going_back=going_back)
        self._journal.append(
            Verified(
                at=self._now(),
                deployment=self._id,
                files=len(ready.documents.manifest.files) + len(ready.documents.unlisted),
                size_bytes=ready.documents.size_bytes,
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
        report = test(
            ready.folder / ready.release.primary, ready.release.model_version, ready.documents.manifest.health
        )
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
