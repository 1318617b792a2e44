"""Goldens of one's own: read, pinned, copied by digest; and of a private set no text gets out."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pytest

from milton_assets.usecases.golden_links import broken_goldens, notes_on_goldens
from milton_assets.usecases.measuring import measure_tier
from milton_assets.vocabulary.digest import sha256_bytes, sha256_file
from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.fingerprint import ServerFingerprint
from milton_assets.vocabulary.golden_set import PrivateSetFailed, read_all_goldens, read_goldens
from milton_assets.vocabulary.metric import Metric
from milton_assets.vocabulary.progress import Progress, silent
from milton_assets.vocabulary.server import Endpoint, RunningServer
from milton_assets.vocabulary.tier import TierResult
from milton_assets.vocabulary.tier_spec import Conditions, Measuring, NoSuchTier, TierSpec
from resources.evidence_store import EvidenceStore
from resources.golden_copies import keep_goldens, uri_of
from tests.support.retrieval_models import write_beir
from tests.support.selection import candidate, manifest
from tests.support.tiers import TIERS

MARKER = "the heron stands on one leg at noon"
REASONING = TIERS["reasoning"]
SERVED = RunningServer(Endpoint("http://127.0.0.1:9", "m"), ServerFingerprint(name="scripted", launched_by_us=True))


@dataclass(frozen=True)
class Own:
    path: Path
    private: bool = False


def questions(path: Path, *asked: str) -> Path:
    path.write_text("".join(json.dumps({"question": q, "answers": ["a dog"]}) + "\n" for q in asked))
    return path


def test_a_set_of_ones_own_stands_instead_of_what_ships(tmp_path: Path) -> None:
    file = questions(tmp_path / "mine.jsonl", "What barks?")
    goldens = read_goldens(REASONING, [Own(file)])
    assert [case.question for case in goldens.value.cases] == ["What barks?"]
    assert goldens.pinned == {"reasoning/mine/mine.jsonl": sha256_file(file)}
    assert goldens.stated == {"mine/mine.jsonl": sha256_file(file)}


def test_several_sets_are_joined_and_ids_tell_them_apart(tmp_path: Path) -> None:
    one, other = questions(tmp_path / "one.jsonl", "What barks?"), questions(tmp_path / "two.jsonl", "What purrs?")
    goldens = read_goldens(REASONING, [Own(one), Own(other)])
    assert [case.id for case in goldens.value.cases] == ["one.line-000001", "two.line-000001"]
    assert goldens.stated.keys() == goldens.value.digests.keys() == {"one/one.jsonl", "two/two.jsonl"}


def test_collections_are_joined_with_their_judgements(tmp_path: Path) -> None:
    texts = {"d": "Oil burns."}, {"q": "What burns?"}, {"test": {"q": {"d": 1}}}
    sets = [Own(write_beir(tmp_path / name, *texts)) for name in ("one", "two")]
    joined = read_goldens(TIERS["retrieval"], sets).value
    assert list(joined.corpus) == ["one.d", "two.d"]
    assert [(q.query_id, dict(q.grades)) for q in joined.queries("test")] == [
        ("one.q", {"one.d": 1}),
        ("two.q", {"two.d": 1}),
    ]


def test_prompts_of_ones_own_are_timed(tmp_path: Path) -> None:
    shipped = TIERS["inference"].shipped
    assert shipped is not None
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "prompts.jsonl").write_bytes((shipped / "prompts.jsonl").read_bytes())
    goldens = read_goldens(TIERS["inference"], [Own(tmp_path / "mine")])
    assert goldens.stated == {"mine/prompts.jsonl": sha256_file(shipped / "prompts.jsonl")}


def test_what_does_not_hold_is_named_before_anything_is_measured(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"question": "What barks?"}\n')
    with pytest.raises(BadInput, match=r"bad\.jsonl:1"):
        read_all_goldens(TIERS, {"reasoning": [Own(bad)]})
    with pytest.raises(BadInput, match=r"nowhere of reasoning are not there.*correct `goldens` in milton.yaml"):
        read_all_goldens(TIERS, {"reasoning": [Own(tmp_path / "nowhere")]})
    with pytest.raises(NoSuchTier, match="no tier 'poetry' is installed"):
        read_all_goldens(TIERS, {"poetry": [Own(bad)]})
    same = tmp_path / "elsewhere"
    same.mkdir()
    with pytest.raises(BadInput, match="two sets of reasoning are called mine"):
        read_goldens(REASONING, [Own(questions(folder / "mine.jsonl", "Who?")) for folder in (tmp_path, same)])


class TestCopies:
    def test_are_kept_under_their_digests_once(self, tmp_path: Path) -> None:
        file = questions(tmp_path / "mine.jsonl", "What barks?")
        store = EvidenceStore(tmp_path / "store")
        for _ in range(2):
            keep_goldens(store, [read_goldens(REASONING, [Own(file)])])
        kept = list((tmp_path / "store" / "goldens").iterdir())
        assert [path.name for path in kept] == [sha256_file(file)]
        assert kept[0].read_bytes() == file.read_bytes()

    def test_of_private_sets_are_not_made(self, tmp_path: Path) -> None:
        file = questions(tmp_path / "mine.jsonl", MARKER)
        keep_goldens(EvidenceStore(tmp_path / "store"), [read_goldens(REASONING, [Own(file, private=True)])])
        assert not (tmp_path / "store").exists()

    def test_hold_an_old_decision_whatever_todays_goldens_are(self, tmp_path: Path) -> None:
        store, content = EvidenceStore(tmp_path), b"as it was"
        digest = sha256_bytes(content)
        pinned = manifest([candidate("a")]).model_copy(update={"goldens": {"reasoning/mine/a.jsonl": digest}})
        assert list(broken_goldens(pinned, store)) == ["the copy of the golden reasoning/mine/a.jsonl is missing"]
        store.keep(uri_of(digest), content)
        assert list(broken_goldens(pinned, store)) == []
        assert list(notes_on_goldens(pinned, dict)) == [
            f"the golden reasoning/mine/a.jsonl is not used today; the decision was taken on {digest[:12]}"
        ]
        store.keep(uri_of(digest), b"touched")
        (problem,) = broken_goldens(pinned, store)
        assert problem.startswith("the copy of the golden reasoning/mine/a.jsonl was changed: it is ")

    def test_are_not_missed_of_a_private_set_or_before_there_were_any(self, tmp_path: Path) -> None:
        digest = sha256_bytes(b"x")
        pinned = manifest([candidate("a")]).model_copy(
            update={"goldens": {"reasoning/mine/a.jsonl": digest}, "private_goldens": ("reasoning/mine/a.jsonl",)}
        )
        assert list(broken_goldens(pinned, EvidenceStore(tmp_path))) == []
        assert "is private" in next(notes_on_goldens(pinned, dict))
        past = pinned.model_copy(update={"manifest_version": 1, "private_goldens": ()})
        assert list(broken_goldens(past, EvidenceStore(tmp_path))) == []


class TestPrivate:
    def spec(self, measured: object) -> TierSpec:
        def measure(measuring: Measuring) -> TierResult:
            measuring.on_progress(Progress("reasoning", 1, 1, measuring.goldens.cases[0].question))
            if isinstance(measured, Exception):
                raise measured
            assert isinstance(measured, TierResult)
            return measured

        return replace(REASONING, measure=measure)

    def measured(self, tmp_path: Path, result: object, notes: list[str] | None = None) -> TierResult:
        own = [Own(questions(tmp_path / "mine.jsonl", MARKER), private=True)]
        spec = self.spec(result)
        told = (lambda step: notes.append(step.note)) if notes is not None else silent
        goldens = read_goldens(spec, own)
        return measure_tier(spec, goldens, Measuring(SERVED, goldens.value, spec.plan(Conditions()), on_progress=told))

    def test_text_columns_are_kept_as_digests_and_names_figures_and_labels_as_they_are(self, tmp_path: Path) -> None:
        samples = pd.DataFrame(
            {"case_id": ["line-000001"], "part": ["cove"], "question": [MARKER], "calls": [f"[{MARKER}]"],
             "final_right": [True], "elapsed_ms": [1.5], "error": [None]}
        )  # fmt: skip
        whole = replace(REASONING.skipped("not tried"), samples=samples)
        row = self.measured(tmp_path, whole).samples.iloc[0].to_dict()
        assert (row["case_id"], row["part"], row["final_right"], row["elapsed_ms"]) == (
            "line-000001",
            "cove",
            True,
            1.5,
        )
        assert row["question"] == sha256_bytes(MARKER.encode())
        assert len(row["calls"]) == 64

    def test_reasons_and_provenance_lose_what_they_quote(self, tmp_path: Path) -> None:
        names = REASONING.units()
        metrics = tuple(Metric.failed(name, unit, f"the server said {MARKER}") for name, unit in names)
        result = self.measured(tmp_path, TierResult("reasoning", metrics, provenance={"said": {"last": [MARKER]}}))
        assert MARKER not in str(result)
        assert "[text of a private set]" in (result.metrics[0].why or "")

    @pytest.mark.parametrize("error", [MiltonError(f"{MARKER} is odd"), ValueError(MARKER)], ids=["ours", "any"])
    def test_errors_tell_no_text_and_have_no_cause_that_does(self, tmp_path: Path, error: Exception) -> None:
        with pytest.raises(PrivateSetFailed) as raised:
            self.measured(tmp_path, error)
        assert MARKER not in str(raised.value)
        assert raised.value.__cause__ is None
        assert raised.value.__suppress_context__

    def test_progress_tells_how_far_it_is_and_no_more(self, tmp_path: Path) -> None:
        notes: list[str] = []
        self.measured(tmp_path, REASONING.skipped("not tried"), notes)
        assert notes == [""]

    def test_a_set_that_does_not_hold_tells_the_line_and_not_what_stands_there(self, tmp_path: Path) -> None:
        bad = tmp_path / "bad.jsonl"
        bad.write_text(json.dumps({"question": MARKER, "answers": {MARKER: MARKER}}) + "\n")
        with pytest.raises(PrivateSetFailed, match=r"bad\.jsonl:1") as raised:
            read_goldens(REASONING, [Own(bad, private=True)])
        assert MARKER not in str(raised.value)
