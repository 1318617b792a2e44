"""The ledger that the next decision goes on with: what the run before it handed on.

What belongs here: finding the run before, and what to do where it cannot be gone on with. What does not: what a ledger
holds (`vocabulary.ledger`), and what is made of it (`selection.life`).
"""

from __future__ import annotations

from pydantic import BaseModel, ValidationError

from milton_assets.selection.decision import DECISION_VERSION
from milton_assets.selection.life import with_previous
from milton_assets.selection.summary import read_summary, run_ids
from milton_assets.vocabulary.documents import Documents
from milton_assets.vocabulary.errors import BadInput, EvidenceMismatch
from milton_assets.vocabulary.evidence import EvidenceManifest
from milton_assets.vocabulary.keys import class_of
from milton_assets.vocabulary.ledger import Ledger
from milton_assets.vocabulary.places import Place


class _Version(BaseModel):
    decision_version: int


class _Run(BaseModel):
    decision: _Version


def ledger_before(runs: Place, run_id: str) -> Ledger:
    """The ledger of the newest run below `runs` that was decided before `run_id`, for the same device class; an empty
    one where there is none.

    A ledger begins anew after a decision of another format version, and says so. Raises `BadInput` for a summary that
    does not hold.
    """
    earlier = [known for known in run_ids(runs) if known < run_id and class_of(known) == class_of(run_id)]
    if not earlier:
        return Ledger()
    version = _version(runs, earlier[-1])
    if version != DECISION_VERSION:
        return Ledger(
            starts_because=f"{earlier[-1]}, the run before, was decided in version {version} of the decision's format, "
            f"and version {DECISION_VERSION} cannot go on with it"
        )
    decision = read_summary(runs, earlier[-1]).decision
    return with_previous(decision.ledger, decision.run_id, decision.digest())


def check_ledger(runs: Place, manifest: EvidenceManifest) -> None:
    """Raise `EvidenceMismatch` unless the ledger that the manifest pins is the one its run says it had it from.

    A run whose summary is gone or of another version cannot be asked; the ledger is pinned all the same.
    """
    previous = manifest.ledger.previous
    if previous is None or previous.run_id not in run_ids(runs):
        return
    if _version(runs, previous.run_id) != DECISION_VERSION:
        return
    decision = read_summary(runs, previous.run_id).decision
    if with_previous(decision.ledger, decision.run_id, decision.digest()) != manifest.ledger:
        raise EvidenceMismatch(
            f"{manifest.run_id} goes on with another ledger than {previous.run_id} handed on",
            expected=f"the ledger of the decision {previous.decision_sha256}",
            remedy=f"restore the summary of {previous.run_id}, or benchmark and decide again",
        )


def _version(runs: Place, run_id: str) -> int:
    documents = Documents(runs)
    try:
        return _Run.model_validate_json(documents.read(run_id) or b"").decision.decision_version
    except (OSError, ValidationError) as error:
        raise BadInput(
            f"the run summary {documents.place(run_id)} does not hold ({error})",
            expected="a decision with its version",
            remedy="restore the file, or move it away",
        ) from error
