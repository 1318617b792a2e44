"""The pool: BM25's best, the same every time, in an order that carries no signal."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from milton_assets.tiers.retrieval import Query
from milton_assets.tiers.retrieval.pool import pools, pools_digest, subset
from milton_assets.vocabulary.shuffles import hash_order, ranked
from tests.support.retrieval_models import documents_of

ROOT = Path(__file__).resolve().parents[2]
LAMPS = documents_of(
    {
        "d1": "the lamp burns oil",
        "d2": "the lamp hangs from a rope",
        "d3": "a boat has a keel",
        "d4": "a keel is a keel",
        "d5": "lamp lamp lamp",
    }
)


def query(text: str, query_id: str = "q1", **grades: int) -> Query:
    return Query(query_id, text, grades or {"d1": 1})


def test_a_document_that_shares_no_word_with_the_query_is_not_in_the_pool() -> None:
    (pool,) = pools(LAMPS, [query("lamp")], size=5, seed=0)
    assert set(pool.shown) == {"d1", "d2", "d5"}


def test_the_pool_is_ranked_by_descending_score() -> None:
    (pool,) = pools(LAMPS, [query("lamp oil")], size=5, seed=0)
    scores = [score for _, score in pool.bm25]
    assert pool.bm25_ranking[0] == "d1"
    assert scores == sorted(scores, reverse=True)


def test_the_pool_is_no_larger_than_asked_for() -> None:
    (pool,) = pools(LAMPS, [query("lamp")], size=2, seed=0)
    assert len(pool.shown) == len(pool.bm25) == 2


def test_a_querys_own_document_is_no_candidate() -> None:
    found = pools(LAMPS, [query("lamp lamp lamp", "d5"), query("lamp lamp lamp")], size=2, seed=0)
    assert [set(pool.shown) for pool in found] == [{"d1", "d2"}, {"d5", found[1].bm25_ranking[1]}]


def test_a_query_that_matches_nothing_has_an_empty_pool() -> None:
    found = pools(LAMPS, [query("zebra"), query("the of a", "q2"), query("¿?", "q3")], size=5, seed=0)
    assert [pool.shown for pool in found] == [(), (), ()]


def test_every_document_shown_was_found_by_bm25() -> None:
    (pool,) = pools(LAMPS, [query("lamp keel")], size=5, seed=0)
    assert sorted(pool.shown) == sorted(pool.bm25_ranking)


def test_neither_pool_nor_order_depends_on_the_order_of_the_corpus() -> None:
    backwards = dict(reversed(LAMPS.items()))
    for text in ("lamp keel", "keel", "lamp"):
        assert pools(LAMPS, [query(text)], size=2, seed=0) == pools(backwards, [query(text)], size=2, seed=0)


def test_the_shown_order_is_another_for_another_query_and_another_seed() -> None:
    corpus = documents_of({f"d{i}": f"lamp {i}" for i in range(20)})
    first, second = pools(corpus, [query("lamp"), query("lamp", "q2")], size=20, seed=0)
    (reseeded,) = pools(corpus, [query("lamp")], size=20, seed=1)
    assert len({first.shown, second.shown, reseeded.shown, first.bm25_ranking}) == 4


def test_the_digest_tells_pools_apart() -> None:
    some = pools(LAMPS, [query("lamp")], size=5, seed=0)
    assert pools_digest(some) == pools_digest(pools(LAMPS, [query("lamp")], size=5, seed=0))
    assert pools_digest(some) != pools_digest(pools(LAMPS, [query("lamp")], size=2, seed=0))


@settings(deadline=None)
@given(ids=st.lists(st.text(max_size=5), unique=True, max_size=30), salt=st.integers())
def test_a_hash_order_keeps_every_id_and_forgets_the_order_given(ids: list[str], salt: int) -> None:
    order = hash_order(ids, salt)
    assert sorted(order) == sorted(ids)
    assert hash_order(reversed(ids), salt) == order


def test_every_place_in_a_hash_order_is_equally_likely() -> None:
    firsts = Counter(hash_order("abcde", seed)[0] for seed in range(5000))
    assert all(850 <= firsts[one] <= 1150 for one in "abcde")


def test_equal_scores_are_ordered_by_hash_and_unequal_ones_by_score() -> None:
    order = ranked([("a", 1.0), ("b", 2.0), ("c", 1.0), ("d", 1.0)], "salt")
    assert order[0] == ("b", 2.0)
    assert tuple(one for one, _ in order[1:]) == tuple(one for one in hash_order("abcd", "salt") if one != "b")


QUERIES = tuple(query("x", f"q{i}", d1=int(i >= 10)) for i in range(50))


def test_a_subset_keeps_the_share_of_unanswerable_queries_and_the_order_of_the_file() -> None:
    chosen = subset(QUERIES, 10, seed=0)
    assert sum(not one.answerable for one in chosen) == 2
    assert len(chosen) == 10
    assert list(chosen) == [one for one in QUERIES if one in chosen]


def test_a_larger_subset_contains_the_smaller_one_of_the_same_seed() -> None:
    smaller, larger = ({one.query_id for one in subset(QUERIES, n, seed=0)} for n in (10, 20))
    assert smaller < larger


def test_without_a_limit_or_with_one_that_is_large_enough_every_query_is_taken() -> None:
    assert subset(QUERIES, None, seed=0) == subset(QUERIES, 50, seed=0) == QUERIES


def test_a_subset_of_one_is_answerable() -> None:
    mostly_not = tuple(query("x", f"q{i}", d1=int(i == 0)) for i in range(50))
    assert [one.query_id for one in subset(mostly_not, 1, seed=0)] == ["q0"]


def test_jax_is_not_woken_by_ranking(tmp_path: Path) -> None:
    lax = tmp_path / "jax" / "lax"
    lax.mkdir(parents=True)
    (tmp_path / "jax" / "__init__.py").write_text("")
    (lax / "__init__.py").write_text(
        "from pathlib import Path\nPath(__file__).with_name('took_the_gpu').touch()\n"
        "def top_k(scores, k):\n    return scores[:k], list(range(k))\n"
    )
    ranks = "import milton_assets.tiers.retrieval.pool, bm25s.selection as s; assert not s.JAX_IS_AVAILABLE; import jax"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run([sys.executable, "-c", ranks], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not (lax / "took_the_gpu").exists()
    # The stand-in tells when it is woken: what is left alone above is what `bm25s` does by itself.
    subprocess.run([sys.executable, "-c", "import bm25s"], env=environment, check=True)
    assert (lax / "took_the_gpu").exists()
