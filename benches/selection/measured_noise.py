"""The noise between campaigns, measured: how far the same weights' speeds were apart from one campaign to the next.

    python benches/selection/measured_noise.py [--evidence ~/.local/state/milton/benchmarks]

Reads every inference table that was ever written, groups those of the same weights that were measured in the same way
and environment, and prints the relative standard deviation of each speed within the groups, pooled: what belongs into
a policy's `noise`. It holds the noise within a campaign too, so it errs on the careful side. Exits 1 when no weights
were measured twice: benchmark a model again, a few times, with nothing changed.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import defaultdict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.special import chdtri
from upath import UPath

from milton_assets.selection.comparability import procedure
from milton_assets.settings import load_settings
from milton_assets.vocabulary.digest import sha256_json
from milton_assets.vocabulary.metric import Status
from milton_assets.vocabulary.tier import TierResult, table_metadata

SPEEDS = ("ttft_ms.median", "output_tokens_per_s")


def logs_of_the_same(evidence: UPath, speed: str) -> list[list[float]]:
    """The logarithms of that speed, a list for each group of comparable tables that has at least two."""
    groups: dict[str, list[float]] = defaultdict(list)
    for path in sorted(evidence.glob(f"{'inference_metrics'}/*/*.parquet")):
        table = pq.read_table(pa.BufferReader(path.read_bytes()))
        result, weights = TierResult.from_table(table), table_metadata(table)["artefact_sha256"]
        metric = result.metric(speed)
        if metric.status is Status.OK and metric.valid and metric.value:
            made = sha256_json([weights, procedure(result), result.provenance.get("fingerprint")])
            groups[made].append(math.log(metric.value))
    return [group for group in groups.values() if len(group) > 1]


def main() -> int:
    """Print the noise of each speed; 0 when there is one to print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--evidence",
        default=load_settings().evidence_root,
        help="a folder of evidence, or its fsspec URL",
    )
    evidence = UPath(parser.parse_args().evidence)
    known = True
    for speed in SPEEDS:
        groups = logs_of_the_same(evidence, speed)
        freedom = sum(len(group) - 1 for group in groups)
        if not freedom:
            print(f"{speed}: no weights were measured twice in the same way and environment below {evidence}")
            known = False
            continue
        squares = sum(float(np.var(group)) * len(group) for group in groups)
        upper = math.sqrt(squares / float(chdtri(freedom, 0.95)))
        print(
            f"{speed}: noise {math.sqrt(squares / freedom):.4f} (95 % sure to be below {upper:.4f}), "
            f"from {freedom + len(groups)} campaigns in {len(groups)} groups"
        )
    return 0 if known else 1


if __name__ == "__main__":
    sys.exit(main())
