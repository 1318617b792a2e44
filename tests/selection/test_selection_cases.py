"""Lining samples up: what can be paired, and what is said when it cannot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest

from milton_assets.selection.candidate import Candidate
from milton_assets.selection.cases import line_up
from milton_assets.selection.policy import MetricRef
from milton_assets.vocabulary.metric import Metric
from milton_assets.vocabulary.tier import TierResult
from tests.support.tiers import TIERS

COVE = MetricRef(tier="reasoning", metric="cove_pass_rate")
NDCG = MetricRef(tier="retrieval", metric="nDCG@10")


def reasoning(samples: Mapping[str, Any], value: float = 0.5, *, goldens: str = "g1", version: str = "a") -> Candidate:
    result = TierResult(
        "reasoning",
        (Metric.measured("cove_pass_rate", "share", value, n=2),),
        pd.DataFrame(samples),
        {"goldens": {"cases.jsonl": goldens}},
    )
    return Candidate(version, {"reasoning": result})


def retrieval(samples: Mapping[str, Any], value: float) -> Candidate:
    result = TierResult("retrieval", (Metric.measured("nDCG@10", "score", value, n=2),), pd.DataFrame(samples))
    return Candidate("a", {"retrieval": result})


def test_cases_are_lined_up_by_id_whatever_their_order() -> None:
    one = reasoning({"case_id": ["x", "y"], "final_right": [True, False]})
    other = reasoning({"case_id": ["y", "x"], "final_right": [True, False]})
    cases = line_up([one, other], COVE, TIERS)
    assert cases.values.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert cases.paired.all()


def test_a_case_without_an_answer_did_not_pass() -> None:
    cases = line_up([reasoning({"case_id": ["x", "y"], "final_right": [True, None]})], COVE, TIERS)
    assert cases.values.tolist() == [[1.0, 0.0]]


def test_rows_of_another_part_are_no_cases() -> None:
    samples = {"part": ["cove", "detection", "cove"], "case_id": ["x", "x:faulty", "y"], "final_right": [1, None, 0]}
    assert line_up([reasoning(samples)], COVE, TIERS).values.tolist() == [[1.0, 0.0]]


def test_a_query_without_a_value_is_no_case() -> None:
    samples = {"query_id": ["q1", "q2", "q3"], "nDCG@10": pd.array([0.2, None, 0.4], dtype="Float64")}
    cases = line_up([retrieval(samples, 0.3)], NDCG, TIERS)
    assert np.allclose(cases.values, [[0.2, 0.4]])


@pytest.mark.parametrize(
    ("samples", "why"),
    [
        ({}, "the reasoning samples hold no case_id and no final_right"),
        ({"case_id": ["x", "y"]}, "the reasoning samples hold no final_right"),
        ({"case_id": ["x", "x"], "final_right": [True, False]}, "the reasoning samples hold a case_id twice"),
        (
            {"case_id": ["x", "y"], "final_right": [True, True]},
            "cove_pass_rate is 0.5, but the mean over its reasoning samples is 1",
        ),
    ],
)
def test_samples_that_cannot_be_paired_are_explained(samples: Mapping[str, Any], why: str) -> None:
    cases = line_up([reasoning(samples)], COVE, TIERS)
    assert cases.why == (why,)
    assert not cases.paired.any()


def test_a_candidate_that_was_asked_other_cases_is_not_paired_with_the_majority() -> None:
    usual = {"case_id": ["x", "y"], "final_right": [True, False]}
    cases = line_up(
        [
            reasoning(usual),
            reasoning({**usual, "case_id": ["x", "z"]}),
            reasoning(usual),
            reasoning(usual, goldens="g2"),
        ],
        COVE,
        TIERS,
    )
    assert cases.paired.tolist() == [True, False, True, False]
    assert "other cases than most" in cases.why[1]


def test_a_speed_is_no_mean_over_cases() -> None:
    reference = MetricRef(tier="inference", metric="ttft_ms.median")
    cases = line_up([Candidate("a")], reference, TIERS)
    assert cases.why == ("ttft_ms.median is no mean over cases",)
    assert (
        line_up([reasoning({})], MetricRef(tier="reasoning", metric="detection_recall"), TIERS)
        .why[0]
        .endswith("no mean over cases")
    )


def test_lining_up_survives_parquet() -> None:
    samples = {
        "part": ["cove", "cove", "detection"],
        "case_id": ["y", "x", "x:faulty"],
        "final_right": [True, False, None],
    }
    before = reasoning(samples)
    table = before.tiers["reasoning"].to_table("a", "f" * 64)
    after = Candidate("a", {"reasoning": TierResult.from_table(table)})
    cases = line_up([before, after], COVE, TIERS)
    assert cases.paired.all()
    assert cases.values[0].tolist() == cases.values[1].tolist() == [0.0, 1.0]
