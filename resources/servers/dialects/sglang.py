"""SGLang: `root` repeats the served name, so the path is asked of `/model_info`; `/server_info` tells the build.

What belongs here: its pages, under their old names (`/get_model_info`, `/get_server_info`) too. What does not: starting
it. Source: SGLang, `sglang/srt/entrypoints/http_server.py` and `openai/protocol.py`.
"""

from __future__ import annotations

from resources.servers.dialect import About, Ask, Dialect, number, text
from resources.servers.wire import ServedModel


def _describe(ask: Ask, model: ServedModel) -> About:
    of_model = ask.get("/model_info") or ask.get("/get_model_info")
    of_server = ask.get("/server_info") or ask.get("/get_server_info")
    return About(
        build=text(of_server, "version"),
        model_path=text(of_model, "model_path"),
        quantization=text(of_server, "quantization"),
        context_tokens=model.max_model_len,
        slots=number(of_server, "max_running_requests"),
    )


DIALECT = Dialect("sglang", "sglang", describe=_describe)
