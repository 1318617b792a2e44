"""How fast bundles are made, checked and deployed, beside one pass of SHA-256 and other ways.

    python benches/bundle/bench_bundle.py [--gigabytes 4] [--repeats 3] [--no-delta] [--out report.md] [--work DIR]

What belongs here: times and peak memory on one large file. What does not: deltas, whose report follows
(`bench_delta`).

The file is a GGUF of random half-precision tensors, made once and read once, so that every way finds it in the page
cache. Each way runs in a process of its own, once the disk has settled; the time is that of the work without
interpreter start. Its peak is the highest resident set of that process (`VmHWM`). Where other programs do the work none
is given: what the kernel says of those (`ru_maxrss`) includes what this one held when it started them. All ways are run
in turn, `--repeats` times; a ratio is that of a run to the hashlib pass next before it (where nothing is repeated, to
the only one), and the median over the repeats is reported. What is called durable has been fsynced before its time
ends; on a disk slower than SHA-256 that is the disk's time, and `cp, then sync` says what it is.

A target that is missed makes the run exit 1.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benches.bundle import bench_delta
from benches.bundle.ingredients import order_of
from milton_assets.edge.bundle import LinkMode, Making, create_bundle, pack_bundle
from milton_assets.edge.release import verify_release
from milton_assets.vocabulary.digest import sha256_file

TENSOR_BYTES = 32 << 20
MAX_PEAK_MB = 200
REST_S = 2.0
"""For the disk to forget the way before: freed blocks are discarded after the files are gone."""


@dataclass(frozen=True)
class Way:
    """One way of doing something: its name, what it is held to (times the hashlib pass), and who does it.

    `ours` are this project's, `by_programs` those that other programs do.
    """

    name: str
    target: float | None = None
    ours: bool = True
    by_programs: bool = False


WAYS = {
    "hash": Way("one hashlib SHA-256 pass", ours=False),
    "create-hard": Way("bundle create --hard-link (as a reflink costs), durable", 1.3),
    "create-quick": Way("bundle create --no-sync (copy)", 1.3),
    "create": Way("bundle create (copy), durable"),
    "verify": Way("bundle verify", 1.1),
    "pack": Way("bundle pack (tar, checked, durable)"),
    "deploy": Way("deploy with read-back, no load test", 2.5),
    "cp": Way("cp", ours=False, by_programs=True),
    "cp-sync": Way("cp, then sync", ours=False, by_programs=True),
    "model-signing": Way("model_signing sign + verify", ours=False),
    "tar-gz": Way("tar.gz + sha256sum", ours=False, by_programs=True),
}


def write_model(path: Path, size_bytes: int) -> None:
    """A GGUF of that size, about, whose tensors are random bytes: of one, each with another random number added to its
    words, for the kernel's random bytes of 15 GB take longer than all that is measured."""
    count = max(1, size_bytes // TENSOR_BYTES)

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    head = b"GGUF" + struct.pack("<IQQ", 3, count, 1)
    head += text("general.architecture") + struct.pack("<I", 8) + text("llama")
    for number in range(count):
        head += text(f"blk.{number}.weight") + struct.pack("<IQIQ", 1, TENSOR_BYTES // 2, 1, number * TENSOR_BYTES)
    words = np.frombuffer(os.urandom(TENSOR_BYTES), dtype=np.uint64)
    with path.open("wb") as stream:
        stream.write(head + bytes(-len(head) % 32))
        for _ in range(count):
            stream.write((words + np.frombuffer(os.urandom(8), dtype=np.uint64)).tobytes())


def run_way(way: str, work: Path, sha256: str) -> Callable[[], object]:
    """What is timed. The preparation, which is not, is done before this returns."""
    model, out = work / "model.gguf", work / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    if way == "hash":
        return lambda: sha256_file(model)
    if way.startswith("create"):
        link = LinkMode.HARD if way == "create-hard" else LinkMode.COPY
        order = order_of(model, sha256=sha256)
        return lambda: create_bundle(order, Making(out, link=link, durable=way != "create-quick"))
    if way in {"cp", "cp-sync"}:
        then = " && sync -f out/copy" if way == "cp-sync" else ""
        return lambda: subprocess.run(
            ["sh", "-c", f"cp --reflink=never model.gguf out/copy{then}"], cwd=work, check=True
        )
    if way == "tar-gz":
        return lambda: subprocess.run(
            ["sh", "-c", "tar -czf out/model.tar.gz model.gguf && sha256sum out/model.tar.gz > out/sum"],
            cwd=work,
            check=True,
        )
    bundle = next(iter((work / "bundles").iterdir()))
    if way == "verify":
        return lambda: verify_release(bundle).require()
    if way == "pack":
        return lambda: pack_bundle(bundle, out / "b.tar")
    if way == "model-signing":
        return _model_signing(bundle, out)
    return _deployment(bundle, out)


def _model_signing(bundle: Path, out: Path) -> Callable[[], object]:
    from cryptography.hazmat.primitives import serialization
    from model_signing import signing, verifying

    from milton_assets.edge.bundle.keys import init_keys, load_private_key

    keys = init_keys(out / "keys")
    private = out / "private.pem"
    private.write_bytes(
        load_private_key(keys.private).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )

    def sign_and_verify() -> None:
        signing.Config().use_elliptic_key_signer(private_key=private).sign(bundle, out / "model.sig")  # type: ignore[no-untyped-call]
        verifying.Config().use_elliptic_key_verifier(public_key=keys.public_pem).verify(bundle, out / "model.sig")  # type: ignore[no-untyped-call]

    return sign_and_verify


def _deployment(bundle: Path, out: Path) -> Callable[[], object]:
    from milton_assets.edge.deployment import deploy
    from milton_assets.vocabulary.edge_target import EdgeTarget

    target = EdgeTarget(name="bench", path=out / "target")
    return lambda: deploy(bundle, target, load_test=None, actor="bench", now=lambda: datetime.now(UTC))


@dataclass(frozen=True)
class Cost:
    """What one run of a way took: seconds, CPU seconds of all its threads and programs, and its own peak in MB."""

    seconds: float
    cpu_s: float
    peak_mb: float


def child(way: str, work: Path, sha256: str) -> Cost:
    """What that way costs in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--way", way, "--work", work, "--sha256", sha256],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{way} failed:\n{done.stderr}")
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def be_child(way: str, work: Path, sha256: str) -> None:
    """Do it, and print what it took."""
    task = run_way(way, work, sha256)
    os.sync()
    time.sleep(REST_S)
    began, before = time.perf_counter(), _cpu_seconds()
    task()
    cost = Cost(time.perf_counter() - began, _cpu_seconds() - before, _peak_mb())
    print(json.dumps(asdict(cost)))


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text().splitlines()
    (peak_kib,) = (int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    return peak_kib / 1024


def measure(work: Path, gigabytes: float, repeats: int, ways: list[str]) -> tuple[str, bool]:
    """The report, and whether every target was reached."""
    model = work / "model.gguf"
    write_model(model, int(gigabytes * 1e9))
    sha256 = sha256_file(model)
    create_bundle(order_of(model, sha256=sha256), Making(work / "bundles", link=LinkMode.HARD))
    costs: dict[str, list[Cost]] = {way: [] for way in ways}
    ratios: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeats):
        base = None
        for way in ways:
            if base is None or repeats > 1:
                base = child("hash", work, sha256)
            cost = base if way == "hash" else child(way, work, sha256)
            costs[way].append(cost)
            ratios[way].append(cost.seconds / base.seconds)
            print(f"{way}: {cost.seconds:.2f} s, {ratios[way][-1]:.2f} x", file=sys.stderr, flush=True)
    size = model.stat().st_size
    load = os.getloadavg()[2] / (os.cpu_count() or 1)
    lines = [
        f"{size / 1e9:.2f} GB, {os.cpu_count()} cores, median of {repeats} (lowest, highest); "
        f"{load:.1f} processes a core wanted to run, this one among them.",
        "",
        "| way | seconds | x hashlib pass | held to | CPU s/GB | peak MB |",
        "|---|---|---|---|---|---|",
    ]
    good = True
    for way in ways:
        what, seconds = WAYS[way], [cost.seconds for cost in costs[way]]
        cpu = statistics.median(cost.cpu_s for cost in costs[way]) / (size / 1e9)
        peak, ratio = max(cost.peak_mb for cost in costs[way]), statistics.median(ratios[way])
        reached = (what.target is None or ratio <= what.target) and (not what.ours or peak <= MAX_PEAK_MB)
        good = good and reached
        lines.append(
            f"| {what.name} | {_spread(seconds)} | {_spread(ratios[way])} "
            f"| {what.target or ''}{'' if reached else ' **MISSED**'} | {cpu:.2f} "
            f"| {'' if what.by_programs else f'{peak:.0f}'} |"
        )
    return "\n".join(lines) + "\n", good


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}, {max(values):.2f})"


def main() -> int:
    """Measure, print, and say by the exit code whether the targets were reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS), metavar="WAY")
    parser.add_argument("--out", type=Path, help="also write the report here")
    parser.add_argument("--work", type=Path, help="where to make the files; by default a temporary folder")
    parser.add_argument("--no-delta", action="store_true", help="leave out the deltas")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--sha256", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        be_child(given.way, given.work, given.sha256)
        return 0
    if given.work is not None:
        given.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.work) as folder:
        text, good = measure(Path(folder), given.gigabytes, given.repeats, given.ways)
        if not given.no_delta:
            rows = bench_delta.measure_all(Path(folder))
            text += "\n" + bench_delta.report(rows)
            good = good and all(row.good for row in rows)
    print(text)
    if given.out:
        given.out.write_text(text)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
