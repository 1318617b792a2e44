"""Results of lm-evaluation-harness are read with their samples, and what is none is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from milton_assets.tiers.evaluations.lm_eval_log import read_lm_eval_log
from milton_assets.tiers.evaluations.reading import read_log
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.evaluation import Package
from tests.support.evaluation_logs import EVAL, MODEL, RESULTS, SAMPLES, harness


def test_results_of_the_real_package_are_read_with_their_provenance() -> None:
    log = read_lm_eval_log(RESULTS)
    assert (log.package, log.task, log.dataset) == (Package.LM_EVAL, "capitals", "json")
    assert log.package_version.startswith("0.4.")
    assert log.task_version == "1.0"
    assert log.model == MODEL
    assert log.scores == ("exact_match,first_word",)
    assert len(log.answers) == 12
    assert log.answers[0].scores == {"exact_match,first_word": 1.0} and log.answers[0].said == "Paris"
    assert set(log.files) == {RESULTS.name, SAMPLES.name}


def test_lines_of_one_document_under_several_filters_are_one_answer(tmp_path: Path) -> None:
    def strictly_too(rows: list[Any]) -> None:
        rows += [{**row, "filter": "strict", "exact_match": 0.0} for row in rows]

    log = read_lm_eval_log(harness(tmp_path, samples=strictly_too))
    assert len(log.answers) == 12
    assert log.answers[0].scores == {"exact_match,first_word": 1.0, "exact_match,strict": 0.0}


def test_a_metric_that_is_no_number_a_document_is_no_score(tmp_path: Path) -> None:
    def with_pairs(rows: list[Any]) -> None:
        for row in rows:
            row["metrics"].append("bleu")
            row["bleu"] = ["one", "two"]

    assert read_lm_eval_log(harness(tmp_path, samples=with_pairs)).scores == ("exact_match,first_word",)


def wrong_all_along(results: dict[str, Any]) -> None:
    results["results"]["capitals"]["exact_match,first_word"] = 0.0


def of_two_tasks(results: dict[str, Any]) -> None:
    results["results"]["other"] = {}


def of_a_task_elsewhere(results: dict[str, Any]) -> None:
    results["results"] = {"../../etc/passwd": {}}


def without_results(results: dict[str, Any]) -> None:
    del results["results"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (wrong_all_along, "says that exact_match,first_word is 0,"),
        (of_two_tasks, "expected: results of one task"),
        (of_a_task_elsewhere, "expected: a task's name"),
        (without_results, "holds no results of lm-eval"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_results_that_do_not_hold_are_refused(tmp_path: Path, change: Any, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        read_lm_eval_log(harness(tmp_path, results=change))


def a_document_twice(rows: list[Any]) -> None:
    rows.append(rows[0])


def a_metric_left_out(rows: list[Any]) -> None:
    del rows[3]["exact_match"]


def documents_taken_out(rows: list[Any]) -> None:
    del rows[1:4]


def no_documents(rows: list[Any]) -> None:
    rows.clear()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (a_document_twice, r"jsonl:13 holds the document 0 a second time"),
        (a_metric_left_out, r"jsonl:4 lacks the metric 'exact_match'"),
        (documents_taken_out, r"holds 9 of the 12 documents that it says there were"),
        (no_documents, "holds no sample"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_samples_that_do_not_hold_are_refused_with_their_line(tmp_path: Path, change: Any, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        read_lm_eval_log(harness(tmp_path, samples=change))


def test_a_score_that_is_not_a_number_is_refused_with_its_line(tmp_path: Path) -> None:
    path = harness(tmp_path)
    lines = tmp_path / SAMPLES.name
    lines.write_text(lines.read_text().replace('"exact_match": 1.0', '"exact_match": NaN', 1))
    with pytest.raises(BadInput, match="NaN is no JSON number"):
        read_lm_eval_log(path)


def test_results_without_their_samples_are_refused_with_what_to_do(tmp_path: Path) -> None:
    path = harness(tmp_path)
    (tmp_path / SAMPLES.name).unlink()
    with pytest.raises(BadInput, match="run lm-eval with --log_samples"):
        read_lm_eval_log(path)


def test_a_folder_is_read_by_the_one_log_in_it(tmp_path: Path) -> None:
    harness(tmp_path / "one" / "model")
    assert read_log(tmp_path / "one").package is Package.LM_EVAL
    (tmp_path / "one" / EVAL.name).write_bytes(EVAL.read_bytes())
    with pytest.raises(BadInput, match="holds 2 logs"):
        read_log(tmp_path / "one")


def test_results_of_an_older_release_are_refused_by_the_name_of_their_package(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(BadInput, match="no name of lm-eval's results"):
        read_log(tmp_path / "results.json")


def test_what_is_no_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(BadInput, match="is no log"):
        read_log(tmp_path / "notes.txt")
    with pytest.raises(BadInput, match="is not there"):
        read_log(tmp_path / "nothing.eval")
