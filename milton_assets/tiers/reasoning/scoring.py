"""From traces to figures: the 2x2 of before and after, pass rate, accuracy per kind, detection.

What belongs here: judging a trace against its gold, counting, and the metrics' names. What does not: calling models,
tables (`tier`).

A case passes when its *final* answer is right against the gold; how many issues a model claims to have found never
counts. Every case stays in every denominator: an answer that is empty, truncated or cut off by a failed call is
wrong, and its label says which. Only when *every* call failed does nothing say how good the model is: what would be a
share of right answers is then an `error` and says with what.

Detection is measured apart, on drafts whose truth is known: for a case one seeded wrong answer and its gold answer
are each put through verification. Flagged means that a cross-check said inconsistent or partially consistent. A
verification that came to no readable verdict counts against the model on either side: a miss on a faulty draft, a
false alarm on a sound one.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from milton_assets.statistics.paired import paired_difference
from milton_assets.statistics.shares import newcombe, wilson
from milton_assets.statistics.variants import told
from milton_assets.tiers.reasoning.cases import GoldenCase, Kind
from milton_assets.tiers.reasoning.cove import Label, Step, Trace, Verdict
from milton_assets.tiers.reasoning.matching import match
from milton_assets.vocabulary.metric import Interval, Metric

_SEVERAL = 2
"""Fewer verdicts say nothing of whether they differ."""

SHARE = "fraction"
FEWEST_CALLS = 5
PUBLISHED_RATE = "variants_rate.published"
FRESH_RATE = "variants_rate.fresh"
UNANSWERED = frozenset({Label.FAILED.value, Label.NOT_RUN.value})
"""Labels of a draft that the model never gave."""

METRICS: tuple[tuple[str, str], ...] = (
    ("cove_pass_rate", SHARE),
    ("baseline_pass_rate", SHARE),
    ("cove_gain", SHARE),
    ("cove_kept", "cases"),
    ("cove_fixed", "cases"),
    ("cove_broken", "cases"),
    ("cove_missed", "cases"),
    ("verified_rate", SHARE),
    *((f"verdict_share.{verdict}", SHARE) for verdict in Verdict),
    *((f"accuracy.{kind}", SHARE) for kind in Kind),
    (PUBLISHED_RATE, SHARE),
    (FRESH_RATE, SHARE),
    ("detection_precision", SHARE),
    ("detection_recall", SHARE),
    ("detection_informedness", SHARE),
    ("verification_slowdown", "ratio"),
    ("case_ms.median", "ms"),
)
"""Name and unit of every metric the tier reports, in order."""


class Cell(StrEnum):
    """Where a case falls in the 2x2 of before and after."""

    KEPT = "kept"
    FIXED = "fixed"
    BROKEN = "broken"
    MISSED = "missed"


CELLS = {(True, True): Cell.KEPT, (False, True): Cell.FIXED, (True, False): Cell.BROKEN, (False, False): Cell.MISSED}

SecondOpinion = Callable[[GoldenCase, str], bool | None]
"""Asks a judge about an answer that matching left to it: right, wrong, or None when the judge's reply was invalid."""


@dataclass(frozen=True)
class Score:
    """Whether one answer is right, the label a table row carries, and who decided."""

    right: bool
    label: str
    decided_by: str


@dataclass(frozen=True)
class ScoredCase:
    """One case after the run: both answers scored, and the trace they came from."""

    case: GoldenCase
    trace: Trace
    baseline: Score
    final: Score

    @property
    def cell(self) -> Cell:
        """The case's place in the 2x2."""
        return CELLS[self.baseline.right, self.final.right]

    @property
    def right_at_some_step(self) -> bool | None:
        """Whether the draft or the final answer is right; None where a call failed, which says nothing of either."""
        return None if self.trace.failure is not None else self.baseline.right or self.final.right


@dataclass(frozen=True)
class SeededDraft:
    """A draft whose truth is known, and what verification made of it."""

    case: GoldenCase
    draft: str
    faulty: bool
    trace: Trace

    @property
    def counts_as_flagged(self) -> bool:
        """Flagged; where nothing could be read, the outcome that is against the model."""
        if self.trace.failure is not None or not self.trace.verified:
            return not self.faulty
        return self.trace.flagged


@dataclass(frozen=True)
class FreshAnswer:
    """A fresh variant of the template with that id, and what the model answered to it.

    `verified` is whether a wrong draft was verified as a published case's is; a right one needs no more.
    """

    template: str
    scored: ScoredCase
    verified: bool

    @property
    def right_at_some_step(self) -> bool | None:
        """As of a published case; None where drafts alone were asked for."""
        return self.scored.right_at_some_step if self.verified else None


def score_answer(case: GoldenCase, text: str, label: Label, second_opinion: SecondOpinion | None = None) -> Score:
    """Score one answer of a case: its label first, then matching, then the judge for what that leaves to it."""
    if label is not Label.OK:
        return Score(False, label.value, "label")
    found = match(text, case.answer, question=case.question, rivals=case.wrong)
    if not found.for_judge or second_opinion is None:
        return Score(found.right, found.reason.value, "matching")
    opinion = second_opinion(case, text)
    if opinion is None:
        return Score(False, "judge_invalid", "judge")
    return Score(opinion, "judged_right" if opinion else "judged_wrong", "judge")


def score_trace(case: GoldenCase, trace: Trace, second_opinion: SecondOpinion | None = None) -> ScoredCase:
    """Score draft and final answer; the same text is judged once."""
    baseline = score_answer(case, trace.draft, trace.draft_label, second_opinion)
    if trace.final == trace.draft and trace.final_label is trace.draft_label:
        return ScoredCase(case, trace, baseline, baseline)
    return ScoredCase(case, trace, baseline, score_answer(case, trace.final, trace.final_label, second_opinion))


def metrics(
    cases: Sequence[ScoredCase],
    drafts: Sequence[SeededDraft],
    fresh: Sequence[FreshAnswer] = (),
    *,
    most_slowdown: float,
    detection_skipped: str,
    budget_s: float | None = None,
    fresh_skipped: str,
) -> tuple[Metric, ...]:
    """Every metric of `METRICS`. `detection_skipped` says why there are no seeded drafts, when there are none, and
    `fresh_skipped` why there are no fresh variants.

    A model that verifies more than `most_slowdown` times slower than it answers has its pass rates marked invalid; so
    has one that could not draft an answer to every case within `budget_s`.
    """
    if (why := nothing_usable(cases, drafts)) is not None:
        return tuple(Metric.failed(name, unit, why, n=len(cases), errors=len(cases)) for name, unit in METRICS)
    failed = sum(case.trace.failure is not None for case in cases)
    slowdown = verification_slowdown(case.trace for case in cases)
    found = [
        *_pass_rates(cases, failed),
        *_two_by_two(cases, failed),
        _share("verified_rate", sum(c.trace.verified for c in cases), len(cases), failed),
        *_verdict_shares([*(c.trace for c in cases), *(d.trace for d in drafts)]),
        *(_accuracy(kind, cases) for kind in Kind),
        *_variant_rates(cases, fresh, fresh_skipped),
        *_detection(drafts, detection_skipped),
        _slowdown_metric(slowdown, len(cases), failed),
        _case_time(cases, failed),
    ]
    if slowdown is not None and slowdown > most_slowdown:
        why = f"verification is {slowdown:.1f} times slower than answering; at most {most_slowdown:g} is believed"
        found = [m.invalidated(why) if m.name in {"cove_pass_rate", "cove_gain"} else m for m in found]
    if undrafted := sum(case.trace.out_of_time and case.trace.draft_label is Label.NOT_RUN for case in cases):
        why = f"the time budget of {budget_s:g} s ended before {undrafted} of {len(cases)} cases had a draft"
        found = [m.invalidated(why) if _is_of_cases(m) else m for m in found]
    return tuple(_said_beside(metric, cases, drafts, budget_s) for metric in found)


def _is_of_cases(metric: Metric) -> bool:
    """Whether the figure is over all cases, so that one of which nothing is known makes it another."""
    return metric.value is not None and metric.name.startswith(("cove_", "baseline_", "accuracy."))


def without_effect(cases: Sequence[ScoredCase], drafts: Sequence[SeededDraft]) -> str | None:
    """Why verification does nothing, when the model never flagged a seeded fault, or gave one verdict on everything;
    None when it did tell some apart, or none was seeded.

    Its Chain-of-Verification then leaves drafts as they are, or changes them at random.
    """
    faulty = [draft for draft in drafts if draft.faulty and draft.trace.failure is None]
    if not faulty:
        return None
    flagged = any(draft.trace.flagged for draft in faulty)
    reasons = [] if flagged else [f"none of {len(faulty)} seeded faults was flagged"]
    if (same := one_verdict(cases, drafts)) is not None:
        reasons.append(same)
    return f"verification is without effect: {', '.join(reasons)}" if reasons else None


def one_verdict(cases: Sequence[ScoredCase], drafts: Sequence[SeededDraft]) -> str | None:
    """That all verdicts were the same, where there were several; None where they differ."""
    given = _verdicts([*(case.trace for case in cases), *(draft.trace for draft in drafts)])
    if len(given) != 1 or given.total() < _SEVERAL:
        return None
    ((verdict, count),) = given.items()
    return f"all {count} verdicts were {verdict}"


def _verdicts(traces: Iterable[Trace]) -> Counter[Verdict]:
    return Counter(check.verdict for trace in traces for check in trace.checks)


def _said_beside(
    metric: Metric, cases: Sequence[ScoredCase], drafts: Sequence[SeededDraft], budget_s: float | None
) -> Metric:
    """The pass rate says what the baseline alone has; figures of what CoVe does are marked where it does nothing.

    The pass rate itself stays valid: the final answers are right or wrong, whoever may be thanked for it.
    """
    why = without_effect(cases, drafts)
    if metric.name == "cove_pass_rate" and metric.value is not None and metric.valid:
        baseline = sum(case.baseline.right for case in cases) / len(cases)
        beside = f"without verification {baseline:.3f}"
        if unverified := sum(case.trace.out_of_time for case in cases):
            beside += (
                f"; the time budget of {budget_s:g} s ended before {unverified} of {len(cases)} cases were verified, "
                "whose drafts stand"
            )
        said = why or one_verdict(cases, drafts)
        return metric.model_copy(update={"why": f"{beside}; {said}" if said else beside})
    if metric.name in {"cove_gain", *(f"cove_{cell}" for cell in Cell)} and metric.valid and why:
        return metric.invalidated(why)
    return metric


def _verdict_shares(traces: Sequence[Trace]) -> list[Metric]:
    """How often each verdict was given, over all cross-checks: a model that only ever gives one tells nothing by it."""
    given = _verdicts(traces)
    return [
        _share(f"verdict_share.{verdict}", given[verdict], given.total(), why="nothing was cross-checked")
        for verdict in Verdict
    ]


def nothing_usable(cases: Sequence[ScoredCase], drafts: Sequence[SeededDraft]) -> str | None:
    """Why no figure about the model exists, when every call failed; None when any was answered."""
    traces = [*(case.trace for case in cases), *(draft.trace for draft in drafts)]
    kinds = Counter(trace.failure.kind for trace in traces if trace.failure is not None)
    if not traces or kinds.total() < len(traces) or any(trace.calls for trace in traces):
        return None
    return f"all {kinds.total()} calls failed: " + ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())


def _share(
    name: str,
    successes: int,
    n: int,
    errors: int = 0,
    why: str = "no case was measured",
    interval: Interval | None = None,
) -> Metric:
    if n == 0:
        return Metric.skipped(name, SHARE, why)
    interval = wilson(successes, n) if interval is None else interval
    return Metric.measured(name, SHARE, successes / n, n=n, errors=errors, interval=interval)


def _pass_rates(cases: Sequence[ScoredCase], failed: int) -> list[Metric]:
    n = len(cases)
    fixed = sum(c.cell is Cell.FIXED for c in cases)
    broken = sum(c.cell is Cell.BROKEN for c in cases)
    failed_baselines = sum(c.trace.draft_label is Label.FAILED for c in cases)
    return [
        _share("cove_pass_rate", sum(c.final.right for c in cases), n, failed),
        _share("baseline_pass_rate", sum(c.baseline.right for c in cases), n, failed_baselines),
        _share("cove_gain", fixed - broken, n, failed, interval=paired_difference(fixed, broken, n)),
    ]


def _two_by_two(cases: Sequence[ScoredCase], failed: int) -> list[Metric]:
    return [
        Metric.measured(f"cove_{cell}", "cases", float(sum(c.cell is cell for c in cases)), n=len(cases), errors=failed)
        for cell in Cell
    ]


def _accuracy(kind: Kind, cases: Sequence[ScoredCase]) -> Metric:
    of_kind = [c for c in cases if c.case.kind is kind]
    failed = sum(c.trace.failure is not None for c in of_kind)
    right = sum(c.final.right for c in of_kind)
    return _share(f"accuracy.{kind}", right, len(of_kind), failed, why="the set has no case of this kind")


def _variant_rates(cases: Sequence[ScoredCase], fresh: Sequence[FreshAnswer], skipped: str) -> list[Metric]:
    """Right drafts on the published and on the fresh variants of the same templates, and whether the model knows more
    of the published ones: by drafts, or by drafts and final answers where fresh variants were verified.

    A template of which a call failed says nothing of what the model knows; in the rates it counts as any other.
    """
    by_template: dict[str, list[FreshAnswer]] = {}
    for one in fresh:
        by_template.setdefault(one.template, []).append(one)
    published = {case.case.id: case for case in cases if case.case.id in by_template}
    rates = []
    for name, scores in (
        (PUBLISHED_RATE, [case.baseline for case in published.values()]),
        (FRESH_RATE, [one.scored.baseline for one in fresh]),
    ):
        failed = sum(score.label in UNANSWERED for score in scores)
        rates.append(_share(name, sum(score.right for score in scores), len(scores), failed, why=skipped))
    verified = any(one.right_at_some_step is not None for one in fresh)
    found = [
        (_known(published[template], verified), [_known(one.scored, verified) for one in drawn])
        for template, drawn in by_template.items()
    ]
    answered = [(bool(one), [bool(o) for o in others]) for one, others in found if None not in (one, *others)]
    if not answered:
        return rates
    what = "drafts and final answers to published" if verified else "published"
    why = told(
        [one for one, _ in answered],
        [sum(drawn) for _, drawn in answered],
        [len(drawn) for _, drawn in answered],
        what,
    )
    return [rate.model_copy(update={"why": why}) for rate in rates]


def _known(scored: ScoredCase, verified: bool) -> bool | None:
    """Whether the model had it right; None where it gave no answer."""
    if verified:
        return scored.right_at_some_step
    return None if scored.baseline.label in UNANSWERED else scored.baseline.right


def _detection(drafts: Sequence[SeededDraft], skipped: str) -> list[Metric]:
    names = ("detection_precision", "detection_recall", "detection_informedness")
    faulty = [d for d in drafts if d.faulty]
    sound = [d for d in drafts if not d.faulty]
    if not faulty or not sound:
        return [Metric.skipped(name, SHARE, skipped) for name in names]
    errors = sum(d.trace.failure is not None for d in drafts)
    hits = sum(d.counts_as_flagged for d in faulty)
    alarms = sum(d.counts_as_flagged for d in sound)
    precision = (
        _share(names[0], hits, hits + alarms)
        if hits + alarms
        else Metric.failed(names[0], SHARE, "no draft was flagged, so precision is 0/0", n=len(drafts), errors=errors)
    )
    failed_faulty = sum(d.trace.failure is not None for d in faulty)
    return [
        precision,
        _share(names[1], hits, len(faulty), failed_faulty),
        _informedness(names[2], hits, alarms, len(faulty), len(sound), errors),
    ]


def _informedness(name: str, hits: int, alarms: int, faulty: int, sound: int, errors: int) -> Metric:
    """Youden's J, recall minus false-alarm rate: 0 for a model that flags everything, nothing or at random."""
    interval = newcombe(hits, faulty, alarms, sound)
    return Metric.measured(
        name, SHARE, hits / faulty - alarms / sound, n=faulty + sound, errors=errors, interval=interval
    )


def verification_slowdown(traces: Iterable[Trace]) -> float | None:
    """How many times slower the slowest verification step runs than the baseline, per character read and written.

    Medians per step, over steps with at least `FEWEST_CALLS` calls, so that one hiccup accuses nobody. Characters,
    since token counts are what the server says of itself. None without a baseline and a verification step.
    """
    pace: dict[Step, list[float]] = {step: [] for step in Step}
    for trace in traces:
        for call in trace.calls:
            pace[call.step].append(call.elapsed_s / max(call.characters, 1))
    medians = {step: statistics.median(values) for step, values in pace.items() if len(values) >= FEWEST_CALLS}
    baseline = medians.pop(Step.BASELINE, 0.0)
    return max(medians.values()) / baseline if medians and baseline > 0 else None


def _slowdown_metric(slowdown: float | None, n: int, failed: int) -> Metric:
    if slowdown is None:
        why = f"fewer than {FEWEST_CALLS} calls of a baseline or of every verification step"
        return Metric.skipped("verification_slowdown", "ratio", why)
    return Metric.measured("verification_slowdown", "ratio", slowdown, n=n, errors=failed)


def _case_time(cases: Sequence[ScoredCase], failed: int) -> Metric:
    times = [1000 * sum(call.elapsed_s for call in c.trace.calls) for c in cases if c.trace.failure is None]
    if not times:
        return Metric.failed("case_ms.median", "ms", "no case was finished", n=len(cases), errors=failed)
    return Metric.measured("case_ms.median", "ms", statistics.median(times), n=len(cases), errors=failed)
