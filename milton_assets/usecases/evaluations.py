"""Imported evaluations: another's log, said to be of a registered model, kept as evidence until the next campaign.

    told = import_log(store, spec, "v1", artefact, Path("….eval"))
    imported = imported_log(store, "capitals", NamedWeights("v1", artefact.sha256))

What belongs here: whose model a log tells of, keeping logs in the evidence store, and a tier's result from one. What
does not: formats and figures (`milton_assets.tiers.evaluations`), and measuring here (`measuring`).

A log proves nothing about weights. It tells a model's name, which must be the version's, its file's, or one that the
importer names with it; the table says that it was imported, under which name, and so does the decision. See
docs/adr/0204-an-evaluation-of-others-is-a-tier.md.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from milton_assets.tiers.evaluations.reading import files_of, log_file, read_log
from milton_assets.tiers.evaluations.tier import tells_of
from milton_assets.vocabulary.digest import Sha256, sha256_bytes
from milton_assets.vocabulary.errors import BadInput, EvidenceMismatch
from milton_assets.vocabulary.golden_set import read_goldens
from milton_assets.vocabulary.keys import Slug, TierName
from milton_assets.vocabulary.named_weights import NamedWeights
from milton_assets.vocabulary.registry import Artefact
from milton_assets.vocabulary.tier import TierResult
from milton_assets.vocabulary.tier_spec import TierSpec
from resources.evaluations.running import log_uri
from resources.evidence_store import EvidenceStore

IMPORTED = "imported_evaluations"
MAX_BYTES = 1 << 28


class ImportedLog(BaseModel):
    """What is kept of an import: of which model and weights its importer says that it is, and the log's files.

    `model_told` is the name in the log. Without files, the import was taken back.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tier: TierName
    model_version: Slug
    artefact_sha256: Sha256
    model_told: str
    imported_at: AwareDatetime
    log_file: str
    files: dict[str, Sha256]


def import_log(
    store: EvidenceStore,
    spec: TierSpec,
    version: str,
    artefact: Artefact,
    path: Path,
    *,
    told_as: str | None = None,
) -> ImportedLog:
    """Keep the log at `path` as evidence of that version. `told_as` is the model's name in it, where it is another one.

    Raises `BadInput` for a tier that takes no logs, a log that is none of its task, or one that tells of another model.
    """
    if spec.from_log is None:
        raise BadInput(f"the tier {spec.name} takes no logs", expected="a tier that is an evaluation of others")
    result = spec.from_log(path)
    model: str = result.provenance["evaluation"]["model_told"]
    log = read_log(path, result.provenance["evaluation"]["task"])
    names = [told_as] if told_as is not None else [version, Path(artefact.path).name, Path(artefact.path).stem]
    if not any(tells_of(log, name) for name in names):
        raise BadInput(
            f"{path} tells of the model {model!r:.200}",
            expected=f"one of {names}",
            remedy=f"give --told-as {model!r:.200} if these are the weights of {version} under another name",
        )
    contents: dict[str, bytes] = {}
    for name, file in files_of(path, log).items():
        if file.stat().st_size > MAX_BYTES:
            raise BadInput(f"{file} has {file.stat().st_size} bytes", expected=f"at most {MAX_BYTES} to be imported")
        contents[name] = file.read_bytes()
        if sha256_bytes(contents[name]) != log.files[name]:
            raise BadInput(f"{file} was changed while it was read", expected="a log that is finished")
    for name, content in contents.items():
        store.keep(log_uri(log.files[name]), content)
    return _keep(
        store,
        ImportedLog(
            tier=spec.name,
            model_version=version,
            artefact_sha256=artefact.sha256,
            model_told=model,
            imported_at=datetime.now(UTC),
            log_file=log_file(path).name,
            files=dict(log.files),
        ),
    )


def forget_log(store: EvidenceStore, tier: str, version: str, artefact: Artefact) -> ImportedLog:
    """Take an import back: the tier is measured again. What rests on it stays. Raises `BadInput` for none."""
    known = imported_log(store, tier, NamedWeights(version, artefact.sha256))
    if known is None:
        raise BadInput(f"no log of {tier} was imported for {version}", remedy="milton evaluation list")
    return _keep(store, known.model_copy(update={"files": {}, "imported_at": datetime.now(UTC)}))


def imported_log(store: EvidenceStore, tier: str, weights: NamedWeights) -> ImportedLog | None:
    """The import that holds for these weights under that version, if there is one.

    Raises `EvidenceMismatch` for damage.
    """
    uri = _uri(tier, weights)
    if not store.has(uri):
        return None
    try:
        found = ImportedLog.model_validate_json(store.read(uri))
    except ValidationError as error:
        raise EvidenceMismatch(
            f"the import of {tier} for {weights.version} is damaged: {error.errors()[0]['msg']}",
            expected="what `milton evaluation import` wrote",
            remedy="import the log again",
        ) from error
    return found if found.files else None


def imported_result(store: EvidenceStore, spec: TierSpec, known: ImportedLog) -> TierResult:
    """The tier's result from the log that was imported; its table says so. Raises `EvidenceMismatch` for a log that is
    not the imported one any more."""
    if spec.from_log is None:
        raise BadInput(f"the tier {spec.name} takes no logs", expected="a tier that is an evaluation of others")
    with _laid_out(store, known) as path:
        result = spec.from_log(path)
    told = {
        "code_version": spec.code_version(),
        **result.provenance,
        "goldens": read_goldens(spec).stated,
        "evaluation": {
            **result.provenance["evaluation"],
            "imported_at": known.imported_at.isoformat(),
        },
    }
    return replace(result, provenance=told)


@contextmanager
def _laid_out(store: EvidenceStore, known: ImportedLog) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="milton-evaluation-") as folder:
        for name, sha256 in known.files.items():
            (Path(folder) / Path(name).name).write_bytes(store.read_bytes(log_uri(sha256), sha256))
        yield Path(folder) / Path(known.log_file).name


def _keep(store: EvidenceStore, known: ImportedLog) -> ImportedLog:
    uri = _uri(known.tier, NamedWeights(known.model_version, known.artefact_sha256))
    store.keep(uri, known.model_dump_json(indent=2).encode())
    return known


def _uri(tier: str, weights: NamedWeights) -> str:
    return f"{IMPORTED}/{tier}/{weights.version}.{weights.sha256}.json"
