"""A tier of somebody's own: installed from `examples`, it is measured, decided on, paired and gated like any other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from milton_assets.selection.policy_file import load_policy
from milton_assets.selection.summary import read_summary
from tests.support.examples import install_example
from tests.support.scripted_server import Reply
from tests.support.workplace import Behaviour, Workplace, competent, failure_of, workplace

RUN = "benchmark_20260101_000000"
VALID = '{"name": 1, "born": 1, "country": 1, "title": 1, "author": 1, "hex": 1, "moons": 1, "length_km": 1}'


def speaks_json() -> Behaviour:
    """A competent model that answers in JSON when asked to."""
    otherwise = competent()

    def reply(body: dict[str, Any]) -> Reply:
        asked = str(body["messages"][-1]["content"])
        return VALID if "one JSON object and nothing else" in asked else otherwise(body)

    return reply


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the example is installed in."""
    return install_example("tier_json_answers", tmp_path_factory.mktemp("example"))


def policy_file(folder: Path, **gate: object) -> Path:
    """`smoke` with a gate on the example's metric, which is weighed too."""
    policy = load_policy("smoke").model_dump(mode="json")
    share = {"tier": "json_answers", "metric": "valid_share"}
    for criterion in policy["criteria"]:
        criterion["weight"] /= 2
    anchors = {"worst": 0.0, "best": 1.0}
    policy["criteria"].append({**share, "label": "JSON", "direction": "higher", "weight": 0.5, "anchors": anchors})
    policy["gates"] = [*policy["gates"], {**share, "op": ">=", "threshold": 0.9, **gate}]
    path = folder / "with_json.yaml"
    path.write_text(yaml.safe_dump(policy))
    return path


@pytest.fixture
def wp(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workplace]:
    """A workplace in which the example is installed."""
    monkeypatch.syspath_prepend(installed)
    with workplace(tmp_path, policy=str(policy_file(tmp_path))) as place:
        yield place


@pytest.mark.slow
def test_it_is_measured_decided_on_paired_and_gated(wp: Workplace) -> None:
    wp.register("good", speaks_json())
    wp.register("better", speaks_json(), seed=1)
    wp.register("poor", competent(), seed=2)
    for version in ("good", "better", "poor"):
        result = wp.run("benchmark_model", version)
        assert result.success, failure_of(result)
    checks = {e.check_name for e in result.get_asset_check_evaluations()}
    assert "json_answers_is_complete" in checks
    result = wp.run("promote", RUN)
    assert result.success, failure_of(result)
    summary = read_summary(wp.state.runs, RUN)
    decision, manifest = summary.decision, summary.manifest
    assert manifest.tiers == ("inference", "reasoning", "retrieval", "fidelity", "json_answers")
    assert "json_answers_cases" in manifest.goldens
    good = decision.candidate("good").reading("json_answers", "valid_share")
    assert (good.value, good.n) == (1.0, 6)
    assert decision.winner in {"good", "better"}
    gate = next(g for g in decision.candidate("poor").gates if g.metric == "valid_share")
    assert not gate.admits
    assert not [note for note in decision.notes if "not paired by case" in note and "valid_share" in note]


@pytest.mark.slow
def test_a_dry_run_names_its_metrics(wp: Workplace, capfd: pytest.CaptureFixture[str]) -> None:
    wp.register("good", speaks_json())
    result = wp.conduct({"ops": {"conduct": {"config": {"dry_run": True}}}})
    assert result.success, failure_of(result)
    said = " ".join(capfd.readouterr().out.split())
    assert "json_answers valid_share skipped (dry run)" in said
    assert wp.server.requests == []


@pytest.mark.slow
def test_without_it_its_policy_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    with workplace(tmp_path, policy=str(policy_file(tmp_path))) as place:
        place.register("good", speaks_json())
        assert "valid_share is of tier json_answers, and installed are" in failure_of(place.conduct())
        assert place.server.requests == []
