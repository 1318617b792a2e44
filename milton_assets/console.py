"""What Dagster itself says on the terminal: errors only, so that the campaign's progress can be read.

What belongs here: the console logger's level. What does not: progress (`resources.progress`). MILTON_LOG_LEVEL (DEBUG,
INFO, WARNING, ERROR) turns it up; the event log in the UI holds everything whatever is set here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from milton_assets.vocabulary.errors import BadInput

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def level_from(environment: Mapping[str, str]) -> str:
    """MILTON_LOG_LEVEL, by default ERROR. Raises `BadInput` for another word."""
    level = environment.get("MILTON_LOG_LEVEL", "ERROR").upper()
    if level not in LEVELS:
        raise BadInput(f"MILTON_LOG_LEVEL is {level!r}", expected=f"one of {list(LEVELS)}")
    return level


def quiet(config: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Run configuration with the console logger at MILTON_LOG_LEVEL added to `config`."""
    return {**(config or {}), "loggers": {"console": {"config": {"log_level": level_from(os.environ)}}}}
