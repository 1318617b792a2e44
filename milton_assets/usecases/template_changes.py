"""How a registered model's chat template differs from its base model's, or from a relative's.

What belongs here: finding the template to compare with, for whoever has to decide whether to allow one. What does not:
whether it stands in the way of a promotion (`milton_assets.selection.templates`), and showing the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from milton_assets.vocabulary.chat_template import changes
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.registry import Artefact, RegistryEntry, RegistryStore
from resources.registries.artefacts import chat_template_of

_RELATIVES = 20
"""So many relatives are looked at: each that was never hashed is, once."""


@dataclass(frozen=True)
class TemplateChanges:
    """`against` is what the template was compared with, `lines` a bounded unified diff, empty for equal templates.

    The lines are text of others.
    """

    against: str
    lines: tuple[str, ...]


def template_changes(store: RegistryStore, entry: RegistryEntry, root: Path) -> TemplateChanges | None:
    """The changes against the base model; where its files are not known, against the first relative that differs.

    `root` is what relative paths in the registry count from. None when there is nothing to compare with, or no relative
    differs. Raises `BadInput` when files cannot be read.
    """
    if not entry.artefacts:
        return None
    mine = chat_template_of(Path(entry.artefacts[0].path))
    base = _registered(store, entry.base_model) if entry.base_model != entry.version else None
    if base is not None:
        theirs = chat_template_of(Path(_same_kind(base, entry.artefacts[0]).path))
        return TemplateChanges(f"its base model {base.version}", changes(theirs, mine))
    if entry.base_template is not None:
        return TemplateChanges(
            f"its base model {entry.base_model}", changes(chat_template_of(root / entry.base_model), mine)
        )
    for relative in _relatives(store, entry):
        if lines := changes(chat_template_of(Path(_same_kind(relative, entry.artefacts[0]).path)), mine):
            return TemplateChanges(f"{relative.version}, which names the same base model", lines)
    return None


def _relatives(store: RegistryStore, entry: RegistryEntry) -> Iterator[RegistryEntry]:
    named = [
        version
        for version, raw in store.registered().items()
        if version != entry.version and isinstance(raw, dict) and raw.get("base_model") == entry.base_model
    ]
    for version in named[:_RELATIVES]:
        if (found := _registered(store, version)) is not None:
            yield found


def _registered(store: RegistryStore, version: str) -> RegistryEntry | None:
    """That entry, if there is one that holds and has files."""
    if version not in store.registered():
        return None
    try:
        found = store.entry(version)
    except BadInput:  # quarantined: `milton registry list` says why, and there is nothing to compare with
        return None
    return found if found.artefacts else None


def _same_kind(entry: RegistryEntry, like: Artefact) -> Artefact:
    return entry.find(like.kind) or entry.artefacts[0]
