"""One release on its way to a device: what it lacks, as a delta where that is smaller, until every file is whole.

    transfer = Transfer(bundle, documents, Sending(Pace(), tally), deltas, on_progress)
    transfer.run(asking, bundles_in(state.bundles))        # after a cut once more, over another connection

What belongs here: which bytes travel, in which form, and what is made of the device's word on them. What does not: how
fast they go (`sending`), going on after a cut (`patience`), and deltas themselves (`milton_assets.edge.bundle.delta`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from milton_assets.edge.bundle.delta import create_delta
from milton_assets.edge.release import ReleaseDocuments, read_manifest
from milton_assets.fleet.asking import Asking
from milton_assets.fleet.messages import Offered, answered
from milton_assets.fleet.sending import Sending
from milton_assets.fleet.wire import WireBroken
from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.progress import OnProgress, Progress

_MIB = 1 << 20


class Transfer:
    """One release on its way. `run` goes on where the device says it is."""

    def __init__(
        self,
        bundle: Path,
        documents: ReleaseDocuments,
        sending: Sending,
        deltas: Path,
        on_progress: OnProgress,
    ) -> None:
        self._bundle = bundle
        self._documents = documents
        self._sending = sending
        self._deltas = deltas
        self._on_progress = on_progress
        self._needed: int | None = None
        self._delta: _Delta | None = None
        self._delta_tried = False
        self._rounds = 0

    @property
    def reached(self) -> int:
        """How many words of the device came."""
        return self._sending.heard

    def run(self, asking: Asking, bundles: Mapping[str, Path]) -> None:
        """Send what the device lacks, until it says that every file is what its digest says."""
        while True:
            offered = self.offer(asking)
            missing = self._missing(offered)
            if missing and not self._delta_tried:
                self._delta_tried = True
                self._delta = self._made_delta(offered, bundles)
                if self._delta is not None:
                    continue
            if self._needed is None:
                self._needed = self._delta.size_bytes if self._delta else missing
                self._sending.tally.needed_bytes += self._needed
            if missing and self._delta is not None:
                self._send_delta(asking, offered, self._delta)
                continue
            for entry in self._documents.manifest.files:
                with (self._bundle / entry.path).open("rb") as stream:
                    have = offered.have.get(entry.path, 0)
                    self._send_part(asking, stream.fileno(), have, entry.size_bytes, {"path": entry.path})
            wrong = asking.ask("seal").get("wrong")
            if not wrong:
                return
            self._rounds += 1
            if self._rounds > 2:
                raise BadInput(
                    f"{', '.join(map(str, wrong))[:300]} of {self._bundle} arrived otherwise than its manifest says",
                    expected="a bundle that is what its manifest says",
                    remedy=f"`milton bundle verify {self._bundle}`",
                )

    def offer(self, asking: Asking) -> Offered:
        """What the device has of it, once it knows what the release is."""
        unlisted = self._documents.unlisted
        answer = asking.ask(
            "offer",
            b"".join(unlisted.values()),
            documents={name: len(raw) for name, raw in unlisted.items()},
            delta=self._delta.sha256 if self._delta else None,
        )
        return answered(Offered, answer)

    def _missing(self, offered: Offered) -> int:
        return sum(
            max(0, entry.size_bytes - offered.have.get(entry.path, 0)) for entry in self._documents.manifest.files
        )

    def _made_delta(self, offered: Offered, bundles: Mapping[str, Path]) -> _Delta | None:
        """A delta against the release in service, when its bundle lies here and the delta is smaller than what is
        missing; kept, so that a transfer that starts again sends the very same bytes."""
        manifest = self._documents.manifest
        base = offered.serving
        if base is None or base == manifest.release_digest or base not in bundles:
            return None
        path = self._deltas / f"{base}-{manifest.release_digest}.delta"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            if not create_delta(bundles[base], self._bundle, path, on_progress=self._on_progress).pays:
                path.write_bytes(b"")  # so that it is not tried again
        size = path.stat().st_size
        if not size or size >= self._missing(offered):
            return None
        with path.open("rb") as stream:
            return _Delta(path, base, hashlib.file_digest(stream, "sha256").hexdigest(), size)

    def _send_delta(self, asking: Asking, offered: Offered, delta: _Delta) -> None:
        with delta.path.open("rb") as stream:
            where = {"delta": delta.sha256}
            self._send_part(asking, stream.fileno(), offered.delta_bytes, delta.size_bytes, where)
        try:
            asking.ask("apply", delta=delta.sha256, base=delta.base)
        except WireBroken:
            raise
        except MiltonError as error:
            self._on_progress(Progress("send", 0, 1, f"the delta does not apply there, sending it whole: {error}"))
            self._delta = None
            self._needed = None
        else:
            self._delta = None

    def _send_part(self, asking: Asking, handle: int, have: int, size: int, where: Mapping[str, Any]) -> None:
        what = f"a file of {self._bundle} (`milton bundle verify` says more)"
        self._sending.rest_of(asking, "chunk", handle, have, size, what, **where)
        self._on_progress(Progress("send", size // _MIB, max(1, size // _MIB), f"{where.get('path', 'delta')} (MiB)"))


@dataclass(frozen=True)
class _Delta:
    """A delta on this machine: from the release `base`, with its own digest."""

    path: Path
    base: str
    sha256: str
    size_bytes: int


def bundles_in(place: Path) -> Mapping[str, Path]:
    """The bundles that lie in that folder, by release: what a delta can be made against."""
    found = {}
    for folder in sorted(place.iterdir()) if place.is_dir() else ():
        try:
            found[read_manifest(folder).release_digest] = folder
        except MiltonError:
            continue  # no bundle, or a damaged one: nothing to make a delta against
    return found
