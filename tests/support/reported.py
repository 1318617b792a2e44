"""A state folder in which runs have decided on models whose every case is kept, for tests of the report.

What belongs here: builders with readable arguments. What does not: assertions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from milton_assets.report.data import ReportData
from milton_assets.selection.candidate import Candidate
from milton_assets.selection.decide import decide
from milton_assets.selection.policy import Policy
from milton_assets.selection.policy_file import load_policy
from milton_assets.selection.summary import RunSummary, write_summary
from milton_assets.settings import read_settings
from milton_assets.usecases.reporting import Sources, gather, sources_of
from milton_assets.vocabulary.state import StateDir
from milton_assets.vocabulary.tier import TierResult
from tests.support.selection import RUN_ID, candidate, manifest, store
from tests.support.tiers import TIERS

NOW = datetime(2026, 1, 12, 9, 0, tzinfo=UTC)


def case(case_id: str, *, right: bool, kind: str = "single_fact", **texts: str) -> dict[str, Any]:
    """A row of the reasoning tier as it is kept; `texts` replaces any of its texts."""
    said = {
        "question": f"What is {case_id}?",
        "gold": "Au",
        "baseline": "It is Ag.",
        "final": "It is Au." if right else "It is Ag.",
        "check_question": "Which is it?",
        "check_answer": "Silver is Ag.",
        "error": "",
        **texts,
    }
    check = {"question": said.pop("check_question"), "answer": said.pop("check_answer"), "verdict": "inconsistent"}
    return {
        "part": "cove",
        "case_id": case_id,
        "kind": kind,
        **said,
        "checks": json.dumps([check]),
        "final_label": "matched" if right else "rival",
        "final_right": right,
        "cell": "fixed" if right else "missed",
    }


def query(query_id: str, ndcg: float, **texts: str) -> dict[str, Any]:
    """A row of the retrieval tier as it is kept."""
    return {
        "query_id": query_id,
        "query": texts.get("query", f"Where is {query_id}?"),
        "answerable": True,
        "ranking": [texts.get("document", "d1"), "d2"],
        "scores": [0.9, 0.1],
        "bm25_ranking": ["d2", "d1"],
        "failures": [texts["failure"]] if "failure" in texts else [],
        "nDCG@10": ndcg,
        "bm25:nDCG@10": 0.5,
        "oracle:nDCG@10": 1.0,
    }


def model(
    version: str, cases: Sequence[Mapping[str, Any]] = (), queries: Sequence[Mapping[str, Any]] = (), **figures: Any
) -> Candidate:
    """A candidate with those rows."""
    one = candidate(version, **figures)
    samples = {"reasoning": pd.DataFrame(list(cases)), "retrieval": pd.DataFrame(list(queries))}
    tiers = {name: replace(result, samples=samples.get(name, result.samples)) for name, result in one.tiers.items()}
    return replace(one, tiers=tiers)


def decided(
    home: StateDir,
    candidates: Sequence[Candidate],
    *,
    run_id: str = RUN_ID,
    incumbent: str | None = None,
    private: Sequence[str] = (),
    policy: Policy | None = None,
    **parts: Any,
) -> RunSummary:
    """Decide on the candidates and keep evidence and summary in the state folder."""
    chosen = policy or load_policy("smoke")
    pinned = manifest(candidates, chosen, run_id=run_id, sha256_of=store(home.benchmarks, candidates))
    pinned = pinned.model_copy(
        update={"private_goldens": tuple(private), "goldens": pinned.goldens | dict.fromkeys(private, "d" * 64)}
    )
    decision = decide(
        run_id=run_id, candidates=candidates, policy=chosen, manifest=pinned, incumbent=incumbent, tiers=TIERS
    )
    summary = RunSummary(run_id=run_id, decision=decision, manifest=pinned, **parts)
    write_summary(home.runs, summary)
    return summary


def sources(home: StateDir) -> Sources:
    """What a report on that state folder is gathered from."""
    settings = read_settings({"MILTON_STATE_DIR": str(home.root), "HOME": str(home.root)}).settings
    return sources_of(settings)


def gathered(home: StateDir, summary: RunSummary, **asked: Any) -> ReportData:
    """The report's data on that run."""
    return gather(sources(home), summary, now=NOW, **asked)


def result_of(one: Candidate, tier: str) -> TierResult:
    """That candidate's result."""
    return one.tiers[tier]
