"""Writing a GGUF again in another quantisation, with gguf-py.

What belongs here: requantising, repeatably. What does not: reading headers (`milton_assets.vocabulary.gguf_reader`).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from milton_assets.vocabulary.digest import sha256_file
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.files import write_atomic
from milton_assets.vocabulary.gguf import FILE_TYPES
from milton_assets.vocabulary.gguf_reader import read_header
from milton_assets.vocabulary.progress import OnProgress, Progress, silent
from resources.staging import publish, stage

if TYPE_CHECKING:
    from gguf import GGUFReader, GGUFWriter, ReaderTensor

QUANTIZATIONS: Final = ("Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0")
"""What gguf-py can write from any model whose rows are multiples of 32."""


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
    with stage(target.parent, target.name) as staging:
        if _was_made(target, quantization, origin):
            on_progress(Progress("requantise", 1, 1, f"reused {target}"))
            return target
        staged = staging / target.name
        _write_requantised(source, staged, quantization, on_progress)
        read_header(staged)
        digest = sha256_file(staged)
        publish(staged, target)
        write_atomic(_origin_note(target), f"{quantization} {origin} {digest}\n")
    return target


def _origin_note(target: Path) -> Path:
    return target.with_name(f".{target.name}.origin")


def _was_made(target: Path, quantization: str, origin: str) -> bool:
    note = _origin_note(target)
    if not (target.is_file() and note.is_file()):
        return False
    return note.read_text().split() == [quantization, origin, sha256_file(target)]


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
