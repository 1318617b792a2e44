"""The exact test of published against fresh variants: its p-values, its false alarms, and whom it finds."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binom

from milton_assets.statistics.multiplicity import holm
from milton_assets.statistics.variants import KNOWS_AT, least_p, published_excess


def test_with_one_fresh_variant_each_it_is_the_exact_one_sided_sign_test() -> None:
    published = [True] * 7 + [False] * 2 + [True] * 3 + [False]
    fresh = [0] * 7 + [1] * 2 + [1] * 3 + [0]
    assert published_excess(published, fresh, [1] * 13) == pytest.approx(binom.sf(6, 9, 0.5))


def test_it_is_the_share_of_rearrangements_that_are_as_extreme() -> None:
    """By brute force: every way in which the published variant could have been another of its template's variants."""
    answers = [(True, False, False), (True, True, False), (False, True, False), (True, False, False, False)]
    places = itertools.product(*(range(len(each)) for each in answers))
    counts = [sum(each[place] for each, place in zip(answers, chosen, strict=True)) for chosen in places]
    seen = sum(each[0] for each in answers)
    expected = sum(count >= seen for count in counts) / len(counts)
    found = published_excess(
        [each[0] for each in answers], [sum(each[1:]) for each in answers], [len(each) - 1 for each in answers]
    )
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("right", [True, False])
def test_a_model_that_answers_all_alike_shows_nothing(right: bool) -> None:
    assert published_excess([right] * 9, [2 * right] * 9, [2] * 9) == 1.0


def test_of_no_templates_nothing_is_shown() -> None:
    assert published_excess([], [], []) == least_p([]) == 1.0


def test_the_least_p_is_that_of_knowing_every_published_answer_and_no_other() -> None:
    assert least_p([2, 2, 1]) == pytest.approx(1 / 18)
    assert least_p([2, 2, 1]) == pytest.approx(published_excess([True] * 3, [0] * 3, [2, 2, 1]))


HONEST = {
    "hard and easy templates": lambda rng, templates: rng.beta(0.4, 0.8, templates),
    "all as hard": lambda rng, templates: np.full(templates, 0.35),
    "nearly all right": lambda rng, templates: rng.beta(8, 1, templates),
    "nearly all wrong": lambda rng, templates: rng.beta(0.3, 8, templates),
}


@pytest.mark.parametrize("kind", HONEST)
@pytest.mark.parametrize(("templates", "candidates"), [(9, 3), (24, 5), (24, 20)])
def test_who_knows_none_of_the_answers_is_seldom_said_to_know_them(kind: str, templates: int, candidates: int) -> None:
    """2,000 decisions on honest candidates: in at most 1 % of them anybody is named, whatever the difficulties."""
    rng = np.random.default_rng(11)
    trials = 2000
    named = 0
    for _ in range(trials):
        p_values = []
        for _ in range(candidates):
            able = HONEST[kind](rng, templates)
            published, fresh = rng.random(templates) < able, rng.binomial(2, able)
            p_values.append(published_excess(published.tolist(), fresh.tolist(), [2] * templates))
        named += bool((holm(np.array(p_values)) <= KNOWS_AT).any())
    assert named <= binom.ppf(0.9999, trials, KNOWS_AT)


@pytest.mark.parametrize(
    ("templates", "able", "found"), [(9, 0.2, 0.6), (24, 0.2, 0.99), (24, 0.6, 0.6), (9, 0.9, 0.0)]
)
def test_who_has_them_by_heart_is_found_as_far_as_it_could_not_answer_otherwise(
    templates: int, able: float, found: float
) -> None:
    """Knowing 95 % of the published answers, among three candidates; where it can answer anyway, a key changes
    nothing."""
    rng = np.random.default_rng(5)
    trials = 1000
    hits = 0
    for _ in range(trials):
        published, fresh = rng.random(templates) < 0.95, rng.binomial(2, able, templates)
        hits += 3 * published_excess(published.tolist(), fresh.tolist(), [2] * templates) <= KNOWS_AT
    share = hits / trials
    assert share >= found
    assert math.isfinite(share) and (able < 0.8 or share < 0.1)
