"""Where state lies: `$MILTON_STATE_DIR`, else `$XDG_STATE_HOME/milton`, else `~/.local/state/milton`.

What belongs here: the names of the folders, and how a file of the state folder names a path: relative to it when it
lies inside, so that the folder can be moved, and absolute otherwise. What does not: what is written into them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from milton_assets.vocabulary.errors import BadInput


@dataclass(frozen=True)
class StateDir:
    """The state folder and its parts. Nothing is created until something is written."""

    root: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> StateDir:
        """Resolve the folder from an environment. Raises `BadInput` for a relative `MILTON_STATE_DIR`."""
        if chosen := environment.get("MILTON_STATE_DIR"):
            if not Path(chosen).is_absolute():
                raise BadInput(f"MILTON_STATE_DIR is {chosen!r}", expected="an absolute path")
            return cls(Path(chosen))
        if (xdg := environment.get("XDG_STATE_HOME")) and Path(xdg).is_absolute():
            return cls(Path(xdg) / "milton")
        home = environment.get("HOME")
        return cls((Path(home) if home else Path.home()) / ".local" / "state" / "milton")

    def tell(self, path: Path) -> str:
        """How a file of the state folder names `path`: relative to the folder when it lies inside, else absolute."""
        absolute = path.absolute()
        if ".." not in absolute.parts and absolute.is_relative_to(self.root):
            return absolute.relative_to(self.root).as_posix()
        if path.resolve().is_relative_to(self.root.resolve()):
            return path.resolve().relative_to(self.root.resolve()).as_posix()
        return str(absolute)

    def holds(self, path: Path) -> bool:
        """Whether `path` lies in the folder, links followed."""
        return path.resolve().is_relative_to(self.root.resolve())

    def place(self, told: str) -> Path:
        """The inverse of `tell`, for the folder where it lies now. Raises `BadInput` for what leaves it by `..`."""
        if not Path(told).is_absolute() and ".." in Path(told).parts:
            raise BadInput(f"the path {told!r:.300} leaves its folder", expected="a path below the state folder")
        return self.root / told

    @property
    def agent(self) -> Path:
        """On a device: what its agent keeps that is no target's, a folder a target."""
        return self.root / "agent"

    @property
    def registry(self) -> Path:
        """The registry file, written by whoever trains."""
        return self.root / "models" / "registry.json"

    @property
    def quantized(self) -> Path:
        """GGUF files, a folder per model version."""
        return self.root / "models" / "quantized"

    @property
    def distilled(self) -> Path:
        """Hugging Face directories, one per model version."""
        return self.root / "models" / "distilled"

    @property
    def benchmarks(self) -> Path:
        """Evidence: Parquet tables."""
        return self.root / "benchmarks"

    @property
    def runs(self) -> Path:
        """Readable summaries of benchmark runs, `benchmark_*.json`."""
        return self.benchmarks / "runs"

    @property
    def bundles(self) -> Path:
        """Edge bundles, a folder each."""
        return self.root / "bundles"

    @property
    def deployments(self) -> Path:
        """Edge targets on this machine, a folder each."""
        return self.root / "deployments"

    @property
    def deployment_history(self) -> Path:
        """What targets' journals say of deployments, mirrored."""
        return self.root / "deployment_history"

    @property
    def field(self) -> Path:
        """How canaries on targets ended: a folder a target, a document and its signature a canary."""
        return self.root / "field"

    @property
    def rollouts(self) -> Path:
        """Rollouts over many targets: a folder each, with its journal."""
        return self.root / "rollouts"

    @property
    def targets(self) -> Path:
        """Where each target was when it was last changed from here, a file each."""
        return self.root / "targets"

    @property
    def dagster(self) -> Path:
        """DAGSTER_HOME."""
        return self.root / "dagster"

    @property
    def cache(self) -> Path:
        """Things that can be had again: downloads, converted weights, answers of deterministic tiers."""
        return self.root / "cache"

    @property
    def digest_cache(self) -> Path:
        """Digests of large files, remembered while the files stay the same."""
        return self.cache / "digests.json"

    @property
    def durations(self) -> Path:
        """How long each tier took with each model, so that a campaign can say how long it will take."""
        return self.cache / "durations.json"

    @property
    def answers(self) -> Path:
        """What models answered, by content, so that they need not be asked again."""
        return self.cache / "answers"

    @property
    def keys(self) -> Path:
        """Signing keys."""
        return self.root / "keys"

    @property
    def campaign_lock(self) -> Path:
        """Held by the campaign that is running here."""
        return self.root / "campaign.lock"

    @property
    def unfinished_campaign(self) -> Path:
        """What the last campaign wanted to measure; there only while it runs, or when it did not end."""
        return self.root / "unfinished_campaign.json"
