"""A rollout to five devices behind real sshds, each in a network namespace of its own where one can be made."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from milton_assets.edge.deployment.journal import parse
from milton_assets.rollout.events import Event, Offline
from milton_assets.rollout.plan import Member
from milton_assets.rollout.planning import in_order
from milton_assets.rollout.states import Phase, Rollout, Stage
from milton_assets.settings import load_settings
from milton_assets.usecases.rollout_report import keep_rollout_page
from milton_assets.usecases.rollouts import Wanted, plan_rollout, reach_of, start
from milton_assets.vocabulary.state import StateDir
from tests.support.agents import AILING, put_agent
from tests.support.edge_bundles import make_bundle
from tests.support.own_fleet import OwnFleet, own_fleet

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
NAMES = ("attic", "bath", "cellar", "den", "entry")
CANARY, FAILING, LATE, *_ = (member.name for member in in_order([Member(name=name) for name in NAMES], "spring"))


def test_a_canary_then_the_rest_with_one_that_fails_and_one_that_comes_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    with own_fleet(tmp_path / "devices", NAMES) as fleet:
        record_property("network", "namespaces" if fleet.is_networked else "loopback")
        monkeypatch.setenv("PATH", f"{fleet.client}{os.pathsep}{os.environ['PATH']}")
        for name, sshd in fleet.sshds.items():
            put_agent(sshd.home, env={AILING: "1"} if name == FAILING else None)
        state = StateDir(tmp_path / "state")
        state.root.mkdir()
        lines = "".join(f"  {name}: {fleet.url(name)}\n" for name in NAMES)
        (state.root / "milton.yaml").write_text(f"targets:\n{lines}")
        _roll_out(fleet, state)


def _roll_out(fleet: OwnFleet, state: StateDir) -> None:
    settings = load_settings({"MILTON_STATE_DIR": str(state.root)})
    reach = reach_of(settings)
    wanted = Wanted(retries=0, ask_every_s=1.0, health_rounds=1, health_interval_s=0.0, at_once=4)
    plan = plan_rollout(reach, "spring", make_bundle(state.bundles, "v1"), wanted, actor="ada")
    assert [member.name for member in plan.members[:3]] == [CANARY, FAILING, LATE]
    began: list[str] = []

    def heard(event: Event, now: Rollout) -> None:
        assert now.begun <= now.exposure_bound
        if event.kind == "began":
            began.append(event.device)
        if isinstance(event, Offline):
            fleet.plug(event.device)  # it comes back once it was missed

    fleet.unplug(LATE)
    done = start(reach, "spring", actor="ada", heard=heard)
    assert began[0] == CANARY
    assert done.stage is Stage.DONE
    phases = {device.name: device.phase for device in done.each()}
    assert phases == {**dict.fromkeys(NAMES, Phase.STOOD), FAILING: Phase.FAILED}
    assert "it only says baa" in done.devices[FAILING].reason
    assert began[-1] == LATE

    for name, sshd in fleet.sshds.items():  # what lies on each device, whoever asks
        journal = sshd.home / "device" / "state" / "deployments" / name / "journal.jsonl"
        ends = {"committed", "failed", "rolled_back"}
        (end,) = [record for record in parse(journal.read_bytes()).records if record.kind in ends]
        assert getattr(end, "deployment", None) == done.devices[name].deployment
        assert (end.kind == "committed") == (name != FAILING)
    page = keep_rollout_page(state, "spring", now=datetime.now(UTC)).read_text()
    assert "v1 to 5 devices: done" in page
    assert "it only says baa" in page
