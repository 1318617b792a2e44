"""`milton tune --class`: settings are searched on the class's reference device, from those that it has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from milton_assets.fleet.measuring import Weights
from milton_assets.fleet.ssh import SshTarget
from milton_assets.fleet.trying import Pairing, TriesSettings
from milton_assets.settings import load_settings
from milton_assets.usecases.one_model import gguf_file
from milton_assets.usecases.targets import open_targets
from milton_assets.usecases.tuning import tune
from milton_assets.vocabulary.digest import sha256_file
from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.state import StateDir
from milton_assets.vocabulary.tuning import Choice
from resources.edge_server import EdgeServer
from resources.evidence_store import EvidenceStore
from tests.support.agents import PipeLink, measuring_agent_line, put_measuring_agent
from tests.support.gguf_file import tiny_gguf
from tests.support.shell import milton
from tests.support.stub_llama_server import program_by_flags

pytestmark = pytest.mark.slow
THREADS_ALONE = "-t, --threads N"
"""The help of a program of which nothing but the threads can be chosen, so that a search is short."""


def kitchen(tmp: Path, **env: str) -> SshTarget:
    """A device that serves with two threads, spoken to over pipes."""
    binary = program_by_flags(tmp / "device" / "tuned", options=THREADS_ALONE)
    given = {"MILTON_SERVER_BINARY": str(binary), "MILTON_SERVER_THREADS": "2", **env}
    line = measuring_agent_line("kitchen", tmp / "device", **given)
    return SshTarget("kitchen", "ssh://test", StateDir(tmp / "state"), PipeLink(), line)


@pytest.mark.alone
def test_a_class_is_tuned_on_its_reference_and_the_lines_are_for_that_device(sshd, device_url, tmp_path):
    binary = program_by_flags(sshd.home / "tuned", options=THREADS_ALONE)
    put_measuring_agent(sshd.home, MILTON_SERVER_BINARY=str(binary), MILTON_SERVER_THREADS="2")
    state = tmp_path / "state"
    state.mkdir()
    settings = {
        "targets": {"kitchen": {"at": device_url, "class": "pi5"}},
        "device_classes": {"pi5": {"reference": "kitchen"}},
        "watch_machine": False,
    }
    (state / "milton.yaml").write_text(json.dumps(settings))
    few = ("--rounds", "4", "--requests", "1", "--max-tokens", "8")
    gguf = tiny_gguf(tmp_path / "toy.gguf")
    done = milton("tune", "--gguf", gguf, "--class", "pi5", *few, "--json", MILTON_STATE_DIR=state)
    assert done.returncode == 0, done.stderr
    card = json.loads(done.stdout)
    assert (card["on"], card["settings"]) == ("kitchen", {"edge_server": {"threads": 1}}), card
    assert card["confirmation"]["gain"]["low"] > card["noise"]
    assert card["skipped"]["batch"] == "the program knows no --batch-size, --ubatch-size"
    file = EvidenceStore(state / "benchmarks").latest("tuning", "pi5|toy")
    assert file is not None
    assert file.uri == card["evidence"]
    stated = json.loads(file.read().schema.metadata[b"milton"])
    assert stated["measured_on"] == {"target": "kitchen", "class": "pi5"}
    served = stated["comparisons"][-1]["fingerprint"]["server"]
    assert "--threads 1" in " ".join(served["flags"])
    assert served["model_path"].startswith(str(sshd.home))


def test_a_device_serves_with_nothing_but_what_it_offered(tmp_path):
    device = kitchen(tmp_path)
    path = tiny_gguf(tmp_path / "toy.gguf")
    weights = Weights(path, sha256_file(path))
    forged = (Choice("threads", "threads 1 --log-file /etc/passwd", options=(("--log-file", "/etc/passwd"),)),)
    with (
        pytest.raises(BadInput, match="'threads 1 --log-file /etc/passwd' cannot be chosen here"),
        device.trying(Pairing(weights, "v1", of=forged, against=())),
    ):
        pass


def test_two_servers_of_one_device_differ_in_what_was_chosen_alone(tmp_path):
    device = kitchen(tmp_path)
    path = tiny_gguf(tmp_path / "toy.gguf")
    chosen = device.axes().named(["threads 1"])
    with device.trying(Pairing(Weights(path, sha256_file(path)), "v1", of=chosen, against=())) as (trial, standing):
        assert trial.served.endpoint.base_url != standing.served.endpoint.base_url
        mine, theirs = (" ".join(one.served.fingerprint.flags) for one in (trial, standing))
    assert ("--threads 1" in mine, mine.replace("--threads 1", "--threads 2")) == (True, theirs)
    assert device.settings_changed(chosen) == {"threads": 1}


def test_what_a_device_would_not_tell_of_itself_stays_untold_in_the_lines_to_write(tmp_path):
    device = kitchen(tmp_path, MILTON_SERVER_EXTRA_ARGS="-t 2 --api-key swordfish")
    changed = device.settings_changed(device.axes().named(["threads 1"]))
    assert changed == {"threads": 1, "extra_args": ["--api-key", "***"]}


def test_a_device_that_serves_with_another_program_has_nothing_to_choose_from(tmp_path):
    with pytest.raises(BadInput, match="served by vllm"):
        kitchen(tmp_path, MILTON_ARTIFACT="hf-distilled").axes()


def test_a_draft_on_a_device_is_named_by_its_absolute_path_there(tmp_path):
    binary = program_by_flags(tmp_path / "drafts", options=f"{THREADS_ALONE} -md, --model-draft FILE")
    device = kitchen(tmp_path, MILTON_SERVER_BINARY=str(binary))
    with pytest.raises(BadInput, match="relative path"):
        device.axes(Path("draft.gguf"))
    draft = tiny_gguf(tmp_path / "draft.gguf")
    (choice,) = device.axes(draft).choices["draft"]
    assert choice.options == (("--model-draft", str(draft)),)


@pytest.mark.parametrize(
    ("device_class", "told"),
    [
        ("pi4", "there is no device class 'pi4'"),
        ("orin", "the device class orin has no reference device"),
        ("pi5", "kitchen, the reference device of the class pi5: the device cannot be reached"),
    ],
    ids=["nobody named it", "it has no reference", "its reference is off"],
)
def test_a_class_that_cannot_be_tuned_says_why(device_class, told, sshd, device_url, tmp_path):
    sshd.stop()
    (tmp_path / "milton.yaml").write_text(
        json.dumps(
            {
                "targets": {"kitchen": {"at": device_url, "class": "pi5"}},
                "device_classes": {"orin": {}, "pi5": {"reference": "kitchen"}},
            }
        )
    )
    settings = load_settings({"MILTON_STATE_DIR": str(tmp_path)})
    with pytest.raises(MiltonError, match=told):
        tune(settings, gguf_file(tiny_gguf(tmp_path / "toy.gguf")), device_class=device_class)


def test_targets_here_and_on_devices_can_be_tuned_alike(tmp_path):
    kit = open_targets(StateDir(tmp_path / "state"), {}, server=EdgeServer).named("kit")
    assert isinstance(kit, TriesSettings)
    assert isinstance(kitchen(tmp_path), TriesSettings)
