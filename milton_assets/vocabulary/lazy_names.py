"""A package's names, loaded when they are first asked for.

    __getattr__ = loaded_on_demand(__name__, {"package.module": ("Name", "other_name")})

What belongs here: loading them. What does not: which names a package gives, which each says itself, for people and type
checkers in its `TYPE_CHECKING` block.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def loaded_on_demand(package: str, where: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """The `__getattr__` of `package`: `where` says which module holds which names. A name is looked up once."""
    modules = {name: module for module, names in where.items() for name in names}

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(modules[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return get
