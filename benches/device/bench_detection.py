"""How soon a device notices that it is ill, at its default pace: a gateway, its watch, and a model that falls ill.

    python benches/device/bench_detection.py            (make bench-device)

Six gateways side by side, each with a model server of its own on a loopback port, asked by nobody but the watch. After
the watch has learnt what is usual, each is given one illness: it writes or reads ten times slower, it answers wrongly,
it says nothing, its server is killed when memory ran out, its disk fills up (a real file of 1 GiB on this disk, beside
a limit that lies 512 MiB under what is free). Prints the seconds until the alarm; exits 1 when one took longer than
60 s, or a well device alarmed.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from milton_assets.edge.manifest import HealthContract, Probe  # noqa: E402
from milton_assets.edge.serving.health_journal import EventKind  # noqa: E402
from milton_assets.edge.serving.signs import Signs, SignsReader  # noqa: E402
from milton_assets.edge.serving.watch import Schedule  # noqa: E402
from milton_assets.vocabulary.digest import sha256_bytes  # noqa: E402
from milton_assets.vocabulary.server import ServingSettings  # noqa: E402
from tests.support.scripted_server import Reply, answer  # noqa: E402
from tests.support.served_target import Place, Scripts, served  # noqa: E402

GOAL_S = 60.0
WORDS = ("the", "capital", "of", "France", "is", "Paris")
CONTRACT = HealthContract(
    probes=(Probe(prompt="What is it?", max_tokens=16, answer_sha256=sha256_bytes("".join(WORDS).encode())),),
    served_with=ServingSettings(),
)
LEARNT = 9
"""So many checks until the watch knows what is usual."""


@dataclass
class Model:
    """A model that is well until it is not."""

    words: tuple[str, ...] = WORDS
    delay_s: float = 0.02
    first_s: float = 0.1
    asked: int = 0

    def __call__(self, _: object) -> Reply:
        self.asked += 1
        return answer(*self.words, delay_s=self.delay_s, first_delay_s=self.first_s)


class Patient:
    """One device; `fall_ill` is what happens to it."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.model = Model()
        self.launcher = Scripts({"v1": self.model})
        self.noticed_s: float | None = None
        self.early: list[str] = []
        self.said = ""
        self._killed = 0

    def fall_ill(self) -> None:
        """Give it its illness."""
        match self.name:
            case "writes ten times slower":
                self.model.delay_s *= 10
            case "reads ten times slower":
                self.model.first_s *= 10
            case "answers wrongly":
                self.model.words = ("something", " else")
            case "answers nothing":
                self.model.words = ("",)
            case "its server is killed when memory ran out":
                self._killed += 1
                self.launcher.die("v1")
            case "its disk fills up":
                with (self.folder / "filler").open("wb") as filler:
                    os.posix_fallocate(filler.fileno(), 0, 1 << 30)

    def signs(self) -> Callable[[], Signs]:
        """What it shows of itself: this machine's signs, with its own count of killed processes."""
        reader = SignsReader(self.folder)
        return lambda: replace(reader.read(), oom_kills=self._killed)

    def run(self) -> None:
        """Be well until everything is learnt, then ill, until somebody notices."""
        schedule = Schedule()
        if self.name == "its disk fills up":
            free = SignsReader(self.folder).read().disk_free_bytes or 0
            schedule = replace(schedule, disk_free_bytes=free - (512 << 20))
        place = Place(self.folder)
        with served(place, self.launcher, schedule=schedule, signs=self.signs()) as gateway:
            gateway.serves(place.deploy("v1", CONTRACT))
            while self.model.asked < LEARNT:
                time.sleep(0.1)
            time.sleep(1.0)
            self.early = [event.said for event in gateway.events if event.kind is EventKind.ALARM]
            began = time.monotonic()
            self.fall_ill()
            while time.monotonic() - began < 2 * GOAL_S:
                alarms = [event.said for event in gateway.events if event.kind is EventKind.ALARM]
                if new := alarms[len(self.early) :]:
                    self.noticed_s, self.said = time.monotonic() - began, new[0]
                    return
                time.sleep(0.02)


NAMES = (
    "writes ten times slower",
    "reads ten times slower",
    "answers wrongly",
    "answers nothing",
    "its server is killed when memory ran out",
    "its disk fills up",
)


def main() -> int:
    """Let all of them fall ill at once; 0 when each was noticed in time and none alarmed before."""
    with tempfile.TemporaryDirectory(prefix="milton-bench-") as folder:
        patients = []
        for number, name in enumerate(NAMES):
            (Path(folder) / str(number)).mkdir()
            patients.append(Patient(name, Path(folder) / str(number)))
        threads = [threading.Thread(target=patient.run) for patient in patients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    missed = False
    for patient in patients:
        took = "never" if patient.noticed_s is None else f"{patient.noticed_s:.0f} s"
        print(f"{patient.name:42} noticed after {took:6} (goal {GOAL_S:.0f} s): {patient.said}")
        for said in patient.early:
            print(f"{patient.name:42} alarmed while it was well: {said}")
        missed = missed or bool(patient.early) or patient.noticed_s is None or patient.noticed_s > GOAL_S
    print("false alarms in 1,000 simulated device-years: tests/statistics/test_sequential.py")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
