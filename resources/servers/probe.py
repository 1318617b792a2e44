"""Who answers at an address: the served model and the server's fingerprint, from its own pages.

What belongs here: finding the model in the server's list, and making the fingerprint from what its dialect tells. What
does not: comparing it with what it should be (`identity`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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


def probe(
    base_url: str,
    model: str,
    api_key: str | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    ca_file: Path | None = None,
    *,
    patience_s: float | None = None,
) -> Probed:
    """Ask the server about `model`; one that is loading it is waited for, so long as `patience_s` (`timeout_s`).

    A server that switches between models is had to load it first: what it tells is then of this one, and nobody's first
    request is timed with the loading in it.

    Raises `ServerFailed` when it does not answer, is no OpenAI-compatible server, or does not serve that model.
    """
    with asking(base_url, api_key, timeout_s, ca_file, patience_s=patience_s) as ask:
        listed = _listed(ask)
        for found in listed.models:
            dialect = dialect_of(found)
            if dialect.same_model(model, found.id) or model in (found.aliases or ()):
                if dialect.switches(found):
                    with asking(base_url, api_key, max(timeout_s, patience_s or 0.0), ca_file) as patiently:
                        patiently.load(found.id)
                return Probed(found, dialect.name, dialect.describe(ask, found))
    names = [found.id for found in listed.models]
    more = f" and {len(names) - _LISTED_NAMES} more" if len(names) > _LISTED_NAMES else ""
    raise ServerFailed(
        f"the server at {base_url} serves {names[:_LISTED_NAMES]}{more}{listed.told_of_odd_lines()}",
        expected=f"a model named {model!r}",
        remedy="start the server with that model under that name, or name one that it serves",
    )


@dataclass(frozen=True)
class _Listed:
    """The lines of a server's list that hold, and what is wrong with the others."""

    models: tuple[ServedModel, ...]
    odd: tuple[str, ...]

    def told_of_odd_lines(self) -> str:
        """What to add to an error about a model that was not found."""
        return f"; {len(self.odd)} of its lines do not hold, first: {self.odd[0]}" if self.odd else ""


def _listed(ask: Ask) -> _Listed:
    page = ask.needed("/v1/models")
    models, odd = [], []
    try:
        lines = ServedModels.model_validate(page).data or ()
        for number, line in enumerate(lines):
            try:
                models.append(ServedModel.model_validate(line))
            except ValidationError as error:
                first = error.errors()[0]
                odd.append(f"data.{number}.{'.'.join(map(str, first['loc']))}: {first['msg']}")
    except ValidationError as error:
        raise _no_list(ask, error.errors()[0]["msg"]) from error
    if odd and not models:
        raise _no_list(ask, odd[0])
    return _Listed(tuple(models), tuple(odd))


def _no_list(ask: Ask, why: str) -> ServerFailed:
    return ServerFailed(
        f"{ask.base_url}/v1/models gave no list of models: {why}",
        expected="an OpenAI-compatible server",
        remedy="check the address; it is the server's root",
    )
