"""A campaign on private goldens, from measuring to the bundle: a marker text stands nowhere but in its set."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from milton_assets.selection.summary import read_summary
from milton_assets.tiers.reasoning.goldens import SHIPPED, load_goldens
from tests.support.workplace import competent, failure_of, workplace

RUN = "benchmark_20260101_000000"
MARKER = "zanthoxylum-marker-7f3a"


def marked(folder: Path) -> Path:
    """The shipped cases, each question with the marker."""
    shutil.copytree(SHIPPED, folder)
    cases = [json.loads(line) for line in (folder / "cases.jsonl").read_text().splitlines()]
    lines = [json.dumps({**case, "question": f"{case['question']} ({MARKER})"}) for case in cases]
    (folder / "cases.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def readable(path: Path) -> str:
    """The file's text; of a table what its compressed pages hold."""
    if path.suffix != ".parquet":
        return path.read_bytes().decode("utf-8", errors="replace")
    table = pq.read_table(path)
    return f"{table.schema.metadata} {table.to_pylist()}"


@pytest.mark.slow
def test_no_text_of_a_private_set_leaves_its_store(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    goldens = marked(tmp_path / "secret_cases")
    state = tmp_path / "state"
    state.mkdir()
    sets = {"goldens": {"reasoning": [{"path": str(goldens), "private": True}]}}
    (state / "milton.yaml").write_text(yaml.safe_dump(sets))
    with workplace(tmp_path) as wp:
        wp.register("good", competent(load_goldens(goldens)))
        result = wp.run("benchmark_model", "good")
        assert result.success, failure_of(result)
        assert any(MARKER in json.dumps(request) for request in wp.server.requests), "the set was never asked"
        result = wp.run("promote", RUN)
        assert result.success, failure_of(result)
        result = wp.run("deploy", "local")
        assert result.success, failure_of(result)
        summary = read_summary(wp.state.runs, RUN)
        bundle = wp.state.place(summary.bundle.path) if summary.bundle else None
        said = capfd.readouterr()
        holding = [
            path
            for root in (state, tmp_path / "dagster")
            for path in root.rglob("*")
            if path.is_file() and MARKER in readable(path)
        ]
    assert bundle is not None and (bundle / "manifest.json").is_file(), "no bundle was made, so nothing could leave"
    assert (state / "deployments" / "local" / "current" / "manifest.json").is_file(), "nothing was deployed"
    assert "reasoning/secret_cases/cases.jsonl" in summary.manifest.private_goldens
    assert holding == []
    assert MARKER not in said.out + said.err
