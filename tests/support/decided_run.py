"""A state folder in which a run has decided: a registry with one real model, its evidence, and the run's summary.

What belongs here: that folder, without Dagster. What does not: the whole graph (`workplace`).
"""

from __future__ import annotations

from pathlib import Path

from milton_assets.selection.decide import decide
from milton_assets.selection.policy_file import load_policy
from milton_assets.selection.summary import RunSummary, write_summary
from milton_assets.vocabulary.state import StateDir
from resources.registries import open_registry
from resources.registries.json_file import add_entries, new_entry
from tests.support.gguf_file import tiny_gguf
from tests.support.selection import RUN_ID, candidate, manifest, store
from tests.support.tiers import TIERS

VERSION = "v1.20260111.1425"


def decided(home: StateDir, cove: float = 0.95, *, gguf: Path | None = None) -> None:
    """The run `RUN_ID` has decided on `VERSION`, which is a tiny file that no server loads, or a link to `gguf`."""
    weights = home.root / "models/quantized/m.gguf"
    if gguf is None:
        tiny_gguf(weights, quantization=2)
    else:
        weights.parent.mkdir(parents=True)
        weights.hardlink_to(gguf)
    add_entries(home.registry, {VERSION: new_entry("example/base", gguf="models/quantized/m.gguf")})
    entry = open_registry(None, home).entry(VERSION)
    one = candidate(VERSION, cove=cove)
    pinned = manifest([one], sha256_of=store(home.benchmarks, [one]))
    of_entry = pinned.candidates[0].model_copy(
        update={"entry_sha256": entry.entry_sha256, "artefact_sha256": entry.artefacts[0].sha256}
    )
    pinned = pinned.model_copy(update={"candidates": (of_entry,)})
    decision = decide(
        run_id=RUN_ID, candidates=[one], policy=load_policy("seed"), manifest=pinned, incumbent=None, tiers=TIERS
    )
    write_summary(home.runs, RunSummary(run_id=RUN_ID, decision=decision, manifest=pinned))
