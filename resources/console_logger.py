"""What Dagster's own runs say on the terminal: what went wrong and what to do next, without Dagster's stack.

What belongs here: the `console` logger of every job, and turning a failure into one sentence. What does not: progress
(`resources.progress`), and the full trace, which the event log keeps whatever is set here. The setting `log_level`
turns this up; DEBUG and INFO show everything as Dagster writes it, traces included.
See https://docs.dagster.io/guides/log-debug/logging/custom-logging
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from dagster import DagsterEvent, DagsterExecutionInterruptedError, Field, InitLoggerContext, logger

from milton_assets.settings import LogLevel
from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.os_errors import remedy_for

INTERRUPTS = frozenset({DagsterExecutionInterruptedError.__name__, KeyboardInterrupt.__name__})
_DAGSTERS_FORMAT = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"
_NUMBER = re.compile(r"\[Errno (\d+)\]")
_WAITED_FOR = re.compile(r"Dependencies for step \S+ (failed|were not executed)")
"""What Dagster says of a step that had waited for one that failed, which said why itself."""


def logged_at(level: LogLevel) -> dict[str, Any]:
    """Run configuration that has the console logger, at `level`; without any Dagster would use its own."""
    return {"loggers": {"console": {"config": {"log_level": level.value}}}}


@logger(
    config_schema={
        "log_level": Field(str, default_value=LogLevel.ERROR.value, description="DEBUG, INFO, WARNING or ERROR.")
    },
    description="Failures in one sentence on standard error; everything, traces included, from INFO down.",
)
def console_logger(context: InitLoggerContext) -> logging.Logger:
    """The `console` logger of every job. Raises `ValueError` for a level that is none."""
    level = LogLevel(context.logger_config["log_level"]).value
    made = logging.Logger("dagster", level)
    handler = logging.StreamHandler(sys.stderr)
    if logging.getLevelNamesMapping()[level] > logging.INFO:
        handler.addFilter(lambda record: in_one_sentence(record) is not None)
        handler.setFormatter(_OneSentence())
    else:
        handler.setFormatter(logging.Formatter(_DAGSTERS_FORMAT, "%Y-%m-%d %H:%M:%S %z"))
    made.addHandler(handler)
    return made


class _OneSentence(logging.Formatter):
    """A record as `in_one_sentence` has it."""

    def format(self, record: logging.LogRecord) -> str:
        return in_one_sentence(record) or ""


def in_one_sentence(record: logging.LogRecord) -> str | None:
    """What a person is told about `record`; None when it says nothing that was not said already.

    An interrupt is told by the conductor, and a run that failed in a step by that step.
    """
    event = getattr(record, "dagster_event", None)
    told: Mapping[str, Any] = getattr(record, "dagster_meta", {})
    if not isinstance(event, DagsterEvent):
        said = str(told.get("orig_message", record.getMessage()))
        return None if _WAITED_FOR.match(said) else f"milton: {said}"
    run_id = str(told.get("run_id", ""))
    if event.is_step_failure:
        return _sentence(event.step_failure_data.error, event.step_key or event.job_name, run_id)
    if event.is_job_failure and event.job_failure_data.first_step_failure_event is None:
        return _sentence(event.job_failure_data.error, event.job_name, run_id)
    return None


def was_interrupted(event: DagsterEvent) -> bool:
    """Whether a step ended because somebody asked for the end, and not because of what it does."""
    return event.is_step_failure and any(e.cls_name in INTERRUPTS for e in _chain(event.step_failure_data.error))


def _sentence(error: Any, where: str, run_id: str) -> str | None:
    chain = list(_chain(error))
    if not chain or any(e.cls_name in INTERRUPTS for e in chain):
        return None
    ours = _names_of(MiltonError)
    if known := next((e for e in chain if e.cls_name in ours), None):
        return f"milton: {where}: {_message(known)}"
    if failed := next((e for e in chain if e.cls_name in _names_of(OSError)), None):
        number = _NUMBER.search(failed.message)
        remedy = remedy_for(int(number.group(1))) if number else None
        return f"milton: {where} could not go on: {_message(failed)}." + (f" next: {remedy}." if remedy else "")
    cause = chain[-1]
    return (
        f"milton: {where} failed: {cause.cls_name}: {_message(cause)}\n"
        f"milton: the trace is in the event log of run {run_id} (`make ui`); MILTON_LOG_LEVEL=INFO shows it here"
    )


def _chain(error: Any) -> Iterator[Any]:
    while error:
        yield error
        error = error.cause or error.context


def _message(error: Any) -> str:
    """The exception's own words: Dagster stores `package.Class: words` and a line break."""
    _, found, words = str(error.message).strip().partition(": ")
    return words if found else str(error.message).strip()


def _names_of(kind: type[BaseException]) -> set[str]:
    return {kind.__name__}.union(*(_names_of(sub) for sub in kind.__subclasses__()))
