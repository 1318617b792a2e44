"""Whether a release fits a device, by what the device says of itself: asked before a byte of the release travels.

What belongs here: that judgement, as a pure function with its figures. What does not: reading the inventory, and the
checks that the device makes again on its own (`edge.deployment.capacity`, its policy).
"""

from __future__ import annotations

from collections.abc import Iterator

from milton_assets.edge.deployment.capacity import RESERVE_BYTES, UPDATE_RUNTIME, in_gib, outdated
from milton_assets.edge.deployment.offloading import FEWER_LAYERS, offloading
from milton_assets.edge.manifest import BundleManifest
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.inventory import Inventory
from milton_assets.vocabulary.registry import ArtefactKind


class DoesNotFit(BadInput):
    """The device cannot run the release."""


def misfits(
    manifest: BundleManifest,
    inventory: Inventory,
    *,
    will_load: bool,
    may_borrow: bool = True,
    here_bytes: int = 0,
    is_installed: bool = False,
) -> Iterator[str]:
    """Every way in which the release does not fit, a sentence with its figures each.

    `will_load` is whether it is served before it is in service, beside what runs, or (`may_borrow`) in the memory that
    what serves would lend; `here_bytes` how much of it the device has already; `is_installed` whether it is one of the
    target's releases.
    """
    needed, memory = manifest.requirements, inventory.memory
    if memory.total_bytes < needed.ram_bytes:
        yield f"it needs {in_gib(needed.ram_bytes)} of memory, and the device has {in_gib(memory.total_bytes)} in all"
    elif will_load and memory.available_bytes + (lent := memory.lendable_bytes * may_borrow) < needed.ram_bytes:
        yield (
            f"it needs {in_gib(needed.ram_bytes)} of memory for its load test beside what runs, "
            f"and {in_gib(memory.available_bytes)} of {in_gib(memory.total_bytes)} are available"
            + (f", with {in_gib(lent)} that what serves would lend" if lent else "")
        )
    # What arrives lies beside the release that is made of it, until that is in service.
    size = max(manifest.payload_bytes, needed.disk_bytes)
    room = manifest.payload_bytes - here_bytes + (0 if is_installed else size) + RESERVE_BYTES
    if inventory.disk.free_bytes < room:
        yield (
            f"it needs {in_gib(room)} of disk (what has still to arrive, and the release), and "
            f"{in_gib(inventory.disk.free_bytes)} are free at {inventory.disk.mounted_at}"
        )
    if will_load and inventory.runtime is None and manifest.artefact_kind is ArtefactKind.GGUF:
        yield f"it needs {needed.runtime}, and the device has no model server: {inventory.runtime_absent_because}"
    if problem := outdated(inventory.runtime, needed):
        yield problem
    if problem := offloading(manifest, inventory.runtime, inventory.gpus).problem:
        yield problem


def unknowns(manifest: BundleManifest, inventory: Inventory) -> Iterator[str]:
    """What of the device's fit nobody can say, a sentence each: the load test shows it."""
    if unknown := offloading(manifest, inventory.runtime, inventory.gpus, inventory.gpus_absent_because).unknown:
        yield unknown


def require_fit(
    manifest: BundleManifest,
    inventory: Inventory,
    target: str,
    *,
    will_load: bool,
    may_borrow: bool = True,
    here_bytes: int = 0,
    is_installed: bool = False,
) -> None:
    """Raise `DoesNotFit` with every misfit."""
    found = list(
        misfits(
            manifest,
            inventory,
            will_load=will_load,
            may_borrow=may_borrow,
            here_bytes=here_bytes,
            is_installed=is_installed,
        )
    )
    if found:
        raise DoesNotFit(
            f"{manifest.name} does not fit {target} ({inventory.host}): {'; '.join(found)}",
            expected="a device with memory, disk, GPU and a model server for it",
            remedy=UPDATE_RUNTIME
            if outdated(inventory.runtime, manifest.requirements)
            else f"{FEWER_LAYERS}; else deploy a smaller quantisation"
            if offloading(manifest, inventory.runtime, inventory.gpus).problem
            else "`milton gc` frees releases there; else deploy a smaller quantisation",
        )
