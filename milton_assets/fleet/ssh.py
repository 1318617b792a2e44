"""A target on another machine: its agent, asked over the system's own OpenSSH.

    ssh_target(Address("kitchen", "ssh://pi@kitchen.local", state), means).status()

What belongs here: saying what the protocol asks in the wire's words, and going on after a cut. What does not: what
carries the bytes (`links`), how fast they go (`sending`), and everything that happens on the device (its agent).

What a device says of itself is the truth: how an attempt ended is what its journal says, and where nobody can be asked,
that is said (`VerdictUnknown`), never guessed. What it tells of its history is mirrored here.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from milton_assets.edge.bundle.delta import create_delta
from milton_assets.edge.canary.plan import CanaryPlan
from milton_assets.edge.canary.starting import CanaryRequest, CanaryTold, WholeRequest
from milton_assets.edge.deployment import (
    Collection,
    Deployment,
    FileOps,
    JournalDamaged,
    NeverDeployed,
    TargetStatus,
    Verification,
)
from milton_assets.edge.deployment.admission import DevicePolicy
from milton_assets.edge.deployment.history import check_against_mirror, mirror, read_mirror
from milton_assets.edge.deployment.ids import mint
from milton_assets.edge.deployment.trust import SignedList, TrustTold
from milton_assets.edge.manifest import HealthContract
from milton_assets.edge.release import Folder, ReleaseDocuments, read_documents, read_manifest
from milton_assets.edge.release.documents import CHAIN_DOCUMENTS
from milton_assets.fleet.fit import require_fit, unknowns
from milton_assets.fleet.keys import bring_keys
from milton_assets.fleet.links import Link, Unreachable, opened, ssh_place
from milton_assets.fleet.local import LocalMeans
from milton_assets.fleet.measuring import ContractRequest, MeasureRequest, Weights
from milton_assets.fleet.measuring_elsewhere import (
    MeasuredElsewhere,
    axes_elsewhere,
    changes_elsewhere,
    measured_elsewhere,
    send_weights,
    tried_elsewhere,
)
from milton_assets.fleet.messages import AgentSelf, Offered, Standing, answered, valid
from milton_assets.fleet.remote_shell import agent_command
from milton_assets.fleet.sending import Pace, Sending, Tally
from milton_assets.fleet.target import (
    CollectRequest,
    DeployRequest,
    Health,
    RecoverRequest,
    RollbackRequest,
)
from milton_assets.fleet.targets import Address
from milton_assets.fleet.telling import error_of
from milton_assets.fleet.trying import AxesRequest, ChangesRequest, Pairing, TryRequest
from milton_assets.fleet.wire import Frame, ProtocolViolated, Wire, WireBroken
from milton_assets.vocabulary.edge_target import EdgeTarget, mirror_file
from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.inventory import Inventory
from milton_assets.vocabulary.locks import locked
from milton_assets.vocabulary.progress import OnProgress, Progress, silent
from milton_assets.vocabulary.state import StateDir
from milton_assets.vocabulary.strict_json import parse_json
from milton_assets.vocabulary.tuning import Axes, Chosen

CONFIRM_WITHIN_S = 120.0
"""How long a device waits, after it activated a release, for us to come back over a new connection."""
PATIENCE_S = 3600.0
"""A deployment goes on trying for so long without a byte or a word from the device."""
ANSWER_S = 30.0
"""A device that works says so more often than this."""
_FOLLOW_S = 20.0
_MAX_PAUSE_S = 20.0
_MIB = 1 << 20

T = TypeVar("T")


class VerdictUnknown(MiltonError):
    """An attempt was begun, and the device could not be asked how it ended."""


@dataclass
class Asking:
    """Questions over one wire, answered in their order."""

    wire: Wire
    _seq: int = 0

    def ask(self, verb: str, payload: bytes = b"", *, within_s: float | None = None, **more: Any) -> Any:
        """Ask, and wait for the answer as plain values, at most `within_s` seconds while the device says that it works.

        Raises what the device raised, and as `answer`.
        """
        self.post(verb, payload, **more)
        return self.answer(within_s=within_s)

    def post(self, verb: str, payload: bytes = b"", **more: Any) -> None:
        """Ask without waiting."""
        self._seq += 1
        self.wire.send({"seq": self._seq, "verb": verb, **more}, payload, deadline_s=ANSWER_S)

    def is_answered(self) -> bool:
        """Whether an answer, or a part of one, is there already."""
        return self.wire.waiting()

    def ask_for_bytes(self, verb: str, **more: Any) -> bytes:
        """Ask for raw bytes, which nobody parses. Raises as `answer`."""
        self.post(verb, **more)
        return self._answered(None).payload

    def answer(self, *, within_s: float | None = None) -> Any:
        """The next answer. Raises what the device raised, `WireBroken`, `ProtocolViolated`."""
        return _plain(self._answered(within_s))

    def _answered(self, within_s: float | None) -> Frame:
        until = None if within_s is None else time.monotonic() + within_s
        while True:
            if until is not None and time.monotonic() > until:
                raise WireBroken(f"the device has worked for {within_s:.0f} s and is not done")
            frame = self.wire.receive(deadline_s=ANSWER_S)
            match frame.header.get("kind"):
                case "working":
                    continue
                case "answer":
                    return frame
                case "error":
                    raise error_of(_plain(frame))
                case kind:
                    raise ProtocolViolated(f"a message of the kind {kind!r:.50}", expected="an answer or an error")


def _plain(frame: Frame) -> Any:
    return parse_json(frame.payload, "an answer of the device") if frame.payload else None


def _history(asking: Asking) -> tuple[Deployment, ...]:
    answer = asking.ask("history")
    return valid(lambda: TypeAdapter(tuple[Deployment, ...]).validate_python(answer), "history")


def _document(asking: Asking, name: str, size: int) -> bytes:
    raw = bytearray()
    while len(raw) < size:
        more = asking.ask_for_bytes("document", name=name, offset=len(raw))
        if not more or len(raw) + len(more) > size:
            raise ProtocolViolated(f"{len(raw) + len(more)} bytes of {name}", expected=f"the {size} that were told")
        raw += more
    return bytes(raw)


def _labels(chosen: Chosen) -> tuple[str, ...]:
    return tuple(choice.label for choice in chosen)


def _there(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _releases(asking: Asking) -> set[str]:
    """The releases that the device could serve at once; none where nothing was deployed yet."""
    try:
        status = answered(TargetStatus, asking.ask("status"))
    except NeverDeployed:
        return set()
    return {one.digest for one in (status.active, status.known_good, status.previous) if one}


@dataclass(frozen=True)
class SshTarget:
    """The target whose agent `link` reaches, spoken to from `state`; implements `Target` and `RunsCanaries`.

    `command` starts the agent there. `max_bytes_per_s` caps transfers; `patience_s` is how long a deployment goes on
    trying without a byte or a word; `confirm_within_s` what an attempt asks for that says nothing of it. `tally` counts
    what transfers took.
    """

    name: str
    url: str
    state: StateDir
    link: Link
    command: str
    max_bytes_per_s: float | None = None
    patience_s: float = PATIENCE_S
    confirm_within_s: float = CONFIRM_WITHIN_S
    tally: Tally = field(default_factory=Tally)

    def status(self) -> TargetStatus:
        """See `Target`."""
        return answered(TargetStatus, self._ask("status"))

    def verify(self, release: str | None = None, *, on_progress: OnProgress = silent) -> Verification:
        """See `Target`."""
        return answered(Verification, self._ask("verify", release=release))

    def documents(self, release: str) -> Mapping[str, bytes]:
        """See `Target`. Raises `ProtocolViolated` for documents beyond their limits."""
        with self._connected() as asking:
            sizes = asking.ask("documents", release=release)
            limits = CHAIN_DOCUMENTS
            if not isinstance(sizes, dict) or not all(
                type(size) is int and 0 <= size <= limits.get(name, -1) for name, size in sizes.items()
            ):
                raise ProtocolViolated(f"the documents {sizes!r:.200}", expected="a release's, within their limits")
            return {name: _document(asking, name, size) for name, size in sizes.items()}

    def history(self) -> tuple[Deployment, ...]:
        """See `Target`. What is told is mirrored here; a history that contradicts the mirror is `JournalDamaged`."""
        with self._connected() as asking:
            found = _history(asking)
        self._mirror(found)
        return found

    def health(self) -> Health:
        """See `Target`."""
        return answered(Health, self._ask("health"))

    def inventory(self) -> Inventory:
        """See `Target`."""
        return answered(Inventory, self._ask("inventory"))

    def recover(self, request: RecoverRequest) -> tuple[str, ...]:
        """See `Target`."""
        answer = self._ask("recover", request=request.model_dump(mode="json"))
        return valid(lambda: TypeAdapter(tuple[str, ...]).validate_python(answer), "answer")

    def collect(self, request: CollectRequest) -> Collection:
        """See `Target`."""
        return answered(Collection, self._ask("collect", request=request.model_dump(mode="json")))

    def learn_keys(self, chain: Sequence[SignedList]) -> TrustTold:
        """See `Target`."""
        return answered(TrustTold, self._ask("keys", TypeAdapter(tuple[SignedList, ...]).dump_json(tuple(chain))))

    def who(self) -> AgentSelf:
        """Who answers there."""
        return answered(AgentSelf, self._ask("who"))

    def trust(self, policy: DevicePolicy) -> bool:
        """Give the target that policy if it has none; whether it was given. Raises `BadInput` when it trusts others."""
        return bool(self._ask("trust", request=policy.model_dump(mode="json"))["given"])

    def deploy(self, bundle: Path, request: DeployRequest, *, on_progress: OnProgress = silent) -> Deployment:
        """See `Target`: judged by the device's inventory, sent, then done there. A dry run sends the bundle too.

        Raises `DoesNotFit` before anything travels, and `VerdictUnknown` when the device is lost once it began.
        """
        with Folder(bundle) as folder:
            documents = read_documents(folder)
        if not request.dry_run:
            bring_keys(self, self.state, on_progress)
        will_load = request.load_test or request.health_rounds > 0
        self._send(bundle, documents, will_load, on_progress, may_borrow=not request.dry_run)
        job = {"deploy": self._dump(request), "release": documents.manifest.release_digest}
        return self._attempt(job, request, on_progress)

    def canary_start(
        self, bundle: Path, request: CanaryRequest, *, goldens: bytes | None = None, on_progress: OnProgress = silent
    ) -> CanaryPlan:
        """See `RunsCanaries`: the bundle is sent as for a deployment, and the device judges its own memory."""
        with Folder(bundle) as folder:
            documents = read_documents(folder)
        self._send(bundle, documents, False, on_progress)
        release = documents.manifest.release_digest
        with self._connected() as asking:
            dumped = request.model_dump(mode="json")
            told = asking.ask("canary_start", goldens or b"", release=release, request=dumped)
            asking.ask("done")
        return answered(CanaryPlan, told)

    def canary_watch(self, request: WholeRequest, *, goldens: bytes | None = None) -> CanaryPlan:
        """See `RunsCanaries`."""
        with self._connected() as asking:
            told = asking.ask("canary_watch", goldens or b"", request=request.model_dump(mode="json"))
        return answered(CanaryPlan, told)

    def canary_told(self, canary: str | None = None) -> CanaryTold:
        """See `RunsCanaries`."""
        return answered(CanaryTold, self._ask("canary_told", canary=canary))

    def canary_stop(self, canary: str | None = None, *, actor: str) -> CanaryTold:
        """See `RunsCanaries`."""
        return answered(CanaryTold, self._ask("canary_stop", canary=canary, actor=actor))

    def rollback(self, request: RollbackRequest, *, on_progress: OnProgress = silent) -> Deployment:
        """See `Target`. Raises `VerdictUnknown` when the device is lost once it began."""
        return self._attempt({"rollback": self._dump(request)}, request, on_progress)

    @contextmanager
    def measuring(
        self, weights: Weights, model: str, *, on_progress: OnProgress = silent
    ) -> Iterator[MeasuredElsewhere]:
        """See `Measures`. A link that is cut while the weights travel is waited for; one that is cut later ends it."""
        self._send_weights(weights, on_progress)
        with (
            self._connected() as asking,
            measured_elsewhere(asking, MeasureRequest(artefact=weights.sha256, model=model)) as there,
        ):
            yield there

    def contract(
        self, weights: Weights, request: ContractRequest, *, on_progress: OnProgress = silent
    ) -> HealthContract:
        """See `Measures`."""
        self._send_weights(weights, on_progress)
        return answered(HealthContract, self._ask("contract", request=request.model_dump(mode="json")))

    def axes(self, draft: Path | None = None) -> Axes:
        """See `TriesSettings`."""
        with self._connected() as asking:
            return axes_elsewhere(asking, AxesRequest(draft=_there(draft)))

    def settings_changed(self, chosen: Chosen, draft: Path | None = None) -> Mapping[str, Any]:
        """See `TriesSettings`. It is asked for when a long search is over, so a device that is away is waited for."""
        request = ChangesRequest(chosen=_labels(chosen), draft=_there(draft))

        def step() -> Mapping[str, Any]:
            with self._connected() as asking:
                return changes_elsewhere(asking, request)

        return self._persistently(step, lambda: None, silent)

    @contextmanager
    def trying(
        self, pairing: Pairing, *, on_progress: OnProgress = silent
    ) -> Iterator[tuple[MeasuredElsewhere, MeasuredElsewhere]]:
        """See `TriesSettings`. Links that are cut are as for `measuring`."""
        self._send_weights(pairing.weights, on_progress)
        request = TryRequest(
            artefact=pairing.weights.sha256,
            model=pairing.model,
            of=_labels(pairing.of),
            against=_labels(pairing.against),
            draft=_there(pairing.draft),
        )
        with self._connected() as asking, tried_elsewhere(asking, request) as both:
            yield both

    def _send_weights(self, weights: Weights, on_progress: OnProgress) -> None:
        sending = Sending(Pace(self.max_bytes_per_s), self.tally)
        begun = False

        def step() -> None:
            nonlocal begun
            with self._connected() as asking:
                begun = True
                send_weights(asking, weights, sending)

        on_progress(Progress("send", 0, 1, f"{weights.path.name} to {self.name}"))
        self._persistently(step, lambda: (begun, sending.heard), on_progress, is_begun=False)

    # One question

    @contextmanager
    def _connected(self, *, fresh: bool = False) -> Iterator[Asking]:
        with opened(self.link, self.command, fresh=fresh) as wire:
            yield Asking(wire)

    def _ask(self, verb: str, payload: bytes = b"", *, fresh: bool = False, **more: Any) -> Any:
        with self._connected(fresh=fresh) as asking:
            return asking.ask(verb, payload, **more)

    # Going on after a cut

    def _persistently(
        self, step: Callable[[], T], heard: Callable[[], object], on_progress: OnProgress, *, is_begun: bool = True
    ) -> T:
        """Do `step` until it ends well; after a cut again, as long as what `heard` returns changes within the patience.

        Raises the last `Unreachable` when the patience ends; at once when nothing `is_begun` and nothing was heard.
        """
        first = last = heard()
        since, pause_s = time.monotonic(), 0.2
        while True:
            try:
                return step()
            except Unreachable as error:
                self.tally.cuts += 1
                now = time.monotonic()
                if heard() != last:
                    last, since, pause_s = heard(), now, 0.2
                if now - since > self.patience_s or (last == first and not is_begun):
                    raise
                on_progress(Progress("connect", 0, 1, f"waiting for {self.name}: {error.problem}"))
                time.sleep(min(pause_s, max(0.0, since + self.patience_s - now)) * random.uniform(0.5, 1.0))  # noqa: S311 - a pause
                pause_s = min(_MAX_PAUSE_S, pause_s * 2)

    # Sending

    def _send(
        self,
        bundle: Path,
        documents: ReleaseDocuments,
        will_load: bool,
        on_progress: OnProgress,
        *,
        may_borrow: bool = True,
    ) -> None:
        transfer = _Transfer(bundle, documents, Pace(self.max_bytes_per_s), self.tally, self._delta_folder, on_progress)
        fits = False

        def step() -> None:
            nonlocal fits
            with self._connected() as asking:
                if not fits:
                    inventory = answered(Inventory, asking.ask("inventory"))
                    installed = documents.manifest.release_digest in _releases(asking)
                    require_fit(
                        documents.manifest,
                        inventory,
                        self.name,
                        will_load=will_load,
                        may_borrow=may_borrow,
                        is_installed=installed,
                    )
                    for unknown in unknowns(documents.manifest, inventory):
                        on_progress(Progress("deploy", 0, 1, f"{self.name}: {unknown}; its load test shows it"))
                    fits = True
                transfer.run(asking, self._bundles())

        self._persistently(step, lambda: (fits, transfer.reached), on_progress, is_begun=False)

    def _bundles(self) -> Mapping[str, Path]:
        """The bundles that lie here, by release: what a delta can be made against."""
        found = {}
        for folder in sorted(self.state.bundles.iterdir()) if self.state.bundles.is_dir() else ():
            try:
                found[read_manifest(folder).release_digest] = folder
            except MiltonError:
                continue  # no bundle, or a damaged one: nothing to make a delta against
        return found

    @property
    def _delta_folder(self) -> Path:
        return self.state.cache / "deltas"

    # Attempts

    def _dump(self, request: RollbackRequest) -> dict[str, Any]:
        within_s = self.confirm_within_s if request.confirm_within_s is None else request.confirm_within_s
        return request.model_copy(update={"confirm_within_s": within_s}).model_dump(mode="json")

    def _attempt(self, job: Mapping[str, Any], request: RollbackRequest, on_progress: OnProgress) -> Deployment:
        deployment = request.deployment or mint(datetime.now(UTC))
        following = _Following(deployment, on_progress)

        def step() -> Standing:
            # Each turn over a connection of its own: the second shows the device that it can still be reached.
            with self._connected(fresh=True) as asking:
                if not following.is_begun:
                    following.is_asked = True
                    asking.ask("attempt", request={**job, "deployment": deployment})
                    following.is_begun = True
                standing = following.run(asking)
                if standing.state == "done":
                    self._mirror(_history(asking))
                    if standing.entry is not None:
                        asking.ask("done")
                return standing

        try:
            while (standing := self._persistently(step, lambda: following.heard, on_progress)).state != "done":
                pass
        except Unreachable as error:
            if not following.is_asked:
                raise
            raise VerdictUnknown(
                f"{deployment} was begun on {self.name}, and how it ended is not known: {error.problem}",
                expected="the device's own word",
                remedy=f"`milton history --target {self.name}` asks it, once it can be reached; it decides on its own",
            ) from error
        if standing.error is not None:
            raise error_of(standing.error)
        if standing.entry is None:
            raise ProtocolViolated("an attempt that is done, without its entry", expected="its entry or its error")
        return standing.entry

    # The mirror

    def _mirror(self, found: tuple[Deployment, ...]) -> None:
        """Keep a copy of what the device tells; whoever looks while it is away sees that."""
        place = EdgeTarget(self.name, Path("/"), mirror_file(self.state, self.name), self.state)
        with locked(self.state.deployment_history / f".{self.name}.lock", timeout_s=30):
            if found and found[0].journal_id is not None:
                try:
                    check_against_mirror(found[0].journal_id, found, read_mirror(place))
                except JournalDamaged as error:
                    raise JournalDamaged(
                        f"{self.name} ({self.url}): {error.problem}", expected=error.expected, remedy=error.remedy
                    ) from None
            mirror(FileOps(), place, found)


class _Following:
    """Looks on at an attempt, whatever connections it takes."""

    def __init__(self, deployment: str, on_progress: OnProgress) -> None:
        self.is_asked = False
        self.is_begun = False
        self.heard = 0
        self._deployment = deployment
        self._on_progress = on_progress
        self._step = ""
        self._unknown = 0
        self._is_wanted = False

    def run(self, asking: Asking) -> Standing:
        """Follow until it is done or wants us to come back; then this connection ends."""
        if self._is_wanted:
            self._confirm(asking)
        while True:
            answer = asking.ask("follow", deployment=self._deployment, seen=self._step, wait_s=_FOLLOW_S)
            standing = answered(Standing, answer)
            self.heard += 1
            if standing.state == "unknown":
                self._unknown += 1
                if self._unknown > 3:
                    raise MiltonError(
                        f"the device knows nothing of {self._deployment}, which it was asked for",
                        remedy="see the agent's log on the device, then deploy again",
                    )
                self.is_begun = False
                time.sleep(0.2)
                return standing
            if standing.step != self._step:
                self._step = standing.step
                self._on_progress(Progress("deploy", 0, 1, self._step))
            if standing.state == "done" or standing.wants_confirmation:
                self._is_wanted = standing.wants_confirmation
                return standing

    def _confirm(self, asking: Asking) -> None:
        try:
            asking.ask("confirm", deployment=self._deployment)
        except BadInput:
            return  # it does not wait for us any more: following tells how it ended
        self.heard += 1


class _Transfer:
    """One release on its way. `run` goes on where the device says it is."""

    def __init__(
        self,
        bundle: Path,
        documents: ReleaseDocuments,
        pace: Pace,
        tally: Tally,
        deltas: Path,
        on_progress: OnProgress,
    ) -> None:
        self._bundle = bundle
        self._documents = documents
        self._sending = Sending(pace, tally)
        self._deltas = deltas
        self._on_progress = on_progress
        self._needed: int | None = None
        self._delta: _Delta | None = None
        self._delta_tried = False
        self._rounds = 0

    @property
    def reached(self) -> int:
        """How many words of the device came."""
        return self._sending.heard

    def run(self, asking: Asking, bundles: Mapping[str, Path]) -> None:
        """Send what the device lacks, until it says that every file is what its digest says."""
        while True:
            offered = self._offer(asking)
            missing = self._missing(offered)
            if missing and not self._delta_tried:
                self._delta_tried = True
                self._delta = self._made_delta(offered, bundles)
                if self._delta is not None:
                    continue
            if self._needed is None:
                self._needed = self._delta.size_bytes if self._delta else missing
                self._sending.tally.needed_bytes += self._needed
            if missing and self._delta is not None:
                self._send_delta(asking, offered, self._delta)
                continue
            for entry in self._documents.manifest.files:
                with (self._bundle / entry.path).open("rb") as stream:
                    have = offered.have.get(entry.path, 0)
                    self._send_part(asking, stream.fileno(), have, entry.size_bytes, {"path": entry.path})
            wrong = asking.ask("seal").get("wrong")
            if not wrong:
                return
            self._rounds += 1
            if self._rounds > 2:
                raise BadInput(
                    f"{', '.join(map(str, wrong))[:300]} of {self._bundle} arrived otherwise than its manifest says",
                    expected="a bundle that is what its manifest says",
                    remedy=f"`milton bundle verify {self._bundle}`",
                )

    def _offer(self, asking: Asking) -> Offered:
        unlisted = self._documents.unlisted
        answer = asking.ask(
            "offer",
            b"".join(unlisted.values()),
            documents={name: len(raw) for name, raw in unlisted.items()},
            delta=self._delta.sha256 if self._delta else None,
        )
        return answered(Offered, answer)

    def _missing(self, offered: Offered) -> int:
        return sum(
            max(0, entry.size_bytes - offered.have.get(entry.path, 0)) for entry in self._documents.manifest.files
        )

    def _made_delta(self, offered: Offered, bundles: Mapping[str, Path]) -> _Delta | None:
        """A delta against the release in service, when its bundle lies here and the delta is smaller than what is
        missing; kept, so that a transfer that starts again sends the very same bytes."""
        manifest = self._documents.manifest
        base = offered.serving
        if base is None or base == manifest.release_digest or base not in bundles:
            return None
        path = self._deltas / f"{base}-{manifest.release_digest}.delta"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            if not create_delta(bundles[base], self._bundle, path, on_progress=self._on_progress).pays:
                path.write_bytes(b"")  # so that it is not tried again
        size = path.stat().st_size
        if not size or size >= self._missing(offered):
            return None
        with path.open("rb") as stream:
            return _Delta(path, base, hashlib.file_digest(stream, "sha256").hexdigest(), size)

    def _send_delta(self, asking: Asking, offered: Offered, delta: _Delta) -> None:
        with delta.path.open("rb") as stream:
            where = {"delta": delta.sha256}
            self._send_part(asking, stream.fileno(), offered.delta_bytes, delta.size_bytes, where)
        try:
            asking.ask("apply", delta=delta.sha256, base=delta.base)
        except WireBroken:
            raise
        except MiltonError as error:
            self._on_progress(Progress("send", 0, 1, f"the delta does not apply there, sending it whole: {error}"))
            self._delta = None
            self._needed = None
        else:
            self._delta = None

    def _send_part(self, asking: Asking, handle: int, have: int, size: int, where: Mapping[str, Any]) -> None:
        what = f"a file of {self._bundle} (`milton bundle verify` says more)"
        self._sending.rest_of(asking, "chunk", handle, have, size, what, **where)
        self._on_progress(Progress("send", size // _MIB, max(1, size // _MIB), f"{where.get('path', 'delta')} (MiB)"))


@dataclass(frozen=True)
class _Delta:
    """A delta on this machine: from the release `base`, with its own digest."""

    path: Path
    base: str
    sha256: str
    size_bytes: int


def ssh_target(address: Address, means: LocalMeans) -> SshTarget:
    """The target at an `ssh:` URL. Raises `BadInput` for one that names no host."""
    place = ssh_place(address.url)
    rate = place.max_mbit_per_s
    return SshTarget(
        address.name,
        address.url,
        address.state,
        place.link,
        agent_command(address.name, place.folder),
        max_bytes_per_s=None if rate is None else rate * 1e6 / 8,
    )


def believing(target: SshTarget) -> SshTarget:
    """The same target, whose host's key is believed and kept if it is not known yet."""
    link = ssh_place(target.url).link
    return replace(target, link=replace(link, accept_new=True))
