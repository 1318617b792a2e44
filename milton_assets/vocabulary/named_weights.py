"""Weights and the model version that they go by: what is meant where a version alone could come to mean others.

    weights = NamedWeights("v1.20260111.1425", sha256)
    NamedWeights.of(str(weights)) == weights         # VERSION@SHA256, as a run's tag has it

What belongs here: the pair, written and read. What does not: where the weights lie (`registry.Artefact`), and what they
are asked for (`tier_spec.Incumbent`, `ledger.Anchor`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from milton_assets.vocabulary.digest import check_sha256
from milton_assets.vocabulary.keys import check_key

_KEY_DIGITS: Final = 12


@dataclass(frozen=True)
class NamedWeights:
    """A model version and the SHA-256 of its weights. Raises `BadInput` for what is no version or no digest."""

    version: str
    sha256: str

    def __post_init__(self) -> None:
        check_key(self.version, "model version")
        check_sha256(self.sha256, f"the SHA-256 of the weights of {self.version}")

    def __str__(self) -> str:
        return f"{self.version}@{self.sha256}"

    @classmethod
    def of(cls, text: str) -> Self:
        """What `VERSION@SHA256` names. Raises `BadInput` for other text."""
        version, _, sha256 = text.partition("@")
        return cls(version, sha256)

    @property
    def anchor_key(self) -> str:
        """The partition under which these weights are measured where they are an anchor and no candidate any more.

        Not the version's own: under that name other weights may stand by now.
        """
        return f"anchor.{self.sha256[:_KEY_DIGITS]}"
