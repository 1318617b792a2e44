"""What a bundle says: its documents and its manifest, composed from what was decided and what was placed.

What belongs here: pure functions from entry, evidence, decision and digests to documents. What does not: files and the
order of the steps (`create`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from milton_assets.edge.bundle.attestations import PROVENANCE_FILE, TEST_RESULT_FILE, provenance, test_result
from milton_assets.edge.bundle.placing import Placed
from milton_assets.edge.bundle.sbom import bill_of_materials
from milton_assets.edge.bundle.tensors import tensor_table
from milton_assets.edge.manifest import (
    DECISION_FILE,
    DEFAULT_HEALTH,
    EVIDENCE_FILE,
    REGISTRY_ENTRY_FILE,
    SBOM_FILE,
    SUMMARY_FILE,
    BundleManifest,
    FileEntry,
    HealthContract,
    Requirements,
    TensorTable,
    release_digest,
)
from milton_assets.edge.release.chain import winner_figures, winner_readings
from milton_assets.edge.release.weights import TensorPlace
from milton_assets.vocabulary.chat_template import template_id
from milton_assets.vocabulary.digest import sha256_bytes, sha256_json, short
from milton_assets.vocabulary.entry_paths import told
from milton_assets.vocabulary.errors import BadInput, EvidenceMismatch
from milton_assets.vocabulary.gguf_reader import read_header
from milton_assets.vocabulary.hf_directory import chat_template_sha256
from milton_assets.vocabulary.llama_build import LLAMA_CPP, llama_build
from milton_assets.vocabulary.registry import Artefact, ArtefactKind, RegistryEntry
from milton_assets.vocabulary.state import StateDir

if TYPE_CHECKING:
    from milton_assets.vocabulary.evidence import EvidenceManifest  # brings pandas, which a device need not have

_RAM_OVERHEAD = 1.1
_RAM_BASE_BYTES = 256 << 20


@dataclass(frozen=True)
class Order:
    """What is to be bundled: `entry`'s artefact of that `kind`, and everything that says why.

    `decision` is the decision's JSON (`selection.Decision`), `summary` the run's. `now` is aware. The documents name
    what lies inside `state` relative to it. Raises `BadInput` for a time without a zone.
    """

    entry: RegistryEntry
    kind: ArtefactKind
    decision: Mapping[str, Any]
    summary: Mapping[str, Any]
    evidence: EvidenceManifest
    now: datetime
    state: StateDir | None = None
    health: HealthContract = DEFAULT_HEALTH
    licence: str | None = None
    expires_at: datetime | None = None

    def __post_init__(self) -> None:
        if self.now.tzinfo is None:
            raise BadInput("the time has no zone", expected="an aware datetime")

    @cached_property
    def artefact(self) -> Artefact:
        """What is bundled. Raises `BadInput` when the entry has none of that kind."""
        return self.entry.artefact(self.kind)

    @cached_property
    def figures(self) -> dict[str, float]:
        """The winner's figures, as the decision read them."""
        return winner_figures(self.decision)

    @property
    def kept_entry(self) -> RegistryEntry:
        """The entry as the bundle holds it."""
        return self.entry if self.state is None else told(self.entry, self.state)

    def check(self) -> None:
        """Raise `EvidenceMismatch` unless the decision promotes the entry on this evidence."""
        check_decision(self.entry, self.decision, self.evidence)


@dataclass(frozen=True)
class About:
    """What the weights' own header says of the model. `runtime` is what can load it."""

    runtime: str
    quantization: str | None = None
    chat_template_sha256: str | None = None
    licence: str | None = None
    architecture: str | None = None


@dataclass(frozen=True)
class Weights:
    """The artefact as it was placed: digests and tensor layouts by path in the bundle."""

    primary: str
    placed: Mapping[str, Placed]
    layouts: Mapping[str, tuple[TensorPlace, ...]]
    about: About

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(placed.size_bytes for placed in self.placed.values())

    def entries(self) -> list[FileEntry]:
        """The files as the manifest lists them."""
        return [FileEntry(path=path, size_bytes=p.size_bytes, sha256=p.sha256) for path, p in self.placed.items()]

    def tables(self) -> tuple[TensorTable, ...]:
        """The tensor tables of those files that have tensors."""
        return tuple(tensor_table(path, layout, self.placed[path]) for path, layout in self.layouts.items())


def about_model(primary: Path) -> About:
    """What the placed artefact says of itself; of a folder, what can be read without its libraries."""
    if primary.is_dir():
        return About("vLLM or transformers", chat_template_sha256=chat_template_sha256(primary))
    header = read_header(primary)
    template = header.chat_template
    return About(
        runtime=f"llama.cpp, GGUF version {header.version}, architecture {header.architecture or 'unknown'}",
        quantization=header.quantization,
        chat_template_sha256=None if template is None else sha256_bytes(template.encode()),
        licence=_text(header.metadata.get("general.license")),
        architecture=header.architecture,
    )


def check_decision(entry: RegistryEntry, decision: Mapping[str, Any], evidence: EvidenceManifest) -> None:
    """Raise `EvidenceMismatch` unless the decision promotes `entry` on this evidence, which measured its artefact."""
    expected = {
        "run_id": evidence.run_id,
        "verdict": "promote",
        "winner": entry.version,
        "manifest_sha256": evidence.digest(),
        "policy_sha256": evidence.policy_sha256,
    }
    wrong = [f"{key} is {decision.get(key)!r:.100}" for key, value in expected.items() if decision.get(key) != value]
    if wrong:
        raise EvidenceMismatch(
            f"the decision does not promote {entry.version}: " + ", ".join(wrong),
            expected=", ".join(f"{key} {value!r}" for key, value in expected.items()),
            remedy="bundle the winner of a run that ended in promote (`milton results`)",
        )
    pinned = evidence.candidate(entry.version)
    if pinned.entry_sha256 != entry.entry_sha256:
        raise EvidenceMismatch(
            f"the registry entry of {entry.version} is {short(entry.entry_sha256)}",
            expected=f"{short(pinned.entry_sha256)}, as it was measured",
            remedy="benchmark and decide again",
        )
    measured = next((artefact for artefact in entry.artefacts if artefact.sha256 == pinned.artefact_sha256), None)
    if measured is None:
        raise EvidenceMismatch(
            f"no artefact of {entry.version} is {short(pinned.artefact_sha256)}, which was measured",
            expected="the measured artefact in the registry entry",
            remedy="benchmark and decide again",
        )
    # Where the weights lie elsewhere, it was let through by what their beginning said before anybody had hashed them.
    template, allowed = template_id(measured.chat_template_sha256), pinned.lineage.template
    if pinned.lineage.base_model is not None and template != allowed:
        raise EvidenceMismatch(
            f"the chat template of {entry.version} is {template}",
            expected=f"{allowed}, by which it was decided on",
            remedy="benchmark and decide again",
        )


def documents(order: Order, weights: Weights) -> dict[str, bytes]:
    """The bundle's documents by path, without manifest and sums."""
    files = weights.entries()
    return {
        REGISTRY_ENTRY_FILE: _json(order.kept_entry.model_dump(mode="json"), "the registry entry"),
        SUMMARY_FILE: _json(dict(order.summary), "the summary"),
        EVIDENCE_FILE: _json(order.evidence.model_dump(mode="json"), "the evidence manifest"),
        DECISION_FILE: _json(dict(order.decision), "the decision"),
        TEST_RESULT_FILE: test_result(files, order.artefact, order.evidence, order.decision, order.figures),
        PROVENANCE_FILE: provenance(
            files, order.entry, order.artefact, order.evidence, sha256_json(dict(order.decision)), order.now
        ),
        SBOM_FILE: bill_of_materials(
            files,
            order.entry,
            order.artefact,
            licence=_licence(order, weights.about),
            quantization=weights.about.quantization or order.artefact.quantization,
            architecture=weights.about.architecture,
            readings=winner_readings(order.decision),
            now=order.now,
        ),
    }


def compose_manifest(
    order: Order,
    weights: Weights,
    files: Sequence[FileEntry],
    *,
    name: str,
    counter: int,
    previous_release: str | None,
) -> BundleManifest:
    """The manifest of a bundle that holds `files`."""
    return BundleManifest(
        name=name,
        model_version=order.entry.version,
        run_id=order.evidence.run_id,
        created_at=order.now,
        expires_at=order.expires_at,
        counter=counter,
        release_digest=release_digest(files),
        previous_release=previous_release,
        artefact_kind=order.artefact.kind,
        artefact_sha256=order.artefact.sha256,
        primary=weights.primary,
        files=tuple(sorted(files, key=lambda file: file.path)),
        tensor_tables=weights.tables(),
        base_model=order.entry.base_model,
        licence=_licence(order, weights.about),
        quantization=weights.about.quantization or order.artefact.quantization,
        chat_template_sha256=weights.about.chat_template_sha256,
        requirements=Requirements(
            runtime=weights.about.runtime,
            least_llama_build=least_llama_build(order.evidence, order.entry.version, order.artefact.kind),
            # An estimate: the weights, a tenth more for the context, and what a server needs without a model.
            ram_bytes=int(weights.size_bytes * _RAM_OVERHEAD) + _RAM_BASE_BYTES,
            disk_bytes=sum(file.size_bytes for file in files),
        ),
        health=order.health,
        entry_sha256=order.entry.entry_sha256,
        evidence_sha256=order.evidence.digest(),
        decision_sha256=sha256_json(dict(order.decision)),
        policy_name=order.evidence.policy_name,
        policy_sha256=order.evidence.policy_sha256,
        figures=dict(order.figures),
    )


def least_llama_build(evidence: EvidenceManifest, version: str, kind: ArtefactKind) -> int | None:
    """The build of llama.cpp that the model was measured with, below which nobody has seen it served.

    None where another server measured it, or one that does not tell which build it is.
    """
    measured_in = evidence.candidate(version).fingerprint_sha256
    server = evidence.fingerprints.get(measured_in or "", {}).get("server") or {}
    if kind is not ArtefactKind.GGUF or not str(server.get("name")).startswith(LLAMA_CPP):
        return None
    return llama_build(server.get("build"))


def _licence(order: Order, about: About) -> str | None:
    raw = order.entry.raw
    return order.licence or _text(raw.get("licence")) or _text(raw.get("license")) or about.licence


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _json(value: Any, what: str) -> bytes:
    try:
        return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
    except (TypeError, ValueError) as error:
        raise BadInput(f"{what} cannot be written as JSON: {error!s:.200}", expected="plain JSON values") from None
