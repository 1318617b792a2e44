"""How far apart two expectations are, where only the likeliest tokens are told."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import rel_entr

from milton_assets.tiers.fidelity.divergence import difference
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.forcing import Expectation, Forced
from tests.support.forced_model import WORDS, WordModel, model

REFERENCE = model(1)


def at(one: WordModel, top: int, after: int = 0) -> Expectation:
    return one.expectation([after], 3, top)


def exact(p: WordModel, q: WordModel, after: int) -> float:
    return float(rel_entr(p.probabilities[after], q.probabilities[after]).sum())


@given(st.integers(0, 200), st.floats(0, 4), st.integers(2, WORDS), st.integers(0, WORDS - 1))
def test_what_is_told_of_the_likeliest_tokens_bounds_the_divergence_from_below(
    seed: int, damage: float, top: int, after: int
) -> None:
    other = model(seed, like=REFERENCE, damage=damage)
    bound = difference(at(REFERENCE, top, after), at(other, top, after)).kl
    assert 0 <= bound <= exact(REFERENCE, other, after) + 1e-6


@given(st.integers(0, 50), st.integers(0, WORDS - 1))
def test_it_is_exact_where_every_token_is_told(seed: int, after: int) -> None:
    other = model(seed, like=REFERENCE, damage=1.0)
    told = difference(at(REFERENCE, WORDS, after), at(other, WORDS, after))
    assert told.kl == pytest.approx(exact(REFERENCE, other, after), abs=1e-6)
    assert told.unlisted == pytest.approx(0, abs=1e-9)


def test_a_model_is_no_way_from_itself() -> None:
    told = difference(at(REFERENCE, 5), at(REFERENCE, 5))
    assert (told.kl, told.flipped, told.flip_loss) == (0.0, False, 0.0)
    assert told.unlisted == pytest.approx(1 - np.sort(REFERENCE.probabilities[0])[-5:].sum())


def place(*top: tuple[int, float]) -> Expectation:
    return Expectation(9, -1.0, tuple((token, math.log(p)) for token, p in top))


def test_a_flip_loses_what_the_reference_gave_its_own_choice_more() -> None:
    told = difference(place((1, 0.6), (2, 0.3)), place((2, 0.5), (1, 0.4)))
    assert told.flipped
    assert told.flip_loss == pytest.approx(0.3)


def test_a_choice_that_the_reference_does_not_list_loses_at_least_what_its_last_one_lacks() -> None:
    told = difference(place((1, 0.6), (2, 0.1)), place((7, 0.5), (1, 0.4)))
    assert told.flip_loss == pytest.approx(0.5)


def test_nothing_in_common_is_one_outcome_and_tells_nothing_of_the_divergence() -> None:
    told = difference(place((1, 0.6)), place((2, 0.9)))
    assert (told.kl, told.unlisted, told.flipped) == (0.0, 1.0, True)


@pytest.mark.parametrize(
    ("top", "says"),
    [
        ((), "no likeliest token"),
        (((1, 0.1),), "logarithms"),
        (((1, math.nan),), "logarithms"),
        (((1, -2.0), (1, -3.0)), "twice"),
        (((1, -2.0), (2, -1.0)), "no order"),
        (((1, -0.1), (2, -0.1)), "more than 1"),
    ],
    ids=["none", "above 1", "no number", "twice", "order", "sum"],
)
def test_what_is_no_expectation_is_refused(top: tuple[tuple[int, float], ...], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        Expectation(1, -1.0, top)


def test_places_must_hold_the_texts_own_tokens() -> None:
    with pytest.raises(BadInput, match="other tokens"):
        Forced((0, 5, 6), 1, (place((1, 0.5)),))
