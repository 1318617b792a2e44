"""vLLM: `root` in its list of models is the path it loaded, `/version` its build.

What belongs here: reading its pages. What does not: starting it (`resources.servers.vllm`). It tells neither its
quantisation nor its chat template nor how many sequences it runs at once. Source: vLLM 0.32,
`vllm/entrypoints/openai`.
"""

from __future__ import annotations

from resources.servers.dialect import About, Ask, Dialect, text
from resources.servers.wire import ServedModel


def _describe(ask: Ask, model: ServedModel) -> About:
    return About(build=text(ask.get("/version"), "version"), model_path=model.root, context_tokens=model.max_model_len)


DIALECT = Dialect("vllm", "vllm", describe=_describe)
