"""What llama.cpp's server says of GPUs while it starts: layers offloaded, to which GPUs, and memory taken there.

    offload_told(child.log_lines())                  # Offload(layers=33, of_layers=33, gpus=("CUDA0: …",), …)

What belongs here: reading those lines of its log; its pages tell none of it. What does not: what NVML knows of the GPUs
(`resources.hardware`).

The lines, which may stand after a time and a level:

      Device 0: NVIDIA RTX A6000, compute capability 8.6, VMM: yes
    llama_model_load_from_file_impl: using device CUDA0 (NVIDIA RTX A6000) - 48262 MiB free
    load_tensors: offloaded 62/62 layers to GPU
    load_tensors:        CUDA0 model buffer size = 17284.05 MiB
    llama_kv_cache:      CUDA0 KV buffer size =  1952.00 MiB

Source: llama.cpp, `ggml-cuda.cu`, `llama-model.cpp`, `llama-kv-cache.cpp` and `llama-context.cpp`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from milton_assets.vocabulary.fingerprint import Offload

_DEVICE = re.compile(r"\bDevice (\d+): (.+?), compute capability \d")
_USING = re.compile(r"\busing device ([A-Za-z]+\d+) \((.+?)\)(?: \(.*\))? - \d+ MiB free")
_OFFLOADED = re.compile(r"\boffloaded (\d+)/(\d+) layers to GPU")
_BUFFER = re.compile(r"\s([A-Za-z]+\d+) (?:[A-Za-z]+ )?buffer size\s*=\s*(\d+(?:\.\d+)?) MiB")
"""A buffer of a numbered device, as `CUDA0`; those of the host (`CPU_Mapped`, `CUDA_Host`) have no number."""
_CUDA = "CUDA"
_MIB = 1 << 20


def offload_told(lines: Sequence[str]) -> Offload | None:
    """What the log's last model has on GPUs; None where it tells of no layers, as of a build for the CPU."""
    found = [(at, told) for at, line in enumerate(lines) if (told := _OFFLOADED.search(line))]
    if not found:
        return None
    # A server may load a model more than once, to find what fits: what it serves is what it loaded last.
    at, told = found[-1]
    names = {f"{_CUDA}{device[1]}": device[2] for line in lines if (device := _DEVICE.search(line))}
    names |= {device[1]: device[2] for line in lines if (device := _USING.search(line))}
    buffers = [(buffer[1], float(buffer[2])) for line in lines[at:] if (buffer := _BUFFER.search(line))]
    used = sorted({device for device, mib in buffers if mib > 0})
    return Offload(
        layers=int(told[1]),
        of_layers=int(told[2]),
        gpus=tuple(f"{device}: {names[device]}" if device in names else device for device in used),
        memory_bytes=round(sum(mib for _, mib in buffers) * _MIB),
    )
