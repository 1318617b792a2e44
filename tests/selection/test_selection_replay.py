"""Deciding again from pinned evidence: byte for byte, and never on evidence that was touched."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from milton_assets.selection.candidate import Candidate
from milton_assets.selection.decide import decide
from milton_assets.selection.decision import Verdict
from milton_assets.selection.policy import Policy
from milton_assets.selection.policy_file import load_policy
from milton_assets.selection.replay import decide_again
from milton_assets.selection.summary import RunSummary, read_summary
from milton_assets.vocabulary.digest import sha256_file
from milton_assets.vocabulary.errors import BadInput, EvidenceMismatch
from resources.evidence_store import EvidenceStore
from tests.support.selection import RUN_ID, candidate, manifest, store
from tests.support.tiers import TIERS

POOL = (
    candidate("a", (100.0, 95.0, 106.0), passed=[True] * 19 + [False], ndcg_by_query=[0.5, 0.7]),
    candidate("b", (90.0, 85.0, 96.0), passed=[False] + [True] * 19, ndcg_by_query=[0.7, 0.5]),
    Candidate("c", excluded="its benchmark run failed"),
)


def run(root: Path, policy: Policy, *candidates: Candidate, incumbent: str | None = None) -> RunSummary:
    """A run whose evidence lies below `root`, decided."""
    pinned = manifest(candidates, policy, sha256_of=store(root, candidates))
    decision = decide(
        run_id=RUN_ID, candidates=candidates, policy=policy, manifest=pinned, incumbent=incumbent, tiers=TIERS
    )
    return RunSummary(run_id=RUN_ID, decision=decision, manifest=pinned)


@pytest.mark.parametrize("name", ["seed", "smoke", "anchored", "seed_strict", "anchored_strict"])
def test_a_decision_is_repeated_byte_for_byte(tmp_path: Path, name: str) -> None:
    summary = run(tmp_path, load_policy(name), *POOL, incumbent="a")
    read_back = RunSummary.model_validate_json(summary.model_dump_json())
    assert (
        decide_again(EvidenceStore(tmp_path).read_bytes, read_back, read_back.decision.policy, TIERS).to_json()
        == summary.decision.to_json()
    )


def test_another_policy_gives_a_what_if_on_the_same_evidence(tmp_path: Path) -> None:
    summary = run(tmp_path, load_policy("smoke"), candidate("a", cove=0.5))
    again = decide_again(EvidenceStore(tmp_path).read_bytes, summary, load_policy("seed"), TIERS)
    assert summary.decision.verdict is Verdict.PROMOTE
    assert again.verdict is Verdict.REJECT
    assert "what-if" in again.notes[0]
    assert again.manifest_sha256 == summary.decision.manifest_sha256


def test_every_file_that_was_touched_or_is_gone_is_named(tmp_path: Path) -> None:
    summary = run(tmp_path, load_policy("seed"), *POOL)
    touched, gone = tmp_path / "reasoning" / "a.parquet", tmp_path / "retrieval" / "b.parquet"
    touched.write_bytes(touched.read_bytes() + b" ")
    gone.unlink()
    with pytest.raises(EvidenceMismatch) as caught:
        decide_again(EvidenceStore(tmp_path).read_bytes, summary, summary.decision.policy, TIERS)
    assert "reasoning/a.parquet was changed: it is " in str(caught.value)
    assert "retrieval/b.parquet is missing" in str(caught.value)


def test_a_table_of_another_model_under_the_pinned_name_is_refused(tmp_path: Path) -> None:
    digests = store(tmp_path, POOL)
    swapped = tmp_path / "inference" / "a.parquet"
    swapped.write_bytes((tmp_path / "inference" / "b.parquet").read_bytes())
    digests["a", "inference"] = sha256_file(swapped)
    pinned = manifest(POOL, sha256_of=digests)
    decision = decide(
        run_id=RUN_ID, candidates=POOL, policy=load_policy("seed"), manifest=pinned, incumbent=None, tiers=TIERS
    )
    summary = RunSummary(run_id=RUN_ID, decision=decision, manifest=pinned)
    with pytest.raises(EvidenceMismatch, match="holds inference of b, pinned as inference of a"):
        decide_again(EvidenceStore(tmp_path).read_bytes, summary, decision.policy, TIERS)


def test_a_pin_never_leads_out_of_the_evidence_store(tmp_path: Path) -> None:
    summary = run(tmp_path / "store", load_policy("seed"), *POOL)
    candidates = list(summary.manifest.candidates)
    pins = [pin.model_copy(update={"uri": "../../secret"}) for pin in candidates[0].pins]
    candidates[0] = candidates[0].model_copy(update={"pins": tuple(pins)})
    bent = summary.model_copy(
        update={"manifest": summary.manifest.model_copy(update={"candidates": tuple(candidates)})}
    )
    with pytest.raises(BadInput, match="leaves the store"):
        decide_again(EvidenceStore(tmp_path / "store").read_bytes, bent, summary.decision.policy, TIERS)


def rewritten(summary: RunSummary, change: Callable[[dict[str, Any]], None]) -> RunSummary:
    """The summary after somebody edited its decision, as coherently as its JSON allows."""
    content = json.loads(summary.model_dump_json())
    change(content["decision"])
    return RunSummary.model_validate(content)


def test_a_summary_from_which_a_candidate_was_taken_out_is_refused(tmp_path: Path) -> None:
    summary = run(tmp_path, load_policy("seed"), *POOL)

    def forget(decision: dict[str, Any]) -> None:
        gone = next(v for v in ("a", "b") if v != decision["winner"])
        decision["candidates"] = [c for c in decision["candidates"] if c["version"] != gone]

    bent = rewritten(summary, forget)
    with pytest.raises(BadInput, match=r"[ab] is pinned, but does not stand"):
        decide_again(EvidenceStore(tmp_path).read_bytes, bent, bent.decision.policy, TIERS)


def test_a_summary_that_excludes_somebody_whose_evidence_is_pinned_is_refused(tmp_path: Path) -> None:
    summary = run(tmp_path, load_policy("seed"), *POOL)

    def exclude(decision: dict[str, Any]) -> None:
        loser = next(c for c in decision["candidates"] if c["version"] in "ab" and c["version"] != decision["winner"])
        loser["excluded"] = "its benchmark run failed"

    bent = rewritten(summary, exclude)
    with pytest.raises(BadInput, match=r"is excluded \(its benchmark run failed\), but all its evidence is pinned"):
        decide_again(EvidenceStore(tmp_path).read_bytes, bent, bent.decision.policy, TIERS)


def test_a_summary_into_which_a_candidate_was_written_is_refused(tmp_path: Path) -> None:
    summary = run(tmp_path, load_policy("seed"), *POOL)

    def add(decision: dict[str, Any]) -> None:
        decision["candidates"].append({**decision["candidates"][0], "version": "z"})

    bent = rewritten(summary, add)
    with pytest.raises(BadInput, match="z stands, but is not pinned"):
        decide_again(EvidenceStore(tmp_path).read_bytes, bent, bent.decision.policy, TIERS)


def test_the_evidence_is_plain_parquet(tmp_path: Path) -> None:
    store(tmp_path, POOL)
    table = pq.read_table(tmp_path / "reasoning" / "a.parquet")
    assert table.num_rows == 21


class TestADecisionTakenBefore:
    """`past` holds a run as it was written once: its decision is repeated on every machine and by every later release
    of the same format versions."""

    PAST = Path(__file__).parent / "past"

    def summary(self) -> RunSummary:
        return RunSummary.model_validate_json((self.PAST / "summary.json").read_bytes())

    def test_is_repeated_byte_for_byte(self) -> None:
        summary = self.summary()
        again = decide_again(lambda uri, _: (self.PAST / uri).read_bytes(), summary, summary.decision.policy, TIERS)
        assert again.to_json() == summary.decision.to_json()
        assert again.digest() == "de71956a87bf0c9f6a7aedacdbcac7a083265830ab50f80d79876e1340d3e85a"

    def test_is_written_back_as_it_was_read(self) -> None:
        raw = json.loads((self.PAST / "summary.json").read_text())
        assert self.summary().model_dump(mode="json") == raw
        assert self.summary().manifest.digest() == raw["decision"]["manifest_sha256"]

    @pytest.mark.parametrize(
        ("part", "field", "why"),
        [
            ("decision", "decision_version", "the decision has version 2, this release reads version 8"),
            ("manifest", "manifest_version", "the manifest has version 2, this release reads version 8"),
        ],
        ids=["decision", "manifest"],
    )
    def test_of_an_earlier_version_is_refused_with_both_versions(
        self, tmp_path: Path, part: str, field: str, why: str
    ) -> None:
        content = json.loads((self.PAST / "summary.json").read_text())
        content[part][field] = 2
        content[part]["policy_sha256"] = "0" * 64
        (tmp_path / f"{content['run_id']}.json").write_text(json.dumps(content))
        with pytest.raises(BadInput, match=rf"{why}.* benchmark and decide again"):
            read_summary(tmp_path)

    def test_may_hold_no_candidate_whose_evidence_is_whole_as_excluded(self) -> None:
        summary = self.summary()
        reports = [
            report.model_copy(update={"excluded": "somebody says so"}) if report.version == "v1" else report
            for report in summary.decision.candidates
        ]
        altered = summary.model_copy(update={"decision": summary.decision.model_copy(update={"candidates": reports})})
        with pytest.raises(BadInput, match=r"v1 is excluded .* but all its evidence is pinned"):
            decide_again(lambda uri, _: (self.PAST / uri).read_bytes(), altered, summary.decision.policy, TIERS)
