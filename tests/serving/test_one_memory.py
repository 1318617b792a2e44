"""With memory for one model a release is tried in the memory of the one that serves: never two, and loaded once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from milton_assets.edge.deployment import DeploymentFailed, HealthWindow, ServedLoadTest, deploy, rollback
from milton_assets.edge.deployment.borrowing import borrowed, lendable_bytes, to_borrow_for
from milton_assets.edge.deployment.capacity import Memory, NotEnoughMemory, check_memory
from milton_assets.edge.manifest import HealthContract, Probe
from milton_assets.edge.serving.supervisor import Mode
from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.server import ServingSettings
from resources.servers.client import OpenAIChatModel
from tests.serving.test_swap import QUESTION, Load, said
from tests.support.crashing import clock
from tests.support.served_target import CONTRACT, Place, Scripts, served, wait_for


def probe(place: Place, beside: Scripts | None = None) -> ServedLoadTest:
    """A load test that may borrow; `beside` is what it would serve with, where there is room."""
    return ServedLoadTest(beside or Scripts(), OpenAIChatModel, pause_s=0.01, target=place.path)


def put(place: Place, version: str, test: ServedLoadTest, *, rounds: int = 2, health: HealthContract = CONTRACT):
    window = HealthWindow(test, rounds, 0.05, detached=False)
    return deploy(place.bundle(version, health), place.target, load_test=test, health=window, actor="ada", now=clock)


def test_a_release_is_tried_and_watched_with_one_load_and_never_beside_another(tmp_path: Path) -> None:
    place, launcher, beside = Place(tmp_path), Scripts(load_s=0.3), Scripts()
    first = place.deploy("v1")
    load, stop = Load(), threading.Event()
    with served(place, launcher, mode=Mode.ONE) as gateway, ThreadPoolExecutor(2) as users:
        gateway.serves(first)
        asking = [users.submit(load.ask, gateway, stop, number) for number in range(2)]
        wait_for(lambda: load.seen)
        done = put(place, "v2", probe(place, beside))
        wait_for(lambda: load.seen[-1:] == ["v2"])
        stop.set()
        [one.result(20) for one in asking]
        back = rollback(place.target, actor="ada", now=clock, load_test=probe(place, beside))
        assert said(gateway) == "v1"
    assert (done.outcome, back.outcome) == ("committed", "committed")
    assert (launcher.started, launcher.most, beside.started) == (["v1", "v2", "v1"], 1, [])
    assert load.failed == []
    assert {*load.seen} == {"v1", "v2"}


def test_users_get_no_answer_of_a_release_that_is_being_tried(tmp_path: Path) -> None:
    place, launcher = Place(tmp_path), Scripts()
    first = place.deploy("v1")
    with served(place, launcher, mode=Mode.ONE) as gateway, ThreadPoolExecutor(1) as user:
        gateway.serves(first)
        with borrowed(place.path, place.bundle("v2").resolve()) as lent:
            waiting = user.submit(said, gateway)
            answered = httpx.post(f"{lent.base_url}/v1/chat/completions", json=QUESTION, timeout=20).json()
            assert answered["choices"][0]["message"]["content"] == "v2"
            wait_for(lambda: gateway.supervisor.held == 1)
            assert gateway.supervisor.problem == "another release is being tried in its memory"
        assert waiting.result(20) == "v1"  # it did not become current
        assert gateway.supervisor.problem is None
    assert launcher.started == ["v1", "v2", "v1"]


def test_a_release_that_answers_otherwise_leaves_the_one_before_in_service(tmp_path: Path) -> None:
    place, launcher = Place(tmp_path), Scripts()
    first = place.deploy("v1")
    promise = HealthContract(probes=(Probe(prompt="Say hello.", max_tokens=8, answer_sha256=sha256_bytes(b"hello")),))
    with served(place, launcher, mode=Mode.ONE) as gateway:
        gateway.serves(first)
        with pytest.raises(DeploymentFailed, match="probe 1 was answered 'v2'"):
            put(place, "v2", probe(place), health=promise)
        assert said(gateway) == "v1"
    assert (launcher.started, launcher.most) == (["v1", "v2", "v1"], 1)


def test_a_release_that_does_not_load_is_told_and_the_one_before_serves(tmp_path: Path) -> None:
    place, launcher = Place(tmp_path), Scripts(broken={"v2"})
    first = place.deploy("v1")
    with served(place, launcher, mode=Mode.ONE) as gateway:
        gateway.serves(first)
        with pytest.raises(DeploymentFailed, match="v2 cannot be loaded"):
            put(place, "v2", probe(place))
        assert said(gateway) == "v1"


def test_what_is_served_otherwise_than_it_was_measured_is_tried_as_it_was_measured(tmp_path: Path) -> None:
    place, launcher = Place(tmp_path), Scripts()
    measured = CONTRACT.model_copy(update={"served_with": ServingSettings(context_tokens=512, slots=1)})
    first = place.deploy("v0")
    with served(place, launcher, mode=Mode.ONE, slots=4) as gateway:
        gateway.serves(first)
        put(place, "v1", probe(place), rounds=1, health=measured)
        assert said(gateway) == "v1"
    assert launcher.most == 1
    assert [settings.slots for settings in launcher.settings][-1] == 4
    assert 1 in [settings.slots for settings in launcher.settings]


def test_where_there_is_room_or_nobody_serves_it_is_tried_beside(tmp_path: Path) -> None:
    place = Place(tmp_path)
    folder = place.path / "releases" / place.deploy("v1", ram_bytes=100)
    artefact = next(folder.glob("model/*"))
    assert to_borrow_for(place.path, artefact, Memory(1000, 0)) is None
    for mode, available, borrows in ((Mode.AUTO, 100, False), (Mode.AUTO, 99, True), (Mode.ONE, 100, True)):
        with served(place, Scripts(), mode=mode) as gateway:
            wait_for(lambda: gateway.supervisor.serving)
            wait_for(lambda: (place.path / "gateway.json").exists())
            found = to_borrow_for(place.path, artefact, Memory(1000, available))
            assert found == (folder.resolve() if borrows else None), (mode, available)


def test_what_would_be_lent_is_memory_that_ends_with_the_processes_below_the_gateway() -> None:
    code = "held = b'x' * (64 << 20); print(flush=True); input()"
    with psutil.Popen(["python3", "-c", code], stdin=-1, stdout=-1) as child:
        child.stdout.readline()
        assert lendable_bytes(psutil.Process().pid) >= 64 << 20
        child.stdin.close()
    check_memory(Memory(10 << 30, 1 << 30, 2 << 30), 3 << 30, will_load=True)
    with pytest.raises(NotEnoughMemory, match=r"3,072 MiB of memory available \(2,048 MiB of it lent by what serves\)"):
        check_memory(Memory(10 << 30, 1 << 30, 2 << 30), 4 << 30, will_load=True)
