"""The inference tier's description of itself.

What belongs here: `SPEC`, and joining sets of prompts. What does not: measuring and the definitions of the figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from milton_assets.tiers.inference import report
from milton_assets.tiers.inference.beside import Followed, measure_beside
from milton_assets.tiers.inference.definitions import METRICS, code_version
from milton_assets.tiers.inference.load_curve import levels_up_to, measure_with_sweep
from milton_assets.tiers.inference.plan import InferencePlan
from milton_assets.tiers.inference.plots import pictures_of
from milton_assets.tiers.inference.prompts import SHIPPED, InferenceGoldens, load_goldens
from milton_assets.vocabulary.beside import BESIDE
from milton_assets.vocabulary.metric import Direction
from milton_assets.vocabulary.tier import TierResult
from milton_assets.vocabulary.tier_spec import Conditions, GoldenFile, Measuring, MetricSpec, Needs, TierSpec

_LOWER_IS_BETTER = frozenset({"ms", "J/token"})


def _metrics() -> tuple[MetricSpec, ...]:
    """Durations and energy are better lower, all else higher; how much a figure scatters is neither."""
    return tuple(
        MetricSpec(
            name,
            unit,
            None if name.endswith(".std") else Direction.LOWER if unit in _LOWER_IS_BETTER else Direction.HIGHER,
        )
        for name, unit in METRICS
    )


def plan(conditions: Conditions) -> InferencePlan:
    """The plan of a campaign: one request in flight, and the curve beyond it."""
    chosen = InferencePlan.smoke() if conditions.profile == "smoke" else InferencePlan()
    return chosen.model_copy(update={"slo": conditions.slo})


def effort(plan: InferencePlan, _: InferenceGoldens) -> float | None:
    """The seconds that its rounds may take; they end before when the figures are precise."""
    return plan.budget_s


def measure(measuring: Measuring) -> TierResult:
    """The headline figures and the load curve, on the prompts given; then rounds in turn with the incumbent, if any."""
    goldens: InferenceGoldens = measuring.goldens
    endpoint = measuring.served.endpoint
    prompted: InferencePlan = measuring.plan.model_copy(update={"prompts": goldens.prompts})
    incumbent, followed = measuring.incumbent, Followed(measuring.on_progress, prompted)
    result = measure_with_sweep(
        endpoint,
        prompted,
        levels=levels_up_to(endpoint.slots),
        on_progress=measuring.on_progress if incumbent is None else followed.listener,
        open_client=measuring.open_client,
    )
    told = {**result.provenance, "goldens": dict(goldens.digests)}
    if incumbent is not None:
        beside = measure_beside(endpoint, incumbent, prompted, result, on_progress=followed.after)
        followed.end(beside)
        told[BESIDE] = beside.model_dump(mode="json")
    return replace(result, provenance=told)


def read(path: Path | None) -> InferenceGoldens:
    """A prompts file, or a folder that holds `prompts.jsonl`; None reads the shipped one."""
    return load_goldens(path / "prompts.jsonl" if path is not None and path.is_dir() else path)


def join(sets: Mapping[str, InferenceGoldens]) -> InferenceGoldens:
    """All prompts of the sets; a prompt's id begins with its set's name."""
    prompts = [
        prompt.model_copy(update={"id": f"{name}.{prompt.id}"}) for name, one in sets.items() for prompt in one.prompts
    ]
    digests = {f"{name}/{file}": sha256 for name, one in sets.items() for file, sha256 in one.digests.items()}
    return InferenceGoldens(tuple(prompts), "+".join(one.version for one in sets.values()), digests)


SPEC = TierSpec(
    name="inference",
    about="How fast the model answers: TTFT, time per output token, end-to-end latency, tokens/s; and under load.",
    metrics=_metrics(),
    headline="ttft_ms.median",
    needs=Needs.ENDPOINT,
    per_class=True,
    plan=plan,
    measure=measure,
    code_version=code_version,
    effort=effort,
    read_goldens=read,
    join_goldens=join,
    shipped=SHIPPED.parent,
    goldens=(GoldenFile("inference_prompts", "prompts.jsonl", "The fixed prompts that are timed."),),
    pictures=pictures_of,
    charts=report.charts,
    open_columns=frozenset({"phase", "prompt_id", "error_kind", "finish_reason"}),
    texts=lambda goldens: (prompt.text for prompt in goldens.prompts),
)
