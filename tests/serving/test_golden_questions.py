"""Where users ask golden questions, the answers of both releases are marked on the device, and compared in pairs."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from milton_assets.edge.canary.counts import Counts, Tally
from milton_assets.edge.canary.folder import canaries_of
from milton_assets.edge.canary.goldens import question_in
from milton_assets.edge.canary.plan import Arm, CanaryPlan, Margins, Recording
from milton_assets.edge.canary.records import Asked, Marked, Rated, Record
from milton_assets.edge.canary.starting import CanaryRequest, CanaryTold, start_canary, told_of
from milton_assets.edge.canary.verdict import Outcome, judge
from milton_assets.edge.serving.supervisor import Mode
from milton_assets.settings import load_settings
from milton_assets.tiers.reasoning import load_goldens
from milton_assets.tiers.reasoning.marking import marks_of, sheet_of
from milton_assets.usecases.golden_questions import golden_sheet
from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.errors import BadInput
from tests.support.canaries import canary_told
from tests.support.crashing import clock
from tests.support.scripted_server import Body, Reply, answer
from tests.support.served_target import Place, Scripts, ServedTarget, served, wait_for

CAPITALS = {"France": "Paris", "Spain": "Madrid", "Italy": "Rome", "Norway": "Oslo"}
WIDE = Margins(failures=0.4, errors=0.4, slower=100, longer=100, wrong=0.4)


def sheet(folder: Path) -> bytes:
    """Four golden questions, as a file of somebody's own gives them."""
    lines = [{"id": country, "question": asking(country), "answer": city} for country, city in CAPITALS.items()]
    path = folder / "own.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return golden_sheet(load_settings({"MILTON_STATE_DIR": str(folder)}), str(path))


def asking(country: str) -> str:
    return f"What is the capital of {country}?"


def knowing(body: dict[str, Any]) -> Reply | str:
    """A model that knows the capitals, and answers as it is asked: streamed, or in one piece."""
    said = f"It is {next(city for country, city in CAPITALS.items() if country in body['messages'][-1]['content'])}."
    return answer(said) if body.get("stream") else Body({"choices": [{"message": {"content": said}}]})


def ignorant(body: dict[str, Any]) -> Reply | str:
    """A model that takes Atlantis for every country."""
    return answer("It is Poseidonis.") if body.get("stream") else Body({"choices": [{"message": {"content": "Ys"}}]})


def ask(gateway: ServedTarget, times: int) -> None:
    """Ask so often, streamed and not."""
    with httpx.Client(timeout=60) as client:
        for number in range(times):
            country = list(CAPITALS)[number % len(CAPITALS)]
            body = {"messages": [{"role": "user", "content": asking(country)}], "stream": number % 3 != 0}
            assert client.post(gateway.chat, json=body).status_code == 200


def told_after(
    root: Path,
    new: Callable[[dict[str, Any]], Reply | str],
    *,
    shadow: bool = False,
) -> CanaryTold:
    """How a canary of `new` beside a model that knows the capitals ends, while users ask for nothing else."""
    place = Place(root)
    place.deploy("old")
    scripts = Scripts({"old": knowing, "new": new})
    mode = Mode.ONE if shadow else Mode.TWO
    request = CanaryRequest(
        actor="ada", share=0.5, margins=WIDE, assume_memory=True, recording=Recording(requests=40) if shadow else None
    )
    with served(place, scripts, mode=mode, shadow_idle_s=0.1) as gateway:
        start_canary(place.bundle("new"), place.target, request, now=clock, goldens=sheet(root))
        folder = canaries_of(place.path)[-1]
        if shadow:
            wait_for(lambda: any("are recorded" in event.said for event in gateway.events))
            ask(gateway, 40)
            wait_for(lambda: folder.is_over, 40)
        else:
            wait_for(lambda: gateway.splitter.splits is not None)
            for _ in range(20):
                ask(gateway, 20)
                if folder.is_over:
                    break
    wait_for(lambda: folder.is_over)
    assert b"capital" not in folder.journal() and b"Paris" not in folder.journal()
    return told_of(place.path)


def test_a_challenger_that_does_not_know_what_the_incumbent_knows_goes_back(tmp_path: Path) -> None:
    told = told_after(tmp_path, ignorant)
    assert told.verdict is not None and told.verdict.outcome is Outcome.GO_BACK and told.verdict.fact is None
    assert told.verdict.reasons == ("more of its answers to golden questions are wrong than of the incumbent's",)
    ours, theirs = told.counts.challenger, told.counts.incumbent
    assert ours.marked > 0 == ours.right and theirs.marked == theirs.right > 0


def test_a_challenger_that_knows_as_much_is_promoted(tmp_path: Path) -> None:
    told = told_after(tmp_path, knowing)
    assert told.verdict is not None and told.verdict.outcome is Outcome.PROMOTE, told.judgement
    assert "its answers to golden questions are right within the margin" in told.verdict.reasons
    assert told.counts.both_right > 0


def test_a_shadow_marks_both_answers_to_the_same_recorded_question(tmp_path: Path) -> None:
    told = told_after(tmp_path, ignorant, shadow=True)
    assert told.verdict is not None and told.verdict.outcome is Outcome.GO_BACK, told.judgement
    assert told.counts.one_wrong.beyond == told.counts.challenger.marked > 0 == told.counts.one_wrong.within


# ---------------------------------------------------------------------------------------------- what is compared


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


TEXT = {"type": "text", "text": asking("France")}
PICTURE = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
GREETING = [user("Hi."), {"role": "assistant", "content": "Hi."}]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"messages": [user(" what is  the capital of FRANCE")]}, "France"),
        ({"messages": [user([TEXT])]}, "France"),
        ({"messages": [{"role": "system", "content": "Be brief."}, user(asking("Italy"))]}, "Italy"),
        ({"messages": [user(asking("France") + " In French.")]}, None),
        ({"messages": [*GREETING, user(asking("France"))]}, None),
        ({"messages": [user(asking("France"))], "response_format": {"type": "json_object"}}, None),
        ({"messages": [user([TEXT, PICTURE])]}, None),
        ({"messages": "What?"}, None),
        ([], None),
    ],
    ids=["otherwise spelled", "as a part", "instructed", "and more", "later", "as JSON", "picture", "text", "list"],
)
def test_a_request_is_compared_when_it_asks_the_question_and_nothing_else(
    tmp_path: Path, body: Any, found: str | None
) -> None:
    assert question_in(marks_of(sheet(tmp_path)), body) == found


def plan(**more: Any) -> CanaryPlan:
    known = canary_told("kitchen", "a" * 64).plan.model_dump()
    return CanaryPlan.model_validate(known | {"goldens": "b" * 64} | more)


def tallied(*records: Record) -> Counts:
    tally = Tally(plan())
    tally.add_all(records)
    return tally.counts()


def asked(number: int, arm: Arm, *, right: bool | None, question: str = "q", turn: int | None, unit: str = "") -> Asked:
    return Asked(
        at=datetime(2026, 1, 12, tzinfo=UTC), number=number, nth=None if turn is None else number, unit=unit or None,
        arm=arm, response=f"{number:024x}", outcome="answered", status=200, duration_s=1.0,
        golden=Marked(question=question, turn=turn, right=right),
    )  # fmt: skip


OURS, THEIRS = Arm.CHALLENGER, Arm.INCUMBENT


def test_a_pair_is_of_one_question_asked_of_both_one_after_the_other() -> None:
    counts = tallied(
        asked(0, OURS, right=False, turn=0),
        asked(1, THEIRS, right=True, question="other", turn=0),
        asked(2, THEIRS, right=True, turn=1),  # with 0
        asked(3, THEIRS, right=False, turn=2),
        asked(4, THEIRS, right=True, turn=3),  # 3 and 4 were asked of one
        asked(5, OURS, right=True, question="other", turn=1),  # with 1
        asked(6, OURS, right=False, turn=None),  # the same user again
    )
    assert (counts.one_wrong.beyond, counts.one_wrong.within, counts.both_right) == (1, 0, 1)
    assert (counts.challenger.marked, counts.challenger.right) == (3, 1)


def test_a_pair_of_which_neither_is_right_or_one_could_not_be_read_says_nothing() -> None:
    counts = tallied(
        asked(0, OURS, right=False, turn=0),
        asked(1, THEIRS, right=False, turn=1),
        asked(2, OURS, right=None, turn=2),
        asked(3, THEIRS, right=True, turn=3),
    )
    assert (counts.one_wrong.beyond, counts.one_wrong.within, counts.both_right) == (0, 0, 0)


def test_golden_questions_that_nobody_asked_are_not_shown_to_be_answered_well() -> None:
    judged = judge(plan(), Counts())
    assert "not shown yet: its answers to golden questions are right within the margin" in judged.reasons
    assert judge(plan(goldens=None), Counts()).reasons == judged.reasons[:-1]


def test_a_user_who_stays_with_one_release_and_likes_nothing_counts_once() -> None:
    user = "0123456789abcdef"
    rated = [
        Rated(at=datetime(2026, 1, 12, tzinfo=UTC), response=f"{n:024x}", unit=user, arm=OURS, value=-1)
        for n in range(30)
    ]
    counts = tallied(*rated)
    assert (counts.challenger.rated_badly, counts.challenger.units_rated_badly) == (30, 1)
    assert judge(plan(), counts).outcome is Outcome.NOT_YET


# ------------------------------------------------------------------------------------------------------ the set


def test_the_set_that_ships_is_marked_on_a_device_as_it_is_by_the_tier(tmp_path: Path) -> None:
    goldens = load_goldens()
    marks = marks_of(golden_sheet(load_settings({"MILTON_STATE_DIR": str(tmp_path)}), "shipped"))
    for case in goldens.cases:
        assert marks.question(case.question) == case.id
        assert marks.is_right(case.id, f"<think>Perhaps {case.wrong[:1]}?</think>{case.answer.shown()}")
        assert not any(marks.is_right(case.id, wrong) for wrong in case.wrong)


def test_a_private_set_does_not_go_to_a_device(tmp_path: Path) -> None:
    sheet(tmp_path)
    (tmp_path / "milton.yaml").write_text("goldens: {reasoning: [{path: own.jsonl, private: true}]}\n")
    with pytest.raises(BadInput, match="is private"):
        golden_sheet(load_settings({"MILTON_STATE_DIR": str(tmp_path)}), str(tmp_path / "own.jsonl"))


def test_golden_questions_that_were_changed_on_the_device_mark_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.deploy("old")
    given = sheet(tmp_path)
    request = CanaryRequest(actor="ada", assume_memory=True)
    begun = start_canary(place.bundle("new"), place.target, request, now=clock, goldens=given)
    folder = canaries_of(place.path)[-1]
    assert begun.goldens == sha256_bytes(given) and folder.goldens(begun) == given
    (folder.path / "goldens.jsonl").write_bytes(given.replace(b"Paris", b"Lyons"))
    with pytest.raises(BadInput, match="does not hold the golden questions"):
        folder.goldens(begun)


def test_the_sheet_keeps_every_kind_of_gold() -> None:
    assert {case.answer.type for case in load_goldens().cases} == {"text", "number", "date", "list", "premise"}
    assert sheet_of(load_goldens()).count(b"\n") == len(load_goldens().cases)
