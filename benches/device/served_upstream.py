"""A gateway in a process of its own, in front of model servers that are there already. Run by `bench_serving.py`.

    python served_upstream.py TARGET_DIR MODE ADDRESS [ADDRESS]

Each release of the target is served by the next of the addresses, after which the first comes again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from milton_assets.edge.serving.service import Service, serve
from milton_assets.edge.serving.supervisor import Mode
from milton_assets.tiers.reasoning.marking import marks_of
from milton_assets.vocabulary.fingerprint import ServerFingerprint
from milton_assets.vocabulary.server import Endpoint, RunningServer, ServingSettings

_starts = count()


@dataclass(frozen=True)
class There:
    """An `EdgeLauncher` of servers that somebody else started."""

    addresses: tuple[str, ...]

    def configured(self, settings: ServingSettings) -> There:
        """See `EdgeLauncher`."""
        return self

    @contextmanager
    def serve(self, artefact: Path, model: str) -> Iterator[RunningServer]:
        """See `Launcher`."""
        address = self.addresses[next(_starts) % len(self.addresses)]
        yield RunningServer(Endpoint(address, model), ServerFingerprint(name="there"))


def main() -> None:
    """Serve until SIGTERM."""
    target, mode, *addresses = sys.argv[1:]
    say = lambda sentence: print(sentence, flush=True)  # noqa: E731
    serve(Service(Path(target), There(tuple(addresses)), marks_of, port=0, mode=Mode(mode), say=say))


if __name__ == "__main__":
    main()
