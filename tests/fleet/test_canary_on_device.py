"""A canary on a device is started and ended over the agent's protocol, and its verdict is kept here, signed."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from milton_assets.edge.bundle.keys import KeyFiles, init_keys
from milton_assets.edge.canary.counts import ArmCounts
from milton_assets.edge.canary.folder import running_canary
from milton_assets.edge.canary.plan import Arm
from milton_assets.edge.canary.records import Asked
from milton_assets.edge.canary.starting import CanaryRequest, CanaryTold, NoCanary, WholeRequest
from milton_assets.edge.canary.verdict import Outcome
from milton_assets.edge.deployment import DevicePolicy, NotAdmitted
from milton_assets.fleet.canaries import NAMESPACE, DoesNotHold, RunsCanaries, keep, kept_verdicts, problems_of
from milton_assets.fleet.canaries import field_verdict as as_evidence
from milton_assets.fleet.ssh import SshTarget
from milton_assets.fleet.target import DeployRequest
from milton_assets.usecases.canaries import told_and_kept
from milton_assets.usecases.field_evidence import changed_since, field_evidence
from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.errors import BadInput, EvidenceMismatch
from milton_assets.vocabulary.field_evidence import FieldEvidence
from tests.support.agents import device
from tests.support.edge_bundles import make_bundle

pytestmark = pytest.mark.slow
NOW = datetime(2026, 1, 12, tzinfo=UTC)
REQUEST = CanaryRequest(actor="ada", share=0.5, assume_memory=True)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a device that serves `v1`."""
    root = tmp_path_factory.mktemp("kitchen")
    device(root).deploy(make_bundle(root / "bundles", "v1"), DeployRequest(actor="ada", health_rounds=0))
    return root / "device"


@pytest.fixture
def kitchen(deployed: Path, tmp_path: Path) -> SshTarget:
    """A copy of that device."""
    shutil.copytree(deployed, tmp_path / "device", symlinks=True)
    return device(tmp_path)


def canary(kitchen: SshTarget, tmp_path: Path, *, fails: bool) -> CanaryTold:
    """A canary of `v2` whose requests were recorded by a gateway, and which was then stopped."""
    plan = kitchen.canary_start(make_bundle(tmp_path / "bundles", "v2", counter=2), REQUEST)
    folder = running_canary(tmp_path / "device" / "state" / "deployments" / "kitchen")
    assert folder is not None
    writer = folder.writer()
    for number in range(30):
        arm = plan.draw(str(number))
        status = 500 if fails and arm is Arm.CHALLENGER else 200
        writer.add(
            Asked(
                at=NOW, number=number, nth=number, arm=arm, response=f"{number:024x}", outcome="answered",
                status=status, duration_s=0.5, first_token_s=0.1, per_token_s=0.01, output_tokens=40,
            )
        )  # fmt: skip
    writer.close()
    return kitchen.canary_stop(actor="ada")


def test_a_canary_is_started_told_and_stopped_over_the_wire(kitchen: SshTarget, tmp_path: Path) -> None:
    assert isinstance(kitchen, RunsCanaries)
    with pytest.raises(NoCanary):
        kitchen.canary_told()
    told = canary(kitchen, tmp_path, fails=False)
    assert (told.plan.challenger_version, told.plan.incumbent_version) == ("v2", "v1")
    assert told.verdict is not None and told.verdict.outcome is Outcome.NOT_YET
    assert told.verdict.fact == "ada stopped it"
    assert told.counts.challenger.requests + told.counts.incumbent.requests == 30
    assert kitchen.canary_told(told.plan.id) == told
    assert kitchen.status().active.model_version == "v1"  # type: ignore[union-attr]
    assert told_and_kept(kitchen.state, kitchen, told) is not None


def test_a_device_becomes_one_arm_of_its_fleet_over_the_wire(kitchen: SshTarget) -> None:
    active = kitchen.status().active
    assert active is not None
    request = WholeRequest(
        actor="ada", fleet="canary_20260112_093000_000_0a1b2c", arm=Arm.INCUMBENT, challenger="c" * 64,
        challenger_version="v2", challenger_manifest_sha256="d" * 64, incumbent=active.digest, incumbent_version="v1",
        share=0.25, requests=12,
    )  # fmt: skip
    with pytest.raises(BadInput, match="golden questions"):
        kitchen.canary_watch(request, goldens=b"{}\n")
    goldens = b'{"id": "a", "kind": "other", "split": "test", "question": "Why?", "source": "ours", '
    goldens += b'"answer": {"type": "text", "accept": ["because"]}}\n'
    plan = kitchen.canary_watch(request, goldens=goldens)
    assert (plan.arm, plan.fleet, plan.goldens) == (Arm.INCUMBENT, request.fleet, sha256_bytes(goldens))
    told = kitchen.canary_stop(actor="ada")
    assert told.plan == plan and told.figures is None


def test_what_the_devices_policy_does_not_admit_is_no_challenger(kitchen: SshTarget, tmp_path: Path) -> None:
    init_keys(kitchen.state.keys)
    line = KeyFiles(kitchen.state.keys).public.read_text().strip()
    kitchen.trust(DevicePolicy(trusted_keys=(line,)))
    with pytest.raises(NotAdmitted, match="bears no signature"):
        kitchen.canary_start(make_bundle(tmp_path / "bundles", "v2", counter=2), REQUEST)
    assert running_canary(tmp_path / "device" / "state" / "deployments" / "kitchen") is None


def test_a_verdict_is_kept_once_and_signed_so_that_ssh_keygen_agrees(kitchen: SshTarget, tmp_path: Path) -> None:
    init_keys(kitchen.state.keys)
    told = canary(kitchen, tmp_path, fails=True)
    assert told.verdict is not None and told.verdict.outcome is Outcome.GO_BACK and told.verdict.fact is None
    kept = keep(kitchen.state, as_evidence("kitchen", kitchen.url, told, NOW))
    again = keep(kitchen.state, as_evidence("kitchen", kitchen.url, told, datetime.now(UTC)))
    assert (again.sha256, list(problems_of(kitchen.state, kept))) == (kept.sha256, [])
    assert list(kept_verdicts(kitchen.state, told.plan.incumbent)) == [kept]
    assert list(kept_verdicts(kitchen.state, "0" * 64)) == []
    signers = tmp_path / "signers"
    signers.write_text(f"milton {KeyFiles(kitchen.state.keys).public.read_text()}")
    checked = subprocess.run(
        ["ssh-keygen", "-Y", "verify", "-f", signers, "-I", "milton", "-n", NAMESPACE, "-s", f"{kept.path}.sig"],
        input=kept.path.read_bytes(), capture_output=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr


def test_the_next_decision_is_told_what_the_field_said_of_the_incumbent(kitchen: SshTarget, tmp_path: Path) -> None:
    init_keys(kitchen.state.keys)
    told = canary(kitchen, tmp_path, fails=True)
    kept = told_and_kept(kitchen.state, kitchen, told)
    assert kept is not None and told.verdict is not None
    (finding,) = field_evidence(kitchen.state, tmp_path / "runs", "v1").findings
    assert (finding.said, finding.challenger_version, finding.beside) == ("go_back", "v2", ("v1",))
    assert (finding.target, finding.sha256, finding.signer) == ("kitchen", kept.sha256, kept.signer)
    ours, theirs = told.counts.challenger, told.counts.incumbent
    assert (finding.challenger.erred, finding.challenger.units_erred) == (ours.erred, ours.first_erred)
    assert (finding.incumbent.requests, finding.incumbent.erred) == (theirs.requests, 0)
    assert (finding.since, finding.until) == (told.plan.started_at, told.verdict.at)
    assert field_evidence(kitchen.state, tmp_path / "runs", "v3") == FieldEvidence(version="v3")
    assert field_evidence(kitchen.state, tmp_path / "runs", None) == FieldEvidence()


def test_a_verdict_that_does_not_hold_or_is_nobodys_we_know_is_told_as_such(kitchen: SshTarget, tmp_path: Path) -> None:
    init_keys(kitchen.state.keys)
    kept = told_and_kept(kitchen.state, kitchen, canary(kitchen, tmp_path, fails=True))
    assert kept is not None
    told = field_evidence(kitchen.state, tmp_path / "runs", "v1")
    signature = kept.path.with_name(f"{kept.path.name}.sig")
    whole, signed = kept.path.read_bytes(), signature.read_bytes()
    kept.path.write_bytes(whole.replace(b"go_back", b"promote"))
    (refused,) = field_evidence(kitchen.state, tmp_path / "runs", "v1").refused
    assert f"{kept.path} does not hold" in refused
    assert [why for why in changed_since(kitchen.state, told) if kept.sha256 in why]

    kept.path.write_bytes(whole)
    signature.unlink()
    (refused,) = field_evidence(kitchen.state, tmp_path / "runs", "v1").refused
    assert "bears no signature, although there is a key" in refused
    assert list(changed_since(kitchen.state, told)) == []

    signature.write_bytes(signed)
    assert field_evidence(kitchen.state, tmp_path / "runs", "v1") == told


def test_a_verdict_that_its_counts_do_not_lead_to_is_refused(kitchen: SshTarget, tmp_path: Path) -> None:
    told = canary(kitchen, tmp_path, fails=True)
    assert told.verdict is not None
    whitewashed = told.verdict.model_copy(update={"outcome": Outcome.PROMOTE})
    counts = told.counts.model_copy(update={"challenger": ArmCounts(requests=15, units=15)})
    for lie in (
        told.model_copy(update={"verdict": whitewashed}),
        told.model_copy(update={"counts": counts}),
        told.model_copy(update={"verdict": whitewashed.model_copy(update={"fact": "it seemed well"})}),
    ):
        with pytest.raises(EvidenceMismatch):
            keep(kitchen.state, as_evidence("kitchen", kitchen.url, lie, NOW))
    assert not list(kept_verdicts(kitchen.state))


def test_a_kept_verdict_that_was_changed_does_not_hold(kitchen: SshTarget, tmp_path: Path) -> None:
    init_keys(kitchen.state.keys)
    kept = told_and_kept(kitchen.state, kitchen, canary(kitchen, tmp_path, fails=True))
    assert kept is not None
    kept.path.write_bytes(kept.path.read_bytes().replace(b"go_back", b"promote"))
    (found,) = kept_verdicts(kitchen.state)
    assert isinstance(found, DoesNotHold)
    assert (found.canary, found.path) == (kept.verdict.told.plan.id, kept.path)
    assert "does not hold" in found.why
