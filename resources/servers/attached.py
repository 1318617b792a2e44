"""Attach to a running OpenAI-compatible server by its address, after checking that it is the one meant.

Tokens are counted by us, from the artefact's own tokenizer, where there is one: a server that somebody else runs could
tell any number, on its page for that too.

What belongs here: attaching. What does not: what sets one kind of server apart (`resources.servers.dialects`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from milton_assets.vocabulary.server import Endpoint, RunningServer
from resources.servers.dialect import DEFAULT_TIMEOUT_S
from resources.servers.forcing import teacher_forcing
from resources.servers.identity import identify
from resources.servers.own_tokens import COUNTED_HERE, own_counter
from resources.servers.probe import probe
from resources.servers.tokens import token_counter

ITS_OWN_WORD: Final = "its tokenizer, by the word of a server that somebody else runs, over the text that came"


@dataclass(frozen=True)
class AttachedServer:
    """A server that somebody else runs. We never stop it.

    `base_url` is its root, with or without `/v1`. `slots` is how many requests it is asked at once, where it does not
    tell how many it works on (vLLM, Ollama, TensorRT-LLM). `path_there` is the artefact's path as the *server* sees
    it, when it is mounted elsewhere there. `timeout_s` is how long each of its pages may take, `load_s`
    how long it may be loading the model.
    """

    base_url: str
    api_key: str | None = field(default=None, repr=False)
    slots: int | None = None
    path_there: Path | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S
    ca_file: Path | None = None
    load_s: float = 300.0

    @contextmanager
    def serve(self, artefact: Path, model: str) -> Iterator[RunningServer]:
        """Attach, and check that the server serves `artefact` under the name `model`.

        Raises `ServerFailed` with what was found and expected when it lists no such model, or tells another path.
        """
        with self.attach(model) as served:
            identify(served.fingerprint, self.path_there or artefact)
            yield replace(self.counting_here(served, artefact), artefact_there=self.path_there)

    @contextmanager
    def attach(self, model: str) -> Iterator[RunningServer]:
        """Attach to whatever is served under the name `model`, with no artefact to compare it with."""
        asked = Endpoint(self.base_url, model, api_key=self.api_key, ca_file=self.ca_file)
        found = probe(asked.base_url, model, self.api_key, self.timeout_s, self.ca_file, patience_s=self.load_s)
        slots = found.about.slots or self.slots or 1
        fingerprint = found.fingerprint()
        endpoint = replace(asked, model=found.model.id, slots=slots)
        told = fingerprint.name
        endpoint = replace(
            endpoint,
            count_tokens=token_counter(endpoint, told),
            counted_by=ITS_OWN_WORD,
            forcing=teacher_forcing(endpoint, told),
        )
        yield RunningServer(endpoint, fingerprint)

    def counting_here(self, served: RunningServer, artefact: Path) -> RunningServer:
        """The same server, whose tokens are counted from `artefact` where it lies here and has a tokenizer."""
        if (count := own_counter(artefact)) is None:
            return served
        return replace(served, endpoint=replace(served.endpoint, count_tokens=count, counted_by=COUNTED_HERE))
