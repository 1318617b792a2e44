"""Importing a log: whose model it tells of, what is kept, and what happens when that is not what it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from milton_assets.tiers.evaluations.result import Figure
from milton_assets.tiers.evaluations.tier import evaluation_tier
from milton_assets.tiers.inference.spec import SPEC as INFERENCE
from milton_assets.usecases.evaluations import forget_log, import_log, imported_log, imported_result
from milton_assets.vocabulary.errors import BadInput, EvidenceMismatch
from milton_assets.vocabulary.evaluation import Evaluation, Package
from milton_assets.vocabulary.named_weights import NamedWeights
from milton_assets.vocabulary.registry import Artefact, ArtefactKind
from milton_assets.vocabulary.state import StateDir
from resources.evaluations.running import log_uri
from resources.evidence_store import EvidenceStore
from resources.registries.json_file import add_entries, new_entry
from tests.support.evaluation_logs import EVAL, MODEL, RESULTS, inspect_json
from tests.support.examples import install_example
from tests.support.gguf_file import tiny_gguf

SPEC = evaluation_tier(
    name="capitals",
    about="x",
    evaluation=Evaluation(Package.INSPECT, "capitals.py@capitals"),
    figures=(Figure("accuracy", score="includes"),),
)
HARNESS = evaluation_tier(
    name="capitals_harness",
    about="x",
    evaluation=Evaluation(Package.LM_EVAL, "capitals"),
    figures=(Figure("exact_match", score="exact_match,first_word"),),
)
ARTEFACT = Artefact(kind=ArtefactKind.GGUF, path=f"/models/{MODEL}.gguf", size_bytes=1, sha256="a" * 64)


@pytest.fixture
def store(tmp_path: Path) -> EvidenceStore:
    return EvidenceStore(tmp_path / "evidence")


@pytest.mark.parametrize(
    ("spec", "path", "metric", "value"),
    [(SPEC, EVAL, "accuracy", 0.5), (HARNESS, RESULTS, "exact_match", None)],
    ids=["inspect", "lm-eval"],
)
def test_a_log_is_kept_whole_and_its_figures_come_from_what_is_kept(
    store: EvidenceStore, spec: Any, path: Path, metric: str, value: float | None
) -> None:
    import_log(store, spec, "v1", ARTEFACT, path)
    known = imported_log(store, spec.name, NamedWeights("v1", ARTEFACT.sha256))
    assert known is not None
    assert all(store.digest(log_uri(sha256)) == sha256 for sha256 in known.files.values())
    result = imported_result(store, spec, known)
    assert result.metric(metric).n == 12
    assert value is None or result.metric(metric).value == value
    assert result.provenance["evaluation"]["imported_at"] == known.imported_at.isoformat()
    assert result.provenance["evaluation"]["model_told"].endswith(MODEL)
    assert result.provenance["code_version"] == spec.code_version()


def test_a_log_of_another_model_is_refused_unless_its_name_is_given(store: EvidenceStore) -> None:
    other = ARTEFACT.model_copy(update={"path": "/models/other.gguf"})
    with pytest.raises(BadInput, match=f"give --told-as 'openai-api/milton/{MODEL}'"):
        import_log(store, SPEC, "v1", other, EVAL)
    assert imported_log(store, "capitals", NamedWeights("v1", other.sha256)) is None
    with pytest.raises(BadInput, match="tells of the model"):
        import_log(store, SPEC, "v1", ARTEFACT, EVAL, told_as="gpt-5")
    assert import_log(store, SPEC, "v1", other, EVAL, told_as=MODEL).model_told == f"openai-api/milton/{MODEL}"


def test_a_log_of_another_task_or_package_is_refused(store: EvidenceStore, tmp_path: Path) -> None:
    def renamed(log: dict[str, Any]) -> None:
        log["eval"]["task"] = "rivers"

    with pytest.raises(BadInput, match=r"'rivers' of inspect_ai.*expected: one of capitals"):
        import_log(store, SPEC, "v1", ARTEFACT, inspect_json(tmp_path / "log.json", renamed))
    with pytest.raises(BadInput, match=r"of lm_eval.*expected: one of capitals of inspect_ai"):
        import_log(store, SPEC, "v1", ARTEFACT, RESULTS)


def test_a_tier_that_is_no_evaluation_takes_no_log(store: EvidenceStore) -> None:
    with pytest.raises(BadInput, match="inference takes no logs"):
        import_log(store, INFERENCE, "v1", ARTEFACT, EVAL)


def test_an_import_holds_for_the_weights_it_was_made_for_and_no_others(store: EvidenceStore) -> None:
    import_log(store, SPEC, "v1", ARTEFACT, EVAL)
    assert imported_log(store, "capitals", NamedWeights("v1", "b" * 64)) is None
    assert imported_log(store, "capitals", NamedWeights("v2", ARTEFACT.sha256)) is None


def test_an_import_can_be_taken_back_and_its_log_stays(store: EvidenceStore) -> None:
    known = import_log(store, SPEC, "v1", ARTEFACT, EVAL)
    forget_log(store, "capitals", "v1", ARTEFACT)
    assert imported_log(store, "capitals", NamedWeights("v1", ARTEFACT.sha256)) is None
    assert store.digest(log_uri(known.files[EVAL.name])) == known.files[EVAL.name]
    with pytest.raises(BadInput, match="no log of capitals was imported"):
        forget_log(store, "capitals", "v1", ARTEFACT)


def test_a_kept_log_that_was_changed_is_no_evidence(store: EvidenceStore) -> None:
    known = import_log(store, SPEC, "v1", ARTEFACT, EVAL)
    store.keep(log_uri(known.files[EVAL.name]), EVAL.read_bytes() + b" ")
    with pytest.raises(EvidenceMismatch, match="was changed"):
        imported_result(store, SPEC, known)


def test_the_installed_command_imports_lists_and_forgets(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    gguf = state.quantized / "v1" / f"{MODEL}.gguf"
    gguf.parent.mkdir(parents=True)
    tiny_gguf(gguf)
    add_entries(state.registry, {"v1": new_entry("org/base", gguf=str(gguf.relative_to(state.root)))})
    site = install_example("evaluation_capitals", tmp_path / "example")

    def milton(*words: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"MILTON_STATE_DIR": str(state.root), "PYTHONPATH": str(site)}
        command = [str(Path(sys.executable).with_name("milton")), "evaluation", *words]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    told = milton("import", str(EVAL), "--tier", "capitals", "--model", "v1", "--json")
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["model_told"] == f"openai-api/milton/{MODEL}"
    assert [one["tier"] for one in json.loads(milton("list", "--json").stdout)] == ["capitals"]
    refused = milton("import", str(RESULTS), "--tier", "capitals", "--model", "v1")
    assert refused.returncode == 1
    assert "milton: " in refused.stderr and "Traceback" not in refused.stderr
    assert milton("forget", "--tier", "capitals", "--model", "v1").stdout.startswith("forgotten: capitals of v1")
    assert milton("list").stdout == "Nothing was imported.\n"
