"""Every setting as a leaf: its path, as in `server.slots`, and the variable that sets it.

What belongs here: walking over the settings' fields and what these are marked with. What does not: which settings there
are (`model`), and where their values come from (`reading`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import UnionType
from typing import get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from milton_assets.settings.model import Noun, Settings
from milton_assets.settings.values import FromText, Variable


@dataclass(frozen=True)
class Leaf:
    """One setting: its path, as in `("server", "slots")`, and its variable, None for what only milton.yaml can hold."""

    path: tuple[str, ...]
    variable: str | None
    field: FieldInfo

    @property
    def name(self) -> str:
        """The path as people write it, `server.slots`."""
        return ".".join(self.path)

    @property
    def text(self) -> FromText:
        """How its variable is read."""
        return next(
            (mark for mark in _marks(self.field) if isinstance(mark, FromText)), FromText(lambda text: text, "text")
        )


def leaves() -> tuple[Leaf, ...]:
    """Every setting, in the order of the class, those within a group after each other."""
    return tuple(_leaves(Settings, ()))


def _leaves(noun: type[BaseModel], above: tuple[str, ...]) -> Iterator[Leaf]:
    for name, field in noun.model_fields.items():
        path = (*above, name)
        if (group := group_of(field)) is not None:
            yield from _leaves(group, path)
        else:
            yield Leaf(path, _variable(path, field), field)


def group_of(field: FieldInfo) -> type[BaseModel] | None:
    """The class of a field that is a group of settings, such as `server`; None for a setting."""
    kinds = get_args(field.annotation) if get_origin(field.annotation) is UnionType else (field.annotation,)
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Noun)), None)


def _variable(path: tuple[str, ...], field: FieldInfo) -> str | None:
    marks = list(_marks(field))
    if named := next((mark.name for mark in marks if isinstance(mark, Variable)), None):
        return named
    if get_origin(field.annotation) is dict and not any(isinstance(mark, FromText) for mark in marks):
        return None
    return "MILTON_" + "_".join(path).upper()


def _marks(field: FieldInfo) -> Iterator[object]:
    yield from field.metadata
    for kind in get_args(field.annotation):
        yield from getattr(kind, "__metadata__", ())
