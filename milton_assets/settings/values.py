"""What the value of a setting may be, and how its variable's text is read.

What belongs here: kinds of values that several settings share, reading a text as one, and the marks on a field that say
so. What does not: which settings there are (`model`), and which have a variable (`leaves`).

A path in milton.yaml may be relative: it counts from the state folder, so that a moved folder keeps its settings. In a
variable it may not, because nobody could say from where it counts.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo

from milton_assets.vocabulary.chat_template import TemplateId
from milton_assets.vocabulary.digest import Sha256
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.keys import Slug
from milton_assets.vocabulary.server import Endpoint
from milton_assets.vocabulary.slo import SLO

MAX_EXPIRY_DAYS = 36_500


@dataclass(frozen=True)
class FromText:
    """How a variable's text becomes a value; `form` is what people write there. `read` raises `ValueError`."""

    read: Callable[[str], Any]
    form: str


@dataclass(frozen=True)
class Variable:
    """The environment variable of a setting whose name is not made by the rule (`MILTON_` and its path)."""

    name: str


def _absolute(text: str) -> str:
    if not (path := Path(text).expanduser()).is_absolute():
        raise ValueError("the path is relative; expected an absolute path")
    return str(path)


def in_folder(value: object, info: ValidationInfo) -> object:
    """A relative path, counted from the folder of milton.yaml (the context's `folder`)."""
    if not isinstance(value, str | Path) or not str(value):
        return value
    if "\0" in str(value):
        raise ValueError("a path holds no NUL")
    path = Path(value).expanduser()
    if path.is_absolute():
        return path
    folder = (info.context or {}).get("folder")
    if folder is None:
        raise ValueError("the path is relative; expected an absolute path")
    return Path(folder) / path


def listed(text: str) -> list[str]:
    """What stands between commas, but nothing empty."""
    return [part for part in (part.strip() for part in text.split(",")) if part]


def named(text: str) -> dict[str, str]:
    """`NAME=VALUE` between commas. Raises `ValueError` for what is none, and for a name that stands twice."""
    pairs = {}
    for part in listed(text):
        name, equals, value = part.partition("=")
        if not equals or not value:
            raise ValueError(f"{part!r:.100} is no NAME=VALUE")
        if name in pairs:
            raise ValueError(f"{name!r:.100} is named twice")
        pairs[name] = value
    return pairs


def target_places(text: str) -> dict[str, str]:
    """`NAME=PLACE` between commas, each a directory or an address. Raises `ValueError`."""
    places = named(text)
    for name, place in places.items():
        if not is_url(place) and not Path(place).is_absolute():
            raise ValueError(f"{name}={place!r:.100} is a relative path; expected absolute directories or URLs")
    return places


def _switch(value: object) -> object:
    if isinstance(value, str):
        if value not in {"0", "1"}:
            raise ValueError("expected 1 or 0")
        return value == "1"
    return value


def server_address(url: str) -> str:
    """The address of a model server, as it is. Raises `ValueError` for what is none."""
    try:
        Endpoint(url, "any")
    except BadInput as error:
        raise ValueError(f"expected {error.expected}") from None
    return url


def _is_policy_file(value: object) -> bool:
    return isinstance(value, str) and ("/" in value or value.endswith((".yaml", ".yml")))


def is_url(text: str) -> bool:
    """Whether the text is an address with a scheme, such as `ssh://pi@kitchen`."""
    return "://" in text


def slo_limits(text: str) -> SLO:
    """Limits, as in `ttft_ms=200,tpot_ms=50`. Raises `ValueError`."""
    try:
        return SLO.parse(text, "it")
    except BadInput as error:
        raise ValueError(f"{error.problem.removeprefix('it is ')}; expected {error.expected}") from None


AnyPath = Annotated[Path, BeforeValidator(in_folder), FromText(_absolute, "an absolute path")]
Program = Annotated[
    str,
    Field(min_length=1),
    BeforeValidator(lambda value, info: str(in_folder(value, info)) if "/" in str(value) else value),
    FromText(lambda text: _absolute(text) if "/" in text else text, "an absolute path, or a program's name on PATH"),
]
PolicyName = Annotated[
    str,
    Field(min_length=1),
    BeforeValidator(lambda value, info: str(in_folder(value, info)) if _is_policy_file(value) else value),
    FromText(
        lambda text: _absolute(text) if _is_policy_file(text) else text, "a shipped policy's name, or an absolute path"
    ),
]
FolderOrUrl = Annotated[
    str,
    Field(min_length=1),
    BeforeValidator(lambda value, info: value if is_url(str(value)) else str(in_folder(value, info))),
    FromText(lambda text: text if is_url(text) else _absolute(text), "an absolute path, or a URL"),
]
Paths = Annotated[
    tuple[Annotated[Path, BeforeValidator(in_folder)], ...],
    FromText(
        lambda text: [_absolute(part) for part in text.split(os.pathsep) if part], "absolute paths, a colon between two"
    ),
]
Words = Annotated[tuple[str, ...], FromText(shlex.split, "words, quoted as for a shell")]
Names = Annotated[
    tuple[Slug, ...],
    FromText(listed, "names, a comma between two"),
]
Owners = Annotated[
    tuple[Annotated[str, Field(pattern=r"^(team:[^\s,]+|[^\s@,]+@[^\s@,]+\.[^\s@,]+)$", max_length=200)], ...],
    Field(min_length=1),
    FromText(listed, "e-mail addresses or team:NAME, a comma between two"),
]
_DIGESTS = FromText(listed, "SHA-256 digests, a comma between two")
TemplateIds = Annotated[
    tuple[TemplateId, ...],
    _DIGESTS,
]
Digests = Annotated[
    tuple[Sha256, ...],
    _DIGESTS,
]
Switch = Annotated[bool, BeforeValidator(_switch), FromText(lambda text: text, "1 or 0")]
BudgetS = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Days = Annotated[float, Field(gt=0, le=MAX_EXPIRY_DAYS, allow_inf_nan=False)]
