"""From settings to what serves: one translation, for the graph and the command line alike.

What belongs here: the launcher or the attached server that settings describe. What does not: the settings
(`milton_assets.settings`), and how a server is started (`llama_cpp`, `vllm`, `attached`).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from milton_assets.settings import LaunchSettings, ServerSettings
from milton_assets.settings.model import LLAMA_CPP, VLLM
from milton_assets.vocabulary.server import Launcher
from resources.api_keys import key_from
from resources.edge_server import EdgeServer
from resources.hardware import sees_gpu
from resources.servers.attached import AttachedServer
from resources.servers.llama_cpp import LlamaCppLauncher
from resources.servers.vllm import VLLMLauncher


def llama_cpp_launcher(given: LaunchSettings) -> LlamaCppLauncher:
    """llama.cpp as `given` says; what it leaves open is the launcher's default."""
    return LlamaCppLauncher(
        binary=given.binary,
        # With a GPU a `llama-server` on PATH is one that its owner put there for it.
        prefer_binary=sees_gpu() if given.prefer_binary is None else given.prefer_binary,
        gpu_layers=given.gpu_layers,
        threads=given.threads,
        extra=given.extra_args,
        env=dict(given.env),
        log_dir=given.log_dir,
        memory_limit_bytes=_bytes(given.memory_limit_gb),
        **_given(slots=given.slots, context_tokens=given.context_tokens, start_deadline_s=given.start_deadline_s),
    )


def vllm_launcher(given: LaunchSettings, *, allow_code: Iterable[str] = ()) -> VLLMLauncher:
    """vLLM as `given` says; what it leaves open is the launcher's default. `allow_code`: models that may run code."""
    return VLLMLauncher(
        interpreter=given.vllm_python,
        allow_code=frozenset(allow_code),
        context_tokens=given.context_tokens,
        extra=given.extra_args,
        env=dict(given.env),
        log_dir=given.log_dir,
        memory_limit_bytes=_bytes(given.memory_limit_gb),
        **_given(slots=given.slots, start_deadline_s=given.start_deadline_s),
    )


def attached_server(
    address: str,
    *,
    slots: int | None = None,
    key_env: str | None = None,
    path: str | None = None,
    ca_file: Path | None = None,
) -> AttachedServer:
    """The server at `address`. Raises `BadInput` when the variable that is to hold its key is empty."""
    return AttachedServer(
        address,
        api_key=key_from(key_env),
        slots=slots or VLLMLauncher.slots,
        path_there=Path(path) if path else None,
        ca_file=ca_file,
    )


def model_server(given: ServerSettings) -> Launcher:
    """The server that candidates are measured on. Raises `BadInput` when its key's variable is empty."""
    if given.address:
        return attached_server(
            given.address, slots=given.slots, key_env=given.key_env, path=given.path, ca_file=given.ca_file
        )
    return vllm_launcher(given) if given.which == VLLM else llama_cpp_launcher(given)


def edge_server(given: LaunchSettings, program: str) -> EdgeServer:
    """The server of edge targets: `given` is how `program` serves; releases of the other kind get its defaults."""
    bare = LaunchSettings(vllm_python=given.vllm_python)
    return EdgeServer(
        file=llama_cpp_launcher(given if program == LLAMA_CPP else bare),
        directory=vllm_launcher(given if program == VLLM else bare),
        program=program,
    )


def _bytes(gigabytes: float | None) -> int | None:
    return None if gigabytes is None else int(gigabytes * 1e9)


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
