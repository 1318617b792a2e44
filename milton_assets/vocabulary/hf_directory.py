"""What a Hugging Face model directory says of itself.

What belongs here: the chat template's digest and the quantisation, read from the directory's JSON. What does not:
loading weights.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.errors import BadInput

_MAX_JSON_BYTES = 64 << 20


def check_directory(path: Path) -> None:
    """Raise `BadInput` unless `path` is a directory with a `config.json`."""
    if not (path / "config.json").is_file():
        raise BadInput(
            f"{path} is no Hugging Face model directory",
            expected="a directory with a config.json",
            remedy="give the distilled model's directory, or serve the GGUF with llama.cpp",
        )


def chat_template_sha256(path: Path) -> str | None:
    """SHA-256 of the chat template, from `chat_template.jinja` or `tokenizer_config.json`; None when it has none."""
    beside = path / "chat_template.jinja"
    if beside.is_file():
        return sha256_bytes(beside.read_bytes())
    template = _json(path / "tokenizer_config.json").get("chat_template")
    return sha256_bytes(template.encode()) if isinstance(template, str) else None


def quantization(path: Path) -> str | None:
    """The quantisation method from `config.json`, else the weights' type (`bfloat16`, say); None where neither is."""
    config = _json(path / "config.json")
    quantized = config.get("quantization_config")
    method = quantized.get("quant_method") if isinstance(quantized, dict) else None
    found = method or config.get("dtype") or config.get("torch_dtype")
    return found if isinstance(found, str) else None


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise ValueError("it is too large")
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is no JSON: {error}", remedy="export the model again") from error
    return found if isinstance(found, dict) else {}
