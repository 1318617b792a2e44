"""Answers kept by content, so that asking an unchanged model the same thing again costs no generation.

    key = CacheKey(artefact_sha256=..., server="llama.cpp", server_build="...", settings=("--ctx-size", "8192"))
    model = CachedChatModel(OpenAIChatModel(endpoint), folder, key)

What belongs here: a `ChatModel` around another, and its files. What does not: deciding which tiers use it, HTTP,
Dagster. Figures of time must never be taken through it: an answer from the cache carries the time that it took when
it was first given (`Completion.elapsed_s`), which is right for a report and useless for a benchmark of speed.

An entry is a file named by the SHA-256 of everything that may change the answer: the artefact's digest, the server
with its build and settings, the messages, the sampling, what was asked about logprobs and the schema. Only whole
answers of deterministic sampling (temperature 0) are kept; a failed call never is. An entry that cannot be read, or
whose content is not what its digest says, is counted as damaged, and the model is asked again.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from milton_assets.vocabulary.chat import AS_IT_IS, FOLDED, ChatModel, Completion, Message, Sampling, TokenLogprob
from milton_assets.vocabulary.digest import Sha256, sha256_json
from milton_assets.vocabulary.files import write_atomic
from milton_assets.vocabulary.fingerprint import ServerFingerprint

FORMAT = 4
"""Answers of version 4 go on from an opening (`servers.openings`); entries of another version are not found."""
_CHANGES_ANSWERS = ("CUBLAS_", "CUDA_", "GGML_", "LLAMA_", "OMP_", "NVIDIA_", "PYTORCH_", "TORCH_", "VLLM_")
"""Beginnings of the environment variables that servers read; their digest is part of the key."""
_WHOLE = frozenset({"stop", "length"})


class CacheKey(BaseModel):
    """What, besides the question, an answer depends on. All of it must be known: unknown weights have no cache."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    artefact_sha256: Sha256
    server: str
    server_build: str
    settings: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, artefact_sha256: str, server: ServerFingerprint, environment: Mapping[str, str] | None = None
    ) -> CacheKey | None:
        """The key for an artefact on a server that we launched in `environment`; None when nothing may be kept.

        That is when the server's build is unknown; when somebody else launched it, for it may have loaded other
        weights and does not tell its flags; and when a flag adds an adapter, whose weights no digest covers.
        """
        if server.build is None or not server.launched_by_us or any("lora" in flag for flag in server.flags):
            return None
        launch = {name: value for name, value in (environment or {}).items() if name.startswith(_CHANGES_ANSWERS)}
        known = {
            "quantization": server.quantization,
            "context-tokens": server.context_tokens,
            "chat-template": server.chat_template_sha256,
            "offload": server.offload.how() if server.offload else None,
            "environment": sha256_json(launch) if launch else None,
        }
        return cls(
            artefact_sha256=artefact_sha256,
            server=server.name,
            server_build=server.build,
            settings=(*server.flags, *(f"{name} {value}" for name, value in known.items() if value is not None)),
        )


@dataclass(frozen=True)
class CacheCounts:
    """What the cache did: answers found, asked for and kept, damaged, and calls it kept out of."""

    hits: int
    misses: int
    damaged: int
    bypassed: int


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    text: str
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    first_token_alternatives: tuple[tuple[str, float], ...]
    elapsed_s: float
    system_folded: bool
    sha256: str

    @classmethod
    def of(cls, completion: Completion, elapsed_s: float) -> _Entry:
        content = {
            "format": FORMAT,
            "text": completion.text,
            "finish_reason": completion.finish_reason,
            "prompt_tokens": completion.prompt_tokens,
            "completion_tokens": completion.completion_tokens,
            "first_token_alternatives": [(a.token, a.logprob) for a in completion.first_token_alternatives],
            "elapsed_s": elapsed_s,
            "system_folded": completion.system_folded,
        }
        return cls.model_validate(content | {"sha256": sha256_json(content)})

    def is_whole(self) -> bool:
        return self.format == FORMAT and self.sha256 == sha256_json(self.model_dump(mode="json", exclude={"sha256"}))

    def completion(self) -> Completion:
        return Completion(
            self.text,
            self.finish_reason,
            self.prompt_tokens,
            self.completion_tokens,
            tuple(TokenLogprob(token, logprob) for token, logprob in self.first_token_alternatives),
            self.elapsed_s,
            self.system_folded,
        )


class CachedChatModel:
    """A `ChatModel` that asks `inner` only what it has not been asked before. May be called from several threads.

    Two threads that ask the same unknown thing at once both ask the model; the answers are the same file.
    """

    def __init__(self, inner: ChatModel, folder: Path, key: CacheKey) -> None:
        self._inner = inner
        self._folder = folder
        self._key = key
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._system_folded = False

    def counts(self) -> CacheCounts:
        """What happened so far."""
        with self._lock:
            return CacheCounts(**{name: self._counts[name] for name in ("hits", "misses", "damaged", "bypassed")})

    @property
    def system_role(self) -> str:
        """How system turns were sent, of the answers from the cache as of the new ones."""
        return FOLDED if self._system_folded else AS_IT_IS

    def provenance(self) -> dict[str, Any]:
        """The key and the counts, for a result's provenance."""
        return {"key": self._key.model_dump(mode="json"), **asdict(self.counts())}

    def complete(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        *,
        top_logprobs: int = 0,
        json_schema: Mapping[str, Any] | None = None,
    ) -> Completion:
        """Answer from the cache, or ask `inner` and keep what it said. Raises `ModelCallFailed` as `inner` does."""
        if sampling.temperature != 0.0:
            self._count("bypassed")
            completion = self._inner.complete(messages, sampling, top_logprobs=top_logprobs, json_schema=json_schema)
            self._system_folded |= completion.system_folded
            return completion
        path = self._path(messages, sampling, top_logprobs, json_schema)
        if (known := self._read(path)) is not None:
            self._count("hits")
            self._system_folded |= known.system_folded
            return known
        self._count("misses")
        started = time.perf_counter()
        completion = self._inner.complete(messages, sampling, top_logprobs=top_logprobs, json_schema=json_schema)
        self._system_folded |= completion.system_folded
        elapsed_s = time.perf_counter() - started if completion.elapsed_s is None else completion.elapsed_s
        if not _may_be_kept(completion):
            return completion
        entry = _Entry.of(completion, elapsed_s)
        write_atomic(path, entry.model_dump_json())
        return entry.completion()

    def _path(
        self, messages: Sequence[Message], sampling: Sampling, top_logprobs: int, schema: Mapping[str, Any] | None
    ) -> Path:
        digest = sha256_json(
            {
                "format": FORMAT,
                "key": self._key.model_dump(mode="json"),
                "messages": [[message.role, message.content] for message in messages],
                "sampling": asdict(sampling),
                "top_logprobs": top_logprobs,
                "json_schema": None if schema is None else dict(schema),
            }
        )
        return self._folder / digest[:2] / f"{digest}.json"

    def _read(self, path: Path) -> Completion | None:
        try:
            entry = _Entry.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError):
            self._count("damaged")
            return None
        if not entry.is_whole():
            self._count("damaged")
            return None
        return entry.completion()

    def _count(self, what: str) -> None:
        with self._lock:
            self._counts[what] += 1


def _may_be_kept(completion: Completion) -> bool:
    """Whether the answer is whole and a file can hold it: JSON knows neither lone surrogates nor infinity."""
    try:
        completion.text.encode()
    except UnicodeEncodeError:
        return False
    finite = all(math.isfinite(alternative.logprob) for alternative in completion.first_token_alternatives)
    return finite and completion.finish_reason in _WHOLE
