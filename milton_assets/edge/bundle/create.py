"""`create_bundle`: the winner's weights and everything that says why, in one folder that appears whole.

What belongs here: the order of the steps. What does not: copying (`placing`), finding the artefact (`source`),
formats (`sums`, `edge.manifest`).

The order: compare entry, evidence and decision; find the artefact; place the weights and compare their digest with
the registry's; write the documents; under a lock choose name and counter, write manifest and sums, sign; fsync; rename.
Until the rename nothing is visible, and whatever interrupts before it leaves nothing behind.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from milton_assets.edge.bundle.composing import (
    Order,
    Weights,
    about_model,
    compose_manifest,
    documents,
)
from milton_assets.edge.bundle.placing import LinkMode, Placed, place
from milton_assets.edge.bundle.publishing import naming_lock, publish, staging_folder
from milton_assets.edge.bundle.source import Source, find_source
from milton_assets.edge.bundle.tensors import regions
from milton_assets.edge.manifest import (
    BUNDLE_PREFIX,
    MANIFEST_FILE,
    MODEL_DIR,
    SUMS_FILE,
    BundleManifest,
    FileEntry,
)
from milton_assets.edge.release import read_manifest
from milton_assets.edge.release.progress import ByteProgress
from milton_assets.edge.release.sums import render_sums
from milton_assets.edge.release.weights import TensorPlace, read_layout
from milton_assets.vocabulary.artefact_files import artefact_digest
from milton_assets.vocabulary.code_version import code_version as version_of_code
from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.errors import BadInput, EvidenceMismatch
from milton_assets.vocabulary.files import entries
from milton_assets.vocabulary.progress import OnProgress, silent
from milton_assets.vocabulary.registry import Artefact, ArtefactKind, RegistryEntry

if TYPE_CHECKING:
    from milton_assets.vocabulary.evidence import EvidenceManifest  # brings pandas, which a device need not have

OnWarning = Callable[[str], None]
Sign = Callable[[Path], None]
"""Signs the staged folder: reads its `SHA256SUMS` and adds signature files."""


Reserve = Callable[[int], int]
"""The counter that a bundle gets, which no other has or gets: at least the one given."""


def own(least: int) -> int:
    """The counter where the bundles of one folder are all that there are."""
    return least


@dataclass(frozen=True)
class Bundle:
    """A finished bundle: its folder, its manifest, and what its maker was warned of."""

    path: Path
    manifest: BundleManifest
    warnings: tuple[str, ...] = ()


def code_version() -> str:
    """A digest that changes whenever a bundle or a health contract could be made otherwise."""
    edge = "milton_assets.edge"
    return version_of_code(__name__, f"{edge}.bundle.keys", f"{edge}.deployment.contract")


@dataclass(frozen=True)
class Making:
    """How a bundle is made in the folder `into`, beside what is in it.

    `previous_release` is by default that of the bundle made before in the same folder, and `reserve` says which counter
    the bundle gets, at least the one it is given: hosts that bundle for the same targets share one. `link` says whether
    bytes may be shared with the source, `durable` whether to wait until the disk has everything. Raises `BadInput` for
    a previous release that is none.
    """

    into: Path
    previous_release: str | None = None
    reserve: Reserve = own
    link: LinkMode = LinkMode.AUTO
    durable: bool = True
    sign: Sign | None = None

    def __post_init__(self) -> None:
        if self.previous_release is not None and not re.fullmatch("[0-9a-f]{64}", self.previous_release):
            raise BadInput(
                f"{self.previous_release!r:.100} is no release",
                expected="a release digest, 64 hexadecimal characters",
                remedy="`milton bundle inspect` shows a bundle's",
            )


def create_bundle(
    order: Order, making: Making, *, on_progress: OnProgress = silent, on_warning: OnWarning | None = None
) -> Bundle:
    """Make the bundle. Warnings go to `on_warning` before the weights are read, and into the result.

    Raises `BadInput` when the artefact is missing, of the wrong kind, not a usable GGUF, or does not fit on the disk;
    `EvidenceMismatch` when entry, evidence, decision and the bytes on disk do not belong together.
    """
    entry, artefact, evidence, into = order.entry, order.artefact, order.evidence, making.into
    order.check()
    try:
        source = find_source(artefact)
        warnings = _warnings(entry, artefact, evidence, source)
        for warning in warnings:
            (on_warning or _unheard)(warning)
        with staging_folder(into) as staged:
            weights = _place_weights(source, staged, making.link, on_progress)
            _check_digest(entry, artefact, source, weights)
            files = [*weights.entries(), *_write(staged, documents(order, weights))]
            with naming_lock(into):
                name = free_name(into, f"{BUNDLE_PREFIX}{entry.version}_{order.now.astimezone(UTC):%Y%m%d_%H%M%S}")
                before = _newest(into)
                manifest = compose_manifest(
                    order,
                    weights,
                    files,
                    name=name,
                    counter=making.reserve(_next_counter(before, order.now)),
                    previous_release=making.previous_release or (before.release_digest if before else None),
                )
                listed = [*files, *_write(staged, {MANIFEST_FILE: manifest.to_json()})]
                _write(staged, {SUMS_FILE: render_sums({file.path: file.sha256 for file in listed})})
                if making.sign is not None:
                    making.sign(staged)
                publish(staged, into / name, durable=making.durable)
    except OSError as error:
        raise _explained(error, into) from error
    return Bundle(into / manifest.name, manifest, warnings)


def _unheard(_: str) -> None:
    """For callers that read the warnings from the result."""


def _warnings(entry: RegistryEntry, artefact: Artefact, evidence: EvidenceManifest, source: Source) -> tuple[str, ...]:
    warnings = []
    if artefact.kind is ArtefactKind.HF_DISTILLED:
        warnings.append(
            f"bundling the full directory of {entry.version}: {source.size_bytes / 1e9:.2f} GB in "
            f"{len(source.files)} files; the GGUF is what edge devices are meant to run"
        )
    if evidence.candidate(entry.version).artefact_sha256 != artefact.sha256:
        warnings.append(
            f"the evidence was measured on another artefact of {entry.version} than the {artefact.kind} being "
            "bundled: its figures need not hold for this one"
        )
    return tuple(warnings)


def _place_weights(source: Source, staged: Path, link: LinkMode, on_progress: OnProgress) -> Weights:
    progress = ByteProgress("bundle", source.size_bytes, on_progress)
    placed: dict[str, Placed] = {}
    layouts: dict[str, tuple[TensorPlace, ...]] = {}
    for file in source.files:
        layout = read_layout(file.source)
        target = staged / file.path
        placed[file.path] = place(
            file.source,
            target,
            link=link,
            regions=None if layout is None else regions(layout),
            on_bytes=progress.of(file.path),
        )
        progress.finished(placed[file.path].size_bytes)
        if layout is not None:
            layouts[file.path] = layout
            if read_layout(target) != layout:
                raise BadInput(
                    f"{file.source} changed while it was bundled", remedy="let its writer finish, then bundle again"
                )
    return Weights(source.primary, placed, layouts, about_model(staged / source.primary))


def _check_digest(entry: RegistryEntry, artefact: Artefact, source: Source, weights: Weights) -> None:
    digests = {path: placed.sha256 for path, placed in weights.placed.items()}
    by_name = {path.removeprefix(f"{MODEL_DIR}/"): sha for path, sha in digests.items()}
    found = artefact_digest(Path(artefact.path), by_name)
    if found != artefact.sha256:
        raise EvidenceMismatch(
            f"{artefact.path} has the digest {found}",
            expected=f"{artefact.sha256}, the {artefact.kind} of {entry.version} that was registered and measured",
            remedy="restore the registered file, or benchmark the new one and decide again",
        )


def _write(staged: Path, documents: Mapping[str, bytes]) -> list[FileEntry]:
    entries = []
    for path, raw in documents.items():
        target = staged / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as stream:
            stream.write(raw)
        entries.append(FileEntry(path=path, size_bytes=len(raw), sha256=sha256_bytes(raw)))
    return entries


def free_name(into: Path, first: str) -> str:
    """`first`, or where `into` has that already, the next name like it that is free. Asked under `naming_lock`."""
    name, number = first, 1
    while (into / name).is_symlink() or (into / name).exists():
        number += 1
        name = f"{first}-{number}"
    return name


def _next_counter(before: BundleManifest | None, now: datetime) -> int:
    """The second of `now`, or one above the counter of the bundle before: grows even if the clock was set back."""
    return max(int(now.timestamp()), before.counter + 1 if before else 1)


def _newest(into: Path) -> BundleManifest | None:
    """The manifest with the highest counter in the folder."""
    manifests = []
    for path in (path for path in entries(into) if path.name.startswith(BUNDLE_PREFIX)):
        try:
            manifests.append(read_manifest(path))
        except (BadInput, FileNotFoundError):
            continue  # not a readable bundle, so it has no counter to stay above
    return max(manifests, key=lambda manifest: manifest.counter, default=None)


def _explained(error: OSError, into: Path) -> BadInput:
    where = error.filename or into
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return BadInput(f"the disk of {into} is full", remedy="free space (old bundles can go), then bundle again")
    return BadInput(f"{where}: {error.strerror or error}", expected="readable weights and a writable bundles folder")
