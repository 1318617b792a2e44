"""A real model on a real server: a release whose weights are garbled does not stay in service."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from gguf import GGUFReader, GGUFWriter

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
from milton_assets.vocabulary.gguf_reader import read_header
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


BOMB = (
    "{% set ns = namespace(s='0123456789') %}{% if 'France' in messages[-1].content %}"
    "{% for i in range(34) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{% endif %}{{ ns.s }}"
)


@pytest.mark.slow
@pytest.mark.real_model
def test_a_template_that_asks_for_gigabytes_ends_the_load_test_and_not_the_machine(
    small_gguf: Path, tmp_path: Path
) -> None:
    bomb = with_template(small_gguf, tmp_path / "bomb.gguf", BOMB)
    server = LlamaCppLauncher(context_tokens=512, memory_limit_bytes=1_500_000_000)
    report = ServedLoadTest(EdgeServer(file=server), OpenAIChatModel)(bomb, "v1", HealthContract(probes=(QUESTION,)))
    (problem,) = report.problems
    assert "the warden ended it" in problem
    assert "more than the 1.5 GB of memory that it may hold" in problem


def with_template(source: Path, target: Path, template: str) -> Path:
    """The GGUF with another chat template, all else as it is."""
    reader = GGUFReader(source)
    writer = GGUFWriter(target, arch=str(reader.fields["general.architecture"].contents()))
    writer.data_alignment = reader.alignment
    for key, found in reader.fields.items():
        if not key.startswith("GGUF.") and key not in {"general.architecture", "tokenizer.chat_template"}:
            writer.add_key_value(key, found.contents(), found.types[0], found.types[-1])
    writer.add_chat_template(template)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target
