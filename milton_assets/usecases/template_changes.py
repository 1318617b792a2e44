"""How a registered model's chat template differs from its base model's, or from a relative's.

What belongs here: finding the template to compare with, for whoever has to decide whether to allow one. What does not:
whether it stands in the way of a promotion (`milton_assets.selection.templates`), and showing the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from milton_assets.vocabulary.chat_template import changes
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.registry import ArtefactKind, RegistryEntry, RegistryStore, RegistryUnreadable

_RELATIVES = 20
"""So many relatives are looked at: each that was never hashed is, once."""


@dataclass(frozen=True)
class TemplateChanges:
    """`against` is what the template was compared with, `lines` a bounded unified diff, empty for equal templates.

    `against` is None when there was nothing to compare with, or no relative that differs. `passed_over` are the entries
    that would have been compared with and do not hold, a sentence each. The lines are text of others.
    """

    against: str | None
    lines: tuple[str, ...]
    passed_over: tuple[str, ...]


def template_changes(store: RegistryStore, entry: RegistryEntry) -> TemplateChanges:
    """The changes against the base model; where its files are not known, against the first relative that differs.

    No weights are fetched for it. Raises `BadInput` when files cannot be read, and `RegistryUnreadable`.
    """
    found = _Comparing(store)
    against, lines = found.compared(entry) if entry.artefacts else (None, ())
    return TemplateChanges(against, lines, tuple(found.passed_over))


@dataclass
class _Comparing:
    store: RegistryStore
    passed_over: list[str] = field(default_factory=list)

    def compared(self, entry: RegistryEntry) -> tuple[str | None, tuple[str, ...]]:
        kind = entry.artefacts[0].kind
        mine = self._template(entry, kind)
        base = self._registered(entry.base_model) if entry.base_model != entry.version else None
        if base is not None:
            return f"its base model {base.version}", changes(self._template(base, kind), mine)
        if (told := self.store.base_head(entry)) is not None:
            return f"its base model {entry.base_model}", changes(told.chat_template, mine)
        for relative in self._relatives(entry):
            if lines := changes(self._template(relative, kind), mine):
                return f"{relative.version}, which names the same base model", lines
        return None, ()

    def _template(self, entry: RegistryEntry, kind: ArtefactKind) -> str | None:
        """The template of its artefact of that kind, or of the first it has."""
        return self.store.head(entry, kind if entry.find(kind) else entry.artefacts[0].kind).chat_template

    def _relatives(self, entry: RegistryEntry) -> Iterator[RegistryEntry]:
        named = [
            version
            for version, raw in self.store.registered().items()
            if version != entry.version and isinstance(raw, dict) and raw.get("base_model") == entry.base_model
        ]
        for version in named[:_RELATIVES]:
            if (found := self._registered(version)) is not None:
                yield found

    def _registered(self, version: str) -> RegistryEntry | None:
        """That entry, if there is one that holds and has files; one that does not hold is noted."""
        if version not in self.store.registered():
            return None
        try:
            found = self.store.judged(version)
        except RegistryUnreadable:
            raise
        except BadInput as error:
            self.passed_over.append(str(error))
            return None
        return found if found.artefacts else None
