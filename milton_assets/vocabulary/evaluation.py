"""Evaluations of others: what is run with whose package, and what its log says came out.

    Evaluation(Package.INSPECT, "capitals.py", folder=Path("tasks"))
    log.answers[0].scores                      # {"match": 1.0}

What belongs here: `Evaluation`, `EvaluationLog` and their parts, which hold true of every package. What does not: any
package's format (`milton_assets.tiers.evaluations`), and running one (`resources.evaluations`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from milton_assets.vocabulary.digest import Sha256, sha256_json, sha256_listing
from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.progress import OnProgress
from milton_assets.vocabulary.server import Endpoint


class EvaluationFailed(MiltonError):
    """An evaluation that could not be run to its end: its package cannot be had, or ended with an error."""


class Package(StrEnum):
    """Whose evaluations are understood, by the names of the distributions."""

    INSPECT = "inspect_ai"
    LM_EVAL = "lm_eval"


@dataclass(frozen=True)
class Evaluation:
    """A task of a package, and how it is run.

    `task` is what the package calls it: for inspect a file in `folder`, `file.py@task`, or a registered name; for
    lm-eval a task's name, which `folder` may define. `limit` bounds the samples, None for all; each is asked `epochs`
    times. `max_tokens` bounds an answer, None leaves it to the task. `requires` are further packages that the task
    needs, each pinned (`inspect_evals==0.3.1`). Raises `BadInput` for what cannot be run.
    """

    package: Package
    task: str
    folder: Path | None = None
    limit: int | None = None
    epochs: int = 1
    max_tokens: int | None = None
    requires: tuple[str, ...] = ()
    deadline_s: float = 6 * 3600.0

    def __post_init__(self) -> None:
        if not self.task.strip() or self.task.startswith("-") or any(ord(letter) < 32 for letter in self.task):
            raise BadInput(f"{self.task!r:.200} names no task", expected="a file or a name that the package knows")
        for what, number in (("limit", self.limit), ("epochs", self.epochs), ("max_tokens", self.max_tokens)):
            if number is not None and number < 1:
                raise BadInput(f"{what} is {number}", expected="at least 1")
        if self.package is Package.LM_EVAL and self.epochs != 1:
            raise BadInput(
                f"{self.epochs} epochs of an lm-eval task", expected="1", remedy="use `repeats` in the task's own file"
            )
        for line in self.requires:
            if line.startswith("-") or "==" not in line or any(letter.isspace() for letter in line):
                raise BadInput(f"{line!r:.200} is no pinned requirement", expected="NAME==VERSION")


@dataclass(frozen=True)
class Answer:
    """One sample, asked once.

    `sample` is its id and `epoch` counts from 1; `asked_sha256` is the digest of what was asked and of what would be
    right. `scores` are by the scorer's name, and lack those that could not be had; `error` says why, if it is known.
    """

    sample: str
    epoch: int
    asked_sha256: Sha256
    scores: Mapping[str, float]
    said: str = ""
    error: str | None = None


@dataclass(frozen=True)
class EvaluationLog:
    """What a package's log says, and the SHA-256 of each of its files.

    `model` is the model's name as the log tells it; nothing in a log proves which weights answered. `how` is what the
    log says about how it was asked (sampling, few-shot examples), as far as figures depend on it.

    Raises `BadInput` for a log without answers, an answer that is there twice, scores that are no finite numbers, a
    sample that was asked different things or another number of times than the others.
    """

    package: Package
    package_version: str
    task: str
    task_version: str
    model: str
    created_at: str
    answers: tuple[Answer, ...]
    files: Mapping[str, Sha256]
    dataset: str = ""
    how: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.answers:
            raise BadInput(f"{self._name} holds no sample", expected="a log with its samples")
        keys = Counter((answer.sample, answer.epoch) for answer in self.answers)
        if twice := [f"{sample!r:.80}, epoch {epoch}" for (sample, epoch), count in keys.items() if count > 1]:
            raise BadInput(f"{self._name} has answers twice: {'; '.join(twice[:5])}", expected="each sample once")
        for answer in self.answers:
            for name, score in answer.scores.items():
                if not math.isfinite(score):
                    raise BadInput(f"{self._name}: the score {name} of {answer.sample!r:.80} is {score}")
        epochs: dict[str, set[int]] = {}
        asked: dict[str, str] = {}
        for answer in self.answers:
            epochs.setdefault(answer.sample, set()).add(answer.epoch)
            if asked.setdefault(answer.sample, answer.asked_sha256) != answer.asked_sha256:
                raise BadInput(
                    f"{self._name}: the sample {answer.sample!r:.80} was asked something else in another epoch"
                )
        usual = next(iter(epochs.values()))
        if odd := [sample for sample, had in epochs.items() if had != usual]:
            raise BadInput(
                f"{self._name}: the sample {odd[0]!r:.80} has the epochs {sorted(epochs[odd[0]])}, the first one "
                f"{sorted(usual)}",
                expected="every sample asked as often as the others",
                remedy="let the evaluation run to its end",
            )

    @property
    def _name(self) -> str:
        return f"the log of {self.task!r:.120}"

    @property
    def sha256(self) -> str:
        """The log's digest: that of the listing of its files."""
        return sha256_listing(self.files)

    @property
    def asked_sha256(self) -> str:
        """The digest of all that was asked, whatever was answered."""
        return sha256_json(sorted([*pair] for pair in {(a.sample, a.asked_sha256) for a in self.answers}))

    @property
    def scores(self) -> tuple[str, ...]:
        """The scorers' names, in the order in which they come."""
        return tuple(dict.fromkeys(name for answer in self.answers for name in answer.scores))

    @property
    def epochs(self) -> int:
        """How often each sample was asked."""
        return len({answer.epoch for answer in self.answers})


class RunsEvaluations(Protocol):
    """What runs an evaluation with its own package, in an environment of its own."""

    def run(self, evaluation: Evaluation, endpoint: Endpoint, folder: Path, on_progress: OnProgress) -> Path:
        """Run it against the server, keep the log in `folder` and say where it lies there.

        Raises `EvaluationFailed` with the last lines of the package, or of its installation.
        """
        ...
