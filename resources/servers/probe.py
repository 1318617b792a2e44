"""Who answers at an address: the served model and the server's fingerprint, from its own pages.

What belongs here: finding the model in the server's list, and making the fingerprint from what its dialect tells. What
does not: comparing it with what it should be (`identity`).
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.errors import ServerFailed
from milton_assets.vocabulary.fingerprint import ServerFingerprint
from resources.servers.dialect import DEFAULT_TIMEOUT_S, About, Ask, asking, dialect_of
from resources.servers.wire import ServedModel, ServedModels

_LISTED_NAMES = 10


@dataclass(frozen=True)
class Probed:
    """What a server tells: the model as it lists it, the server's kind, and what its other pages say."""

    model: ServedModel
    server: str
    about: About

    def fingerprint(
        self,
        *,
        launched_by_us: bool = False,
        flags: tuple[str, ...] = (),
        name: str | None = None,
        slots: int | None = None,
    ) -> ServerFingerprint:
        """The fingerprint; `slots` is what a launcher knows where the server does not tell."""
        template = self.about.chat_template
        return ServerFingerprint(
            name=name or self.server,
            build=self.about.build,
            launched_by_us=launched_by_us,
            flags=flags,
            model_path=self.about.model_path,
            quantization=self.about.quantization,
            chat_template_sha256=sha256_bytes(template.encode()) if template else None,
            context_tokens=self.about.context_tokens,
            slots=self.about.slots or slots,
        )


def probe(base_url: str, model: str, api_key: str | None = None, timeout_s: float = DEFAULT_TIMEOUT_S) -> Probed:
    """Ask the server about `model`.

    Raises `ServerFailed` when it does not answer, is no OpenAI-compatible server, or does not serve that model.
    """
    with asking(base_url, api_key, timeout_s) as ask:
        listed = _listed(ask)
        for found in listed:
            dialect = dialect_of(found)
            if dialect.same_model(model, found.id) or model in (found.aliases or ()):
                return Probed(found, dialect.name, dialect.describe(ask, found))
    names = [found.id for found in listed]
    more = f" and {len(names) - _LISTED_NAMES} more" if len(names) > _LISTED_NAMES else ""
    raise ServerFailed(
        f"the server at {base_url} serves {names[:_LISTED_NAMES]}{more}",
        expected=f"a model named {model!r}",
        remedy="start the server with that model under that name, or name one that it serves",
    )


def _listed(ask: Ask) -> tuple[ServedModel, ...]:
    page = ask.get("/v1/models")
    try:
        return ServedModels.model_validate(page).data
    except ValidationError as error:
        raise ServerFailed(
            f"{ask.base_url}/v1/models gave no list of models: {error.errors()[0]['msg']}",
            expected="an OpenAI-compatible server",
            remedy="check the address; it is the server's root, without /v1",
        ) from error
