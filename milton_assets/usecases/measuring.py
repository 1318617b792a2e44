"""Measuring one tier against a model that is served: what the graph and `milton bench` have in common.

What belongs here: opening what the tier's spec says that it needs, and holding its answer to the spec. What does not:
serving, the answer cache and where results are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from milton_assets.vocabulary.chat import (
    ChatModel,
    Completion,
    Message,
    ModelCallFailed,
    Sampling,
    TellsSystemRole,
    clean_text,
)
from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.golden_set import TierGoldens
from milton_assets.vocabulary.machine import Watches
from milton_assets.vocabulary.metric import Status
from milton_assets.vocabulary.progress import OnProgress, Progress
from milton_assets.vocabulary.tier import TierResult
from milton_assets.vocabulary.tier_spec import (
    Measuring,
    Needs,
    TierSpec,
)

ATTEMPTS = 3
"""How often a tier of times is measured, at most, while something else wants the machine."""

SYSTEM_ROLE = "system_role"
"""What a table's provenance calls how the server was sent system turns."""


ERROR_EXAMPLES = "error_examples"
"""What a table's provenance calls the server's words at the first error of each kind. Of a private set there are none:
a server may quote what it was asked."""


class BrokenResult(MiltonError):
    """A tier that returned something else than its spec says."""


def measure_tier(
    spec: TierSpec, goldens: TierGoldens, measuring: Measuring, *, watch: Watches | None = None
) -> TierResult:
    """The tier's result, with the goldens' digests, the code version and how system turns were sent in its provenance.

    `measuring` is what the tier is handed, with the value of `goldens`. A tier of times is measured under `watch`,
    where there is one: again, up to `ATTEMPTS` times in all, while something else wanted the machine; figures of a
    last attempt that was disturbed, too, are invalid.

    Of a private set no text is left in it. Raises `BrokenResult` when the result is another tier's, or lacks a metric
    of the spec or has one beyond it; else whatever the tier raises.
    """
    chat_model, on_progress = measuring.chat_model, measuring.on_progress
    heard = _Heard(chat_model) if chat_model is not None else None
    measuring = replace(
        measuring,
        chat_model=heard,
        on_progress=_without_notes(on_progress) if goldens.is_private else on_progress,
    )
    with goldens.kept_in():
        if watch is not None and spec.needs is Needs.ENDPOINT:
            result = _watched(spec, measuring, watch)
        else:
            result = spec.measure(measuring)
    _hold_to(spec, result)
    stated = {"code_version": spec.code_version(), **result.provenance, "goldens": goldens.stated}
    if (sent := _sent_as(chat_model)) is not None:
        stated[SYSTEM_ROLE] = sent
    if heard is not None and heard.errors and not goldens.is_private:
        stated[ERROR_EXAMPLES] = heard.errors
    return goldens.closed(replace(result, provenance=stated), spec)


class _Heard:
    """A chat model, and what its server said at the first failure of each kind. For several threads at once."""

    def __init__(self, inner: ChatModel) -> None:
        self._inner = inner
        self.errors: dict[str, str] = {}

    def complete(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        *,
        top_logprobs: int = 0,
        json_schema: Mapping[str, Any] | None = None,
    ) -> Completion:
        """As the model does."""
        try:
            return self._inner.complete(messages, sampling, top_logprobs=top_logprobs, json_schema=json_schema)
        except ModelCallFailed as failed:
            self.errors.setdefault(failed.kind.value, clean_text(failed.problem.removeprefix(f"{failed.kind}: ")))
            raise


def _watched(spec: TierSpec, measuring: Measuring, watch: Watches) -> TierResult:
    attempts: list[dict[str, Any]] = []
    while True:
        with watch.watching() as seen:
            result = spec.measure(measuring)
        _hold_to(spec, result)
        attempts.append(seen.provenance())
        result = replace(result, provenance={**result.provenance, "machine": attempts})
        if (complaint := seen.complaint()) is None:
            return result
        measuring.on_progress(Progress("machine", len(attempts), ATTEMPTS, complaint))
        if len(attempts) == ATTEMPTS:
            metrics = tuple(m.invalidated(complaint) if m.status is Status.OK else m for m in result.metrics)
            return replace(result, metrics=metrics)


def _sent_as(model: object) -> str | None:
    return model.system_role if isinstance(model, TellsSystemRole) else None


def _without_notes(on_progress: OnProgress) -> OnProgress:
    """How far it is, without what was last done: a note may hold text of a private set."""
    return lambda step: on_progress(Progress(step.stage, step.done, step.total))


def _hold_to(spec: TierSpec, result: TierResult) -> None:
    if not isinstance(result, TierResult) or result.tier != spec.name:
        found = f"a result of {result.tier}" if isinstance(result, TierResult) else type(result).__name__
        raise BrokenResult(f"tier {spec.name} returned {found}", expected=f"a TierResult of {spec.name}")
    found_units, said = {m.name: m.unit for m in result.metrics}, dict(spec.units())
    if found_units.keys() != said.keys():
        missing, extra = sorted(said.keys() - found_units.keys()), sorted(found_units.keys() - said.keys())
        raise BrokenResult(
            f"tier {spec.name} returned no {missing} and beyond its spec {extra}",
            expected="every metric of its spec; one without a value says `skipped` or `error` and why",
        )
