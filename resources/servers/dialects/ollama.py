"""Ollama: names carry a tag, `latest` unless given; `/api/show` tells quantisation, template and weights.

What belongs here: its naming and its own pages. What does not: starting it. It has no `/health`, signs its models as
`library`, streams reasoning as `reasoning`, and tells no number of slots (`OLLAMA_NUM_PARALLEL` sets it). The weights'
path stands in the `FROM` line of the model file. Source: Ollama, `docs/api.md` and `docs/openai.md`.
"""

from __future__ import annotations

from resources.servers.dialect import About, Ask, Dialect, number, text
from resources.servers.wire import ServedModel

_FROM = "FROM "


def _tagged(name: str) -> str:
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _describe(ask: Ask, model: ServedModel) -> About:
    shown = ask.post("/api/show", {"model": model.id})
    architecture = text(shown, "model_info", "general.architecture")
    from_lines = [line for line in (text(shown, "modelfile") or "").splitlines() if line.startswith(_FROM)]
    return About(
        build=text(ask.get("/api/version"), "version"),
        model_path=from_lines[0].removeprefix(_FROM).strip() if from_lines else None,
        quantization=text(shown, "details", "quantization_level"),
        chat_template=text(shown, "template"),
        context_tokens=_loaded_context(ask, model) or number(shown, "model_info", f"{architecture}.context_length"),
    )


def _loaded_context(ask: Ask, model: ServedModel) -> int | None:
    """The context the model is loaded with, where it is loaded; it may be less than the model was trained for."""
    loaded = ask.get("/api/ps").get("models")
    for found in loaded if isinstance(loaded, list) else []:
        if isinstance(found, dict) and found.get("model") == model.id:
            return number(found, "context_length")
    return None


DIALECT = Dialect(
    "ollama",
    "library",
    same_model=lambda asked, listed: _tagged(asked) == _tagged(listed),
    describe=_describe,
    switches=lambda _: True,
)
