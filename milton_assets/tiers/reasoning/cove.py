"""Factored Chain-of-Verification with a cross-check for each question (factor+revise).

What belongs here: the five steps on one case and reading what each step gave. What does not: the words (`prompts`),
whether an answer is right (`matching`), figures (`scoring`).

1. *Baseline*: the model answers the question; that is the draft.
2. *Plan*: it writes open questions that would check the draft. One that quotes the whole draft, or only repeats the
   question, is dropped.
3. *Answer*: each question is put alone, in a conversation that holds neither the draft nor another question.
4. *Cross-check*: per question, is the draft CONSISTENT, INCONSISTENT or PARTIALLY CONSISTENT with that answer?
5. *Final answer*: a draft that every cross-check found consistent stands; any other is revised with the facts. A
   draft nothing could be asked about stands unverified, and says so.

Source: arXiv 2309.11495, sections 3 and 4. Nothing is retried and nothing is repaired: what a step gave is kept as
text beside the label of how it could be read.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from milton_assets.tiers.reasoning import prompts
from milton_assets.tiers.reasoning.text import occurrences, phrase, words
from milton_assets.vocabulary.chat import ChatModel, Completion, Message, ModelCallFailed, Sampling
from milton_assets.vocabulary.thinking import Spoken, thinking_tokens, without_thinking

MOST_CHARACTERS = 20_000
"""More than any step's token limit can mean."""

_BULLET = re.compile(r"^\s*(?:[-*•]|\(?\d{1,2}[.):]|Q\d*[.:]|Question\s*\d*:)\s*", re.IGNORECASE)
_QUESTION = re.compile(r"[^?\n]{3,}\?")
_CLOSED_OPENING = re.compile(
    r"^(?:is|are|was|were|do|does|did|has|have|had|can|could|will|would|should|may|might|am)\b", re.IGNORECASE
)
_VERDICT = re.compile(r"\b(partially[ _-]+consistent|in-?consistent|consistent)\b", re.IGNORECASE)
_NEGATED = re.compile(r"\b(?:not|never|neither|nor|no|hardly)\b|n't\b", re.IGNORECASE)


class Step(StrEnum):
    """The steps, in order."""

    BASELINE = "baseline"
    PLAN = "plan"
    ANSWER = "answer"
    CROSS_CHECK = "cross_check"
    REVISE = "revise"


class Label(StrEnum):
    """How a step's text could be read."""

    OK = "ok"
    EMPTY = "empty"
    TRUNCATED = "truncated"
    UNPARSEABLE = "unparseable"
    NOT_RUN = "not_run"
    FAILED = "failed"


class Verdict(StrEnum):
    """What a cross-check said about the draft."""

    CONSISTENT = "consistent"
    INCONSISTENT = "inconsistent"
    PARTIALLY_CONSISTENT = "partially_consistent"
    UNPARSEABLE = "unparseable"
    NOT_RUN = "not_run"


@dataclass(frozen=True)
class StepLimits:
    """Most output tokens of each step, and most verification questions of a case."""

    answer_tokens: int
    plan_tokens: int
    cross_check_tokens: int
    questions: int


@dataclass(frozen=True)
class Call:
    """One call to the model: what it wrote, how it could be read, and what it took.

    `text` is the answer alone; what the model thought aloud before it is `thought`. `thinking_tokens` are about that
    many of `completion_tokens`.
    """

    step: Step
    text: str
    label: Label
    elapsed_s: float
    characters: int
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    thought: str = ""
    thinking_tokens: int = 0


@dataclass
class Check:
    """One verification question; then its independent answer; then the verdict on the draft."""

    question: str
    answer: str = ""
    answer_label: Label = Label.NOT_RUN
    verdict_text: str = ""
    verdict: Verdict = Verdict.NOT_RUN

    @property
    def closed(self) -> bool:
        """Whether it is a yes-or-no question, which checks less than an open one."""
        return bool(_CLOSED_OPENING.match(self.question))


@dataclass(frozen=True)
class Failure:
    """The call that gave no usable answer, and so ended the case."""

    step: Step
    kind: str
    problem: str


@dataclass
class Trace:
    """Everything that happened to one case so far. `final` is empty when a call failed before there was one.

    `out_of_time` is whether a time budget ended before its last step.
    """

    question: str
    draft: str = ""
    draft_label: Label = Label.NOT_RUN
    plan: str = ""
    plan_label: Label = Label.NOT_RUN
    dropped_questions: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    final: str = ""
    final_label: Label = Label.NOT_RUN
    revised: bool = False
    calls: list[Call] = field(default_factory=list)
    failure: Failure | None = None
    out_of_time: bool = False

    def let_the_draft_stand(self) -> None:
        """Where the time budget ended before the final answer, the draft is what the model has to say."""
        if self.out_of_time:
            self.final, self.final_label, self.revised = self.draft, self.draft_label, False

    @classmethod
    def seeded(cls, question: str, draft: str) -> Trace:
        """A trace whose draft is given instead of asked for, as detection on seeded faults needs it."""
        return cls(question, draft, Label.OK)

    @property
    def verified(self) -> bool:
        """Whether at least one cross-check gave a verdict that could be read."""
        return any(check.verdict in _READABLE for check in self.checks)

    @property
    def flagged(self) -> bool:
        """Whether a cross-check called the draft inconsistent or partially consistent."""
        return any(check.verdict in _FLAGS for check in self.checks)


_FLAGS = frozenset({Verdict.INCONSISTENT, Verdict.PARTIALLY_CONSISTENT})
_READABLE = _FLAGS | {Verdict.CONSISTENT}


class _CallStopped(Exception):
    """A call failed; the trace already says which."""


@dataclass(frozen=True)
class Cove:
    """The procedure, bound to a model. Each step works on one trace, and leaves one that failed before alone.

    The steps are separate so that a caller may interleave cases: no slot of the server then waits for one case's steps.
    """

    model: ChatModel
    limits: StepLimits
    sampling: Sampling

    def run(self, trace: Trace, step: Step) -> None:
        """Take `trace` through `step`. A failed call is recorded in it and ends it; it is not raised."""
        if trace.failure is not None:
            return
        take = {
            Step.BASELINE: self._baseline,
            Step.PLAN: self._plan,
            Step.ANSWER: self._answer,
            Step.CROSS_CHECK: self._cross_check,
            Step.REVISE: self._conclude,
        }[step]
        try:
            take(trace)
        except _CallStopped:
            trace.final, trace.final_label = "", Label.FAILED
            if step is Step.BASELINE:
                trace.draft_label = Label.FAILED
            elif step is Step.PLAN:
                trace.plan_label = Label.FAILED

    def _baseline(self, trace: Trace) -> None:
        call = self._call(trace, Step.BASELINE, prompts.answer(trace.question), self.limits.answer_tokens)
        trace.draft, trace.draft_label = call.text, call.label

    def _plan(self, trace: Trace) -> None:
        if trace.draft_label is Label.EMPTY:
            return
        messages = prompts.plan(trace.question, trace.draft, self.limits.questions)
        call = self._call(trace, Step.PLAN, messages, self.limits.plan_tokens)
        asked, trace.dropped_questions = read_plan(call.text, trace.question, trace.draft, self.limits.questions)
        trace.plan = call.text
        trace.plan_label = Label.UNPARSEABLE if call.label is Label.OK and not asked else call.label
        trace.checks = [Check(question) for question in asked]

    def _answer(self, trace: Trace) -> None:
        for check in trace.checks:
            call = self._call(trace, Step.ANSWER, prompts.answer(check.question), self.limits.answer_tokens)
            check.answer, check.answer_label = call.text, call.label

    def _cross_check(self, trace: Trace) -> None:
        for check in trace.checks:
            messages = prompts.cross_check(trace.question, trace.draft, check.question, check.answer)
            call = self._call(trace, Step.CROSS_CHECK, messages, self.limits.cross_check_tokens)
            check.verdict_text = call.text
            # What was cut off may have gone on to another verdict.
            check.verdict = Verdict.UNPARSEABLE if call.label is Label.TRUNCATED else read_verdict(call.text)

    def _conclude(self, trace: Trace) -> None:
        if all(check.verdict is Verdict.CONSISTENT for check in trace.checks):
            trace.final, trace.final_label = trace.draft, trace.draft_label
            return
        facts = [(check.question, check.answer, check.verdict.value.replace("_", " ")) for check in trace.checks]
        messages = prompts.revise(trace.question, trace.draft, facts)
        call = self._call(trace, Step.REVISE, messages, self.limits.answer_tokens)
        trace.final, trace.final_label, trace.revised = call.text, call.label, True

    def _call(self, trace: Trace, step: Step, messages: Sequence[Message], max_tokens: int) -> Call:
        sampling = replace(self.sampling, max_tokens=max_tokens)
        started = time.perf_counter()
        try:
            completion = self.model.complete(messages, sampling)
        except ModelCallFailed as error:
            trace.failure = Failure(step, error.kind.value, error.problem)
            raise _CallStopped from error
        elapsed_s = time.perf_counter() - started if completion.elapsed_s is None else completion.elapsed_s
        spoken, label = read_completion(completion)
        characters = sum(len(message.content) for message in messages) + len(spoken.thought) + len(spoken.answer)
        tokens = completion.prompt_tokens, completion.completion_tokens
        thinking = thinking_tokens(completion.completion_tokens, spoken) or 0
        call = Call(step, spoken.answer, label, elapsed_s, characters, *tokens, spoken.thought, thinking)
        trace.calls.append(call)
        return call


VERIFICATION_STEPS = (Step.PLAN, Step.ANSWER, Step.CROSS_CHECK)
ALL_STEPS = tuple(Step)


def read_plan(text: str, question: str, draft: str, most: int) -> tuple[list[str], list[str]]:
    """The first `most` questions of a plan, each once; and those dropped.

    Dropped are questions that quote the whole draft, for the answering prompt must not hold it, and those that repeat
    the question, for asking it again checks nothing.
    """
    quoted, original = phrase(draft), phrase(question)
    asked: list[str] = []
    dropped: list[str] = []
    seen: set[tuple[str, ...]] = set()
    for line in text.splitlines():
        for found in _QUESTION.findall(_BULLET.sub("", line)):
            planned = found.strip(" \t\"'*_")
            spelled = phrase(planned)
            if len(spelled) < 2 or spelled in seen:
                continue
            seen.add(spelled)
            holds_draft = any(occurrences(quoted, words(planned)))
            (dropped if holds_draft or spelled == original else asked).append(planned)
    return asked[:most], dropped


def read_verdict(text: str) -> Verdict:
    """The one verdict in `text`; none, several different ones, or one beside a negation cannot be read."""
    found = {_verdict_named(name) for name in _VERDICT.findall(text)}
    if len(found) != 1 or _NEGATED.search(text):
        return Verdict.UNPARSEABLE
    return found.pop()


def _verdict_named(written: str) -> Verdict:
    name = written.lower()
    if name.startswith("partially"):
        return Verdict.PARTIALLY_CONSISTENT
    return Verdict.CONSISTENT if name == "consistent" else Verdict.INCONSISTENT


def read_completion(completion: Completion) -> tuple[Spoken, Label]:
    """What the model thought and answered, and how the answer can be read.

    Lone surrogates are replaced: they are no characters, and neither a prompt nor a table can hold them. What goes on
    beyond `MOST_CHARACTERS` was not asked for, whatever the server says of it, and is cut off. A thought that was cut
    off before any answer is a truncated answer.
    """
    spoken = without_thinking(completion.text.encode("utf-8", "replace").decode())
    thought, text = spoken.thought.strip()[:MOST_CHARACTERS], spoken.answer.strip()
    kept = Spoken(thought, text[:MOST_CHARACTERS])
    if len(text) > MOST_CHARACTERS or completion.finish_reason == "length":
        return kept, Label.TRUNCATED if text or thought else Label.EMPTY
    return kept, Label.OK if text else Label.EMPTY
