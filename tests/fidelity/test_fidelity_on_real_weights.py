"""The fidelity tier on a real model: it tells a poor quantisation from a good one with few tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from milton_assets.tiers.fidelity.spec import SPEC
from milton_assets.usecases.measuring import measure_tier
from milton_assets.usecases.references import Asking, reference_file
from milton_assets.vocabulary.golden_set import read_goldens
from milton_assets.vocabulary.metric import Metric, Status
from milton_assets.vocabulary.state import StateDir
from milton_assets.vocabulary.tier_spec import Conditions, Measuring
from resources.evidence_store import EvidenceStore
from resources.file_facts import FactsReader
from resources.servers.llama_cpp import LlamaCppLauncher

pytestmark = [pytest.mark.slow, pytest.mark.real_model]

LAUNCHER = LlamaCppLauncher(context_tokens=512)


def figures(weights: Path, original: Path, state: StateDir) -> dict[str, Metric]:
    with LAUNCHER.serve(weights, "made") as served:
        asking = Asking(served, LAUNCHER, EvidenceStore(state.benchmarks), {})
        goldens = read_goldens(SPEC)
        handed = Measuring(
            served,
            goldens.value,
            SPEC.plan(Conditions(profile="smoke")),
            forcing=served.endpoint.forcing,
            reference=reference_file(original, FactsReader(state), asking),
        )
        result = measure_tier(SPEC, goldens, handed)
    return {metric.name: metric for metric in result.metrics}


def test_72_places_tell_four_bits_from_what_is_only_written_in_eight(
    small_gguf: Path, requantised_gguf: Callable[[str], Path], state: StateDir
) -> None:
    same, coarser = (figures(requantised_gguf(q), small_gguf, state) for q in ("Q8_0", "Q4_0"))
    near, far = same["kl_to_reference"], coarser["kl_to_reference"]
    assert near.value is not None
    assert far.value is not None
    assert near.interval is not None
    assert far.interval is not None
    assert near.n == far.n == 72
    # Measured: .0066 and .344 a token, 5.6 % and 36 % flips.
    assert near.value < 0.02 < 0.15 < far.value
    assert near.interval.high < far.interval.low
    assert (coarser["top1_flips"].value or 0) > (same["top1_flips"].value or 0) + 0.1
    assert same["perplexity"].status is Status.OK
    # The reference was served for the first of the two, and found for the second.
    kept = list((state.benchmarks / "expectations").iterdir())
    assert len(kept) == 6
