"""What a decision and a deployment say to the registry: which version is the challenger, and which the champion.

What belongs here: setting the two aliases. What does not: deciding and deploying, which an alias never holds up: one
that cannot be set is told, and what was decided or deployed stands.
"""

from __future__ import annotations

from collections.abc import Callable

from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.registry import CHALLENGER, CHAMPION, RegistryStore

Tell = Callable[[str], object]


def name_challenger(store: RegistryStore, version: str, tell: Tell, device_class: str | None = None) -> None:
    """Give the alias `challenger` to the version that was promoted, unless it is the champion already.

    A device class that is decided for by itself has aliases of its own, `challenger-pi5`.
    """
    champion, challenger = _aliases(device_class)

    def name() -> None:
        if store.aliases().get(champion) != version:
            store.set_alias(challenger, version)

    _try(name, f"{version} was promoted", tell)


def name_champion(store: RegistryStore, version: str, tell: Tell, device_class: str | None = None) -> None:
    """Give the alias `champion` to the version that was deployed; a challenger no more. Classes as above."""
    champion, challenger = _aliases(device_class)

    def name() -> None:
        before = store.aliases()
        if before.get(champion) != version:
            store.set_alias(champion, version)
        if before.get(challenger) == version:
            store.set_alias(challenger, None)

    _try(name, f"{version} was deployed", tell)


def _aliases(device_class: str | None) -> tuple[str, str]:
    ending = f"-{device_class}" if device_class else ""
    return CHAMPION + ending, CHALLENGER + ending


def _try(name: Callable[[], None], done: str, tell: Tell) -> None:
    try:
        name()
    except (MiltonError, OSError) as error:
        tell(f"{done}, and the registry could not be told: {error}")
