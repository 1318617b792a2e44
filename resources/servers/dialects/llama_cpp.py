"""llama.cpp: `/props` tells the path, the quantisation, the chat template and the slots.

What belongs here: reading `/props`. What does not: starting the server (`resources.servers.llama_cpp`). Source:
llama.cpp, `tools/server/README.md`, and its answers as xllamacpp 2026.10 gave them.

Started without a model it is a router: its list says of each model whether it is loaded, and `/props?model=NAME` is
that model's.
"""

from __future__ import annotations

from urllib.parse import quote

from resources.servers.dialect import About, Ask, Dialect, number, text
from resources.servers.wire import ServedModel


def _switches(model: ServedModel) -> bool:
    return model.status is not None


def _describe(ask: Ask, model: ServedModel) -> About:
    return about(ask, f"/props?model={quote(model.id, safe='', errors='replace')}" if _switches(model) else "/props")


def about(ask: Ask, page: str) -> About:
    """What a model's `/props`, at that path, tells."""
    props = ask.get(page)
    return About(
        build=text(props, "build_info"),
        model_path=text(props, "model_path"),
        quantization=text(props, "model_ftype"),
        chat_template=text(props, "chat_template"),
        context_tokens=number(props, "default_generation_settings", "n_ctx"),
        slots=number(props, "total_slots"),
    )


DIALECT = Dialect("llama.cpp", "llamacpp", describe=_describe, switches=_switches)
