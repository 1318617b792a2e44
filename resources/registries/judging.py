"""A registry's entries, each judged alone: what holds, what is set aside with its reason, what is not digested yet.

What belongs here: the walk over the entries, the same for every registry. What does not: what a registry's entry is
(each registry's own module), and what is wrong with an artefact (`artefacts`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

from milton_assets.vocabulary.registry import Quarantined, Registry, RegistryEntry, RegistryUnreadable
from resources.file_facts import FactsReader, NotYet
from resources.registries.artefacts import NOT_HOLDING, encodable, quarantined, reason, unknown

Raw = TypeVar("Raw")


def judge_all(
    registered: Mapping[str, Raw], judge: Callable[[str, Raw], RegistryEntry], facts: FactsReader, *, sha256: str
) -> Registry:
    """Every entry by `judge`, which raises `NotYet` or one of `NOT_HOLDING`. `sha256` is of what was read.

    Raises `RegistryUnreadable` when `judge` does: then it is the registry that fails, and not an entry.
    """
    entries: dict[str, RegistryEntry] = {}
    set_aside: list[Quarantined] = []
    pending: list[str] = []
    for version, raw in registered.items():
        try:
            entries[version] = judge(version, raw)
        except NotYet:
            pending.append(version)
        except RegistryUnreadable:
            raise
        except NOT_HOLDING as error:
            set_aside.append(Quarantined(encodable(version), reason(error)))
    facts.save()
    return Registry(
        entries=entries,
        quarantined=tuple(set_aside),
        sha256=sha256,
        read_at=datetime.now(UTC),
        pending=tuple(pending),
    )


def judge_one(
    version: str, registered: Mapping[str, Raw], judge: Callable[[str, Raw], RegistryEntry], facts: FactsReader
) -> RegistryEntry:
    """One entry. Raises `BadInput` when there is none, or it is quarantined, with the reason."""
    if version not in registered:
        raise unknown(version, list(registered))
    try:
        found = judge(version, registered[version])
    except RegistryUnreadable:
        raise
    except NOT_HOLDING as error:
        raise quarantined(version, error) from error
    facts.save()
    return found
