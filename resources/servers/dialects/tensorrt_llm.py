"""TensorRT-LLM (`trtllm-serve`): a model that was loaded from a folder goes by the folder's last name.

What belongs here: its naming and its pages. What does not: starting it. `/health` answers 200 with an empty body;
`/version` tells the build; the path is told nowhere, so the folder's name is all there is to go by. Source:
TensorRT-LLM, `tensorrt_llm/serve/openai_server.py` and `openai_protocol.py`.
"""

from __future__ import annotations

from resources.servers.dialect import About, Ask, Dialect, text
from resources.servers.wire import ServedModel


def _describe(ask: Ask, _: ServedModel) -> About:
    return About(build=text(ask.get("/version"), "version"))


def _same_model(asked: str, listed: str) -> bool:
    return asked == listed or asked.rstrip("/").rpartition("/")[2] == listed


DIALECT = Dialect("tensorrt-llm", "tensorrt_llm", same_model=_same_model, describe=_describe)
