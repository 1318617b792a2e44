"""Every verb prints where the terminal knows nothing but ASCII or Latin-1, and no text of others steers it."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from milton_assets.cli.autobench import EXIT_INTERRUPTED
from milton_assets.vocabulary.state import StateDir
from resources.console_logger import in_one_sentence
from tests.support.decided_run import VERSION, decided
from tests.support.edge_bundles import make_bundle
from tests.support.scripted_server import answer, scripted_server

VERBS = (
    ("--help",),
    ("status",),
    ("status", "--verify"),
    ("history",),
    ("target", "list"),
    ("target", "show", "local"),
    ("recover", "--all"),
    ("gc", "--dry-run"),
    ("registry", "list"),
    ("registry", "show", VERSION),
    ("results",),
    ("results", "--help"),
    ("bundle", "inspect"),
    ("bundle", "verify"),
    ("config", "show"),
    ("config", "check"),
    ("env",),
    ("keys", "show"),
)


def milton(state: Path, *arguments: str, encoding: str) -> subprocess.CompletedProcess[bytes]:
    program = "import sys; from milton_assets.cli.app import main; sys.argv[0] = 'milton'; main()"
    plain = {"LC_ALL": "C", "PYTHONIOENCODING": encoding}
    plain["MILTON_STATE_DIR"] = str(state)
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, env=os.environ | plain, timeout=120
    )


@pytest.fixture(scope="module")
def lived_in(tmp_path_factory: pytest.TempPathFactory) -> StateDir:
    """A state folder that has something to show to every verb, with text that ASCII does not have."""
    state = StateDir(tmp_path_factory.mktemp("lived") / "zu Haus – ä")
    decided(state)
    make_bundle(state.bundles, "v1", run_id="benchmark_20260110_000000")
    unproved = ("--no-load-test", "--health-rounds", "0")
    done = milton(state.root, "deploy", *unproved, "--actor", "Jürgen → 🦊 [/bold]", encoding="ascii")
    assert done.returncode == 0, done.stderr
    return state


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_a_verb_prints_whatever_the_terminals_encoding(
    lived_in: StateDir, verb: tuple[str, ...], encoding: str
) -> None:
    done = milton(lived_in.root, *verb, encoding=encoding)
    # A stream that says ASCII is taken for UTF-8 by Click, through which plain lines are printed.
    told = (done.stdout + done.stderr).decode("utf-8" if encoding == "ascii" else encoding)
    assert "Traceback" not in told
    assert "UnicodeEncodeError" not in told
    assert told.strip()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_json_is_the_same_whatever_the_terminals_encoding(lived_in: StateDir, encoding: str) -> None:
    (done,) = json.loads(milton(lived_in.root, "history", "--json", encoding=encoding).stdout.decode(encoding))
    assert done["actor"] == "Jürgen → 🦊 [/bold]"


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_data_set_may_be_called_like_markup(tmp_path: Path, encoding: str) -> None:
    folder = tmp_path / "x [bold] y"
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text('{"_id": "d1", "text": "a lamp burns oil"}\n{"_id": "d2", "text": "lamp"}\n')
    (folder / "queries.jsonl").write_text('{"_id": "q1", "text": "lamp oil"}\n')
    (folder / "dataset.json").write_text(json.dumps({"name": "x [/bold] y", "version": "1 [red]"}))
    (folder / "qrels" / "test.tsv").write_text("q1\td1\t1\n")
    with scripted_server(answer("1")) as server:
        address = ("--base-url", server.base_url, "--model", "scripted")
        done = milton(tmp_path, "bench", "retrieval", *address, "--dataset", str(folder), encoding=encoding)
    told = (done.stdout + done.stderr).decode(encoding)
    assert "Traceback" not in told
    assert "retrieval on x-bold-y/corpus.jsonl" in told


def test_a_verb_in_a_shells_background_heeds_an_interrupt() -> None:
    """A shell starts what stands before an `&` with SIGINT ignored, which programs inherit."""
    verb = "lambda: (print('up', flush=True), time.sleep(60))"
    program = f"import time; from milton_assets.cli import app; app.build_app = lambda: {verb}; app.main()"
    command = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None and running.stdout.readline() == "up\n"
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == EXIT_INTERRUPTED


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Dependencies for step fidelity_is_complete failed: ['fidelity_metrics']. Not executing.", None),
        ("the model server is gone", "milton: the model server is gone"),
    ],
    ids=["waited-for-one-that-failed", "failed"],
)
def test_only_what_failed_says_so_and_not_what_waited_for_it(said: str, shown: str | None) -> None:
    record = logging.LogRecord("dagster", logging.ERROR, __file__, 1, said, None, None)
    assert in_one_sentence(record) == shown
