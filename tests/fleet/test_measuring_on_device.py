"""Measuring a candidate on a device: its own server, its own loopback, its own clock; what comes back is rows."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from milton_assets.agent.candidates import Candidates
from milton_assets.fleet.links import Link, Unreachable, ssh_place
from milton_assets.fleet.measuring import (
    ContractRequest,
    Expectations,
    ExpectationsRequest,
    Measures,
    QuestionsRequest,
    Weights,
    WeightsOffer,
)
from milton_assets.fleet.measuring_elsewhere import offer_of
from milton_assets.fleet.ssh import SshTarget
from milton_assets.tiers.inference import InferencePlan
from milton_assets.tiers.inference.load_curve import measure_with_sweep, sweep_of
from milton_assets.usecases.classes import Sample
from milton_assets.usecases.targets import open_targets
from milton_assets.vocabulary.digest import sha256_file
from milton_assets.vocabulary.errors import BadInput, ServerFailed
from milton_assets.vocabulary.fingerprint import IdentityProof
from milton_assets.vocabulary.forcing import Expectation, Forced
from milton_assets.vocabulary.state import StateDir
from resources.edge_server import EdgeServer
from resources.servers.llama_cpp import LlamaCppLauncher
from tests.support.agents import PipeLink, measuring_agent_line
from tests.support.edge_bundles import make_bundle
from tests.support.gguf_file import tiny_gguf
from tests.support.stub_llama_server import program

pytestmark = pytest.mark.slow
PLAN = InferencePlan(min_rounds=1, max_rounds=1, max_tokens=6, warm_up_requests=1, budget_s=20.0)
GREEDY = QuestionsRequest(questions=("Which?", "Why?"), max_tokens=4)


def of_two_minds(text: Forced) -> Forced:
    """The same text, read by a model that holds another token for as likely at every place."""
    places = [Expectation(one.token, -0.7, ((one.token, -0.7), (one.token + 1, -0.7))) for one in text.places if one]
    return replace(text, places=tuple(places))


@pytest.fixture
def weights(tmp_path: Path) -> Weights:
    path = tmp_path / "models" / "model-q4_0.gguf"
    path.parent.mkdir()
    tiny_gguf(path)
    with path.open("ab") as stream:
        stream.write(os.urandom(3 << 20))
    return Weights(path, sha256_file(path))


def device(tmp: Path, link: Link | None = None, *, home: Path | None = None, **env: str) -> SshTarget:
    """A target whose agent is the one that is installed on devices, with a `llama-server` of its own."""
    line = measuring_agent_line("kitchen", home or tmp / "device", **env)
    return SshTarget("kitchen", "ssh://test", StateDir(tmp / "state"), link or PipeLink(), line)


def servers_of(home: Path) -> list[int]:
    """The model servers that were started below `home` and still run."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        if "stub_llama_server" in line and str(home) in line:
            found.append(process.pid)
    return found


def test_a_device_measures_over_its_own_loopback_and_the_figures_are_made_here(weights, device_url, sshd, tmp_path):
    kitchen = device(tmp_path, ssh_place(device_url).link, home=sshd.home, STUB_TOKEN_MS="3")
    with kitchen.measuring(weights, "v1") as there:
        with there.watching() as seen:
            result = measure_with_sweep(there.served.endpoint, PLAN, levels=(2, 4), open_client=there.open_client)
        assert there.answers(GREEDY)[0].split()[0] == "so"
    assert result.metric("success_rate").value == 1.0
    assert result.metric("tpot_ms.median").value >= 3
    assert result.provenance["stamps"]["by_kernel"]
    assert result.provenance["calibration"]["requests"] >= 24
    assert {point.label for point in sweep_of(result).points} == {"1", "2", "4"}
    assert seen.watched_s > 0
    server = there.fingerprint.server
    assert (server.build, server.identity) == ("stub-1", IdentityProof.LAUNCHED_FROM_DIGEST)
    assert there.fingerprint.host.logical_cores
    assert result.provenance["tokens_counted_by"]["because"] is None
    assert not servers_of(sshd.home)


def test_a_device_tells_what_its_model_expects_and_is_held_against_this_machine(weights, tmp_path):
    asked = ExpectationsRequest(texts=("one two three four", "five six seven"), first=1, places=2, top=2)
    with device(tmp_path).measuring(weights, "v1") as there:
        told = there.expectations(asked)
        assert [one.tokens for one in told.texts] == [(0, 1, 2, 3), (0, 1, 2)]
        assert all(place.top[0][0] == place.token for one in told.texts for place in one.places)
        here = Sample((), GREEDY, (), asked, told)
        same = here.compared_expectations(there)
        assert (same.places, same.kl_mean, same.flips, same.differs) == (4, 0.0, 0, False)
        other = Expectations(texts=tuple(map(of_two_minds, told.texts)))
        assert replace(here, expected=other).compared_expectations(there).differs
        untold = replace(here, expected=Expectations(because="it does not tell")).compared_expectations(there)
        assert (untold.failed, untold.differs) == ("this machine's: it does not tell", False)


def test_weights_travel_once_and_a_release_that_holds_them_spares_the_way(weights, tmp_path):
    kitchen = device(tmp_path)
    for _ in range(2):
        with kitchen.measuring(weights, "v1") as there:
            assert there.answers(GREEDY)
    assert kitchen.tally.sent_bytes == kitchen.tally.needed_bytes == weights.path.stat().st_size


def test_what_was_measured_need_not_travel_again_to_be_deployed(tmp_path):
    bundle = make_bundle(tmp_path / "bundles", "v1")
    model = max((bundle / "model").rglob("*.gguf"), key=lambda path: path.stat().st_size)
    weights = Weights(model, sha256_file(model))
    cache = Candidates(tmp_path / "candidates", tmp_path / "releases")
    cache.offer(offer_of(weights))
    cache.take(weights.sha256, model.name, 0, model.read_bytes())
    assert cache.file(weights.sha256) is None
    assert cache.offer(offer_of(weights)).whole
    assert cache.file(weights.sha256).read_bytes() == model.read_bytes()


def test_a_server_ends_with_its_measurement_however_that_ends(weights, tmp_path):
    kitchen = device(tmp_path)
    home = tmp_path / "device"
    with pytest.raises(RuntimeError, match="enough"), kitchen.measuring(weights, "v1"):
        assert servers_of(home)
        raise RuntimeError("enough")
    until = time.monotonic() + 20
    while servers_of(home):
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_server_that_died_meanwhile_spoils_the_measurement(weights, tmp_path):
    kitchen = device(tmp_path)
    with pytest.raises(ServerFailed, match="ended"), kitchen.measuring(weights, "v1"):
        for pid in servers_of(tmp_path / "device"):
            psutil.Process(pid).kill()
        time.sleep(0.5)


def test_weights_that_arrive_otherwise_are_not_measured(weights, tmp_path):
    wrong = Weights(weights.path, "0" * 64)
    with (
        pytest.raises(BadInput, match="does not arrive as the file with the SHA-256 0000"),
        device(tmp_path).measuring(wrong, "v1"),
    ):
        pass


def test_a_device_that_cannot_be_reached_says_so_before_anything_travels(weights, device_url, sshd, tmp_path):
    sshd.stop()
    kitchen = device(tmp_path, ssh_place(device_url).link)
    with pytest.raises(Unreachable), kitchen.measuring(weights, "v1"):
        pass
    assert kitchen.tally.sent_bytes == 0


def test_a_health_contract_is_measured_on_the_device_with_its_settings(weights, tmp_path):
    kitchen = device(tmp_path, MILTON_SERVER_SLOTS="2", MILTON_SERVER_THREADS="1")
    request = ContractRequest(artefact=weights.sha256, model="v1", least_speed=0.5)
    contract = kitchen.contract(weights, request)
    assert (contract.served_with.slots, contract.served_with.threads) == (2, 1)
    assert contract.min_output_tokens_per_s > 0
    assert all(probe.answer_sha256 for probe in contract.probes)


def test_a_target_on_this_machine_measures_alike(weights, tmp_path):
    server = EdgeServer(file=LlamaCppLauncher(binary=str(program(tmp_path / "bin"))))
    kit = open_targets(StateDir(tmp_path / "state"), {}, server=lambda: server).named("kit")
    assert isinstance(kit, Measures)
    assert isinstance(device(tmp_path), Measures)
    with kit.measuring(weights, "v1") as there, there.watching() as seen:
        result = measure_with_sweep(there.served.endpoint, PLAN, levels=(2,), open_client=there.open_client)
    assert result.metric("success_rate").value == 1.0
    assert seen.watched_s > 0
    assert not (tmp_path / "state" / "agent").exists()


def test_candidates_used_longest_ago_make_room_for_others(tmp_path):
    bound = 2048 / shutil.disk_usage(tmp_path).total
    cache = Candidates(tmp_path / "candidates", tmp_path / "releases", share_of_disk=bound)
    offers = [WeightsOffer(artefact=digit * 64, files={"model.gguf": 700}, main="model.gguf") for digit in "abc"]
    for at, offer in enumerate(offers[:2]):
        cache.offer(offer)
        cache.take(offer.artefact, "model.gguf", 0, bytes(700))
        os.utime(tmp_path / "candidates" / offer.artefact / "offer.json", (at, at))
    cache.offer(offers[2])
    assert {path.name[0] for path in (tmp_path / "candidates").iterdir() if path.is_dir()} == {"b", "c"}


@pytest.mark.parametrize("name", ["../model.gguf", "/etc/passwd", ""], ids=["up", "absolute", "empty"])
def test_weights_that_would_lie_elsewhere_are_not_taken(name):
    with pytest.raises(ValueError, match="path"):
        WeightsOffer(artefact="a" * 64, files={name: 1}, main=name)
