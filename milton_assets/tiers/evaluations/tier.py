"""An evaluation of others as a tier: measured by its own package, or imported as a log.

    SPEC = evaluation_tier(
        name="capitals",
        about="Whether the model knows capitals.",
        evaluation=Evaluation(Package.INSPECT, "capitals.py", folder=Path(__file__).parent / "task"),
        files=("capitals.py", "capitals.jsonl"),
        figures=(Figure("accuracy", score="match"),),
    )

What belongs here: making a `TierSpec` of an evaluation, and measuring by it. What does not: running a package
(`resources.evaluations`), and keeping imported logs (`milton_assets.usecases.evaluations`).

Such a value in a package of one's own, named by an entry point of the group `milton.tiers`, is a tier like any other:
see `examples/evaluation_capitals` and docs/evaluations.md.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from milton_assets.tiers.evaluations.reading import read_log
from milton_assets.tiers.evaluations.result import Figure, figures_of, result_of
from milton_assets.vocabulary.code_version import code_version
from milton_assets.vocabulary.digest import sha256_bytes, sha256_json
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.evaluation import Evaluation, EvaluationFailed, EvaluationLog, Package
from milton_assets.vocabulary.metric import Metric
from milton_assets.vocabulary.tier import TierResult
from milton_assets.vocabulary.tier_spec import Conditions, GoldenFile, Measuring, Needs, PlanOption, TierSpec

_SMOKE_LIMIT = 10


class EvaluationPlan(BaseModel):
    """How many samples are asked (None: all), and how often each."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    limit: int | None = Field(default=None, ge=1)
    epochs: int = Field(default=1, ge=1)


@dataclass(frozen=True)
class TaskFiles:
    """The files that a task is made of, with the SHA-256 of each by its name."""

    digests: dict[str, str]


def evaluation_tier(
    *,
    name: str,
    about: str,
    evaluation: Evaluation,
    figures: Sequence[Figure],
    files: Sequence[str] = (),
    smoke_limit: int = _SMOKE_LIMIT,
) -> TierSpec:
    """The tier of that evaluation. The first figure is its headline; `files`, in the evaluation's folder, are what the
    task is made of, and pinned as its goldens.

    Raises `BadInput` for a tier without figures, or whose files have no folder.
    """
    if not figures:
        raise BadInput(f"the tier {name} has no figure", expected="at least one score that a log of it holds")
    if files and evaluation.folder is None:
        raise BadInput(f"the tier {name} has files and no folder", expected="the folder that its task lies in")
    if twice := [file for file in files if Path(file).name != file]:
        raise BadInput(f"the tier {name} has the files {twice}", expected="names of files in the task's folder")
    if evaluation.package is Package.INSPECT and task_name(evaluation) is None:
        raise BadInput(
            f"the tier {name} runs {evaluation.task}", expected="FILE.py@TASK, as another task may have the same scores"
        )
    folder = evaluation.folder

    def plan(conditions: Conditions) -> EvaluationPlan:
        smoke = conditions.profile == "smoke"
        limits = [limit for limit in (evaluation.limit, smoke_limit if smoke else None) if limit is not None]
        return EvaluationPlan(limit=min(limits, default=None), epochs=evaluation.epochs)

    def read_files(path: Path | None) -> TaskFiles:
        if path is not None:
            raise BadInput(f"the tier {name} has no goldens of one's own", expected="its task's own files")
        if folder is None:
            return TaskFiles({})
        try:
            return TaskFiles({file: sha256_bytes((folder / file).read_bytes()) for file in files})
        except OSError as error:
            raise BadInput(
                f"the task's files of the tier {name} cannot be read: {error}", expected=f"{list(files)} in {folder}"
            ) from error

    def measure(measuring: Measuring) -> TierResult:
        planned = replace(evaluation, limit=measuring.plan.limit, epochs=measuring.plan.epochs)
        try:
            return measured(name, planned, measuring, figures)
        except EvaluationFailed as failed:
            # The candidate's other tiers still count; a gate on a figure without a value answers no verdict.
            return TierResult(name, tuple(Metric.failed(f.name, f.unit, str(failed)) for f in figures))

    def version() -> str:
        ours = code_version("milton_assets.tiers.evaluations.tier")
        return sha256_json([ours, _stated(evaluation), [_stated_figure(figure) for figure in figures]])

    return TierSpec(
        name=name,
        about=about,
        metrics=tuple(figure.spec for figure in figures),
        headline=figures[0].name,
        needs=Needs.EVALUATION,
        plan=plan,
        measure=measure,
        code_version=version,
        read_goldens=read_files,
        shipped=folder,
        goldens=tuple(GoldenFile(f"{name}_{_slug(file)}", file, f"What {name} is made of.") for file in files),
        options=(PlanOption("limit", "limit", int, "At most this many samples."),),
        open_columns=frozenset({"part", "case_id", "asked_sha256"}),
        from_log=lambda path: result_of(name, told_by(path, evaluation), figures),
    )


def measured(name: str, evaluation: Evaluation, measuring: Measuring, figures: Sequence[Figure] | None) -> TierResult:
    """The evaluation run against the server, as a result of the tier `name`; a figure a score where none are named.

    Raises what running and reading raise, and `BadInput` when the log tells of another model than was served.
    """
    with tempfile.TemporaryDirectory(prefix="milton-evaluation-") as folder:
        path = measuring.evaluations.run(evaluation, measuring.served.endpoint, Path(folder), measuring.on_progress)
        log = told_by(path, evaluation)
    served = measuring.served.endpoint.model
    if not tells_of(log, served):
        raise BadInput(f"the log tells of the model {log.model!r:.200}", expected=f"{served}, which was served")
    return result_of(name, log, figures if figures is not None else figures_of(log))


def told_by(path: Path, evaluation: Evaluation) -> EvaluationLog:
    """The log at `path`, which must be one of that evaluation. Raises `BadInput` for another's."""
    task = task_name(evaluation)
    log = read_log(path, task)
    if log.package is not evaluation.package or (task is not None and log.task.rpartition("/")[2] != task):
        raise BadInput(
            f"{path} is a log of {log.task!r:.120} of {log.package}",
            expected=f"one of {task} of {evaluation.package}",
        )
    return log


def task_name(evaluation: Evaluation) -> str | None:
    """What a log of the evaluation calls its task; None for a file of inspect's whose task is not named."""
    file, _, task = evaluation.task.rpartition("@")
    if evaluation.package is Package.LM_EVAL:
        return evaluation.task
    if file:
        return task
    return None if evaluation.task.endswith(".py") else evaluation.task.rpartition("/")[2]


def tells_of(log: EvaluationLog, model: str) -> bool:
    """Whether the log's model is `model`, by that name alone or after the provider's (`openai-api/milton/NAME`)."""
    return log.model == model or log.model.endswith(f"/{model}")


def _stated(evaluation: Evaluation) -> dict[str, object]:
    return {
        "package": evaluation.package.value,
        "task": evaluation.task,
        "max_tokens": evaluation.max_tokens,
        "requires": list(evaluation.requires),
    }


def _stated_figure(figure: Figure) -> list[object]:
    return [figure.name, figure.score, figure.unit, figure.better.value, figure.missing]


def _slug(file: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", file.lower()).strip("_")
