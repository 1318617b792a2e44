"""The real inspect_ai and lm_eval, installed by our own recipe, run on the real small model as the docs say."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from milton_assets.settings import load_settings
from milton_assets.tiers.evaluations.reading import read_log
from milton_assets.vocabulary.evaluation import EvaluationFailed, Package
from milton_assets.vocabulary.progress import silent
from milton_assets.vocabulary.server import RunningServer
from milton_assets.vocabulary.tier import TierResult
from resources.evaluations.environment import interpreter
from resources.evaluations.running import log_uri
from resources.evidence_store import EvidenceStore
from resources.servers.llama_cpp import LlamaCppLauncher
from tests.support.examples import install_example
from tests.support.scripted_server import Reply
from tests.support.workplace import Behaviour, competent, failure_of, workplace

# Making both environments takes some minutes, once on a machine.
pytestmark = [pytest.mark.slow, pytest.mark.real_model, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "evaluations.md"


@pytest.fixture(scope="module", autouse=True)
def environments() -> None:
    """Both packages, from the cache or newly installed; skipped only where no package registry answers."""
    for package in Package:
        try:
            interpreter(package, (), load_settings().cache_dir, silent)
        except EvaluationFailed as failed:
            if "connection broken by" in str(failed):
                pytest.skip(f"{package} is not installed and no package registry can be reached: {failed}")
            raise


@pytest.fixture(scope="module")
def served(small_gguf: Path) -> Iterator[RunningServer]:
    """The small model under the name that the page uses."""
    with LlamaCppLauncher(slots=2, context_tokens=1024).serve(small_gguf, "my-model") as running:
        yield running


def line_of_page(verb: str) -> list[str]:
    """The words of the page's command that begins so."""
    text = PAGE.read_text().replace("\\\n", " ")
    return shlex.split(next(line for line in text.splitlines() if line.startswith(verb)))


def run(verb: str, served: RunningServer, logs: Path) -> dict[str, Any]:
    """The answer to the page's command, asked of the served model, its log kept in `logs`."""
    words = line_of_page(verb)
    words[words.index("--base-url") + 1] = served.endpoint.base_url
    if "--keep" in words:
        words[words.index("--keep") + 1] = str(logs)
    else:
        words += ["--keep", str(logs)]
    program = str(Path(sys.executable).with_name("milton"))
    done = subprocess.run([program, *words[1:], "--json"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize(
    ("verb", "package", "score"),
    [
        ("milton bench inspect", Package.INSPECT, "includes"),
        ("milton bench lm-eval", Package.LM_EVAL, "exact_match,first_word"),
    ],
    ids=["inspect", "lm-eval"],
)
def test_a_task_is_run_by_its_own_package_and_its_log_comes_back_as_figures(
    served: RunningServer, tmp_path: Path, verb: str, package: Package, score: str
) -> None:
    told = run(verb, served, tmp_path / "logs")
    (metric,) = told["metrics"]
    assert (metric["name"], metric["status"], metric["n"], metric["errors"]) == (score, "ok", 12, 0)
    assert metric["value"] >= 2 / 12, "the model knows Paris and Rome"
    assert metric["interval"]["method"] == "wilson"
    log = read_log(tmp_path / "logs")
    assert (log.package, log.task) == (package, "capitals")
    assert log.model.endswith("my-model")
    assert sum(answer.scores[score] for answer in log.answers) / 12 == metric["value"]
    assert log.sha256 == told["provenance"]["evaluation"]["log_sha256"]
    assert {Path(file).name for file in told["log"]} == set(log.files)


def knows_paris() -> Behaviour:
    """A competent model that answers every question for a capital with Paris."""
    otherwise = competent()

    def reply(body: dict[str, Any]) -> Reply | str:
        asked = str(body["messages"][-1]["content"])
        ours = asked.startswith("What is the capital of") and asked.endswith("? Answer in one short sentence.")
        return "The capital is Paris." if ours else otherwise(body)

    return reply


def test_a_campaigns_tiers_are_measured_by_their_packages_and_their_logs_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(install_example("evaluation_capitals", tmp_path / "example"))
    with workplace(tmp_path) as place:
        place.register("good", knows_paris())
        done = place.run("benchmark_model", "good")
        assert done.success, failure_of(done)
        store = EvidenceStore(place.state.benchmarks)
        for tier, figure in (("capitals", "accuracy"), ("capitals_harness", "exact_match")):
            file = store.latest(f"{tier}_metrics", "good")
            assert file is not None
            result = TierResult.from_table(file.read())
            metric = result.metric(figure)
            assert (metric.value, metric.n, metric.errors) == (0.1, 10, 0), metric.why
            files = result.provenance["evaluation"]["log_files"]
            assert all(store.digest(log_uri(sha256)) == sha256 for sha256 in files.values())
