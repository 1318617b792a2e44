"""A device that serves is watched: what goes wrong is noticed soon, told, and undone where the contract says so."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import httpx
import pytest

from milton_assets.edge.deployment import rollback, status
from milton_assets.edge.manifest import HealthContract, Probe
from milton_assets.edge.serving.health_journal import EventKind, HealthEvent
from milton_assets.edge.serving.signs import Signs, SignsReader
from milton_assets.edge.serving.watch import Schedule
from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.server import ServingSettings
from tests.support.crashing import clock
from tests.support.scripted_server import Reply, answer
from tests.support.served_target import Place, Scripts, ServedTarget, served, wait_for

QUICK = Schedule(every_s=0.2, soon_s=0.05, idle_s=0.1, answer_s=5.0, signs_s=0.1)
"""A hundred and fifty times the pace of the default: what is noticed within 0.4 s here is noticed within 60 s there."""
WORDS = ("the", "capital", "of", "France", "is", "Paris")
TRUE = sha256_bytes("".join(WORDS).encode())


def contract(**changes: object) -> HealthContract:
    return HealthContract(
        probes=(Probe(prompt="What is it?", max_tokens=16, answer_sha256=TRUE),), served_with=ServingSettings()
    ).model_copy(update=changes)


@dataclass
class Model:
    """A model whose health a test decides."""

    words: tuple[str, ...] = WORDS
    delay_s: float = 0.005
    first_s: float = 0.005
    asked: list[float] = field(default_factory=list)

    def __call__(self, _: object) -> Reply:
        self.asked.append(time.monotonic())
        return answer(*self.words, delay_s=self.delay_s, first_delay_s=self.first_s)


def alarms(gateway: ServedTarget) -> list[HealthEvent]:
    return [event for event in gateway.events if event.kind is EventKind.ALARM]


def goes_back(place: Place) -> object:
    def back(reason: str) -> str:
        return str(rollback(place.target, actor=f"watch: {reason}", now=clock).model_version)

    return back


def test_a_model_that_does_what_it_should_raises_no_alarm(tmp_path: Path) -> None:
    place, model = Place(tmp_path), Model()
    with served(place, Scripts({"v1": model}), schedule=QUICK) as gateway:
        gateway.serves(place.deploy("v1", contract(min_output_tokens_per_s=20.0)))
        wait_for(lambda: len(model.asked) > 25)
        assert alarms(gateway) == []
        assert EventKind.CHECKED in gateway.kinds()


def test_wrong_answers_take_the_target_back_and_say_why(tmp_path: Path) -> None:
    place, model = Place(tmp_path), Model()
    first = place.deploy("v1", contract())
    with served(place, Scripts({"v1": Model(), "v2": model}), schedule=QUICK, go_back=goes_back(place)) as gateway:
        gateway.serves(place.deploy("v2", contract()))
        wait_for(lambda: len(model.asked) > 3)
        model.words = ("something", " else")
        wait_for(lambda: EventKind.WENT_BACK in gateway.kinds())
        gateway.serves(first)
    assert status(place.target).active.model_version == "v1"
    assert "its answers are not what they should be" in status(place.target).last.actor
    assert alarms(gateway)[0].figures["answers_against_usual"] == 0.0


@pytest.mark.parametrize(
    ("ill", "said"),
    [({"delay_s": 0.1}, "writes slower"), ({"first_s": 0.4}, "reads slower")],
    ids=["decode", "prefill"],
)
def test_reading_and_writing_many_times_slower_are_noticed_apart(
    tmp_path: Path, ill: dict[str, float], said: str
) -> None:
    place, model = Place(tmp_path), Model(delay_s=0.01, first_s=0.02)
    with served(place, Scripts({"v1": model}), schedule=QUICK) as gateway:
        gateway.serves(place.deploy("v1", contract()))
        wait_for(lambda: len(model.asked) > 14)
        vars(model).update(ill)
        wait_for(lambda: alarms(gateway))
        assert said in alarms(gateway)[0].said
        assert alarms(gateway)[0].needs_person


def test_slower_than_the_promise_takes_the_target_back(tmp_path: Path) -> None:
    place, model = Place(tmp_path), Model(delay_s=0.2)
    first = place.deploy("v1")
    with served(place, Scripts({"v2": model}), schedule=QUICK, go_back=goes_back(place)) as gateway:
        place.deploy("v2", contract(min_output_tokens_per_s=100.0))
        wait_for(lambda: EventKind.WENT_BACK in gateway.kinds())
        gateway.serves(first)
        assert any("slower than its contract promises" in event.said for event in alarms(gateway))


def test_what_cannot_go_back_stays_and_needs_a_person(tmp_path: Path) -> None:
    place, model = Place(tmp_path), Model(words=("wrong",))
    with served(place, Scripts({"v1": model}), schedule=QUICK, go_back=goes_back(place)) as gateway:
        gateway.serves(place.deploy("v1", contract()))
        wait_for(lambda: EventKind.STAYED in gateway.kinds())
        stayed = next(event for event in gateway.events if event.kind is EventKind.STAYED)
        assert stayed.needs_person
        assert "could not go back" in stayed.said
        assert httpx.get(f"{gateway.base_url}/health").status_code == 200


def test_a_server_that_answers_nothing_is_noticed(tmp_path: Path) -> None:
    place, model = Place(tmp_path), Model()
    with served(place, Scripts({"v1": model}), schedule=QUICK) as gateway:
        gateway.serves(place.deploy("v1", contract()))
        wait_for(lambda: len(model.asked) > 2)
        model.words = ("",)
        wait_for(lambda: any("does not answer" in event.said for event in alarms(gateway)))


def test_a_full_disk_is_noticed_once(tmp_path: Path) -> None:
    place, free = Place(tmp_path), [1 << 30]
    place.deploy("v1")
    with served(place, Scripts(), schedule=QUICK, signs=lambda: Signs(disk_free_bytes=free[0])) as gateway:
        time.sleep(0.3)
        free[0] = 1 << 20
        wait_for(lambda: bool(alarms(gateway)), within_s=5)
        time.sleep(0.5)
        (alarm,) = alarms(gateway)
        assert (alarm.said, alarm.needs_person) == ("the disk is full: 1 MiB are free, at least 64 MiB should be", True)


def test_what_stands_wrong_with_a_target_is_told_once_until_it_was_well_again(tmp_path: Path) -> None:
    place, hours, silent = Place(tmp_path), count(50), [True]
    place.deploy("v1")

    def standing() -> tuple[str, ...]:
        return (f"no controller was heard since Sunday, {next(hours)} hours",) if silent[0] else ()

    with served(place, Scripts(), schedule=replace(QUICK, standing_s=0.05), standing=standing) as gateway:
        wait_for(lambda: next(hours) > 60, within_s=10)
        (alarm,) = alarms(gateway)
        assert (alarm.said.startswith("no controller was heard"), alarm.needs_person) == (True, True)
        silent[0] = False
        time.sleep(0.7)
        silent[0] = True
        wait_for(lambda: len(alarms(gateway)) == 2, within_s=10)


def test_a_model_server_that_memory_cost_its_life_is_noticed_and_back(tmp_path: Path) -> None:
    place, kills, launcher = Place(tmp_path), [0], Scripts()
    release = place.deploy("v1")
    with served(place, launcher, schedule=QUICK, signs=lambda: Signs(oom_kills=kills[0])) as gateway:
        gateway.serves(release)
        time.sleep(0.3)
        kills[0] = 1
        launcher.die("v1")
        wait_for(lambda: len(alarms(gateway)) >= 2, within_s=5)
        said = " ".join(event.said for event in alarms(gateway))
        assert "memory ran out" in said
        wait_for(lambda: launcher.started == ["v1", "v1"])


def test_a_server_that_keeps_dying_takes_the_target_back(tmp_path: Path) -> None:
    place, launcher = Place(tmp_path), Scripts()
    first = place.deploy("v1")
    with served(place, launcher, schedule=QUICK, go_back=goes_back(place)) as gateway:
        second = place.deploy("v2")
        for number in range(3):
            gateway.serves(second)
            launcher.die("v2")
            wait_for(lambda number=number: gateway.supervisor.restarts == number + 1)
            time.sleep(0.3)
        gateway.serves(first)


def test_a_question_gives_way_to_a_user(tmp_path: Path) -> None:
    place, model = Place(tmp_path), Model(delay_s=0.3)
    with served(place, Scripts({"v1": model}), schedule=QUICK) as gateway:
        gateway.serves(place.deploy("v1", contract()))
        model.asked.clear()
        wait_for(lambda: bool(model.asked))
        serving = gateway.supervisor.serving
        assert serving is not None
        user = threading.Thread(
            target=lambda: httpx.post(gateway.chat, json={"messages": [{"role": "user", "content": "me"}]}, timeout=30)
        )
        user.start()
        wait_for(lambda: gateway.gateway.in_progress == 1)
        wait_for(lambda: serving.in_flight == 1, within_s=1)
        user.join()
        assert alarms(gateway) == []


def test_nobody_is_asked_while_users_ask(tmp_path: Path) -> None:
    place, model = Place(tmp_path), Model()
    with served(place, Scripts({"v1": model}), schedule=Schedule(every_s=0.1, soon_s=0.05, idle_s=1.0)) as gateway:
        gateway.serves(place.deploy("v1", contract()))
        model.asked.clear()
        for _ in range(10):
            httpx.post(gateway.chat, json={"messages": [{"role": "user", "content": "me"}]})
            time.sleep(0.05)
        assert len(model.asked) <= 11


def test_signs_are_read_from_the_kernels_files(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": "MemTotal: 9 kB\nMemAvailable:   2048 kB\n",
        "proc/self/cgroup": "0::/user.slice/a.service\n",
        "sys/fs/cgroup/user.slice/a.service/memory.events": "low 0\noom 4\noom_kill 3\n",
        "sys/class/thermal/thermal_zone0/temp": "61500\n",
        "sys/class/hwmon/hwmon0/power1_input": "4200000\n",
        "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "7\n",
        "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "2\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    signs = SignsReader(tmp_path, root=tmp_path).read()
    assert (signs.memory_available_bytes, signs.oom_kills, signs.throttled) == (2048 * 1024, 3, 9)
    assert (signs.temperature_c, signs.power_w) == (61.5, 4.2)
    assert signs.disk_free_bytes is not None


def test_what_cannot_be_read_is_named_with_its_reason(tmp_path: Path) -> None:
    signs = SignsReader(tmp_path, root=tmp_path).read()
    assert signs.power_w is None
    assert signs.absent["power_w"] == "nothing on this machine tells it"
    assert "meminfo" in signs.absent["memory_available_bytes"]


def test_power_is_the_difference_of_two_readings_of_an_energy_counter(tmp_path: Path) -> None:
    counter = tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj"
    counter.parent.mkdir(parents=True)
    (counter.parent / "max_energy_range_uj").write_text("262143328850")
    now = [10.0]
    reader = SignsReader(tmp_path, root=tmp_path, clock=lambda: now[0])
    counter.write_text("1000000")
    assert reader.read().power_w is None
    now[0], _ = 12.0, counter.write_text("31000000")
    assert reader.read().power_w == pytest.approx(15.0)


def test_this_machine_shows_signs(tmp_path: Path) -> None:
    signs = SignsReader(tmp_path).read()
    assert signs.memory_available_bytes
    assert signs.disk_free_bytes
    assert signs.model_rss_bytes is not None
