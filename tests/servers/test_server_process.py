"""A server in a child process: ready or a clear error, and gone afterwards, whatever happens."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import httpx
import psutil
import pytest

from milton_assets.vocabulary.errors import BadInput, ServerFailed
from milton_assets.vocabulary.secrets import without_secrets
from resources.servers.process import (
    AddressTaken,
    Command,
    Listening,
    free_port,
    listening,
    running,
    wait_until_ready,
)
from tests.support import toy_server
from tests.support.processes import gone
from tests.support.scripted_server import scripted_server


def toy(*arguments: str, env: dict[str, str] | None = None):
    def command(port: int) -> Command:
        argv = (sys.executable, toy_server.__file__, "--port", str(port), *arguments)
        return Command("toy", argv, env or {})

    return command


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def crash(server: Listening) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{server.base_url}/crash")


def family(pid: int) -> list[int]:
    return [pid, *(p.pid for p in psutil.Process(pid).children(recursive=True))]


# ---------------------------------------------------------------------------------------------------- starting


def test_the_block_begins_when_the_server_answers() -> None:
    with listening(toy("--slow", "0.4"), start_deadline_s=30) as server:
        assert httpx.get(f"{server.base_url}/v1/models").status_code == 200
        assert server.ready_after_s >= 0.4


def test_starting_and_readiness_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), listening(toy(), start_deadline_s=30) as server:
        said = [record.message for record in caplog.records if record.name == "resources.servers.process"]
    assert said[0].startswith(f"starting toy: {sys.executable}")
    assert said[1].startswith(f"toy is ready at {server.base_url} after ")


def test_a_server_without_a_health_page_is_ready_when_it_lists_its_models() -> None:
    with listening(toy("--no-health"), start_deadline_s=30) as server:
        assert httpx.get(f"{server.base_url}/health").status_code == 404


def test_the_environment_is_ours_and_what_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "1")
    with listening(toy(env={"ADDED": "2"}), start_deadline_s=30) as server:
        seen = httpx.get(f"{server.base_url}/environment").json()
    assert (seen["OURS"], seen["ADDED"]) == ("1", "2")


def test_a_crash_before_readiness_shows_status_command_and_last_lines() -> None:
    with pytest.raises(ServerFailed) as caught, listening(toy("--crash-before", "no such model"), start_deadline_s=30):
        pytest.fail("it must not begin")
    message = str(caught.value)
    assert "ended with exit status 3 before it was ready" in message
    assert "no such model" in message
    assert "--crash-before" in message


def test_a_missed_deadline_says_what_was_seen_and_what_to_do() -> None:
    loading = Command("toy", ("/bin/sh", "-c", "echo loading for ever; exec sleep 60"), {})
    started = time.monotonic()
    with pytest.raises(ServerFailed) as caught, listening(lambda _: loading, start_deadline_s=4):
        pytest.fail("it must not begin")
    assert time.monotonic() - started < 50
    message = str(caught.value)
    assert "not ready after 4 s (ConnectError at" in message
    assert "loading for ever" in message
    assert "start deadline" in message


def test_a_server_that_keeps_saying_that_it_loads_is_not_ready() -> None:
    with (
        pytest.raises(ServerFailed, match=r"\(/health answered 503\)"),
        listening(toy("--slow", "60"), start_deadline_s=5),
    ):
        pytest.fail("it must not begin")


def test_a_program_that_does_not_exist_is_said_so() -> None:
    command = Command("toy", ("/no/such/program",), {})
    with (
        pytest.raises(ServerFailed, match="cannot start /no/such/program: No such file"),
        listening(lambda _: command, start_deadline_s=5),
    ):
        pytest.fail("it must not begin")


def test_no_attempts_are_refused() -> None:
    with pytest.raises(BadInput), listening(toy(), start_deadline_s=1, attempts=0):
        pytest.fail("it must not begin")


# -------------------------------------------------------------------------------------------------------- port


def test_a_snatched_port_is_given_up_for_another() -> None:
    tried = []
    with socket.socket() as snatcher:
        snatcher.bind(("127.0.0.1", 0))
        snatcher.listen()

        def command(port: int) -> Command:
            tried.append(port)
            return toy()(snatcher.getsockname()[1] if len(tried) == 1 else port)

        with listening(command, start_deadline_s=30) as server:
            assert httpx.get(f"{server.base_url}/health").status_code == 200
    assert len(tried) == 2


def test_another_server_answering_at_the_port_is_not_taken_for_ours() -> None:
    sleeper = Command("sleeper", (sys.executable, "-c", "import time; time.sleep(60)"), {})
    with (
        scripted_server() as other,
        running(sleeper) as child,
        pytest.raises(AddressTaken, match="another process answers there"),
    ):
        wait_until_ready(child, other.port, 5)


def test_a_free_port_can_be_bound() -> None:
    assert port_is_free(free_port())


# ------------------------------------------------------------------------------------------------------ secrets


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (("--api-key", "sk-1", "--port", "80"), ("--api-key", "***", "--port", "80")),
        (("--hf-token=hf_1", "--max-tokens=5"), ("--hf-token=***", "--max-tokens=5")),
        (
            ("--max-num-batched-tokens", "64", "--password", "x"),
            ("--max-num-batched-tokens", "64", "--password", "***"),
        ),
    ],
)
def test_secrets_are_not_shown(argv: tuple[str, ...], shown: tuple[str, ...]) -> None:
    assert without_secrets(argv) == shown


def test_an_error_shows_no_secret() -> None:
    with (
        pytest.raises(ServerFailed) as caught,
        listening(toy("--crash-before", "no", "--api-key", "sk-1"), start_deadline_s=30),
    ):
        pytest.fail("it must not begin")
    assert "--api-key '***'" in str(caught.value)
    assert "sk-1" not in str(caught.value)


# ------------------------------------------------------------------------------------------------------- ending


def test_after_the_block_no_process_is_left_and_the_port_is_free() -> None:
    with listening(toy(), start_deadline_s=30) as server:
        port, pids = httpx.URL(server.base_url).port, family(server.child.pid)
        assert len(pids) >= 2
    assert all(gone(pid, 0) for pid in pids)
    assert port_is_free(port)


def test_an_exception_in_the_block_passes_and_the_server_is_gone() -> None:
    with pytest.raises(KeyError), listening(toy(), start_deadline_s=30) as server:
        pids = family(server.child.pid)
        raise KeyError("the block's own")
    assert all(gone(pid, 0) for pid in pids)


def test_a_server_that_ignores_sigterm_is_killed_after_the_grace() -> None:
    with listening(toy("--stubborn"), start_deadline_s=30, grace_s=0.3) as server:
        pids = family(server.child.pid)
        leaving = time.monotonic()
    assert 0.3 <= time.monotonic() - leaving < 10
    assert all(gone(pid, 0) for pid in pids)


def test_children_in_sessions_of_their_own_and_orphans_are_ended_too(tmp_path: Path) -> None:
    brood = tmp_path / "brood"
    with listening(toy("--brood", str(brood)), start_deadline_s=30, grace_s=0.5):
        pids = [int(pid) for pid in brood.read_text().split()]
        assert len(pids) == 2
        assert all(psutil.pid_exists(pid) for pid in pids)
    assert all(gone(pid, 0) for pid in pids)


def test_a_server_that_crashes_in_use_is_an_error_with_its_last_lines() -> None:
    with (
        pytest.raises(ServerFailed, match=r"exit status 9 while it was in use[\s\S]*out of patience"),
        listening(toy(), start_deadline_s=30) as server,
    ):
        crash(server)


def test_the_blocks_own_error_is_kept_and_tells_of_the_crash() -> None:
    with pytest.raises(KeyError) as caught, listening(toy(), start_deadline_s=30) as server:
        crash(server)
        raise KeyError("the block's own")
    assert "out of patience" in caught.value.__notes__[0]


def test_children_of_a_crashed_server_are_ended(tmp_path: Path) -> None:
    brood = tmp_path / "brood"
    with pytest.raises(ServerFailed), listening(toy("--brood", str(brood)), start_deadline_s=30) as server:
        pids = [int(pid) for pid in brood.read_text().split()]
        crash(server)
        assert gone(server.child.pid)
        assert all(gone(pid, 0) for pid in pids)


def test_a_server_killed_by_a_signal_is_said_so() -> None:
    with pytest.raises(ServerFailed, match="ended by signal 9"), listening(toy(), start_deadline_s=30) as server:
        os.kill(family(server.child.pid)[1], signal.SIGKILL)
        assert gone(server.child.pid)


def test_a_killed_warden_takes_the_server_with_it() -> None:
    with pytest.raises(ServerFailed), listening(toy(), start_deadline_s=30) as server:
        pids = family(server.child.pid)
        os.kill(server.child.pid, signal.SIGKILL)
        assert all(gone(pid) for pid in pids)


# ------------------------------------------------------------------------------------------- when we are ended

OWNER = """
    import os, sys, time
    from resources.servers.process import Command, listening

    def command(port):
        return Command("toy", (sys.executable, sys.argv[1], "--port", str(port), "--brood", sys.argv[2]), {})

    with listening(command, start_deadline_s=30, grace_s=1) as server:
        if sys.argv[3] == "fork":
            fork = os.fork()
            if fork == 0:
                os.setsid()
                time.sleep(60)
                os._exit(0)
        else:
            fork = 0
        print(server.child.pid, server.base_url, fork, flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize("heirs", ["alone", "fork"], ids=["alone", "with a fork that inherited the lifeline"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGHUP], ids=lambda s: s.name)
def test_nothing_outlives_us(how: signal.Signals, heirs: str, tmp_path: Path) -> None:
    script, brood = tmp_path / "owner.py", tmp_path / "brood"
    script.write_text(textwrap.dedent(OWNER))
    root = Path(toy_server.__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, str(script), toy_server.__file__, str(brood), heirs],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as owner:
        assert owner.stdout
        warden, url, fork = owner.stdout.readline().split()
        try:
            pids = family(int(warden)) + [int(pid) for pid in brood.read_text().split()]
            owner.send_signal(how)
            owner.wait(30)
            assert all(gone(pid) for pid in pids)
            assert port_is_free(httpx.URL(url).port)
        finally:
            if fork != "0":
                os.kill(int(fork), signal.SIGKILL)


# ---------------------------------------------------------------------------------------------------------- log


def test_the_log_stays_where_it_was_asked_for(tmp_path: Path) -> None:
    for _ in range(2):
        with listening(toy(), start_deadline_s=30, log_dir=tmp_path / "logs"):
            pass
    logs = sorted((tmp_path / "logs").iterdir())
    assert len(logs) == 2
    assert all("toy server starting" in log.read_text() for log in logs)


def test_without_a_folder_the_log_has_no_name_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with listening(toy(), start_deadline_s=30) as server:
        assert any("toy server starting" in line for line in server.child.last_lines())
        assert list(tmp_path.iterdir()) == []


def test_last_lines_are_few_and_short() -> None:
    noisy = "for i in range(200): print(i, 'x' * 5000)"
    with running(Command("noisy", (sys.executable, "-c", noisy), {})) as child:
        assert gone(child.pid)
        lines = child.last_lines()
        assert child.ended() == "ended with exit status 0"
    assert len(lines) == 20
    assert lines[-1].startswith("199 x")
    assert max(map(len, lines)) <= 500


def test_what_is_not_text_in_the_log_does_not_hide_the_rest() -> None:
    noisy = "import sys; sys.stdout.buffer.write(b'\\xff\\xfe\\nthe reason\\n')"
    with running(Command("noisy", (sys.executable, "-c", noisy), {})) as child:
        assert gone(child.pid)
        assert child.last_lines()[-1] == "the reason"


@pytest.mark.parametrize(
    ("is_ours", "env", "told"),
    [(False, {}, "[]"), (False, {"PYTHONPATH": "/given"}, "[/given]"), (True, {}, "[/ours]")],
    ids=["another's", "another's that was given one", "ours"],
)
def test_only_a_program_of_ours_finds_modules_where_we_do(
    is_ours: bool, env: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/ours")
    with running(Command("sh", ("/bin/sh", "-c", "echo [$PYTHONPATH]"), env, is_ours=is_ours)) as child:
        assert gone(child.pid)
        assert child.last_lines() == [told]
