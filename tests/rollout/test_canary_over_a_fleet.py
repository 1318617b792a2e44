"""A canary whose arms are whole devices: folders of this machine, whose engine and journals are a device's own."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from milton_assets.edge.bundle.keys import init_keys
from milton_assets.edge.canary.folder import CanaryFolder, canaries_of, running_canary
from milton_assets.edge.canary.plan import Arm
from milton_assets.edge.canary.records import Asked
from milton_assets.edge.canary.verdict import Outcome
from milton_assets.fleet.local import LocalMeans
from milton_assets.fleet.target import DeployRequest
from milton_assets.fleet.targets import Targets
from milton_assets.rollout.arms import FleetPlan
from milton_assets.rollout.arms_kept import VERDICT_FILE, kept_verdict
from milton_assets.rollout.plan import Opens
from milton_assets.rollout.states import Stage
from milton_assets.usecases.field_evidence import field_evidence
from milton_assets.usecases.fleet_canaries import WantedArms, go_on, look, plan_arms, stop
from milton_assets.usecases.rollouts import Reach, Wanted, abort, folder_of
from milton_assets.vocabulary.errors import EvidenceMismatch
from milton_assets.vocabulary.registry import RegistryStore
from milton_assets.vocabulary.state import StateDir
from resources.inventory import inventory_of
from tests.support.crashing import healthy
from tests.support.edge_bundles import make_bundle
from tests.support.shell import milton, told

pytestmark = pytest.mark.slow
REQUESTS = 6
HOW = Wanted(opens=Opens.ALL_WELL, health_rounds=0, health_interval_s=0.0, ask_every_s=0.1, load_test=False)


class Fleet:
    """Sixteen devices that serve `v1`, and a bundle of `v2`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = StateDir(root / "state")
        self.names = [f"kit{n:02}" for n in range(16)]
        elsewhere = {name: str(root / name) for name in self.names}
        self.targets = Targets(self.state, LocalMeans(lambda: healthy, inventory_of), elsewhere)
        self.reach = Reach(self.state, lambda: self.targets, lambda: self.names, self._no_registry, lambda *_: None)
        self.new = make_bundle(root / "bundles", "v2", counter=2)
        old = make_bundle(root / "bundles", "v1")
        for name in self.names:
            self.targets.named(name).deploy(old, DeployRequest(actor="ada", load_test=False, health_rounds=0))
        lines = "".join(f"  {name}: {place}\n" for name, place in elsewhere.items())
        (self.state.root / "milton.yaml").write_text(f"targets:\n{lines}")
        init_keys(self.state.keys)

    @staticmethod
    def _no_registry() -> RegistryStore:
        raise AssertionError("a challenger on its arm is nobody's champion")

    def serving(self) -> dict[str, str]:
        status = {name: self.targets.named(name).status().active for name in self.names}
        return {name: active.model_version for name, active in status.items() if active is not None}

    def begin(self) -> FleetPlan:
        given = WantedArms(share=0.25, requests=REQUESTS, rollout=HOW)
        plan = plan_arms(self.reach, self.new, given, actor="ada")
        assert go_on(self.reach, plan.id, actor="ada").stage is Stage.DONE
        return plan

    def answer(self, name: str, *, status: int = 200, requests: int = REQUESTS) -> None:
        """What a gateway of that device records: so many requests, each with that status."""
        folder = running_canary(self.root / name)
        assert folder is not None
        plan, writer = folder.plan(), folder.writer()
        for number in range(requests):
            arm = plan.draw(str(number))
            record = Asked(
                at=datetime.now(UTC), number=number, nth=number, arm=arm, response=f"{number:024x}",
                outcome="answered", status=status, duration_s=0.5, first_token_s=0.1, per_token_s=0.01,
                output_tokens=40,
            )  # fmt: skip
            writer.add(record)
        writer.close()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    return Fleet(tmp_path_factory.mktemp("fleet"))


def test_a_challenger_whose_devices_do_worse_goes_back_from_all_of_them(fleet: Fleet) -> None:
    plan = fleet.begin()
    challengers = set(plan.challengers)
    go_on(fleet.reach, plan.id, actor="bob")  # whoever goes on after another begins nothing twice
    assert Counter(fleet.serving().values()) == {"v1": 12, "v2": 4}
    assert {name for name, version in fleet.serving().items() if version == "v2"} == challengers
    for name, arm, _ in plan.arms():
        (there,) = [one for one in map(CanaryFolder.plan, canaries_of(fleet.root / name)) if one.fleet == plan.id]
        assert (there.arm, there.actor) == (arm, "ada")
        fleet.answer(name, status=500 if arm is Arm.CHALLENGER else 200, requests=REQUESTS if name != "kit03" else 2)
    waiting = look(fleet.reach, plan.id)
    assert waiting.kept is None and waiting.judgement.outcome is Outcome.NOT_YET
    assert waiting.told["kit03"].figures is not None and waiting.told["kit03"].figures.requests == 2

    fleet.answer("kit03", status=500 if "kit03" in challengers else 200, requests=REQUESTS - 2)
    standing = look(fleet.reach, plan.id)
    assert standing.judgement.outcome is Outcome.GO_BACK, standing.judgement
    kept = standing.kept
    assert kept is not None and kept.signer is not None and kept.verdict.fact is None
    assert set(kept.verdict.told) == set(fleet.names)
    assert look(fleet.reach, plan.id).kept == kept, "what is kept is kept once"

    ended = stop(fleet.reach, plan.id, actor="ada")
    assert ended.stage is Stage.ABORTED
    assert Counter(fleet.serving().values()) == {"v1": 16}
    assert not any(running_canary(fleet.root / name) for name in fleet.names)

    evidence = field_evidence(fleet.state, fleet.state.runs, "v1")
    (finding,) = [one for one in evidence.findings if one.canary == plan.id]
    assert (finding.said, finding.by_evidence, finding.target, finding.devices) == ("go_back", True, None, 16)
    assert (finding.challenger_version, finding.beside, finding.sha256) == ("v2", ("v1",), kept.sha256)
    assert (finding.challenger.requests, finding.challenger.erred) == (4 * REQUESTS, 4 * REQUESTS)
    assert finding.incumbent.per_device == (0.0,) * 12

    path = folder_of(fleet.state, plan.id) / VERDICT_FILE
    before = path.read_bytes()
    path.write_bytes(path.read_bytes().replace(b"go_back", b"promote"))
    with pytest.raises(EvidenceMismatch):
        kept_verdict(path.parent)
    path.write_bytes(before)


def test_one_whose_devices_do_as_well_is_promoted_and_stays_where_it_is(fleet: Fleet) -> None:
    plan = fleet.begin()
    for name in fleet.names:
        fleet.answer(name)
    standing = stop(fleet.reach, plan.id, actor="ada")
    assert standing.kept is not None and standing.kept.verdict.outcome is Outcome.PROMOTE, standing.judgement
    assert {name for name, version in fleet.serving().items() if version == "v2"} == set(plan.challengers)
    abort(fleet.reach, plan.id, actor="ada", reason="a person can take it back all the same")
    assert Counter(fleet.serving().values()) == {"v1": 16}


def test_the_command_tells_how_it_stands_and_refuses_so_few_devices_that_nothing_could_be_shown(fleet: Fleet) -> None:
    plan = fleet.begin()
    shown = milton("canary", "status", "--fleet", plan.id, MILTON_STATE_DIR=fleet.state.root)
    assert shown.returncode == 0, shown.stderr
    assert f"{plan.id}: v2 on one of each 4 devices; its rollout is done" in shown.stdout
    assert f"{plan.blocks[0].challenger} has it; 0 of 4 have told" in shown.stdout
    assert f"it waits for {plan.blocks[0].devices[0]} (0 of {REQUESTS})" in shown.stdout
    assert "so far: not yet" in shown.stdout
    stopped = told("canary", "stop", "--fleet", plan.id, MILTON_STATE_DIR=fleet.state.root)
    assert (stopped["verdict"]["outcome"], stopped["rollout"]) == ("not_yet", "aborted")
    assert Counter(fleet.serving().values()) == {"v1": 16}
    few = [option for name in fleet.names[:4] for option in ("--over", name)]
    refused = milton(
        "canary", "start", *few, "--share", "50%", "--bundle", fleet.new, MILTON_STATE_DIR=fleet.state.root
    )
    assert refused.returncode == 1
    assert "4 devices make 2 blocks of 2 of one class and release, and the evidence takes 7" in refused.stderr
