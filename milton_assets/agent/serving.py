"""One connection's session: questions come in as frames, answers go out, until the other side leaves or falls silent.

What belongs here: the verbs of the protocol, each as one function over the device, and the loop. What does not: frames
(`milton_assets.fleet.wire`) and how a verb is done (`incoming`, `attempts`, `milton_assets.fleet.local`).

While a verb works, the session says so every few seconds, so that the other side can tell work from a dead link.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from milton_assets.agent.attempts import Job
from milton_assets.agent.device import Device
from milton_assets.agent.measuring import MEASURING_VERBS, QUICK_VERB, MeasuringDesk
from milton_assets.edge.canary.goldens import MAX_GOLDENS_BYTES
from milton_assets.edge.canary.starting import CanaryRequest, WholeRequest
from milton_assets.edge.deployment import confirm
from milton_assets.edge.deployment.admission import DevicePolicy, trust_by
from milton_assets.edge.deployment.layout import POLICY_FILE
from milton_assets.edge.deployment.trust import MAX_CHAIN, SignedList
from milton_assets.edge.disk_errors import explained
from milton_assets.edge.release.documents import UNLISTED_LIMITS
from milton_assets.fleet.messages import AgentSelf, Standing
from milton_assets.fleet.target import CollectRequest, RecoverRequest
from milton_assets.fleet.telling import told
from milton_assets.fleet.wire import Frame, ProtocolViolated, Wire, WireBroken
from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.strict_json import parse_json

SILENCE_S = 120.0
"""After so long without a question the session ends."""
WRITE_S = 60.0
WORKING_S = 2.0
MAX_FOLLOW_S = 3600.0
MAX_ACTOR_CHARACTERS = 500
DOCUMENT_BYTES = 1 << 20
"""As much of a document goes into one frame."""
_POLL_S = 0.2

_CHAIN = TypeAdapter(Annotated[tuple[SignedList, ...], Field(max_length=MAX_CHAIN)])


def release_of_agent() -> str:
    """This agent's release."""
    try:
        return version("milton-autobench")
    except PackageNotFoundError:
        return "unknown"


@dataclass
class Session:
    """A session over `wire` about `device`. Two sessions are told apart by `connection`."""

    wire: Wire
    device: Device
    silence_s: float = SILENCE_S
    connection: str = field(default_factory=lambda: secrets.token_hex(16))

    def __post_init__(self) -> None:
        self._incoming = self.device.incoming()
        self._desk: MeasuringDesk | None = None
        self._documents: dict[str, bytes] = {}

    def run(self) -> None:
        """Serve until the other side ends the connection or says nothing for `silence_s`."""
        try:
            self.wire.greet(deadline_s=WRITE_S)
            while True:
                frame = self.wire.receive(deadline_s=self.silence_s)
                self.device.target.was_heard()
                self._answer(frame)
        except WireBroken:
            return
        except ProtocolViolated as error:
            self._say({"kind": "error"}, told(error))
        finally:
            if self._desk is not None:
                self._desk.close()

    @property
    def desk(self) -> MeasuringDesk:
        """What this connection measures."""
        if self._desk is None:
            self._desk = MeasuringDesk(self.device)
        return self._desk

    def _answer(self, frame: Frame) -> None:
        seq = frame.header.get("seq")
        try:
            verb = VERBS.get(str(frame.header.get("verb")))
            if verb is None or type(seq) is not int:
                raise ProtocolViolated(
                    f"the verb {frame.header.get('verb')!r:.100}", expected=f"a number and one of {', '.join(VERBS)}"
                )
            answer = self._working(lambda: verb(self, frame), seq) if verb in _SLOW else verb(self, frame)
        except MiltonError as error:
            self._say({"seq": seq, "kind": "error"}, told(error))
        except OSError as error:
            self._say({"seq": seq, "kind": "error"}, told(explained(error)))
        except ValidationError as error:
            problem = ProtocolViolated(f"the question does not hold: {error.errors()[0]['msg']}", expected="its fields")
            self._say({"seq": seq, "kind": "error"}, told(problem))
        else:
            self._say({"seq": seq, "kind": "answer"}, answer)

    def _working(self, verb: Callable[[], Any], seq: int) -> Any:
        outcome: dict[str, Any] = {}

        def work() -> None:
            try:
                outcome["answer"] = verb()
            except BaseException as error:  # noqa: BLE001 - raised again in the session's own thread
                outcome["error"] = error

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(WORKING_S)
            if thread.is_alive():
                self._say({"seq": seq, "kind": "working"}, None)
        if "error" in outcome:
            raise outcome["error"]
        return outcome["answer"]

    def _say(self, header: Mapping[str, Any], answer: Any) -> None:
        payload = answer if isinstance(answer, bytes) else b"" if answer is None else TypeAdapter(Any).dump_json(answer)
        self.wire.send(header, payload, deadline_s=WRITE_S)

    # The verbs

    def who(self, frame: Frame) -> AgentSelf:
        """Who answers here."""
        target = self.device.target
        return AgentSelf(release=release_of_agent(), target=target.name, folder=str(target.place.path))

    def status(self, frame: Frame) -> Any:
        """`Target.status`."""
        return self.device.target.status()

    def verify(self, frame: Frame) -> Any:
        """`Target.verify`."""
        release = frame.header.get("release")
        return self.device.target.verify(None if release is None else _digest(release))

    def documents(self, frame: Frame) -> dict[str, int]:
        """`Target.documents`: how long each is. Its bytes are asked for one after the other (`document`)."""
        self._documents = dict(self.device.target.documents(_digest(frame.header.get("release"))))
        return {name: len(raw) for name, raw in self._documents.items()}

    def document(self, frame: Frame) -> bytes:
        """The bytes of one of the documents asked for last, from an offset on, as many as a frame takes."""
        name, offset = frame.header.get("name"), frame.header.get("offset")
        if not isinstance(name, str) or name not in self._documents or type(offset) is not int or offset < 0:
            raise ProtocolViolated(f"the document {name!r:.100}", expected="one that `documents` told, and an offset")
        return self._documents[name][offset : offset + DOCUMENT_BYTES]

    def history(self, frame: Frame) -> Any:
        """`Target.history`."""
        return self.device.target.history()

    def health(self, frame: Frame) -> Any:
        """`Target.health`."""
        return self.device.target.health()

    def inventory(self, frame: Frame) -> Any:
        """`Target.inventory`."""
        return self.device.target.inventory()

    def recover(self, frame: Frame) -> Any:
        """`Target.recover`."""
        return self.device.target.recover(RecoverRequest.model_validate(_request(frame)))

    def collect(self, frame: Frame) -> Any:
        """`Target.collect`."""
        return self.device.target.collect(CollectRequest.model_validate(_request(frame)))

    def trust(self, frame: Frame) -> dict[str, bool]:
        """Give the target this device policy, if it has none; whether it has one that trusts the same keys."""
        policy = DevicePolicy.model_validate(_request(frame))
        target = self.device.target
        known = target.device_policy()
        if known is None:
            target.place.path.mkdir(parents=True, exist_ok=True)
            target.guard(policy)
            return {"given": True}
        if missing := policy.trusted_fingerprints - trust_by(known, target.place.path).keys:
            raise BadInput(
                f"the device has a policy of its own, which does not trust {', '.join(sorted(missing))}",
                expected="a policy that trusts the key that signs here, or none",
                remedy=f"add the key to {target.place.path / POLICY_FILE} on the device: the file is its owner's",
            )
        return {"given": False}

    def keys(self, frame: Frame) -> Any:
        """`Target.learn_keys`; the payload holds the lists."""
        return self.device.target.learn_keys(_CHAIN.validate_python(parse_json(frame.payload, "key lists")))

    def offer(self, frame: Frame) -> Any:
        """Begin, or go on with, a transfer; the payload holds the documents one after the other."""
        sizes, delta = frame.header.get("documents"), frame.header.get("delta")
        if not isinstance(sizes, dict) or not (delta is None or isinstance(delta, str)):
            raise ProtocolViolated("an offer without documents", expected="the documents' sizes by name")
        documents, at = {}, 0
        for name, size in sizes.items():
            if type(size) is not int or not 0 <= size <= UNLISTED_LIMITS.get(name, -1):
                raise ProtocolViolated(f"the offered document {name!r:.100}", expected="a release's, within its limit")
            documents[name] = frame.payload[at : at + size]
            at += size
        if at != len(frame.payload):
            raise ProtocolViolated("an offer of other bytes than its documents", expected="just their bytes")
        return self._incoming.offer(documents, self._serving(), _digest(delta) if delta else None)

    def chunk(self, frame: Frame) -> dict[str, int]:
        """The next bytes of an offered file, or of the offered delta."""
        path, offset, delta = (frame.header.get(key) for key in ("path", "offset", "delta"))
        if type(offset) is not int or offset < 0 or not (isinstance(path, str) or isinstance(delta, str)):
            raise ProtocolViolated("bytes of no file", expected="a path or a delta, and the offset")
        if isinstance(delta, str):
            return {"at": self._incoming.take_delta(_digest(delta), offset, frame.payload)}
        return {"at": self._incoming.take(str(path), offset, frame.payload)}

    def apply(self, frame: Frame) -> dict[str, bool]:
        """Make the offered release of the delta that came."""
        delta, base = frame.header.get("delta"), frame.header.get("base")
        self._incoming.apply(_digest(delta), _digest(base))
        return {"applied": True}

    def seal(self, frame: Frame) -> dict[str, tuple[str, ...]]:
        """The offered files that have to come again."""
        return {"wrong": self._incoming.wrong()}

    def attempt(self, frame: Frame) -> dict[str, bool]:
        """Begin an attempt, unless it was begun."""
        job = Job.model_validate({**_request(frame), "connection": self.connection})
        self.device.attempts.begin(job)
        return {"begun": True}

    def follow(self, frame: Frame) -> Standing:
        """How an attempt stands, once it has changed from `seen` or `wait_s` are over."""
        deployment, seen, wait_s = (frame.header.get(key) for key in ("deployment", "seen", "wait_s"))
        if not isinstance(wait_s, int | float) or not 0 <= wait_s <= MAX_FOLLOW_S:
            raise ProtocolViolated(f"a wait of {wait_s!r:.50}", expected=f"0 to {MAX_FOLLOW_S:g} seconds")
        until = time.monotonic() + wait_s
        while True:
            standing = self.device.attempts.standing(str(deployment))
            is_news = standing.state != "running" or standing.step != seen or standing.wants_confirmation
            if is_news or time.monotonic() >= until:
                return standing
            time.sleep(_POLL_S)

    def confirm(self, frame: Frame) -> dict[str, bool]:
        """The caller of an attempt came back, over another connection than it asked over."""
        deployment = str(frame.header.get("deployment"))
        if self.device.attempts.job(deployment).connection == self.connection:
            raise BadInput(
                "this connection asked for the attempt",
                expected="a new connection, which shows that the device can still be reached",
            )
        confirm(self.device.target.place, deployment)
        return {"confirmed": True}

    def canary_start(self, frame: Frame) -> Any:
        """`RunsCanaries.canary_start` of the offered release; golden questions come as the frame's bytes."""
        release = _digest(frame.header.get("release"))
        request = CanaryRequest.model_validate(_request(frame))
        return self.device.target.canary_start(self._incoming.folder(release), request, goldens=_goldens(frame))

    def canary_watch(self, frame: Frame) -> Any:
        """`RunsCanaries.canary_watch`; golden questions come as the frame's bytes."""
        request = WholeRequest.model_validate(_request(frame))
        return self.device.target.canary_watch(request, goldens=_goldens(frame))

    def canary_told(self, frame: Frame) -> Any:
        """`RunsCanaries.canary_told`."""
        return self.device.target.canary_told(_canary(frame))

    def canary_stop(self, frame: Frame) -> Any:
        """`RunsCanaries.canary_stop`."""
        actor = frame.header.get("actor")
        if not isinstance(actor, str) or not 0 < len(actor) <= MAX_ACTOR_CHARACTERS:
            raise ProtocolViolated("nobody stops the canary", expected="an actor")
        return self.device.target.canary_stop(_canary(frame), actor=actor)

    def done(self, frame: Frame) -> dict[str, bool]:
        """Drop what a transfer left: it is in service."""
        self._incoming.clear()
        return {"cleared": True}

    def _serving(self) -> str | None:
        try:
            active = self.device.target.status().active
        except MiltonError:
            return None
        return active.digest if active else None


VERBS: dict[str, Callable[[Session, Frame], Any]] = {
    name: getattr(Session, name)
    for name in (
        "who",
        "status",
        "verify",
        "documents",
        "document",
        "history",
        "health",
        "inventory",
        "recover",
        "collect",
        "trust",
        "keys",
        "offer",
        "chunk",
        "apply",
        "seal",
        "attempt",
        "follow",
        "confirm",
        "canary_start",
        "canary_watch",
        "canary_told",
        "canary_stop",
        "done",
    )
}


def _at_the_desk(verb: Callable[[MeasuringDesk, Frame], Any]) -> Callable[[Session, Frame], Any]:
    return lambda session, frame: verb(session.desk, frame)


_OF_THE_DESK = {name: _at_the_desk(verb) for name, verb in MEASURING_VERBS.items()}
VERBS |= _OF_THE_DESK
_SLOW = frozenset(
    {
        Session.verify,
        Session.documents,
        Session.recover,
        Session.collect,
        Session.offer,
        Session.apply,
        Session.seal,
        Session.follow,
        Session.canary_start,
        Session.canary_watch,
        Session.canary_told,
        Session.canary_stop,
        *(verb for name, verb in _OF_THE_DESK.items() if name != QUICK_VERB),
    }
)


def _request(frame: Frame) -> dict[str, Any]:
    request = frame.header.get("request")
    if not isinstance(request, dict):
        raise ProtocolViolated("a question without a request", expected="a `request` object")
    return request


def _goldens(frame: Frame) -> bytes | None:
    if len(frame.payload) > MAX_GOLDENS_BYTES:
        raise ProtocolViolated(
            f"golden questions of {len(frame.payload)} bytes", expected=f"at most {MAX_GOLDENS_BYTES}"
        )
    return frame.payload or None


def _canary(frame: Frame) -> str | None:
    canary = frame.header.get("canary")
    if not (canary is None or isinstance(canary, str)):
        raise ProtocolViolated(f"the canary {canary!r:.100}", expected="an id, or none for the latest")
    return canary


def _digest(text: object) -> str:
    if not isinstance(text, str) or len(text) != 64 or set(text) - set("0123456789abcdef"):
        raise ProtocolViolated(f"the digest {text!r:.100}", expected="64 hexadecimal digits")
    return text
