"""A campaign on a machine that somebody else uses: its speeds are invalid, and the gate on them admits nobody."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from milton_assets.selection.decision import GateAnswer, Standing, Verdict
from milton_assets.selection.policy_file import load_policy
from milton_assets.selection.summary import read_summary
from milton_assets.usecases.measuring import ATTEMPTS
from milton_assets.vocabulary.tier import TierResult, asset_of
from resources.evidence_store import EvidenceStore
from tests.support.burning import burners
from tests.support.workplace import competent, failure_of, workplace

RUN = "benchmark_20260101_000000"
TTFT = "ttft_ms.median"


def policy_file(folder: Path) -> Path:
    """`smoke` with a gate on the first token that any model passes."""
    policy = load_policy("smoke").model_dump(mode="json")
    policy["gates"].append({"tier": "inference", "metric": TTFT, "op": "<=", "threshold": 60_000.0})
    path = folder / "quick.yaml"
    path.write_text(yaml.safe_dump(policy))
    return path


@pytest.mark.alone
@pytest.mark.slow
def test_who_burns_the_cores_during_a_campaign_keeps_it_from_a_verdict(tmp_path: Path) -> None:
    settings = {"MILTON_WATCH_MACHINE": "1"}
    with workplace(tmp_path, policy=str(policy_file(tmp_path)), settings=settings) as place:
        place.register("good", competent())
        with burners(2 * (os.cpu_count() or 2)):
            measured = place.run("benchmark_model", "good")
        assert measured.success, failure_of(measured)
        promoted = place.run("promote", RUN)
        decision = read_summary(place.state.runs, RUN).decision
        file = EvidenceStore(place.state.benchmarks).latest(asset_of("inference"), "good")
        assert file is not None
        timed = TierResult.from_table(file.read())
    report = decision.candidate("good")
    (gate,) = [gate for gate in report.gates if gate.metric == TTFT]
    assert (gate.answer, gate.admits) == (GateAnswer.INCONCLUSIVE, False)
    assert "other processes wanted the cores" in gate.why
    assert (report.standing, decision.verdict) == (Standing.NO_EVIDENCE, Verdict.NO_VERDICT)
    assert len(timed.provenance["machine"]) == ATTEMPTS
    assert promoted.success or "no_verdict" in failure_of(promoted)
