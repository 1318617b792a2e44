"""A judge is believed only after it has proved itself, and only on what matching leaves open."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from milton_assets.tiers.reasoning import ReasoningPlan, load_goldens, measure_reasoning
from milton_assets.tiers.reasoning.cases import GoldenCase, Split
from milton_assets.tiers.reasoning.cove import Label
from milton_assets.tiers.reasoning.goldens import LabelledPair
from milton_assets.tiers.reasoning.goldens import load_goldens as load_from
from milton_assets.tiers.reasoning.judge import (
    FEWEST_PAIRS,
    KAPPA_FLOOR,
    SCHEMA,
    JudgeRefused,
    ModelPin,
    QualifiedJudge,
    qualify,
)
from milton_assets.tiers.reasoning.scoring import Score, score_answer
from milton_assets.vocabulary.chat import CallErrorKind, ModelCallFailed
from milton_assets.vocabulary.server import Endpoint
from resources.servers.client import OpenAIChatModel
from tests.support.reasoning_player import Player, Prompt, a_judge, handler, honest
from tests.support.scripted_server import answer, scripted_server

GOLDENS = load_goldens()
PAIRS = GOLDENS.judge_pairs
JUDGE = ModelPin(model="judge", base_url="http://127.0.0.1:2")
CANDIDATE = ModelPin(model="candidate", base_url="http://127.0.0.1:1")
CORRECT, INCORRECT = '{"verdict": "correct"}', '{"verdict": "incorrect"}'


def test_the_labelled_pairs_that_ship_are_enough_and_of_both_labels() -> None:
    rights = sum(pair.right for pair in PAIRS)
    assert len(PAIRS) >= 3 * FEWEST_PAIRS
    assert 0.3 < rights / len(PAIRS) < 0.7


def test_a_judge_that_agrees_is_qualified_with_its_kappa_and_interval() -> None:
    judge = qualify(a_judge(mistaken_every=20), JUDGE, PAIRS, [CANDIDATE])
    found = judge.qualification
    assert found.interval.low < found.kappa < found.interval.high
    assert found.kappa > KAPPA_FLOOR
    assert (found.agreed, found.pairs, found.invalid) == (95, 101, 0)
    assert judge.provenance()["kappa_ci"] == [found.interval.low, found.interval.high]


def test_a_judge_below_the_floor_is_refused_with_its_figures() -> None:
    with pytest.raises(JudgeRefused, match=r"kappa 0\.\d\d \[.*101 pairs"):
        qualify(a_judge(mistaken_every=4), JUDGE, PAIRS, [CANDIDATE])


@pytest.mark.parametrize(
    ("mine", "theirs", "same"),
    [
        ("http://127.0.0.1:8000", "http://localhost:8000", True),
        ("http://[::1]:8000", "http://localhost:8000", True),
        ("http://gpu-box", "http://gpu-box:80", True),
        ("http://127.0.0.1:8000", "http://localhost:8001", False),
        ("http://gpu-box:8000", "http://localhost:8000", False),
    ],
)
def test_a_server_is_known_by_any_of_its_addresses(mine: str, theirs: str, same: bool) -> None:
    assert ModelPin(model="a", base_url=mine).may_be(ModelPin(model="b", base_url=theirs)) is same


@pytest.mark.parametrize("constant", [CORRECT, INCORRECT])
def test_a_judge_of_one_opinion_fails_a_probe(constant: str) -> None:
    with pytest.raises(JudgeRefused, match="got a probe wrong"):
        qualify(Player(judge=lambda prompt: constant), JUDGE, PAIRS, [CANDIDATE])


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "correct",
        'Sure! {"verdict": "correct"}',
        '{"verdict": "maybe"}',
        '{"verdict": true}',
        "{}",
        "[]",
        '{"verdict": "correct", "why": "I say so"}',
        '{"verdict": "correct"',
        '{"Verdict": "correct"}',
    ],
)
def test_a_judge_that_ignores_the_schema_is_refused_at_the_probe(reply: str) -> None:
    with pytest.raises(JudgeRefused, match="did not answer a probe in the schema"):
        qualify(Player(judge=lambda prompt: reply), JUDGE, PAIRS, [CANDIDATE])


def test_a_judge_that_cannot_be_reached_is_refused() -> None:
    def fail(prompt: Prompt) -> str:
        raise ModelCallFailed(CallErrorKind.REFUSED, "nobody listens")

    with pytest.raises(JudgeRefused):
        qualify(Player(judge=fail), JUDGE, PAIRS, [])


def test_invalid_replies_count_as_disagreement() -> None:
    good = a_judge()
    judged = good.judge

    def sometimes(prompt: Prompt) -> str:
        return "hm" if "violin" in prompt.text or "giraffe" in prompt.text else judged(prompt)

    judge = qualify(replace(good, judge=sometimes), JUDGE, PAIRS, [])
    assert judge.qualification.invalid == 11
    assert judge.qualification.agreed == len(PAIRS) - 11


@pytest.mark.parametrize(
    ("candidate", "refused"),
    [
        (JUDGE, True),
        (ModelPin(model="judge", base_url="http://elsewhere:1"), True),
        (ModelPin(model="another name", base_url=JUDGE.base_url), True),
        (CANDIDATE, False),
        (ModelPin(model="judge", base_url=JUDGE.base_url, artefact_sha256="b" * 64), False),
        (ModelPin(model="renamed", base_url="http://elsewhere:1", artefact_sha256="a" * 64), True),
    ],
)
def test_a_judge_that_may_be_a_candidate_is_refused(candidate: ModelPin, refused: bool) -> None:
    pin = JUDGE.model_copy(update={"artefact_sha256": "a" * 64})
    if not refused:
        assert qualify(a_judge(), pin, PAIRS, [candidate]).pin == pin
        return
    with pytest.raises(JudgeRefused, match="is one of the candidates"):
        qualify(a_judge(), pin, PAIRS, [candidate])


@pytest.mark.parametrize("pairs", [PAIRS[:5], [p for p in PAIRS if p.right], [p for p in PAIRS if not p.right], []])
def test_too_few_pairs_or_one_label_only_qualify_nobody(pairs: list[LabelledPair]) -> None:
    with pytest.raises(JudgeRefused, match="labelled pairs"):
        qualify(a_judge(), JUDGE, pairs, [])


def _tier(judging: Callable[[Prompt], str], drafts: Callable[[Prompt], str]) -> Any:
    judge = qualify(a_judge(), JUDGE, PAIRS, [CANDIDATE])
    asked = Player(judge=judging)
    changed = QualifiedJudge(asked, judge.pin, judge.qualification)
    plan = ReasoningPlan(cases_per_kind=2, seeded_per_kind=0, questions=1)
    return measure_reasoning(Player(answer=drafts), GOLDENS, plan, judge=changed), asked


def test_the_judge_is_asked_only_about_what_matching_leaves_open() -> None:
    chosen = GOLDENS.choose(Split.TEST, 2)
    known, unknown = honest(chosen, wrong_every=100).answer, {case.question for case in chosen[1::2]}
    result, asked = _tier(
        lambda prompt: CORRECT, lambda prompt: "Guess." if prompt.question in unknown else known(prompt)
    )
    rows = result.samples.set_index("case_id")
    judged = set(rows.index[rows.decided_by == "judge"])
    assert {prompt.question for prompt, _ in asked.seen} == set(rows.loc[sorted(judged)].question)
    assert judged < set(rows.index)
    assert set(rows.loc[sorted(judged)].final_label) == {"judged_right"}


def test_a_judge_behind_a_server_decides_what_words_leave_open_and_never_sees_a_list() -> None:
    """ "Paris (Lutetia, Parisii)" may be a gloss of one name or three names; a list of four is wrong unasked."""
    case = PARIS_CASE
    judge = qualify(a_judge(), JUDGE, PAIRS, [CANDIDATE])
    with (
        scripted_server(answer(CORRECT)) as server,
        OpenAIChatModel(Endpoint(server.base_url, "judge"), timeout_s=20) as model,
    ):
        served = QualifiedJudge(model, judge.pin, judge.qualification).is_right
        gloss = score_answer(case, "Paris (Lutetia, Parisii).", Label.OK, served)
        assert (gloss.right, gloss.label) == (True, "judged_right")
        listed = score_answer(case, "Nice, Paris, Metz and Lille.", Label.OK, served)
        assert (listed.right, listed.label) == (False, "hedged")
        assert len(server.requests) == 1


PARIS_CASE = next(case for case in GOLDENS.cases if "Paris" in getattr(case.answer, "accept", ()))
HEDGES = (
    "{} or {}", "Either {} or {}.", "Probably {}, possibly {}", "It is {} or {}.", "{} / {}", "Perhaps {}; perhaps {}.",
    "It could be {} or it could be {}.", "I'd say {}, but some say {}.", "It is {}. It is {}.", "{} (or {})",
    "It may be {}, alternatively {}.", "Not sure: {} or {}", "Some say {}, others say {}.",
)  # fmt: skip


def _judged_by_anything(texts: Sequence[str], cases: Sequence[GoldenCase]) -> tuple[list[Score], int]:
    """The scores of every text on every case under a served judge that calls everything correct, and its calls."""
    judge = qualify(a_judge(), JUDGE, PAIRS, [CANDIDATE])
    with (
        scripted_server(answer(CORRECT)) as server,
        OpenAIChatModel(Endpoint(server.base_url, "judge"), timeout_s=20) as model,
    ):
        served = QualifiedJudge(model, judge.pin, judge.qualification).is_right
        scores = [score_answer(case, text, Label.OK, served) for case in cases for text in texts]
        return scores, len(server.requests)


def test_a_judge_is_asked_about_a_hedge_that_names_the_gold_first() -> None:
    scores, calls = _judged_by_anything(["The capital is Paris, though some say Nice."], [PARIS_CASE])
    assert (scores[0].right, scores[0].label, calls) == (True, "judged_right", 1)
    assert score_answer(PARIS_CASE, "The capital is Paris, though some say Nice.", Label.OK).label == "hedged"


def test_no_judge_however_lenient_pays_a_hedge_for_its_second_name() -> None:
    """So hedging gets no more from a judge than committing to the first name would have got without one."""
    scores, calls = _judged_by_anything([hedge.format("Nice", "Paris") for hedge in HEDGES], [PARIS_CASE])
    assert {score.label for score in scores} == {"hedged"}
    assert calls == 0


def test_no_judge_is_asked_about_a_list_of_words_and_a_constant_one_passes_no_case() -> None:
    cases = GOLDENS.choose(Split.TEST)
    nouns = list(dict.fromkeys(case.answer.shown() for case in cases))[:35]
    separators = (" ", ", ", " and ", "; ", "\n", ". ", " - ", " / ", " of ")
    scores, calls = _judged_by_anything([separator.join(nouns) for separator in separators], cases)
    assert not any(score.right for score in scores)
    assert calls == 0


def test_the_judge_sees_no_alias_only_the_gold_and_the_answer() -> None:
    _, asked = _tier(lambda prompt: INCORRECT, lambda prompt: "Something else entirely.")
    assert asked.seen
    assert all("<<<Something else entirely.>>>" in prompt.text for prompt, _ in asked.seen)


def test_an_invalid_opinion_is_a_label_of_its_own_and_wrong() -> None:
    result, _ = _tier(lambda prompt: "well", lambda prompt: "Something else entirely.")
    assert "judge_invalid" in set(result.samples.final_label)
    assert result.metric("cove_pass_rate").value == 0.0


def test_provenance_says_who_judged_and_how_well() -> None:
    result, _ = _tier(lambda prompt: INCORRECT, lambda prompt: "Something else entirely.")
    assert result.provenance["judge"]["pin"]["model"] == "judge"
    assert result.provenance["judge"]["kappa"] == 1.0


def test_over_http_the_judge_is_constrained_by_the_schema() -> None:
    with (
        scripted_server(handler(a_judge())) as server,
        OpenAIChatModel(Endpoint(server.base_url, "judge"), timeout_s=20) as model,
    ):
        qualify(model, JUDGE, PAIRS, [CANDIDATE])
    sent = server.requests[0]
    assert sent["response_format"]["json_schema"]["schema"] == SCHEMA
    assert sent["temperature"] == 0


def test_a_server_that_rambles_past_the_schema_is_refused() -> None:
    with (
        scripted_server(answer('{"verdict": "correct"} because', finish_reason="length")) as server,
        OpenAIChatModel(Endpoint(server.base_url, "judge"), timeout_s=20) as model,
        pytest.raises(JudgeRefused),
    ):
        qualify(model, JUDGE, PAIRS, [CANDIDATE])


def test_a_repeated_pair_id_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cases.jsonl").write_text(GOLDENS.cases[0].model_dump_json())
    (tmp_path / "dataset.json").write_text('{"name": "mine", "version": "1", "licence": "CC0-1.0"}')
    pair = json.dumps(PAIRS[0].model_dump())
    (tmp_path / "judge_pairs.jsonl").write_text(f"{pair}\n{pair}\n")
    with pytest.raises(Exception, match="pair id"):
        load_from(tmp_path)
