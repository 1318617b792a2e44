"""Weights that were sent to this device to be measured, kept by their digest until others need their room.

    cache = Candidates(state.root / "candidates", releases)
    cache.offer(offer)                                   # what is there already
    cache.take(offer.artefact, "model.gguf", 0, raw)
    with cache.held(offer.artefact) as path: ...         # whole, and not thrown out meanwhile

What belongs here: taking files at their ends, showing that they are what their digest says, and throwing out those that
were used longest ago. What does not: measuring (`measuring`), and releases on their way (`incoming`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from milton_assets.agent.incoming import append, files_held_by
from milton_assets.edge.deployment.fileops import FileOps, folder_made_beneath
from milton_assets.edge.disk_errors import disk_errors_explained
from milton_assets.edge.release.disk import opened
from milton_assets.fleet.measuring import WeightsOffer, WeightsThere
from milton_assets.vocabulary.artefact_files import artefact_digest, artefact_files
from milton_assets.vocabulary.digest import sha256_file
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.files import write_atomic
from milton_assets.vocabulary.locks import locked

SHARE_OF_DISK = 0.25
"""All candidates together take at most this share of their file system, but for one, which may take more."""
SPARE_BYTES = 256 << 20
_OFFER, _FILES, _WHOLE, _LOCK = "offer.json", "files", "whole", "lock"


class Candidates:
    """The folder `root` of weights. `releases` is the target's, whose files need not travel again."""

    def __init__(self, root: Path, releases: Path, *, share_of_disk: float = SHARE_OF_DISK) -> None:
        self._root = root
        self._releases = releases
        self._share_of_disk = share_of_disk
        self._ops = FileOps()

    @disk_errors_explained()
    def offer(self, offer: WeightsOffer) -> WeightsThere:
        """Begin, or go on with, taking these weights. Once all came, they are held against their digest: what is wrong
        is dropped and has to come again. Raises `BadInput` when there is no room for them."""
        folder = self._root / offer.artefact
        with self._locked():
            if not folder.is_dir():
                self._make_room(sum(offer.files.values()))
                (folder / _FILES).mkdir(parents=True)
            write_atomic(folder / _OFFER, offer.model_dump_json())
            self._touch(folder)
            self._from_releases(offer)
            have = {name: _size(folder / _FILES / name) for name in offer.files}
            if have == offer.files and not (folder / _WHOLE).exists():
                if _digest(self._main(offer)) == offer.artefact:
                    write_atomic(folder / _WHOLE, "")
                else:
                    shutil.rmtree(folder / _FILES)
                    (folder / _FILES).mkdir()
                    have = dict.fromkeys(offer.files, 0)
            return WeightsThere(have=have, whole=(folder / _WHOLE).exists())

    @disk_errors_explained()
    def take(self, artefact: str, name: str, offset: int, raw: bytes) -> int:
        """Add `raw` to that offered file, whose end is at `offset`; where its end is now.

        Raises `BadInput` for a file that was not offered, another offset, or bytes beyond its size.
        """
        offer = self._offer(artefact)
        if name not in offer.files:
            raise BadInput(f"the file {name!r:.200} was not offered", expected="one of the offered weights' files")
        *parents, last = name.split("/")
        with (
            opened(self._ops, self._ops.open_folder(self._root / artefact / _FILES)) as folder,
            folder_made_beneath(self._ops, folder, tuple(parents)) as parent,
        ):
            return append(last, parent, offset, raw, offer.files[name])

    @contextmanager
    def held(self, artefact: str) -> Iterator[Path]:
        """The whole weights of that digest; while the block lasts nobody throws anything out.

        Raises `BadInput` when they are not here.
        """
        with self._locked():
            offer = self._offer(artefact)
            if not (self._root / artefact / _WHOLE).exists():
                raise BadInput(
                    f"the weights {artefact} are not here whole", expected="all of them, before they are used"
                )
            self._touch(self._root / artefact)
            yield self._main(offer)

    def file(self, sha256: str) -> Path | None:
        """The weights of that digest where they are one whole file, for a release that holds the same."""
        if not (self._root / sha256 / _WHOLE).exists():
            return None
        main = self._main(self._offer(sha256))
        return main if main.is_file() and len(artefact_files(main)) == 1 else None

    def _locked(self) -> AbstractContextManager[None]:
        self._root.mkdir(parents=True, exist_ok=True)
        return locked(self._root / _LOCK, timeout_s=60)

    def _offer(self, artefact: str) -> WeightsOffer:
        path = self._root / artefact / _OFFER
        if not path.is_file():
            raise BadInput(f"the weights {artefact} were not offered", expected="an offer before their bytes")
        return WeightsOffer.model_validate_json(path.read_bytes())

    def _main(self, offer: WeightsOffer) -> Path:
        files = self._root / offer.artefact / _FILES
        return files if offer.main is None else files / offer.main

    def _touch(self, folder: Path) -> None:
        os.utime(folder / _OFFER)

    def _make_room(self, size_bytes: int) -> None:
        others = sorted(
            (folder for folder in self._root.iterdir() if folder.is_dir()),
            key=_used_at,
        )
        sizes = {folder: sum(_size(path) for path in folder.rglob("*") if path.is_file()) for folder in others}
        disk = shutil.disk_usage(self._root)
        free, bound = disk.free, self._share_of_disk * disk.total
        for folder in others:
            if free >= size_bytes + SPARE_BYTES and sum(sizes.values()) + size_bytes <= bound:
                break
            shutil.rmtree(folder)
            free += sizes.pop(folder)
        if free < size_bytes + SPARE_BYTES:
            raise BadInput(
                f"weights of {size_bytes / 1e6:.0f} MB find no room in {self._root}: {free / 1e6:.0f} MB are free",
                expected=f"their size and {SPARE_BYTES / 1e6:.0f} MB",
                remedy="free room on the device: `milton gc --target NAME` drops releases that nobody needs",
            )

    def _from_releases(self, offer: WeightsOffer) -> None:
        """Copy weights of one file that a release of the target holds, so that they need not travel."""
        if len(offer.files) != 1 or offer.main is None:
            return
        path = self._main(offer)
        source = files_held_by(self._releases).get(offer.artefact)
        if source is not None and not path.exists():
            beside = path.with_name(f".{path.name}.copy")
            shutil.copyfile(source, beside)
            beside.replace(path)


def _digest(main: Path) -> str:
    return artefact_digest(main, {name: sha256_file(file) for name, file in artefact_files(main).items()})


def _used_at(folder: Path) -> float:
    try:
        return (folder / _OFFER).stat().st_mtime
    except OSError:
        return 0.0


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0
