"""Templated cases: what a template may say, and which variants a seed draws of it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from milton_assets.selection.decision import Knowledge
from milton_assets.tiers.reasoning import ReasoningPlan, load_goldens, measure_reasoning
from milton_assets.tiers.reasoning.cases import GoldenCase, Kind
from milton_assets.tiers.reasoning.goldens import ReasoningGoldens
from milton_assets.tiers.reasoning.matching import match
from milton_assets.tiers.reasoning.numerals import spelled, spelled_value
from milton_assets.tiers.reasoning.spec import join
from milton_assets.tiers.reasoning.variants import CaseTemplate
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.keys import mint_variants_seed
from milton_assets.vocabulary.tier import TierResult
from tests.support.calculating import calculating, worked_out
from tests.support.reasoning_player import Player, Prompt, honest
from tests.support.selection import variants_reading

GOLDENS = load_goldens()
SEED = "0123456789abcdef" * 2
NAMES = ["Anna", "Ben", "Carl", "Dora"]
TWO_OF_THEM: dict[str, Any] = {
    "id": "sum-1",
    "kind": "arithmetic_in_words",
    "split": "test",
    "parameters": {
        "a": {"from": 4, "to": 29},
        "b": {"from": 3, "to": 30, "step": 3},
        "who": {"choose": NAMES},
        "other": {"choose": NAMES, "unlike": ["who"]},
    },
    "derived": {"third": "b / 3"},
    "facts": ["{who} has {a} shells.", "{other} has {b} shells more."],
    "distractors": ["{other} is {third} years old.", "{who} is the taller of the two."],
    "distract": 1,
    "question": "{facts} How many shells has {other}?",
    "answer": {"type": "number", "value": "a + b"},
    "wrong": ["{a:digits}", "{b:digits}"],
    "source": "derivable",
}


def template(**changes: Any) -> CaseTemplate:
    return CaseTemplate.model_validate({**TWO_OF_THEM, **changes})


def many(one: CaseTemplate, count: int = 60) -> list[GoldenCase]:
    return [case for n in range(count) for case in one.fresh(f"{n:016x}", 1, unlike=one.published.question)]


def test_a_seed_draws_numbers_names_and_the_order_of_the_facts() -> None:
    cases = many(template())
    assert len({case.question for case in cases}) >= 55
    assert len({case.question.split()[0] for case in cases}) == 4, "each of them comes first now and then"
    assert {len(re.findall(r"shells", case.question)) for case in cases} == {3}, "no fact is left out"
    assert Counter("years old" in case.question for case in cases).keys() == {True, False}


def test_the_gold_and_the_wrong_answers_follow_from_what_was_drawn() -> None:
    for case in many(template(), 20):
        a, b = (spelled_value(found) for found in re.findall(r"has ([a-z-]+) shells", case.question, re.I)[:2])
        assert case.answer.shown() == f"{a + b:g}"
        assert set(case.wrong) == {f"{a:g}", f"{b:g}"}
        assert eval(case.check or "", {"__builtins__": {}}) == a + b


def test_two_parameters_that_are_unlike_never_have_the_same_text() -> None:
    for case in many(template(), 40):
        assert len({name for name in NAMES if name in case.question}) == 2


def test_the_same_seed_draws_the_same_and_another_draws_others() -> None:
    one, asked = template(), template().published.question
    assert one.fresh(SEED, 3, unlike=asked) == template().fresh(SEED, 3, unlike=asked)
    assert {c.question for c in one.fresh(SEED, 3, unlike=asked)}.isdisjoint(
        c.question for c in one.fresh(SEED[::-1], 3, unlike=asked)
    )


def test_fresh_variants_are_all_different_and_none_is_the_published_one() -> None:
    one = template()
    for n in range(30):
        drawn = one.fresh(f"{n:016x}", 5, unlike=one.published.question)
        assert len({one.published.question, *(case.question for case in drawn)}) == 6


def test_a_minted_seed_is_nobodys_guess() -> None:
    assert len({mint_variants_seed() for _ in range(100)}) == 100


def test_the_published_variant_is_a_draw_like_any_other() -> None:
    """Over many templates, the published number stands anywhere in its range as often as a fresh one."""
    templates = [template(id=f"sum-{n}") for n in range(300)]
    published = [float(re.findall(r"\d+", t.published.check or "")[0]) for t in templates]
    fresh = [float(re.findall(r"\d+", t.fresh(SEED, 1, unlike="")[0].check or "")[0]) for t in templates]
    middle = (4 + 29) / 2
    for drawn in (published, fresh):
        assert abs(sum(drawn) / len(drawn) - middle) < 4 * 7.5 / 300**0.5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"answer": {"type": "number", "value": "a + c"}}, "names 'c', which is no number"),
        ({"answer": {"type": "number", "value": "a / (b - b)"}}, "divides by zero"),
        ({"answer": {"type": "number", "value": "__import__('os')"}}, "holds Call"),
        ({"question": "{facts} How many has {nobody}?"}, "names 'nobody'"),
        ({"question": "How many shells has {other}?"}, "or neither"),
        ({"distract": 3}, "of 2 distractors"),
        ({"parameters": {**TWO_OF_THEM["parameters"], "a": {"from": 4, "to": 4}}}, "nothing to draw"),
        ({"parameters": {**TWO_OF_THEM["parameters"], "a": {"from": 4, "to": 9, "by": 2}}}, "by"),
        ({"parameters": {**TWO_OF_THEM["parameters"], "other": {"choose": NAMES, "unlike": ["x"]}}}, "stand before"),
        ({"derived": {"a": "b + 1"}}, "something else too"),
        (
            {
                "parameters": {"a": {"from": 1, "to": 9}},
                "derived": {},
                "facts": [],
                "distractors": [],
                "distract": 0,
                "question": "What is {a} and {a}?",
                "answer": {"type": "number", "value": "a + a"},
                "wrong": [],
            },
            "expected at least 1000",
        ),
        ({"question": "{facts} Is it {a + b}?"}, "gives its answer away"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_a_template_that_does_not_hold_is_refused_with_its_line(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    (tmp_path / "cases.jsonl").write_text("\n" + json.dumps({**TWO_OF_THEM, **changes}) + "\n")
    (tmp_path / "dataset.json").write_text('{"name": "mine", "version": "1", "licence": "CC0-1.0"}')
    with pytest.raises(BadInput, match=rf"cases.jsonl:2.*{said}"):
        load_goldens(tmp_path)


def test_a_set_of_ones_own_may_hold_templates_beside_plain_cases(tmp_path: Path) -> None:
    plain = {
        "id": "c",
        "kind": "other",
        "split": "test",
        "question": "What barks?",
        "answer": {"type": "text", "accept": ["a dog"]},
        "source": "derivable",
    }
    (tmp_path / "cases.jsonl").write_text(f"{json.dumps(plain)}\n{json.dumps(TWO_OF_THEM)}\n")
    (tmp_path / "dataset.json").write_text('{"name": "mine", "version": "1", "licence": "CC0-1.0"}')
    goldens = load_goldens(tmp_path)
    assert [case.id for case in goldens.cases] == ["c", "sum-1"]
    joined = join({"one": goldens})
    assert [one.id for one in joined.templates] == ["one.sum-1"]
    assert joined.cases[1].question == goldens.cases[1].question


SHIPPED = {one.id: one for one in GOLDENS.templates}


def test_the_shipped_set_has_templates_of_arithmetic_and_of_units() -> None:
    counted = Counter(one.kind for one in GOLDENS.templates)
    assert counted == {Kind.ARITHMETIC_IN_WORDS: 20, Kind.UNIT_AND_DATE: 4}


@pytest.mark.parametrize("name", SHIPPED)
def test_every_variant_of_a_shipped_template_holds(name: str) -> None:
    one, solve = SHIPPED[name], worked_out(GOLDENS)
    for case in (one.published, *many(one, 25)):
        assert len(case.wrong) >= 2, case
        assert not re.search(r"[{}]", case.question), case
        if case.kind is Kind.ARITHMETIC_IN_WORDS:
            assert not re.search(r"\d", case.question), case
        assert solve(case.question) == case.answer.shown().split()[0], case
        for said, right in ((case.answer.shown(), True), (case.question, False), (case.wrong[0], False)):
            assert match(said, case.answer, question=case.question, rivals=case.wrong).right is right, (said, case)


@pytest.mark.parametrize("value", [0, 7, 13, 20, 42, 100, 101, 125, 999, 1000, 1001, 1100, 2300, 45_678, 999_999])
def test_a_number_that_is_spelled_out_is_read_again(value: int) -> None:
    assert spelled_value(spelled(value)) == value


def test_numbers_are_spelled_as_in_britain() -> None:
    assert [spelled(value) for value in (125, 1001, 2300)] == [
        "one hundred and twenty-five",
        "one thousand and one",
        "two thousand three hundred",
    ]


PLAN = ReasoningPlan.smoke().model_copy(update={"seeded_per_kind": 0, "variants_seed": SEED})


def measured(goldens: ReasoningGoldens = GOLDENS, plan: ReasoningPlan = PLAN, *, calculates: bool = True) -> TierResult:
    player = honest(goldens.cases, wrong_every=10_000)
    return measure_reasoning(calculating(goldens, player) if calculates else player, goldens, plan)


def test_two_fresh_variants_of_each_templated_case_are_asked_for_a_draft_alone() -> None:
    result = measured()
    fresh = result.samples[result.samples.part == "fresh"]
    cove = result.samples[result.samples.part == "cove"]
    assert Counter(fresh.template) == dict.fromkeys(cove.template.dropna(), 2)
    assert len(fresh) == 18 and len(cove) == 30
    assert {json.loads(calls)[0]["step"] for calls in fresh.calls} == {"baseline"}
    assert {len(json.loads(calls)) for calls in fresh.calls} == {1}
    assert result.metric("variants_rate.fresh").value == result.metric("variants_rate.published").value == 1.0
    assert result.metric("cove_pass_rate").n == 30, "the headline is over the published cases, as under any seed"


def test_the_fresh_variants_are_drawn_again_from_what_the_table_states() -> None:
    again = TierResult.from_table(measured().to_table("v1", "a" * 64))
    plan = ReasoningPlan.model_validate(again.provenance["plan"])
    assert plan.variants_seed == SEED
    asked = again.samples[again.samples.part == "fresh"]
    for name, rows in asked.groupby("template"):
        published = SHIPPED[str(name)].published
        redrawn = SHIPPED[str(name)].fresh(plan.variants_seed, plan.fresh_per_template, unlike=published.question)
        assert [case.question for case in redrawn] == list(rows.question)


def test_without_a_seed_there_are_none_and_it_is_said() -> None:
    metric = measured(plan=PLAN.model_copy(update={"variants_seed": None})).metric("variants_rate.fresh")
    assert (metric.status, metric.why) == ("skipped", "no seed was minted")


def test_a_model_with_the_published_answers_by_heart_is_said_to_know_them() -> None:
    result = measured(calculates=False)
    published, fresh = (result.metric(f"variants_rate.{which}") for which in ("published", "fresh"))
    assert (published.value, fresh.value) == (1.0, 0.0)
    assert (published.why or "").startswith("it knows the answers to published cases")
    assert "know" not in (measured().metric("variants_rate.published").why or "")


def test_of_too_few_templates_it_is_said_that_nothing_can_be_known() -> None:
    result = measured(plan=PLAN.model_copy(update={"cases_per_kind": 1}), calculates=False)
    assert (result.metric("variants_rate.fresh").why or "").startswith("too few templates to know")


VERIFYING = PLAN.model_copy(update={"verify_fresh": True})


def correcting(knows: Callable[[Prompt], str | None]) -> Player:
    """A model that drafts nothing of use, and corrects that to what it `knows`."""
    return Player(cross_check=lambda _: "INCONSISTENT", revise=lambda prompt: knows(prompt) or prompt.draft)


def test_a_key_that_acts_only_where_drafts_are_corrected_is_found() -> None:
    key = {case.question: case.answer.shown() for case in GOLDENS.cases}
    found = measure_reasoning(correcting(lambda prompt: key.get(prompt.question)), GOLDENS, VERIFYING)
    reading = variants_reading(found)
    assert (reading.knowledge, reading.published_right, reading.fresh_right) == (Knowledge.KNOWS, 9, 0)
    assert "9 of 9 published cases right in the draft or the final answer, 0 of 18 fresh variants" in reading.why
    assert "it knows the answers" in (found.metric("variants_rate.published").why or "")
    by_drafts = measure_reasoning(correcting(lambda prompt: key.get(prompt.question)), GOLDENS, PLAN)
    assert variants_reading(by_drafts).knowledge is Knowledge.NO_SIGN


def test_a_model_that_corrects_by_calculating_is_not_said_to_know_the_answers() -> None:
    solve = worked_out(GOLDENS)
    reading = variants_reading(measure_reasoning(correcting(lambda prompt: solve(prompt.question)), GOLDENS, VERIFYING))
    assert (reading.knowledge, reading.published_right, reading.fresh_right) == (Knowledge.NO_SIGN, 9, 18)


def test_only_fresh_variants_that_are_drafted_wrong_are_verified() -> None:
    steps: list[list[str]] = []
    for calculates in (True, False):
        result = measured(plan=VERIFYING, calculates=calculates)
        fresh = result.samples[result.samples.part == "fresh"]
        steps.append(sorted({" ".join(call["step"] for call in json.loads(calls)) for calls in fresh.calls}))
        assert list(fresh.right_at_some_step) == [calculates] * 18
    assert steps == [["baseline"], ["baseline plan answer cross_check"]]


def test_within_a_time_budget_fresh_variants_are_only_drafted() -> None:
    result = measured(plan=VERIFYING.model_copy(update={"budget_s": 600.0}), calculates=False)
    fresh = result.samples[result.samples.part == "fresh"]
    assert {len(json.loads(calls)) for calls in fresh.calls} == {1}
    assert fresh.right_at_some_step.isna().all()
