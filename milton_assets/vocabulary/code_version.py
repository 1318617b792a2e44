"""The version of code that figures depend on: one rule for tiers, selection and bundles.

    code_version("milton_assets.tiers.retrieval.tier", libraries=("bm25s", "ir-measures"))

The digest covers what the modules say, found by following imports from the entry modules through the packages they
belong to: a changed constant five modules down changes it. Comments, docstrings and layout do not, nor does what only a
type checker imports. Named libraries count by their installed version, data files by their bytes.

What belongs here: that digest. What does not: which modules a figure starts from, which its owner says.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, NamedTuple

from milton_assets.vocabulary.digest import Sha256, sha256_bytes, sha256_file, sha256_json
from milton_assets.vocabulary.errors import BadInput

_OURS = "milton_assets"
_OF_STATEMENTS: Final = ("body", "orelse", "finalbody", "handlers", "cases")
"""The fields of a statement in which others stand, by https://docs.python.org/3/library/ast.html#abstract-grammar"""


def code_version(*entries: str, libraries: Sequence[str] = (), files: Sequence[Path] = ()) -> Sha256:
    """The digest of the modules `entries` (dotted names), of all they import of their own packages and of ours, of the
    versions of `libraries` (distribution names) and of the contents of `files` (by name, wherever they lie).

    It is worked out once in a process, as the code that runs is the code that was loaded. Raises `BadInput` for a
    module or a library that is not there.
    """
    return _code_version(entries, tuple(libraries), tuple(files))


@cache
def _code_version(entries: tuple[str, ...], libraries: tuple[str, ...], files: tuple[Path, ...]) -> Sha256:
    packages = {_OURS, *(entry.partition(".")[0] for entry in entries)}
    modules = modules_reached(entries, packages)
    return sha256_json(
        {
            "modules": {name: _read(path).meaning for name, path in modules.items()},
            "libraries": {name: _installed(name) for name in libraries},
            "files": sorted([path.name, sha256_file(path)] for path in files),
        }
    )


def modules_reached(entries: Sequence[str], packages: set[str]) -> dict[str, Path]:
    """The source of every module of `packages` that `entries` reach by imports, themselves included, sorted by name.

    A package's `__init__` counts where a name is imported from it, not where it is only on the way to a module.
    """
    reached: dict[str, Path] = {}
    waiting = list(entries)
    while waiting:
        name = waiting.pop()
        if name in reached or name.partition(".")[0] not in packages:
            continue
        path = _source(name)
        if path is None:
            raise BadInput(f"there is no module {name}", expected="the name of a module that is installed")
        reached[name] = path
        waiting += _imported(path, name if path.name == "__init__.py" else name.rpartition(".")[0])
    return dict(sorted(reached.items()))


@cache
def _source(name: str) -> Path | None:
    top, _, rest = name.partition(".")
    spec = importlib.util.find_spec(top)
    if spec is None:
        return None
    if spec.submodule_search_locations is None:
        return Path(spec.origin) if spec.origin and not rest else None
    parts = rest.split(".") if rest else []
    for root in spec.submodule_search_locations:
        folder = Path(root, *parts)
        for path in (folder / "__init__.py", folder.with_suffix(".py")):
            if path.is_file():
                return path
    return None


class _Module(NamedTuple):
    """What is kept of a module's source: what it imports, as (base, level, name), and the digest of what it says."""

    imports: tuple[tuple[str, int, str | None], ...]
    meaning: Sha256


@cache
def _read(path: Path) -> _Module:
    tree = ast.parse(path.read_bytes())
    imports: list[tuple[str, int, str | None]] = []
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            imports += [(alias.name, 0, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imports += [(node.module or "", node.level, alias.name) for alias in node.names]
    said: list[str] = []
    _say(tree, said)
    return _Module(tuple(imports), sha256_bytes("\0".join(said).encode("utf-8", "surrogatepass")))


def _imported(path: Path, package: str) -> list[str]:
    names = []
    for module, level, name in _read(path).imports:
        parents = package.split(".")[: package.count(".") + 2 - level] if level else []
        base = ".".join([*parents, *([module] if module else [])])
        below = f"{base}.{name}"
        names.append(below if name is not None and _source(below) is not None else base)
    return names


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Every statement at whatever depth, but what stands under `if TYPE_CHECKING`; no expression is looked into."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        only_for_types = (
            isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        )
        for field in ("orelse",) if only_for_types else _OF_STATEMENTS:
            part = getattr(node, field, None)
            if isinstance(part, list):  # the body of a lambda or a conditional expression is none
                waiting += part


def _say(node: ast.AST, said: list[str]) -> None:
    """The tree in words. Empty fields are left out, as newer Pythons have more of them."""
    said.append("(" + type(node).__name__)
    for field in node._fields:
        part = getattr(node, field, None)
        if part is None:
            continue
        if isinstance(part, list):
            if part:
                said.append(field)
                for one in _without_strings(part) if field == "body" else part:
                    if isinstance(one, ast.AST):
                        _say(one, said)
                    else:
                        said.append(repr(one))
        else:
            said.append(field)
            if isinstance(part, ast.AST):
                _say(part, said)
            else:
                said.append(repr(part))
    said.append(")")


def _without_strings(body: list[ast.AST]) -> list[ast.AST]:
    """Statements without docstrings: strings that stand alone, at the top or under an attribute, do nothing."""
    return [
        statement
        for statement in body
        if not (
            isinstance(statement, ast.Expr)
            and isinstance(statement.value, ast.Constant)
            and isinstance(statement.value.value, str)
        )
    ]


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        raise BadInput(
            f"the library {name} is not installed, so the version of the code that uses it is unknown",
            remedy=f"install {name}, or leave it out of the list",
        ) from None
