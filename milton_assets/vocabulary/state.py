"""Where state lies: `$MILTON_STATE_DIR`, else `$XDG_STATE_HOME/milton`, else `~/.local/state/milton`.

What belongs here: the names of the folders. What does not: what is written into them.
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
        """The journals of deployments."""
        return self.root / "deployment_history"

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
    def answers(self) -> Path:
        """What models answered, by content, so that they need not be asked again."""
        return self.cache / "answers"

    @property
    def keys(self) -> Path:
        """Signing keys."""
        return self.root / "keys"
