"""Bundles: a model with everything that says why it was chosen, in one folder that can be checked anywhere.

    from milton_assets.edge.bundle import create_bundle, verify_bundle

    bundle = create_bundle(entry=entry, kind=kind, decision=decision, summary=summary,
                           evidence=evidence, into=folder, now=now)
    verify_bundle(bundle.path).require()

What belongs here: making, checking and carrying bundles. What does not: their nouns (`edge.manifest`), and taking
them into service (`edge.deployment`). Nothing here imports Dagster.
"""

from milton_assets.edge.bundle.admission import DevicePolicy, NotAdmitted, Trial, admission, admit, load_device_policy
from milton_assets.edge.bundle.create import Bundle, code_version, create_bundle
from milton_assets.edge.bundle.delta import DeltaReport, apply_delta, create_delta
from milton_assets.edge.bundle.folder import Folder
from milton_assets.edge.bundle.placing import LinkMode
from milton_assets.edge.bundle.read import read_manifest, read_sums
from milton_assets.edge.bundle.scrub import (
    Damage,
    RepairImpossible,
    RepairReport,
    ScrubReport,
    repair_bundle,
    scrub_bundle,
)
from milton_assets.edge.bundle.signing import default_signer, signed_by, signer
from milton_assets.edge.bundle.sshsig import SignatureInvalid
from milton_assets.edge.bundle.transport import pack_bundle, unpack_bundle
from milton_assets.edge.bundle.verify import BundleDamaged, Problem, ProblemKind, VerificationReport, verify_bundle

__all__ = [
    "Bundle",
    "BundleDamaged",
    "Damage",
    "DeltaReport",
    "DevicePolicy",
    "Folder",
    "LinkMode",
    "NotAdmitted",
    "Problem",
    "ProblemKind",
    "RepairImpossible",
    "RepairReport",
    "ScrubReport",
    "SignatureInvalid",
    "Trial",
    "VerificationReport",
    "admission",
    "admit",
    "apply_delta",
    "code_version",
    "create_bundle",
    "create_delta",
    "default_signer",
    "load_device_policy",
    "pack_bundle",
    "read_manifest",
    "read_sums",
    "repair_bundle",
    "scrub_bundle",
    "signed_by",
    "signer",
    "unpack_bundle",
    "verify_bundle",
]
