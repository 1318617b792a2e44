"""Adding a target to milton.yaml, and taking one out, with every other line and comment left as it is.

What belongs here: these two edits. What does not: reading the file (`reading`), which judges what was written, too.

The file is a person's, so it is changed line by line rather than written anew. What cannot be changed so (a mapping in
braces) is left alone, and the line to write is said.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from milton_assets.settings.model import LOCAL_CLASS, Settings, TargetSettings
from milton_assets.settings.reading import SETTINGS_FILE, read_settings
from milton_assets.vocabulary.errors import BadInput, MiltonError, one_of
from milton_assets.vocabulary.files import write_atomic
from milton_assets.vocabulary.keys import check_key

_BLOCK = re.compile(r"targets:\s*(#.*)?$")


def add_target(
    settings: Settings, name: str, target: TargetSettings, environment: Mapping[str, str] | None = None
) -> Path:
    """Name the target in milton.yaml; the file. Raises `BadInput` when the variable MILTON_TARGETS names targets, when
    the name is taken by another place, or the file cannot be changed line by line."""
    check_key(name, "target name")
    env = os.environ if environment is None else environment
    path = _file(settings, env)
    known = settings.targets.get(name)
    if known == target:
        return path
    if known is not None:
        raise BadInput(
            f"the target {name} is {known.at}, class {known.device_class}",
            expected="a name that is free, or the same place",
            remedy=f"`milton target remove {name}` first, or choose another name",
        )
    value = json.dumps(target.at)
    if target.device_class != LOCAL_CLASS:
        value = f"{{at: {value}, class: {json.dumps(target.device_class)}}}"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    at = next((number for number, line in enumerate(lines) if line.startswith("targets:")), None)
    if at is None:
        lines += ["targets:", f"  {name}: {value}"]
    elif _BLOCK.match(lines[at]):
        below = next((line for line in lines[at + 1 :] if line.strip() and not line.lstrip().startswith("#")), "")
        indent = re.match(r" +", below)
        lines.insert(at + 1, f"{indent.group() if indent else '  '}{name}: {value}")
    else:
        raise _by_hand(path, f"add `{name}: {value}` to `targets`")
    classes = {*settings.device_classes, target.device_class}
    if target.device_class not in settings.device_classes:
        if any(line.startswith("device_classes:") for line in lines) or env.get("MILTON_DEVICE_CLASSES"):
            raise BadInput(
                f"{target.device_class} is none of the device classes {', '.join(settings.device_classes)}",
                expected="one of the setting `device_classes`",
                remedy=f"add {target.device_class} to `device_classes` in {path}",
            )
        lines.append(f"device_classes: [{', '.join(sorted(classes))}]")
    _write(path, lines, env)
    return path


def remove_target(settings: Settings, name: str, environment: Mapping[str, str] | None = None) -> Path:
    """Take the target out of milton.yaml; the file. Raises `BadInput` when it names none, and as `add_target`."""
    env = os.environ if environment is None else environment
    path = _file(settings, env)
    if name not in settings.targets:
        raise BadInput(
            f"{path} names no target {name!r:.100}",
            expected=one_of(sorted(settings.targets)) if settings.targets else "a target of its own; it names none",
            remedy="`milton target list` shows them",
        )
    lines = path.read_text(encoding="utf-8").splitlines()
    start = next((number for number, line in enumerate(lines) if line.startswith("targets:")), len(lines))
    pattern = re.compile(rf"( +)(['\"]?){re.escape(name)}\2:")
    at = next((number for number in range(start + 1, len(lines)) if pattern.match(lines[number])), None)
    if at is None or not _BLOCK.match(lines[start]):
        raise _by_hand(path, f"remove {name} from `targets`")
    indent = len(lines[at]) - len(lines[at].lstrip())
    end = at + 1
    while end < len(lines) and lines[end].strip() and len(lines[end]) - len(lines[end].lstrip()) > indent:
        end += 1
    del lines[at:end]
    if not any(line.startswith(" ") and line.strip() for line in lines[start + 1 : start + 2]):
        del lines[start]
    _write(path, lines, env)
    return path


def _file(settings: Settings, environment: Mapping[str, str]) -> Path:
    if environment.get("MILTON_TARGETS"):
        raise BadInput(
            "MILTON_TARGETS is set, which names the targets instead of milton.yaml",
            expected="targets in milton.yaml alone",
            remedy="unset it, or name the target there",
        )
    return settings.state.root / SETTINGS_FILE


def _write(path: Path, lines: list[str], environment: Mapping[str, str]) -> None:
    """Write it if it reads; else leave what was there."""
    before = path.read_bytes() if path.exists() else None
    write_atomic(path, "\n".join(lines) + "\n")
    try:
        read_settings(environment)
    except MiltonError:
        if before is None:
            path.unlink()
        else:
            write_atomic(path, before)
        raise


def _by_hand(path: Path, what: str) -> BadInput:
    return BadInput(f"{path} cannot be changed line by line", expected="`targets:` with a line a target", remedy=what)
