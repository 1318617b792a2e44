"""Bundles between hosts: packed into an evidence store where hosts meet, and fetched where one is to be deployed.

    hand_on(store, bundle, record)                                  # where it was made
    bring(store, state.bundles, run_id=None, device_class=None)     # where it is wanted

What belongs here: moving a bundle between this machine's folder and the store, by the digest of its release, and the
counter that all hosts' bundles share. What does not: what a bundle is and believing one (`edge.bundle`,
`edge.release`): whatever arrives is held against its manifest, and a deployment verifies it again. A store that is a
folder of this machine needs none of it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from milton_assets.edge.bundle.archive import pack_bundle, unpack_bundle
from milton_assets.edge.bundle.create import Reserve, free_name, own
from milton_assets.edge.bundle.publishing import naming_lock, staging_folder
from milton_assets.edge.manifest import BUNDLE_PREFIX
from milton_assets.edge.release import read_manifest
from milton_assets.selection.summary import BundleRecord, read_summary, run_ids
from milton_assets.vocabulary.documents import Documents
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.keys import class_of
from milton_assets.vocabulary.locks import locked
from resources.evidence_store import EvidenceStore

_COUNTER = "counter"
_FETCHING = ".fetching.lock"
_MEGABYTE = 1_000_000
_MARGIN_BYTES = 64 << 20


def hand_on(store: EvidenceStore, bundle: Path, record: BundleRecord) -> None:
    """Keep the bundle where other hosts find it; one that is there already is left. Raises as `pack_bundle`."""
    uri = _uri(record.release_digest)
    if store.is_here or store.has(uri):
        return
    with staging_folder(bundle.parent) as staged:
        store.keep_file(uri, pack_bundle(bundle, staged / "bundle.tar"))


def bring(store: EvidenceStore, bundles: Path, *, run_id: str | None, device_class: str | None) -> None:
    """Fetch that run's bundle into the folder `bundles`, unless it is there; without one, the newest for the class.

    It lies under its name, or the next free one where this host made another bundle of that name. Nothing where no run
    has one. Raises `BadInput` when what arrives is another release, or there is no room.
    """
    if store.is_here:
        return
    known = [
        known
        for known in reversed(run_ids(store.runs))
        if known == run_id or (run_id is None and class_of(known) == device_class)
    ]
    records = (read_summary(store.runs, each).bundle for each in known)
    record = next((record for record in records if record is not None), None)
    if record is None:
        return
    bundles.mkdir(parents=True, exist_ok=True)
    # Of deployments at once on this host, the first one fetches for all.
    with locked(bundles / _FETCHING):
        if not any(_is(record, path) for path in bundles.glob(f"{BUNDLE_PREFIX}*")):
            _fetch(store, record, bundles)


def _fetch(store: EvidenceStore, record: BundleRecord, bundles: Path) -> None:
    uri = _uri(record.release_digest)
    size_bytes, free_bytes = store.size_bytes(uri), shutil.disk_usage(bundles).free
    if 2 * size_bytes + _MARGIN_BYTES > free_bytes:
        raise BadInput(
            f"{bundles} has {free_bytes // _MEGABYTE} MB free",
            expected=f"{(2 * size_bytes + _MARGIN_BYTES) // _MEGABYTE} MB, for the bundle and its archive",
            remedy="make room, or move the state folder",
        )
    with staging_folder(bundles) as staged:
        archive = staged / "bundle.tar"
        store.fetch_file(uri, archive)
        unpacked = unpack_bundle(archive, staged / "unpacked")
        if (found := read_manifest(unpacked).release_digest) != record.release_digest:
            raise BadInput(
                f"{uri} holds the release {found}", expected=record.release_digest, remedy="bundle the run again"
            )
        with naming_lock(bundles):
            unpacked.rename(bundles / free_name(bundles, unpacked.name))


def _is(record: BundleRecord, bundle: Path) -> bool:
    """Whether that folder holds the release of the record."""
    try:
        return read_manifest(bundle).release_digest == record.release_digest
    except (BadInput, OSError):  # no bundle; whoever chooses one says so
        return False


def reserved_by(store: EvidenceStore) -> Reserve:
    """How bundles are numbered: by the store where hosts meet, so that of two hosts' the later has the higher counter.

    A counter that was reserved for a bundle that then failed is never used.
    """
    if store.is_here:
        return own

    def reserve(least: int) -> int:
        reserved = least

        def change(raw: bytes | None) -> bytes:
            nonlocal reserved
            reserved = max(least, 0 if raw is None else Numbered.model_validate_json(raw).counter + 1)
            return Numbered(counter=reserved).model_dump_json().encode()

        Documents(store.root / "bundles").change(_COUNTER, change)
        return reserved

    return reserve


class Numbered(BaseModel):
    """The document that says which counter was given last."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    counter: int = Field(ge=1)


def newest_release(store: EvidenceStore) -> str | None:
    """The release of the newest bundle that any host made; None where hosts do not meet, or none was made."""
    if store.is_here:
        return None
    records = (read_summary(store.runs, each).bundle for each in reversed(run_ids(store.runs)))
    return next((record.release_digest for record in records if record is not None), None)


def _uri(release_digest: str) -> str:
    return f"bundles/{release_digest}.tar"
