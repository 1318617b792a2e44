"""Tuning the server of edge targets on this machine: the search, its measurements and its evidence.

    card = tune(settings, registered(settings, "v1"))

What belongs here: serving two settings side by side, measuring them in turn under the machine's watch, writing the
evidence. What does not: the search (`tiers.inference.tuning`), which settings there are (`resources.servers.tunable`),
and how the card looks (`cli.tune`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from milton_assets.settings import LaunchSettings, Settings
from milton_assets.settings.model import LLAMA_CPP
from milton_assets.tiers.inference.beside import Ratio, pairs_of, ratios
from milton_assets.tiers.inference.definitions import BY_ROUND, code_version
from milton_assets.tiers.inference.plan import ClosedLoad, InferencePlan
from milton_assets.tiers.inference.tier import measure_interleaved
from milton_assets.tiers.inference.tuning import THROUGHPUT, Chosen, NotMeasured, Trial, Tuned, how_many, search
from milton_assets.usecases.compose import evidence_store_of
from milton_assets.usecases.one_model import OneModel
from milton_assets.vocabulary.artefact_files import artefact_files
from milton_assets.vocabulary.errors import BadInput, ServerFailed
from milton_assets.vocabulary.keys import check_key
from milton_assets.vocabulary.progress import OnProgress, Progress, silent
from milton_assets.vocabulary.server import RunningServer
from resources.hardware import fingerprint
from resources.machine_watch import MachineWatch, nvidia_gpus
from resources.servers.identity import check_digest
from resources.servers.launching import llama_cpp_launcher
from resources.servers.memory import why_no_room
from resources.servers.tunable import axes_of, with_choices

ASSET: Final = "tuning"
"""The folder of the evidence store that holds a table a search, by model."""


@dataclass(frozen=True)
class TuningPlan:
    """How much is measured: `rounds` of `requests_per_round` answers of `max_tokens` for each of two settings, a
    comparison."""

    figure: str = THROUGHPUT
    rounds: int = 8
    requests_per_round: int = 3
    max_tokens: int = 64

    def inference(self, slots: int, *, calibrate: bool = True) -> InferencePlan:
        """The inference tier's plan, with as many requests in flight as the server has slots."""
        return InferencePlan(
            load=ClosedLoad(concurrency=slots),
            requests_per_round=max(self.requests_per_round, slots),
            min_rounds=self.rounds,
            max_rounds=self.rounds,
            budget_s=None,
            warm_up_requests=2,
            max_tokens=self.max_tokens,
            calibrate=calibrate,
        )


@dataclass(frozen=True)
class Card:
    """What came of a search: `settings` is what to write into milton.yaml below `section`, empty where those in force
    stay. `evidence` is the table, relative to the evidence store."""

    model: str
    tuned: Tuned
    skipped: Mapping[str, str]
    section: str
    settings: Mapping[str, Any]
    evidence: str = ""

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        tuned = self.tuned
        return {
            "model": self.model,
            "figure": tuned.figure,
            "noise": tuned.noise,
            "noises": dict(tuned.noises),
            "repeats": [asdict(one) for one in tuned.repeats],
            "trials": [_trial(trial) for trial in tuned.trials],
            "confirmation": _trial(tuned.confirmation) if tuned.confirmation else None,
            "recommended": [choice.label for choice in tuned.recommended],
            "cautions": [choice.caution for choice in tuned.recommended if choice.caution],
            "skipped": dict(self.skipped),
            "settings": {self.section: dict(self.settings)} if self.settings else {},
            "evidence": self.evidence,
        }


def tune(
    settings: Settings,
    model: OneModel,
    plan: TuningPlan | None = None,
    *,
    draft: Path | None = None,
    on_progress: OnProgress = silent,
) -> Card:
    """Search settings of llama.cpp for `model` on this machine, from those that edge targets have.

    Nothing is written before the end. Raises `BadInput` when another server than llama.cpp serves, when two servers
    have no room, or the model's name is no slug; `ServerFailed` or `NotMeasured` when the settings in force do not
    serve.
    """
    plan = plan or TuningPlan()
    given = settings.edge_server
    if settings.edge_program != LLAMA_CPP or not model.path.is_file():
        raise BadInput(
            f"{model.name} is served by {settings.edge_program} from {model.path}",
            expected="a GGUF that llama.cpp serves: its settings are what is searched",
        )
    check_key(model.name, "model name")
    weights = sum(path.stat().st_size for path in artefact_files(model.path).values())
    if why := why_no_room(2 * weights + (draft.stat().st_size if draft is not None and draft.is_file() else 0)):
        raise BadInput(f"two servers of {model.name} do not fit: the second {why}", expected="room for two in turn")
    axes, skipped = axes_of(given, draft=draft)
    # Once for the whole search: weights of gigabytes are not read for each of its servers.
    check_digest(model.path, model.sha256, "before it was tuned for")
    comparisons = _Comparisons(settings, model, plan, how_many(axes), on_progress)
    tuned = search(axes, comparisons.compare, figure=plan.figure)
    check_digest(model.path, model.sha256, "after it was tuned for")
    wanted = with_choices(given, tuned.recommended)
    changed = {
        name: list(value) if isinstance(value, tuple) else value
        for name in LaunchSettings.model_fields
        if (value := getattr(wanted, name)) != getattr(given, name)
    }
    # `edge_server` follows `server`, so candidates are then measured with what serves; unless it is said apart already.
    together = settings.server.which == LLAMA_CPP and all(
        getattr(settings.server, name) == getattr(given, name) for name in changed
    )
    card = Card(model.name, tuned, skipped, "server" if together else "edge_server", changed)
    file = evidence_store_of(settings).write(ASSET, model.name, comparisons.table(card), comparisons.run_id)
    return replace(card, evidence=file.uri)


class _Comparisons:
    """Pairs of settings, measured in turn, and the rounds that were kept of them."""

    def __init__(
        self, settings: Settings, model: OneModel, plan: TuningPlan, total: int, on_progress: OnProgress
    ) -> None:
        self._given: LaunchSettings = settings.edge_server
        self._model, self._plan, self._watched = model, plan, settings.watch_machine
        self._total, self._on_progress = total, on_progress
        self._rows: list[dict[str, Any]] = []
        self._told: list[dict[str, Any]] = []
        self.run_id = f"tune_{datetime.now(UTC):%Y%m%d_%H%M%S}"

    def compare(self, of: Chosen, against: Chosen) -> Mapping[str, Ratio]:
        """See `tuning.Compare`."""
        number = len(self._told)
        told: dict[str, Any] = {"comparison": number, "of": _labels(of), "against": _labels(against)}
        self._told.append(told)
        self._on_progress(Progress("tune", number + 1, self._total, f"{_labels(of)} beside {_labels(against)}"))
        # The client is the same throughout, and ratios of two servers hold what it adds twice: once is enough.
        plan = self._plan.inference(llama_cpp_launcher(self._given).slots, calibrate=number == 0)
        try:
            with self._serve(against) as standing, self._serve(of) as trial:
                with MachineWatch(gpus=nvidia_gpus).watching() as seen:
                    mine, theirs = measure_interleaved([trial.endpoint, standing.endpoint], plan)
                told |= {
                    "machine": seen.provenance(),
                    "fingerprint": fingerprint(trial).model_dump(mode="json"),
                    "fingerprint_against": fingerprint(standing).model_dump(mode="json"),
                }
        except ServerFailed as error:
            told["because"] = error.problem
            raise NotMeasured(error.problem, remedy=error.remedy) from error
        self._rows += [
            {"comparison": number, "round": at, "of": told["of"], "against": told["against"]}
            | {name: pair.mine.get(name) for name in BY_ROUND}
            | {f"{name}.against": pair.theirs.get(name) for name in BY_ROUND}
            for at, pair in enumerate(pairs_of(mine, theirs))
        ]
        if self._watched and (complaint := seen.complaint()) is not None:
            told["because"] = complaint
            raise NotMeasured(complaint)
        return ratios(mine, theirs)

    def table(self, card: Card) -> pa.Table:
        """A row a round; what was compared, the machine's fingerprints and the outcome are its metadata."""
        numbers = [*BY_ROUND, *(f"{name}.against" for name in BY_ROUND)]
        schema = pa.schema(
            [("comparison", pa.int64()), ("round", pa.int64()), ("of", pa.string()), ("against", pa.string())]
            + [(name, pa.float64()) for name in numbers]
        )
        stated = {
            "code_version": code_version(),
            "model": self._model.name,
            "artefact_sha256": self._model.sha256,
            "plan": self._plan.inference(1).model_dump(mode="json", exclude={"prompts", "load"}),
            "comparisons": self._told,
            "card": card.to_json(),
        }
        table = pa.Table.from_pylist(self._rows, schema=schema)
        return table.replace_schema_metadata({"milton": json.dumps(stated, sort_keys=True)})

    def _serve(self, chosen: Chosen) -> AbstractContextManager[RunningServer]:
        return llama_cpp_launcher(with_choices(self._given, chosen)).serve(self._model.path, self._model.name)


def _labels(chosen: Chosen) -> str:
    return ", ".join(choice.label for choice in chosen) or "the settings in force"


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "of": _labels(trial.of),
        "against": _labels(trial.against),
        "verdict": trial.verdict.value,
        "gain": asdict(trial.gain) if trial.gain else None,
        "gains": {name: asdict(ratio) for name, ratio in trial.gains.items()},
        "because": trial.because,
    }
