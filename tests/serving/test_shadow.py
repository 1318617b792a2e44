"""Recorded requests are asked of a challenger and the incumbent while nobody asks, one model in memory at a time."""

from __future__ import annotations

import stat
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from milton_assets.edge.canary.folder import CanaryFolder, canaries_of
from milton_assets.edge.canary.plan import Margins, Recording
from milton_assets.edge.canary.recording import patterns, redacted
from milton_assets.edge.canary.records import Paired
from milton_assets.edge.canary.starting import CanaryRequest, start_canary, told_of
from milton_assets.edge.canary.verdict import Outcome
from milton_assets.edge.deployment.capacity import Memory
from milton_assets.edge.serving.supervisor import Mode
from milton_assets.vocabulary.errors import BadInput
from tests.support.crashing import clock
from tests.support.scripted_server import Reply, Status, answer
from tests.support.served_target import Place, Scripts, ServedTarget, served, wait_for

WIDE = Margins(failures=0.4, errors=0.4, slower=20, longer=4)
TOLD = "Write to ada@example.org or +44 20 7946 0958, the key is sk-live-0123456789abcdef, Project Heron."


class Field:
    """A target that serves `old`, with a shadow of `new`; each answer of `old` says how many there were."""

    def __init__(self, root: Path, new: Any = None) -> None:
        self.place = Place(root)
        self.scripts = Scripts({"old": answer("old says", " so"), "new": new or answer("new says", " so")})
        self.place.deploy("old")

    def start(self, **recording: Any) -> None:
        asked = CanaryRequest(actor="ada", margins=WIDE, recording=Recording.model_validate(recording))
        bundle = self.place.bundle("new", ram_bytes=1 << 30)
        start_canary(bundle, self.place.target, asked, now=clock, memory=lambda: Memory(2 << 30, 1 << 20))

    @property
    def folder(self) -> CanaryFolder:
        return canaries_of(self.place.path)[-1]

    @property
    def recorded(self) -> int:
        return self.folder.recorder().requests

    def pairs(self) -> list[Paired]:
        return [record for record in self.folder.records() if isinstance(record, Paired)]


def ask(gateway: ServedTarget, times: int) -> set[str]:
    """Ask so often; which versions answered."""
    body = {"model": "any", "user": "somebody-by-name", "messages": [{"role": "user", "content": TOLD}], "stream": True}
    answers = [httpx.post(gateway.chat, json=body, timeout=60) for _ in range(times)]
    assert {one.status_code for one in answers} == {200}
    return {one.headers["x-milton-model-version"] for one in answers}


def recording(field: Field, gateway: ServedTarget) -> None:
    wait_for(lambda: any("are recorded" in event.said for event in gateway.events))


def test_requests_are_recorded_encrypted_and_without_what_must_not_be_kept(tmp_path: Path) -> None:
    field = Field(tmp_path)
    with served(field.place, field.scripts, mode=Mode.ONE) as gateway:
        field.start(requests=10, redact=["Project [A-Z][a-z]+"])
        recording(field, gateway)
        ask(gateway, 12)
        assert field.recorded == 10
        kept = b"".join(path.read_bytes() for path in field.folder.path.iterdir() if path.is_file())
        assert not [word for word in (b"Write to", b"example", b"messages", b"somebody-by-name") if word in kept]
        assert stat.S_IMODE((field.folder.path / "key").stat().st_mode) == 0o600
        assert field.folder.recorder().read([0, 9])[9] == {
            "messages": [{"role": "user", "content": "Write to *** or ***, the key is ***, ***."}]
        }


def test_what_was_changed_or_moved_in_a_recording_is_not_asked(tmp_path: Path) -> None:
    field = Field(tmp_path)
    field.start(requests=10)
    for number in range(2):
        field.folder.recorder().add({"messages": [{"role": "user", "content": str(number)}]})
    path = field.folder.path / "requests"
    first, second, _ = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([second, first, b""]))
    with pytest.raises(BadInput, match="not what was recorded"):
        field.folder.recorder().read([0])


def test_a_challenger_that_does_as_well_is_promoted_and_no_user_ever_meets_it(tmp_path: Path) -> None:
    field = Field(tmp_path)
    with served(field.place, field.scripts, mode=Mode.ONE, shadow_idle_s=0.2) as gateway:
        field.start(requests=30)
        recording(field, gateway)
        assert ask(gateway, 30) == {"old"}
        wait_for(lambda: field.folder.is_over, 40)
        assert ask(gateway, 3) == {"old"}
    told = told_of(field.place.path)
    assert told.verdict is not None and told.verdict.outcome is Outcome.PROMOTE, told.judgement
    assert field.scripts.most == 1, "memory holds one"
    pairs = field.pairs()
    assert len({pair.number for pair in pairs}) == len(pairs) >= 5
    assert told.counts.answers_differ == len(pairs)
    assert not (field.folder.path / "requests").exists() and not (field.folder.path / "key").exists()


def test_a_challenger_that_fails_recorded_requests_goes_back(tmp_path: Path) -> None:
    field = Field(tmp_path, new=Status(500))
    with served(field.place, field.scripts, mode=Mode.ONE, shadow_idle_s=0.2) as gateway:
        field.start(requests=20)
        recording(field, gateway)
        ask(gateway, 20)
        wait_for(lambda: field.folder.is_over, 40)
        assert ask(gateway, 2) == {"old"}
    verdict = told_of(field.place.path).verdict
    assert verdict is not None and verdict.outcome is Outcome.GO_BACK and verdict.fact is None
    assert verdict.counts.one_failed.within == 0 < verdict.counts.one_failed.beyond


def test_a_user_who_comes_while_the_challenger_has_the_memory_is_answered_by_the_incumbent(tmp_path: Path) -> None:
    def slowly(_: dict[str, Any]) -> Reply:
        time.sleep(0.5)
        return answer("new says", " so")

    field = Field(tmp_path, new=slowly)
    with served(field.place, field.scripts, mode=Mode.ONE, shadow_idle_s=0.2) as gateway:
        field.start(requests=10)
        recording(field, gateway)
        ask(gateway, 10)
        wait_for(lambda: field.scripts.running.get("new"), 40)
        began = time.monotonic()
        assert ask(gateway, 1) == {"old"}
        assert time.monotonic() - began < 4, "ten slow answers take five seconds, and the batch is given up"
        assert not field.pairs() and not field.folder.is_over


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("mail a.b+c@mail.example.com now", "mail *** now"),
        ("call (020) 7946-0958 today", "call *** today"),
        ("card 4111 1111 1111 1111.", "card ***."),
        ("Authorization: Bearer abc.def", "Authorization: ***"),
        ("token ghp_abcdefghijkl1234", "token ***"),
        ("in 2026 we had 15 of them", "in 2026 we had 15 of them"),
        ("an extraordinarilyuncharacteristic word", "an extraordinarilyuncharacteristic word"),
    ],
    ids=["mail", "telephone", "card", "bearer", "token", "small numbers", "long word"],
)
def test_what_looks_private_is_left_out(text: str, kept: str) -> None:
    assert redacted({"messages": [{"content": text}]}, patterns(())) == {"messages": [{"content": kept}]}


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(BadInput, match="no regular expression"):
        patterns(["(unclosed"])
