"""Which settings of llama.cpp are worth trying here: what the program takes, and what the machine has.

    axes, skipped = axes_of(settings, draft=None)

What belongs here: asking `llama-server --help` for its options, the values tried, and why an axis is skipped. What does
not: the search (`tiers.inference.tuning`), and settings that change what is served (slots, context).
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from milton_assets.settings import LaunchSettings
from milton_assets.tiers.inference.tuning import Choice
from milton_assets.vocabulary.artefact_files import artefact_files, check_gguf
from milton_assets.vocabulary.errors import ServerFailed
from resources.hardware import gpu_fingerprints, usable_cores
from resources.servers.launching import llama_cpp_launcher

ALL_LAYERS: Final = 99
_HELP_S: Final = 30.0
_BATCHES: Final = (128, 1024)
"""Tokens of a prompt that are computed at once, around llama.cpp's own 512."""
_BATCH: Final = 2048
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
_QUALITY = "the cache is rounded: answers may change, so measure quality anew before it serves"
_NOT_IN_WHEEL = "the wheel's server takes no such setting; name a `llama-server` as the binary"


def axes_of(
    given: LaunchSettings, *, draft: Path | None = None
) -> tuple[dict[str, tuple[Choice, ...]], dict[str, str]]:
    """The choices of each axis, those in force left out, and for the axes without any, why.

    Raises `BadInput` for a binary that is not there or a draft that is no model, `ServerFailed` for a program that does
    not tell its options.
    """
    program = llama_cpp_launcher(given).program()
    known = _options_of(program) if program else None
    axes: dict[str, tuple[Choice, ...]] = {}
    skipped: dict[str, str] = {}
    for axis, found in (
        ("offload", _offload(given, known)),
        ("threads", tuple(_threads(given))),
        ("batch", _batch(known)),
        ("kv_type", _kv_type(known)),
        ("draft", _draft(known, draft)),
    ):
        if isinstance(found, str):
            skipped[axis] = found
        elif found:
            axes[axis] = found
        else:
            skipped[axis] = "there is no other value than the one in force"
    return axes, skipped


def with_choices(given: LaunchSettings, choices: tuple[Choice, ...]) -> LaunchSettings:
    """The settings with the choices. An option that stood in `extra_args` already is replaced."""
    words = list(given.extra_args)
    fields: dict[str, Any] = {}
    for choice in choices:
        fields |= choice.fields
        for option, value in choice.options:
            _leave_out(words, option, value)
            words += [option, value]
    return given.model_copy(update={**fields, "extra_args": tuple(words)})


def _leave_out(words: list[str], option: str, value: str) -> None:
    name = value.partition("=")[0] + "=" if option == "--set" else ""
    for at in range(len(words) - 2, -1, -1):
        if words[at] == option and words[at + 1].startswith(name):
            del words[at : at + 2]


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


def _threads(given: LaunchSettings) -> Iterator[Choice]:
    in_force, cores = given.threads or usable_cores(), usable_cores()
    for threads in sorted({1, max(1, cores // 2), cores, len(os.sched_getaffinity(0))} - {in_force}):
        yield Choice("threads", f"threads {threads}", {"threads": threads})


def _offload(given: LaunchSettings, known: frozenset[str] | None) -> tuple[Choice, ...] | str:
    if known is None:
        return "the wheel's llama.cpp is built for the CPU; name a `llama-server` as the binary"
    if why := _lacks(known, "--gpu-layers"):
        return why
    gpus, because = gpu_fingerprints()
    if not gpus:
        return because or "there is no GPU"
    values = [layers for layers in (0, ALL_LAYERS) if layers != given.gpu_layers]
    return tuple(Choice("offload", f"{layers} layers on the GPU", {"gpu_layers": layers}) for layers in values)


def _batch(known: frozenset[str] | None) -> tuple[Choice, ...] | str:
    if known is None:
        return tuple(
            Choice("batch", f"batch {size}", options=(("--set", f"n_ubatch={size}"), ("--set", f"n_batch={_BATCH}")))
            for size in _BATCHES
        )
    return _lacks(known, "--batch-size", "--ubatch-size") or tuple(
        Choice("batch", f"batch {size}", options=(("--ubatch-size", f"{size}"), ("--batch-size", f"{_BATCH}")))
        for size in _BATCHES
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
    check_gguf(artefact_files(draft.absolute()))
    if known is None:
        return _NOT_IN_WHEEL
    return _lacks(known, "--model-draft") or (
        Choice("draft", f"draft {draft.name}", options=(("--model-draft", str(draft.absolute())),)),
    )


def _lacks(known: frozenset[str], *options: str) -> str:
    missing = [option for option in options if option not in known]
    return f"the program knows no {', '.join(missing)}" if missing else ""
