"""A real model on a real server: a release whose weights are garbled does not stay in service."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from milton_assets.edge.deployment import (
    DeploymentFailed,
    EdgeTarget,
    HealthWindow,
    Outcome,
    ServedLoadTest,
    deploy,
    status,
)
from milton_assets.edge.deployment.report import history
from milton_assets.edge.manifest import HealthContract, Probe
from milton_assets.vocabulary.gguf import read_header
from resources.edge_server import EdgeServer
from resources.servers.client import OpenAIChatModel
from resources.servers.llama_cpp import LlamaCppLauncher
from tests.support.crashing import clock
from tests.support.edge_bundles import make_bundle

QUESTION = Probe(prompt="Name the capital of France in one short sentence.", max_tokens=12)


def probe() -> ServedLoadTest:
    return ServedLoadTest(EdgeServer(file=LlamaCppLauncher(context_tokens=512)), OpenAIChatModel)


def garbled(gguf: Path) -> bytes:
    """The same file with noise in every tensor's place: its header holds, what it says is gone."""
    raw = bytearray(gguf.read_bytes())
    start = read_header(gguf).data_start
    noise = random.Random(5).randbytes(1 << 16)
    for place in range(start, len(raw), len(noise)):
        raw[place : place + len(noise)] = noise[: len(raw) - place]
    return bytes(raw)


@pytest.mark.slow
@pytest.mark.real_model
def test_a_garbled_release_is_rolled_back_to_the_one_that_serves(
    small_gguf: Path, tmp_path: Path, target: EdgeTarget
) -> None:
    good = small_gguf.read_bytes()
    asked = HealthContract(probes=(QUESTION,))
    a = make_bundle(tmp_path / "bundles", "v1", weights=good, health=asked)
    first = deploy(a, target, load_test=probe(), actor="ada", now=clock)
    assert first.outcome is Outcome.COMMITTED
    (said,) = first.load_test.answer_sha256

    promised = HealthContract(probes=(QUESTION.model_copy(update={"answer_sha256": said}),))
    b = make_bundle(
        tmp_path / "bundles",
        "v2",
        counter=2,
        weights=garbled(small_gguf),
        health=promised,
    )
    with pytest.raises(DeploymentFailed, match="was rolled back: health check 1 of 1 failed"):
        deploy(b, target, load_test=None, health=HealthWindow(probe(), rounds=1), actor="ada", now=clock)
    assert history(target)[-1].outcome is Outcome.ROLLED_BACK

    with pytest.raises(DeploymentFailed, match="the load test failed"):
        deploy(b, target, load_test=probe(), actor="ada", now=clock)

    seen = status(target)
    assert (seen.active.model_version, seen.known_good.model_version, seen.problems) == ("v1", "v1", ())
    again = probe()(target.path / "current" / "model" / "weights.gguf", "v1", promised)
    assert again.problems == ()
    assert list((target.path / "staging").iterdir()) == []
