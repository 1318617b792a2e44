"""A workplace for the graph's tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from dagster import ExecuteInProcessResult

from tests.support.workplace import Workplace, competent, failure_of, workplace


@pytest.fixture
def wp(tmp_path: Path) -> Iterator[Workplace]:
    """An empty workplace, decided under the smoke policy."""
    with workplace(tmp_path) as made:
        yield made


@pytest.fixture
def dry(wp: Workplace) -> Workplace:
    """The same workplace, in which campaigns are dry runs."""
    return wp.in_dry_runs()


@dataclass(frozen=True)
class Measured:
    """A closed workplace below `root` in which one good model, `good`, was measured by that run."""

    root: Path
    result: ExecuteInProcessResult


@pytest.fixture(scope="session")
def measured_once(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """Measured once for all tests, which copy it: a measurement takes as long as all else that they do."""
    root = tmp_path_factory.mktemp("measured")
    with workplace(root) as wp:
        wp.register("good", competent())
        result = wp.run("benchmark_model", "good")
        assert result.success, failure_of(result)
    return Measured(root, result)


@pytest.fixture
def measured(tmp_path: Path, measured_once: Measured) -> Iterator[Workplace]:
    """A workplace of one's own in which one good model, `good`, is measured already."""
    with workplace(tmp_path, copy_of=measured_once.root, behaviours={"good": competent()}) as made:
        yield made
