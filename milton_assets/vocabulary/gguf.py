"""What a GGUF file says about itself: its header, the types of its tensors, and whether it is a model.

What belongs here: the header as a noun, and what is told by it. What does not: reading one from bytes (`gguf_reader`),
tensor data, quantising, and loading a model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import Final

from milton_assets.vocabulary.digest import sha256_json
from milton_assets.vocabulary.errors import BadInput

ARRAY_HEAD: Final = 64
"""Arrays up to this length are kept whole; of longer ones, this many elements."""


@dataclass(frozen=True)
class TensorType:
    """A ggml tensor type: `block_elements` elements are stored in `block_bytes` bytes."""

    name: str
    block_elements: int
    block_bytes: int


TENSOR_TYPES: Final[Mapping[int, TensorType]] = MappingProxyType(
    {
        0: TensorType("F32", 1, 4),
        1: TensorType("F16", 1, 2),
        2: TensorType("Q4_0", 32, 18),
        3: TensorType("Q4_1", 32, 20),
        6: TensorType("Q5_0", 32, 22),
        7: TensorType("Q5_1", 32, 24),
        8: TensorType("Q8_0", 32, 34),
        9: TensorType("Q8_1", 32, 36),
        10: TensorType("Q2_K", 256, 84),
        11: TensorType("Q3_K", 256, 110),
        12: TensorType("Q4_K", 256, 144),
        13: TensorType("Q5_K", 256, 176),
        14: TensorType("Q6_K", 256, 210),
        15: TensorType("Q8_K", 256, 292),
        16: TensorType("IQ2_XXS", 256, 66),
        17: TensorType("IQ2_XS", 256, 74),
        18: TensorType("IQ3_XXS", 256, 98),
        19: TensorType("IQ1_S", 256, 50),
        20: TensorType("IQ4_NL", 32, 18),
        21: TensorType("IQ3_S", 256, 110),
        22: TensorType("IQ2_S", 256, 82),
        23: TensorType("IQ4_XS", 256, 136),
        24: TensorType("I8", 1, 1),
        25: TensorType("I16", 1, 2),
        26: TensorType("I32", 1, 4),
        27: TensorType("I64", 1, 8),
        28: TensorType("F64", 1, 8),
        29: TensorType("IQ1_M", 256, 56),
        30: TensorType("BF16", 1, 2),
        34: TensorType("TQ1_0", 256, 54),
        35: TensorType("TQ2_0", 256, 66),
        39: TensorType("MXFP4", 32, 17),
        40: TensorType("NVFP4", 64, 36),
        41: TensorType("Q1_0", 128, 18),
    }
)

FILE_TYPES: Final[Mapping[int, str]] = MappingProxyType(
    {
        0: "F32",
        1: "F16",
        2: "Q4_0",
        3: "Q4_1",
        7: "Q8_0",
        8: "Q5_0",
        9: "Q5_1",
        10: "Q2_K",
        11: "Q3_K_S",
        12: "Q3_K_M",
        13: "Q3_K_L",
        14: "Q4_K_S",
        15: "Q4_K_M",
        16: "Q5_K_S",
        17: "Q5_K_M",
        18: "Q6_K",
        19: "IQ2_XXS",
        20: "IQ2_XS",
        21: "Q2_K_S",
        22: "IQ3_XS",
        23: "IQ3_XXS",
        24: "IQ1_S",
        25: "IQ4_NL",
        26: "IQ3_S",
        27: "IQ3_M",
        28: "IQ2_S",
        29: "IQ2_M",
        30: "IQ4_XS",
        31: "IQ1_M",
        32: "BF16",
        36: "TQ1_0",
        37: "TQ2_0",
        38: "MXFP4_MOE",
        39: "NVFP4",
        40: "Q1_0",
    }
)
"""`general.file_type` as llama.cpp numbers it (`llama_ftype`), without its `MOSTLY_`."""


Scalar = bool | int | float | str


@dataclass(frozen=True)
class GgufArray:
    """A metadata array: all of it when `len(head) == length`, otherwise its first `ARRAY_HEAD` elements.

    Elements of a string array that are no UTF-8 (byte-level tokens) are shown with backslash escapes.
    """

    element_type: str
    length: int
    head: tuple[Scalar, ...]


MetadataValue = Scalar | GgufArray


@dataclass(frozen=True)
class GgufTensor:
    """One row of the tensor table. `dims` has the fastest-varying first; `offset` counts from `data_start`."""

    name: str
    dims: tuple[int, ...]
    type: str
    offset: int
    size_bytes: int


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says about itself. Tensor data begins `data_start` bytes into the file."""

    version: int
    metadata: Mapping[str, MetadataValue]
    tensors: tuple[GgufTensor, ...]
    alignment: int
    data_start: int
    file_size_bytes: int

    @property
    def architecture(self) -> str | None:
        """`general.architecture`, e.g. `llama`."""
        return self._text("general.architecture")

    @property
    def base_model(self) -> str | None:
        """What the model was made from (`general.base_model.0.…`), else its own `general.name`."""
        told = (self._text(f"general.base_model.0.{key}") for key in ("repo_url", "name"))
        found = next(filter(None, told), None) or self._text("general.name")
        return found.removeprefix("https://huggingface.co/") if found else None

    @property
    def chat_template(self) -> str | None:
        """`tokenizer.chat_template`, the Jinja text."""
        return self._text("tokenizer.chat_template")

    @property
    def tokenizer_sha256(self) -> str | None:
        """A digest of how it reads text: the tokenizer's kind, how many tokens it has and the first of them.

        None without a vocabulary. Equal for quantisations and fine-tunes of one model.
        """
        tokens = self.metadata.get("tokenizer.ggml.tokens")
        if not isinstance(tokens, GgufArray) or not tokens.length:
            return None
        kind = [self._text(f"tokenizer.ggml.{name}") for name in ("model", "pre")]
        return sha256_json([*kind, tokens.length, list(tokens.head)])

    @property
    def split_count(self) -> int:
        """Of how many files the model consists (`split.count`); 1 when it was not split."""
        return max(self._number("split.count"), 1)

    @property
    def split_number(self) -> int:
        """Which of these files this is (`split.no`), counted from 0."""
        return self._number("split.no")

    @property
    def parameters(self) -> int:
        """How many weights the tensors hold."""
        return sum(prod(tensor.dims) for tensor in self.tensors)

    @property
    def dominant_tensor_type(self) -> str | None:
        """The tensor type that most of the bytes are in; None without tensors."""
        size_by_type: Counter[str] = Counter()
        for tensor in self.tensors:
            size_by_type[tensor.type] += tensor.size_bytes
        return min(size_by_type, key=lambda name: (-size_by_type[name], name)) if size_by_type else None

    @property
    def quantization(self) -> str | None:
        """The label the file declares (`general.file_type`), else the dominant tensor type, e.g. `Q4_K_M`."""
        declared = self.metadata.get("general.file_type")
        if isinstance(declared, int) and declared in FILE_TYPES:
            return FILE_TYPES[declared]
        return self.dominant_tensor_type

    def _text(self, key: str) -> str | None:
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None

    def _number(self, key: str) -> int:
        value = self.metadata.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else 0


def check_model(path: object, header: GgufHeader) -> None:
    """Raise `BadInput` unless that is the header of a language model's weights, whole or the first part.

    An adapter, a projector (mmproj), an importance matrix or a mere vocabulary is a GGUF too, and no model.
    """
    kind = header.metadata.get("general.type", "model")
    if header.architecture == "clip" and kind == "model":
        kind = "mmproj"
    if any(key.startswith("adapter.") for key in header.metadata) and kind == "model":
        kind = "adapter"
    if kind != "model":
        raise BadInput(
            f"{path} is a GGUF of the type {kind!r:.100}",
            expected="a language model's weights (general.type 'model', or none)",
            remedy=_INSTEAD.get(str(kind), "register the model that it was made for"),
        )
    if not header.tensors and header.split_count == 1:
        raise BadInput(f"{path} holds no tensors", expected="a GGUF with weights", remedy="convert the model again")


_INSTEAD: Final = {
    "adapter": "merge the adapter into its base (`llama-export-lora`), and register the result",
    "mmproj": "register the language model that the projector belongs to",
    "imatrix": "quantise the model with it (`llama-quantize --imatrix`), and register the result",
}
