"""llama-swap: starts the server of the model that it is asked for, and passes requests on to it.

What belongs here: where it shows that server's own pages, below `/upstream/NAME`. What does not: those pages. Behind it
is llama.cpp as a rule; of another server nothing but the name is known. Source: llama-swap, `README.md`.
"""

from __future__ import annotations

from urllib.parse import quote

from resources.servers.dialect import About, Ask, Dialect
from resources.servers.dialects.llama_cpp import about
from resources.servers.wire import ServedModel


def _describe(ask: Ask, model: ServedModel) -> About:
    return about(ask, f"/upstream/{quote(model.id, safe='', errors='replace')}/props")


DIALECT = Dialect("llama-swap", "llama-swap", describe=_describe, switches=lambda _: True)
