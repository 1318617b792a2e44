"""Settings of a model server that a search may choose: nouns.

What belongs here: one value of one setting, and which there are on a machine. What does not: finding them out
(`resources.servers.tunable`), the search (`milton_assets.tiers.inference.tuning`), and measuring.

They may come from a device, so their texts and numbers are bounded where they are validated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from pydantic import Field

from milton_assets.vocabulary.errors import BadInput

MAX_AXES: Final = 16
MAX_CHOICES: Final = 16
"""Of an axis."""
_Text = Annotated[str, Field(max_length=4096)]


@dataclass(frozen=True)
class Choice:
    """One value of one setting: fields of `LaunchSettings`, and options that join its `extra_args`.

    `caution` is what else it changes, where it changes more than speed.
    """

    axis: _Text
    label: _Text
    fields: Mapping[str, Any] = field(default_factory=dict)
    options: tuple[tuple[_Text, _Text], ...] = ()
    caution: _Text | None = None


Chosen = tuple[Choice, ...]
"""Choices on top of the settings in force, at most one of an axis; none for those in force themselves."""


@dataclass(frozen=True)
class Axes:
    """What may be chosen on a machine: the choices of each axis, and for the axes without any, why."""

    choices: Annotated[
        Mapping[_Text, Annotated[tuple[Choice, ...], Field(max_length=MAX_CHOICES)]], Field(max_length=MAX_AXES)
    ]
    skipped: Annotated[Mapping[_Text, _Text], Field(max_length=MAX_AXES)] = field(default_factory=dict)

    def named(self, labels: Sequence[str]) -> Chosen:
        """The choices of those labels. Raises `BadInput` for one that is not among them."""
        known = {choice.label: choice for choices in self.choices.values() for choice in choices}
        if unknown := [label for label in labels if label not in known]:
            raise BadInput(f"{unknown[0]!r:.200} cannot be chosen here", expected=f"one of {', '.join(known)}")
        return tuple(known[label] for label in labels)
