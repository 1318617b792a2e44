"""The environment a figure was taken in. What is absent is said to be absent, never guessed.

What belongs here: the fingerprint's fields, its digest, and naming how two environments differ. What
does not: probing.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

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
    """One GPU, from NVML."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    memory_bytes: int | None
    driver: str | None
    power_limit_w: float | None


class IdentityProof(StrEnum):
    """How it was shown that a server serves the registered artefact, the strongest first."""

    LAUNCHED_FROM_DIGEST = "sha256_before_and_after"
    """We started it from the file whose SHA-256 is the registered one, before and after."""
    TOLD_DIGEST = "sha256_told"
    """It tells the SHA-256 of what it loaded."""
    PATH = "path"
    """It tells the artefact's path."""
    PATH_NAME = "path_name"
    """It tells a relative path with the artefact's last part."""
    NAME_ONLY = "name_only"
    """It lists the model under its version's name, and tells no more."""


class ServerFingerprint(BaseModel):
    """The server that was measured.

    `launched_by_us` says whether its flags are known or merely not told. `slots` is how many requests it works on at
    once, None where it does not tell. `identity` is None when there was no artefact to compare it with.
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
        described = self.model_dump(mode="json")
        if self.server is not None:
            described["server"] = {k: v for k, v in described["server"].items() if k not in _MODEL_OWNED}
        return sha256_json(described)

    def comparable_with(self, other: Fingerprint) -> list[str]:
        """How the environments differ, a sentence each; empty when figures may be compared.

        What belongs to the model itself (its path, quantisation and chat template, how it was identified) is expected
        to differ between candidates and is left out.
        """
        differences = []
        for part in ("host", "host_absent_because", "gpus", "server"):
            mine, theirs = (side.model_dump(mode="json")[part] for side in (self, other))
            if isinstance(mine, dict) and isinstance(theirs, dict):
                differences += [
                    f"{part}.{key}: {mine[key]!r} against {theirs[key]!r}"
                    for key in mine
                    if key not in _MODEL_OWNED and mine[key] != theirs[key]
                ]
            elif mine != theirs:
                differences.append(f"{part}: {mine!r} against {theirs!r}")
        return differences
