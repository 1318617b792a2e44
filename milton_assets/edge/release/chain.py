"""Whether a release's documents say what its manifest says: this file, measured, decided on, with these figures.

What belongs here: the chain from the bundled weights over the registry entry and the evidence to the decision, and the
manifest's copies of what they say. What does not: the bytes of the listed files (`verify`), and whether this machine's
records agree (`usecases.trace`).

The rules, each broken one told:

 1. Entry, evidence and decision are those whose content digests the manifest names.
 2. `artefact_sha256` is the digest of the bundled model file, or of the folder's listing, and the entry has it as its
    artefact of that kind. So what is vouched for is what is in the bundle.
 3. The entry's version and base model are the manifest's; the evidence has that version as a candidate with this entry,
    and measured one of the entry's artefacts.
 4. The evidence names the manifest's run and policy; the decision was taken in that run, on that evidence, under that
    policy, and promotes that version.
 5. The manifest's figures are those that the decision read of its winner, no more, no fewer.

The documents are plain JSON here, not the nouns that wrote them: those bring pandas, which a device need not have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from milton_assets.edge.manifest import (
    DECISION_FILE,
    EVIDENCE_FILE,
    REGISTRY_ENTRY_FILE,
    BundleManifest,
)
from milton_assets.edge.release.report import Problem, ProblemKind
from milton_assets.vocabulary.digest import sha256_bytes, sha256_json, sha256_listing
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.registry import ArtefactKind
from milton_assets.vocabulary.strict_json import parse_json

_UNREADABLE = (BadInput, OSError, LookupError, TypeError, ValueError, AttributeError, RecursionError)
"""What a document of another shape runs into, whoever reads it."""

Read = Callable[[str], bytes]


def bundled_artefact_sha256(manifest: BundleManifest) -> str:
    """The digest that the registry would give the bundled artefact, from the files that the manifest lists."""
    files = manifest.model_files()
    if manifest.artefact_kind is ArtefactKind.GGUF and len(files) == 1:
        return files[0].sha256
    is_gguf = manifest.artefact_kind is ArtefactKind.GGUF
    folder = PurePosixPath(manifest.primary).parent if is_gguf else PurePosixPath(manifest.primary)
    return sha256_listing({str(PurePosixPath(e.path).relative_to(folder)): e.sha256 for e in files})


def measured_artefact_sha256(manifest: BundleManifest, read: Read) -> str:
    """The digest of the artefact that the evidence's figures were measured on. Raises `BadInput`."""
    try:
        candidate = _candidate(_document(EVIDENCE_FILE, read), manifest.model_version)
        return str(candidate["artefact_sha256"])
    except _UNREADABLE as error:
        raise BadInput(f"{EVIDENCE_FILE} does not hold ({type(error).__name__}: {error!s:.200})") from None


def winner_readings(decision: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The winner's readings (tier and metric) that have a value which may be used, in the decision's order."""
    return [
        reading
        for candidate in decision.get("candidates", ())
        if candidate["version"] == decision["winner"]
        for reading in candidate["readings"]
        if reading["metric"]["status"] == "ok" and reading["metric"]["valid"]
    ]


def winner_figures(decision: Mapping[str, Any]) -> dict[str, float]:
    """The winner's metrics by name, as the decision read them; without those that have no value or may not be used."""
    return {reading["metric"]["name"]: reading["metric"]["value"] for reading in winner_readings(decision)}


def chain_problems(manifest: BundleManifest, read: Read) -> Iterator[Problem]:
    """Every broken rule. `read` gives the bytes of a listed file, and raises as `Folder.read` does."""
    yield from _artefact_problems(manifest)
    links = {
        REGISTRY_ENTRY_FILE: (manifest.entry_sha256, _entry_problems),
        EVIDENCE_FILE: (manifest.evidence_sha256, _evidence_problems),
        DECISION_FILE: (manifest.decision_sha256, _decision_problems),
    }
    found: dict[str, Any] = {}
    for name, (digest, check) in links.items():
        try:
            document = found[name] = _listed_document(manifest, name, read)
            content = sha256_json(document["raw"] if name == REGISTRY_ENTRY_FILE else document)
            if content != digest:
                yield _broken(name, f"has the content digest {content}, the manifest names {digest}")
            else:
                yield from (_broken(name, said) for said in check(manifest, document, found))
        except _UNREADABLE as error:
            yield _broken(name, f"does not hold: {error.problem if isinstance(error, BadInput) else _named(error)}")


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error!s:.200}"


def _broken(name: str, detail: str) -> Problem:
    return Problem(ProblemKind.CHAIN, name, detail)


def _document(name: str, read: Read) -> Any:
    return parse_json(read(name), name)


def _listed_document(manifest: BundleManifest, name: str, read: Read) -> Any:
    """The document, from bytes that are those that the manifest lists."""
    listed = next((entry for entry in manifest.files if entry.path == name), None)
    if listed is None:
        raise BadInput("the manifest does not list it", expected="a listed file")
    raw = read(name)
    if sha256_bytes(raw) != listed.sha256:
        raise BadInput(f"it is not the listed file: its SHA-256 is {sha256_bytes(raw)}")
    return parse_json(raw, name)


def _artefact_problems(manifest: BundleManifest) -> Iterator[Problem]:
    try:
        bundled = bundled_artefact_sha256(manifest)
    except BadInput as error:
        yield _broken(manifest.primary, error.problem)
        return
    if bundled != manifest.artefact_sha256:
        yield _broken(
            manifest.primary,
            f"has the artefact digest {bundled}, but the manifest vouches for {manifest.artefact_sha256}",
        )


def _candidate(evidence: Any, version: str) -> Any:
    for candidate in evidence["candidates"]:
        if candidate["model_version"] == version:
            return candidate
    raise BadInput(f"it has no candidate {version}")


def _entry_problems(manifest: BundleManifest, entry: Any, _: Mapping[str, Any]) -> Iterator[str]:
    yield from _other("version", entry["version"], manifest.model_version)
    yield from _other("base model", entry["base_model"], manifest.base_model)
    digests = [a["sha256"] for a in entry["artefacts"] if a["kind"] == manifest.artefact_kind.value]
    yield from _other(f"digests of {manifest.artefact_kind} artefacts", digests, [manifest.artefact_sha256])


def _evidence_problems(manifest: BundleManifest, evidence: Any, found: Mapping[str, Any]) -> Iterator[str]:
    yield from _other("run", evidence["run_id"], manifest.run_id)
    yield from _other("policy", evidence["policy_name"], manifest.policy_name)
    yield from _other("policy's digest", evidence["policy_sha256"], manifest.policy_sha256)
    candidate = _candidate(evidence, manifest.model_version)
    yield from _other("registry entry", candidate["entry_sha256"], manifest.entry_sha256)
    if entry := found.get(REGISTRY_ENTRY_FILE):
        measured = candidate["artefact_sha256"]
        if measured not in [artefact["sha256"] for artefact in entry["artefacts"]]:
            yield f"measured the artefact {measured}, which is none of the registry entry's"


def _decision_problems(manifest: BundleManifest, decision: Any, _: Mapping[str, Any]) -> Iterator[str]:
    yield from _other("run", decision["run_id"], manifest.run_id)
    yield from _other("verdict", decision["verdict"], "promote")
    yield from _other("winner", decision["winner"], manifest.model_version)
    yield from _other("policy's digest", decision["policy_sha256"], manifest.policy_sha256)
    yield from _other("evidence", decision["manifest_sha256"], manifest.evidence_sha256)
    decided = winner_figures(decision)
    for name in sorted(decided.keys() | manifest.figures.keys()):
        yield from _other(f"{name}", decided.get(name), manifest.figures.get(name))


def _other(what: str, found: object, expected: object) -> Iterator[str]:
    if found != expected:
        yield f"has the {what} {found!r:.200}, the manifest says {expected!r:.200}"
