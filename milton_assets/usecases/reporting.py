"""Gathering a report, and keeping a campaign's page beside its summary: the same for graph and command line.

    data = gather(sources, read_summary(store.runs), now=now)
    keep_page(sources, run_id, now=now)

What belongs here: reading summary, evidence, goldens and targets into `ReportData`. What does not: drawing it
(`milton_assets.report`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from milton_assets import __version__
from milton_assets.edge.deployment import NeverDeployed, Outcome
from milton_assets.fleet.many import ask_each
from milton_assets.fleet.target import Target
from milton_assets.fleet.targets import Targets
from milton_assets.report.changes import changes_since
from milton_assets.report.charts import challenge_charts, decision_charts
from milton_assets.report.data import ReportData, Serving, Since, TierPart, TrendData
from milton_assets.report.page import page
from milton_assets.report.trend import Event, trend_chart
from milton_assets.selection.candidate import Candidate
from milton_assets.selection.decide import decide
from milton_assets.selection.decision import Challenge, Decision
from milton_assets.selection.replay import read_pinned
from milton_assets.selection.summary import (
    ReportRecord,
    RunSummary,
    as_decided,
    change_summary,
    read_summary,
    run_ids,
)
from milton_assets.settings import Settings
from milton_assets.tiers.discovery import installed_tiers
from milton_assets.usecases.compose import evidence_store_of, targets_of
from milton_assets.usecases.measuring import ERROR_EXAMPLES
from milton_assets.usecases.rollout_report import rollout_lines
from milton_assets.vocabulary.digest import sha256_bytes, short
from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.golden_set import OwnSets, read_goldens
from milton_assets.vocabulary.keys import class_of
from milton_assets.vocabulary.places import Place
from milton_assets.vocabulary.state import StateDir
from milton_assets.vocabulary.tier import TierResult
from milton_assets.vocabulary.tier_spec import Tiers, TierSpec
from resources.evidence_store import EvidenceStore

MOST_MODELS = 10
"""Models that a page shows: the first in rank, besides winner and incumbent."""

ANSWER_WITHIN_S = 60.0
"""So long a target may take to say what it serves before a page is made without it."""

Measured = Mapping[str, Mapping[str, TierResult]]


@dataclass(frozen=True)
class Sources:
    """Where a report's parts lie: summaries, evidence, the tiers and their goldens as they are now, and the targets."""

    state: StateDir
    store: EvidenceStore
    tiers: Tiers
    goldens: OwnSets
    targets: Targets


def sources_of(settings: Settings) -> Sources:
    """Where the parts of the reports on a state folder lie."""
    return Sources(
        settings.state, evidence_store_of(settings), installed_tiers(), settings.goldens, targets_of(settings)
    )


def gather(
    sources: Sources,
    summary: RunSummary,
    *,
    now: datetime,
    between: tuple[str, str] | None = None,
    since: str | None = None,
    page_beside: Path | None = None,
) -> ReportData:
    """Everything that the report on that run tells.

    `between` two models: only these are shown, and the second is told against the first. `since`: the run that changes
    are told against, by default the one before. `page_beside`: the folder that the page is to lie in, from which it can
    link others. Raises `EvidenceMismatch` when a table does not hold, `BadInput` for a
    model that did not stand or a run that is not there.
    """
    decision = summary.decision
    measured = read_pinned(sources.store.read_bytes, summary.manifest)
    models = between or _models(decision)
    compared = _compared(summary, measured, between, sources.tiers) if between else None
    changes, why_none = _since(sources.store.runs, summary, since)
    return ReportData(
        made_at=now,
        release=__version__,
        decision=decision,
        manifest=summary.manifest,
        models=models,
        reference=between[0] if between else _reference(decision, models),
        serving=tuple(serving(sources.targets)),
        charts=(
            *decision_charts(decision, models),
            *(challenge_charts(between[1], compared) if between and compared else ()),
        ),
        tiers=tuple(_tier(name, models, measured, summary, sources) for name in summary.manifest.tiers),
        compared=compared,
        since=changes,
        no_since=why_none,
        bundle=summary.bundle,
        deployments=summary.deployments,
        rollouts=tuple(rollout_lines(sources.state, summary.run_id, page_beside)),
        notes=summary.notes,
    )


def keep_page(sources: Sources, run_id: str, *, now: datetime) -> Place:
    """Write the run's page beside its summary, and its digest into the summary; where it lies. Raises as `gather`."""
    place = _place_of(sources, f"{run_id}.html")
    folder = place.parent if isinstance(place, Path) else None

    def with_page(summary: RunSummary) -> RunSummary:
        content = page(gather(sources, summary, now=now, page_beside=folder), sources.tiers).encode()
        return summary.model_copy(update={"report": _keep(sources, f"{run_id}.html", content)})

    change_summary(sources.store.runs, run_id, with_page)
    return place


def summary_for_bundle(
    sources: Sources, summary: RunSummary, *, now: datetime, on_warning: Callable[[str], object]
) -> RunSummary:
    """The run's summary as a bundle holds it: without what comes after the decision, and with the digest of the page
    that tells as much, which is kept under a name that has the digest, so that later pages leave it be. It is the page
    that lies beside the summary, while nothing came after the decision, else one that is made now.

    No bundle hangs on a page: where it cannot be made, `on_warning` is told, and the summary names none.
    """
    decided = as_decided(summary)
    try:
        content = _page_as_decided(sources, summary) or page(gather(sources, decided, now=now), sources.tiers).encode()
        kept = _keep(sources, f"{summary.run_id}.{short(sha256_bytes(content))}.html", content)
    except MiltonError as error:
        on_warning(f"the bundle names no page on {summary.run_id}: {error}")
        return decided
    return decided.model_copy(update={"report": kept})


def _page_as_decided(sources: Sources, summary: RunSummary) -> bytes | None:
    """The page beside the summary, if it was made before anything came after the decision, and is as it was made."""
    if summary.report is None or summary.bundle is not None or summary.deployments:
        return None
    try:
        content = sources.store.read(f"runs/{summary.run_id}.html")
    except FileNotFoundError:
        return None
    return content if sha256_bytes(content) == summary.report.sha256 else None


def _keep(sources: Sources, name: str, content: bytes) -> ReportRecord:
    sources.store.keep(f"runs/{name}", content)
    place = _place_of(sources, name)
    told = sources.state.tell(place) if isinstance(place, Path) else str(place)
    return ReportRecord(path=told, sha256=sha256_bytes(content))


def _place_of(sources: Sources, name: str) -> Place:
    store = sources.store
    return Path(store.root.path) / "runs" / name if store.is_here else store.root / "runs" / name


def serving(targets: Targets) -> Iterator[Serving]:
    """What each target that was ever deployed to serves; one that cannot answer in time tells why."""
    there = targets.all()
    for target, told in zip(there, ask_each(there, serving_on, within_s=ANSWER_WITHIN_S), strict=True):
        if isinstance(told, Serving):
            yield told
        elif not isinstance(told, NeverDeployed):
            yield Serving(target=target.name, model_version=None, problems=(str(told),))


def serving_on(target: Target) -> Serving:
    """What that target serves, since when, and by which run's decision. Raises as `Target.health`."""
    health, active = target.health(), target.status().active
    brought = [
        done
        for done in target.history()
        if done.outcome is Outcome.COMMITTED and active is not None and done.release == active.digest
    ]
    return Serving(
        target=target.name,
        model_version=health.model_version,
        since=health.since,
        run_id=active.run_id if active else None,
        deployment=brought[-1].id if brought else None,
        well=health.well,
        problems=health.problems,
    )


def _models(decision: Decision) -> tuple[str, ...]:
    asked_for = {decision.winner, decision.incumbent}
    shown = [report.version for report in decision.candidates[:MOST_MODELS]]
    shown += [r.version for r in decision.candidates[MOST_MODELS:] if r.version in asked_for]
    return tuple(shown)


def _reference(decision: Decision, models: Sequence[str]) -> str | None:
    if decision.incumbent in models:
        return decision.incumbent
    return next(iter(models), None)


def _compared(summary: RunSummary, measured: Measured, between: tuple[str, str], tiers: Tiers) -> Challenge | None:
    """The second of the two against the first, as if that served today and nobody else stood; None where the gates or
    the policy leave nothing to compare."""
    decision = summary.decision
    if between[0] == between[1]:
        raise BadInput(f"{between[0]} was to be compared with itself", expected="two models")
    two = [decision.candidate(version) for version in between]
    again = decide(
        run_id=summary.run_id,
        candidates=[Candidate(r.version, measured.get(r.version, {}), r.artefact_size_bytes, r.excluded) for r in two],
        policy=decision.policy.model_copy(update={"gates": ()}),
        manifest=summary.manifest.model_copy(
            update={"candidates": tuple(c for c in summary.manifest.candidates if c.model_version in between)}
        ),
        incumbent=between[0],
        tiers=tiers,
    )
    return again.candidate(between[1]).challenge


def _since(runs: Place, summary: RunSummary, wanted: str | None) -> tuple[Since | None, str]:
    of_class = class_of(summary.run_id)
    earlier = [run_id for run_id in run_ids(runs) if run_id < summary.run_id and class_of(run_id) == of_class]
    if wanted is None and not earlier:
        return None, "This is the first run here: there is none to compare it with."
    before = wanted or earlier[-1]
    try:
        return changes_since(read_summary(runs, before), summary), ""
    except BadInput as error:
        if wanted is not None:
            raise
        return None, f"The run before, {before}, cannot be read: {error}"


def _tier(name: str, models: Sequence[str], measured: Measured, summary: RunSummary, sources: Sources) -> TierPart:
    spec = sources.tiers.get(name)
    private = any(golden.partition("/")[0] == name for golden in summary.manifest.private_goldens)
    if spec is None:
        return TierPart(
            name=name,
            about="",
            charts=(),
            cases={},
            private=private,
            withheld="this tier is not installed any more, so its figures stand in the tables only",
        )
    results = {model: measured[model][name] for model in models if name in measured.get(model, {})}
    withheld = "measured on a private set, so no case is shown" if private else ""
    return TierPart(
        name=name,
        about=spec.about,
        charts=tuple(spec.charts(results)),
        cases={} if private or spec.sheets is None else _cases(spec, results, summary, sources.goldens),
        said={} if private else {m: said for m, one in results.items() if (said := one.provenance.get(ERROR_EXAMPLES))},
        private=private,
        withheld=withheld,
    )


def _cases(spec: TierSpec, results: Mapping[str, TierResult], summary: RunSummary, own: OwnSets) -> dict[str, Any]:
    assert spec.sheets is not None  # noqa: S101 - the caller asked
    goldens = _goldens_measured_on(spec, summary, own)
    return {model: tuple(spec.sheets(result, goldens)) for model, result in results.items()}


def _goldens_measured_on(spec: TierSpec, summary: RunSummary, own: OwnSets) -> Any:
    """The tier's goldens as they lie there now, if they are still those of the run; else None."""
    try:
        found = read_goldens(spec, own.get(spec.name, ()))
    except MiltonError:
        return None
    pinned = summary.manifest.goldens
    return found.value if all(pinned.get(name) == sha256 for name, sha256 in found.pinned.items()) else None


def gather_trend(sources: Sources, figure: str, *, now: datetime) -> TrendData:
    """That figure over all runs here, with every deployment that stood. Raises `BadInput` when no run has it."""
    decisions, unread = [], []
    for run_id in run_ids(sources.store.runs):
        try:
            decisions.append(read_summary(sources.store.runs, run_id).decision)
        except BadInput as error:
            unread.append(f"{run_id}: {error}")
    events = []
    for target in sources.targets.all():
        try:
            done = target.history()
        except MiltonError as error:
            unread.append(f"the target {target.name}: {error}")
            continue
        events += [
            Event(d.finished_at, f"{d.model_version} on {d.target}")
            for d in done
            if d.outcome is Outcome.COMMITTED and d.finished_at is not None
        ]
    chart = trend_chart(figure, decisions, events)
    runs = tuple(decision.run_id for decision in decisions)
    return TrendData(made_at=now, release=__version__, metric=figure, chart=chart, runs=runs, unread=tuple(unread))
