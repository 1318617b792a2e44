"""Which settings of llama.cpp are worth trying here: what the program takes, and what the machine has.

    axes = axes_of(launcher, draft=None)
    faster = with_choices(launcher, axes.named(["threads 4"]))

What belongs here: asking `llama-server --help` for its options, the values tried, and why an axis is skipped. What does
not: the search (`tiers.inference.tuning`), and settings that change what is served (slots, context). A device's agent
runs this too, so it needs nothing heavy.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from milton_assets.vocabulary.artefact_files import artefact_files, check_gguf
from milton_assets.vocabulary.errors import BadInput, ServerFailed
from milton_assets.vocabulary.tuning import Axes, Choice, Chosen
from resources.hardware import gpu_fingerprints, usable_cores
from resources.servers.llama_cpp import LlamaCppLauncher

ALL_LAYERS: Final = 99
_HELP_S: Final = 30.0
BATCHES: Final = (128, 512, 1024)
"""Tokens of a prompt that are computed at once, around llama.cpp's own 512."""
_BATCH: Final = 2048
_DEFAULTS: Final = {"--ubatch-size": "512", "--batch-size": f"{_BATCH}", "n_ubatch": "512", "n_batch": f"{_BATCH}"}
"""What llama.cpp has where nobody says anything."""
_NAMES: Final = {
    "--threads": ("-t",),
    "--gpu-layers": ("-ngl", "--n-gpu-layers"),
    "--batch-size": ("-b",),
    "--ubatch-size": ("-ub",),
    "--cache-type-k": ("-ctk",),
    "--cache-type-v": ("-ctv",),
    "--flash-attn": ("-fa",),
    "--model-draft": ("-md", "--spec-draft-model"),
}
"""Other names of the options that are searched."""
_LONG: Final = {other: name for name, others in _NAMES.items() for other in others}
_OPTION_OF: Final = {"threads": "--threads", "gpu_layers": "--gpu-layers"}
"""The option that a field of `LaunchSettings` becomes."""
_LOOKS_LIKE_OPTION = re.compile(r"-{1,2}[a-zA-Z]")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
_QUALITY = "the cache is rounded: answers may change, so measure quality anew before it serves"
_NOT_IN_WHEEL = "the wheel's server takes no such setting; name a `llama-server` as the binary"


def axes_of(given: LlamaCppLauncher, *, draft: Path | None = None) -> Axes:
    """The choices of each axis, those in force left out, and for the axes without any, why.

    Raises `BadInput` for a binary that is not there or a draft that is no model, `ServerFailed` for a program that does
    not tell its options.
    """
    program = given.program()
    known = _options_of(program) if program else None
    choices: dict[str, tuple[Choice, ...]] = {}
    skipped: dict[str, str] = {}
    for axis, found in (
        ("offload", _offload(known)),
        ("threads", tuple(_threads())),
        ("batch", _batch(known)),
        ("kv_type", _kv_type(known)),
        ("draft", _draft(known, draft)),
    ):
        if isinstance(found, str):
            skipped[axis] = found
        elif others := tuple(choice for choice in found if not _is_in_force(given, choice)):
            choices[axis] = others
        else:
            skipped[axis] = "there is no other value than the one in force"
    return Axes(choices, skipped)


def with_choices(given: LlamaCppLauncher, choices: Chosen) -> LlamaCppLauncher:
    """The launcher with the choices. What stood in `extra` for one, by whatever name, goes: the last of two counts, and
    those come last."""
    words = list(given.extra)
    fields: dict[str, Any] = {}
    for choice in choices:
        fields |= choice.fields
        for name in choice.fields:
            words = _without(words, _OPTION_OF[name])
        for option, value in choice.options:
            words = [*_without(words, option, value), option, value]
    return replace(given, **fields, extra=tuple(words))


def settings_changed(given: LlamaCppLauncher, choices: Chosen) -> dict[str, Any]:
    """The settings (`LaunchSettings`, by name) that the choices change, with the values that they then have."""
    wanted = with_choices(given, choices)
    changed: dict[str, Any] = {
        name: getattr(wanted, name) for name in _OPTION_OF if getattr(wanted, name) != getattr(given, name)
    }
    return changed if wanted.extra == given.extra else {**changed, "extra_args": list(wanted.extra)}


def _is_in_force(given: LlamaCppLauncher, choice: Choice) -> bool:
    in_force = _in_force(given)
    wanted = {_OPTION_OF[name]: str(value) for name, value in choice.fields.items()}
    wanted |= dict(_named(option, value) for option, value in choice.options)
    return all(in_force.get(name) == value for name, value in wanted.items())


def _named(option: str, value: str) -> tuple[str, str]:
    """The option and its value; of `--set NAME=VALUE`, these two."""
    if option != "--set":
        return option, value
    name, _, its = value.partition("=")
    return name, its


def _in_force(given: LlamaCppLauncher) -> dict[str, str]:
    """What is served with, by the option's long name or that of `--set`. What stands in `extra` counts before a field,
    and the last of two."""
    told = {**_DEFAULTS, "--threads": str(given.threads or usable_cores())}
    if given.gpu_layers is not None:
        told["--gpu-layers"] = str(given.gpu_layers)
    for word, after in zip(given.extra, (*given.extra[1:], ""), strict=False):
        name, equals, joined = word.partition("=")
        value = joined if equals else "" if _LOOKS_LIKE_OPTION.match(after) else after
        name, value = _named(name, value)
        told[_LONG.get(name, name)] = value
    return told


def _without(words: list[str], option: str, value: str = "") -> list[str]:
    """The words without that option and its value, written apart or with `=`; of `--set`, without that name's."""
    if option == "--set":
        name = value.partition("=")[0] + "="
        pairs = enumerate(itertools.pairwise(words))
        drop = {at for at, (one, after) in pairs if one == "--set" and after.startswith(name)}
        return [word for at, word in enumerate(words) if at not in drop and at - 1 not in drop]
    names = (option, *_NAMES.get(option, ()))
    kept: list[str] = []
    is_value = False
    for word in words:
        if is_value and not _LOOKS_LIKE_OPTION.match(word):
            is_value = False
            continue
        is_value = word in names
        if not is_value and word.partition("=")[0] not in names:
            kept.append(word)
    return kept


def _options_of(program: str) -> frozenset[str]:
    """The long options that the program's help names."""
    try:
        done = subprocess.run(
            [program, "--help"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_HELP_S,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServerFailed(f"{program} --help did not answer: {error}", expected="its options") from error
    options = frozenset(_OPTION.findall(done.stdout + done.stderr))
    if "--threads" not in options:
        raise ServerFailed(
            f"{program} --help (exit {done.returncode}) names no --threads", expected="the options of `llama-server`"
        )
    return options


def _threads() -> Iterator[Choice]:
    cores = usable_cores()
    for threads in sorted({1, max(1, cores // 2), cores, len(os.sched_getaffinity(0))}):
        yield Choice("threads", f"threads {threads}", {"threads": threads})


def _offload(known: frozenset[str] | None) -> tuple[Choice, ...] | str:
    if known is None:
        return "the wheel's llama.cpp is built for the CPU; name a `llama-server` as the binary"
    if why := _lacks(known, "--gpu-layers"):
        return why
    gpus, because = gpu_fingerprints()
    if not gpus:
        return because or "there is no GPU"
    return tuple(Choice("offload", f"{layers} layers on the GPU", {"gpu_layers": layers}) for layers in (0, ALL_LAYERS))


def _batch(known: frozenset[str] | None) -> tuple[Choice, ...] | str:
    if known is None:
        return tuple(
            Choice("batch", f"batch {size}", options=(("--set", f"n_ubatch={size}"), ("--set", f"n_batch={_BATCH}")))
            for size in BATCHES
        )
    return _lacks(known, "--batch-size", "--ubatch-size") or tuple(
        Choice("batch", f"batch {size}", options=(("--ubatch-size", f"{size}"), ("--batch-size", f"{_BATCH}")))
        for size in BATCHES
    )


def _kv_type(known: frozenset[str] | None) -> tuple[Choice, ...] | str:
    if known is None:
        return _NOT_IN_WHEEL
    # llama.cpp keeps values in fewer bits only with flash attention.
    options = (("--cache-type-k", "q8_0"), ("--cache-type-v", "q8_0"), ("--flash-attn", "on"))
    return _lacks(known, *(option for option, _ in options)) or (
        Choice("kv_type", "KV cache in q8_0", options=options, caution=_QUALITY),
    )


def _draft(known: frozenset[str] | None, draft: Path | None) -> tuple[Choice, ...] | str:
    if draft is None:
        return "no draft model was named (--draft FILE)"
    if not draft.is_absolute():
        raise BadInput(f"the draft {str(draft)!r:.200} is a relative path", expected="an absolute one")
    check_gguf(artefact_files(draft))
    if known is None:
        return _NOT_IN_WHEEL
    return _lacks(known, "--model-draft") or (
        Choice("draft", f"draft {draft.name}", options=(("--model-draft", str(draft)),)),
    )


def _lacks(known: frozenset[str], *options: str) -> str:
    missing = [option for option in options if option not in known]
    return f"the program knows no {', '.join(missing)}" if missing else ""
