"""Factored Chain-of-Verification: what is asked, with what in sight, and what is made of the replies."""

from __future__ import annotations

import pytest

from milton_assets.tiers.reasoning import prompts
from milton_assets.tiers.reasoning.cove import (
    ALL_STEPS,
    MOST_CHARACTERS,
    VERIFICATION_STEPS,
    Cove,
    Label,
    Step,
    StepLimits,
    Trace,
    Verdict,
    read_plan,
    read_verdict,
)
from milton_assets.vocabulary.chat import CallErrorKind, ModelCallFailed, Sampling
from tests.support.reasoning_player import Player, Prompt, failing_at

QUESTION = "Which animal barks?"
LIMITS = StepLimits(answer_tokens=40, plan_tokens=30, cross_check_tokens=8, questions=2)


def run(player: Player, question: str = QUESTION, limits: StepLimits = LIMITS) -> Trace:
    trace = Trace(question)
    cove = Cove(player, limits, Sampling(temperature=0.0, seed=7))
    for step in ALL_STEPS:
        cove.run(trace, step)
    return trace


def a_player(verdict: str = "INCONSISTENT", draft: str = "The tabby cat barks.") -> Player:
    return Player(
        answer=lambda prompt: draft if prompt.question == QUESTION else "A dog does.",
        plan=lambda prompt: "1. What noise does a cat make?\n2. Who makes a barking noise?",
        cross_check=lambda prompt: verdict,
        revise=lambda prompt: "The dog barks.",
    )


def test_the_steps_come_in_order_each_with_its_token_limit() -> None:
    player = a_player()
    run(player)
    assert [(prompt.step, sampling.max_tokens) for prompt, sampling in player.seen] == [
        ("answer", 40),
        ("plan", 30),
        ("answer", 40),
        ("answer", 40),
        ("cross_check", 8),
        ("cross_check", 8),
        ("revise", 40),
    ]
    assert {sampling.seed for _, sampling in player.seen} == {7}


def test_the_answering_prompt_holds_neither_the_draft_nor_another_question() -> None:
    asked: list[str] = []

    def answering(prompt: Prompt) -> str:
        asked.append(prompt.text)
        return "The tabby cat barks." if prompt.question == QUESTION else "A dog does."

    player = a_player()
    player.answer = answering
    run(player)
    alone, first, second = asked
    assert "tabby" not in alone + first + second
    assert "What noise" in first and "Who makes" not in first
    assert "Who makes" in second and "What noise" not in second


def test_a_planned_question_that_quotes_the_draft_is_never_asked() -> None:
    player = a_player(draft="Tabby cats")
    player.plan = lambda prompt: "Do tabby cats bark?\nWhich animals bark?"
    trace = run(player)
    assert trace.dropped_questions == ["Do tabby cats bark?"]
    assert [check.question for check in trace.checks] == ["Which animals bark?"]


def test_a_draft_that_every_cross_check_finds_consistent_stands() -> None:
    trace = run(a_player("CONSISTENT"))
    assert (trace.final, trace.revised, trace.flagged, trace.verified) == ("The tabby cat barks.", False, False, True)


@pytest.mark.parametrize("verdict", ["INCONSISTENT", "PARTIALLY CONSISTENT", "cannot say"])
def test_any_other_draft_is_revised_with_the_facts(verdict: str) -> None:
    player = a_player(verdict)
    trace = run(player)
    assert (trace.final, trace.revised) == ("The dog barks.", True)
    revising = player.seen[-1][0].text
    assert "What noise does a cat make? A dog does." in revising and "Draft: The tabby cat barks." in revising


def test_a_cross_check_that_cannot_be_read_is_no_flag_and_is_labelled() -> None:
    trace = run(a_player("it is hard to say"))
    assert {check.verdict for check in trace.checks} == {Verdict.UNPARSEABLE}
    assert not trace.flagged and not trace.verified
    assert trace.checks[0].verdict_text == "it is hard to say"


def test_a_plan_without_a_question_leaves_the_draft_unverified() -> None:
    player = a_player()
    player.plan = lambda prompt: "The draft is fine."
    trace = run(player)
    assert trace.plan_label is Label.UNPARSEABLE
    assert (trace.final, trace.verified, trace.checks) == ("The tabby cat barks.", False, [])


def test_an_empty_draft_is_not_verified() -> None:
    player = a_player(draft="  ")
    trace = run(player)
    assert (trace.draft_label, trace.final_label) == (Label.EMPTY, Label.EMPTY)
    assert [prompt.step for prompt, _ in player.seen] == ["answer"]


def test_an_answer_cut_off_by_its_limit_is_labelled_truncated() -> None:
    player = a_player()
    player.finish_reason = "length"
    trace = run(player)
    assert (trace.draft_label, trace.plan_label, trace.final_label) == (Label.TRUNCATED,) * 3


@pytest.mark.parametrize(
    ("step", "recorded", "labels"),
    [
        ("answer", Step.BASELINE, (Label.FAILED, Label.NOT_RUN, Label.FAILED)),
        ("plan", Step.PLAN, (Label.OK, Label.FAILED, Label.FAILED)),
        ("cross_check", Step.CROSS_CHECK, (Label.OK, Label.OK, Label.FAILED)),
        ("revise", Step.REVISE, (Label.OK, Label.OK, Label.FAILED)),
    ],
)
def test_a_failed_call_ends_the_case_and_is_recorded(step: str, recorded: Step, labels: tuple[Label, ...]) -> None:
    error = ModelCallFailed(CallErrorKind.TIMEOUT, "no answer within 1 s")
    trace = run(failing_at(step, error, a_player()))
    assert trace.failure is not None
    assert (trace.failure.step, trace.failure.kind) == (recorded, "timeout")
    assert "within 1 s" in trace.failure.problem
    assert (trace.draft_label, trace.plan_label, trace.final_label) == labels


def test_a_failure_while_answering_a_verification_question_is_of_that_step() -> None:
    def answering(prompt: Prompt) -> str:
        if prompt.question == QUESTION:
            return "The tabby cat barks."
        raise ModelCallFailed(CallErrorKind.CUT_SHORT, "gone")

    player = a_player()
    player.answer = answering
    trace = run(player)
    assert trace.failure is not None and trace.failure.step is Step.ANSWER


def test_an_error_that_is_no_failed_call_is_not_swallowed() -> None:
    def broken(prompt: Prompt) -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(Player(answer=broken))


def test_a_seeded_draft_goes_through_verification_only() -> None:
    player = a_player()
    trace = Trace.seeded(QUESTION, "A cow barks.")
    for step in VERIFICATION_STEPS:
        Cove(player, LIMITS, Sampling()).run(trace, step)
    assert trace.flagged
    assert [prompt.step for prompt, _ in player.seen] == ["plan", "answer", "answer", "cross_check", "cross_check"]


def test_a_server_that_ignores_the_limit_is_cut_off() -> None:
    trace = run(a_player(draft="woof " * 100_000))
    assert trace.draft_label is Label.TRUNCATED
    assert len(trace.draft) == MOST_CHARACTERS


def test_lone_surrogates_are_replaced_before_they_reach_a_prompt_or_a_table() -> None:
    trace = run(a_player(draft="a \ud800 dog"))
    assert trace.draft == "a ? dog"


def test_the_time_of_a_call_is_the_models_own_when_it_gives_one() -> None:
    player = a_player()
    player.elapsed_s = 2.5
    assert {call.elapsed_s for call in run(player).calls} == {2.5}
    player.elapsed_s = None
    assert all(0 <= call.elapsed_s < 2 for call in run(player).calls)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("CONSISTENT", Verdict.CONSISTENT),
        ("consistent.", Verdict.CONSISTENT),
        ("**Inconsistent**", Verdict.INCONSISTENT),
        ("INCONSISTENT. The draft is inconsistent.", Verdict.INCONSISTENT),
        ("Partially consistent", Verdict.PARTIALLY_CONSISTENT),
        ("PARTIALLY_CONSISTENT", Verdict.PARTIALLY_CONSISTENT),
        ("in-consistent", Verdict.INCONSISTENT),
        ("", Verdict.UNPARSEABLE),
        ("yes", Verdict.UNPARSEABLE),
        ("not consistent", Verdict.UNPARSEABLE),
        ("It isn't consistent", Verdict.UNPARSEABLE),
        ("CONSISTENT, INCONSISTENT or PARTIALLY CONSISTENT", Verdict.UNPARSEABLE),
        ("consistently", Verdict.UNPARSEABLE),
    ],
)
def test_a_verdict_is_read_only_when_it_is_the_one_verdict(text: str, verdict: Verdict) -> None:
    assert read_verdict(text) is verdict


@pytest.mark.parametrize(
    ("text", "questions"),
    [
        ("Who is it?", ["Who is it?"]),
        ("1. Who is it?\n2) What is it?\n- Where is it?", ["Who is it?", "What is it?"]),
        ("Q1: Who is it? What is it?", ["Who is it?", "What is it?"]),
        ("Who is it?\nWHO IS IT?\nWhat is it?", ["Who is it?", "What is it?"]),
        ("No question here.", []),
        ("???", []),
        ("Who?", []),
        ("", []),
    ],
)
def test_a_plan_is_read_as_its_distinct_questions(text: str, questions: list[str]) -> None:
    assert read_plan(text, "Which dog?", "the draft", 2) == (questions, [])


def test_a_planned_question_that_repeats_the_question_checks_nothing_and_is_dropped() -> None:
    asked, dropped = read_plan("Which dog is it?\nWhich  DOG is it ?\nWhose dog is it?", "Which dog is it?", "Rex", 2)
    assert (asked, dropped) == (["Whose dog is it?"], ["Which dog is it?"])


def test_a_verdict_that_was_cut_off_is_not_read() -> None:
    player = a_player("CONSISTENT, INCONS")
    player.finish_reason = "length"
    assert {check.verdict for check in run(player).checks} == {Verdict.UNPARSEABLE}


def test_a_yes_or_no_question_is_known_to_be_closed() -> None:
    player = a_player()
    player.plan = lambda prompt: "Does a cat bark?\nWhich animal barks, then?"
    assert [check.closed for check in run(player).checks] == [True, False]


def test_every_prompt_of_a_step_begins_alike() -> None:
    for one, two in (
        (prompts.answer("AAA?"), prompts.answer("BBB?")),
        (prompts.plan("AAA?", "a", 2), prompts.plan("BBB?", "b", 2)),
        (prompts.cross_check("AAA?", "a", "c", "d"), prompts.cross_check("BBB?", "b", "e", "f")),
        (prompts.revise("AAA?", "a", []), prompts.revise("BBB?", "b", [])),
    ):
        assert one[:-1] == two[:-1]
        assert one[-1].content.partition("AAA?")[0] == two[-1].content.partition("BBB?")[0]
