"""A table of devices that is never changed: another one is made of it, which shares what did not change.

What belongs here: the table. What does not: what a device is (`states`). A journal of ten thousand devices makes some
thirty thousand states; copying every device for each would take time in proportion to the product.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Generic, Self, TypeVar

T = TypeVar("T")
_PARTS = 256


class Table(Mapping[str, T], Generic[T]):
    """An immutable mapping from names."""

    __slots__ = ("_parts", "_size")

    def __init__(self) -> None:
        self._parts: tuple[dict[str, T], ...] = ({},) * _PARTS
        self._size = 0

    def with_(self, name: str, value: T) -> Self:
        """This table with `value` under `name`; this one stays as it is."""
        place = _place(name)
        part = self._parts[place]
        changed = type(self)()
        changed._parts = (*self._parts[:place], {**part, name: value}, *self._parts[place + 1 :])
        changed._size = self._size + (name not in part)
        return changed

    def __getitem__(self, name: str) -> T:
        return self._parts[_place(name)][name]

    def __iter__(self) -> Iterator[str]:
        return (name for part in self._parts for name in part)

    def __len__(self) -> int:
        return self._size


def _place(name: str) -> int:
    return zlib.crc32(name.encode()) % _PARTS
