"""Speeds that nobody would get: a prompt that was dropped, and a server that is fast only while it is timed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd
import pytest

from milton_assets.selection.candidate import Candidate
from milton_assets.selection.decide import decide
from milton_assets.selection.decision import Decision, Standing, Verdict
from milton_assets.selection.policy_file import load_policy
from milton_assets.vocabulary.chat_template import Lineage
from tests.support.selection import RUN_ID, candidate, manifest
from tests.support.tiers import TIERS

ONE_TOKENIZER = "a" * 64


def timed(prompt_tokens: int, ttft_ms: float = 100.0, tpot_ms: float = 10.0) -> pd.DataFrame:
    """Twenty measured requests over four prompts, and a warm-up that counts for nothing."""
    rows = [
        {
            "phase": "measured",
            "ok": True,
            "prompt_id": f"p{n % 4}",
            "prompt_tokens": prompt_tokens + 10 * (n % 4),
            "ttft_ms": ttft_ms,
            "tpot_ms": tpot_ms,
        }
        for n in range(20)
    ]
    return pd.DataFrame([*rows, {**rows[0], "phase": "warm_up", "prompt_tokens": 1, "ttft_ms": 9e9}])


def asked(elapsed_ms: float, *, calls: int = 3, completion_tokens: int = 60, prompt_tokens: int = 180) -> pd.DataFrame:
    """Ten cases of the reasoning tier, each of which took so long over all its calls."""
    told = json.dumps([{"step": "baseline", "elapsed_ms": elapsed_ms / calls}] * calls)
    costs = {"elapsed_ms": elapsed_ms, "prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    return pd.DataFrame([{"part": "cove", "case_id": f"c{n}", "final_right": n > 0, "calls": told, **costs}
                         for n in range(10)])  # fmt: skip


def measured(version: str, inference: pd.DataFrame, reasoning: pd.DataFrame, *, at_once: int = 1) -> Candidate:
    plain = candidate(version, cove=0.9, passed=[False] + [True] * 9)
    tiers = dict(plain.tiers)
    tiers["inference"] = replace(
        tiers["inference"], samples=inference, provenance={"load": {"kind": "closed", "concurrency": 1}}
    )
    tiers["reasoning"] = replace(tiers["reasoning"], samples=reasoning, provenance={"plan": {"concurrency": at_once}})
    return replace(plain, tiers=tiers)


def decided(candidates: Sequence[Candidate], tokenizers: Mapping[str, str] | None = None) -> Decision:
    plain = manifest(candidates)
    told = tuple(
        one.model_copy(update={"lineage": Lineage(tokenizer_sha256=(tokenizers or {}).get(one.model_version))})
        for one in plain.candidates
    )
    return decide(
        run_id=RUN_ID,
        candidates=candidates,
        policy=load_policy("seed"),
        manifest=plain.model_copy(update={"candidates": told}),
        incumbent=None,
        tiers=TIERS,
    )


FORETOLD_MS = 3 * 100.0 + 60 * 10.0


def test_a_prompt_that_never_reached_the_model_makes_its_speeds_invalid() -> None:
    honest = measured("honest", timed(60), asked(FORETOLD_MS))
    drops = measured("drops", timed(6), asked(FORETOLD_MS))
    decision = decided([honest, drops], {"honest": ONE_TOKENIZER, "drops": ONE_TOKENIZER})
    assert decision.winner == "honest"
    report = decision.candidate("drops")
    assert report.standing is Standing.NO_EVIDENCE
    assert "of the prompt tokens that candidates with the same tokenizer count" in report.why
    assert not report.reading("inference", "ttft_ms.median").valid
    assert report.reading("reasoning", "cove_pass_rate").valid


def test_templates_that_say_a_little_more_or_less_are_no_matter() -> None:
    pool = [measured("longer", timed(80), asked(FORETOLD_MS)), measured("plain", timed(60), asked(FORETOLD_MS))]
    decision = decided(pool, {"longer": ONE_TOKENIZER, "plain": ONE_TOKENIZER})
    assert {report.standing for report in decision.candidates} == {Standing.ELIGIBLE}


def test_other_tokenizers_count_otherwise() -> None:
    pool = [measured("a", timed(60), asked(FORETOLD_MS)), measured("b", timed(30), asked(FORETOLD_MS))]
    decision = decided(pool, {"a": ONE_TOKENIZER, "b": "b" * 64})
    assert {report.standing for report in decision.candidates} == {Standing.ELIGIBLE}


def test_a_server_that_is_fast_only_while_it_is_timed_is_named() -> None:
    honest = measured("honest", timed(60, 100.0, 10.0), asked(FORETOLD_MS))
    cheat = measured("cheat", timed(60, 10.0, 1.0), asked(FORETOLD_MS))
    decision = decided([honest, cheat])
    assert decision.winner == "honest"
    assert "its answers in reasoning took 10.0 times as long as its timed figures foretell" in (
        decision.candidate("cheat").why
    )
    assert decided([cheat]).verdict is Verdict.NO_VERDICT


@pytest.mark.parametrize(
    ("what", "pool"),
    [
        pytest.param(
            "longer prompts", [measured("a", timed(60), asked(4000.0, prompt_tokens=1800))], id="long-prompts"
        ),
        pytest.param("several at once", [measured("a", timed(60), asked(3600.0), at_once=4)], id="several-at-once"),
        pytest.param(
            "all as slow",
            [measured(name, timed(60), asked(5 * FORETOLD_MS)) for name in ("a", "b", "c")],
            id="a-machine-that-became-busy",
        ),
        pytest.param("milliseconds", [measured("a", timed(60, 1.0, 0.1), asked(100.0))], id="client-overhead"),
    ],
)
def test_what_else_makes_answers_slow_is_no_cheat(what: str, pool: list[Candidate]) -> None:
    assert {report.standing for report in decided(pool).candidates} == {Standing.ELIGIBLE}, what
