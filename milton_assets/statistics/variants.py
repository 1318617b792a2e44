"""Does somebody know the published variant of a question better than fresh ones of the same template?

    p_value = published_excess(published, fresh_right, fresh)
    told(published, fresh_right, fresh)         # the same as a sentence, for a figure of one model

What belongs here: the exact test, stratified by template, and what it says. What does not: which variants were asked
(`tiers`), and what follows (`selection.contamination`).

If the published variant was drawn as the fresh ones were, then for a model that knows none of them its place among them
says nothing: of a template with r right answers among its 1 + m variants, the published one is among them with
probability r / (1 + m), however hard the template is. Given every r, the number of right published variants is a sum of
independent coins with those probabilities (Poisson-binomial), and the p-value is its upper tail: exact, one-sided, with
nothing assumed of difficulty. With m = 1 it is the exact one-sided sign test, which is McNemar's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

KNOWS_AT = 0.01
"""The error rate: so seldom is anybody called one who knows the answers that does not, in all tests of one decision."""


def published_excess(published: Sequence[bool], fresh_right: Sequence[int], fresh: Sequence[int]) -> float:
    """The probability of as many right published variants or more, for one who knows none of them; 1.0 of no templates.

    A place in each of the three is a template: whether its published variant was right, how many of its fresh ones
    were, and how many of those there are (at least 1).
    """
    tail = np.ones(1)
    for right, others, count in zip(published, fresh_right, fresh, strict=True):
        share = (int(right) + others) / (1 + count)
        tail = np.convolve(tail, (1 - share, share))
    return float(min(1.0, tail[sum(map(bool, published)) :].sum()))


def least_p(fresh: Sequence[int]) -> float:
    """The smallest p-value that so many fresh variants of each template can give: all published right, no fresh one."""
    return float(np.prod([1 / (1 + count) for count in fresh])) if fresh else 1.0


def told(published: Sequence[bool], fresh_right: Sequence[int], fresh: Sequence[int], what: str = "published") -> str:
    """What the test says of one model that stands alone; `what` was held against fresh variants."""
    p_value = published_excess(published, fresh_right, fresh)
    tested = f"{what} against fresh variants of {len(fresh)} templates, exact test: p = {p_value:.2g}"
    if p_value <= KNOWS_AT:
        return f"it knows the answers to published cases: {tested}"
    if least_p(fresh) > KNOWS_AT:
        return f"too few templates to know whether it knows the answers: {tested}"
    return tested
