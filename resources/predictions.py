"""What models expected at the places of texts, kept as evidence: a reference is asked once, not for every candidate.

    kept = KeptExpectations(store, key, opened=lambda: serving_the_reference())
    kept.forced(text, first=4, places=30, top=100)         # opens it only for what is not kept

What belongs here: a `TeacherForcing` around another, and its files. What does not: HTTP, and who is a reference.

A file `expectations/KEY.json` of the evidence store holds one text's answer. KEY is the SHA-256 of everything that the
answer depends on: the weights' digest, the server with its build, flags and environment (`answer_cache.CacheKey`), the
text, and what was asked about it. A chat template is no part of it, for tokens are sent as they are. The file holds its
own digest; one that is damaged is not believed, and written anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from milton_assets.vocabulary.digest import canonical_json, sha256_json
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.fingerprint import ServerFingerprint
from milton_assets.vocabulary.forcing import Expectation, Forced, TeacherForcing
from resources.answer_cache import CacheKey
from resources.evidence_store import EvidenceStore

FORMAT: Final = 1
FOLDER: Final = "expectations"
_OF_THE_CHAT: Final = {"quantization": None, "chat_template_sha256": None, "context_tokens": None}
"""What a fingerprint tells of the served model and not of the server; the context's size is among its flags."""


def key_of(artefact_sha256: str, server: ServerFingerprint, environment: Mapping[str, str]) -> CacheKey | None:
    """The key of those weights on a server like `server`, which may serve others; None where nothing may be kept."""
    return CacheKey.of(artefact_sha256, server.model_copy(update=_OF_THE_CHAT), environment)


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    tokens: tuple[int, ...]
    first: int
    places: tuple[tuple[float, tuple[tuple[int, float], ...]] | None, ...]
    sha256: str

    @classmethod
    def of(cls, forced: Forced) -> Self:
        content = {
            "format": FORMAT,
            "tokens": list(forced.tokens),
            "first": forced.first,
            "places": [
                None if one is None else [one.logprob, [list(each) for each in one.top]] for one in forced.places
            ],
        }
        return cls.model_validate(content | {"sha256": sha256_json(content)})

    def is_whole(self) -> bool:
        return self.format == FORMAT and self.sha256 == sha256_json(self.model_dump(mode="json", exclude={"sha256"}))

    def forced(self) -> Forced:
        read = self.tokens[self.first : self.first + len(self.places)]
        places = tuple(
            None if place is None else Expectation(token, *place)
            for token, place in zip(read, self.places, strict=True)
        )
        return Forced(self.tokens, self.first, places)


class KeptExpectations:
    """A `TeacherForcing` that asks only what was not asked before, and opens whom it asks only then.

    `recalls` is whether kept answers are believed; new ones are kept in any case. For one thread at a time; used as a
    context manager, it closes what it opened.
    """

    def __init__(
        self,
        store: EvidenceStore,
        key: CacheKey,
        opened: Callable[[], AbstractContextManager[TeacherForcing]],
        *,
        recalls: bool = True,
    ) -> None:
        self._store, self._key, self._opened, self._recalls = store, key, opened, recalls
        self._stack = ExitStack()
        self._inner: TeacherForcing | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inner = None
        self._stack.close()

    def forced(self, text: str, *, first: int, places: int, top: int) -> Forced:
        """As it is kept, or as it is asked now. Raises as whom it asks."""
        asked = {"text": text, "first": first, "places": places, "top": top}
        digest = sha256_json({"format": FORMAT, "key": self._key.model_dump(mode="json"), **asked})
        uri = f"{FOLDER}/{digest}.json"
        if self._recalls and (known := self._read(uri)) is not None:
            return known
        if self._inner is None:
            self._inner = self._stack.enter_context(self._opened())
        forced = self._inner.forced(text, first=first, places=places, top=top)
        self._store.keep(uri, canonical_json(_Kept.of(forced).model_dump(mode="json")).encode())
        return forced

    def _read(self, uri: str) -> Forced | None:
        sha256 = self._store.digest(uri)
        if sha256 is None:
            return None
        try:
            kept = _Kept.model_validate_json(self._store.read_bytes(uri, sha256))
            return kept.forced() if kept.is_whole() else None
        except (ValidationError, BadInput, ValueError):
            return None
