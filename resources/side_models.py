"""Models that stand beside the one under test: a judge of open answers, a server of embeddings.

What belongs here: where such a model is, a client to it, and what its server tells. What does not: whether a judge may
judge (`milton_assets.usecases.judging`), and what embeddings are compared with
(`milton_assets.tiers.retrieval.baselines`).

Neither is ever given the key of the model under test: each has a key of its own, or none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from milton_assets.settings import SideModelSettings
from milton_assets.vocabulary.fingerprint import ServerFingerprint
from milton_assets.vocabulary.server import Endpoint, RunningServer
from resources.api_keys import key_from
from resources.servers.attached import AttachedServer
from resources.servers.client import DEFAULT_TIMEOUT_S, OpenAIChatModel
from resources.servers.identity import digest_of
from resources.servers.repeatable import repeatable


@dataclass(frozen=True)
class SideModel:
    """A model served at `base_url` under the name `model`."""

    base_url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    timeout_s: float = DEFAULT_TIMEOUT_S

    @contextmanager
    def client(self) -> Iterator[OpenAIChatModel]:
        """A client, without asking the server who it is."""
        with OpenAIChatModel(Endpoint(self.base_url, self.model, api_key=self.api_key), self.timeout_s) as client:
            yield client

    @contextmanager
    def attach(self) -> Iterator[tuple[RunningServer, OpenAIChatModel]]:
        """A client whose answers are repeatable, and who its server says it is. Raises `ServerFailed`."""
        with AttachedServer(self.base_url, self.api_key).attach(self.model) as served:
            asking = repeatable(served.fingerprint)
            with OpenAIChatModel(served.endpoint, self.timeout_s, asking=asking) as client:
                yield served, client


def side_model(given: SideModelSettings | None) -> SideModel | None:
    """The model that the settings name, if any. Raises `BadInput` when the variable of its key is empty."""
    if given is None:
        return None
    return SideModel(Endpoint(given.url, given.model).base_url, given.model, key_from(given.key_env))


def loaded_sha256(server: ServerFingerprint) -> str | None:
    """The digest of the file that the server says it loaded, when that file is on this machine."""
    loaded = server.model_path
    if loaded is None or "\0" in loaded or not Path(loaded).is_absolute() or not Path(loaded).exists():
        return None
    return digest_of(Path(loaded))
