"""Reading the settings: milton.yaml in the state folder, then the environment over it, and where each came from.

    reading = read_settings()
    reading.settings.server.slots, str(reading.origin(("server", "slots")))    # 4, "milton.yaml line 7"

What belongs here: the order of the sources, and errors that name the source. What does not: the settings (`model`).

This package alone reads the environment for settings; a test holds that. A variable that is empty counts as not set. A
`MILTON_` variable that no setting has is no error, since it may belong to another release or another program, and is
told in `Reading.notes`; an unknown key in milton.yaml is one, since nobody else reads that file.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from milton_assets.settings.leaves import Leaf, group_of, leaves
from milton_assets.settings.model import GoldenSet, LaunchSettings, Settings
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.secrets import without_user
from milton_assets.vocabulary.slo import SLO
from milton_assets.vocabulary.state import StateDir
from milton_assets.vocabulary.yaml_document import YamlDocument, read_yaml

SETTINGS_FILE = "milton.yaml"
PREFIX = "MILTON_"


class BadSettings(BadInput):
    """Settings that do not hold; the message names each one's source: the file and line, or the variable."""


class From(StrEnum):
    """The kinds of places that a value comes from."""

    DEFAULT = "default"
    FILE = "file"
    VARIABLE = "variable"
    SERVER = "server"


@dataclass(frozen=True)
class Origin:
    """Where a value came from. `detail` is the file and line, the variable, or the setting that it follows."""

    kind: From
    detail: str = ""

    def __str__(self) -> str:
        if self.kind is From.SERVER:
            return f"as {self.detail}"
        return self.detail or self.kind.value


DEFAULT = Origin(From.DEFAULT)


@dataclass(frozen=True)
class Reading:
    """Settings and where they came from. `notes` are sentences about what was found and not used."""

    settings: Settings
    origins: Mapping[tuple[str, ...], Origin]
    file: Path
    notes: tuple[str, ...] = ()

    def origin(self, path: tuple[str, ...]) -> Origin:
        """Where the setting at `path` came from."""
        return self.origins.get(path, DEFAULT)


def state_of_process() -> StateDir:
    """The state folder of this process, whatever its milton.yaml holds. Raises `BadInput` for a relative one."""
    return StateDir.from_environment(os.environ)


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """The settings; `environment` replaces the process's. Raises `BadInput` with every problem and its source."""
    return read_settings(environment).settings


def read_settings(environment: Mapping[str, str] | None = None) -> Reading:
    """The settings with their origins. Raises as `load_settings`."""
    env = os.environ if environment is None else environment
    state = StateDir.from_environment(env)
    path = state.root / SETTINGS_FILE
    document = read_yaml(path, holds="settings", empty=True) if path.exists() else YamlDocument(str(path), {}, None)
    known = {leaf.path: leaf for leaf in leaves()}
    values: dict[str, Any] = {}
    origins: dict[tuple[str, ...], Origin] = {}
    for where, value in _in_file(document):
        _put(values, where, value)
        origins[where] = Origin(From.FILE, f"{SETTINGS_FILE} line {document.line(where)}")
    for leaf, value in _in_variables(known.values(), env):
        _put(values, leaf.path, value)
        origins[leaf.path] = Origin(From.VARIABLE, str(leaf.variable))
    values["state_dir"] = state.root
    if env.get("MILTON_STATE_DIR"):
        origins["state_dir",] = Origin(From.VARIABLE, "MILTON_STATE_DIR")
    values.setdefault("cache_dir", _cache_folder(env))
    try:
        settings = Settings.model_validate(values, context={"folder": state.root})
    except ValidationError as error:
        raise _explained(error, document, origins) from None
    _follow_server(settings, origins)
    return Reading(settings, origins, path, _unknown_variables(settings, known.values(), env))


def dagster_home(settings: Settings, environment: Mapping[str, str] | None = None) -> Path:
    """Dagster's instance: `DAGSTER_HOME`, which is Dagster's own setting, else a folder of the state folder."""
    env = os.environ if environment is None else environment
    return Path(env.get("DAGSTER_HOME") or settings.state.dagster)


def dagster_module(environment: Mapping[str, str] | None = None) -> str:
    """Where `dagster job execute` finds the graph: `DAGSTER_MODULE_NAME`, which is Dagster's own setting, else ours."""
    env = os.environ if environment is None else environment
    return env.get("DAGSTER_MODULE_NAME") or "milton_assets.definitions"


def hand_to_process(variables: Mapping[str, str]) -> None:
    """Set this process's variables, for Dagster, which reads its own."""
    os.environ.update(variables)


def _in_file(document: YamlDocument) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every setting that milton.yaml gives, by path. A key without a value counts as not given."""
    if "state_dir" in document.content:
        raise BadSettings(
            f"{document.source}, line {document.line(('state_dir',))}: state_dir is set in the file that lies there",
            expected="the state folder from MILTON_STATE_DIR, XDG_STATE_HOME or HOME",
            remedy="remove the line, and export MILTON_STATE_DIR",
        )
    yield from _settings_in(document, Settings, document.content, ())


def _settings_in(
    document: YamlDocument, noun: type[BaseModel], content: Mapping[Any, Any], above: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in content.items():
        path = (*above, str(key))
        if key not in noun.model_fields:
            raise BadSettings(
                f"{document.source}, line {_key_line(document, path)}: there is no setting {'.'.join(path)!r:.200}",
                expected=_nearest(str(key), list(noun.model_fields), above),
                remedy="correct or remove the line; `milton config show` lists every setting",
            )
        if value is None:
            continue
        group = group_of(noun.model_fields[key])
        if group is None:
            yield path, value
        elif isinstance(value, dict):
            yield from _settings_in(document, group, value, path)
        else:
            raise BadSettings(
                f"{document.source}, line {document.line(path)}: {'.'.join(path)} is {value!r:.80}",
                expected=f"a mapping with any of {', '.join(group.model_fields)}",
                remedy=f"write, for example, {_example(group, path)}",
            )


def _key_line(document: YamlDocument, path: tuple[str, ...]) -> int:
    return document.line(path)


def _example(group: type[BaseModel], path: tuple[str, ...]) -> str:
    return f"`{path[-1]}: {{{next(iter(group.model_fields))}: …}}`"


def _nearest(name: str, known: list[str], above: tuple[str, ...] = ()) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if near:
        return ".".join((*above, near[0]))
    return f"one of {', '.join(known)}"


def _in_variables(known: Iterable[Leaf], environment: Mapping[str, str]) -> Iterator[tuple[Leaf, Any]]:
    problems = []
    for leaf in known:
        text = environment.get(leaf.variable, "") if leaf.variable else ""
        if not text or leaf.path == ("state_dir",):
            continue
        try:
            yield leaf, leaf.text.read(text)
        except ValueError as error:
            problems.append((leaf, text, error))
    if problems:
        raise BadSettings(
            "; ".join(f"{leaf.variable} is {without_user(text)!r:.200}: {error}" for leaf, text, error in problems),
            expected="; ".join(dict.fromkeys(leaf.text.form for leaf, _, _ in problems)),
            remedy=f"correct or unset {', '.join(str(leaf.variable) for leaf, _, _ in problems)}",
        )


def _put(values: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for part in path[:-1]:
        values = values.setdefault(part, {})
    values[path[-1]] = value


def _explained(
    error: ValidationError, document: YamlDocument, origins: Mapping[tuple[str, ...], Origin]
) -> BadSettings:
    found, expected, sources = [], [], []
    for problem in error.errors():
        location = tuple(problem["loc"]) or _named_in(str(problem["msg"]))
        path = next((location[:n] for n in range(len(location), 0, -1) if location[:n] in origins), location)
        origin = origins.get(tuple(map(str, path)), DEFAULT)
        if origin is DEFAULT:  # what is missing in a group is told with what was given of it
            beside = (known for given, known in origins.items() if location and given[0] == location[0])
            origin = next(beside, DEFAULT)
        name = ".".join(map(str, location))
        message = _plain(str(problem["msg"]))
        if origin.kind is From.FILE:
            source = f"{document.source}, line {document.line(location)}"
        else:
            source = str(origin) if origin.kind is From.VARIABLE else "settings"
        what = f"{source}: {name}" if origin.kind is not From.VARIABLE else f"{source} ({name})"
        if problem["type"] == "missing":
            found.append(f"{what} is missing")
            variables = {leaf.name: leaf.variable for leaf in leaves()}
            message = f"{name}, also as {variables[name]}" if variables.get(name) else name
        elif problem["type"] == "extra_forbidden":
            found.append(f"{what}: there is no such key")
            message = _nearest(str(location[-1]), _KEYS_BELOW.get(str(location[0]), []))
        elif not problem["loc"]:
            found.append(f"{source}: {message.partition('; expected ')[0]}")
        elif location[-1] == "[key]":
            found.append(f"{what.removesuffix('.[key]')} is no name")
            message = "a slug: letters, digits, '.', '_' and '-'"
        else:
            found.append(f"{what} is {without_user(str(problem['input']))!r:.200}")
        expected.append(message.rpartition("expected ")[2])
        sources.append(str(origin) if origin.kind is From.VARIABLE else source)
    return BadSettings(
        "; ".join(found),
        expected="; ".join(dict.fromkeys(expected)),
        remedy=f"correct {', '.join(dict.fromkeys(sources))}; `milton config show` lists every setting",
    )


_KEYS_BELOW = {
    "targets": ["at", "class"],
    "goldens": list(GoldenSet.model_fields),
    "slo": list(SLO.model_fields),
}


def _named_in(message: str) -> tuple[str, ...]:
    """The setting that a sentence about several begins with, as in `server.gpu_layers is 99, and …`."""
    match = re.match(r"([a-z_]+(?:\.[A-Za-z0-9_-]+)+)", message.removeprefix("Value error, "))
    return tuple(match.group(1).split(".")) if match else ()


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ").replace("Input should be ", "expected ")


def _follow_server(settings: Settings, origins: dict[tuple[str, ...], Origin]) -> None:
    """Say of each of `edge_server`'s values that is as `server` has it so, where `server` was told."""
    if settings.edge_program != settings.server.which:
        return
    for name in LaunchSettings.model_fields:
        if ("edge_server", name) not in origins and ("server", name) in origins:
            origins["edge_server", name] = Origin(From.SERVER, f"server.{name}")


def _unknown_variables(settings: Settings, known: Iterable[Leaf], environment: Mapping[str, str]) -> tuple[str, ...]:
    names = [leaf.variable for leaf in known if leaf.variable]
    sides = [side.key_env for side in (settings.judge, settings.embeddings) if side]
    keys = {settings.server.key_env, *sides}
    return tuple(
        f"no setting is called {name}; did you mean {_nearest(name, names)}?"
        for name in sorted(environment)
        if name.startswith(PREFIX) and name not in names and name not in keys
    )


def _cache_folder(environment: Mapping[str, str]) -> Path:
    """Where downloads lie when no setting says: `$XDG_CACHE_HOME/milton`, else `~/.cache/milton`."""
    if (xdg := environment.get("XDG_CACHE_HOME")) and Path(xdg).is_absolute():
        return Path(xdg) / "milton"
    home = environment.get("HOME")
    return (Path(home) if home else Path.home()) / ".cache" / "milton"
