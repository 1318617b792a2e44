"""Many targets asked at once: the answers are each one's own, and one that never answers holds up nobody."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from milton_assets.fleet.many import NoAnswer, ask_each
from milton_assets.fleet.target import Target
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.state import StateDir
from tests.support.edge_bundles import make_bundle
from tests.support.shell import milton
from tests.support.targets import let_serve, targets_of


@pytest.fixture
def many(tmp_path: Path) -> list[Target]:
    targets = targets_of(StateDir(tmp_path / "state"))
    return [targets.named(f"d{number:03}") for number in range(100)]


def test_answers_come_in_the_order_of_the_targets(many: list[Target]) -> None:
    assert ask_each(many, lambda target: target.name, within_s=None) == [target.name for target in many]


def test_one_that_never_answers_holds_up_nobody(many: list[Target]) -> None:
    never = threading.Event()

    def ask(target: Target) -> str:
        if target.name == "d000":
            never.wait()
        return target.name

    answers = ask_each(many, ask, within_s=0.5, at_once=4)
    assert isinstance(answers[0], NoAnswer)
    assert "d000 did not answer within 0.5 s" in str(answers[0])
    assert answers[1:] == [target.name for target in many[1:]]
    never.set()


def test_no_more_are_asked_at_once_than_said(many: list[Target]) -> None:
    lock, asking, most = threading.Lock(), 0, 0

    def ask(target: Target) -> None:
        nonlocal asking, most
        with lock:
            asking += 1
            most = max(most, asking)
        threading.Event().wait(0.002)
        with lock:
            asking -= 1

    ask_each(many, ask, within_s=None, at_once=5)
    assert most == 5


def test_what_a_target_raises_is_its_answer_and_a_fault_of_ours_is_raised(many: list[Target]) -> None:
    def refuse(target: Target) -> None:
        raise BadInput(target.name)

    assert [error.problem for error in ask_each(many[:3], refuse, within_s=None)] == ["d000", "d001", "d002"]
    with pytest.raises(ZeroDivisionError):
        ask_each(many, lambda _: 1 // 0, within_s=None)


@pytest.mark.slow
def test_status_of_all_names_the_one_that_is_not_there_and_tells_of_the_others(state: StateDir, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundles", "v1")
    for name in ("attic", "bath"):
        let_serve(targets_of(state).at(tmp_path / name), bundle)
    (tmp_path / "attic").rename(tmp_path / "unplugged")
    done = milton("status", "--all", "--json")
    assert done.returncode == 1
    assert "attic" in done.stderr
    assert '"model_version": "v1"' in done.stdout
    assert milton("status", "--all", "--target", "local").returncode == 2
