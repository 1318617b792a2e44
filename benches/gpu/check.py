"""Every check that wants a GPU, one after the other, each within its own time, with a report in JSON.

    python benches/gpu/check.py --build SDIST --models DIR [--out gpu-check.json]
    python benches/gpu/check.py --server build/bin/llama-server --models DIR
    python benches/gpu/check.py --small              (no GPU needed: the same checks, small, what needs one is skipped)

What belongs here: the order of the checks, their time limits and the report. What does not: measuring, which the
project's own commands and benches do, and how a server is built (`build`). Nothing is fetched: `--server` is a
`llama-server` that was built for CUDA, or `--build` the sources that one is built of; `--models` is a folder of GGUF
files; each of them brought along (`carry` fetches them all). A file that could only be brought in parts
(`model.gguf.part-000`, …, as `carry` makes them) is put together first.

Each check is `ok`, `failed`, or `skipped` with why. A command that outlasts its check's limit is ended with all that it
started, and a check that took longer has failed. Everything ends within 8 minutes, a build included: what there is no
time left for is skipped, and says so. The run exits 1 when a check failed; skipped ones are counted and fail nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from benches.gpu.build import built  # noqa: E402
from milton_assets.tiers.inference import ClosedLoad, InferencePlan, measure_inference  # noqa: E402
from milton_assets.tiers.inference.truth import truth_server  # noqa: E402
from milton_assets.vocabulary.server import Endpoint  # noqa: E402
from resources.hardware import fingerprint  # noqa: E402
from resources.inventory import inventory_of  # noqa: E402
from resources.requantise import requantise  # noqa: E402
from resources.servers.launching import llama_cpp_launcher  # noqa: E402

_MILTON = "import sys; from milton_assets.cli.app import main; sys.argv[0] = 'milton'; main()"
_TAIL_CHARACTERS = 2000
_COPIES = 2.5
"""Free space for a bundle: the file, what is deployed of it, and room."""
_MEASURING = ("vocabulary", "statistics", "tiers", "servers", "inference", "fidelity")
"""Of `tests`, what looks at machines, servers and their times, and wants no service beside it (an sshd, a database)."""
TOTAL_S = 480.0
LEAST_S = 5.0
"""A check is not begun with less time left."""
_PART = ".part-000"
_MOST_OFF_MS = (1.0, 5.0)
_TRUTH = {"first_token_ms": 200.0, "inter_token_ms": 50.0, "tokens": 20}


NO_SERVER = "no `llama-server` was brought along (--server FILE) or built (--build SDIST)"


class Skip(Exception):
    """Why a check cannot be made here."""


class Failed(Exception):
    """What a check found wrong."""


@dataclass(frozen=True)
class Given:
    """What was brought along, and whether to be `small`. `until` is the monotonic second that everything must end by,
    `deadline` the one for this check. Sources become a `server` by the first check."""

    small: bool
    server: Path | None
    models: tuple[Path, ...]
    work: Path
    until: float
    sources: Path | None = None
    deadline: float = 0.0

    def left_s(self) -> float:
        """Seconds that the check still has."""
        return max(1.0, self.deadline - time.monotonic())

    def run(self, *command: str | Path, **variables: str) -> str:
        """Run it, and end it with all that it started at the deadline. Its standard output; raises `Failed`."""
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=ROOT,
            env=os.environ | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            said, _ = process.communicate(timeout=self.left_s())
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            said, _ = process.communicate()
            raise Failed(f"it was ended at its limit; it had said: {said[-_TAIL_CHARACTERS:]}") from None
        if process.returncode != 0:
            raise Failed(f"exit status {process.returncode}: {said[-_TAIL_CHARACTERS:]}")
        return said

    def gpu(self) -> None:
        """Raise `Skip` where there is no GPU."""
        found = fingerprint()
        if not found.gpus:
            raise Skip(found.gpus_absent_because or "there is no GPU")

    def model(self) -> Path:
        """The first model. Raises `Skip` without any."""
        if not self.models:
            raise Skip("no model was brought along (--models DIR)")
        return self.models[0]

    def state(self, name: str) -> Path:
        """A state folder whose settings name the server, with every layer on the GPU. Raises `Skip` without one."""
        if self.server is None:
            raise Skip(NO_SERVER)
        folder = self.work / name
        folder.mkdir()
        server = {"binary": str(self.server), "gpu_layers": 99}
        settings = {
            "server": server,
            "registry": f"folder://{self.model().parent}",
            "profile": "smoke",
            "policy": "smoke",
        }
        # YAML reads JSON.
        (folder / "milton.yaml").write_text(json.dumps(settings))
        return folder


@dataclass(frozen=True)
class Check:
    """One check: what it does, and how long it may take."""

    name: str
    limit_s: float
    make: Callable[[Given], dict[str, Any]]


@dataclass
class Outcome:
    """How a check ended. `found` is what it measured."""

    name: str
    status: Literal["ok", "skipped", "failed"]
    seconds: float
    limit_s: float
    why: str | None = None
    found: dict[str, Any] = field(default_factory=dict)


def build(given: Given) -> dict[str, Any]:
    """A `llama-server` of the sources: for the first GPU's architecture, or for the CPU when small."""
    if given.sources is None:
        raise Skip("no sources were brought along (--build SDIST)")
    architecture = None if given.small else _architecture(given)
    server = built(given.sources, given.work / "build", architecture=architecture, run=given.run)
    size = server.stat().st_size
    return {
        "server": str(server),
        "size_bytes": size,
        "architecture": architecture,
        "said": given.run(server, "--version"),
    }


def _architecture(given: Given) -> str:
    """The compute capability of the first GPU, without its point."""
    given.gpu()
    import pynvml

    from milton_assets.vocabulary.nvml import devices, opened

    with opened():
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(next(iter(devices())))
    return f"{major}{minor}"


def environment(given: Given) -> dict[str, Any]:
    """The fingerprint of the machine, its GPUs as NVML tells them; and its inventory, as a device would send it."""
    given.gpu()
    told = inventory_of(given.work).model_dump(mode="json")
    return {"fingerprint": fingerprint().model_dump(mode="json"), "inventory": told}


def memory(given: Given) -> dict[str, Any]:
    """That all layers are on a GPU: by what the server says of itself in its fingerprint, and by NVML's memory."""
    given.gpu()
    model = given.model()
    if given.server is None:
        raise Skip(NO_SERVER)
    import pynvml

    from milton_assets.settings import LaunchSettings
    from milton_assets.vocabulary.nvml import devices, opened

    def used_bytes() -> int:
        with opened():
            return sum(int(pynvml.nvmlDeviceGetMemoryInfo(handle).used) for handle in devices())

    before = used_bytes()
    settings = LaunchSettings(binary=str(given.server), gpu_layers=99, start_deadline_s=given.left_s())
    with llama_cpp_launcher(settings).serve(model, "gpu") as served:
        taken, server = used_bytes() - before, served.fingerprint
    if server.offload is None or server.offload.layers != server.offload.of_layers:
        raise Failed(f"of {server.name} with 99 layers for the GPU, the fingerprint has {server.offload}")
    if taken < model.stat().st_size // 2:
        raise Failed(f"the GPUs hold {taken} bytes more while it serves {model.stat().st_size} bytes of weights")
    told = server.model_dump(mode="json")
    return {"gpu_memory_bytes": taken, "weights_bytes": model.stat().st_size, "server": told}


def energy(given: Given) -> dict[str, Any]:
    """Joules a token while a model is served; `skipped` where the machine's counters cannot be read, with why."""
    told = given.run(
        *(sys.executable, "-c", _MILTON, "bench", "inference", "--gguf", given.model(), "--json"),
        *("--concurrency", "1", "--budget", "12", "--max-tokens", "64"),
        MILTON_STATE_DIR=str(given.state("energy")),
    )
    answer = _json(told)
    metric = next(metric for metric in answer["metrics"] if metric["name"] == "energy_j_per_token")
    if metric["status"] != "ok":
        raise Skip(metric["why"])
    return {name: answer[name] for name in ("energy_j_per_token", "energy_j_per_token_ci95", "output_tokens_per_s")}


def client(given: Given) -> dict[str, Any]:
    """How far the client is from the truth with 512 streams (16 when small), by how many processes, and which of its
    figures it calls invalid. With 512 the time to first token must be within 1 ms in the median, 5 ms in 99 of 100."""
    streams = 16 if given.small else 512
    plan = InferencePlan(
        load=ClosedLoad(concurrency=streams),
        requests_per_round=2 * streams,
        min_rounds=1,
        max_rounds=1,
        warm_up_requests=1,
        max_tokens=int(_TRUTH["tokens"]),
        calibrate=True,
        budget_s=given.left_s() / 2,
    )
    with truth_server(first_token_ms=200, inter_token_ms=50, tokens=20) as server:
        result = measure_inference(Endpoint(server.base_url, "truth"), plan)
    told = result.provenance
    if told["errors"]:
        raise Failed(f"requests failed: {told['errors']}")
    doubts = {metric.name: metric.why for metric in result.metrics if not metric.valid}
    samples = result.samples[result.samples.phase == "measured"]
    off_ms = [abs(row.ttft_ms - server.truths[int(row.output_head.split()[0])].ttft_ms) for row in samples.itertuples()]
    median_ms, p99_ms = (float(quantile) for quantile in np.quantile(off_ms, (0.5, 0.99)))
    if not given.small and (median_ms > _MOST_OFF_MS[0] or p99_ms > _MOST_OFF_MS[1]):
        raise Failed(f"TTFT is off by {median_ms:.2f} ms in the median, {p99_ms:.2f} ms in 99 of 100: {told['client']}")
    return {
        "streams": streams,
        "ttft_off_ms": {"median": median_ms, "p99": p99_ms},
        "output_tokens_per_s": result.metric("output_tokens_per_s").value,
        "calibration": told["calibration"],
        "client": told["client"],
        "invalid": doubts,
    }


def bundle(given: Given) -> dict[str, Any]:
    """A bundle of 15 GB (20 MB when small): made, verified and deployed, beside a pass of SHA-256."""
    gigabytes = 0.02 if given.small else 15.0
    free, needed = shutil.disk_usage(given.work).free / 1e9, _COPIES * gigabytes
    if free < needed:
        raise Skip(f"{free:.0f} GB are free, and {needed:.0f} are needed")
    report = given.work / "bundle.md"
    command = (sys.executable, "benches/bundle/bench_bundle.py", "--gigabytes", str(gigabytes), "--repeats", "1")
    ways = ("--no-delta", "--ways", "create-hard", "verify", "deploy")
    try:
        given.run(*command, *ways, "--out", report, "--work", given.work / "bundle")
    except Failed:
        # Of so small a file the ratios say nothing, and a bench that missed a target has still written its report.
        if not (given.small and report.exists()):
            raise
    return {"gigabytes": gigabytes, "report": report.read_text()}


def campaign(given: Given) -> dict[str, Any]:
    """`milton autobench` over the models on the GPU, to a deployment on this machine. Failed where nothing serves.

    A single model is measured beside itself in 8 bits.
    """
    given.gpu()
    if len(given.models) == 1:
        model = given.model()
        requantise(model, model.with_name(f"{model.stem}-in-Q8_0.gguf"), "Q8_0")
    variables = {"MILTON_STATE_DIR": str(given.state("campaign")), "NO_COLOR": "1"}
    card = given.run(sys.executable, "-c", _MILTON, "autobench", **variables)
    serves = given.run(sys.executable, "-c", _MILTON, "status", "--json", **variables)
    results = given.run(sys.executable, "-c", _MILTON, "results", "--json", **variables)
    found = {"models": [model.name for model in given.models], "card": card, "results": _json(results)}
    if not _json(serves):
        raise Failed(f"nothing serves after it: {card[-_TAIL_CHARACTERS:]}")
    return found | {"serves": _json(serves)}


def _json(told: str) -> Any:
    """The JSON that a command printed last, after what it said of its progress."""
    lines = told.splitlines(keepends=True)
    first = next(number for number, line in enumerate(lines) if line.rstrip() in ("{", "[", "{}", "[]"))
    return json.loads("".join(lines[first:]))


def suite(given: Given) -> dict[str, Any]:
    """The fast tests of `_MEASURING` on this machine, or those of the vocabulary when small."""
    folders = _MEASURING[:1] if given.small else _MEASURING
    what = (*(() if given.small else ("-n", "auto", "--dist", "loadgroup")), *(f"tests/{name}" for name in folders))
    marks = "not slow and not real_model and not alone"
    told = given.run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", marks, *what)
    return {"last_line": told.strip().splitlines()[-1]}


CHECKS = (
    Check("build", 300, build),
    Check("environment", 10, environment),
    Check("memory", 40, memory),
    Check("energy", 45, energy),
    Check("client", 60, client),
    Check("bundle", 130, bundle),
    Check("campaign", 120, campaign),
    Check("suite", 100, suite),
)


def made(check: Check, given: Given) -> Outcome:
    """The check's outcome. What goes wrong in one is its own failure, whatever it is: the others are still made."""
    started = time.monotonic()
    if given.until - started < LEAST_S:
        return Outcome(check.name, "skipped", 0.0, check.limit_s, f"the {TOTAL_S:.0f} s are spent")
    at = replace(given, deadline=min(started + check.limit_s, given.until))
    found: dict[str, Any] = {}
    status: Literal["ok", "skipped", "failed"] = "ok"
    why = None
    try:
        found = check.make(at)
    except Skip as skip:
        status, why = "skipped", str(skip)
    except Exception as error:  # noqa: BLE001 - told in the report, and in the exit status
        status, why = "failed", f"{type(error).__name__}: {error}"
    seconds = time.monotonic() - started
    if status == "ok" and seconds > check.limit_s:
        status, why = "failed", "it outlasted its limit"
    if status == "failed" and seconds < check.limit_s and time.monotonic() >= given.until:
        status, why = "skipped", f"the {TOTAL_S:.0f} s ended meanwhile: {why}"
    return Outcome(check.name, status, round(seconds, 1), check.limit_s, why, found)


def joined(folder: Path, into: Path) -> tuple[Path, ...]:
    """The models of a folder, all in `into`; those that came in parts are put together.

    Raises `SystemExit` for a gap.
    """
    into.mkdir(exist_ok=True)
    whole = [Path(shutil.copyfile(model, into / model.name)) for model in sorted(folder.glob("*.gguf"))]
    for first in sorted(folder.glob(f"*.gguf{_PART}")):
        name = first.name.removesuffix(_PART)
        parts = sorted(folder.glob(f"{name}{_PART.removesuffix('000')}*"))
        if [int(part.name.rpartition("-")[2]) for part in parts] != list(range(len(parts))):
            sys.exit(f"of {name} there are the parts {[part.name for part in parts]}, and some between are missing")
        with (into / name).open("wb") as model:
            for part in parts:
                with part.open("rb") as stream:
                    shutil.copyfileobj(stream, model, 1 << 24)
        whole.append(into / name)
    return tuple(whole)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the checks, write the report; 1 when one failed."""
    parser = argparse.ArgumentParser(description="Every check that wants a GPU.")
    parser.add_argument("--server", type=Path, help="a `llama-server` built for CUDA")
    parser.add_argument("--build", type=Path, metavar="SDIST", help="sources of llama.cpp, to build a server of")
    parser.add_argument("--models", type=Path, help="a folder of GGUF files, or of their parts (NAME.gguf.part-000, …)")
    parser.add_argument("--small", action="store_true", help="the same, small: a look, not a result")
    parser.add_argument("--only", action="append", choices=[check.name for check in CHECKS], help="may be repeated")
    parser.add_argument("--out", type=Path, default=Path("gpu-check.json"), help="where the JSON goes")
    options = parser.parse_args(arguments)
    for named in (options.server, options.build, options.models):
        if named is not None and not named.exists():
            parser.error(f"there is no {named}")
    if options.server and options.build:
        parser.error("name a server, or sources to build one of")
    outcomes = []
    until = time.monotonic() + TOTAL_S
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as made_here:
        work = Path(made_here)
        given = Given(
            small=options.small,
            server=options.server.resolve() if options.server else None,
            models=joined(options.models.resolve(), work / "models") if options.models else (),
            work=work,
            until=until,
            sources=options.build.resolve() if options.build else None,
        )
        for check in CHECKS:
            if options.only and check.name not in options.only:
                continue
            outcome = made(check, given)
            if "server" in outcome.found and check.make is build:
                given = replace(given, server=Path(outcome.found["server"]))
            print(f"{outcome.name}: {outcome.status}, {outcome.seconds} s. {outcome.why or ''}".rstrip(), flush=True)
            outcomes.append(outcome)
    counts = {status: sum(o.status == status for o in outcomes) for status in ("ok", "skipped", "failed")}
    report = {
        "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "small": options.small,
        "counts": counts,
        "machine": fingerprint().model_dump(mode="json"),
        "checks": [asdict(outcome) for outcome in outcomes],
    }
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"{counts['ok']} ok, {counts['skipped']} skipped, {counts['failed']} failed; written to {options.out}")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
