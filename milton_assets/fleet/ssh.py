"""A target on another machine: its agent, asked over the system's own OpenSSH.

    ssh_target(Address("kitchen", "ssh://pi@kitchen.local", state), means).status()

What belongs here: saying what `Target` asks in the wire's words, and in which order a deployment does what. What does
not: what carries the bytes (`links`), pairing answers with questions (`asking`), going on after a cut (`patience`), how
a release travels (`transfer`), following an attempt (`following`), and what happens on the device (its agent).

What a device says of itself is the truth: how an attempt ended is what its journal says, and where nobody can be asked,
that is said (`VerdictUnknown`), never guessed. What it tells of its history is mirrored here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

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
from milton_assets.edge.release import Folder, ReleaseDocuments, read_documents
from milton_assets.edge.release.documents import CHAIN_DOCUMENTS
from milton_assets.fleet.asking import Asking
from milton_assets.fleet.fit import require_fit, unknowns
from milton_assets.fleet.following import Following
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
from milton_assets.fleet.messages import AgentSelf, Standing, answered, valid
from milton_assets.fleet.patience import PATIENCE_S, Patience
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
from milton_assets.fleet.transfer import Transfer, bundles_in
from milton_assets.fleet.trying import AxesRequest, ChangesRequest, Pairing, TryRequest
from milton_assets.fleet.wire import ProtocolViolated
from milton_assets.vocabulary.edge_target import EdgeTarget, mirror_file
from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.inventory import Inventory
from milton_assets.vocabulary.locks import locked
from milton_assets.vocabulary.progress import OnProgress, Progress, silent
from milton_assets.vocabulary.state import StateDir
from milton_assets.vocabulary.tuning import Axes, Chosen

CONFIRM_WITHIN_S = 120.0
"""How long a device waits, after it activated a release, for us to come back over a new connection."""


class VerdictUnknown(MiltonError):
    """An attempt was begun, and the device could not be asked how it ended."""


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

        return self._patience.persist(step, lambda: None, silent)

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
        sending = self._sending()
        begun = False

        def step() -> None:
            nonlocal begun
            with self._connected() as asking:
                begun = True
                send_weights(asking, weights, sending)

        on_progress(Progress("send", 0, 1, f"{weights.path.name} to {self.name}"))
        self._patience.persist(step, lambda: (begun, sending.heard), on_progress, is_begun=False)

    # One question

    @contextmanager
    def _connected(self, *, fresh: bool = False) -> Iterator[Asking]:
        with opened(self.link, self.command, fresh=fresh) as wire:
            yield Asking(wire)

    def _ask(self, verb: str, payload: bytes = b"", *, fresh: bool = False, **more: Any) -> Any:
        with self._connected(fresh=fresh) as asking:
            return asking.ask(verb, payload, **more)

    @property
    def _patience(self) -> Patience:
        return Patience(self.name, self.patience_s, self.tally)

    # Sending

    def _sending(self) -> Sending:
        return Sending(Pace(self.max_bytes_per_s), self.tally)

    def _send(
        self,
        bundle: Path,
        documents: ReleaseDocuments,
        will_load: bool,
        on_progress: OnProgress,
        *,
        may_borrow: bool = True,
    ) -> None:
        transfer = Transfer(bundle, documents, self._sending(), self.state.cache / "deltas", on_progress)
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
                transfer.run(asking, bundles_in(self.state.bundles))

        self._patience.persist(step, lambda: (fits, transfer.reached), on_progress, is_begun=False)

    # Attempts

    def _dump(self, request: RollbackRequest) -> dict[str, Any]:
        within_s = self.confirm_within_s if request.confirm_within_s is None else request.confirm_within_s
        return request.model_copy(update={"confirm_within_s": within_s}).model_dump(mode="json")

    def _attempt(self, job: Mapping[str, Any], request: RollbackRequest, on_progress: OnProgress) -> Deployment:
        deployment = request.deployment or mint(datetime.now(UTC))
        following = Following(deployment, on_progress)

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
            while (standing := self._patience.persist(step, lambda: following.heard, on_progress)).state != "done":
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
