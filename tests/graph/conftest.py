"""A workplace for the graph's tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from milton_assets.definitions import build_defs
from tests.support.workplace import Workplace, workplace


@pytest.fixture
def wp(tmp_path: Path) -> Iterator[Workplace]:
    """An empty workplace, decided under the smoke policy."""
    with workplace(tmp_path) as made:
        yield made


@pytest.fixture
def dry(wp: Workplace) -> Workplace:
    """The same workplace, in which campaigns are dry runs."""
    environment = {"MILTON_STATE_DIR": str(wp.state.root), "MILTON_DRY_RUN": "1"}
    served = {key: wp.defs.resources[key] for key in ("model_server", "edge_runtime")}
    return replace(wp, defs=build_defs(environment=environment, overrides=served))
