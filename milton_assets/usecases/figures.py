"""The latest campaigns and the fleet as Prometheus scrapes them, under OpenTelemetry's GenAI names where it has one.

    figures_page(sources)

What belongs here: which figures there are, and their labels. What does not: the format and the histograms of requests
(`milton_assets.edge.serving.metrics`), which a device's gateway has too: what was measured of a model and what its
users get then stand under one name, apart by the label `milton_source`.

Everything is read from the state folder and the evidence; no device is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from milton_assets.edge.serving.metrics import Metrics, Outcome, Told, gauge
from milton_assets.rollout.states import Phase, Rollout
from milton_assets.selection.decision import CandidateReport
from milton_assets.selection.replay import read_pinned
from milton_assets.selection.summary import RunSummary, read_summary, run_ids
from milton_assets.usecases.fleet_view import LastTold, last_told
from milton_assets.usecases.reporting import Sources
from milton_assets.usecases.rollouts import names_of, rollout_of
from milton_assets.vocabulary.keys import class_of
from milton_assets.vocabulary.metric import Metric
from milton_assets.vocabulary.tier import TierResult

SOURCE = "campaign"
"""What `milton_source` says of requests that a campaign made; a gateway's bear no such label."""

HERE = "here"
"""The class of a run that was decided by the speeds of this machine."""

_MOST_SERIES = 10_000
_Samples = Iterable[tuple[Mapping[str, str], float]]
_Measured = Sequence[tuple[RunSummary, Mapping[str, Mapping[str, TierResult]]]]

_OF_A_CANDIDATE: Mapping[str, tuple[str, Callable[[CandidateReport], float | None]]] = {
    "score": ("Its score among the eligible.", lambda report: report.score),
    "probability_best": ("Share of resamplings that it leads.", lambda report: report.probability_best),
}


def figures_page(sources: Sources) -> str:
    """The page: the latest run of each device class, every target, every rollout.

    Raises `BadInput` for a summary or a journal that cannot be read, `EvidenceMismatch` for a table that does not hold:
    no page is better than one with other figures.
    """
    latest = {class_of(run_id): run_id for run_id in run_ids(sources.store.runs)}
    runs = [read_summary(sources.store.runs, run_id) for run_id in latest.values()]
    measured = [(run, read_pinned(sources.store.read_bytes, run.manifest)) for run in runs]
    rollouts = [rollout_of(sources.state, name) for name in names_of(sources.state)]
    lines = [
        *_requests(measured),
        *_campaigns(runs),
        *_figures(measured),
        *_fleet(list(last_told(sources.targets))),
        *_rollouts(rollouts),
    ]
    return "\n".join([*lines, ""])


def _requests(measured: _Measured) -> Iterator[str]:
    """Every measured request of the tier of speed, in the gateway's own histograms."""
    metrics = Metrics(most_series=_MOST_SERIES)
    for run, tables in measured:
        for version, results in tables.items():
            for result in results.values():
                for told in _told(version, result):
                    metrics.add(told, milton_source=SOURCE, milton_run_id=run.run_id)
    yield from metrics.histograms()


def _told(version: str, result: TierResult) -> Iterator[Told]:
    samples = result.samples
    if not {"phase", "ttft_ms", "e2e_ms"} <= set(samples.columns):
        return
    for row in samples[(samples["phase"] == "measured") & samples["e2e_ms"].notna()].to_dict("records"):
        yield Told(
            operation="chat",
            model=version,
            outcome=Outcome.ANSWERED if row["ok"] else Outcome.CUT,
            status=int(_number(row["http_status"]) or 0),
            duration_s=float(row["e2e_ms"]) / 1000,
            time_to_first_token_s=_seconds(row["ttft_ms"]),
            time_per_output_token_s=_seconds(row["tpot_ms"]),
            input_tokens=_whole(row["prompt_tokens"]),
            output_tokens=_whole(row["output_tokens"]),
        )


def _campaigns(runs: list[RunSummary]) -> Iterator[str]:
    decided = [
        (
            {
                **_run(run),
                "verdict": run.decision.verdict.value,
                "winner": run.decision.winner or "",
                "policy": run.decision.policy.name,
            },
            1.0,
        )
        for run in runs
    ]
    yield from gauge("milton_campaign_info", "The latest decision of each device class.", decided)
    times = [(_run(run), run.decision.decided_at.timestamp()) for run in runs]
    yield from gauge("milton_campaign_decided_timestamp_seconds", "When it was taken.", times)
    standings = [
        ({**_run(run), "gen_ai_response_model": report.version, "standing": report.standing.value}, 1.0)
        for run in runs
        for report in run.decision.candidates
    ]
    yield from gauge("milton_candidate_info", "Where each candidate stands after the gates.", standings)
    for name, (what, value) in _OF_A_CANDIDATE.items():
        values = [
            ({**_run(run), "gen_ai_response_model": report.version}, float(found))
            for run in runs
            for report in run.decision.candidates
            if (found := value(report)) is not None
        ]
        yield from gauge(f"milton_candidate_{name}", what, values)


def _figures(measured: _Measured) -> Iterator[str]:
    """Every figure that may be relied on, with its unit as a label: one name for any tier's, also one's own."""
    kept = [
        ({**_run(run), "gen_ai_response_model": version, "tier": tier, "figure": m.name, "unit": m.unit}, m)
        for run, tables in measured
        for version, results in tables.items()
        for tier, result in results.items()
        for m in result.metrics
        if m.value is not None and m.valid
    ]
    yield from gauge("milton_figure", "A figure of the evidence that the latest decision rests on.", _values(kept))
    bounds = [
        ({**labels, "bound": bound, "level": f"{m.interval.level:g}"}, value)
        for labels, m in kept
        if m.interval is not None
        for bound, value in (("low", m.interval.low), ("high", m.interval.high))
    ]
    yield from gauge("milton_figure_interval", "The ends of its confidence interval.", bounds)


def _values(kept: Iterable[tuple[Mapping[str, str], Metric]]) -> _Samples:
    return [(labels, metric.value) for labels, metric in kept if metric.value is not None]


def _fleet(rows: list[LastTold]) -> Iterator[str]:
    serving = [
        (
            {
                "target": row.target,
                "class": row.device_class,
                "gen_ai_response_model": row.model_version or "",
                "release": row.serves or "",
            },
            1.0 if row.serves else 0.0,
        )
        for row in rows
    ]
    yield from gauge("milton_target_serves", "Whether the target serves a release, by what it told last.", serving)
    heard = [({"target": row.target}, row.heard_at.timestamp()) for row in rows if row.heard_at]
    yield from gauge("milton_target_heard_timestamp_seconds", "When its latest attempt ended.", heard)
    ends = [({"target": row.target, "outcome": row.last.value}, 1.0) for row in rows if row.last]
    yield from gauge("milton_target_last_attempt_info", "How that attempt ended.", ends)


def _rollouts(rollouts: list[Rollout]) -> Iterator[str]:
    stages = [
        (
            {
                "rollout": one.plan.rollout,
                "gen_ai_response_model": one.plan.model_version,
                "stage": one.stage.value,
                "failure_rate": one.rate.value,
            },
            1.0,
        )
        for one in rollouts
    ]
    yield from gauge("milton_rollout_info", "How far each rollout has come, and what its evidence says.", stages)
    devices = [
        ({"rollout": one.plan.rollout, "phase": phase.value}, float(count))
        for one in rollouts
        for phase, count in _phases(one).items()
    ]
    yield from gauge("milton_rollout_devices", "Its devices by how far they have come.", devices)


def _phases(rollout: Rollout) -> dict[Phase, int]:
    counted = dict.fromkeys(Phase, 0)
    for device in rollout.each():
        counted[device.phase] += 1
    return counted


def _run(run: RunSummary) -> dict[str, str]:
    return {"run_id": run.run_id, "class": class_of(run.run_id) or HERE}


def _number(value: Any) -> float | None:
    """A cell that pandas may have made NaN of."""
    return None if value is None or value != value else float(value)


def _seconds(ms: Any) -> float | None:
    return None if (found := _number(ms)) is None else found / 1000


def _whole(count: Any) -> int | None:
    return None if (found := _number(count)) is None else int(found)
