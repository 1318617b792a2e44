"""The noise between campaigns, measured; and what the simulation assumes beside what a store of evidence shows.

    python -m benches.selection.measured_noise [--evidence ~/.local/state/milton/benchmarks]

Reads every table that was ever written below that folder.

*Between campaigns*: groups inference tables of the same weights that were measured in the same way and environment, and
prints the relative standard deviation of each speed within the groups, pooled: what belongs into a policy's `noise`. It
holds the noise within a campaign too, so it errs on the careful side.

*As simulated*: what `milton_assets.selection.simulate.Design` draws, and thereby every table of docs/selection.md rests
on, beside the same of the tables: the error of a speed within a campaign; by how much two models' nDCG@10 differs on a
query; on how many cases two models differ. Pairs are tables of different weights that were asked in the same way.

Exits 1 when no weights were measured twice: benchmark a model again, a few times, with nothing changed.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.special import chdtri
from upath import UPath

from milton_assets.selection.comparability import procedure
from milton_assets.selection.simulate import Design, TrueModel, campaign
from milton_assets.settings import load_settings
from milton_assets.statistics.normal import z_of_level
from milton_assets.vocabulary.digest import sha256_json
from milton_assets.vocabulary.metric import Metric, Status
from milton_assets.vocabulary.tier import TierResult, table_metadata

SPEEDS = ("ttft_ms.median", "output_tokens_per_s")
QUERIES, CASES = "nDCG@10", "final_right"
_MANY = Design(cases=20_000, queries=20_000)


@dataclass(frozen=True)
class Table:
    """One table of a tier: whose weights, and what it holds."""

    weights: str
    result: TierResult


def tables(evidence: UPath, tier: str) -> list[Table]:
    """Every table of that tier, by path."""
    found = []
    for path in sorted(evidence.glob(f"{tier}_metrics/*/*.parquet")):
        table = pq.read_table(pa.BufferReader(path.read_bytes()))
        found.append(Table(table_metadata(table)["artefact_sha256"], TierResult.from_table(table)))
    return found


def logs_of_the_same(found: Sequence[Table], speed: str) -> list[list[float]]:
    """The logarithms of that speed, a list for each group of comparable tables that has at least two."""
    groups: dict[str, list[float]] = defaultdict(list)
    for one in found:
        if (metric := usable(one.result, speed)) is not None:
            made = sha256_json([one.weights, procedure(one.result), one.result.provenance.get("fingerprint")])
            groups[made].append(math.log(metric.value or math.nan))
    return [group for group in groups.values() if len(group) > 1]


def usable(result: TierResult, name: str) -> Metric | None:
    """The metric of that name, where it holds and is more than 0."""
    metric = next((one for one in result.metrics if one.name == name), None)
    return metric if metric is not None and metric.status is Status.OK and metric.valid and metric.value else None


def relative_error(metric: Metric) -> float | None:
    """The standard error that a speed's interval tells, as a share of its value."""
    if metric.interval is None or not metric.value:
        return None
    return (metric.interval.high - metric.interval.low) / 2 / z_of_level(0.95) / metric.value


def paired(found: Sequence[Table], key: str, column: str) -> Iterator[pd.DataFrame]:
    """What two different weights got on the same keys, asked in the same way: a column each, a row a key."""
    for one, other in itertools.combinations(found, 2):
        samples = [table.result.samples for table in (one, other)]
        if one.weights == other.weights or procedure(one.result) != procedure(other.result):
            continue
        if any(column not in frame.columns for frame in samples):
            continue
        by_key = [frame.dropna(subset=[column]).set_index(key)[column].astype(float) for frame in samples]
        if set(by_key[0].index) == set(by_key[1].index) and len(by_key[0]) > 1:
            yield pd.DataFrame({"one": by_key[0], "other": by_key[1]})


def simulated(*truths: TrueModel) -> list[TierResult]:
    """The tables of one large simulated campaign, by tier; of one model, or of two together."""
    stood = campaign(np.random.default_rng(1), [(str(n), truth) for n, truth in enumerate(truths)], _MANY)
    return [one.tiers[tier] for tier in ("retrieval", "reasoning") for one in stood]


def simulated_errors(speed: str) -> float:
    """The mean relative standard error of that speed in simulated campaigns."""
    rng = np.random.default_rng(1)
    stood = (campaign(rng, [("model", TrueModel())], Design())[0].tiers["inference"] for _ in range(200))
    return float(np.mean([relative_error(one.metric(speed)) for one in stood]))


def between_campaigns(found: Sequence[Table], where: str) -> bool:
    """Print the noise of each speed; whether there was one to print."""
    known = True
    for speed in SPEEDS:
        groups = logs_of_the_same(found, speed)
        freedom = sum(len(group) - 1 for group in groups)
        if not freedom:
            print(f"{speed}: no weights were measured twice in the same way and environment below {where}")
            known = False
            continue
        squares = sum(float(np.var(group)) * len(group) for group in groups)
        upper = math.sqrt(squares / float(chdtri(freedom, 0.95)))
        print(
            f"{speed}: noise {math.sqrt(squares / freedom):.4f} (95 % sure to be below {upper:.4f}), "
            f"from {freedom + len(groups)} campaigns in {len(groups)} groups"
        )
    return known


def as_simulated(timed: Sequence[Table], queried: Sequence[Table], asked: Sequence[Table]) -> None:
    """Print what was measured beside what is simulated."""
    print("\nmeasured here, and as simulated:")
    for speed in SPEEDS:
        errors = [e for one in timed if (m := usable(one.result, speed)) and (e := relative_error(m)) is not None]
        print(f"{speed}, error within a campaign: {told(errors, '.1%', 'tables')}; {simulated_errors(speed):.1%}")
    spreads = [float((pair.one - pair.other).std()) for pair in paired(queried, "query_id", QUERIES)]
    one, other = (table.samples[QUERIES].to_numpy() for table in simulated(TrueModel(), TrueModel())[:2])
    print(f"{QUERIES} of two models on a query differs by: {told(spreads, '.2f', 'pairs')}; {(one - other).std():.2f}")
    for pair in paired([cases_of(one) for one in asked], "case_id", CASES):
        rates = [float(rate) for rate in (pair.one.mean(), pair.other.mean())]
        drawn = [table.samples[CASES] for table in simulated(*(TrueModel(pass_rate=rate) for rate in rates))[2:]]
        print(
            f"two models that pass {rates[0]:.2f} and {rates[1]:.2f} of {len(pair)} cases differ on "
            f"{(pair.one != pair.other).mean():.2f} of them; {(drawn[0] != drawn[1]).mean():.2f}"
        )


def cases_of(one: Table) -> Table:
    """The table with its cases alone, as they are paired."""
    samples = one.result.samples
    kept = samples[samples["part"] == "cove"] if "part" in samples.columns else samples
    return Table(one.weights, TierResult(one.result.tier, one.result.metrics, kept, one.result.provenance))


def told(values: Sequence[float], form: str, what: str) -> str:
    """The lowest and highest of them."""
    if not values:
        return "not measured"
    return f"{min(values):{form}} to {max(values):{form}} ({len(values)} {what})"


def main() -> int:
    """Print the noise of each speed, and what is simulated; 0 when there is a noise to print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--evidence",
        default=load_settings().evidence_root,
        help="a folder of evidence, or its fsspec URL",
    )
    evidence = UPath(parser.parse_args().evidence)
    timed = tables(evidence, "inference")
    known = between_campaigns(timed, str(evidence))
    as_simulated(timed, tables(evidence, "retrieval"), tables(evidence, "reasoning"))
    return 0 if known else 1


if __name__ == "__main__":
    sys.exit(main())
