"""A second opinion on answers that matching leaves open: a pinned judge that first has to prove itself.

What belongs here: the judge's pin, its probe, its qualification on labelled pairs, and asking it. What does not:
its prompt (`prompts`), the pairs (`goldens`), matching.

A judge is a model, so it is believed only after `qualify`: it is none of the candidates; it answers a right and a
wrong probe in the JSON it was asked for, as some servers accept a schema and ignore it; and its agreement with
people's labels, Cohen's kappa, is at least `KAPPA_FLOOR`. A reply that is not of the schema is `invalid`: it is
never read as a verdict, and in the qualification it counts as disagreement.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError

from milton_assets.statistics.agreement import cohen_kappa
from milton_assets.tiers.reasoning import prompts
from milton_assets.tiers.reasoning.cases import GoldenCase
from milton_assets.tiers.reasoning.goldens import LabelledPair
from milton_assets.vocabulary.chat import ChatModel, ModelCallFailed, Sampling
from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.fingerprint import ServerFingerprint
from milton_assets.vocabulary.metric import Interval

KAPPA_FLOOR = 0.7
FEWEST_PAIRS = 30
_MAX_TOKENS = 40
_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0"})  # noqa: S104 - compared, never bound
_PORTS = {"http": 80, "https": 443}
_PROBES = (("What colour is a clear daytime sky?", "blue", "It is blue.", True),
           ("What colour is a clear daytime sky?", "blue", "It is bright orange.", False))  # fmt: skip


class JudgeRefused(MiltonError):
    """A judge that may not judge: a candidate, one that ignores the schema, or one that people disagree with."""


class Opinion(StrEnum):
    """What a judge may say."""

    CORRECT = "correct"
    INCORRECT = "incorrect"


class _Reply(BaseModel):
    model_config = ConfigDict(extra="forbid")

    verdict: Opinion


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"verdict": {"type": "string", "enum": [opinion.value for opinion in Opinion]}},
    "required": ["verdict"],
    "additionalProperties": False,
}
"""The JSON schema of a judge's reply."""


class ModelPin(BaseModel):
    """Which model this is: the name it is served under, where, the digest of its weights and the server when known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    base_url: str | None = None
    artefact_sha256: str | None = None
    server: ServerFingerprint | None = None

    def may_be(self, other: ModelPin) -> bool:
        """Whether both may be one model. Digests decide when both are known; else an equal name or address does.

        A server that serves one model answers to any name, so an equal address is enough to doubt.
        """
        if self.artefact_sha256 and other.artefact_sha256:
            return self.artefact_sha256 == other.artefact_sha256
        same_address = self.base_url is not None and _address(self.base_url) == _address(other.base_url)
        return same_address or self.model == other.model


def _address(base_url: str | None) -> tuple[str, int | None] | None:
    """Host and port; every name of this machine is one."""
    if base_url is None:
        return None
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    return "localhost" if host in _THIS_MACHINE else host, parts.port or _PORTS.get(parts.scheme)


@dataclass(frozen=True)
class Qualification:
    """How a judge did on the labelled pairs. `invalid` replies are counted as disagreement."""

    kappa: float
    interval: Interval
    pairs: int
    agreed: int
    invalid: int


@dataclass(frozen=True)
class QualifiedJudge:
    """A judge that passed. Made by `qualify` only."""

    model: ChatModel
    pin: ModelPin
    qualification: Qualification

    def is_right(self, case: GoldenCase, answer: str) -> bool | None:
        """Whether `answer` is right; None when the reply is invalid or the call failed."""
        return ask(self.model, case.question, case.answer.shown(), answer)

    def provenance(self) -> dict[str, Any]:
        """Who judged and how well, for a result's provenance."""
        return {
            "pin": self.pin.model_dump(mode="json"),
            "kappa": self.qualification.kappa,
            "kappa_ci": [self.qualification.interval.low, self.qualification.interval.high],
            "kappa_floor": KAPPA_FLOOR,
            "pairs": self.qualification.pairs,
            "agreed": self.qualification.agreed,
            "invalid": self.qualification.invalid,
        }


def ask(model: ChatModel, question: str, gold: str, answer: str) -> bool | None:
    """One opinion at temperature 0; None when the reply is not of the schema, or the call failed."""
    try:
        completion = model.complete(
            prompts.judge(question, gold, answer), Sampling(max_tokens=_MAX_TOKENS), json_schema=SCHEMA
        )
    except ModelCallFailed:
        return None
    try:
        return _Reply.model_validate_json(completion.text).verdict is Opinion.CORRECT
    except ValidationError:
        return None


def qualify(
    model: ChatModel, pin: ModelPin, pairs: Sequence[LabelledPair], candidates: Collection[ModelPin]
) -> QualifiedJudge:
    """Probe and test a judge on `pairs`. Raises `JudgeRefused` when it is a candidate, ignores the schema, or agrees
    with the labels by less than `KAPPA_FLOOR`.
    """
    if any(pin.may_be(candidate) for candidate in candidates):
        raise JudgeRefused(
            f"the judge {pin.model} is one of the candidates", remedy="name a judge that is not being measured"
        )
    _probe(model, pin)
    qualification = _test(model, pairs)
    if qualification.kappa < KAPPA_FLOOR:
        raise JudgeRefused(
            f"the judge {pin.model} agrees with the labels by kappa {qualification.kappa:.2f} "
            f"[{qualification.interval.low:.2f}, {qualification.interval.high:.2f}] on {qualification.pairs} pairs, "
            f"{qualification.invalid} of its replies invalid",
            expected=f"kappa of at least {KAPPA_FLOOR}",
            remedy="use a stronger judge, or none: open answers then count as wrong",
        )
    return QualifiedJudge(model, pin, qualification)


def _probe(model: ChatModel, pin: ModelPin) -> None:
    for question, gold, answer, right in _PROBES:
        opinion = ask(model, question, gold, answer)
        if opinion is None:
            raise JudgeRefused(
                f"the judge {pin.model} did not answer a probe in the schema it was given",
                expected='{"verdict": "correct"} or {"verdict": "incorrect"}',
                remedy="use a server that honours response_format json_schema",
            )
        if opinion is not right:
            raise JudgeRefused(
                f"the judge {pin.model} got a probe wrong: {answer!r} against {gold!r}", remedy="use a stronger judge"
            )


def _test(model: ChatModel, pairs: Sequence[LabelledPair]) -> Qualification:
    rights = sum(pair.right for pair in pairs)
    if len(pairs) < FEWEST_PAIRS or rights in {0, len(pairs)}:
        raise JudgeRefused(
            f"there are {len(pairs)} labelled pairs, {rights} of them right",
            expected=f"at least {FEWEST_PAIRS} pairs, with both labels among them",
        )
    cells = {(True, True): 0, (True, False): 0, (False, True): 0, (False, False): 0}
    invalid = 0
    for pair in pairs:
        opinion = ask(model, pair.question, pair.gold, pair.answer)
        invalid += opinion is None
        cells[pair.right, (not pair.right) if opinion is None else opinion] += 1
    kappa, interval = cohen_kappa(cells[True, True], cells[True, False], cells[False, True], cells[False, False])
    return Qualification(kappa, interval, len(pairs), cells[True, True] + cells[False, False], invalid)
