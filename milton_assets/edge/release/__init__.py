"""A release: reading it as hostile input and verifying it, wherever it lies. The only reader and verifier there is.

    from milton_assets.edge.release import verify_release

    report = verify_release(folder)         # every problem, not only the first
    manifest = report.require()             # or ReleaseDamaged

What belongs here: opening a release's folder on any disk, its manifest, sums and signatures, its documents' chain, its
weights' headers, and the report on all of them. What does not: making releases (`edge.bundle`), taking them into
service and whom to trust (`edge.deployment`). A device needs no more than this to check one; nothing here imports
numpy, pandas or Dagster.

A bundle, a staged copy and an installed release are the same thing in different places, so all of them are verified
here, and each door gives the same verdict. A door may only add: a deployment reads past the page cache
(`from_disk`), and wants each file to have one name.

A name is loaded when it is first asked for: what a device looks up in a blink must not load what it never uses.
"""

from typing import TYPE_CHECKING

from milton_assets.vocabulary.lazy_names import loaded_on_demand

if TYPE_CHECKING:
    from milton_assets.edge.release.disk import ReadOnlyDisk
    from milton_assets.edge.release.documents import (
        ReleaseDocuments,
        read_document,
        read_documents,
        read_manifest,
        read_sums,
    )
    from milton_assets.edge.release.folder import Folder
    from milton_assets.edge.release.report import Problem, ProblemKind, ReleaseDamaged, VerificationReport
    from milton_assets.edge.release.signature import SignatureInvalid, signed_by
    from milton_assets.edge.release.verify import verify_release

__all__ = [
    "Folder",
    "Problem",
    "ProblemKind",
    "ReadOnlyDisk",
    "ReleaseDamaged",
    "ReleaseDocuments",
    "SignatureInvalid",
    "VerificationReport",
    "read_document",
    "read_documents",
    "read_manifest",
    "read_sums",
    "signed_by",
    "verify_release",
]

_WHERE = {
    "milton_assets.edge.release.disk": ("ReadOnlyDisk",),
    "milton_assets.edge.release.documents": (
        "ReleaseDocuments",
        "read_document",
        "read_documents",
        "read_manifest",
        "read_sums",
    ),
    "milton_assets.edge.release.folder": ("Folder",),
    "milton_assets.edge.release.report": ("Problem", "ProblemKind", "ReleaseDamaged", "VerificationReport"),
    "milton_assets.edge.release.signature": ("SignatureInvalid", "signed_by"),
    "milton_assets.edge.release.verify": ("verify_release",),
}

__getattr__ = loaded_on_demand(__name__, _WHERE)
