"""The nouns of a test collection: a document, and a question with its judged documents.

What belongs here: those. What does not: where they come from (`goldens`, `variants`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Document:
    """One document of the corpus."""

    doc_id: str
    title: str
    text: str

    @property
    def full_text(self) -> str:
        """Title and text, as they are indexed."""
        return f"{self.title}\n{self.text}".strip()


@dataclass(frozen=True)
class Query:
    """One question and its judged documents. Grades run from 0 (judged, does not answer) upwards."""

    query_id: str
    text: str
    grades: Mapping[str, int]

    @property
    def answerable(self) -> bool:
        """Whether any judged document answers it, at least in part."""
        return any(grade > 0 for grade in self.grades.values())
