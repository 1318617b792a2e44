"""What a device's settings put of a release on its GPU, and whether that can hold it.

    offloading(manifest, runtime, gpus).problem     # a sentence with both figures, or None
    offloading(manifest, runtime, gpus).unknown     # why nobody can say, or None

What belongs here: that arithmetic, on what a manifest and an inventory say. What does not: what a server that runs has
put there (`resources.servers.offload`), and main memory (`capacity`).

What is reckoned is the least: the weights of the layers, without their cache of keys and values and the room to compute
in, against all the memory of all GPUs, whoever uses it now. A release that needs more fits in no way. One that is let
through may still not fit: the load test shows it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from milton_assets.edge.deployment.capacity import in_gib
from milton_assets.edge.manifest import BundleManifest
from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.fingerprint import GpuFingerprint
from milton_assets.vocabulary.inventory import Runtime
from milton_assets.vocabulary.registry import ArtefactKind

FEWER_LAYERS = "set a smaller edge_server.gpu_layers there, or leave it out: llama-server then takes what fits"
_BLOCK = re.compile(r"blk\.(\d+)\.")
_INPUT, _OUTPUT = "token_embd.weight", "output.weight"


class GpuTooSmall(MiltonError):
    """The device's GPUs cannot hold the layers that its settings put there."""


@dataclass(frozen=True)
class Offloading:
    """`problem` is why what is planned cannot fit, `unknown` why nobody can say. Neither where it may fit, or nothing
    is planned."""

    problem: str | None = None
    unknown: str | None = None


def offloading(
    manifest: BundleManifest,
    runtime: Runtime | None,
    gpus: Sequence[GpuFingerprint],
    gpus_absent_because: str | None = None,
) -> Offloading:
    """Whether the layers that the settings of `runtime` put on GPUs fit the memory of `gpus`."""
    layers = runtime.gpu_layers if runtime else None
    if not layers or manifest.artefact_kind is not ArtefactKind.GGUF:
        return Offloading()
    least = least_bytes(manifest, layers)
    untold = [gpu.name for gpu in gpus if gpu.memory_bytes is None]
    why = (
        (gpus_absent_because or "it names no GPU")
        if not gpus
        else f"the memory of {', '.join(untold)} is not told"
        if untold
        else "its bundle lists no tensors"
        if least is None
        else None
    )
    if why is not None or least is None:
        return Offloading(unknown=f"whether {_planned(layers)} fit there is unknown: {why}")
    has = sum(gpu.memory_bytes or 0 for gpu in gpus)
    if least <= has:
        return Offloading()
    names = ", ".join(gpu.name for gpu in gpus)
    return Offloading(
        problem=f"{_planned(layers)} hold {in_gib(least)} of weights, and {names} {_have(gpus)} {in_gib(has)} in all"
    )


def check_offloading(manifest: BundleManifest, runtime: Runtime | None, gpus: Sequence[GpuFingerprint]) -> None:
    """Raise `GpuTooSmall` for a problem. What is unknown is the load test's to show."""
    if problem := offloading(manifest, runtime, gpus).problem:
        raise GpuTooSmall(
            f"the release does not fit this device: {problem}",
            expected="GPUs that hold the weights of the layers they are to have",
            remedy=FEWER_LAYERS,
        )


def least_bytes(manifest: BundleManifest, gpu_layers: int) -> int | None:
    """The bytes of weights that so many layers put on GPUs, at least; None where the manifest lists no blocks.

    llama.cpp takes the last ones. Which count differs by its build: in some the output is the first that is taken, in
    others the last (`i_gpu_start` in `llama-model.cpp`); it is the smaller of the two. The embedding of tokens stays in
    main memory; a model without an output of its own has it there once more. Blocks that predict further tokens
    (`nextn`) may be left out altogether, so they are.
    """
    blocks: dict[int, int] = {}
    unused = set()
    others = {_INPUT: 0, _OUTPUT: 0}
    for tensor in (tensor for table in manifest.tensor_tables for tensor in table.tensors):
        if block := _BLOCK.match(tensor.name):
            number = int(block[1])
            blocks[number] = blocks.get(number, 0) + tensor.size_bytes
            if ".nextn." in tensor.name:
                unused.add(number)
        elif tensor.name in others:
            others[tensor.name] = tensor.size_bytes
    sizes = [size for number, size in sorted(blocks.items()) if number not in unused]
    if not sizes:
        return None
    output = others[_OUTPUT] or others[_INPUT]
    if gpu_layers > len(sizes):
        return sum(sizes) + output
    with_output = output + sum(sizes[len(sizes) + 1 - gpu_layers :])
    return min(with_output, sum(sizes[len(sizes) - gpu_layers :]))


def _planned(layers: int) -> str:
    return f"the layers that its settings put on the GPU (gpu_layers: {layers})"


def _have(gpus: Sequence[GpuFingerprint]) -> str:
    return "has" if len(gpus) == 1 else "have"
