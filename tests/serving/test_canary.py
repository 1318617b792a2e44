"""A gateway splits requests between two releases, sends the worse one back by itself, and fails no user for it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from milton_assets.edge.canary.folder import CanaryFolder, canaries_of, running_canary
from milton_assets.edge.canary.plan import Arm, CanaryPlan, Margins, check_canary_id
from milton_assets.edge.canary.records import Asked
from milton_assets.edge.canary.starting import (
    CanaryRequest,
    CanaryTold,
    WholeRequest,
    mint_canary,
    start_canary,
    stop_canary,
    told_of,
    watch_whole,
)
from milton_assets.edge.canary.verdict import Outcome
from milton_assets.edge.deployment.capacity import Memory, NotEnoughMemory
from milton_assets.edge.serving.health_journal import EventKind
from milton_assets.edge.serving.released import current_digest
from milton_assets.vocabulary.errors import BadInput
from tests.support.crashing import clock
from tests.support.scripted_server import Reply, Status, answer
from tests.support.served_target import Place, Scripts, ServedTarget, served, wait_for

SECRET = "the user's own words"
QUESTION = {"model": "any", "messages": [{"role": "user", "content": SECRET}], "stream": True}
WIDE = Margins(failures=0.2, errors=0.2, slower=20, longer=4)


class Field:
    """A target that serves `old`, with a canary of `new`."""

    def __init__(self, root: Path, **scripts: Reply | str | Callable[[dict[str, Any]], Reply | str]) -> None:
        self.place = Place(root)
        self.scripts = Scripts({"old": answer("old says", " so"), "new": answer("new says", " so"), **scripts})
        self.place.deploy("old")
        self._root = root

    def start(self, **request: Any) -> CanaryPlan:
        asked = CanaryRequest.model_validate({"actor": "ada", "share": 0.5, "assume_memory": True, **request})
        return start_canary(self.place.bundle("new"), self.place.target, asked, now=clock)

    def served(self, **options: Any) -> AbstractContextManager[ServedTarget]:
        return served(self.place, self.scripts, **options)

    @property
    def folder(self) -> CanaryFolder:
        return canaries_of(self.place.path)[-1]

    @property
    def told(self) -> CanaryTold:
        return told_of(self.place.path)

    def asked(self) -> list[Asked]:
        return [record for record in self.folder.records() if isinstance(record, Asked)]


def split(gateway: ServedTarget) -> None:
    wait_for(lambda: gateway.splitter.splits is not None)


def ask(gateway: ServedTarget, times: int, *, users: int = 4, headers: dict[str, str] | None = None) -> list[str]:
    """Ask so often; which version answered each. Fails when a request does."""

    def one(_: int) -> str:
        response = client.post(gateway.chat, json=QUESTION, headers=headers)
        assert response.status_code == 200, response.text
        assert response.text.rstrip().endswith("[DONE]")
        return response.headers["x-milton-model-version"]

    with httpx.Client(timeout=60) as client, ThreadPoolExecutor(users) as pool:
        return list(pool.map(one, range(times)))


def test_requests_are_split_as_the_recorded_seed_says_and_their_figures_are_kept_but_no_text(tmp_path: Path) -> None:
    field = Field(tmp_path)
    with field.served() as gateway:
        plan = field.start(share=0.3)
        split(gateway)
        answered = Counter(ask(gateway, 60))
        wait_for(lambda: len(field.asked()) == 60)  # a record follows its answer
    asked = field.asked()
    assert answered == Counter({"new": answered["new"], "old": 60 - answered["new"]})
    assert 5 <= answered["new"] <= 35
    assert sorted(one.number for one in asked) == list(range(60))
    assert all(one.arm is plan.draw(str(one.number)) for one in asked)
    assert sum(one.arm is Arm.CHALLENGER for one in asked) == answered["new"]
    assert all(one.status == 200 and one.first_token_s and one.duration_s >= one.first_token_s for one in asked)
    kept = b"".join(path.read_bytes() for path in field.folder.path.iterdir() if path.is_file())
    assert SECRET.encode() not in kept and b"says" not in kept


def test_a_header_keeps_its_value_on_one_arm_and_counts_once_in_rates(tmp_path: Path) -> None:
    field = Field(tmp_path)
    with field.served() as gateway:
        field.start(sticky_header="x-user")
        split(gateway)
        arms = {user: set(ask(gateway, 4, headers={"X-User": f"user {user}"})) for user in range(12)}
        wait_for(lambda: len(field.asked()) == 48)
    assert all(len(versions) == 1 for versions in arms.values())
    assert {"old", "new"} == set().union(*arms.values())
    counts = field.told.counts
    assert counts.challenger.units + counts.incumbent.units == 12
    assert counts.challenger.requests + counts.incumbent.requests == 48
    assert b"user 1" not in field.folder.journal()


def test_a_challenger_that_fails_goes_back_by_itself(tmp_path: Path) -> None:
    field = Field(tmp_path, new=Status(500))
    with field.served() as gateway:
        plan = field.start()
        split(gateway)
        with httpx.Client() as client:
            statuses = [client.post(gateway.chat, json=QUESTION).status_code for _ in range(80)]
        wait_for(lambda: not field.scripts.running["new"])
        assert statuses.count(500) < 20, "it should have been noticed before"
        assert set(statuses[-20:]) == {200}
        told = field.told
        assert told.verdict is not None and told.verdict.outcome is Outcome.GO_BACK and told.verdict.fact is None
        assert told.verdict.canary == plan.id
        assert not field.folder.release.exists()
        assert set(ask(gateway, 5)) == {"old"}
        assert any("is over: go_back" in event.said for event in gateway.events if event.kind is EventKind.CANARY)


def test_a_challenger_that_does_as_well_is_promoted(tmp_path: Path) -> None:
    # Answers that take some time: where they take next to none, a busy machine makes one twenty times the other.
    slowly = {"first_delay_s": 0.01, "delay_s": 0.01}
    field = Field(tmp_path, old=answer("old says", " so", **slowly), new=answer("new says", " so", **slowly))
    with field.served() as gateway:
        field.start(margins=WIDE)
        split(gateway)
        while not field.folder.is_over:
            ask(gateway, 40)
        told = field.told
        assert told.verdict is not None and told.verdict.outcome is Outcome.PROMOTE, told.judgement
        assert told.plan.incumbent == gateway.supervisor.serving.release.digest  # type: ignore[union-attr]


def test_a_challenger_that_dies_costs_no_user_an_answer_and_goes_back(tmp_path: Path) -> None:
    def after_a_while(_: dict[str, Any]) -> Reply:
        time.sleep(0.3)
        return answer("new says", " so")

    field = Field(tmp_path, new=after_a_while)
    with field.served() as gateway, ThreadPoolExecutor(1) as asking:
        # So wide that it is the deaths that send it back, not the evidence of what they cost.
        field.start(margins=WIDE.model_copy(update={"failures": 0.45}), share=0.9)
        for death in range(1, 4):
            split(gateway)
            answers = asking.submit(ask, gateway, 2, users=2)
            # The first was the probe. By chance both may be the incumbent's; then nothing is lost with the challenger.
            wait_for(lambda two=answers: field.scripts.server("new").requests[1:] or two.done())
            field.scripts.die("new")
            assert len(answers.result(30)) == 2
            wait_for(lambda after=death: field.scripts.started.count("new") > after or field.folder.is_over)
        wait_for(lambda: field.folder.is_over)
        told = field.told
        assert told.verdict is not None and told.verdict.outcome is Outcome.GO_BACK
        assert told.verdict.fact == "its server died 3 times"
        assert told.counts.challenger.failed >= 1
        assert any(one.lost and one.status == 200 and one.failed for one in field.asked())
        assert set(ask(gateway, 5)) == {"old"}


def test_a_challenger_that_does_not_come_up_goes_back(tmp_path: Path) -> None:
    field = Field(tmp_path)
    field.scripts.broken.add("new")
    with field.served() as gateway:
        field.start()
        wait_for(lambda: field.folder.is_over)
        assert set(ask(gateway, 4)) == {"old"}
    verdict = field.told.verdict
    assert verdict is not None and verdict.outcome is Outcome.GO_BACK
    assert verdict.fact is not None and "new cannot be loaded" in verdict.fact


def test_a_gateway_that_is_started_again_goes_on_with_the_canary(tmp_path: Path) -> None:
    field = Field(tmp_path)
    with field.served() as gateway:
        field.start(sticky_header="x-user")
        split(gateway)
        before = ask(gateway, 6, headers={"x-user": "bob"}) + ask(gateway, 15)
    first = field.told.counts
    with (tmp_path / "target" / "canary" / field.folder.id / "journal.jsonl").open("ab") as journal:
        journal.write(b'{"torn by a pow')
    with field.served() as gateway:
        split(gateway)
        assert set(ask(gateway, 3, headers={"x-user": "bob"})) == {before[0]}
        ask(gateway, 10)
    both = field.told.counts
    assert first.challenger.requests + first.incumbent.requests == 21
    assert both.challenger.requests + both.incumbent.requests == 34
    assert both.challenger.units + both.incumbent.units == 26
    assert len({one.number for one in field.asked()}) == 34


def test_feedback_counts_for_the_arm_that_answered_and_once(tmp_path: Path) -> None:
    field = Field(tmp_path)
    with field.served() as gateway:
        field.start()
        split(gateway)
        feedback = f"{gateway.base_url}/feedback"
        response = httpx.post(gateway.chat, json=QUESTION)
        given = {"response_id": response.headers["x-milton-response-id"], "value": -1}
        assert httpx.post(feedback, json=given).status_code == 200
        assert httpx.post(feedback, json=given).status_code == 409
        assert httpx.post(feedback, json=given | {"response_id": "0" * 24}).status_code == 404
        for wrong in (given | {"value": 2}, given | {"value": True}, given | {"why": "bad"}, [given], {}):
            assert httpx.post(feedback, json=wrong).status_code == 400
        assert httpx.post(feedback, content=b" " * 2000).status_code == 413
    counts = field.told.counts
    arm = counts.challenger if response.headers["x-milton-model-version"] == "new" else counts.incumbent
    assert (arm.rated, arm.rated_badly) == (1, 1)
    assert counts.challenger.rated + counts.incumbent.rated == 1


def test_a_canary_that_is_stopped_decides_nothing_and_its_challenger_goes(tmp_path: Path) -> None:
    field = Field(tmp_path)
    with field.served() as gateway:
        field.start()
        split(gateway)
        ask(gateway, 10)
        told = stop_canary(field.place.path, actor="ada", now=clock)
        assert told.verdict is not None and told.verdict.outcome is Outcome.NOT_YET
        assert told.verdict.fact == "ada stopped it"
        wait_for(lambda: not field.scripts.running["new"])
        assert set(ask(gateway, 6)) == {"old"}
    assert field.told == told


def test_a_deployment_ends_the_canary_whose_incumbent_it_replaces(tmp_path: Path) -> None:
    field = Field(tmp_path)
    with field.served() as gateway:
        field.start()
        split(gateway)
        gateway.serves(field.place.deploy("newest"))
        wait_for(lambda: field.folder.is_over)
        assert set(ask(gateway, 4)) == {"newest"}
    verdict = field.told.verdict
    assert verdict is not None and verdict.outcome is Outcome.NOT_YET


def test_a_device_that_is_one_arm_as_a_whole_records_what_it_serves_until_it_has_told_enough(tmp_path: Path) -> None:
    field = Field(tmp_path)
    serves = current_digest(field.place.path)
    assert serves is not None
    request = WholeRequest(
        actor="ada", fleet="canary_20260112_093000_000_0a1b2c", arm=Arm.CHALLENGER, challenger=serves,
        challenger_version="old", challenger_manifest_sha256="d" * 64, incumbent="e" * 64, incumbent_version="older",
        share=0.25, requests=12,
    )  # fmt: skip
    with field.served() as gateway:
        watch_whole(field.place.target, request, now=clock)
        split(gateway)
        assert set(ask(gateway, 20)) == {"old"}
        wait_for(lambda: field.folder.is_over)
    told = field.told
    assert told.verdict is not None and told.verdict.fact == "12 requests were recorded"
    assert told.figures is not None and told.figures.requests == told.counts.challenger.requests == 12
    assert told.figures.errors == 0 and told.figures.answer is not None and told.figures.answer > 0
    assert field.scripts.started == ["old"], "nothing is served beside it"


def test_of_two_canaries_that_began_within_one_second_the_later_sorts_last() -> None:
    began = datetime(2026, 1, 11, 14, 25, tzinfo=UTC)
    minted = [mint_canary(began + timedelta(milliseconds=number)) for number in range(60)]
    assert minted == sorted(minted)
    assert [check_canary_id(one) for one in minted] == minted


def test_a_device_that_serves_neither_is_no_arm(tmp_path: Path) -> None:
    field = Field(tmp_path)
    request = WholeRequest(
        actor="ada", fleet="canary_20260112_093000_000_0a1b2c", arm=Arm.INCUMBENT, challenger="c" * 64,
        challenger_version="new", challenger_manifest_sha256="d" * 64, incumbent="e" * 64, incumbent_version="older",
        share=0.25, requests=12,
    )  # fmt: skip
    with pytest.raises(BadInput, match=r"expected: the release eeeeeeeeeeee, as the incumbent"):
        watch_whole(field.place.target, request, now=clock)


def test_records_that_were_changed_after_the_verdict_are_noticed(tmp_path: Path) -> None:
    field = Field(tmp_path)
    with field.served() as gateway:
        field.start()
        split(gateway)
        ask(gateway, 10)
        stop_canary(field.place.path, actor="ada", now=clock)
    journal = field.folder.path / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b'"status":200', b'"status":500', 1))
    with pytest.raises(BadInput, match="not that of the records"):
        told_of(field.place.path)


def test_a_device_without_memory_for_two_refuses_with_figures(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.deploy("old")
    bundle = place.bundle("new", ram_bytes=3 << 30)
    with pytest.raises(NotEnoughMemory, match=r"1,024 MiB of memory available.*needs 3,072 MiB"):
        start_canary(
            bundle, place.target, CanaryRequest(actor="ada"), now=clock, memory=lambda: Memory(8 << 30, 1 << 30)
        )
    assert running_canary(place.path) is None


def test_one_canary_at_a_time_of_another_release_than_the_one_in_service(tmp_path: Path) -> None:
    field = Field(tmp_path)
    request = CanaryRequest(actor="ada", assume_memory=True)
    with pytest.raises(BadInput, match="is what edge serves"):
        start_canary(next((tmp_path / "bundles" / "1").iterdir()), field.place.target, request, now=clock)
    field.start()
    with pytest.raises(BadInput, match="goes on at edge"):
        field.start()
