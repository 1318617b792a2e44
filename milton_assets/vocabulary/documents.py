"""Small documents that several processes change, or several hosts: a folder on this machine or in an object store.

    runs = Documents(UPath("s3://bucket/evidence/runs"))
    runs.change("benchmark_20260111_142500", lambda raw: with_deployment(raw))

What belongs here: reading, listing and changing a document whole, so that of two changes at once neither is lost. What
does not: what a document says.

On this machine a document is a file, `NAME.json`, replaced under an advisory lock. An object store knows no locks, so
there a document is a folder, `NAME/`, of numbered revisions, each made only where there is none of that number yet
(a conditional write): whoever finds it taken reads the newer one and changes that. Nothing is ever overwritten.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from upath import UPath

from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.files import entries, write_atomic
from milton_assets.vocabulary.keys import check_key
from milton_assets.vocabulary.locks import locked
from milton_assets.vocabulary.places import Place, asking, is_here

_REVISION = re.compile(r"(\d{6})\.json")
_TRIES = 50
_PAUSE_S = 0.05


@dataclass(frozen=True)
class Documents:
    """The documents in one folder. Nothing is made before something is written."""

    folder: Place

    def names(self) -> tuple[str, ...]:
        """The names of the documents, sorted; none where there is no folder. Raises `OSError`."""
        if (here := self._here) is not None:
            found = (path.stem for path in entries(here) if path.suffix == ".json")
        else:
            found = (path.name.rstrip("/") for path in self._listed(self.folder) if not path.name.endswith(".html"))
        return tuple(sorted(name for name in found if not name.startswith(".")))

    def place(self, name: str) -> Place:
        """Where the document lies, for people: its file, or the folder of its revisions."""
        here = self._here
        return self.folder / name if here is None else here / f"{name}.json"

    def read(self, name: str) -> bytes | None:
        """The document as it is now; None where there is none. Raises `OSError`."""
        if (here := self._here) is not None:
            path = here / f"{check_key(name, 'document')}.json"
            return path.read_bytes() if path.is_file() else None
        return self._revised(name)[1]

    def change(self, name: str, change: Callable[[bytes | None], bytes]) -> None:
        """Replace the document by what `change` makes of it; it may be asked again when another was faster.

        Raises `BadInput` when others were faster all the time, and `OSError`.
        """
        if (here := self._here) is not None:
            path = here / f"{check_key(name, 'document')}.json"
            with locked(here / f".{name}.lock"):
                write_atomic(path, change(path.read_bytes() if path.is_file() else None))
            return
        for _ in range(_TRIES):
            revision, before = self._revised(name)
            if create(self._revision(name, revision + 1), change(before)):
                return
            time.sleep(_PAUSE_S)
        raise BadInput(
            f"{self.folder}/{name} was changed by others {_TRIES} times while it was to be changed",
            expected="a moment without other writers",
            remedy="try again",
        )

    @property
    def _here(self) -> Path | None:
        if isinstance(self.folder, Path):
            return self.folder
        return Path(self.folder.path) if is_here(self.folder) else None

    def _revised(self, name: str) -> tuple[int, bytes | None]:
        """The number of the newest revision, and what it says; 0 and None where there is none."""
        folder = self.folder / check_key(name, "document")
        found = (_REVISION.fullmatch(path.name) for path in self._listed(folder))
        if (newest := max((int(match[1]) for match in found if match), default=0)) == 0:
            return 0, None
        with asking(folder):
            return newest, bytes(self._revision(name, newest).read_bytes())

    def _revision(self, name: str, number: int) -> UPath:
        return UPath(self.folder / name / f"{number:06}.json")

    @staticmethod
    def _listed(folder: Place) -> list[UPath]:
        place = UPath(folder)
        with asking(place):
            # What another host wrote a moment ago must be seen.
            place.fs.invalidate_cache()
            return list(place.iterdir()) if place.is_dir() else []


def create(place: UPath, content: bytes) -> bool:
    """Write the object, unless there is one of that name: then False. Raises `OSError`."""
    with asking(place):
        try:
            place.fs.pipe_file(place.path, content, mode="create")
        except FileExistsError:
            return False
    return True
