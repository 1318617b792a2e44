"""A deployment changes what a served target answers with, and no user's request fails for it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from milton_assets.edge.deployment import rollback
from milton_assets.edge.deployment.capacity import Memory
from milton_assets.edge.manifest import HealthContract, Probe
from milton_assets.edge.serving.health_journal import EventKind
from milton_assets.edge.serving.http1 import Limits
from milton_assets.edge.serving.supervisor import Mode
from milton_assets.vocabulary.server import ServingSettings
from tests.support.crashing import clock
from tests.support.scripted_server import Status, answer
from tests.support.served_target import CONTRACT, Place, Scripts, ServedTarget, served, wait_for

QUESTION = {"model": "any", "messages": [{"role": "user", "content": "Hello?"}]}
STREAMED = QUESTION | {"stream": True}
SLOWLY = {"delay_s": 0.02, "first_delay_s": 0.02}


def said(gateway: ServedTarget, **options: object) -> str:
    response = httpx.post(gateway.chat, json=QUESTION, timeout=30, **options)
    assert response.status_code == 200, response.text
    return str(response.json()["choices"][0]["message"]["content"])


def test_what_is_deployed_is_what_answers(tmp_path: Path) -> None:
    place, launcher = Place(tmp_path), Scripts()
    with served(place, launcher) as gateway:
        gateway_waits = ThreadPoolExecutor(1).submit(said, gateway)
        place.deploy("v1")
        assert gateway_waits.result(20) == "v1"
        gateway.serves(place.deploy("v2"))
        assert said(gateway) == "v2"
        rollback(place.target, actor="ada", now=clock)
        wait_for(lambda: said(gateway) == "v1")
        assert launcher.started == ["v1", "v2", "v1"]


@dataclass
class Load:
    """Users who ask without pause, half of them for streams. `failed` says what went wrong, `seen` who answered."""

    failed: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    def ask(self, gateway: ServedTarget, stop: threading.Event, number: int) -> None:
        with httpx.Client(timeout=60) as client:
            while not stop.is_set():
                try:
                    response = client.post(gateway.chat, json=STREAMED if number % 2 else QUESTION)
                    is_whole = response.text.rstrip().endswith(("[DONE]", "}"))
                    if response.status_code != 200 or not is_whole:
                        self.failed.append(f"{response.status_code} {response.text[-200:]}")
                    self.seen.append(response.headers["x-milton-model-version"])
                except httpx.HTTPError as error:
                    self.failed.append(repr(error))


@contextmanager
def under_load(gateway: ServedTarget, users: int) -> Iterator[Load]:
    load, stop = Load(), threading.Event()
    threads = [threading.Thread(target=load.ask, args=(gateway, stop, number)) for number in range(users)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)


@pytest.mark.parametrize("mode", [Mode.TWO, Mode.ONE])
def test_no_request_fails_and_no_stream_is_cut_over_swaps_under_load(tmp_path: Path, mode: Mode) -> None:
    place = Place(tmp_path)
    versions = [f"v{number}" for number in range(1, 9)]
    launcher = Scripts({v: answer(*f"{v} says so".split(), **SLOWLY) for v in versions}, load_s=0.1)
    with served(place, launcher, mode=mode) as gateway, under_load(gateway, users=6) as load:
        for version in versions:
            gateway.serves(place.deploy(version))
            time.sleep(0.1)
    assert load.failed == []
    assert set(load.seen) == set(versions)
    assert len(load.seen) > 50


def test_with_memory_for_one_there_is_never_a_second_model(tmp_path: Path) -> None:
    place, launcher = Place(tmp_path), Scripts(load_s=0.05)
    place.deploy("v1")
    with served(place, launcher, mode=Mode.ONE) as gateway:
        for version in ("v2", "v3", "v4"):
            gateway.serves(place.deploy(version))
    assert launcher.most == 1


def test_with_memory_for_two_requests_do_not_wait_for_the_new_model(tmp_path: Path) -> None:
    place, launcher = Place(tmp_path), Scripts()
    gateway_release = place.deploy("v1")
    with served(place, launcher) as gateway:
        gateway.serves(gateway_release)
        launcher.load_s = 1.0
        release = place.deploy("v2")
        wait_for(lambda: launcher.started == ["v1", "v2"])
        began = time.monotonic()
        assert said(gateway) == "v1"
        assert time.monotonic() - began < 0.7
        gateway.serves(release)
        assert said(gateway) == "v2"
    assert [event.figures["held_s"] for event in gateway.events if event.kind is EventKind.SWAPPED][1] == 0.0


def test_a_stream_that_began_on_the_old_model_ends_on_it(tmp_path: Path) -> None:
    place = Place(tmp_path)
    pieces = [f"word{n} " for n in range(30)]
    launcher = Scripts({"v1": answer(*pieces, delay_s=0.05)})
    release = place.deploy("v1")
    with served(place, launcher) as gateway:
        gateway.serves(release)
        with httpx.stream("POST", gateway.chat, json=STREAMED, timeout=30) as response:
            lines = response.iter_lines()
            next(lines)
            gateway.serves(place.deploy("v2"))
            assert launcher.running["v1"]
            rest = list(lines)
        assert rest[-2:] == ["data: [DONE]", ""] or rest[-1] == "data: [DONE]"
        assert sum("word" in line for line in rest) == 30
        wait_for(lambda: not launcher.running["v1"])


def test_a_held_request_is_answered_when_the_new_model_is_there(tmp_path: Path) -> None:
    place, launcher = Place(tmp_path), Scripts()
    release = place.deploy("v1")
    with served(place, launcher, mode=Mode.ONE) as gateway:
        gateway.serves(release)
        launcher.load_s = 0.5
        place.deploy("v2")
        wait_for(lambda: launcher.started == ["v1", "v2"])
        assert said(gateway) == "v2"


def test_a_request_is_held_no_longer_than_the_limit(tmp_path: Path) -> None:
    place, launcher = Place(tmp_path), Scripts()
    release = place.deploy("v1")
    with served(place, launcher, mode=Mode.ONE, limits=Limits(hold_s=0.3)) as gateway:
        gateway.serves(release)
        launcher.load_s = 2.0
        place.deploy("v2")
        wait_for(lambda: launcher.started == ["v1", "v2"])
        response = httpx.post(gateway.chat, json=QUESTION)
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) > 0
        assert response.json()["error"]["type"] == "server_error"


def test_no_more_requests_are_held_than_the_limit(tmp_path: Path) -> None:
    with served(Place(tmp_path), Scripts(), limits=Limits(held=2, hold_s=1.0)) as gateway:
        with ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(httpx.post, gateway.chat, json=QUESTION) for _ in range(2)]
            wait_for(lambda: gateway.supervisor.held == 2)
            began = time.monotonic()
            assert httpx.post(gateway.chat, json=QUESTION).status_code == 503
            assert time.monotonic() - began < 0.8
        assert [done.result().status_code for done in waiting] == [503, 503]
        assert "nothing is deployed here yet" in waiting[0].result().text


def test_a_user_who_leaves_while_held_is_forgotten(tmp_path: Path) -> None:
    with served(Place(tmp_path), Scripts()) as gateway:
        with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
            connection.sendall(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n")
            wait_for(lambda: gateway.supervisor.held == 1)
        wait_for(lambda: gateway.supervisor.held == 0)


def test_a_release_that_does_not_come_up_leaves_the_old_one_answering(tmp_path: Path) -> None:
    place, launcher = Place(tmp_path), Scripts(broken={"v2"})
    first = place.deploy("v1")
    with served(place, launcher) as gateway:
        gateway.serves(first)
        place.deploy("v2")
        wait_for(lambda: EventKind.NOT_SERVED in gateway.kinds())
        assert said(gateway) == "v1"
        assert "v2 cannot be loaded" in str(gateway.supervisor.problem)


def test_a_release_that_answers_no_question_gets_no_requests(tmp_path: Path) -> None:
    place = Place(tmp_path)
    dumb = HealthContract(probes=(Probe(prompt="Anything?"),))
    launcher = Scripts({"v2": lambda _: Status(500)})
    gateway_release = place.deploy("v1")
    with served(place, launcher) as gateway:
        gateway.serves(gateway_release)
        place.deploy("v2", health=dumb)
        wait_for(lambda: EventKind.NOT_SERVED in gateway.kinds())
        assert said(gateway) == "v1"


def test_going_back_while_the_new_model_loads_does_not_wait_for_it(tmp_path: Path) -> None:
    place, launcher = Place(tmp_path), Scripts()
    first = place.deploy("v1")
    with served(place, launcher) as gateway:
        gateway.serves(first)
        launcher.load_s = 3.0
        place.deploy("v2")
        wait_for(lambda: launcher.started == ["v1", "v2"])
        rollback(place.target, actor="ada", now=clock)
        began = time.monotonic()
        assert said(gateway) == "v1"
        assert time.monotonic() - began < 2.0
        time.sleep(0.2)
        launcher.load_s = 0.0
        gateway.serves(place.deploy("v3"), within_s=2.0)


def test_a_model_server_that_died_is_started_again_and_requests_wait_for_it(tmp_path: Path) -> None:
    place, launcher = Place(tmp_path), Scripts()
    release = place.deploy("v1")
    with served(place, launcher) as gateway:
        gateway.serves(release)
        launcher.die("v1")
        assert said(gateway) == "v1"
        assert launcher.started == ["v1", "v1"]
        assert EventKind.SERVER_DIED in gateway.kinds()
        assert gateway.supervisor.restarts == 1


def test_a_server_that_dies_while_nobody_asks_is_started_again(tmp_path: Path) -> None:
    place, launcher = Place(tmp_path), Scripts()
    release = place.deploy("v1")
    with served(place, launcher) as gateway:
        gateway.serves(release)
        launcher.die("v1")
        wait_for(lambda: launcher.started == ["v1", "v1"])


def test_a_server_that_keeps_dying_is_started_ever_less_often(tmp_path: Path) -> None:
    place, launcher = Place(tmp_path), Scripts(broken={"v1"})
    place.deploy("v1")
    with served(place, launcher, limits=Limits(hold_s=0.2)):
        time.sleep(2.0)
        assert 2 <= len(launcher.started) <= 4


@pytest.mark.parametrize(
    ("available", "needed", "most"), [(10, 5, 2), (10, 11, 1), (10, 0, 1)], ids=["fits", "does-not-fit", "not-told"]
)
def test_auto_starts_a_second_model_where_the_memory_is_there(
    tmp_path: Path, available: int, needed: int, most: int
) -> None:
    place, launcher = Place(tmp_path), Scripts(load_s=0.05)
    first = place.deploy("v1", ram_bytes=0)
    with served(place, launcher, mode=Mode.AUTO, memory=lambda: Memory(100, available)) as gateway:
        gateway.serves(first)
        gateway.serves(place.deploy("v2", ram_bytes=needed))
    assert launcher.most == most


def test_a_release_is_served_as_it_was_measured(tmp_path: Path) -> None:
    place, launcher = Place(tmp_path), Scripts()
    settings = ServingSettings(context_tokens=512, slots=3, threads=2)
    release = place.deploy("v1", health=CONTRACT.model_copy(update={"served_with": settings}))
    with served(place, launcher) as gateway:
        gateway.serves(release)
    assert launcher.settings == [settings]
