"""What a Hugging Face model directory says of itself, and whether it is a whole model.

What belongs here: the chat template's digest and the quantisation, read from the directory's JSON; refusing what is
incomplete, and what would run code when it is loaded. What does not: loading weights, and which files there are
(`artefact_files`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

from milton_assets.vocabulary.digest import canonical_json, sha256_bytes
from milton_assets.vocabulary.errors import BadInput

MAX_JSON_BYTES: Final = 64 << 20

LFS_POINTER: Final = b"version https://git-lfs.github.com/spec/v1"
"""How a file starts that Git LFS has not fetched: it names the content and does not hold it."""

TOKENIZER: Final = "tokenizer.json"
"""What says how the model reads text."""

_TEMPLATE: Final = "chat_template.jinja"
_TOKENIZER_CONFIG: Final = "tokenizer_config.json"
TEMPLATE_FILES: Final = (_TEMPLATE, _TOKENIZER_CONFIG)
"""Where the chat template may stand (`chat_template`)."""

_INDEX: Final = ".safetensors.index.json"
_PICKLES: Final = frozenset({".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth"})


def check_no_pointer(path: Path) -> None:
    """Raise `BadInput` when the file is a Git LFS pointer in place of its content."""
    with path.open("rb") as stream:
        check_beginning(path, stream.read(len(LFS_POINTER)))


def check_beginning(path: object, beginning: bytes) -> None:
    """As `check_no_pointer`, of the first bytes of a file that is called `path` wherever it lies."""
    if beginning.startswith(LFS_POINTER):
        raise BadInput(
            f"{path} is a Git LFS pointer and not the file that it names",
            expected="the content",
            remedy="run `git lfs pull` where it was cloned, or fetch the model by another way",
        )


def is_read_whole(name: str) -> bool:
    """Whether judging a directory reads all of its file of that name. Of others it asks how they begin."""
    return PurePosixPath(name).name.endswith(("config.json", _INDEX)) or name in (_TEMPLATE, TOKENIZER)


def check_directory(path: object, files: Mapping[str, Path], *, allow_code: bool = False) -> None:
    """Raise `BadInput` unless `files`, by name those of the directory `path`, are a whole model that runs no code.

    A whole model has a `config.json` and safetensors, every shard that an index names, and nothing half fetched.
    Pickles run code when they are read, and an `auto_map` names Python that is run when the model is loaded;
    `allow_code` accepts both.
    """
    if "config.json" not in files:
        raise BadInput(
            f"{path} is no Hugging Face model directory: it has no config.json",
            expected="a directory with a config.json",
            remedy="give the distilled model's directory, or serve the GGUF with llama.cpp",
        )
    if unfinished := [name for name in files if name.endswith((".incomplete", ".part"))]:
        raise BadInput(
            f"{path} holds {_named(unfinished)}, whose download was not finished",
            remedy="finish the download; then remove what is left of it",
        )
    for file in files.values():
        check_no_pointer(file)
    _check_weights(path, files)
    if not allow_code:
        _check_runs_no_code(path, files)


def runs_remote_code(files: Mapping[str, Path]) -> tuple[str, ...]:
    """The configurations among a directory's files that name Python to be run when it is loaded (`auto_map`)."""
    configurations = (name for name in files if PurePosixPath(name).name.endswith("config.json"))
    return tuple(name for name in configurations if _json(files[name]).get("auto_map"))


def _check_weights(path: object, files: Mapping[str, Path]) -> None:
    weights = {name for name in files if name.endswith(".safetensors")}
    pickles = {name for name in files if PurePosixPath(name).suffix.lower() in _PICKLES}
    for index in (name for name in files if name.endswith(_INDEX)):
        shards = _json(files[index]).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(shard, str) for shard in shards.values()):
            raise BadInput(f"{path}/{index} has no weight_map", remedy="fetch the model again")
        folder = PurePosixPath(index).parent
        if missing := sorted({str(shard) for shard in shards.values() if str(folder / shard) not in weights}):
            raise BadInput(
                f"{path}/{index} names {_named(missing)}, which {'is' if len(missing) == 1 else 'are'} missing",
                expected="every shard of the model",
                remedy="fetch the model again",
            )
    if not weights and not pickles:
        raise BadInput(
            f"{path} holds no weights", expected="*.safetensors beside the config.json", remedy="fetch the model again"
        )


def _check_runs_no_code(path: object, files: Mapping[str, Path]) -> None:
    pickles = [name for name in files if PurePosixPath(name).suffix.lower() in _PICKLES]
    if pickles:
        raise BadInput(
            f"{path} holds {_named(pickles)}: pickles, which may run any code when they are read",
            expected="weights in *.safetensors",
            remedy="convert the weights and remove what only training needs, or name the version in "
            "MILTON_ALLOW_MODEL_CODE if you trust whoever made it",
        )
    if configurations := runs_remote_code(files):
        raise BadInput(
            f"{path} brings code that is run when it is loaded (auto_map in {_named(configurations)})",
            expected="a model of an architecture that the server knows",
            remedy="name the version in MILTON_ALLOW_MODEL_CODE if you trust whoever made it",
        )


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def chat_template(path: Path) -> str | None:
    """The chat template, from `chat_template.jinja` or `tokenizer_config.json`; None when it has none.

    Several under names are their canonical JSON: any of them may be asked for.
    """
    beside = path / _TEMPLATE
    if beside.is_file():
        if beside.stat().st_size > MAX_JSON_BYTES:
            raise BadInput(f"{beside} is too large for a chat template", remedy="export the model again")
        return beside.read_bytes().decode(errors="surrogateescape")
    template = _json(path / _TOKENIZER_CONFIG).get("chat_template")
    if template is None or isinstance(template, str):
        return template
    return canonical_json(template)


def chat_template_sha256(path: Path) -> str | None:
    """SHA-256 of the chat template; None when the directory has none. Raises `BadInput` as its files demand."""
    template = chat_template(path)
    return None if template is None else sha256_bytes(template.encode(errors="surrogateescape"))


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
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ValueError("it is too large")
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is no JSON: {error}", remedy="export the model again") from error
    return found if isinstance(found, dict) else {}
