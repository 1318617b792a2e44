"""What Dagster itself says on the terminal: errors only, so that the campaign's progress can be read.

What belongs here: the console logger's level. What does not: progress (`resources.progress`). The setting `log_level`
turns it up; the event log in the UI holds everything whatever is set there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from milton_assets.settings import LogLevel


def quiet(level: LogLevel, config: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Run configuration with the console logger at `level` added to `config`."""
    return {**(config or {}), "loggers": {"console": {"config": {"log_level": level.value}}}}
