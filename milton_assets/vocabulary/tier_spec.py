"""What a tier says of itself: everything the rest of the house needs to measure, pair, compare, show and decide by it.

    SPEC = TierSpec(
        name="json_answers",
        about="Whether the model answers in JSON when asked to.",
        metrics=(MetricSpec("valid_share", "share", Direction.HIGHER, CaseColumns("case_id", "is_valid")),),
        headline="valid_share",
        needs=Needs.CHAT,
        goldens=(GoldenFile("json_answers_cases", "cases.jsonl", "Requests for JSON."),),
        read_goldens=read_cases,
        plan=lambda conditions: JsonPlan(concurrency=conditions.slots),
        measure=measure,
        code_version=code_version,
    )

What belongs here: `TierSpec`, the parts it is made of, what `measure` is handed, and several specs together. What does
not: finding the tiers that are installed (`milton_assets.tiers.discovery`), and any tier.

A tier of one's own is a package with such a value, named by an entry point of the group `milton.tiers`; see
`examples/tier_json_answers`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Protocol

from pydantic import BaseModel

from milton_assets.vocabulary.case_sheet import CaseSheet
from milton_assets.vocabulary.chart import Chart
from milton_assets.vocabulary.chat import ChatModel
from milton_assets.vocabulary.errors import BadInput, one_of
from milton_assets.vocabulary.evaluation import RunsEvaluations
from milton_assets.vocabulary.forcing import TeacherForcing
from milton_assets.vocabulary.keys import check_tier_name, check_variants_seed
from milton_assets.vocabulary.metric import Direction
from milton_assets.vocabulary.named_weights import NamedWeights
from milton_assets.vocabulary.progress import OnProgress, silent
from milton_assets.vocabulary.server import RunningServer
from milton_assets.vocabulary.slo import SLO
from milton_assets.vocabulary.tier import TierResult, asset_of


class Needs(StrEnum):
    """What a tier measures through. `endpoint`: the server's address, for figures of time, which no cache may answer.

    `chat`: a model that is asked questions; what it was asked before may be answered from the cache. `probabilities`:
    what the model expects at each place of a text, where its server tells that; kept likewise. `evaluation`: the
    server's address too, for another's package that asks there by itself.
    """

    ENDPOINT = "endpoint"
    CHAT = "chat"
    PROBABILITIES = "probabilities"
    EVALUATION = "evaluation"


class Uses(StrEnum):
    """A model beside the one under test that a tier makes use of when there is one: the campaign names the first two,
    the registry the model that the one under test was made from."""

    JUDGE = "judge"
    EMBEDDINGS = "embeddings"
    REFERENCE = "reference"


@dataclass(frozen=True)
class CaseColumns:
    """Of which column of the samples a metric is the mean, and which column names the case.

    `part`: only rows whose column `part` says so count, where the samples have parts. `missing`: what a row without a
    value counts as; not a number where such a row is no case at all.
    """

    case: str
    value: str
    missing: float = math.nan
    part: str | None = None


@dataclass(frozen=True)
class MetricSpec:
    """A metric: its name, its unit, which way it is better (None: neither), and how it is paired by case, if it is."""

    name: str
    unit: str
    better: Direction | None = None
    cases: CaseColumns | None = None


@dataclass(frozen=True)
class VariantColumns:
    """Where the samples say how a model did on published cases and on fresh variants of the same templates.

    Rows whose column `part` is `published` or `fresh` count, where `template` names the template; `right` is whether
    the answer was right. A row whose `label` is among `unanswered` got no answer, and says nothing.

    `at_some_step` names a column that says whether any answer of a chain of steps was right, null where a step failed.
    It counts in the place of `right` where fresh variants went through the steps too, so that some of them have it.

    `only_where_planned`: a table whose plan names no seed says nothing at all, rather than that nothing is known: of a
    tier that learnt to ask variants after decisions were taken on its tables, which are repeated byte for byte.
    """

    part: str
    published: str
    fresh: str
    template: str
    right: str
    label: str
    unanswered: frozenset[str]
    at_some_step: str | None = None
    only_where_planned: bool = False


@dataclass(frozen=True)
class GoldenFile:
    """A file of the goldens that ship: `name` in the evidence manifest, `file` in the tables' provenance.

    `scored` is whether a figure rests on it; a description of the set, say, is pinned too, but makes no figure other.
    """

    name: str
    file: str
    about: str
    scored: bool = True


class Embeds(Protocol):
    """A client of a server that turns texts into vectors."""

    def embeddings(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """A vector a text, all of one length. Raises `ModelCallFailed`."""
        ...


class EmbeddingServer(Protocol):
    """A server of embeddings that the campaign names."""

    @property
    def base_url(self) -> str:
        """Its address."""
        ...

    @property
    def model(self) -> str:
        """The model's name there."""
        ...

    def client(self) -> AbstractContextManager[Embeds]:
        """A client of it."""
        ...


@dataclass(frozen=True)
class Conditions:
    """What a plan is made from: the profile (`full` or `smoke`), the server's slots, and the campaign's wishes.

    `variants_seed` draws the fresh variants, the same for all candidates of a campaign; without one there are none.
    `reasoning_budget_s` is how long the reasoning tier may ask each candidate, None without end.
    """

    profile: str = "full"
    slots: int = 1
    slo: SLO | None = None
    rerank: str = "pointwise"
    variants_seed: str | None = None
    reasoning_budget_s: float | None = None

    def __post_init__(self) -> None:
        if self.variants_seed is not None:
            check_variants_seed(self.variants_seed)


@dataclass(frozen=True)
class PlanOption:
    """An option of `milton bench NAME` that sets a field of the plan: `--name` takes a value of `kind`."""

    name: str
    field: str
    kind: type[int | float | str]
    about: str


VARIANTS_SEED: Final = PlanOption(
    "variants-seed",
    "variants_seed",
    str,
    "Draw the fresh variants by this seed, as an earlier result states it, instead of one minted now.",
)
"""The option of every tier that asks fresh variants."""

JudgeOf = Callable[[Any], AbstractContextManager[Any]]
"""Opens the campaign's judge, qualified on the labelled pairs given; None inside when no judge is named."""


def no_judge(_: Any) -> AbstractContextManager[None]:
    """Where nobody named a judge."""
    return nullcontext()


OpensClient = Callable[..., AbstractContextManager[Any]]
"""Opens what makes a tier's timed requests beside a server that is not on this machine."""


@dataclass(frozen=True)
class Reference:
    """The model that the one under test was made from, or is to be like: its version or file, and its weights' digest.

    `forcing` opens it to be asked; inside, asking raises `ReferenceNotToBeHad` where it cannot be served here.
    """

    name: str
    artefact_sha256: str
    forcing: Callable[[], AbstractContextManager[TeacherForcing]]


@dataclass(frozen=True)
class NoReference:
    """There is none to compare with, and why."""

    why: str


@dataclass(frozen=True)
class Incumbent:
    """The model that serves on the edge, to be measured beside the one under test.

    `serve` serves it beside the model under test for the length of a block; it raises `ServerFailed`, and `BadInput`
    for files that do not hold, where it cannot.
    """

    weights: NamedWeights
    serve: Callable[[], AbstractContextManager[RunningServer]]


@dataclass(frozen=True)
class Measuring:
    """What `measure` is handed. `goldens` is what the tier's reader returned, `plan` what its `plan` made.

    `forcing` is None in a tier that needs no probabilities, and where the server does not tell them.
    `open_client` is there where the server runs on a device: the tier's requests are then made there, and by it.
    `incumbent` is there in a tier of times, where another model serves on the edge.
    """

    served: RunningServer
    goldens: Any
    plan: Any
    chat_model: ChatModel | None = None
    judge: JudgeOf = no_judge
    embeddings: EmbeddingServer | None = None
    forcing: TeacherForcing | None = None
    reference: Reference | NoReference = NoReference("this campaign names no reference")
    on_progress: OnProgress = silent
    open_client: OpensClient | None = None
    incumbent: Incumbent | None = None
    runs_evaluations: RunsEvaluations | None = None

    @property
    def evaluations(self) -> RunsEvaluations:
        """What runs evaluations of others. Raises `BadInput` in a tier that does not say that it needs that."""
        if self.runs_evaluations is None:
            raise BadInput(
                "this tier runs an evaluation and was given nothing to run it with",
                expected="needs=Needs.EVALUATION in its spec",
            )
        return self.runs_evaluations

    @property
    def chat(self) -> ChatModel:
        """The model to ask. Raises `BadInput` in a tier that does not say that it needs one."""
        if self.chat_model is None:
            raise BadInput("this tier asks a chat model and was given none", expected="needs=Needs.CHAT in its spec")
        return self.chat_model


def _one_set(sets: Mapping[str, Any]) -> Any:
    if len(sets) != 1:
        raise BadInput(f"{len(sets)} sets of goldens were given", expected="one: this tier does not join several")
    return next(iter(sets.values()))


@dataclass(frozen=True)
class TierSpec:
    """A tier. Raises `BadInput` for a name that cannot name an asset, metrics named twice, a headline that is none.

    `read_goldens(path)` reads a set, None meaning the one that ships (in the folder `shipped`), and raises `BadInput`
    naming file and line; `join_goldens` makes one of several sets by their names. `open_columns` are the text columns
    of the samples that hold names and labels only: of a private set, the others are kept as digests. `texts` gives the
    texts of a set, which are cut out of a private one's messages. `baselines` explains the prefixes of metrics that a
    figure is read against (`bm25:nDCG@10`). `variants` is where fresh variants stand in the samples, in a tier that
    asks them. `code_version` changes whenever a figure would mean something else.

    `per_class`: the figures depend on the device, so they are measured on a reference device of each class that has
    one; its `measure` then makes its requests through `Measuring.open_client`. All else is measured once.

    `from_log` makes a result of another's log in the place of `measure`, in a tier whose logs may be imported.

    `effort` is how much a plan asks of those goldens, in a unit of the tier's own that is alike for all its plans: how
    long one profile takes is reckoned from what another took. None, or without it, nobody can say.

    `charts` gives the pictures of several models side by side as data, for the report; `sheets` a result's cases as a
    person reads them, with the set that it was measured on, or None where that is not what lies there any more.
    """

    name: str
    about: str
    metrics: tuple[MetricSpec, ...]
    headline: str
    needs: Needs
    plan: Callable[[Conditions], BaseModel]
    measure: Callable[[Measuring], TierResult]
    code_version: Callable[[], str]
    read_goldens: Callable[[Path | None], Any]
    goldens: tuple[GoldenFile, ...] = ()
    shipped: Path | None = None
    join_goldens: Callable[[Mapping[str, Any]], Any] = _one_set
    uses: frozenset[Uses] = frozenset()
    per_class: bool = False
    baselines: Mapping[str, str] = field(default_factory=dict)
    variants: VariantColumns | None = None
    options: tuple[PlanOption, ...] = ()
    pictures: Callable[[Mapping[str, TierResult]], dict[str, bytes]] | None = None
    charts: Callable[[Mapping[str, TierResult]], Sequence[Chart]] = lambda _: ()
    sheets: Callable[[TierResult, Any], Sequence[CaseSheet]] | None = None
    open_columns: frozenset[str] = frozenset()
    texts: Callable[[Any], Iterable[str]] = lambda _: ()
    from_log: Callable[[Path], TierResult] | None = None
    effort: Callable[[Any, Any], float | None] = lambda _plan, _goldens: None

    def __post_init__(self) -> None:
        check_tier_name(self.name)
        names = [metric.name for metric in self.metrics]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise BadInput(f"tier {self.name} has the metrics {twice} twice", expected="unique names")
        if self.headline not in names:
            raise BadInput(
                f"tier {self.name} has no metric {self.headline!r} as its headline", expected=f"one of {names}"
            )

        if self.goldens and self.shipped is None:
            raise BadInput(f"tier {self.name} has goldens and no folder that they ship in", expected="shipped=FOLDER")

    @property
    def asset_name(self) -> str:
        """The asset that holds its tables."""
        return asset_of(self.name)

    def find(self, metric: str) -> MetricSpec | None:
        """The metric of that name, if there is one."""
        return next((one for one in self.metrics if one.name == metric), None)

    def units(self) -> tuple[tuple[str, str], ...]:
        """Name and unit of every metric."""
        return tuple((metric.name, metric.unit) for metric in self.metrics)

    def skipped(self, why: str) -> TierResult:
        """The tier's result where nobody ran it."""
        return TierResult.skipped(self.name, self.units(), why)


class Tiers(Mapping[str, TierSpec]):
    """Several tiers by name, in the order in which they are measured. Raises `BadInput` for a name that is there twice,
    and for golden files of one name."""

    def __init__(self, specs: Iterable[TierSpec]) -> None:
        self._specs: dict[str, TierSpec] = {}
        golden_of: dict[str, str] = {}
        for spec in specs:
            if spec.name in self._specs:
                raise BadInput(f"there are two tiers {spec.name}", expected="a name a tier", remedy="uninstall one")
            self._specs[spec.name] = spec
            for golden in spec.goldens:
                if (other := golden_of.setdefault(golden.name, spec.name)) != spec.name:
                    raise BadInput(
                        f"the tiers {other} and {spec.name} both have a golden {golden.name}", expected="unique names"
                    )

    def __getitem__(self, name: str) -> TierSpec:
        try:
            return self._specs[name]
        except KeyError:
            raise NoSuchTier(
                f"no tier {name!r:.80} is installed",
                expected=one_of(self._specs),
                remedy="install the package that brings it, in the environment of Milton Autobench",
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)

    def golden(self, name: str) -> tuple[TierSpec, GoldenFile] | None:
        """The shipped golden of that name in the manifest, and whose it is."""
        found = ((spec, golden) for spec in self.values() for golden in spec.goldens if golden.name == name)
        return next(found, None)


class NoSuchTier(BadInput, KeyError):
    """A tier that is not installed. Also a `KeyError`, as a mapping promises."""

    __str__ = BadInput.__str__
