"""Which reader a log is for, by what lies there.

    log = read_log(path)                     # a .eval, a .json, a results_DATE.json, or a folder that holds one log

What belongs here: telling the formats apart. What does not: the formats.
"""

from __future__ import annotations

from pathlib import Path

from milton_assets.tiers.evaluations.inspect_log import read_inspect_log
from milton_assets.tiers.evaluations.lm_eval_log import read_lm_eval_log
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.evaluation import EvaluationLog

_EXPECTED = "a log of inspect_ai (.eval or .json), results_DATE.json of lm-eval, or a folder that holds one of these"


def read_log(path: Path, task: str | None = None) -> EvaluationLog:
    """The log at `path`, of `task` where results of lm-eval hold several. Raises `BadInput` for what is no log."""
    file = log_file(path)
    if file.name.startswith("results_") or file.name == "results.json":
        return read_lm_eval_log(file, task)
    return read_inspect_log(file)


def log_file(path: Path) -> Path:
    """The log's own file: `path`, or the one log in it and below. Raises `BadInput` for none and for several."""
    if path.is_file():
        if path.suffix not in {".eval", ".json"}:
            raise BadInput(f"{path} is no log", expected=_EXPECTED)
        return path
    if not path.is_dir():
        raise BadInput(f"{path} is not there", expected=_EXPECTED)
    found = sorted({*path.rglob("*.eval"), *path.rglob("results_*.json")})
    if len(found) != 1:
        raise BadInput(
            f"{path} holds {len(found)} logs", expected="one", remedy="name the one that is meant, by its file"
        )
    return found[0]


def files_of(path: Path, log: EvaluationLog) -> dict[str, Path]:
    """Where the log's files lie, by their names in it."""
    return {name: log_file(path).with_name(name) for name in log.files}
