"""The reasoning tier: run Chain-of-Verification over the goldens and return metrics with their rows.

What belongs here: the plan, the loop over cases, the table, the code version. What does not: the procedure on one
case (`cove`), what is right (`matching`), figures (`scoring`).
"""

from __future__ import annotations

import heapq
import json
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from milton_assets.tiers.reasoning import prompts
from milton_assets.tiers.reasoning.cases import GoldenCase, Kind, Split
from milton_assets.tiers.reasoning.cove import (
    ALL_STEPS,
    VERIFICATION_STEPS,
    Check,
    Cove,
    Label,
    Step,
    StepLimits,
    Trace,
)
from milton_assets.tiers.reasoning.goldens import ReasoningGoldens
from milton_assets.tiers.reasoning.judge import QualifiedJudge
from milton_assets.tiers.reasoning.scoring import (
    FreshAnswer,
    ScoredCase,
    SeededDraft,
    metrics,
    score_answer,
    score_trace,
)
from milton_assets.vocabulary.chat import ChatModel, Sampling
from milton_assets.vocabulary.code_version import code_version as version_of_code
from milton_assets.vocabulary.digest import canonical_json
from milton_assets.vocabulary.keys import VariantsSeed
from milton_assets.vocabulary.progress import OnProgress, Progress, silent
from milton_assets.vocabulary.tier import TierResult

STAGE = "reasoning"
_About = TypeVar("_About")


class ReasoningPlan(BaseModel):
    """What is asked and how. The default is the whole test split; `smoke` is a fixed, stratified part of it.

    `cases_per_kind` takes the first cases of each kind in file order; `seeded_per_kind` does so for detection, where
    each case gives one faulty and one sound draft, 0 leaving detection out. `concurrency` is how many cases are
    worked on at once: give it the number of slots of the server. With a `variants_seed`, `fresh_per_template` fresh
    variants of each templated case among those chosen are asked too, for a draft; with `verify_fresh`, one that is
    drafted wrong is then verified as a case is, so that knowing answers only when correcting shows as well.

    `budget_s` bounds the time that is spent on calls, `concurrency` of them at once: what tells most is then asked
    first, and what there was no time for is left out (`_take_all`). Fresh variants are then not verified: which of
    them there was time for would depend on the answers, and the comparison would not be exact.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: Split | None = Split.TEST
    cases_per_kind: int | None = Field(default=None, ge=1)
    seeded_per_kind: int = Field(default=5, ge=0)
    questions: int = Field(default=2, ge=1, le=8)
    answer_tokens: int = Field(default=160, ge=1)
    plan_tokens: int = Field(default=128, ge=1)
    cross_check_tokens: int = Field(default=12, ge=1)
    temperature: float = Field(default=0.0, ge=0)
    seed: int = 0
    concurrency: int = Field(default=1, ge=1, le=1024)
    most_slowdown: float = Field(default=8.0, gt=1)
    fresh_per_template: int = Field(default=2, ge=1, le=20)
    variants_seed: VariantsSeed | None = None
    verify_fresh: bool = True
    budget_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @classmethod
    def smoke(cls) -> ReasoningPlan:
        """5 cases of each of the 6 kinds, one verification question, short answers, one seeded case of each kind, and
        drafts alone of fresh variants.

        Sized for a model of 135 M parameters on two busy cores.
        """
        return cls(
            cases_per_kind=5,
            seeded_per_kind=1,
            questions=1,
            answer_tokens=40,
            plan_tokens=24,
            cross_check_tokens=12,
            verify_fresh=False,
        )

    @property
    def verifies_fresh(self) -> bool:
        """Whether fresh variants that are drafted wrong are verified."""
        return self.verify_fresh and self.budget_s is None

    def limits(self) -> StepLimits:
        """The limits of each step."""
        return StepLimits(self.answer_tokens, self.plan_tokens, self.cross_check_tokens, self.questions)

    def sampling(self) -> Sampling:
        """How tokens are drawn; every step sets its own `max_tokens`."""
        return Sampling(self.answer_tokens, self.temperature, self.seed)


def code_version() -> str:
    """A hash of the prompts, the procedure and the scorer, so that a figure's definition is part of its version."""
    return version_of_code(__name__, libraries=("numpy", "scipy"))


def measure_reasoning(
    model: ChatModel,
    goldens: ReasoningGoldens,
    plan: ReasoningPlan,
    *,
    judge: QualifiedJudge | None = None,
    on_progress: OnProgress = silent,
) -> TierResult:
    """Run the plan against `model`. A failed call is its case's row and stays in every denominator.

    Returns the metrics of `METRICS` and a row per case (`part` = `cove`), then a row per seeded draft (`part` =
    `detection`, its `case_id` ending in `:faulty` or `:sound`), then one per fresh variant (`part` = `fresh`). Raises
    `BadInput` when the plan chooses no case.
    """
    chosen = goldens.choose(plan.split, plan.cases_per_kind)
    seeds = seeds_of(goldens, plan)
    traces = [Trace(case.question) for case in chosen]
    seeded = [Trace.seeded(case.question, draft) for case, draft, _ in seeds]
    drawn = fresh_variants(goldens, chosen, plan)
    fresh = [Trace(case.question) for _, case in drawn]
    work = [
        *(
            _Work(trace, Step.BASELINE, Step.REVISE, place)
            for trace, place in zip(traces, _by_turns(chosen), strict=True)
        ),
        *_fresh_work([case for _, case in drawn], fresh, plan.verifies_fresh),
        *(_Work(trace, VERIFICATION_STEPS[0], VERIFICATION_STEPS[-1], place) for place, trace in enumerate(seeded)),
    ]
    _take_all(Cove(model, plan.limits(), plan.sampling()), work, plan.concurrency, plan.budget_s, on_progress)
    for trace in traces:
        trace.let_the_draft_stand()
    drawn, fresh = _in_time(drawn, fresh)
    seeds, seeded = _in_time(seeds, seeded)
    cases = _score_all(chosen, traces, judge, plan.concurrency)
    answers = [
        FreshAnswer(template, one, plan.verifies_fresh)
        for (template, _), one in zip(
            drawn, _score_all([case for _, case in drawn], fresh, judge, plan.concurrency), strict=True
        )
    ]
    drafts = [SeededDraft(*seed, trace) for seed, trace in zip(seeds, seeded, strict=True)]
    templated = {template.id for template in goldens.templates}
    return TierResult(
        "reasoning",
        metrics(
            cases,
            drafts,
            answers,
            most_slowdown=plan.most_slowdown,
            budget_s=plan.budget_s,
            detection_skipped=_why_no_drafts(plan, work),
            fresh_skipped=_why_no_fresh(plan, work),
        ),
        pd.DataFrame(
            [
                *(_case_row(case, templated) for case in cases),
                *(_draft_row(draft) for draft in drafts),
                *(_fresh_row(answer) for answer in answers),
            ]
        ),
        _provenance(goldens, plan, judge, len(cases), len(drafts)),
    )


def _why_no_drafts(plan: ReasoningPlan, work: Sequence[_Work]) -> str:
    if not plan.seeded_per_kind:
        return "the plan asks for no seeded faults"
    if any(one.first is VERIFICATION_STEPS[0] for one in work):
        return "the time budget ended before any seeded draft was verified"
    return "no chosen case has a wrong answer"


def _why_no_fresh(plan: ReasoningPlan, work: Sequence[_Work]) -> str:
    if plan.variants_seed is None:
        return "no seed was minted"
    if plan.budget_s is not None and any(one.last is Step.BASELINE for one in work):
        return "the time budget ended before any fresh variant was asked"
    return "no case that was asked has a template"


def _by_turns(cases: Sequence[GoldenCase]) -> list[int]:
    """Each case's place when the kinds take turns: the first of every kind, then the second of every kind, …"""
    seen: Counter[Kind] = Counter()
    turns = []
    for case in cases:
        turns.append(seen[case.kind])
        seen[case.kind] += 1
    order = sorted(range(len(cases)), key=lambda number: (turns[number], number))
    places = [0] * len(cases)
    for place, number in enumerate(order):
        places[number] = place
    return places


def _in_time(about: Sequence[_About], traces: Sequence[Trace]) -> tuple[list[_About], list[Trace]]:
    """Those that went through all their steps, or failed at one."""
    kept = [(one, trace) for one, trace in zip(about, traces, strict=True) if not trace.out_of_time]
    return [one for one, _ in kept], [trace for _, trace in kept]


def seeds_of(goldens: ReasoningGoldens, plan: ReasoningPlan) -> list[tuple[GoldenCase, str, bool]]:
    """The drafts that are seeded: the case of each, its text, and whether that is faulty."""
    if not plan.seeded_per_kind:
        return []
    per_kind = min(plan.seeded_per_kind, plan.cases_per_kind or plan.seeded_per_kind)
    seeds = []
    for case in goldens.choose(plan.split, per_kind):
        if case.wrong:
            seeds += [(case, case.wrong[0], True), (case, case.answer.shown(), False)]
    return seeds


def fresh_variants(
    goldens: ReasoningGoldens, chosen: Sequence[GoldenCase], plan: ReasoningPlan
) -> list[tuple[str, GoldenCase]]:
    """The fresh variants of the templated cases among `chosen`, with the template's id; none without a seed."""
    if plan.variants_seed is None:
        return []
    templates = {template.id: template for template in goldens.templates}
    return [
        (case.id, fresh)
        for case in chosen
        if case.id in templates
        for fresh in templates[case.id].fresh(plan.variants_seed, plan.fresh_per_template, unlike=case.question)
    ]


def _fresh_work(cases: Sequence[GoldenCase], traces: Sequence[Trace], verified: bool) -> Iterable[_Work]:
    """Fresh variants: a draft of each, and where they are `verified`, all steps of those that are drafted wrong.

    What comes of a variant is then right at some step or at none by its own answers alone, and a published variant's
    likewise: they stay exchangeable for a model that knows none of them.
    """
    last = Step.REVISE if verified else Step.BASELINE
    for place, (case, trace) in enumerate(zip(cases, traces, strict=True)):
        yield _Work(trace, Step.BASELINE, last, place, draft_of=case if verified else None)


@dataclass(frozen=True)
class _Work:
    """A trace, the steps that it goes through, both included, and its place among others of its sort.

    With a `draft_of` it ends with its draft where that is right.
    """

    trace: Trace
    first: Step
    last: Step
    place: int
    draft_of: GoldenCase | None = None

    def left_after(self, step: int) -> range:
        """The steps that are still to be taken after `step`."""
        if self.draft_of is not None and ALL_STEPS[step] is Step.BASELINE:
            trace = self.trace
            if trace.failure is not None or score_answer(self.draft_of, trace.draft, trace.draft_label).right:
                return range(0)
        return range(step + 1, self.steps.stop)

    @property
    def steps(self) -> range:
        return range(ALL_STEPS.index(self.first), ALL_STEPS.index(self.last) + 1)

    def turn(self, step: int) -> tuple[int, int, int]:
        """When `step` has its turn under a time budget: drafts of cases, which give the baseline; of fresh variants,
        which show a key; verification of seeded drafts, which shows whether verifying does anything; then the cases'
        verification. From the third on one trace after the other, so that few are left in the middle."""
        if ALL_STEPS[step] is Step.BASELINE:
            return (0 if self.last is Step.REVISE else 1), self.place, 0
        return (2 if self.last is VERIFICATION_STEPS[-1] else 3), self.place, step


def _take_all(
    cove: Cove, work: Sequence[_Work], concurrency: int, budget_s: float | None, on_progress: OnProgress
) -> None:
    """Take every trace through its steps, `concurrency` calls under way at once; the first error stops the rest.

    What is ready at the earliest step goes first: nearly all traces are then at one step, whose prompts begin alike,
    and no slot waits for the last trace of a step as it would at a barrier.

    Within a budget what tells most goes first (`_Work.turn`). It is spent when the calls so far took `budget_s` times
    `concurrency`, by the time that each took when it was first answered, so that answers from the cache end where the
    model's own would; or when that much time has gone by. No call is begun after that, and what has steps left is
    `out_of_time`.
    """

    def turn(number: int, step: int) -> tuple[int, ...]:
        return (step, number) if budget_s is None else (*work[number].turn(step), number)

    began = time.monotonic()
    ready = [(turn(number, one.steps.start), one.steps.start, number) for number, one in enumerate(work)]
    heapq.heapify(ready)
    total = sum(len(one.steps) for one in work)
    done = 0
    on_progress(Progress(STAGE, done, total, "starting"))
    pool = ThreadPoolExecutor(max_workers=concurrency, thread_name_prefix=STAGE)
    under_way: dict[Future[None], tuple[int, int]] = {}
    try:
        while ready or under_way:
            if budget_s is not None and _spent(work, under_way.values(), concurrency, began) >= budget_s:
                for _, _, number in ready:
                    work[number].trace.out_of_time = work[number].trace.failure is None
                ready.clear()
            while ready and len(under_way) < concurrency:
                _, step, number = heapq.heappop(ready)
                under_way[pool.submit(cove.run, work[number].trace, ALL_STEPS[step])] = (step, number)
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                step, number = under_way.pop(future)
                future.result()
                left = work[number].left_after(step)
                done += 1 if left else work[number].steps.stop - step
                on_progress(Progress(STAGE, done, total, ALL_STEPS[step].value.replace("_", " ")))
                if left:
                    heapq.heappush(ready, (turn(number, left.start), left.start, number))
    finally:
        # On an error or Ctrl-C nothing new is sent; calls under way end with their own time limit.
        pool.shutdown(wait=True, cancel_futures=True)


def _spent(work: Sequence[_Work], under_way: Iterable[tuple[int, int]], concurrency: int, began: float) -> float:
    """Seconds of the budget that are gone. Calls of traces under way are counted when they are back."""
    running = {number for _, number in under_way}
    calls = sum(call.elapsed_s for n, one in enumerate(work) if n not in running for call in one.trace.calls)
    return max(calls / concurrency, time.monotonic() - began)


def _score_all(
    cases: Sequence[GoldenCase], traces: Sequence[Trace], judge: QualifiedJudge | None, concurrency: int
) -> list[ScoredCase]:
    if judge is None:
        return [score_trace(case, trace) for case, trace in zip(cases, traces, strict=True)]
    with ThreadPoolExecutor(max_workers=concurrency, thread_name_prefix="judge") as pool:
        return list(pool.map(partial(score_trace, second_opinion=judge.is_right), cases, traces))


def _case_row(scored: ScoredCase, templated: Collection[str]) -> dict[str, Any]:
    trace = scored.trace
    return {
        "part": "cove",
        "case_id": scored.case.id,
        "template": scored.case.id if scored.case.id in templated else None,
        **_what_was_asked(scored.case),
        "baseline": trace.draft,
        "baseline_label": scored.baseline.label,
        "baseline_right": scored.baseline.right,
        **_verification_columns(trace),
        "final": trace.final,
        "final_label": scored.final.label,
        "final_right": scored.final.right,
        "decided_by": scored.final.decided_by,
        "revised": trace.revised,
        "cell": scored.cell.value,
        "out_of_time": trace.out_of_time,
        "right_at_some_step": scored.right_at_some_step,
        **_cost_columns(trace),
    }


def _fresh_row(answer: FreshAnswer) -> dict[str, Any]:
    scored, trace = answer.scored, answer.scored.trace
    row = {
        "part": "fresh",
        "case_id": scored.case.id,
        "template": answer.template,
        **_what_was_asked(scored.case),
        "baseline": trace.draft,
        "baseline_label": scored.baseline.label,
        "baseline_right": scored.baseline.right,
        "decided_by": scored.baseline.decided_by,
        "right_at_some_step": answer.right_at_some_step,
        **_cost_columns(trace),
    }
    if trace.final_label is Label.NOT_RUN:
        return row
    return row | {
        **_verification_columns(trace),
        "final": trace.final,
        "final_label": scored.final.label,
        "final_right": scored.final.right,
        "revised": trace.revised,
    }


def _draft_row(draft: SeededDraft) -> dict[str, Any]:
    return {
        "part": "detection",
        "case_id": _seed_id(draft),
        **_what_was_asked(draft.case),
        "baseline": draft.draft,
        **_verification_columns(draft.trace),
        "seeded_fault": draft.faulty,
        "counts_as_flagged": draft.counts_as_flagged,
        **_cost_columns(draft.trace),
    }


def _seed_id(draft: SeededDraft) -> str:
    return f"{draft.case.id}:{'faulty' if draft.faulty else 'sound'}"


def _what_was_asked(case: GoldenCase) -> dict[str, Any]:
    return {
        "kind": case.kind.value,
        "split": case.split.value,
        "question": case.question,
        "gold": case.answer.shown(),
    }


def _verification_columns(trace: Trace) -> dict[str, Any]:
    return {
        "plan": trace.plan,
        "plan_label": trace.plan_label.value,
        "dropped_questions": _json(trace.dropped_questions),
        "checks": _json([_check_record(check) for check in trace.checks]),
        "verified": trace.verified,
        "flagged": trace.flagged,
    }


def _check_record(check: Check) -> Mapping[str, Any]:
    return asdict(check) | {"closed": check.closed}


def _cost_columns(trace: Trace) -> dict[str, Any]:
    calls = [
        {"step": c.step, "label": c.label, "elapsed_ms": round(1000 * c.elapsed_s, 3), "text": c.text}
        | ({"thought": c.thought} if c.thought else {})
        for c in trace.calls
    ]
    failure = trace.failure
    return {
        "calls": _json(calls),
        "elapsed_ms": 1000 * sum(c.elapsed_s for c in trace.calls),
        "prompt_tokens": sum(c.prompt_tokens or 0 for c in trace.calls),
        "completion_tokens": sum(c.completion_tokens or 0 for c in trace.calls),
        "thinking_tokens": sum(c.thinking_tokens for c in trace.calls),
        "thought_aloud": any(c.thought for c in trace.calls),
        "error_step": failure.step.value if failure else None,
        "error_kind": failure.kind if failure else None,
        "error": failure.problem if failure else None,
    }


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _provenance(
    goldens: ReasoningGoldens, plan: ReasoningPlan, judge: QualifiedJudge | None, cases: int, drafts: int
) -> dict[str, Any]:
    provenance = {
        "goldens_version": goldens.version,
        "goldens": dict(goldens.digests),
        "plan": plan.model_dump(mode="json"),
        "prompts_version": prompts.PROMPTS_VERSION,
        "code_version": code_version(),
        "cases": cases,
        "left_out": {"questions": len(goldens.left_out), "first": list(goldens.left_out[:5])},
        "seeded_drafts": drafts,
        "judge": judge.provenance() if judge else None,
    }
    canonical_json(provenance)
    return provenance
