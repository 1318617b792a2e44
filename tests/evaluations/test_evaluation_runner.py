"""Running a package: what it is told, what becomes of its log, and what is said when it fails.

A shell script stands where the package's interpreter would; the real packages are in `test_evaluations_real_packages`.
"""

from __future__ import annotations

import json
import shlex
import time
from dataclasses import replace
from pathlib import Path

import pytest

from milton_assets.tiers.evaluations.result import Figure
from milton_assets.tiers.evaluations.tier import evaluation_tier
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.evaluation import Evaluation, EvaluationFailed, Package
from milton_assets.vocabulary.fingerprint import ServerFingerprint
from milton_assets.vocabulary.metric import Status
from milton_assets.vocabulary.progress import silent
from milton_assets.vocabulary.server import Endpoint, RunningServer
from milton_assets.vocabulary.tier_spec import Conditions, Measuring
from resources.evaluations.environment import MARKER, Recipe
from resources.evaluations.running import EvaluationRunner, kept_in, log_uri
from resources.evidence_store import EvidenceStore
from tests.support.evaluation_logs import EVAL, MODEL, RESULTS, SAMPLES

ENDPOINT = Endpoint("http://127.0.0.1:8000", MODEL, slots=4, api_key="a-secret-key")
INSPECT = Evaluation(Package.INSPECT, "capitals.py@capitals", limit=5, epochs=2, max_tokens=24)
LM_EVAL = Evaluation(Package.LM_EVAL, "capitals", limit=5, max_tokens=24)


def environment(cache: Path, evaluation: Evaluation, script: str) -> EvaluationRunner:
    """A runner in whose environment `script` is the interpreter."""
    recipe = Recipe(evaluation.package, evaluation.requires)
    python = recipe.folder(cache) / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    (recipe.folder(cache) / MARKER).write_text(json.dumps({"sha256": recipe.sha256}))
    return EvaluationRunner(cache)


def writing(logs: Path, *files: Path) -> str:
    """A script that tells what it was started with and writes these logs."""
    copies = "\n".join(f"cp {shlex.quote(str(file))} {shlex.quote(str(logs))}" for file in files)
    told = shlex.quote(str(logs.parent / "told"))
    return f'mkdir -p {shlex.quote(str(logs))}\n{{ echo "$@"; env; pwd; }} > {told}\n{copies}'


def test_inspect_is_told_the_task_the_model_and_how_it_is_asked(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    runner = environment(tmp_path / "cache", INSPECT, writing(logs, EVAL))
    assert runner.run(replace(INSPECT, folder=tmp_path), ENDPOINT, logs, silent) == logs / EVAL.name
    words, *rest = (tmp_path / "told").read_text().splitlines()
    assert words.startswith(f"-I -m inspect_ai eval capitals.py@capitals --model openai-api/milton/{MODEL}")
    for option in ("--limit 5", "--epochs 2", "--max-tokens 24", "--max-connections 4", "--temperature 0"):
        assert option in words
    assert "a-secret-key" not in words
    assert {"MILTON_API_KEY=a-secret-key", "MILTON_BASE_URL=http://127.0.0.1:8000/v1"} <= set(rest)
    assert rest[-1] == str(tmp_path)


def test_lm_eval_is_told_the_same(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    runner = environment(tmp_path / "cache", LM_EVAL, writing(logs, RESULTS, SAMPLES))
    assert runner.run(replace(LM_EVAL, folder=tmp_path), ENDPOINT, logs, silent) == logs / RESULTS.name
    words, *rest = (tmp_path / "told").read_text().splitlines()
    assert words.startswith("-I -m lm_eval --model local-chat-completions")
    assert f"model={MODEL},base_url=http://127.0.0.1:8000/v1/chat/completions,num_concurrent=4" in words
    for option in ("--tasks capitals", "--log_samples", f"--include_path {tmp_path}", "max_gen_toks=24", "--limit 5"):
        assert option in words
    assert "a-secret-key" not in words and "OPENAI_API_KEY=a-secret-key" in rest


def test_every_file_of_a_log_is_kept_under_its_digest(tmp_path: Path) -> None:
    logs, store = tmp_path / "logs", EvidenceStore(tmp_path / "evidence")
    runner = replace(environment(tmp_path, LM_EVAL, writing(logs, RESULTS, SAMPLES)), keep=kept_in(store))
    runner.run(LM_EVAL, ENDPOINT, logs, silent)
    kept = {path.name for path in (tmp_path / "evidence" / "evaluation_logs").iterdir()}
    assert len(kept) == 2
    assert all(store.digest(log_uri(sha256)) == sha256 for sha256 in kept)


def test_a_package_that_fails_is_told_with_its_last_lines(tmp_path: Path) -> None:
    runner = environment(tmp_path, INSPECT, "echo 'no task of that name'; exit 3")
    with pytest.raises(EvaluationFailed, match=r"ended with exit status 3(.|\n)*no task of that name"):
        runner.run(INSPECT, ENDPOINT, tmp_path / "logs", silent)


def test_a_package_that_writes_no_log_failed(tmp_path: Path) -> None:
    runner = environment(tmp_path, INSPECT, "echo done")
    with pytest.raises(EvaluationFailed, match="ended well and wrote no log"):
        runner.run(INSPECT, ENDPOINT, tmp_path / "logs", silent)


def test_a_package_that_does_not_end_is_ended_at_its_deadline(tmp_path: Path) -> None:
    runner = environment(tmp_path, INSPECT, "exec sleep 120")
    began = time.monotonic()
    with pytest.raises(EvaluationFailed, match="was ended after 1 s, its deadline"):
        runner.run(replace(INSPECT, deadline_s=1.0), ENDPOINT, tmp_path / "logs", silent)
    assert time.monotonic() - began < 60


def test_a_model_whose_name_would_be_further_options_is_refused(tmp_path: Path) -> None:
    runner = environment(tmp_path, LM_EVAL, "exit 0")
    with pytest.raises(BadInput, match="a name without ',' and '='"):
        runner.run(LM_EVAL, replace(ENDPOINT, model="x,base_url=http://elsewhere"), tmp_path / "logs", silent)


def test_an_environment_of_other_pins_is_another_one() -> None:
    plain, more = Recipe(Package.INSPECT), Recipe(Package.INSPECT, ("inspect_evals==0.3.1",))
    assert plain.folder(Path("/c")) != more.folder(Path("/c"))
    assert plain.folder(Path("/c")) != Recipe(Package.LM_EVAL).folder(Path("/c"))
    assert all("==" in line for line in plain.pins.splitlines())


SPEC = evaluation_tier(
    name="capitals",
    about="x",
    evaluation=Evaluation(Package.INSPECT, "capitals.py@capitals"),
    figures=(Figure("accuracy", score="includes"),),
)


def measuring(runner: EvaluationRunner, model: str = MODEL) -> Measuring:
    served = RunningServer(Endpoint("http://127.0.0.1:8000", model), ServerFingerprint(name="x", launched_by_us=True))
    return Measuring(served, goldens=None, plan=SPEC.plan(Conditions("smoke")), runs_evaluations=runner)


def test_in_a_campaign_a_failing_package_is_an_error_of_its_figures_and_says_why(tmp_path: Path) -> None:
    result = SPEC.measure(measuring(environment(tmp_path, INSPECT, "echo 'out of memory'; exit 1")))
    metric = result.metric("accuracy")
    assert metric.status is Status.ERROR
    assert "out of memory" in str(metric.why)


def test_a_log_that_tells_of_another_model_than_was_served_is_no_measurement(tmp_path: Path) -> None:
    # Where the log goes is only known to the script: the option after --log-dir.
    script = f'while [ "$1" != --log-dir ]; do shift; done; cp {shlex.quote(str(EVAL))} "$2"'
    runner = environment(tmp_path, INSPECT, script)
    assert SPEC.measure(measuring(runner)).metric("accuracy").value == 0.5
    with pytest.raises(BadInput, match="expected: another, which was served"):
        SPEC.measure(measuring(runner, model="another"))


def test_smoke_asks_the_first_ten_samples() -> None:
    assert SPEC.plan(Conditions("smoke")).model_dump() == {"limit": 10, "epochs": 1}
    assert SPEC.plan(Conditions("full")).model_dump() == {"limit": None, "epochs": 1}
