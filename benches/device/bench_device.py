"""A device's agent: how large it is, how soon it answers, and what transfers send over what they need.

    make bench-device

Prints, on this machine: `status` on the device, made anew and said again, beside an interpreter that imports pydantic
alone, with compiled modules as the installation leaves them; the wheels' size unpacked; bytes sent over bytes needed
through a link of 10 Mbit/s, with and without cuts. `--megabytes` and `--cuts`.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from milton_assets.agent.status_memo import SETTLED_S  # noqa: E402
from milton_assets.edge.release import Folder, read_documents  # noqa: E402
from milton_assets.fleet.links import ssh_place  # noqa: E402
from milton_assets.fleet.ssh import SshTarget  # noqa: E402
from milton_assets.fleet.target import DeployRequest  # noqa: E402
from milton_assets.vocabulary.state import StateDir  # noqa: E402
from tests.support.agents import agent_line, device  # noqa: E402
from tests.support.cutting_proxy import CuttingProxy  # noqa: E402
from tests.support.edge_bundles import make_bundle  # noqa: E402
from tests.support.own_sshd import OwnSshd, free_port  # noqa: E402

LINK_BYTES_PER_S = 10e6 / 8
DELAY_S = 0.01


def taken(command: list[str], environment: dict[str, str], rounds: int = 9) -> tuple[float, float]:
    """Median of wall and processor seconds of running `command`."""
    walls, works = [], []
    for _ in range(rounds):
        began = time.monotonic()
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{command} ended with {process.returncode}")
        walls.append(time.monotonic() - began)
        works.append(used.ru_utime + used.ru_stime)
    return statistics.median(walls), statistics.median(works)


def made_anew(agent: list[str], environment: dict[str, str], memo: Path, rounds: int = 9) -> tuple[float, float]:
    """As `taken`, nothing being remembered."""
    each = []
    for _ in range(rounds):
        memo.unlink(missing_ok=True)
        each.append(taken(agent, environment, rounds=1))
    return statistics.median(wall for wall, _ in each), statistics.median(work for _, work in each)


def memory_mb(arguments: list[str], environment: dict[str, str]) -> float:
    """The most memory that the agent takes, as the kernel tells of its own address space (`ru_maxrss` counts ours)."""
    code = (
        "import sys; from milton_assets.agent.__main__ import main; main(sys.argv[1:]); "
        "print([line for line in open('/proc/self/status') if line.startswith('VmHWM')][0], file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True)
    return int(done.stderr.split()[1]) / 1024


def status_of_a_device(folder: Path) -> None:
    """How soon `status` answers, beside an interpreter that imports pydantic alone."""
    os.chdir(ROOT)
    target = device(folder, confirm_within_s=0.0)
    target.deploy(make_bundle(folder / "bundles", "v1"), DeployRequest(actor="bench", health_rounds=0))
    # A device's modules were compiled when they were installed; here the first run of each compiles them, untimed.
    compiled = {"PYTHONPYCACHEPREFIX": str(folder / "compiled"), "PYTHONDONTWRITEBYTECODE": ""}
    environment = {**os.environ, **compiled, "MILTON_STATE_DIR": str(folder / "device" / "state")}
    asked = ["--target", "kitchen", "status"]
    taken([sys.executable, "-m", "milton_assets.agent", *asked], environment, rounds=1)
    least = taken([sys.executable, "-c", "import pydantic; pydantic.BaseModel"], environment)
    agent = [sys.executable, "-m", "milton_assets.agent", *asked]
    memo = folder / "device" / "state" / "agent" / "kitchen" / "status.json"
    made = made_anew(agent, environment, memo)
    memo.unlink(missing_ok=True)
    memory = memory_mb(asked, environment)
    time.sleep(SETTLED_S + 0.5)
    taken(agent, environment, rounds=1)
    again = taken(agent, environment)
    print(f"status        {again[0]:.2f} s, {again[1]:.2f} s of processor (goal .30 s)")
    print(f"made anew     {made[0]:.2f} s, {made[1]:.2f} s of processor (goal .30 s), {memory:.0f} MB (goal 60 MB)")
    print(f"pydantic      {least[0]:.2f} s, {least[1]:.2f} s of processor; anew {made[1] / least[1]:.1f} of it")


def transfer(folder: Path, megabytes: int, cuts: int) -> None:
    """What a transfer through a slow link sends over what it needs."""
    size = megabytes * 1_000_000
    sshd = OwnSshd(folder / "sshd", free_port())
    sshd.start()
    marks = [size * n // (cuts + 1) for n in range(1, cuts + 1)]
    proxy = CuttingProxy(sshd.port, bytes_per_s=LINK_BYTES_PER_S, delay_s=DELAY_S, cut_at=marks)
    try:
        client = sshd.client(folder / "client", port=proxy.port)
        sshd.know(client)
        os.environ["PATH"] = f"{client}{os.pathsep}{os.environ['PATH']}"
        link = ssh_place(f"ssh://{sshd.user}@127.0.0.1:{proxy.port}").link
        line = agent_line("kitchen", sshd.home)
        target = replace(SshTarget("kitchen", "ssh://bench", StateDir(folder / "state"), link, line), patience_s=300.0)
        bundle = make_bundle(folder / "bundles", "v1", weights=random.Random(1).randbytes(size))
        with Folder(bundle) as opened:
            documents = read_documents(opened)
        began = time.monotonic()
        target._send(bundle, documents, will_load=False, on_progress=lambda _: None)
        took_s = time.monotonic() - began
    finally:
        proxy.close()
        sshd.stop()
    tally = target.tally
    twice = tally.sent_bytes - tally.needed_bytes
    each = f", {twice / proxy.cuts / 1e3:.0f} kB a cut" if proxy.cuts else ""
    print(
        f"{megabytes} MB, {proxy.cuts:2} cuts  sent/needed {tally.sent_bytes / tally.needed_bytes:.4f}{each}; "
        f"{took_s:.0f} s, {size / LINK_BYTES_PER_S / took_s:.0%} of the link"
    )


def wheels_unpacked() -> None:
    """What this machine's agent takes unpacked, without the model server."""
    import milton_assets
    import resources
    from milton_assets.fleet.installing import look, wheels_for
    from tests.support.agents import PipeLink

    with tempfile.TemporaryDirectory() as folder:
        packages = tuple(Path(str(package.__file__)).parent for package in (milton_assets, resources))
        wheels = wheels_for(look(PipeLink()), Path(folder), packages, model_server=False)
        unpacked = sum(entry.file_size for one in wheels for entry in zipfile.ZipFile(one.path).infolist())
        sent = sum(one.size_bytes for one in wheels)
    print(f"agent         {len(wheels)} wheels, {sent / 1e6:.0f} MB sent, {unpacked / 1e6:.0f} MB of files")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--cuts", type=int, default=50)
    asked = parser.parse_args()
    for step in (status_of_a_device, *(lambda f, n=n: transfer(f, asked.megabytes, n) for n in (0, asked.cuts))):
        with tempfile.TemporaryDirectory() as folder:
            step(Path(folder))
    wheels_unpacked()


if __name__ == "__main__":
    main()
