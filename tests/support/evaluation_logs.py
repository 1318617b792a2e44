"""Logs of evaluations that the real packages wrote, of the example's task on the real small model, and changed copies.

What belongs here: where they lie, and writing one that was changed. What does not: assertions.

They were made by `milton bench inspect capitals.py@capitals --gguf SmolLM2-135M-Instruct.Q4_1.gguf --max-tokens 24` and
`milton bench lm-eval capitals --include . …`, in a folder of their own, with `--keep`; the `.json` is the `.eval` by
`inspect log convert`, without its white space.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

LOGS = Path(__file__).resolve().parents[1] / "evaluations" / "logs"
EVAL = next(LOGS.glob("*.eval"))
JSON = next(LOGS.glob("*_capitals_*.json"))
RESULTS = next(LOGS.glob("lm_eval/results_*.json"))
SAMPLES = next(LOGS.glob("lm_eval/samples_*.jsonl"))
MODEL = "SmolLM2-135M-Instruct.Q4_1"

Change = Callable[[Any], None]


def document() -> dict[str, Any]:
    """The real log as JSON, to be changed."""
    found: dict[str, Any] = json.loads(JSON.read_text())
    return found


def inspect_json(path: Path, change: Change) -> Path:
    """The real log, changed, as `.json`."""
    changed = document()
    change(changed)
    path.write_text(json.dumps(changed))
    return path


def inspect_eval(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    """A `.eval` file with these members."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def members() -> dict[str, bytes]:
    """The members of the real log that are read, as its package deflated them before 2026."""
    whole = document()
    header = {name: value for name, value in whole.items() if name not in {"samples", "reductions"}}
    samples = {f"samples/{s['id']}_epoch_{s['epoch']}.json": json.dumps(s).encode() for s in whole["samples"]}
    return {"header.json": json.dumps(header).encode(), **samples}


def small_members() -> dict[str, bytes]:
    """Two samples of the real log without what is not read, the results with them."""
    whole = document()
    kept = ("id", "epoch", "input", "target", "scores")
    samples = [{name: sample[name] for name in kept} for sample in whole["samples"][:2]]
    header = {name: whole[name] for name in ("version", "status", "eval", "plan")}
    found = {f"samples/{s['id']}_epoch_{s['epoch']}.json": json.dumps(s).encode() for s in samples}
    return {"header.json": json.dumps(header).encode(), **found}


def harness(folder: Path, *, results: Change | None = None, samples: Change | None = None) -> Path:
    """The real results of lm-eval with their samples, changed."""
    folder.mkdir(parents=True, exist_ok=True)
    path, lines = folder / RESULTS.name, folder / SAMPLES.name
    shutil.copy(RESULTS, path)
    shutil.copy(SAMPLES, lines)
    if results is not None:
        told = json.loads(path.read_text())
        results(told)
        path.write_text(json.dumps(told))
    if samples is not None:
        rows = [json.loads(line) for line in lines.read_text().splitlines()]
        samples(rows)
        lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def right(log: dict[str, Any], *ids: str) -> None:
    """Change the log's scores so that these samples were right and no others, its results with them."""
    for sample in log["samples"]:
        sample["scores"]["includes"]["value"] = "C" if sample["id"] in ids else "I"
    for result in log["results"]["scores"]:
        result["metrics"]["accuracy"]["value"] = len(ids) / len(log["samples"])
