"""A log of inspect_ai is read as its package wrote it, and what is none is refused by name."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path
from typing import Any

import pytest

from milton_assets.tiers.evaluations.inspect_log import Limits, read_inspect_log
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.evaluation import Package
from tests.support.evaluation_logs import EVAL, JSON, MODEL, inspect_eval, inspect_json, members, right


def test_a_log_of_the_real_package_is_read_with_its_provenance() -> None:
    log = read_inspect_log(EVAL)
    assert (log.package, log.task, log.dataset) == (Package.INSPECT, "capitals", "capitals")
    assert log.package_version.startswith("0.3.")
    assert log.model == f"openai-api/milton/{MODEL}"
    assert log.how["generate"]["temperature"] == 0.0
    assert len(log.answers) == 12 and log.scores == ("includes",)
    paris = next(answer for answer in log.answers if answer.sample == "france")
    assert paris.scores == {"includes": 1.0} and "Paris" in paris.said


def test_both_of_its_formats_say_the_same() -> None:
    one, other = read_inspect_log(EVAL), read_inspect_log(JSON)
    assert sorted(one.answers, key=lambda a: a.sample) == sorted(other.answers, key=lambda a: a.sample)
    assert one.asked_sha256 == other.asked_sha256
    assert one.how == other.how


def test_members_that_are_deflated_are_read_as_those_in_zstd(tmp_path: Path) -> None:
    log = read_inspect_log(inspect_eval(tmp_path / "log.eval", members()))
    assert log.asked_sha256 == read_inspect_log(EVAL).asked_sha256


@pytest.mark.parametrize(
    ("value", "number"),
    [("C", 1.0), ("I", 0.0), ("P", 0.5), ("N", 0.0), ("yes", 1.0), (True, 1.0), ("0.25", 0.25), (3, 3.0)],
    ids=str,
)
def test_scores_are_numbers_as_inspect_counts_them(tmp_path: Path, value: Any, number: float) -> None:
    def change(log: dict[str, Any]) -> None:
        log["results"] = None
        log["samples"][0]["scores"]["includes"]["value"] = value

    assert read_inspect_log(inspect_json(tmp_path / "log.json", change)).answers[0].scores["includes"] == number


def test_a_score_of_parts_is_a_score_a_part(tmp_path: Path) -> None:
    def change(log: dict[str, Any]) -> None:
        log["results"] = None
        log["samples"][0]["scores"]["includes"]["value"] = {"precision": 0.5, "recall": 1}

    answer = read_inspect_log(inspect_json(tmp_path / "log.json", change)).answers[0]
    assert answer.scores == {"includes/precision": 0.5, "includes/recall": 1.0}


@pytest.mark.parametrize("value", [math.nan, "perhaps", None, [1, 2]], ids=["nan", "word", "none", "list"])
def test_a_sample_without_a_number_was_not_scored(tmp_path: Path, value: Any) -> None:
    def change(log: dict[str, Any]) -> None:
        log["results"] = None
        log["samples"][0]["scores"]["includes"]["value"] = value

    answer = read_inspect_log(inspect_json(tmp_path / "log.json", change)).answers[0]
    assert answer.scores == {} and answer.error == "it was not scored"


def test_a_sample_that_ended_in_an_error_has_no_score_whatever_it_says(tmp_path: Path) -> None:
    def change(log: dict[str, Any]) -> None:
        log["results"] = None
        log["samples"][0]["error"] = {"message": "the server went away", "traceback": "", "traceback_ansi": ""}

    answer = read_inspect_log(inspect_json(tmp_path / "log.json", change)).answers[0]
    assert answer.scores == {} and answer.error == "the server went away"


def with_one_failed_in_its_second_epoch(log: dict[str, Any]) -> None:
    """As inspect_ai 0.3.285 writes it under `--epochs 2 --no-fail-on-error`: a mean over samples of means over epochs,
    without the one that failed."""
    right(log, "france", "japan")
    again = [{**sample, "epoch": 2} for sample in log["samples"]]
    failed = next(sample for sample in again if sample["id"] == "france")
    failed |= {"error": {"message": "the tool broke", "traceback": "", "traceback_ansi": ""}, "scores": {}}
    log["samples"] += again
    log["results"] |= {"total_samples": len(log["samples"]), "completed_samples": len(log["samples"]) - 1}


def with_a_failed_one_scored(log: dict[str, Any]) -> None:
    """As under `--score-on-error`: the package counts the score of what failed."""
    right(log, "france", "japan")
    failed = next(sample for sample in log["samples"] if sample["id"] == "france")
    failed["error"] = {"message": "the tool broke", "traceback": "", "traceback_ansi": ""}


@pytest.mark.parametrize("change", [with_one_failed_in_its_second_epoch, with_a_failed_one_scored])
def test_results_that_the_package_reckons_around_a_failed_answer_agree_with_its_samples(
    tmp_path: Path, change: Any
) -> None:
    log = read_inspect_log(inspect_json(tmp_path / "log.json", change))
    (failed,) = (answer for answer in log.answers if answer.error)
    assert (failed.sample, failed.scores) == ("france", {})


def of_another_status(log: dict[str, Any]) -> None:
    log["status"] = "cancelled"


def of_another_version(log: dict[str, Any]) -> None:
    log["version"] = 9


def without_samples(log: dict[str, Any]) -> None:
    del log["samples"]


def with_a_sample_twice(log: dict[str, Any]) -> None:
    log["samples"].append(log["samples"][0])


def with_one_sample_asked_once_more(log: dict[str, Any]) -> None:
    log["samples"].append({**log["samples"][0], "epoch": 2})


def with_results_of_others(log: dict[str, Any]) -> None:
    log["results"]["scores"][0]["metrics"]["accuracy"]["value"] = 0.99


def with_a_wrong_sample_taken_out(log: dict[str, Any]) -> None:
    right(log, "france")
    log["samples"] = [sample for sample in log["samples"] if sample["id"] in {"france", "japan"}]
    log["results"]["scores"][0]["metrics"]["accuracy"]["value"] = 0.5


def with_samples_invalidated(log: dict[str, Any]) -> None:
    log["invalidated"] = True


def with_an_invalidated_sample(log: dict[str, Any]) -> None:
    log["samples"][3]["invalidation"] = {"timestamp": "2026-11-26T19:19:47+00:00", "author": "a", "reason": "leaked"}


def with_an_epoch_in_words(log: dict[str, Any]) -> None:
    log["samples"][0]["epoch"] = "first"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (of_another_status, "ended with 'cancelled'"),
        (of_another_version, "a log of version 9"),
        (without_samples, "holds no samples"),
        (with_a_sample_twice, r"answers twice: '\w+', epoch 1"),
        (with_one_sample_asked_once_more, "sample asked as often as the others"),
        (with_results_of_others, r"says that includes is 0\.99"),
        (with_a_wrong_sample_taken_out, "holds 2 of the 12 answers that it says there were"),
        (with_samples_invalidated, "were invalidated by whoever made it"),
        (with_an_invalidated_sample, "were invalidated by whoever made it"),
        (with_an_epoch_in_words, "sample 1 is no sample of inspect_ai: epoch"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_log_that_does_not_hold_is_refused(tmp_path: Path, change: Any, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        read_inspect_log(inspect_json(tmp_path / "log.json", change))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1, 2]", "no log of inspect_ai"),
        ('{"version": 2, "version": 2}', "appears twice"),
        ('{"version": Infinity}', "Infinity is no JSON number"),
        ("[" * 100_000, "nested too deeply"),
        ("", "no valid JSON"),
    ],
    ids=["list", "twice", "infinity", "deep", "empty"],
)
def test_json_that_is_no_log_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "log.json"
    path.write_text(text)
    with pytest.raises(BadInput, match=said):
        read_inspect_log(path)


def test_what_is_no_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.eval"
    path.write_bytes(EVAL.read_bytes()[:2000])
    with pytest.raises(BadInput, match="is no zip"):
        read_inspect_log(path)


def test_a_log_that_was_never_finished_is_refused(tmp_path: Path) -> None:
    unfinished = {name: content for name, content in members().items() if name != "header.json"}
    with pytest.raises(BadInput, match=r"holds no header\.json"):
        read_inspect_log(inspect_eval(tmp_path / "log.eval", unfinished))


def test_a_member_that_unpacks_without_end_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    bomb = inspect_eval(tmp_path / "log.eval", {**members(), "samples/bomb_epoch_1.json": b" " * (8 << 20)})
    assert bomb.stat().st_size < 1 << 20
    with pytest.raises(BadInput, match="unpacks to more than 1048576 bytes"):
        read_inspect_log(bomb, Limits(member_bytes=1 << 20))


def test_members_that_are_too_much_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="a sample and 20000 in all"):
        read_inspect_log(inspect_eval(tmp_path / "log.eval", members()), Limits(total_bytes=20_000))


def test_too_many_members_and_too_large_a_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="expected: at most 5, each once"):
        read_inspect_log(EVAL, Limits(members=5))
    with pytest.raises(BadInput, match="a log of at most 1000 bytes"):
        read_inspect_log(EVAL, Limits(file_bytes=1000))


def test_a_damaged_member_is_refused(tmp_path: Path) -> None:
    raw = bytearray(EVAL.read_bytes())
    with zipfile.ZipFile(EVAL) as archive:
        info = next(info for info in archive.infolist() if info.filename.startswith("samples/"))
    raw[info.header_offset + 200] ^= 0xFF
    path = tmp_path / "log.eval"
    path.write_bytes(raw)
    with pytest.raises(BadInput, match="cannot be unpacked"):
        read_inspect_log(path)


def test_a_members_name_leads_nowhere(tmp_path: Path) -> None:
    outside = {**members(), "samples/../../outside.json": json.dumps({"id": "x", "epoch": 1}).encode()}
    log = read_inspect_log(inspect_eval(tmp_path / "log.eval", outside))
    assert {answer.sample for answer in log.answers} > {"x"}
    assert not list(tmp_path.rglob("outside.json"))
