"""Templated queries: what a template may say, which variants a seed draws, and who is said to know the answers."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binom

from milton_assets.selection.decide import decide
from milton_assets.selection.decision import Knowledge, Standing, Verdict
from milton_assets.selection.policy_file import load_policy
from milton_assets.tiers.retrieval import Method, RetrievalPlan, load_goldens, measure_retrieval
from milton_assets.tiers.retrieval.documents import Document
from milton_assets.tiers.retrieval.goldens import SHIPPED
from milton_assets.tiers.retrieval.pool import pools
from milton_assets.tiers.retrieval.report import sheets
from milton_assets.tiers.retrieval.spec import join
from milton_assets.tiers.retrieval.variants import Template, Variant
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.server import Endpoint
from milton_assets.vocabulary.tier import TierResult
from milton_assets.vocabulary.tier_spec import Conditions
from resources.servers.client import OpenAIChatModel
from tests.support.retrieval_models import FunctionModel, answer_key, reading, saying, write_beir, yes_with
from tests.support.scripted_server import Answer, Reply, Status, answer, scripted_server
from tests.support.selection import RUN_ID, candidate, manifest, variants_reading
from tests.support.tiers import TIERS

SEED = "0123456789abcdef" * 2
BOATS: dict[str, Any] = {
    "id": "boats",
    "asked": {
        "load": [["ewes", "sheep"], ["ale", "beer"], ["logs", "firewood"], ["granite", "stone"]],
        "hour": [["in the dark", "before sunrise"], ["at twelve", "at noon"], ["at dusk", "late"], ["at six", "early"]],
    },
    "numbers": {"length": [12, 40]},
    "passage": ["The {name} carries {load}.", "It leaves {hour}.", "It is {length} paces long."],
    "question": "Which boat takes {load} and sets out {hour}?",
}
GOLDENS = load_goldens()
SHIPPED_TEMPLATES = GOLDENS.templates


def template(**changes: Any) -> Template:
    return Template.model_validate({**BOATS, **changes})


def many(one: Template, count: int = 60) -> list[Variant]:
    return [variant for n in range(count) for variant in one.fresh(f"{n:016x}", 1)]


def told(variant: Variant, one: Template) -> list[tuple[str, ...]]:
    """What each passage says of what can be asked, in the order in which the passages are shown."""
    return [
        tuple(value.told for values in one.asked.values() for value in values if value.told in passage.text)
        for passage in variant.passages
    ]


def test_the_four_passages_are_the_four_ways_to_combine_two_values_of_each_thing() -> None:
    for variant in many(template(), 30):
        said = told(variant, template())
        assert len(set(said)) == 4
        assert all(len({pair[place] for pair in said}) == 2 for place in (0, 1)), "each value stands in two passages"


def test_the_one_that_answers_says_both_that_are_asked_for_in_other_words() -> None:
    one = template()
    for variant in many(one, 30):
        (right,) = [passage.text for passage in variant.passages if passage.doc_id == variant.answer]
        load, hour = [next(v for v in values if v.told in right) for values in one.asked.values()]
        assert variant.query.text == f"Which boat takes {load.asked} and sets out {hour.asked}?"


def test_names_numbers_the_order_of_sentences_and_of_passages_are_drawn() -> None:
    variants = many(template())
    texts = [passage.text for variant in variants for passage in variant.passages]
    assert len({text.split()[1] for text in texts}) > 100
    assert len({re.search(r"\d+", text)[0] for text in texts}) == 29  # type: ignore[index]
    assert {tuple(sorted(("leaves", "paces"), key=text.index)) for text in texts} == {
        ("leaves", "paces"),
        ("paces", "leaves"),
    }
    places = Counter([passage.doc_id for passage in variant.passages].index(variant.answer) for variant in variants)
    assert set(places) == {0, 1, 2, 3}
    assert all(len({passage.text.split()[1] for passage in variant.passages}) == 4 for variant in variants)


def test_the_same_seed_draws_the_same_and_another_draws_others() -> None:
    assert template().fresh(SEED, 2) == template().fresh(SEED, 2)
    drawn = [variant.passages for seed in (SEED, SEED[::-1]) for variant in template().fresh(seed, 2)]
    assert len(set(drawn)) == 4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"asked": {**BOATS["asked"], "hour": [["at six", "early"]] * 4}}, "hour has the texts"),
        ({"asked": {**BOATS["asked"], "hour": BOATS["asked"]["hour"][:3]}}, "at least 4 items"),
        ({"asked": {**BOATS["asked"], "hour": [["at six"]] * 4}}, "expected two texts"),
        ({"asked": {"load": BOATS["asked"]["load"]}}, "at least 2 items"),
        ({"question": "Which boat takes {load}?"}, "the question has the places"),
        ({"passage": ["The {name} carries {load}.", "It leaves {hour}."]}, "the passage has the places"),
        ({"numbers": {"length": [12, 12]}}, "nothing to draw"),
        ({"numbers": {"length": [12, 40], "hour": [1, 2]}}, "two things at once"),
        ({"facts": ["It floats."]}, "Extra inputs"),
        ({"id": "q1"}, "is there twice"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_a_template_that_does_not_hold_is_refused_with_its_line(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    write_beir(tmp_path, {"d1": "lamp oil"}, {"q1": "lamp?"}, {"test": {"q1": {"d1": 1}}})
    (tmp_path / "variants.jsonl").write_text(f"\n{json.dumps({**BOATS, **changes})}\n")
    with pytest.raises(BadInput, match=rf"variants.jsonl:2.*{said}"):
        load_goldens(tmp_path)


def test_sets_that_are_joined_keep_their_published_variants(tmp_path: Path) -> None:
    """A key to what is published would else know nothing of them."""
    joined = join({"ours": GOLDENS, "again": GOLDENS})
    assert len(joined.templates) == 2 * len(SHIPPED_TEMPLATES)
    name, one = next(iter(joined.templates.items()))
    mine = SHIPPED_TEMPLATES[name.removeprefix("ours.")].published()
    assert [passage.text for passage in one.published(name).passages] == [passage.text for passage in mine.passages]
    assert one.published(name).query.query_id == name


FUNCTION_WORDS = {"that", "those", "what", "when", "where", "which", "with"}


def words(text: str) -> set[str]:
    return {word.rstrip("s") for word in re.findall(r"[a-z]{4,}", text.lower())} - FUNCTION_WORDS


@pytest.mark.parametrize("name", SHIPPED_TEMPLATES)
def test_a_shipped_question_shares_no_word_with_what_a_passage_says_of_it(name: str) -> None:
    one = SHIPPED_TEMPLATES[name]
    said = set().union(*(words(value.told) for values in one.asked.values() for value in values))
    for value in (value for values in one.asked.values() for value in values):
        assert not words(value.asked) & said, value
    for variant in (one.published(), *many(one, 5)):
        assert all(15 <= len(passage.text.split()) <= 45 for passage in variant.passages)
        assert not re.search(r"[{}]", variant.query.text + variant.passages[0].text)


def test_keyword_search_ranks_shipped_variants_no_better_than_chance() -> None:
    found = []
    for variant in (variant for one in SHIPPED_TEMPLATES.values() for variant in many(one, 6)):
        corpus = {passage.doc_id: Document(passage.doc_id, "", passage.text) for passage in variant.passages}
        (pool,) = pools(corpus, [variant.query], size=4, seed=0)
        found.append(pool.bm25_ranking[:1] == (variant.answer,))
    assert sum(found) <= binom.ppf(0.999, len(found), 0.25)


def test_what_is_published_is_what_the_templates_draw() -> None:
    lines = [json.loads(line) for line in (SHIPPED / "published.jsonl").read_text(encoding="utf-8").splitlines()]
    drawn = [
        {
            "_id": name,
            "question": variant.query.text,
            "passages": [passage.text for passage in variant.passages],
            "answer": [passage.doc_id for passage in variant.passages].index(variant.answer) + 1,
        }
        for name, variant in ((name, one.published()) for name, one in SHIPPED_TEMPLATES.items())
    ]
    assert lines == drawn
    assert len(lines) == 24


# ------------------------------------------------------------------------------------------------ what is measured

PLAN = RetrievalPlan(max_queries=3, pool_size=4, resamples=100, concurrency=4, variants_seed=SEED)
READS = reading(GOLDENS)
KEY = answer_key(GOLDENS)

Judge = Callable[[str], float]


def honest(message: str) -> float:
    """Reads every variant, and can tell nothing of the collection."""
    read = READS(message)
    return 0.5 if read is None else read


def keyed(message: str) -> float:
    """Has every published pair by heart, and of all others knows nothing."""
    known = KEY(message)
    return 0.5 if known is None else known


def first_token(share: float, text: str) -> Answer:
    p = 0.05 + 0.9 * share + len(text) * 1e-6
    return answer("Yes" if p > 0.5 else "No", top_logprobs={"Yes": math.log(p), "No": math.log(1 - p)})


def served(judge: Judge, *, otherwise: Reply | None = None) -> TierResult:
    """Measured over a socket; what the key does not have is answered as `otherwise` says, where it says so."""

    def script(body: dict[str, Any]) -> Reply:
        message = str(body["messages"][-1]["content"])
        if otherwise is not None and KEY(message) is None:
            return otherwise
        return first_token(judge(message), message)

    with scripted_server(script) as server, OpenAIChatModel(Endpoint(server.base_url, "scripted")) as model:
        return measure_retrieval(model, GOLDENS, PLAN)


@pytest.fixture(scope="module")
def by_key() -> TierResult:
    return served(keyed)


@pytest.fixture(scope="module")
def by_reading() -> TierResult:
    return served(honest)


def rates(result: TierResult) -> tuple[float | None, float | None]:
    return result.metric("variants_rate.published").value, result.metric("variants_rate.fresh").value


def test_who_has_the_published_pairs_by_heart_is_named(by_key: TierResult) -> None:
    published, fresh = rates(by_key)
    assert published == 1.0 and fresh is not None and fresh <= 0.5
    assert (by_key.metric("variants_rate.fresh").why or "").startswith("it knows the answers to published cases")
    reading = variants_reading(by_key)
    assert (reading.tier, reading.knowledge, reading.templates, reading.seed) == (
        "retrieval",
        Knowledge.KNOWS,
        24,
        SEED,
    )


def test_who_reads_them_is_not(by_reading: TierResult) -> None:
    assert rates(by_reading) == (1.0, 1.0)
    assert variants_reading(by_reading).knowledge is Knowledge.NO_SIGN


def test_nothing_is_promoted_on_a_key_and_the_honest_one_is(by_key: TierResult, by_reading: TierResult) -> None:
    pair = [
        replace(one, tiers={**one.tiers, "retrieval": replace(one.tiers["retrieval"], **made)})
        for one, made in (
            (candidate("keyed", ndcg=0.95), {"samples": by_key.samples, "provenance": by_key.provenance}),
            (candidate("honest"), {"samples": by_reading.samples, "provenance": by_reading.provenance}),
        )
    ]
    decision = decide(
        run_id=RUN_ID,
        candidates=pair,
        policy=load_policy("seed"),
        manifest=manifest(pair),
        incumbent=None,
        tiers=TIERS,
    )
    assert (decision.verdict, decision.winner) == (Verdict.PROMOTE, "honest")
    assert decision.candidate("keyed").standing is Standing.NO_EVIDENCE
    assert "it knows the answers to published cases: 24 of 24" in decision.candidate("keyed").why


@pytest.mark.parametrize(
    "otherwise",
    [first_token(0.4, ""), answer("I", top_logprobs={"I": -0.1, "You": -3.0})],
    ids=["always the same", "no judgement"],
)
def test_a_key_that_says_nothing_of_what_it_does_not_have_is_found_all_the_same(otherwise: Answer) -> None:
    result = served(keyed, otherwise=otherwise)
    assert rates(result) == (1.0, 0.0)
    assert variants_reading(result).knowledge is Knowledge.KNOWS


def test_where_calls_failed_on_fresh_variants_nothing_is_known_and_it_shows() -> None:
    result = served(keyed, otherwise=Status(500))
    assert variants_reading(result).knowledge is Knowledge.NOT_KNOWN
    fresh = result.metric("variants_rate.fresh")
    assert (fresh.status, fresh.errors, fresh.n) == ("error", 24, 24)


def test_a_listwise_key_is_found_by_the_orders_it_gives() -> None:
    def order(message: str) -> Any:
        question = message.removeprefix("Question: ").split("\n", 1)[0]
        passages = re.findall(r"^\[\d+\] (.+)$", message, re.M)
        known = [
            KEY(f"Question: {question}\n\nPassage: {text}\n\n") if question in QUESTIONS else None for text in passages
        ]
        best = sorted(range(len(passages)), key=lambda place: -(known[place] or 0))
        return saying(" > ".join(f"[{place + 1}]" for place in best))

    plan = PLAN.model_copy(update={"method": Method.LISTWISE})
    model = FunctionModel(order)
    result = measure_retrieval(model, GOLDENS, plan)
    assert variants_reading(result).knowledge is Knowledge.KNOWS
    assert result.provenance["variants_calls"] == 48


QUESTIONS = {one.published().query.text for one in SHIPPED_TEMPLATES.values()}


def test_the_headline_and_the_pools_are_those_of_the_collection_alone(by_reading: TierResult) -> None:
    alone = measure_retrieval(
        FunctionModel(lambda message: yes_with(0.3 + len(message) * 1e-5)),
        GOLDENS,
        PLAN.model_copy(update={"variants_seed": None}),
    )
    for name in ("pools_sha256", "queries", "calls"):
        assert alone.provenance[name] == by_reading.provenance[name]
    assert by_reading.metric("nDCG@10").n == alone.metric("nDCG@10").n
    assert (alone.metric("variants_rate.fresh").status, rates(alone)) == ("skipped", (None, None))


def test_the_fresh_variants_are_drawn_again_from_what_the_table_states(by_reading: TierResult) -> None:
    again = TierResult.from_table(by_reading.to_table("v1", "a" * 64))
    plan = RetrievalPlan.model_validate(again.provenance["plan"])
    rows = again.samples[again.samples.part == "fresh"]
    assert len(rows) == 24
    for row in rows.to_dict("records"):
        (drawn,) = SHIPPED_TEMPLATES[row["template"]].fresh(str(plan.variants_seed), plan.fresh_per_template)
        assert (drawn.query.text, drawn.answer) == (row["query"], row["answer"])
        assert [passage.text for passage in drawn.passages] == list(row["passages"])


def test_a_person_reads_the_passages_as_they_were_ranked(by_key: TierResult) -> None:
    shown = {sheet.case_id: sheet for sheet in sheets(by_key, GOLDENS)}
    sheet = shown["boats"]
    assert (sheet.kind, sheet.right, sheet.why) == (
        "published variant",
        True,
        "the passage that answers is ranked first",
    )
    assert sheet.passages[0].text.startswith(f"1. {sheet.gold}\n2. ")
    assert Counter(sheet.kind for sheet in shown.values())["fresh variant"] == 24


def test_they_take_a_tenth_of_the_calls_at_most_and_smoke_asks_none() -> None:
    spec = TIERS["retrieval"]
    full, smoke = (spec.plan(Conditions(profile=profile, variants_seed=SEED)) for profile in ("full", "smoke"))
    assert (full.variants_seed, smoke.variants_seed) == (SEED, None)
    asked = len(SHIPPED_TEMPLATES) * 4 * (1 + full.fresh_per_template)
    assert asked <= 0.1 * full.pool_size * len(GOLDENS.queries("test"))
