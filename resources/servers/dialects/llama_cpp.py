"""llama.cpp: `/props` tells the path, the quantisation, the chat template and the slots.

What belongs here: reading `/props`. What does not: starting the server (`resources.servers.llama_cpp`). Source:
llama.cpp, `tools/server/README.md`, and its answers as xllamacpp 2026.10 gave them.
"""

from __future__ import annotations

from resources.servers.dialect import About, Ask, Dialect, number, text
from resources.servers.wire import ServedModel


def _describe(ask: Ask, _: ServedModel) -> About:
    props = ask.get("/props")
    return About(
        build=text(props, "build_info"),
        model_path=text(props, "model_path"),
        quantization=text(props, "model_ftype"),
        chat_template=text(props, "chat_template"),
        context_tokens=number(props, "default_generation_settings", "n_ctx"),
        slots=number(props, "total_slots"),
    )


DIALECT = Dialect("llama.cpp", "llamacpp", describe=_describe)
