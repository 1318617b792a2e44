"""The environment a figure was taken in. What is absent is said to be absent, never guessed.

What belongs here: the fingerprint's fields, its digest, and naming how two environments differ. What
does not: probing.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from milton_assets.vocabulary.digest import sha256_json


class HostFingerprint(BaseModel):
    """The machine the server runs on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpu_model: str | None
    physical_cores: int | None
    logical_cores: int | None
    ram_bytes: int | None
    kernel: str | None


class GpuFingerprint(BaseModel):
    """One GPU, from NVML. `cuda` is the newest CUDA version that its driver runs, as in `12.8`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    memory_bytes: int | None
    driver: str | None
    power_limit_w: float | None
    cuda: str | None = None


class Offload(BaseModel):
    """What a server put on GPUs, as it said when it started: `layers` of the model's `of_layers`.

    `gpus` are those that hold something of it, each with its number and name. `memory_bytes` is what it allocated on
    them for weights, cache and computing; the driver's own share is not in it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: int = Field(ge=0)
    of_layers: int = Field(ge=0)
    gpus: tuple[str, ...]
    memory_bytes: int = Field(ge=0)

    @model_validator(mode="after")
    def _no_more_than_there_are(self) -> Offload:
        if self.layers > self.of_layers:
            raise ValueError(f"{self.layers} layers of {self.of_layers} are offloaded")
        return self

    def how(self) -> str:
        """How it serves, in words that are the same for models of any size: which share of the layers, and where."""
        share = "no" if self.layers == 0 else "all" if self.layers == self.of_layers else "some"
        return f"{share} layers on GPUs; {', '.join(self.gpus) or 'no GPU'} used"


class IdentityProof(StrEnum):
    """How it was shown that a server serves the registered artefact, the strongest first."""

    LAUNCHED_FROM_DIGEST = "sha256_before_and_after"
    """We started it from the file whose SHA-256, hashed here before and after, is the registered one."""
    TOLD_DIGEST = "sha256_told"
    """It tells the SHA-256 of what it loaded, before and, attached, after; no file of an attached server's was hashed
    here. From here on down, the file here was hashed, and what the server tells leads to it:"""
    PATH = "path"
    """It tells the artefact's path."""
    PATH_NAME = "path_name"
    """It tells a relative path with the artefact's last part."""
    NAME_ONLY = "name_only"
    """It lists the model under its version's name, and tells no more."""


class ServerFingerprint(BaseModel):
    """The server that was measured.

    `launched_by_us` says whether its flags are known or merely not told. `slots` is how many requests it works on at
    once, None where it does not tell. `identity` is None when there was no artefact to compare it with, `offload` where
    the server tells of no GPU.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    build: str | None = None
    launched_by_us: bool = False
    flags: tuple[str, ...] = ()
    model_path: str | None = None
    quantization: str | None = None
    chat_template_sha256: str | None = None
    context_tokens: int | None = None
    slots: int | None = None
    identity: IdentityProof | None = None
    offload: Offload | None = None


_MODEL_OWNED = {"model_path", "quantization", "chat_template_sha256", "identity"}
"""Parts of a server's description that are expected to differ between candidates."""


class Fingerprint(BaseModel):
    """Everything that must agree before two figures may be compared without saying so.

    `host` and `gpus` are the server's machine; they are unknown, and `host_absent_because` says so, when that is not
    the machine which measures.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: HostFingerprint | None
    host_absent_because: str | None = None
    gpus: tuple[GpuFingerprint, ...] = ()
    gpus_absent_because: str | None = None
    server: ServerFingerprint | None = None

    def digest(self) -> str:
        """SHA-256 of the canonical JSON."""
        return sha256_json(self.model_dump(mode="json"))

    def environment_digest(self) -> str:
        """SHA-256 of what two figures must share to be comparable: the digest without what belongs to the model
        itself."""
        return sha256_json(self._shared())

    def _shared(self) -> dict[str, Any]:
        """What two figures must share, as JSON has it: how many layers and bytes are offloaded is the model's."""
        described = self.model_dump(mode="json")
        if self.server is not None:
            described["server"] = {k: v for k, v in described["server"].items() if k not in _MODEL_OWNED}
            described["server"]["offload"] = self.server.offload.how() if self.server.offload else None
        return described

    def comparable_with(self, other: Fingerprint) -> list[str]:
        """How the environments differ, a sentence each; empty when figures may be compared.

        What belongs to the model itself (its path, quantisation and chat template, how it was identified, how many
        layers it has for a GPU) is expected to differ between candidates and is left out.
        """
        differences = []
        here, there = self._shared(), other._shared()
        for part in ("host", "host_absent_because", "gpus", "server"):
            mine, theirs = here[part], there[part]
            if isinstance(mine, dict) and isinstance(theirs, dict):
                differences += [
                    f"{part}.{key}: {mine[key]!r} against {theirs[key]!r}" for key in mine if mine[key] != theirs[key]
                ]
            elif mine != theirs:
                differences.append(f"{part}: {mine!r} against {theirs!r}")
        return differences
