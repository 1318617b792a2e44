"""Bundles: a model with everything that says why it was chosen, in one folder that can be checked anywhere.

    from milton_assets.edge.bundle import Making, Order, create_bundle
    from milton_assets.edge.release import verify_release

    order = Order(entry, kind, decision=decision, summary=summary, evidence=evidence, now=now)
    bundle = create_bundle(order, Making(folder))
    verify_release(bundle.path).require()

What belongs here: making, mending and carrying bundles. What does not: their nouns (`edge.manifest`), reading and
verifying them (`edge.release`), and taking them into service (`edge.deployment`). Nothing here imports Dagster.
Deltas are in `edge.bundle.delta` alone, since coding them takes zstandard.
"""

from milton_assets.edge.bundle.archive import pack_bundle, unpack_bundle
from milton_assets.edge.bundle.composing import Order
from milton_assets.edge.bundle.create import Bundle, Making, code_version, create_bundle
from milton_assets.edge.bundle.placing import LinkMode
from milton_assets.edge.bundle.scrub import (
    Damage,
    RepairImpossible,
    RepairReport,
    ScrubReport,
    repair_bundle,
    scrub_bundle,
)
from milton_assets.edge.bundle.signing import default_signer, signer

__all__ = [
    "Bundle",
    "Damage",
    "LinkMode",
    "Making",
    "Order",
    "RepairImpossible",
    "RepairReport",
    "ScrubReport",
    "code_version",
    "create_bundle",
    "default_signer",
    "pack_bundle",
    "repair_bundle",
    "scrub_bundle",
    "signer",
    "unpack_bundle",
]
