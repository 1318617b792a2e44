"""Other people's question and answer files, as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from milton_assets.tiers.reasoning import ReasoningPlan, measure_reasoning
from milton_assets.tiers.reasoning.answers import DateAnswer, NumberAnswer, TextAnswer
from milton_assets.tiers.reasoning.cases import GoldenCase, Kind, Split
from milton_assets.tiers.reasoning.datasets import load_dataset
from milton_assets.tiers.reasoning.matching import match
from milton_assets.vocabulary.digest import sha256_file
from milton_assets.vocabulary.errors import BadInput
from tests.support.reasoning_player import Player


def a_file(folder: Path, *records: Any) -> Path:
    file = folder / "theirs.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


def one(folder: Path, **record: Any) -> GoldenCase:
    return load_dataset(a_file(folder, {"question": "What barks at night?"} | record)).cases[0]


def test_a_worked_solution_ending_in_its_number_becomes_that_number(tmp_path: Path) -> None:
    case = one(tmp_path, answer="Two and two.\n2+2=<<2+2=4>>4\n#### 1,004")
    assert case.answer == NumberAnswer(value=1004)
    assert case.kind is Kind.OTHER


@pytest.mark.parametrize(
    ("written", "value"), [("12", 12), (12, 12), (1.5, 1.5), ("-3", -3), ("1,250", 1250), ("three", 3), ("3/4", 0.75)]
)
def test_an_answer_that_is_a_number_is_compared_as_one(tmp_path: Path, written: object, value: float) -> None:
    assert one(tmp_path, answer=written).answer == NumberAnswer(value=value)


@pytest.mark.parametrize("written", ["a dog", "Apollo 11", "3 dogs", "no", "July 1969", "12 m"])
def test_any_other_answer_is_text(tmp_path: Path, written: str) -> None:
    assert one(tmp_path, answer=written).answer == TextAnswer(accept=(written,))


def test_several_answers_are_aliases_each_once(tmp_path: Path) -> None:
    case = one(tmp_path, answers=["A dog", "dogs", "a DOG", "…", 7])
    assert case.answer == TextAnswer(accept=("A dog", "dogs", "7"))


def test_answers_with_their_places_in_a_text_are_aliases(tmp_path: Path) -> None:
    case = one(
        tmp_path, id="5733be28", answers={"text": ["a dog", "a dog", "the dog of the house"], "answer_start": [1]}
    )
    assert case.answer == TextAnswer(accept=("a dog", "the dog of the house"))


def test_a_value_with_aliases_is_any_of_them(tmp_path: Path) -> None:
    given = {"value": "Dog", "aliases": ["Hound", "dog"], "normalized_aliases": ["hound"]}
    case = one(tmp_path, question_id="tc_2", answer=given)
    assert (case.id, case.answer) == ("tc_2", TextAnswer(accept=("Dog", "Hound")))


def test_a_long_alias_is_kept_and_one_longer_than_any_answer_is_left_out(tmp_path: Path) -> None:
    case = one(tmp_path, answers=["a dog", "dog " * 300, "dog " * 3000])
    assert isinstance(case.answer, TextAnswer)
    assert [len(alias) for alias in case.answer.accept] == [5, 1200]


@pytest.mark.parametrize("written", ["Red, green, blue, or mauve.", "It is so. " * 20, "No, not a dog."])
def test_a_gold_that_reads_like_a_hedge_matches_itself(tmp_path: Path, written: str) -> None:
    case = one(tmp_path, answer=written)
    assert match(written, case.answer, question=case.question).right


@pytest.mark.parametrize(
    ("given", "made"),
    [("q/1 a", "q-1-a-000001"), ("../../x", "x-000001"), ("", "line-000001"), ("é" * 9, "line-000001"), (7, "7")],
)
def test_an_id_that_is_no_slug_is_made_into_one(tmp_path: Path, given: object, made: str) -> None:
    assert one(tmp_path, answer="a dog", id=given).id == made


def test_a_right_and_a_hallucinated_answer_become_gold_and_fault(tmp_path: Path) -> None:
    case = one(tmp_path, right_answer="a dog", hallucinated_answer="A cat barks.", knowledge="ignored")
    assert (case.answer, case.wrong) == (TextAnswer(accept=("a dog",)), ("A cat barks.",))


def test_a_fault_that_the_matcher_would_accept_is_left_out(tmp_path: Path) -> None:
    assert one(tmp_path, answer="a dog", wrong=["a big dog", "a cat", 3, ""]).wrong == ("a cat",)
    assert one(tmp_path, right_answer="dog", hallucinated_answer="A dog, surely.").wrong == ()


def test_our_own_shape_of_an_answer_goes_in_too(tmp_path: Path) -> None:
    case = one(tmp_path, id="mine-1", kind="unit_and_date", answer={"type": "date", "year": 1969}, source="a book")
    assert case.answer == DateAnswer(year=1969)
    assert (case.id, case.kind, case.source) == ("mine-1", Kind.UNIT_AND_DATE, "a book")


def test_a_line_without_id_kind_or_source_gets_ones_that_lead_back_to_it(tmp_path: Path) -> None:
    case = one(tmp_path, answer="a dog", kind="trivia")
    assert (case.id, case.kind, case.source, case.split) == (
        "line-000001", Kind.OTHER, "theirs.jsonl, line 1", Split.TEST,
    )  # fmt: skip


def test_a_repeated_question_is_taken_once(tmp_path: Path) -> None:
    record = {"question": "What barks?", "answer": "a dog"}
    assert len(load_dataset(a_file(tmp_path, record, record | {"answer": "dogs"})).cases) == 1


def test_the_version_is_the_files_digest(tmp_path: Path) -> None:
    file = a_file(tmp_path, {"question": "What barks?", "answer": "a dog"})
    goldens = load_dataset(file)
    assert goldens.version == sha256_file(file)
    assert goldens.digests == {"theirs.jsonl": sha256_file(file)}


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"answer": "a dog"}, "no question"),
        ({"question": "What barks?"}, "no answer"),
        ({"question": "What barks?", "answer": None}, "no answer"),
        ({"question": "What barks?", "answer": {"type": "riddle"}}, "type"),
        ({"question": "What barks?", "answer": ""}, "at least 1"),
        ({"question": 5, "answer": "a dog"}, "no question"),
        ({"question": "What barks?", "answers": {"answer_start": [3]}}, "no answer"),
        (["What barks?", "a dog"], "no question"),
        ("text", "no question"),
    ],
)
def test_a_line_that_cannot_be_used_is_refused_by_number(tmp_path: Path, record: Any, said: str) -> None:
    with pytest.raises(BadInput, match=rf"theirs.jsonl:2: .*{said}"):
        load_dataset(a_file(tmp_path, {"question": "Is this fine?", "answer": "yes"}, record))


def test_an_empty_or_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no case"):
        load_dataset(a_file(tmp_path))
    with pytest.raises(BadInput, match="cannot be read"):
        load_dataset(tmp_path / "nowhere.jsonl")


def test_a_foreign_set_is_measured_under_the_kind_other(tmp_path: Path) -> None:
    goldens = load_dataset(
        a_file(tmp_path, {"question": "What barks?", "answer": "a dog"}, {"question": "What is 2 + 2?", "answer": 4})
    )
    result = measure_reasoning(Player(answer=lambda prompt: "A dog, or 4."), goldens, ReasoningPlan())
    assert result.metric("accuracy.other").n == 2
    assert result.metric("accuracy.single_fact").value is None
    assert result.provenance["goldens_version"] == goldens.version


def test_an_unanswerable_question_is_left_out_named_and_counted(tmp_path: Path) -> None:
    lines = [
        {"question": "Which animal barks?", "answers": {"text": ["a dog"]}},
        {"question": "Which animal barks in space?", "answers": {"text": [], "answer_start": []}},
        {"question": "Which animal barks at sea?", "answers": ["a seal"], "is_impossible": True},
        {"question": "Which mark ends it?", "answers": ["…"]},
    ]
    path = tmp_path / "theirs.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    goldens = load_dataset(path)
    assert [case.question for case in goldens.cases] == ["Which animal barks?"]
    assert [line.partition(": ")[0] for line in goldens.left_out] == [f"theirs.jsonl:{n}" for n in (2, 3, 4)]
    assert "unanswerable" in goldens.left_out[0] and "word" in goldens.left_out[2]


def test_a_set_of_nothing_but_unanswerable_questions_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "theirs.jsonl"
    path.write_text('{"question": "Which animal barks?", "answers": []}\n')
    with pytest.raises(BadInput, match="none of its 1 questions can be asked"):
        load_dataset(path)


@pytest.mark.parametrize(
    ("given", "accepted"),
    [
        (["a dog", "A Dog", "a hound"], ("a dog", "a hound")),
        (True, ("yes", "true")),
        (False, ("no", "false")),
        ("A", ("A",)),
    ],
    ids=["nq-open", "boolq-true", "boolq-false", "letter"],
)
def test_shapes_of_other_sets_are_read(tmp_path: Path, given: object, accepted: tuple[str, ...]) -> None:
    case = one(tmp_path, answer=given)
    assert case.answer == TextAnswer(accept=accepted)
    assert match(accepted[0], case.answer, question=case.question).right


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    path = tmp_path / "theirs.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"question": "Which animal barks?", "answer": "a dog"}\n')
    assert len(load_dataset(path).cases) == 1


@pytest.mark.parametrize("value", ["9" * 4301, "[" * 200_000], ids=["4301-digits", "200000-brackets"])
def test_a_line_beyond_what_json_readers_hold_is_an_error_with_its_number(tmp_path: Path, value: str) -> None:
    path = tmp_path / "theirs.jsonl"
    path.write_text(f'{{"question": "Which animal barks?", "answer": {value}}}\n')
    with pytest.raises(BadInput, match=r"theirs\.jsonl:1"):
        load_dataset(path)
