"""What a model made of one pool: its ranking, and every call that gave no judgement.

What belongs here: the nouns both ways of asking share. What does not: asking.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Failure:
    """A call without a usable judgement: `kind` is what is counted, `about` the document, or the window's ids."""

    kind: str
    about: str


@dataclass(frozen=True)
class Reranked:
    """One query's result.

    `ranking` is best first, with the score that ordered it. A document the model gave no judgement on is not in it:
    it is `unranked`, below everything, and no measure counts it as found. `best_p_yes` is the largest P(Yes) given to
    any document, None where the method has no probabilities or every call failed.
    """

    query_id: str
    ranking: tuple[tuple[str, float], ...]
    unranked: tuple[str, ...]
    failures: tuple[Failure, ...]
    calls: int
    best_p_yes: float | None = None

    @property
    def ids(self) -> tuple[str, ...]:
        """The ranked ids, best first."""
        return tuple(doc_id for doc_id, _ in self.ranking)

    @property
    def told_failures(self) -> list[str]:
        """The failures as text, for a table."""
        return [f"{failure.kind}: {failure.about}" for failure in self.failures]
