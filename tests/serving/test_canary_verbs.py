"""The commands of docs/canary.md, as a shell runs them, beside a gateway in a process of its own."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from milton_assets.edge.manifest import HealthContract, Probe
from milton_assets.vocabulary.server import ServingSettings
from milton_assets.vocabulary.state import StateDir
from tests.support.edge_bundles import make_bundle
from tests.support.shell import UNPROBED, milton, told
from tests.support.stub_llama_server import program

pytestmark = pytest.mark.slow
PAGE = Path(__file__).parents[2] / "docs" / "canary.md"
CONTRACT = HealthContract(
    probes=(Probe(prompt="Say hello.", max_tokens=4),),
    served_with=ServingSettings(context_tokens=512, slots=4, threads=1),
)
QUESTION = {"messages": [{"role": "user", "content": "Hello there?"}], "max_tokens": 4, "stream": True}


def commands() -> list[list[str]]:
    """The page's lines."""
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return [shlex.split(line)[1:] for line in block.splitlines()]


@contextmanager
def serving(target: str, *, ends_by: signal.Signals = signal.SIGTERM) -> Iterator[str]:
    """`milton-serve` of that target, and its address, once it splits requests; it is ended by that signal."""
    serve = [Path(sys.executable).with_name("milton-serve"), "--target", target, "--port", "0", "--no-watch"]
    with subprocess.Popen(serve, stderr=subprocess.PIPE, text=True, env=os.environ | {"STUB_TOKEN_MS": "1"}) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            address = re.search(r"listening at (http://\S+)/v1", line)
            assert address, line
            deadline = time.monotonic() + 60
            while httpx.get(f"{address[1]}/health").json()["canary"] is None:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield address[1]
        finally:
            process.send_signal(ends_by)
            process.communicate(timeout=30)


def ask(address: str, times: int) -> list[str]:
    """Ask so often; which version answered each."""
    with httpx.Client(timeout=60) as client, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: client.post(f"{address}/v1/chat/completions", json=QUESTION), range(times)))
    assert {one.status_code for one in answers} == {200}
    return [one.headers["x-milton-model-version"] for one in answers]


def test_the_pages_commands_run_a_canary_over_a_gateway_that_is_killed_and_keep_its_verdict_signed(
    state: StateDir, tmp_path: Path
) -> None:
    state.root.mkdir(parents=True, exist_ok=True)
    (state.root / "milton.yaml").write_text(
        f"targets: {{kitchen: {tmp_path / 'kitchen'}}}\nedge_server: {{binary: {program(tmp_path / 'bin')}}}\n"
    )
    assert milton("keys", "init").returncode == 0
    old = make_bundle(tmp_path / "old", "v1", health=CONTRACT)
    told("deploy", "--bundle", old, "--target", "kitchen", *UNPROBED)
    make_bundle(state.bundles, "v2", counter=2, health=CONTRACT, ram_bytes=1 << 20)
    start, status, stop = commands()
    begun = milton(*start)
    assert begun.returncode == 0, begun.stderr
    assert "v2 is to get 10% of the requests of v1 on kitchen" in begun.stdout
    with serving("kitchen", ends_by=signal.SIGKILL) as address:
        versions = ask(address, 40)
    with serving("kitchen") as address:
        versions += ask(address, 40)
        shown = milton(*status)
        assert shown.returncode == 0, shown.stderr
        assert "so far: not yet" in shown.stdout
        assert "v2 beside v1, 10% of the requests" in shown.stdout
        ended = milton(*stop)
        assert ended.returncode == 0, ended.stderr
        assert "verdict: not yet" in ended.stdout
        assert "signed by SHA256:" in ended.stdout
    kept = json.loads(next(state.field.glob("kitchen/canary_*.json")).read_bytes())
    by_arm = {arm: kept["told"]["counts"][arm]["requests"] for arm in ("challenger", "incumbent")}
    # A kill may come between the end of an answer and its record.
    lost = [versions.count("v2") - by_arm["challenger"], versions.count("v1") - by_arm["incumbent"]]
    assert sorted(lost) in ([0, 0], [0, 1])
    again = told(*start, "--goldens", "shipped")
    assert again["goldens"], "one that is over is in nobody's way"
