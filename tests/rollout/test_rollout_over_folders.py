"""A rollout over real targets: folders of this machine, whose engine and journals are a device's own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from milton_assets.edge.deployment import LoadTest
from milton_assets.edge.release import read_manifest
from milton_assets.fleet.local import LocalMeans
from milton_assets.fleet.target import DeployRequest
from milton_assets.fleet.targets import Targets
from milton_assets.rollout.controller import Answer, Task, Verb
from milton_assets.rollout.devices import Devices
from milton_assets.rollout.events import Aborted, Event, Planned, Started
from milton_assets.rollout.journal import Asked, Watched, ask, created, opened
from milton_assets.rollout.plan import Gate, Member, Plan
from milton_assets.rollout.planning import in_order, waves_of
from milton_assets.rollout.running import run
from milton_assets.rollout.states import Phase, Rollout, Stage
from milton_assets.vocabulary.state import StateDir
from resources.inventory import inventory_of
from tests.support.crashing import ailing, healthy
from tests.support.edge_bundles import make_bundle

pytestmark = pytest.mark.slow
BY_HAND = DeployRequest(actor="ada", health_rounds=1, health_interval_s=0)


class Shop:
    """Five targets that serve `v1`, and a rollout of `v2`. `load_test` is what their releases are tried with."""

    def __init__(self, tmp_path: Path) -> None:
        self.load_test: LoadTest = healthy
        self.state = StateDir(tmp_path / "state")
        self.folder = self.state.rollouts / "spring"
        self.names = [f"kit{n}" for n in range(5)]
        elsewhere = {name: str(tmp_path / name) for name in self.names}
        self.targets = Targets(self.state, LocalMeans(lambda: self.load_test, inventory_of), elsewhere)
        self.old = make_bundle(tmp_path / "bundles", "v1")
        self.new = make_bundle(tmp_path / "bundles", "v2", counter=2)
        for name in self.names:
            self.targets.named(name).deploy(self.old, BY_HAND)

    def plan(self, waves: tuple[str, ...] = ("1", "rest"), **more: object) -> Plan:
        manifest = read_manifest(self.new)
        members = [Member(name=name, labels=frozenset({"local"})) for name in self.names]
        settings = {"at_once": 2, "health_rounds": 1, "health_interval_s": 0.0, "gate": Gate(), "ask_every_s": 0.2}
        plan = Plan(
            rollout="spring",
            release=manifest.release_digest,
            model_version=manifest.model_version,
            run_id=manifest.run_id,
            bundle=str(self.new),
            members=in_order(members, "spring"),
            waves=waves_of(waves, members, Gate()),
            **(settings | more),
        )
        with created(self.folder) as journal:
            at = self.targets.means.now()
            journal.append(Planned(at=at, actor="ada", plan=plan))
            journal.append(Started(at=at, actor="ada"))
        return plan

    def run(self, plan: Plan, do: Callable[[Task, Callable[[Task], Answer]], Answer] | None = None) -> Rollout:
        devices = Devices(self.targets.named, plan, self.new, "ada")
        with opened(self.folder) as journal:
            return run(
                Watched(journal, self.hear),
                (lambda task: do(task, devices.do)) if do else devices.do,
                folder=self.folder,
            )

    def hear(self, event: Event, state: Rollout) -> None:
        """Every event, once it is kept."""

    def serving(self) -> list[str]:
        statuses = [self.targets.named(name).status() for name in self.names]
        return [status.active.model_version if status.active else "nothing" for status in statuses]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_every_target_is_taken_to_the_release_and_says_so_in_its_own_journal(shop: Shop) -> None:
    plan = shop.plan()
    state = shop.run(plan)
    assert (state.stage, shop.serving()) == (Stage.DONE, ["v2"] * 5)
    for device in state.each():
        entry = shop.targets.named(device.name).history()[-1]
        assert (device.phase, device.deployment, len(entry.health)) == (Phase.STOOD, entry.id, 1)


def test_a_release_that_its_device_does_not_serve_well_stays_with_the_canary(shop: Shop) -> None:
    shop.load_test = ailing
    state = shop.run(shop.plan(retries=0))
    assert (state.stage, state.begun, shop.serving()) == (Stage.PAUSED, 1, ["v1"] * 5)
    failed = next(device for device in state.each() if device.phase is Phase.FAILED)
    assert failed.reason == shop.targets.named(failed.name).history()[-1].reason


def test_a_device_that_only_says_that_it_stands_is_not_believed(shop: Shop) -> None:
    def lie(task: Task, do: Callable[[Task], Answer]) -> Answer:
        from milton_assets.rollout.controller import Said

        return Said(None) if task.verb is Verb.DEPLOY else do(task)

    state = shop.run(shop.plan(), lie)
    assert (state.stage, shop.serving()) == (Stage.PAUSED, ["v1"] * 5)
    assert any("its journal does not know the attempt" in device.reason for device in state.each())


def test_an_abort_asked_for_by_another_process_takes_everybody_back(shop: Shop) -> None:
    def hear(event: Event, state: Rollout) -> None:
        if state.well == 3 and state.stage is Stage.RUNNING:
            ask(shop.folder, Asked(abort=True, actor="eve", reason="regretted"))

    shop.hear = hear  # type: ignore[method-assign]
    state = shop.run(shop.plan(at_once=1))
    assert (state.stage, state.why, shop.serving()) == (Stage.ABORTED, "regretted", ["v1"] * 5)
    assert sum(device.phase is Phase.BACK for device in state.each()) >= 3


def test_what_a_dead_controller_left_is_gone_on_with_and_no_device_is_told_twice(shop: Shop) -> None:
    class Gone(BaseException):
        pass

    def hear(event: Event, state: Rollout) -> None:
        if state.begun == 3:
            raise Gone

    plan = shop.plan()
    shop.hear = hear  # type: ignore[method-assign]
    with pytest.raises(Gone):
        shop.run(plan)
    for thread in threading.enumerate():
        if thread.name.startswith("deploy "):
            thread.join()
    del shop.hear
    state = shop.run(plan)
    assert (state.stage, shop.serving()) == (Stage.DONE, ["v2"] * 5)
    assert [len(shop.targets.named(name).history()) for name in shop.names] == [2] * 5


def test_a_target_that_is_not_there_waits_for_its_deadline_and_keeps_no_other(shop: Shop) -> None:
    plan = shop.plan(reach_within_s=0.5)
    away = Path(shop.targets.elsewhere[plan.members[0].name])
    away.rename(away.with_name("unplugged"))
    state = shop.run(plan)
    phases = [device.phase for device in state.each()]
    assert (state.stage, phases) == (Stage.DONE, [Phase.GIVEN_UP] + [Phase.STOOD] * 4)


def test_a_target_without_a_release_before_cannot_go_back_and_is_named(shop: Shop, tmp_path: Path) -> None:
    shop.names = ["fresh"]
    shop.targets = Targets(shop.state, shop.targets.means, {"fresh": str(tmp_path / "fresh")})
    plan = shop.plan()
    assert shop.run(plan).stage is Stage.DONE
    with opened(shop.folder) as journal:
        journal.append(Aborted(at=shop.targets.means.now(), actor="ada", reason="regretted"))
    state = shop.run(plan)
    assert state.stage is Stage.ABORTED
    assert [(device.phase, device.reason) for device in state.each()] == [
        (Phase.NOT_BACK, "it served nothing before the rollout")
    ]
