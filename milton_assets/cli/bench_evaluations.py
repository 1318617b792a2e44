"""`milton bench inspect` and `milton bench lm-eval`: a task of others against any running server.

What belongs here: the two verbs. What does not: running the packages (`resources.evaluations`), reading their logs and
figures (`milton_assets.tiers.evaluations`), and importing a log (`cli.evaluation`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from milton_assets.cli.bench_answer import show_result
from milton_assets.cli.common import (
    CA_FILE_HELP,
    EXIT_NO,
    GGUF_HELP,
    JsonOption,
    current_settings,
    progress_on_stderr,
    server_to_bench,
    text_given,
)

if TYPE_CHECKING:
    from milton_assets.vocabulary.evaluation import Evaluation

BaseUrl = Annotated[str | None, typer.Option(help="The server's address, e.g. http://127.0.0.1:8000")]
Model = Annotated[str | None, typer.Option(help="The name the server lists the model under.")]
Gguf = Annotated[Path | None, typer.Option(help=GGUF_HELP)]
Limit = Annotated[int | None, typer.Option(min=1, help="At most this many samples.")]
MaxTokens = Annotated[int | None, typer.Option(min=1, help="How long an answer may be; else as the task says.")]
Requires = Annotated[
    list[str] | None,
    typer.Option("--requires", metavar="NAME==VERSION", help="A further package that the task needs. May be repeated."),
]
Keep = Annotated[
    Path | None,
    typer.Option("--keep", metavar="FOLDER", help="Where the log is kept, for `milton evaluation import`."),
]
ApiKey = Annotated[str | None, typer.Option(envvar="MILTON_API_KEY", help="The server's key.")]
CaFile = Annotated[Path | None, typer.Option(help=CA_FILE_HELP)]
Concurrency = Annotated[
    int | None, typer.Option(min=1, max=1024, help="Calls in flight at once. Default: the server's slots.")
]
Deadline = Annotated[float, typer.Option(min=1, help="Seconds before the evaluation is ended.")]

_DEADLINE_S = 6 * 3600.0


def bench_inspect(
    task: Annotated[str, typer.Argument(help="A file of inspect_ai's, FILE.py or FILE.py@TASK, or a registered name.")],
    base_url: BaseUrl = None,
    model: Model = None,
    gguf: Gguf = None,
    limit: Limit = None,
    epochs: Annotated[int, typer.Option(min=1, help="How often each sample is asked.")] = 1,
    max_tokens: MaxTokens = None,
    requires: Requires = None,
    keep: Keep = None,
    concurrency: Concurrency = None,
    deadline: Deadline = _DEADLINE_S,
    api_key: ApiKey = None,
    ca_file: CaFile = None,
    as_json: JsonOption = False,
) -> None:
    """Run a task of inspect_ai against a server, in an environment of its own, which is made the first time.

    The figures and their intervals are ours; failed samples count. A task is code and runs with your rights. Exits 1
    when every sample failed.

    Example: milton bench inspect capitals.py --base-url http://127.0.0.1:8000 --model my-model

    Example: milton bench inspect capitals.py --gguf my-model.gguf --epochs 3
    """
    from milton_assets.vocabulary.evaluation import Evaluation, Package

    named, _, part = text_given(task).partition("@")
    file = Path(named)
    folder = file.absolute().parent if file.is_file() else None
    name = f"{file.name}{'@' if part else ''}{part}" if folder is not None else task
    evaluation = Evaluation(
        Package.INSPECT, name, folder, limit, epochs, max_tokens, tuple(requires or ()), deadline_s=deadline
    )
    _bench(evaluation, base_url, model, gguf, keep, concurrency, api_key, ca_file, as_json=as_json)


def bench_lm_eval(
    task: Annotated[str, typer.Argument(help="The name of a task of lm-evaluation-harness.")],
    include: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="The folder with the YAML file of a task of your own."),
    ] = None,
    base_url: BaseUrl = None,
    model: Model = None,
    gguf: Gguf = None,
    limit: Limit = None,
    max_tokens: MaxTokens = None,
    requires: Requires = None,
    keep: Keep = None,
    concurrency: Concurrency = None,
    deadline: Deadline = _DEADLINE_S,
    api_key: ApiKey = None,
    ca_file: CaFile = None,
    as_json: JsonOption = False,
) -> None:
    """Run a task of lm-evaluation-harness against a server, in an environment of its own, made the first time.

    Tasks that generate text; those by log-likelihood need more than a chat endpoint tells. Files that a task names
    count from the folder of --include. A task is code and runs with your rights. Exits 1 when every sample failed.

    Example: milton bench lm-eval capitals --include tasks --base-url http://127.0.0.1:8000 --model my-model
    """
    from milton_assets.vocabulary.evaluation import Evaluation, Package

    folder = None if include is None else include.absolute()
    evaluation = Evaluation(
        Package.LM_EVAL, text_given(task), folder, limit, 1, max_tokens, tuple(requires or ()), deadline_s=deadline
    )
    _bench(evaluation, base_url, model, gguf, keep, concurrency, api_key, ca_file, as_json=as_json)


VERBS: dict[str, Callable[..., None]] = {"inspect": bench_inspect, "lm-eval": bench_lm_eval}
"""The verbs of `milton bench` that are no tiers; a tier may not bear one of these names."""


def _bench(
    evaluation: Evaluation,
    base_url: str | None,
    model: str | None,
    gguf: Path | None,
    keep: Path | None,
    concurrency: int | None,
    api_key: str | None,
    ca_file: Path | None,
    *,
    as_json: bool,
) -> None:
    from milton_assets.tiers.evaluations.tier import measured
    from milton_assets.vocabulary.metric import Status
    from milton_assets.vocabulary.tier_spec import Measuring
    from resources.evaluations.running import EvaluationRunner
    from resources.hardware import fingerprint

    kept: list[str] = []

    def keep_file(file: Path) -> None:
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            kept.append(str(shutil.copy2(file, keep)))

    runner = EvaluationRunner(current_settings().cache_dir, keep_file)
    with server_to_bench(base_url, model, gguf, api_key=api_key, ca_file=ca_file) as served:
        if concurrency is not None:
            served = replace(served, endpoint=replace(served.endpoint, slots=concurrency))
        measuring = Measuring(
            served, goldens=None, plan=None, on_progress=progress_on_stderr(), runs_evaluations=runner
        )
        result = measured(evaluation.package.value, evaluation, measuring, figures=None)
        environment = fingerprint(served)
    show_result(result, served, environment, as_json=as_json, log=kept)
    if all(metric.status is not Status.OK for metric in result.metrics):
        raise typer.Exit(EXIT_NO)
