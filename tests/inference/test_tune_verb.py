"""`milton tune` with a `llama-server` whose speed depends on its flags: a real process."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from rich.console import Console

from milton_assets.cli.tune import draw
from milton_assets.fleet.trying import Pairing
from milton_assets.settings import load_settings
from milton_assets.tiers.inference.beside import Ratio
from milton_assets.tiers.inference.client import measuring_here
from milton_assets.tiers.inference.orders import OpenClient
from milton_assets.tiers.inference.tuning import NotMeasured, Trial, TrialVerdict, Tuned
from milton_assets.usecases.measuring import ATTEMPTS
from milton_assets.usecases.one_model import gguf_file
from milton_assets.usecases.tuning import Card, Comparisons, TuningPlan, axes_that_show
from milton_assets.vocabulary.fingerprint import Fingerprint, ServerFingerprint
from milton_assets.vocabulary.machine import Seen
from milton_assets.vocabulary.progress import Progress
from milton_assets.vocabulary.server import Endpoint, RunningServer
from milton_assets.vocabulary.tuning import Choice
from resources.evidence_store import EvidenceStore
from resources.hardware import fingerprint
from resources.servers.llama_cpp import LlamaCppLauncher
from resources.servers.tunable import axes_of, settings_changed, with_choices
from tests.support.gguf_file import tiny_gguf
from tests.support.scripted_server import answer, scripted_server
from tests.support.shell import milton
from tests.support.stub_llama_server import program_by_flags

pytestmark = pytest.mark.slow

CALL = "import sys; from milton_assets.cli.app import main; sys.argv[0] = 'milton'; main()"


@dataclass(frozen=True)
class Tuning:
    state: Path
    card: dict[str, Any]
    progress: str
    left: list[str]


@pytest.fixture(scope="module")
def tuning(tmp_path_factory: pytest.TempPathFactory) -> Tuning:
    """One search, from two threads, on a server that is ten times as fast with one."""
    folder = tmp_path_factory.mktemp("tuning")
    state = folder / "state"
    state.mkdir()
    (state / "milton.yaml").write_text(
        f"server: {{binary: {program_by_flags(folder)}, threads: 2, extra_args: [--no-webui]}}\nwatch_machine: false\n"
    )
    gguf = tiny_gguf(folder / "toy.gguf")
    few = ("--rounds", "4", "--requests", "1", "--max-tokens", "8", "--prompt-tokens", "200")
    done = milton("tune", "--gguf", gguf, *few, "--json", MILTON_STATE_DIR=state)
    assert done.returncode == 0, done.stderr
    return Tuning(state, json.loads(done.stdout), done.stderr, servers_in(folder))


def servers_in(folder: Path) -> list[str]:
    """The command lines of the servers of that folder's model."""
    lines = [" ".join(_words(process)) for process in psutil.process_iter()]
    return [line for line in lines if f"--model {folder}" in line and "stub_llama_server" in line]


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_the_faster_setting_is_recommended_as_lines_of_milton_yaml(tuning: Tuning) -> None:
    assert tuning.card["settings"] == {"server": {"threads": 1}}
    assert tuning.card["confirmation"]["verdict"] == "better"
    assert tuning.card["confirmation"]["gain"]["low"] > tuning.card["noise"] > 1


def test_what_the_program_does_not_take_or_dies_of_is_told_with_why(tuning: Tuning) -> None:
    assert tuning.card["skipped"]["kv_type"] == "the program knows no --cache-type-v, --flash-attn"
    assert "--draft" in tuning.card["skipped"]["draft"]
    dead = next(trial for trial in tuning.card["trials"] if "batch 128" in trial["of"])
    assert (dead["verdict"], "no batch of 128 here" in dead["because"]) == ("not_measured", True)


def test_prompts_that_fit_into_the_smallest_batch_try_no_batch_and_it_is_said(tmp_path: Path) -> None:
    axes = axes_of(LlamaCppLauncher(binary=str(program_by_flags(tmp_path))))
    few = axes_that_show(axes, TuningPlan())
    assert axes.choices.keys() - few.choices.keys() == {"batch"}
    assert "--prompt-tokens" in few.skipped["batch"]
    assert axes_that_show(axes, TuningPlan(prompt_tokens=200)) == axes


def test_prompts_are_made_as_long_as_asked_for_and_end_with_what_they_ask() -> None:
    shipped, longer = TuningPlan().prompts, TuningPlan(prompt_tokens=600).prompts
    assert [prompt.id for prompt in longer] == [prompt.id for prompt in shipped]
    for before, after in zip(shipped, longer, strict=True):
        assert after.text.endswith(before.text)
        assert 2400 <= len(after.text) < 2800
    assert len({prompt.text[:40] for prompt in longer}) > 1


def test_the_rounds_are_kept_as_evidence_with_both_servers_fingerprints(tuning: Tuning) -> None:
    file = EvidenceStore(tuning.state / "benchmarks").latest("tuning", "toy")
    assert file is not None
    table = file.read()
    stated = json.loads(table.schema.metadata[b"milton"])
    assert file.uri == tuning.card["evidence"]
    first = stated["comparisons"][0]
    assert first["fingerprint"]["server"]["flags"] == first["fingerprint_against"]["server"]["flags"]
    assert table.filter(table["comparison"].to_numpy() == 0).num_rows == 4
    assert stated["card"]["noise"] == tuning.card["noise"]


def test_it_says_how_far_it_is_and_leaves_no_server_behind(tuning: Tuning) -> None:
    assert "threads 1 beside the settings in force" in tuning.progress
    assert tuning.left == []


def test_the_card_shows_each_figure_with_its_interval_and_lines_that_yaml_reads() -> None:
    one = Choice("threads", "threads [1]", {"threads": 1})
    better = Trial((one,), (), TrialVerdict.BETTER, Ratio(1.5, 1.4, 1.6, 8))
    dead = Trial((one,), (), TrialVerdict.NOT_MEASURED, because="it ended")
    tuned = Tuned(
        "output_tokens_per_s", {"output_tokens_per_s": 1.03}, (Ratio(1, 0.98, 1.02, 8),), (better, dead), better, (one,)
    )
    shown = Console(width=120, file=io.StringIO(), record=True)
    draw(shown, Card("m", tuned, {"draft": "none was named"}, "server", {"threads": 1, "extra_args": ["--a", "b"]}))
    text = shown.export_text()
    for words in (
        "threads [1]",
        "1.400 … 1.600",
        "up to a factor of 1.030",
        "it ended",
        "skipped: draft: none was named",
    ):
        assert words in text
    lines = text.partition("In milton.yaml")[2].splitlines()[1:]
    assert yaml.safe_load("\n".join(lines)) == {"server": {"threads": 1, "extra_args": ["--a", "b"]}}


def test_ctrl_c_leaves_neither_server_nor_evidence(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "milton.yaml").write_text(f"server: {{binary: {program_by_flags(tmp_path)}, threads: 2}}\n")
    process = subprocess.Popen(
        [sys.executable, "-c", CALL, "tune", "--gguf", str(tiny_gguf(tmp_path / "toy.gguf"))],
        stderr=subprocess.PIPE,
        env=os.environ | {"MILTON_STATE_DIR": str(state)},
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while len(left := servers_in(tmp_path)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert left
    assert (process.returncode, b"Traceback" in said) == (130, False)
    assert servers_in(tmp_path) == []
    assert not (state / "benchmarks").exists()


@dataclass(frozen=True)
class OnBusyMachine:
    """A served model on a machine that something else wants all the time; implements `fleet.measuring.Measured`."""

    served: RunningServer
    open_client: OpenClient
    fingerprint: Fingerprint

    @contextmanager
    def watching(self) -> Iterator[Seen]:
        yield Seen(watched_s=1.0, disturbed_s=1.0, reasons={"other processes wanted the cores": 1.0})


@dataclass
class BusyMachine:
    """Two servers on such a machine; implements what a comparison asks of `fleet.trying.TriesSettings`."""

    urls: tuple[str, str]
    tries: int = 0

    @contextmanager
    def trying(self, pairing: Pairing, **_: Any) -> Iterator[Any]:
        self.tries += 1
        with measuring_here() as open_client:
            yield tuple(
                OnBusyMachine(
                    RunningServer(Endpoint(url, pairing.model), ServerFingerprint(name="scripted")),
                    open_client,
                    fingerprint(),
                )
                for url in self.urls
            )


def test_what_was_taken_on_a_busy_machine_is_taken_again_three_times_at_most(tmp_path: Path) -> None:
    gguf = tiny_gguf(tmp_path / "toy.gguf")
    settings = load_settings({"MILTON_STATE_DIR": str(tmp_path)})
    said: list[Progress] = []
    with scripted_server(lambda _: answer("a ", "b ")) as one, scripted_server(lambda _: answer("a ", "b ")) as other:
        place = BusyMachine((one.base_url, other.base_url))
        plan = TuningPlan(rounds=3, requests_per_round=1, max_tokens=4)
        comparing = Comparisons(place, settings, gguf_file(gguf), plan, 1, None, said.append)  # type: ignore[arg-type]
        with pytest.raises(NotMeasured, match="other processes wanted the cores"):
            comparing.compare((), ())
    assert place.tries == ATTEMPTS
    assert [step.done for step in said if step.stage == "machine"] == [1, 2]


def test_an_option_that_was_given_already_is_replaced_and_others_stay(tmp_path: Path) -> None:
    extra = ("--no-webui", "--ubatch-size", "64", "--batch-size", "64")
    given = LlamaCppLauncher(binary=str(program_by_flags(tmp_path)), extra=extra)
    wanted = with_choices(given, axes_of(given).named(["batch 1024"]))
    assert wanted.extra == ("--no-webui", "--ubatch-size", "1024", "--batch-size", "2048")


@pytest.mark.parametrize(
    "extra", [("-t", "8"), ("--threads", "8"), ("--threads=8",)], ids=["short", "long", "with an equals sign"]
)
def test_what_was_given_for_a_searched_setting_by_another_name_does_not_win_over_the_trial(
    tmp_path: Path, extra: tuple[str, ...]
) -> None:
    given = LlamaCppLauncher(
        binary=str(program_by_flags(tmp_path)), threads=2, extra=("--no-webui", *extra, "-fa", "-np", "1")
    )
    wanted = with_choices(given, axes_of(given).named(["threads 1"]))
    assert (wanted.threads, wanted.extra) == (1, ("--no-webui", "-fa", "-np", "1"))


@pytest.mark.parametrize(
    ("launched", "tried"),
    [
        (LlamaCppLauncher(threads=1), False),
        (LlamaCppLauncher(threads=2, extra=("-t", "1")), False),
        (LlamaCppLauncher(threads=1, extra=("--threads=2",)), True),
        (LlamaCppLauncher(threads=2, extra=("-t", "1", "--threads", "2")), True),
    ],
    ids=["by the setting", "by an argument", "by an argument against the setting", "by the last of two arguments"],
)
def test_what_is_in_force_however_it_was_given_is_not_tried(
    tmp_path: Path, launched: LlamaCppLauncher, tried: bool
) -> None:
    axes = axes_of(replace(launched, binary=str(program_by_flags(tmp_path))))
    assert ("threads 1" in [choice.label for choice in axes.choices.get("threads", ())]) is tried


@pytest.mark.parametrize(
    ("extra", "labels"),
    [
        ((), ["batch 128", "batch 1024"]),
        (("-ub", "128"), ["batch 512", "batch 1024"]),
        (("-ub", "1024", "-b", "1024"), ["batch 128", "batch 512", "batch 1024"]),
    ],
    ids=["llama.cpp's own", "one of those tried", "another pair"],
)
def test_the_batch_in_force_is_not_tried_and_others_are(
    tmp_path: Path, extra: tuple[str, ...], labels: list[str]
) -> None:
    axes = axes_of(LlamaCppLauncher(binary=str(program_by_flags(tmp_path)), extra=extra))
    assert [choice.label for choice in axes.choices["batch"]] == labels


def test_the_batch_of_the_wheels_server_is_read_from_what_was_set() -> None:
    axes = axes_of(LlamaCppLauncher(extra=("--set", "n_ubatch=128")))
    assert [choice.label for choice in axes.choices["batch"]] == ["batch 512", "batch 1024"]


def test_what_the_choices_change_is_told_by_the_names_of_settings() -> None:
    given = LlamaCppLauncher(threads=2, extra=("--set", "n_ubatch=64"))
    chosen = axes_of(given).named(["threads 1", "batch 1024"])
    extra = ["--set", "n_ubatch=1024", "--set", "n_batch=2048"]
    assert settings_changed(given, chosen) == {"threads": 1, "extra_args": extra}
    assert settings_changed(given, ()) == {}
    bare = LlamaCppLauncher(threads=2)
    assert settings_changed(bare, axes_of(bare).named(["batch 1024"])) == {"extra_args": extra}
