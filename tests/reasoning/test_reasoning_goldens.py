"""The gold questions that ship hold together."""

from __future__ import annotations

import datetime
import itertools
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from milton_assets.tiers.reasoning import load_goldens, prompts
from milton_assets.tiers.reasoning.answers import DateAnswer, ListAnswer, NumberAnswer, PremiseAnswer, TextAnswer
from milton_assets.tiers.reasoning.cases import GoldenCase, Kind, Split
from milton_assets.tiers.reasoning.goldens import SHIPPED, ReasoningGoldens
from milton_assets.tiers.reasoning.matching import match
from milton_assets.tiers.reasoning.text import phrase
from milton_assets.vocabulary.digest import sha256_file
from milton_assets.vocabulary.errors import BadInput

GOLDENS = load_goldens()
LABELLED_KINDS = [kind for kind in Kind if kind is not Kind.OTHER]
CONSTANT_ANSWERS = [
    "Yes.", "No.", "I don't know.", "I am not sure.", "That is wrong.", "The premise is false.", "None.", "Zero.", "0",
    "1", "Nothing.", "Never.", "CONSISTENT", "INCONSISTENT", "Paris", "London", "the Earth", "two", "It depends.",
]  # fmt: skip


def accepts(case: GoldenCase, answer: str) -> bool:
    return match(answer, case.answer, question=case.question, rivals=case.wrong).right


def test_there_are_at_least_150_cases_over_6_kinds() -> None:
    assert len(GOLDENS.cases) >= 150
    assert {case.kind for case in GOLDENS.cases} == set(LABELLED_KINDS)


def test_both_splits_are_stratified() -> None:
    counted = Counter((case.kind, case.split) for case in GOLDENS.cases)
    for kind in LABELLED_KINDS:
        assert counted[kind, Split.TEST] == 20
        assert counted[kind, Split.DEV] == 10


def test_a_perfect_test_split_can_reach_a_lower_bound_of_90_percent() -> None:
    assert len(GOLDENS.choose(Split.TEST)) >= 100


def test_the_smoke_sample_has_30_cases_5_of_each_kind() -> None:
    chosen = GOLDENS.choose(Split.TEST, 5)
    assert Counter(case.kind for case in chosen) == dict.fromkeys(LABELLED_KINDS, 5)


def test_the_digests_are_the_files() -> None:
    names = {"cases.jsonl", "judge_pairs.jsonl", "dataset.json"}
    assert GOLDENS.digests == {name: sha256_file(SHIPPED / name) for name in names}


def test_the_version_is_given() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", GOLDENS.version)


def _accepted(case: GoldenCase) -> list[str]:
    gold = case.answer
    if isinstance(gold, TextAnswer):
        return list(gold.accept)
    if isinstance(gold, PremiseAnswer):
        return list(gold.states)
    if isinstance(gold, ListAnswer):
        longest = max(len(item) for item in gold.items)
        return [", ".join(item[min(n, len(item) - 1)] for item in gold.items) for n in range(longest)]
    return [gold.shown()]


def test_every_alias_is_accepted_alone_and_in_a_sentence() -> None:
    refused = [
        (case.id, said)
        for case in GOLDENS.cases
        for alias in _accepted(case)
        for said in (alias, f"I think the answer is {alias}.")
        if not accepts(case, said)
    ]
    assert not refused


def test_every_case_has_two_wrong_answers_and_none_is_accepted() -> None:
    assert all(len(case.wrong) >= 2 for case in GOLDENS.cases)
    accepted = [
        (case.id, said)
        for case in GOLDENS.cases
        for wrong in case.wrong
        for said in (wrong, f"It is {wrong}")
        if accepts(case, said)
    ]
    assert not accepted


LISTS = [case for case in GOLDENS.cases if isinstance(case.answer, ListAnswer)]
ITEMS = sorted({item[0] for case in LISTS for item in case.answer.model_dump()["items"]})


@pytest.mark.parametrize("case", LISTS, ids=lambda case: case.id)
def test_no_list_with_an_item_of_another_list_is_accepted(case: GoldenCase) -> None:
    assert isinstance(case.answer, ListAnswer)
    own = {phrase(alias) for item in case.answer.items for alias in item}
    gold = ", ".join(item[0] for item in case.answer.items)
    extras = [item for item in ITEMS if phrase(item) not in own]
    assert not [said for item in extras for said in (f"{gold} and {item}.", f"{item}, {gold}") if accepts(case, said)]


PREMISE_ANSWERS = json.loads(Path(__file__).with_name("premise_answers.json").read_text("utf-8"))
PREMISES = [case for case in GOLDENS.cases if case.kind is Kind.FALSE_PREMISE]


@pytest.mark.parametrize("case", PREMISES, ids=lambda case: case.id)
def test_an_answer_that_swallows_the_premise_is_not_accepted_and_one_that_sees_through_it_is(case: GoldenCase) -> None:
    given = PREMISE_ANSWERS[case.id]
    assert len(given["swallows"]) >= 1 and len(given["sees_through"]) >= 2
    assert not [said for said in given["swallows"] if accepts(case, said)]
    assert not [said for said in given["sees_through"] if not accepts(case, said)]


def test_the_gold_beside_a_wrong_answer_is_not_accepted() -> None:
    of_one_answer = [case for case in GOLDENS.cases if not isinstance(case.answer, ListAnswer)]
    assert not [case.id for case in of_one_answer if accepts(case, f"{case.answer.shown()} or {case.wrong[0]}")]


def test_the_echoed_question_is_not_accepted() -> None:
    assert not [case.id for case in GOLDENS.cases if accepts(case, case.question)]
    assert not [case.id for case in GOLDENS.cases if accepts(case, f"{case.question} {case.question}")]


@pytest.mark.parametrize("answer", CONSTANT_ANSWERS)
def test_no_constant_answer_is_right_for_more_than_3_percent(answer: str) -> None:
    assert sum(accepts(case, answer) for case in GOLDENS.cases) <= 0.03 * len(GOLDENS.cases)


def test_the_best_constant_answer_is_right_for_at_most_3_percent() -> None:
    every = {answer for case in GOLDENS.cases for answer in _accepted(case)}
    best = max(sum(accepts(case, answer) for case in GOLDENS.cases) for answer in every)
    assert best <= 0.03 * len(GOLDENS.cases)


def test_no_prompt_of_the_tier_gives_an_answer_away() -> None:
    empty = [
        prompts.answer(""),
        prompts.plan("", "", 2),
        prompts.cross_check("", "", "", ""),
        prompts.revise("", "", [("", "", "inconsistent")]),
    ]
    leaked = " ".join(message.content for messages in empty for message in messages)
    assert not [case.id for case in GOLDENS.cases if accepts(case, leaked)]


def test_questions_are_open() -> None:
    closed = re.compile(r"^(is|are|was|were|do|does|did|has|have|can|could|will|would|should)\b", re.IGNORECASE)
    assert not [case.id for case in GOLDENS.cases if closed.match(case.question)]


def test_no_two_questions_are_near_duplicates() -> None:
    shingled = [(case.id, _shingles(case.question)) for case in GOLDENS.cases]
    close = [
        (one, two)
        for (one, mine), (two, theirs) in itertools.combinations(shingled, 2)
        if len(mine & theirs) / len(mine | theirs) > 0.6
    ]
    assert not close


def _shingles(text: str, size: int = 4) -> set[str]:
    plain = " ".join(phrase(text))
    return {plain[n : n + size] for n in range(max(1, len(plain) - size + 1))}


DERIVED = [case for case in GOLDENS.cases if case.check]


def test_a_derivable_answer_is_what_its_check_yields() -> None:
    names: dict[str, Any] = {
        "date": datetime.date, "timedelta": datetime.timedelta, "sum": sum, "range": range, "__builtins__": {},
    }  # fmt: skip
    assert len(DERIVED) >= 40
    for case in DERIVED:
        yielded = eval(case.check or "", names)
        if isinstance(case.answer, DateAnswer):
            yielded, gold = (yielded.year, yielded.month, yielded.day), case.answer
            assert yielded == (gold.year, gold.month, gold.day), case.id
        else:
            assert isinstance(case.answer, NumberAnswer)
            assert yielded == pytest.approx(case.answer.value), case.id


def test_every_sum_is_derived() -> None:
    sums = [case for case in GOLDENS.cases if case.kind is Kind.ARITHMETIC_IN_WORDS]
    assert all(case.check for case in sums)
    assert all(not re.search(r"\d", case.question) for case in sums)


def test_choosing_is_repeatable_and_names_an_empty_split() -> None:
    assert GOLDENS.choose(Split.DEV, 2) == GOLDENS.choose(Split.DEV, 2)
    assert len(GOLDENS.choose(None)) == len(GOLDENS.cases)
    only_dev = ReasoningGoldens(GOLDENS.choose(Split.DEV), "1", {})
    with pytest.raises(BadInput, match="no case in split test"):
        only_dev.choose(Split.TEST)


def a_case(**changes: Any) -> dict[str, Any]:
    return {
        "id": "a-1",
        "kind": "single_fact",
        "split": "test",
        "question": "Which colour is a ruby?",
        "answer": {"type": "text", "accept": ["red"]},
        "wrong": ["blue"],
        "source": "derivable",
    } | changes


ABOUT = '{"name": "mine", "version": "1.0.0", "licence": "CC0-1.0"}'


def a_set(folder: Path, *lines: str, about: str = ABOUT) -> Path:
    (folder / "cases.jsonl").write_text("\n".join(lines))
    (folder / "dataset.json").write_text(about)
    return folder


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"id": "../x"}, "slug"),
        ({"kind": "riddle"}, "kind"),
        ({"split": "train"}, "split"),
        ({"question": ""}, "question"),
        ({"wrong": ["It is red"]}, "matches its gold answer"),
        ({"answer": {"type": "text", "accept": []}}, "accept"),
        ({"answer": {"type": "text", "accept": ["…"]}}, "no word left"),
        ({"answer": {"type": "number", "value": "NaN"}}, "value"),
        ({"answer": {"type": "number", "value": 1, "unit": "cubit"}}, "unknown unit"),
        ({"answer": {"type": "date"}}, "needs a year"),
        ({"answer": {"type": "date", "year": 2023, "month": 2, "day": 30}}, "day is out of range"),
        ({"answer": {"type": "date", "year": 2023, "day": 3}}, "needs a month"),
        ({"answer": {"type": "list", "items": [["red"], []]}}, "no alias"),
        ({"answer": {"type": "list", "items": [["red"], ["blue"]], "need": 3}}, "need is 3"),
        ({"answer": {"type": "essay"}}, "answer"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_faulty_case_is_refused_with_its_line(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    folder = a_set(tmp_path, json.dumps(a_case(id="fine")), "", json.dumps(a_case(**changes)))
    with pytest.raises(BadInput, match=rf"cases.jsonl:3.*{said}"):
        load_goldens(folder)


def test_a_repeated_id_or_question_is_refused(tmp_path: Path) -> None:
    twice = json.dumps(a_case())
    with pytest.raises(BadInput, match="case id 'a-1' appears 2 times"):
        load_goldens(a_set(tmp_path, twice, twice))
    with pytest.raises(BadInput, match="question"):
        load_goldens(a_set(tmp_path, twice, json.dumps(a_case(id="a-2", question="WHICH colour is a ruby? "))))


@pytest.mark.parametrize("line", ["{", "[1, 2]", '"text"', "[" * 30_000])
def test_a_line_that_is_no_case_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(BadInput, match=r"cases.jsonl:1"):
        load_goldens(a_set(tmp_path, line))


def test_deeply_nested_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"cases.jsonl:1"):
        load_goldens(a_set(tmp_path, "[" * 15_000))


def test_bytes_that_are_no_utf8_are_refused(tmp_path: Path) -> None:
    (tmp_path / "cases.jsonl").write_bytes(b'{"question": "\xff"}')
    with pytest.raises(BadInput, match="not UTF-8"):
        load_goldens(tmp_path)


def test_a_missing_file_and_an_empty_set_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        load_goldens(tmp_path)
    with pytest.raises(BadInput, match="holds no case"):
        load_goldens(a_set(tmp_path, ""))


@pytest.mark.parametrize(
    "about", ["", "{", "[]", '{"name": "mine"}', ABOUT.replace("1.0.0", ""), ABOUT.replace("mine", "/")]
)
def test_a_set_that_does_not_say_what_it_is_is_refused(tmp_path: Path, about: str) -> None:
    with pytest.raises(BadInput, match=r"dataset\.json"):
        load_goldens(a_set(tmp_path, json.dumps(a_case()), about=about))
