"""How long it takes to read the journal of a target that was deployed to many times.

    python benches/scale/bench_journal.py [--deployments 10000]

Writes the journal of that many deployments and of a tenth of them, each with a load test and two rounds of health,
reads both, and prints the processor's times and their ratio. Reading in time linear in the length makes the ratio ten;
it fails above fifteen.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from milton_assets.edge.deployment.history import deployments
from milton_assets.edge.deployment.ids import mint
from milton_assets.edge.deployment.journal import Line, parse
from milton_assets.edge.deployment.states import (
    Accepted,
    Activated,
    Activating,
    Committed,
    HealthChecked,
    Installed,
    LoadTested,
    Operation,
    ProbeReport,
    Record,
    Release,
    Started,
    TargetCreated,
    Verified,
)
from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.edge_target import EdgeTarget

MOST_RATIO = 15.0
REPORT = ProbeReport(
    load_s=0.5, output_tokens_per_s=30.0, answers=("Paris.",), answer_sha256=(sha256_bytes(b"Paris."),)
)


def release(number: int) -> Release:
    """The release of the deployment of that number; there are two, in turn."""
    digest = sha256_bytes(str(number % 2).encode())
    return Release(
        digest=digest,
        bundle=f"milton_edge_bundle_v{number % 2}_20260101_000000",
        model_version=f"v{number % 2}",
        run_id="benchmark_20260101_000000",
        counter=number + 1,
        primary="model/model.gguf",
        manifest_sha256=digest,
        decision_sha256=digest,
        evidence_sha256=digest,
    )


def records(count: int) -> Iterator[Record]:
    """What a target's journal says after `count` deployments that all stood."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    yield TargetCreated(at=at, name="edge")
    active = None
    for number in range(count):
        at += timedelta(hours=1)
        one = release(number)
        same = {"at": at, "deployment": mint(at)}
        yield Started(**same, operation=Operation.DEPLOY, actor="bench", bundle=f"bundles/{one.bundle}")
        yield Accepted(**same, release=one)
        yield Verified(**same, files=9, size_bytes=100_000_000, reused=number > 1)
        yield LoadTested(**same, report=REPORT)
        yield Installed(**same)
        yield Activating(**same, from_release=active, fallback=active)
        yield Activated(**same)
        yield from (HealthChecked(**same, round=each, rounds=2, report=REPORT) for each in (1, 2))
        yield Committed(**same, proved=True)
        active = one.digest


def journal(count: int) -> bytes:
    """The journal's bytes."""
    lines, last = [], None
    for record in records(count):
        last = Line.following(last, record)
        lines.append(last.to_bytes())
    return b"".join(lines)


def seconds(raw: bytes, count: int) -> float:
    """What parsing the journal and telling its history takes of the processor, whatever else this machine does."""
    began = time.process_time()
    told = deployments(parse(raw).lines, EdgeTarget("edge", Path("/nowhere")))
    took = time.process_time() - began
    assert len(told) == count
    return took


def main() -> int:
    """Run the bench; 0 when reading is linear."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--deployments", type=int, default=10_000)
    count = parser.parse_args().deployments
    few, many = journal(count // 10), journal(count)
    short, long = seconds(few, count // 10), seconds(many, count)
    print(f"{count // 10:>7,} deployments, {len(few) / 1e6:6.1f} MB: {short:7.2f} s")
    print(f"{count:>7,} deployments, {len(many) / 1e6:6.1f} MB: {long:7.2f} s, {long / short:.1f} times as long")
    return 0 if long <= MOST_RATIO * short else 1


if __name__ == "__main__":
    sys.exit(main())
