"""A model with the published answers by heart, end to end: measured over HTTP, decided on, named and not promoted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from milton_assets.selection.decision import Knowledge, Standing, Verdict
from milton_assets.selection.summary import read_summary
from milton_assets.tiers.reasoning import goldens as reasoning
from milton_assets.tiers.retrieval import goldens as retrieval
from milton_assets.vocabulary.tier import TierResult, asset_of
from resources.evidence_store import EvidenceStore
from tests.support.workplace import competent, failure_of, workplace

pytestmark = pytest.mark.slow


def table_of(store: EvidenceStore, version: str) -> TierResult:
    file = store.latest(asset_of("reasoning"), version)
    assert file is not None
    return TierResult.from_table(file.read())


def test_it_is_named_and_the_honest_one_is_promoted_by_one_campaign(tmp_path: Path) -> None:
    with workplace(tmp_path) as wp:
        wp.register("good", competent())
        wp.register("poor", competent(by_heart=["reasoning"]), seed=1)
        result = wp.conduct()
        assert result.success, failure_of(result)
        summary = read_summary(wp.state.runs)
        assert summary.report is not None
        page = wp.state.place(summary.report.path).read_text()
        store = EvidenceStore(wp.state.benchmarks)
        tables = {version: table_of(store, version) for version in ("good", "poor")}
        questions = {request["messages"][-1]["content"] for request in wp.server.requests if "messages" in request}
    decision = summary.decision
    assert (decision.verdict, decision.winner) == (Verdict.PROMOTE, "good")
    named, honest = decision.candidate("poor"), decision.candidate("good")
    assert (named.standing, named.variants[0].knowledge) == (Standing.NO_EVIDENCE, Knowledge.KNOWS)
    assert "it knows the answers to published cases" in named.why
    assert honest.variants[0].knowledge is Knowledge.NO_SIGN
    seeds = {table.provenance["plan"]["variants_seed"] for table in tables.values()}
    assert len(seeds) == 1, "one campaign, one seed"
    assert {reading.seed for report in decision.candidates for reading in report.variants} == seeds
    fresh = {version: table.samples[table.samples.part == "fresh"] for version, table in tables.items()}
    assert list(fresh["good"].question) == list(fresh["poor"].question), "paired: the same questions for everybody"
    assert not {case.question for case in reasoning.load_goldens().cases} & set(fresh["good"].question)
    assert all(any(question in asked for asked in questions) for question in fresh["good"].question)
    assert "it knows the answers" in page


def test_two_campaigns_ask_other_variants_and_pair_the_published_cases_all_the_same(tmp_path: Path) -> None:
    """`only` measures one candidate anew; the other is judged on what another seed drew for it."""
    with workplace(tmp_path) as wp:
        wp.register("good", competent())
        wp.register("better", competent(), seed=1)
        assert wp.conduct().success
        assert wp.conduct({"ops": {"conduct": {"config": {"only": ["better"]}}}}).success
        decision = read_summary(wp.state.runs).decision
    seeds = {report.version: report.variants[0].seed for report in decision.candidates}
    assert seeds["good"] != seeds["better"]
    notes = json.dumps(decision.notes)
    assert "fresh variants of reasoning were drawn by different seeds" in notes
    assert "not paired by case" not in notes and "measured in another way" not in notes


def beginning(shipped: Path, into: Path, *files: str, lines: int) -> Path:
    """A copy of a shipped set of which only the first lines of some files are left."""
    shutil.copytree(shipped, into)
    for file in files:
        kept = (into / file).read_text(encoding="utf-8").splitlines(keepends=True)[:lines]
        (into / file).write_text("".join(kept), encoding="utf-8")
    return into


def test_a_key_to_published_passages_is_named_in_a_full_campaign(tmp_path: Path) -> None:
    """With few queries and questions beside the templates: what is to be seen is asked in full campaigns only."""
    ranked = beginning(retrieval.SHIPPED, tmp_path / "ranked", "qrels/test.tsv", "qrels/dev.tsv", lines=15)
    told = beginning(reasoning.SHIPPED, tmp_path / "told", "cases.jsonl", lines=4)
    (tmp_path / "state").mkdir()
    sets = {"goldens": {"retrieval": [str(ranked)], "reasoning": [str(told)]}}
    (tmp_path / "state" / "milton.yaml").write_text(yaml.safe_dump(sets))
    with workplace(tmp_path, settings={"MILTON_PROFILE": "full"}) as wp:
        for seed, (version, by_heart) in enumerate({"good": [], "poor": ["retrieval"]}.items()):
            wp.register(version, competent(by_heart=by_heart), seed=seed)
            result = wp.run("benchmark_model", version)
            assert result.success, failure_of(result)
        assert (result := wp.run("promote", "benchmark_20260101_000000")).success, failure_of(result)
        decision = read_summary(wp.state.runs).decision
    named = {one.tier: one for one in decision.candidate("poor").variants}["retrieval"]
    assert (named.knowledge, named.templates, named.published_right) == (Knowledge.KNOWS, 24, 24)
    assert decision.candidate("poor").standing is Standing.NO_EVIDENCE
    assert (decision.verdict, decision.winner) == (Verdict.PROMOTE, "good")
