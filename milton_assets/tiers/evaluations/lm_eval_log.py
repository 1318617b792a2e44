"""Results of lm-evaluation-harness with their samples (`--log_samples`), read strictly.

    log = read_lm_eval_log(Path("results_2026-11-26T19-00-00.000000.json"))

What belongs here: its format, as lm_eval 0.4 writes it: `results_DATE.json`, and beside it `samples_TASK_DATE.jsonl`, a
line a document and filter. What does not: what an evaluation is (`milton_assets.vocabulary.evaluation`), and figures.

A score is named as lm-eval names it in its results, `METRIC,FILTER` (`exact_match,none`). Metrics without a number per
document (BLEU over all of them, say) are none here: nothing could be paired by them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from milton_assets.tiers.evaluations.agreement import Scored, check_count, check_mean
from milton_assets.vocabulary.digest import sha256_file, sha256_json
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.evaluation import Answer, EvaluationLog, Package
from milton_assets.vocabulary.strict_json import json_lines, parse_json

MAX_RESULTS_BYTES = 64 << 20
MAX_SAMPLES_BYTES = 1 << 30
MAX_SAMPLES = 5_000_000
MAX_SAID_CHARACTERS = 4_000

_NAME = re.compile(r"results_(?P<date>[0-9T.-]+)\.json")
_EXPECTED = "results_DATE.json of lm_eval 0.4, and samples_TASK_DATE.jsonl beside it"
_REMEDY = "keep both files under the names that lm-eval gave them (0.4.3 and later)"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class _MetricConfig(_Part):
    metric: Any = None
    aggregation: Any = None


class _TaskConfig(_Part):
    dataset_path: str | None = None
    dataset_name: str | None = None
    metric_list: list[_MetricConfig] = Field(default_factory=list)
    generation_kwargs: dict[str, Any] = Field(default_factory=dict)
    num_fewshot: int | None = None
    repeats: int = 1


class _Config(_Part):
    model: str | None = None
    model_args: Any = None
    gen_kwargs: Any = None
    random_seed: int | None = None
    numpy_seed: int | None = None
    fewshot_seed: int | None = None


class _Asked(_Part):
    effective: int | None = None


class _Results(_Part):
    results: dict[str, dict[str, Any]]
    configs: dict[str, _TaskConfig] = Field(default_factory=dict)
    versions: dict[str, Any] = Field(default_factory=dict)
    config: _Config = Field(default_factory=_Config)
    asked: dict[str, _Asked] = Field(default_factory=dict, alias="n-samples")
    date: float | int | None = None
    model_name: str = ""
    lm_eval_version: str | None = None
    system_instruction: str | None = None
    chat_template_sha: str | None = None
    fewshot_as_multiturn: bool | None = None


class _Sample(_Part):
    doc_id: int | str
    doc_hash: str | None = None
    prompt_hash: str | None = None
    target_hash: str | None = None
    arguments: Any = None
    target: Any = None
    filter: str = "none"
    metrics: list[str] = Field(default_factory=list)
    filtered_resps: Any = None
    resps: Any = None


def read_lm_eval_log(path: Path, task: str | None = None) -> EvaluationLog:
    """The results at `path` and the samples beside them, of `task` where there are several.

    Raises `BadInput` for what is none, for samples that are not there, and for results of other samples.
    """
    if (named := _NAME.fullmatch(path.name)) is None:
        raise BadInput(f"{path.name!r:.200} is no name of lm-eval's results", expected=_EXPECTED, remedy=_REMEDY)
    results = _results(path)
    task = _task(results, task, path)
    if "/" in task or "\0" in task:
        raise BadInput(
            f"{path} holds results of {task!r:.200}", expected="a task's name, which names its file of samples"
        )
    samples_file = path.with_name(f"samples_{task}_{named['date']}.jsonl")
    _check_size(path, samples_file)
    config = results.configs.get(task, _TaskConfig())
    answers = tuple(_answers(samples_file))
    log = EvaluationLog(
        package=Package.LM_EVAL,
        package_version=results.lm_eval_version or "unknown",
        task=task,
        task_version=str(results.versions.get(task, "unknown")),
        model=results.model_name or "unknown",
        created_at=str(results.date) if results.date is not None else named["date"],
        answers=answers,
        files={path.name: sha256_file(path), samples_file.name: sha256_file(samples_file)},
        dataset=" ".join(part for part in (config.dataset_path, config.dataset_name) if part),
        how={
            "generation": config.generation_kwargs,
            "gen_kwargs": results.config.gen_kwargs or {},
            "num_fewshot": config.num_fewshot,
            "repeats": config.repeats,
            "seeds": [results.config.random_seed, results.config.numpy_seed, results.config.fewshot_seed],
            "system_instruction_sha256": None
            if results.system_instruction is None
            else sha256_json(results.system_instruction),
            "chat_template_sha": results.chat_template_sha,
            "fewshot_as_multiturn": results.fewshot_as_multiturn,
        },
    )
    if (told := results.asked.get(task)) is not None:
        check_count(len(answers), told.effective, "documents", str(path))
    scored = [Scored(answer.sample, answer.scores) for answer in answers]
    for metric in config.metric_list:
        if metric.aggregation in {"mean", "acc"}:
            for key, value in results.results[task].items():
                if key.startswith(f"{metric.metric},") and isinstance(value, int | float):
                    check_mean(scored, key, value, str(path))
    return log


def _results(path: Path) -> _Results:
    size = path.stat().st_size
    if size > MAX_RESULTS_BYTES:
        raise BadInput(f"{path} has {size} bytes", expected=f"at most {MAX_RESULTS_BYTES}")
    try:
        return _Results.model_validate(parse_json(path.read_bytes(), str(path), expected=_EXPECTED))
    except ValidationError as error:
        raise BadInput(f"{path} holds no results of lm-eval: {_first(error)}", expected=_EXPECTED) from None


def _task(results: _Results, wanted: str | None, path: Path) -> str:
    there = list(results.results)
    if wanted is None and len(there) == 1:
        return there[0]
    if wanted is None or wanted not in there:
        raise BadInput(
            f"{path} holds results of {there[:20]}",
            expected="results of one task" if wanted is None else f"results of {wanted}",
            remedy="name the task that is meant",
        )
    return wanted


def _check_size(path: Path, samples: Path) -> None:
    try:
        size = samples.stat().st_size
    except FileNotFoundError:
        raise BadInput(
            f"beside {path} there is no {samples.name}",
            expected=_EXPECTED,
            remedy="run lm-eval with --log_samples: without samples, nothing can be paired or held against the results",
        ) from None
    if size > MAX_SAMPLES_BYTES:
        raise BadInput(f"{samples} has {size} bytes", expected=f"at most {MAX_SAMPLES_BYTES}")


def _answers(path: Path) -> list[Answer]:
    """A document's lines, one a filter, put together."""
    found: dict[str, Answer] = {}
    with path.open("rb") as stream:
        for line in json_lines(stream, path, max_line_bytes=MAX_RESULTS_BYTES, max_lines=MAX_SAMPLES):
            try:
                sample = _Sample.model_validate(line.value)
            except ValidationError as error:
                raise BadInput(f"{line.where} is no sample of lm-eval: {_first(error)}", expected=_EXPECTED) from None
            answer = _answer(sample, line.value, line.where)
            if (known := found.get(answer.sample)) is None:
                found[answer.sample] = answer
                continue
            if known.asked_sha256 != answer.asked_sha256 or known.scores.keys() & answer.scores.keys():
                raise BadInput(
                    f"{line.where} holds the document {sample.doc_id!r:.80} a second time",
                    expected="a line a document and filter",
                )
            found[answer.sample] = Answer(
                answer.sample, 1, known.asked_sha256, {**known.scores, **answer.scores}, known.said
            )
    return list(found.values())


def _answer(sample: _Sample, line: Mapping[str, Any], where: str) -> Answer:
    scores: dict[str, float] = {}
    for metric in sample.metrics:
        if metric not in line:
            raise BadInput(f"{where} lacks the metric {metric!r:.80} that it names", expected=_EXPECTED)
        if isinstance(value := line[metric], bool | int | float):
            scores[f"{metric},{sample.filter}"] = float(value)
    said = sample.filtered_resps if sample.filtered_resps is not None else sample.resps
    while isinstance(said, list) and said:
        said = said[0]
    return Answer(
        sample=str(sample.doc_id),
        epoch=1,
        asked_sha256=sha256_json([sample.arguments, sample.target]),
        scores=scores,
        said=said[:MAX_SAID_CHARACTERS] if isinstance(said, str) else "",
        error=None if scores else "it has no number as its score",
    )


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the document'}: {first['msg']}"
