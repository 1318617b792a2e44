"""The settings in words: for `milton config show`, the commented milton.yaml, and the README's table.

What belongs here: writing down what the class says, so that no page can say otherwise. What does not: the class.
"""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from milton_assets.settings.leaves import Leaf, group_of, leaves
from milton_assets.settings.model import Settings
from milton_assets.settings.reading import Reading
from milton_assets.vocabulary.secrets import without_secrets, without_user

_UNWRITTEN = {
    "state_dir": "`$XDG_STATE_HOME/milton`, else `~/.local/state/milton`",
    "cache_dir": "`$XDG_CACHE_HOME/milton`, else `~/.cache/milton`",
    "profile": "`full`; `smoke` while the registry holds only the demo's models",
    "policy": "`seed`; `smoke` likewise",
}
"""Defaults that the class cannot say: they depend on the machine or the registry."""

_EXAMPLES = {
    "ca_file": "/etc/ssl/certs/models.pem",
    "profile": "full",
    "policy": "policies/ours.yaml",
    "targets": "{kit: /srv/kit, pi: {at: 'ssh://pi@kitchen', class: pi5}}",
    "device_classes": "{local: {}, pi5: {reference: pi}}",
    "bundle_expires_days": "30",
    "reasoning_budget_s": "600",
    "slo": "{ttft_ms: 200, tpot_ms: 50}",
    "registry": "/srv/models/registry.json",
    "artefact_roots": "[/srv/models]",
    "allow_model_code": "[v1.20260111.1425]",
    "allowed_templates": f"['{'5d' * 32}']",
    "allowed_contaminated": f"['{'c0' * 32}']",
    "anchors_let_go": f"['{'a0' * 32}']",
    "goldens": "{reasoning: [{path: goldens/ours.json, private: true}]}",
    "evidence_url": "s3://bucket/evidence",
    "queues": "{benchmark_model: gpu-box, promote: gpu-box, kitchen: edge-box}",
    "accelerator_pool": "accelerator-gpu-box",
    "openlineage_url": "http://marquez:5000",
    "cache_dir": "/var/cache/milton",
    "url": "http://127.0.0.1:8081",
    "model": "judge",
    "key_env": "MILTON_API_KEY",
    "path": "/models/v1",
    "binary": "/opt/llama.cpp/bin/llama-server",
    "prefer_binary": "true",
    "gpu_layers": "99",
    "slots": "4",
    "context_tokens": "4096",
    "threads": "8",
    "extra_args": "[--flash-attn, 'on']",
    "env": "{CUDA_VISIBLE_DEVICES: '0'}",
    "vllm_python": "/opt/vllm/bin/python",
    "start_deadline_s": "300",
    "memory_limit_gb": "8",
    "log_dir": "logs",
}
"""What a commented line shows instead of the default, which says nothing of how to write it."""


def shown(reading: Reading) -> list[dict[str, Any]]:
    """Every setting with its value and origin, ready for JSON. No secret is among the values."""
    return [
        {
            "name": leaf.name,
            "value": _safe(leaf, _value(reading.settings, leaf)),
            "from": str(reading.origin(leaf.path)),
            "variable": leaf.variable,
        }
        for leaf in leaves()
    ]


def template() -> str:
    """A milton.yaml in which every setting stands with its description, commented out: as it is, it sets nothing."""
    lines = [
        "# The settings of Milton Autobench for this state folder. Remove the # before what you want to set.",
        "# A variable goes before the line that it stands at; `milton config show` says what holds and why.",
        "# A relative path counts from the folder that this file lies in.",
        "",
    ]
    for name, field in Settings.model_fields.items():
        group = group_of(field)
        if name == "state_dir":
            continue
        if group is None:
            lines += _commented(next(leaf for leaf in leaves() if leaf.path == (name,)), "")
            continue
        lines += [f"# {text}" for text in _wrapped(str(field.description))]
        lines.append(f"{name}:")
        for leaf in leaves():
            if leaf.path[0] == name:
                lines += _commented(leaf, "  ")
    return "\n".join(lines).rstrip() + "\n"


def table() -> str:
    """The settings as a Markdown table: key, variable, default, what."""
    rows = ["| in milton.yaml | variable | by default | what |", "|---|---|---|---|"]
    for leaf in leaves():
        if leaf.path[0] == "edge_server":
            continue
        key = "" if leaf.name == "state_dir" else f"`{leaf.name}`"
        variable = f"`{leaf.variable}`" if leaf.variable else ""
        rows.append(f"| {key} | {variable} | {_default(leaf)} | {_sentence(leaf)} |")
    described = Settings.model_fields["edge_server"].description
    rows.append(f"| `edge_server.…` | `MILTON_EDGE_SERVER_…` | as `server` | {described} |")
    return "\n".join(rows) + "\n"


def _commented(leaf: Leaf, indent: str) -> list[str]:
    told = f"{_sentence(leaf)} [{leaf.variable}]" if leaf.variable else _sentence(leaf)
    written = _written(leaf)
    return [*(f"{indent}# {text}" for text in _wrapped(told)), f"{indent}#{leaf.path[-1]}: {written}", ""]


def _written(leaf: Leaf) -> str:
    if leaf.path[-1] in _EXAMPLES:
        return _EXAMPLES[leaf.path[-1]]
    default = _plain_default(leaf)
    return json.dumps(default) if not isinstance(default, str) else default


def _wrapped(text: str, width: int = 110) -> list[str]:
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + len(word) >= width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return [*lines, line]


def _sentence(leaf: Leaf) -> str:
    return str(leaf.field.description)


def _default(leaf: Leaf) -> str:
    if leaf.name in _UNWRITTEN:
        return _UNWRITTEN[leaf.name]
    default = _plain_default(leaf)
    if default is True or default is False:
        return "`1`" if default else "`0`"
    if default in (None, [], {}):
        return "none"
    return f"`{', '.join(default)}`" if isinstance(default, list) else f"`{default}`"


def _plain_default(leaf: Leaf) -> Any:
    default = leaf.field.get_default(call_default_factory=True, validated_data={})
    return None if default is PydanticUndefined else _plain(default)


def _value(settings: Settings, leaf: Leaf) -> Any:
    value: Any = settings
    for part in leaf.path:
        value = getattr(value, part, None)
    return value


def _safe(leaf: Leaf, value: Any) -> Any:
    plain = _plain(value)
    if leaf.path[-1] == "env":
        return dict.fromkeys(plain, "…")
    if leaf.path[-1] == "extra_args":
        return list(without_secrets(plain))
    return _redacted(plain)


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return without_user(value)
    if isinstance(value, dict):
        return {name: _redacted(below) for name, below in value.items()}
    return [_redacted(below) for below in value] if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if isinstance(value, dict):
        return {name: _plain(below) for name, below in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(below) for below in value]
    if isinstance(value, StrEnum):
        return value.value
    return str(value) if isinstance(value, Path) else value
