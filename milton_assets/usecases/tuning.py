"""Tuning the server of edge targets, on this machine or on a device class's reference: the search and its evidence.

    card = tune(settings, registered(settings, "v1"), device_class="pi5")

What belongs here: measuring two settings in turn under the machine's watch, and writing the evidence. What does not:
the search (`tiers.inference.tuning`), which settings there are (`resources.servers.tunable`), serving two of them
(`fleet.trying`), and how the card looks (`cli.tune`).
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

from milton_assets.fleet.links import Unreachable
from milton_assets.fleet.measuring import Measured, Weights
from milton_assets.fleet.trying import Pairing, TriesSettings, TryingHere
from milton_assets.settings import Settings
from milton_assets.settings.model import LLAMA_CPP
from milton_assets.tiers.inference.beside import Ratio, pairs_of, ratios
from milton_assets.tiers.inference.calibrate import Calibration
from milton_assets.tiers.inference.definitions import BY_ROUND, code_version
from milton_assets.tiers.inference.orders import Client, OpenClient
from milton_assets.tiers.inference.plan import ClosedLoad, InferencePlan
from milton_assets.tiers.inference.prompts import Prompt, about_tokens, lengthened, load_goldens
from milton_assets.tiers.inference.tier import measure_interleaved
from milton_assets.tiers.inference.tuning import THROUGHPUT, NotMeasured, Trial, Tuned, how_many, search
from milton_assets.usecases.bench import EdgeBench
from milton_assets.usecases.classes import reference_of, telling_who_is_away
from milton_assets.usecases.compose import edge_server_of, evidence_store_of, targets_of
from milton_assets.usecases.measuring import ATTEMPTS
from milton_assets.usecases.one_model import OneModel
from milton_assets.vocabulary.errors import BadInput, ServerFailed
from milton_assets.vocabulary.keys import check_key
from milton_assets.vocabulary.progress import OnProgress, Progress, silent
from milton_assets.vocabulary.secrets import without_secrets
from milton_assets.vocabulary.server import Endpoint
from milton_assets.vocabulary.tuning import Axes, Chosen
from resources.servers.tunable import BATCHES

ASSET: Final = "tuning"
"""The folder of the evidence store that holds a table a search, by model, or by device class and model."""


@dataclass(frozen=True)
class TuningPlan:
    """How much is measured: `rounds` of `requests_per_round` answers of `max_tokens` for each of two settings, a
    comparison. The prompts are the tier's own, made longer where `prompt_tokens` asks for it."""

    figure: str = THROUGHPUT
    rounds: int = 8
    requests_per_round: int = 3
    max_tokens: int = 64
    prompt_tokens: int | None = None

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """What is asked."""
        shipped = load_goldens().prompts
        return shipped if self.prompt_tokens is None else lengthened(shipped, self.prompt_tokens)

    def inference(self, slots: int) -> InferencePlan:
        """The inference tier's plan, with as many requests in flight as the server has slots."""
        return InferencePlan(
            prompts=self.prompts,
            load=ClosedLoad(concurrency=slots),
            requests_per_round=max(self.requests_per_round, slots),
            min_rounds=self.rounds,
            max_rounds=self.rounds,
            budget_s=None,
            warm_up_requests=2,
            max_tokens=self.max_tokens,
        )


@dataclass(frozen=True)
class Card:
    """What came of a search: `settings` is what to write into milton.yaml below `section`, on the target `on` (None:
    here), empty where those in force stay. `evidence` is the table, relative to the evidence store."""

    model: str
    tuned: Tuned
    skipped: Mapping[str, str]
    section: str
    settings: Mapping[str, Any]
    on: str | None = None
    evidence: str = ""

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        tuned = self.tuned
        return {
            "model": self.model,
            "on": self.on,
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
    device_class: str | None = None,
    draft: Path | None = None,
    on_progress: OnProgress = silent,
) -> Card:
    """Search settings of llama.cpp for `model`, from those that edge targets have: on this machine, or on the reference
    of `device_class`, from those that the device has. `draft` is a draft model there.

    Nothing is written before the end. Raises `BadInput` when another server than llama.cpp serves there, the class has
    no reference that can do it, or the model's name is no slug; `Unreachable` when nobody answers there; `ServerFailed`
    or `NotMeasured` when the settings in force do not serve, or two servers have no room.
    """
    plan = plan or TuningPlan()
    check_key(model.name, "model name")
    if device_class is None:
        on, place = None, _here(settings)
    else:
        on, place = _on_reference(settings, device_class)
    with telling_who_is_away(on, device_class):
        axes = axes_that_show(place.axes(draft), plan)
    comparisons = Comparisons(place, settings, model, plan, how_many(axes.choices), draft, on_progress)
    tuned = search(axes.choices, comparisons.compare, figure=plan.figure)
    changed = place.settings_changed(tuned.recommended, draft)
    section = "server" if on is None and _are_together(settings, changed) else "edge_server"
    card = Card(model.name, tuned, axes.skipped, section, changed, on)
    told = comparisons.table(card, device_class)
    partition = model.name if device_class is None else f"{device_class}|{model.name}"
    file = evidence_store_of(settings).write(ASSET, partition, told, comparisons.run_id)
    return replace(card, evidence=file.uri)


def axes_that_show(axes: Axes, plan: TuningPlan) -> Axes:
    """The axes of which these prompts can show anything: one that fits into the smallest batch is computed at once,
    whatever the batch."""
    tokens = about_tokens(plan.prompts)
    if "batch" not in axes.choices or tokens > min(BATCHES):
        return axes
    why = f"the prompts, of some {tokens} tokens, fit into the smallest; --prompt-tokens 600 asks longer ones"
    others = {axis: choices for axis, choices in axes.choices.items() if axis != "batch"}
    return Axes(others, {**axes.skipped, "batch": why})


def _here(settings: Settings) -> TriesSettings:
    return TryingHere(EdgeBench(edge_server_of(settings)), settings.state.root)


def _on_reference(settings: Settings, device_class: str) -> tuple[str, TriesSettings]:
    if device_class not in settings.device_classes:
        raise BadInput(
            f"there is no device class {device_class!r:.100}",
            expected=f"one of {', '.join(sorted(settings.device_classes))}",
            remedy="name it in milton.yaml (docs/classes.md), or leave --class out to search on this machine",
        )
    name, target = reference_of(targets_of(settings), settings.class_references, device_class)
    if not isinstance(target, TriesSettings):
        raise BadInput(f"no settings can be tried on {name}", expected="a target on this machine or behind `ssh:`")
    return name, target


def _are_together(settings: Settings, changed: Mapping[str, Any]) -> bool:
    """Whether `edge_server` follows `server` in what was changed, so that candidates are then measured with what
    serves; unless it is said apart already."""
    return settings.server.which == LLAMA_CPP and all(
        getattr(settings.server, name) == getattr(settings.edge_server, name) for name in changed
    )


class _Disturbed(NotMeasured):
    """Something else wanted the machine meanwhile."""


class Comparisons:
    """Pairs of settings, measured in turn, and the rounds that were kept of them."""

    def __init__(
        self,
        place: TriesSettings,
        settings: Settings,
        model: OneModel,
        plan: TuningPlan,
        total: int,
        draft: Path | None,
        on_progress: OnProgress,
    ) -> None:
        self._place, self._model, self._plan, self._draft = place, model, plan, draft
        self._weights = Weights(model.path, model.sha256)
        self._watched = settings.watch_machine
        self._calibration: Calibration | None = None
        self._total, self._on_progress = total, on_progress
        self._rows: list[dict[str, Any]] = []
        self._told: list[dict[str, Any]] = []
        self.run_id = f"tune_{datetime.now(UTC):%Y%m%d_%H%M%S}"

    def compare(self, of: Chosen, against: Chosen) -> Mapping[str, Ratio]:
        """See `tuning.Compare`. What was measured on a busy machine is measured again, as a tier of times is."""
        for attempt in range(1, ATTEMPTS):
            try:
                return self._compared(of, against)
            except _Disturbed as busy:
                self._total += 1
                self._on_progress(Progress("machine", attempt, ATTEMPTS, busy.problem))
        return self._compared(of, against)

    def _compared(self, of: Chosen, against: Chosen) -> Mapping[str, Ratio]:
        number = len(self._told)
        told: dict[str, Any] = {"comparison": number, "of": _labels(of), "against": _labels(against)}
        self._told.append(told)
        self._on_progress(Progress("tune", number + 1, self._total, f"{_labels(of)} beside {_labels(against)}"))
        sending = self._on_progress if number == 0 else silent
        pairing = Pairing(self._weights, self._model.name, of, against, self._draft)
        try:
            with self._place.trying(pairing, on_progress=sending) as both:
                endpoints = [one.served.endpoint for one in both]
                plan = self._plan.inference(endpoints[0].slots)
                with both[0].watching() as seen:
                    mine, theirs = measure_interleaved(
                        endpoints, plan, open_client=_clients_of(both), calibration=self._calibration
                    )
                # The client is the same throughout: it is calibrated once.
                self._calibration = Calibration.stated(mine.provenance)
                printed, beside = (one.fingerprint.model_dump(mode="json") for one in both)
                told |= {"machine": seen.provenance(), "fingerprint": printed, "fingerprint_against": beside}
        except (ServerFailed, Unreachable) as error:
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
            raise _Disturbed(complaint)
        return ratios(mine, theirs)

    def table(self, card: Card, device_class: str | None) -> pa.Table:
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
            "plan": self._plan.inference(1).model_dump(mode="json", exclude={"prompts", "load"})
            | {"prompt_tokens": self._plan.prompt_tokens},
            "comparisons": self._told,
            "measured_on": {"target": card.on, "class": device_class},
            "card": _without_secrets(card).to_json(),
        }
        table = pa.Table.from_pylist(self._rows, schema=schema)
        return table.replace_schema_metadata({"milton": json.dumps(stated, sort_keys=True)})


def _clients_of(both: tuple[Measured, Measured]) -> OpenClient:
    """Opens the client of whichever of the two servers is asked."""

    def opened(endpoint: Endpoint, plan: InferencePlan) -> AbstractContextManager[Client]:
        return next(one for one in both if one.served.endpoint == endpoint).open_client(endpoint, plan)

    return opened


def _without_secrets(card: Card) -> Card:
    """The card without the values of keys and the like among the arguments: it is kept for ever."""
    if (words := card.settings.get("extra_args")) is None:
        return card
    return replace(card, settings={**card.settings, "extra_args": list(without_secrets(words))})


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
