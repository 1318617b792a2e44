"""A set that only grows, and costs the same to grow whatever it holds.

What belongs here: the set. What does not: what is in it. A journal of ten thousand deployments makes as many states;
copying a `frozenset` for each took time in proportion to the square of their number.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import Self


class GrowingSet(Set[str]):
    """An immutable set of texts. Those that grew from one another share one dictionary, and each sees its own part."""

    __slots__ = ("_places", "_size")

    def __init__(self, texts: Set[str] | tuple[str, ...] = ()) -> None:
        self._places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        self._size = len(self._places)

    def with_(self, text: str) -> Self:
        """This set and `text`; this one stays as it is."""
        if text in self:
            return self
        grown = type(self)()
        # Only the newest may write on; who grows from an older one takes a copy of its own part.
        newest = len(self._places) == self._size
        grown._places = self._places if newest else {each: place for place, each in enumerate(self)}
        grown._places[text] = self._size
        grown._size = self._size + 1
        return grown

    def __contains__(self, text: object) -> bool:
        return isinstance(text, str) and self._places.get(text, self._size) < self._size

    def __iter__(self) -> Iterator[str]:
        return (text for text, place in self._places.items() if place < self._size)

    def __len__(self) -> int:
        return self._size
