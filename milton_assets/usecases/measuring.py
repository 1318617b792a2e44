"""Measuring one tier against a model that is served: what the graph and `milton bench` have in common.

What belongs here: opening what the tier's spec says that it needs, and holding its answer to the spec. What does not:
serving, the answer cache and where results are kept.
"""

from __future__ import annotations

from dataclasses import replace

from milton_assets.vocabulary.chat import ChatModel, TellsSystemRole
from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.golden_set import TierGoldens
from milton_assets.vocabulary.progress import OnProgress, Progress
from milton_assets.vocabulary.server import RunningServer
from milton_assets.vocabulary.tier import TierResult
from milton_assets.vocabulary.tier_spec import EmbeddingServer, JudgeOf, Measuring, TierSpec, no_judge

SYSTEM_ROLE = "system_role"
"""What a table's provenance calls how the server was sent system turns."""


class BrokenResult(MiltonError):
    """A tier that returned something else than its spec says."""


def measure_tier(
    spec: TierSpec,
    served: RunningServer,
    goldens: TierGoldens,
    plan: object,
    *,
    on_progress: OnProgress,
    chat_model: ChatModel | None = None,
    judge: JudgeOf = no_judge,
    embeddings: EmbeddingServer | None = None,
) -> TierResult:
    """The tier's result, with the goldens' digests, the code version and how system turns were sent in its provenance.

    Of a private set no text is left in it. Raises `BrokenResult` when the result is another tier's, or lacks a metric
    of the spec or has one beyond it; else whatever the tier raises.
    """
    with goldens.kept_in():
        result = spec.measure(
            Measuring(
                served=served,
                goldens=goldens.value,
                plan=plan,
                chat_model=chat_model,
                judge=judge,
                embeddings=embeddings,
                on_progress=_without_notes(on_progress) if goldens.is_private else on_progress,
            )
        )
    _hold_to(spec, result)
    stated = {"code_version": spec.code_version(), **result.provenance, "goldens": goldens.stated}
    if (sent := _sent_as(chat_model)) is not None:
        stated[SYSTEM_ROLE] = sent
    return goldens.closed(replace(result, provenance=stated), spec)


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
