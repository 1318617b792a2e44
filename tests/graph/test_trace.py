"""`milton trace`: deployment → bundle → decision → evidence → registry entry → weights, and where it breaks."""

from __future__ import annotations

import pytest

from milton_assets.edge.deployment import history
from milton_assets.selection.summary import read_summary
from milton_assets.trace import trace
from resources.edge_targets import EdgeTargets
from resources.evidence_log import check_manifest
from resources.evidence_store import EvidenceStore
from tests.support.workplace import competent, failure_of

RUN = "benchmark_20260101_000000"
pytestmark = pytest.mark.slow


@pytest.fixture
def deployed(wp):
    """The deployment of one good model; called, it follows the chain as things are then."""
    wp.register("good", competent())
    for job, partition in (("benchmark_model", "good"), ("promote", RUN), ("deploy", "local")):
        result = wp.run(job, partition)
        assert result.success, failure_of(result)

    def follow():
        done = history(EdgeTargets(wp.state).named("local"))[-1]
        store = EvidenceStore(wp.state.benchmarks)
        return trace(done, lambda manifest: check_manifest(wp.instance, store, manifest))

    return follow


def broken(chain):
    return [link.what for link in chain.links if not link.holds]


def test_the_chain_leads_from_the_deployment_to_the_weights(deployed):
    chain = deployed()
    assert [link.what for link in chain.links] == [
        "deployment",
        "bundle",
        "decision",
        "evidence",
        "registry entry",
        "weights",
    ]
    assert chain.holds


def test_weights_that_changed_on_the_device_break_the_bundle(wp, deployed):
    model = next((wp.state.deployments / "local" / "current" / "model").rglob("*.gguf"))
    model.chmod(0o644)
    raw = bytearray(model.read_bytes())
    raw[-1] ^= 1
    model.write_bytes(raw)
    assert "bundle" in broken(deployed())


def test_evidence_that_is_gone_breaks_the_evidence_and_says_which(wp, deployed):
    pin = read_summary(wp.state.runs, RUN).manifest.pins()[0]
    (wp.state.benchmarks / pin.uri).unlink()
    chain = deployed()
    assert broken(chain) == ["evidence"]
    assert pin.uri in chain.links[3].detail


def test_a_release_that_is_gone_breaks_the_chain_there(wp, deployed):
    import shutil

    for release in (wp.state.deployments / "local" / "releases").iterdir():
        shutil.rmtree(release)
    assert broken(deployed()) == ["bundle"]
