"""Running an evaluation against a served model, by its package's own command.

    runner = EvaluationRunner(cache, keep=kept_in(store))
    log = runner.run(evaluation, served.endpoint, folder, on_progress)

What belongs here: the packages' command lines, their process and its deadline. What does not: installing them
(`environment`), and what a log says.

Inspect asks the server as its provider `openai-api`, lm-eval as its `local-chat-completions`: the served model's own
chat template is used, by the server. Keys go through the environment and not the command line. A task is code: it runs
with the rights of whoever starts it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from milton_assets.tiers.evaluations.reading import log_file
from milton_assets.vocabulary.digest import sha256_file
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.evaluation import Evaluation, EvaluationFailed, Package
from milton_assets.vocabulary.progress import OnProgress, Progress
from milton_assets.vocabulary.server import Endpoint
from resources.evaluations.environment import interpreter
from resources.evidence_store import EvidenceStore
from resources.servers.process import Command, running

SERVICE = "milton"
"""What inspect calls the server: its models are named `openai-api/milton/NAME`."""

LOGS = "evaluation_logs"
_POLL_S = 2.0
_RETRIES = 3
_CALL_S = 600
"""A sample that has no answer after so many seconds and tries is one that failed."""
_NO_KEY = "none"

Keep = Callable[[Path], None]


def keep_nothing(_: Path) -> None:
    """Where nobody keeps logs."""


def kept_in(store: EvidenceStore) -> Keep:
    """Keeps each file of a log in the evidence store, under its digest."""

    def keep(file: Path) -> None:
        store.keep(log_uri(sha256_file(file)), file.read_bytes())

    return keep


def log_uri(sha256: str) -> str:
    """Where the store keeps the file of that digest."""
    return f"{LOGS}/{sha256}"


@dataclass(frozen=True)
class EvaluationRunner:
    """Runs evaluations in environments below `cache`; `keep` is handed each file of a log. Implements
    `RunsEvaluations`."""

    cache: Path
    keep: Keep = keep_nothing

    def run(self, evaluation: Evaluation, endpoint: Endpoint, folder: Path, on_progress: OnProgress) -> Path:
        """See `RunsEvaluations`. Raises `BadInput` for a model whose name the package's options cannot hold."""
        python = interpreter(evaluation.package, evaluation.requires, self.cache, on_progress)
        command = _command(evaluation, endpoint, python, folder.absolute())
        on_progress(Progress(evaluation.package.value, 0, 1, evaluation.task))
        deadline = time.monotonic() + evaluation.deadline_s
        with running(command) as child:
            while child.exit_status is None and time.monotonic() < deadline:
                child.wait(_POLL_S)
            if child.exit_status != 0:
                how = child.ended() or f"was ended after {evaluation.deadline_s:g} s, its deadline"
                raise EvaluationFailed(child.failed(how).problem)
            try:
                log = log_file(folder)
            except BadInput as error:
                raise EvaluationFailed(child.failed("ended well and wrote no log").problem) from error
        for file in sorted(log.parent.iterdir()):
            if file.is_file() and not file.name.startswith("."):
                self.keep(file)
        on_progress(Progress(evaluation.package.value, 1, 1, evaluation.task))
        return log


def _command(evaluation: Evaluation, endpoint: Endpoint, python: Path, folder: Path) -> Command:
    if "," in endpoint.model or "=" in endpoint.model:
        raise BadInput(
            f"the model is named {endpoint.model!r:.200}", expected="a name without ',' and '='", remedy="serve it so"
        )
    certificates = {} if endpoint.ca_file is None else {"SSL_CERT_FILE": str(endpoint.ca_file)}
    if evaluation.package is Package.INSPECT:
        argv = (str(python), "-I", "-m", "inspect_ai", *_inspect(evaluation, endpoint, folder))
        env = {
            "MILTON_BASE_URL": endpoint.v1,
            "MILTON_API_KEY": endpoint.api_key or _NO_KEY,
            "INSPECT_TRACE_FILE": str(folder / ".trace.log"),
        }
    else:
        argv = (str(python), "-I", "-m", "lm_eval", *_lm_eval(evaluation, endpoint, folder))
        env = {
            "OPENAI_API_KEY": endpoint.api_key or _NO_KEY,
            "REQUESTS_CA_BUNDLE": certificates.get("SSL_CERT_FILE", ""),
        }
        env = {name: value for name, value in env.items() if value}
    return Command(evaluation.package.value, argv, {**env, **certificates}, cwd=evaluation.folder)


def _inspect(evaluation: Evaluation, endpoint: Endpoint, folder: Path) -> Iterator[str]:
    yield from ("eval", evaluation.task, "--model", f"openai-api/{SERVICE}/{endpoint.model}")
    yield from ("--log-dir", str(folder), "--log-format", "eval", "--display", "plain")
    # A sample that failed is counted, by us, and the others are still asked. Without a bound, inspect tries for ever.
    yield from ("--no-fail-on-error", "--max-connections", str(endpoint.slots), "--temperature", "0")
    yield from ("--max-retries", str(_RETRIES), "--timeout", str(_CALL_S), "--epochs", str(evaluation.epochs))
    if evaluation.limit is not None:
        yield from ("--limit", str(evaluation.limit))
    if evaluation.max_tokens is not None:
        yield from ("--max-tokens", str(evaluation.max_tokens))


def _lm_eval(evaluation: Evaluation, endpoint: Endpoint, folder: Path) -> Iterator[str]:
    arguments = {
        "model": endpoint.model,
        "base_url": f"{endpoint.v1}/chat/completions",
        "num_concurrent": endpoint.slots,
        "max_retries": _RETRIES,
        "tokenized_requests": False,
    }
    yield from ("--model", "local-chat-completions", "--apply_chat_template", "--log_samples")
    yield from ("--model_args", ",".join(f"{name}={value}" for name, value in arguments.items()))
    yield from ("--tasks", evaluation.task, "--output_path", str(folder))
    if evaluation.folder is not None:
        yield from ("--include_path", str(evaluation.folder))
    if evaluation.limit is not None:
        yield from ("--limit", str(evaluation.limit))
    tokens = () if evaluation.max_tokens is None else (f"max_gen_toks={evaluation.max_tokens}",)
    yield from ("--gen_kwargs", ",".join(("temperature=0", *tokens)))
