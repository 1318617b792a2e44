"""A workplace for the graph's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.workplace import Workplace, workplace


@pytest.fixture
def wp(tmp_path: Path) -> Iterator[Workplace]:
    """An empty workplace, decided under the smoke policy."""
    with workplace(tmp_path) as made:
        yield made
