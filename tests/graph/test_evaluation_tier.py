"""An evaluation of others as a tier: imported, it is pinned, gated and paired like any other, and that is said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from milton_assets.selection.policy_file import load_policy
from milton_assets.selection.summary import read_summary
from milton_assets.tiers.discovery import installed_tiers
from milton_assets.usecases.evaluations import import_log
from milton_assets.vocabulary.registry import ArtefactKind
from resources.evidence_store import EvidenceStore
from resources.registries import open_registry
from tests.support.evaluation_logs import MODEL, RESULTS, inspect_json, right
from tests.support.examples import install_example
from tests.support.workplace import Workplace, competent, failure_of, workplace

RUN = "benchmark_20260101_000000"
KNOWN = ("france", "italy", "japan", "egypt", "norway", "peru", "bhutan", "kazakhstan", "myanmar")


def policy_file(folder: Path) -> Path:
    """`smoke` with a gate on the example's figure."""
    policy = load_policy("smoke").model_dump(mode="json")
    gate = {"tier": "capitals", "metric": "accuracy", "op": ">=", "threshold": 0.5}
    policy["gates"] = [*policy["gates"], gate]
    path = folder / "with_capitals.yaml"
    path.write_text(yaml.safe_dump(policy))
    return path


@pytest.fixture
def wp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workplace]:
    """A workplace in which the example is installed."""
    monkeypatch.syspath_prepend(install_example("evaluation_capitals", tmp_path / "example"))
    with workplace(tmp_path, policy=str(policy_file(tmp_path))) as place:
        yield place


def import_both(wp: Workplace, version: str, folder: Path, *known: str) -> None:
    """Logs of both packages for that version, which knows the capitals of these countries."""
    tiers, store = installed_tiers(), EvidenceStore(wp.state.benchmarks)
    artefact = open_registry(None, wp.state).entry(version).artefact(ArtefactKind.GGUF)

    def change(log: dict[str, Any]) -> None:
        right(log, *known)

    log = inspect_json(folder / f"{version}.json", change)
    import_log(store, tiers["capitals"], version, artefact, log, told_as=MODEL)
    import_log(store, tiers["capitals_harness"], version, artefact, RESULTS, told_as=MODEL)


@pytest.mark.slow
def test_imported_logs_are_pinned_gated_and_paired_and_the_decision_says_whose_word_they_are(
    wp: Workplace, tmp_path: Path
) -> None:
    wp.register("good", competent())
    wp.register("poor", competent(), seed=2)
    import_both(wp, "good", tmp_path, *KNOWN)
    import_both(wp, "poor", tmp_path, "france")
    for version in ("good", "poor"):
        result = wp.run("benchmark_model", version)
        assert result.success, failure_of(result)
    result = wp.run("promote", RUN)
    assert result.success, failure_of(result)
    summary = read_summary(wp.state.runs, RUN)
    decision, manifest = summary.decision, summary.manifest
    assert manifest.tiers[-2:] == ("capitals", "capitals_harness")
    assert {"capitals_capitals_py", "capitals_harness_capitals_yaml"} <= manifest.goldens.keys()
    assert ("good", "capitals") in {(pin.model_version, pin.tier) for pin in manifest.pins()}
    good = decision.candidate("good").reading("capitals", "accuracy")
    assert (good.value, good.n) == (0.75, 12)
    assert decision.winner == "good"
    gate = next(g for g in decision.candidate("poor").gates if g.metric == "accuracy")
    assert not gate.admits
    assert not [note for note in decision.notes if "not paired by case" in note and "capitals" in note]
    assert any(
        note.startswith("capitals of good was imported from a log of inspect_ai") and "word of whoever" in note
        for note in decision.notes
    )
