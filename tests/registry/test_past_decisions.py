"""What past runs decided: the newest promoted version is the best on past evidence."""

from __future__ import annotations

import json

import pytest

from milton_assets.usecases.past_decisions import best_version, past_decisions
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.state import StateDir


def decide(state: StateDir, day: int, verdict: str, winner: str | None) -> None:
    run_id = f"benchmark_202601{day:02}_000000"
    decision = {"run_id": run_id, "verdict": verdict, "winner": winner, "reasons": []}
    state.runs.mkdir(parents=True, exist_ok=True)
    (state.runs / f"{run_id}.json").write_text(json.dumps({"run_id": run_id, "decision": decision}))


def test_the_best_version_is_the_newest_promoted_one(state: StateDir) -> None:
    decide(state, 1, "promote", "v1")
    decide(state, 2, "promote", "v2")
    decide(state, 3, "no_verdict", None)
    decide(state, 4, "reject", None)
    best = best_version(past_decisions(state.runs))
    assert best is not None
    assert (best.winner, best.run_id) == ("v2", "benchmark_20260102_000000")


def test_without_a_promotion_there_is_no_best_version(state: StateDir) -> None:
    assert best_version(past_decisions(state.runs)) is None
    decide(state, 1, "reject", None)
    assert best_version(past_decisions(state.runs)) is None


@pytest.mark.parametrize("text", ["", "{}", '{"decision": {"run_id": "x", "verdict": "promote", "winner": "v1"}}'])
def test_a_summary_that_does_not_hold_is_named(state: StateDir, text: str) -> None:
    decide(state, 1, "promote", "v1")
    (state.runs / "benchmark_20260101_000000.json").write_text(text)
    with pytest.raises(BadInput, match=r"benchmark_20260101_000000\.json does not hold"):
        past_decisions(state.runs)
