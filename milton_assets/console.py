"""What Dagster itself says on the terminal: warnings and errors, so that the campaign's progress can be read.

What belongs here: the console logger. What does not: progress (`resources.progress`). MILTON_LOG_LEVEL (DEBUG, INFO,
WARNING, ERROR) turns it up; the event log in the UI holds everything whatever is set here.
"""

from __future__ import annotations

import logging
import os

from dagster import InitLoggerContext, LoggerDefinition

from milton_assets.vocabulary.errors import BadInput

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def level_from(environment: os._Environ[str] | dict[str, str]) -> str:
    """MILTON_LOG_LEVEL, by default ERROR. Raises `BadInput` for another word."""
    level = environment.get("MILTON_LOG_LEVEL", "ERROR").upper()
    if level not in LEVELS:
        raise BadInput(f"MILTON_LOG_LEVEL is {level!r}", expected=f"one of {list(LEVELS)}")
    return level


def _plain_logger(_: InitLoggerContext) -> logging.Logger:
    made = logging.Logger("milton.dagster", level=level_from(os.environ))
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    made.addHandler(handler)
    return made


console_logger = LoggerDefinition(_plain_logger, description="A plain logger on standard error at MILTON_LOG_LEVEL.")
