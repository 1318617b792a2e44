"""How a campaign is to be run, as a Dagster resource: what a person may edit in the launchpad, made from the settings.

What belongs here: the settings every job shares, as configuration of Dagster's, and what is made of them. What does
not: reading and validating settings (`milton_assets.settings`), and anything that a single asset configures.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any, Self

from dagster import ConfigurableResource
from pydantic import Field, TypeAdapter, field_validator

from milton_assets.selection.policy_file import shipped_policies
from milton_assets.settings import GoldenSet, LogLevel, Profile, Rerank, RolloutSettings, Settings, SideModelSettings
from milton_assets.settings.model import LOCAL_CLASS, MLFLOW_EXPERIMENT, MlflowSettings
from milton_assets.vocabulary.edge_target import DEFAULT_TARGET, class_decided_for
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.keys import campaign_of, run_of
from milton_assets.vocabulary.registry import ArtefactKind
from milton_assets.vocabulary.slo import SLO
from milton_assets.vocabulary.state import StateDir
from resources.demo_default import Chosen, chosen_for
from resources.side_models import SideModel, side_model

QUEUE_TAG = "dagster-celery/queue"
"""The tag of a run by which Celery's launcher finds its queue."""

_GOLDENS = TypeAdapter(dict[str, tuple[GoldenSet, ...]])


class Campaign(ConfigurableResource):  # type: ignore[type-arg]
    """Settings of a campaign; `milton_assets.settings.Settings` documents them."""

    state_root: str = Field(description="The state folder, see MILTON_STATE_DIR.")
    profile_set: Profile | None = Field(
        default=None, description="full or smoke; null: smoke while the registry holds only the demo's models."
    )
    policy_set: str | None = Field(
        default=None,
        description=f"{', '.join(shipped_policies())}, or a YAML file's path; null: seed, or smoke likewise.",
    )
    notes_set: list[str] | None = Field(
        default=None, description="What is to be said of profile and policy; a campaign tells its child runs."
    )
    artifact: ArtefactKind = Field(default=ArtefactKind.GGUF, description="What is bundled: gguf or hf-distilled.")
    reuse_answers: bool = Field(
        default=True,
        description="Answer from the cache what the same weights were asked before; never for timing.",
    )
    watch_machine: bool = Field(
        default=True,
        description="While speeds are measured, watch the machine: what was taken while others wanted it is invalid.",
    )
    rerank: Rerank = Field(default=Rerank.POINTWISE, description="pointwise or listwise.")
    reasoning_budget_s: float | None = Field(
        default=None, gt=0, description="How long the reasoning tier may ask each candidate, in seconds; null: no end."
    )
    judge_url: str | None = Field(default=None, description="Where a judge of open answers is served.")
    judge_model: str | None = Field(default=None, description="The judge's name there.")
    judge_key_env: str | None = Field(default=None, description="The environment variable that holds its API key.")
    embeddings_url: str | None = Field(default=None, description="A server with /v1/embeddings, for the baselines.")
    embeddings_model: str | None = Field(default=None, description="The embedding model's name there.")
    embeddings_key_env: str | None = Field(default=None, description="The environment variable that holds its API key.")
    dry_run: bool = Field(default=False, description="Say what would be measured, and measure nothing.")
    slo_limits: dict[str, float] = Field(
        default_factory=dict, description="Limits that a request must keep, as in ttft_ms: 200, tpot_ms: 50."
    )
    bundle_expires_days: float | None = Field(
        default=None,
        gt=0,
        description="So many days after they are made, bundles are not taken any more; never by default.",
    )
    target_paths: dict[str, str] = Field(
        default_factory=dict, description="Edge targets outside the state folder: name to directory, absolute."
    )
    device_classes: list[str] = Field(default_factory=lambda: [LOCAL_CLASS], description="Devices that compute alike.")
    target_classes: dict[str, str] = Field(default_factory=dict, description="The device class of each target.")
    class_references: dict[str, str] = Field(
        default_factory=dict, description="Classes with a speed of their own: the target on which it is measured."
    )
    class_rollouts: dict[str, Any] = Field(
        default_factory=dict, description="By device class, in which waves a release comes to several of its targets."
    )
    golden_sets: dict[str, Any] = Field(
        default_factory=dict, description="Own goldens: tier to a list of sets, each with path and private."
    )
    allowed_templates: list[str] = Field(
        default_factory=list, description="Digests of chat templates that may be promoted, see the setting."
    )
    allowed_contaminated: list[str] = Field(
        default_factory=list, description="Digests of weights that may be promoted though they know published answers."
    )
    anchors_let_go: list[str] = Field(
        default_factory=list, description="Digests of weights that challengers are held to no more, see the setting."
    )
    mlflow_url: str | None = Field(default=None, description="An MLflow server that is told of the campaign.")
    mlflow_experiment: str = Field(default=MLFLOW_EXPERIMENT, description="The experiment that its runs are in there.")
    log_level: LogLevel = Field(default=LogLevel.ERROR, description="How much Dagster says on the terminal.")
    queues: dict[str, str] = Field(
        default_factory=dict, description="The workers' queue by job, target or class, see the setting."
    )
    accelerator_pool: str = Field(default="accelerator", description="The pool that a tier of this host holds.")
    registry_uri: str | None = Field(default=None, description="The registry; null: the file in the state folder.")
    cache_root: str | None = Field(default=None, description="The cache folder; null: in the state folder.")

    @field_validator("state_root")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if not Path(value).is_absolute():
            raise BadInput(f"the state folder {value!r} is relative", expected="an absolute path")
        return value

    @field_validator("slo_limits")
    @classmethod
    def _limits(cls, value: dict[str, float]) -> dict[str, float]:
        if value:
            SLO.model_validate(value)
        return value

    @field_validator("mlflow_url")
    @classmethod
    def _an_address(cls, value: str | None) -> str | None:
        if value is not None:
            MlflowSettings(url=value)
        return value

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The campaign that the settings describe."""
        judge, embeddings = settings.judge, settings.embeddings
        return cls(
            state_root=str(settings.state_dir),
            profile_set=settings.profile,
            policy_set=settings.policy,
            artifact=settings.artifact,
            reuse_answers=settings.reuse_answers,
            watch_machine=settings.watch_machine,
            rerank=settings.rerank,
            reasoning_budget_s=settings.reasoning_budget_s,
            judge_url=judge.url if judge else None,
            judge_model=judge.model if judge else None,
            judge_key_env=judge.key_env if judge else None,
            embeddings_url=embeddings.url if embeddings else None,
            embeddings_model=embeddings.model if embeddings else None,
            embeddings_key_env=embeddings.key_env if embeddings else None,
            dry_run=settings.dry_run,
            slo_limits=settings.slo.limits() if settings.slo else {},
            bundle_expires_days=settings.bundle_expires_days,
            target_paths={name: target.at for name, target in settings.targets.items()},
            device_classes=list(settings.device_classes),
            target_classes={name: target.device_class for name, target in settings.targets.items()},
            class_references=settings.class_references,
            class_rollouts={
                name: told.rollout.model_dump(mode="json")
                for name, told in settings.device_classes.items()
                if told.rollout is not None
            },
            golden_sets=_GOLDENS.dump_python(settings.goldens, mode="json"),
            allowed_templates=list(settings.allowed_templates),
            allowed_contaminated=list(settings.allowed_contaminated),
            anchors_let_go=list(settings.anchors_let_go),
            mlflow_url=settings.mlflow.url if settings.mlflow else None,
            mlflow_experiment=settings.mlflow.experiment if settings.mlflow else MLFLOW_EXPERIMENT,
            log_level=settings.log_level,
            queues=dict(settings.queues),
            accelerator_pool=settings.accelerator_pool,
            registry_uri=settings.registry,
            cache_root=str(settings.cache_dir),
        )

    def choosing(self, profile: Profile | None, policy: str | None) -> Self:
        """The same settings, but for a profile and a policy that are named here."""
        if profile is None and policy is None:
            return self
        whole = {name: getattr(self, name) for name in type(self).model_fields}
        named = {"profile_set": profile or self.profile_set, "policy_set": policy or self.policy_set}
        return type(self)(**{**whole, **named, "notes_set": None})

    @property
    def chosen(self) -> Chosen:
        """The profile and the policy, and what is to be said of them; where they are not set, the registry decides."""
        if self.profile_set and self.policy_set and self.notes_set is not None:
            return Chosen(self.profile_set, self.policy_set, tuple(self.notes_set))
        return chosen_for(self.profile_set, self.policy_set, None if self.registry_uri else self.state.registry)

    @property
    def profile(self) -> Profile:
        """How thoroughly the tiers measure."""
        return self.chosen.profile

    @property
    def policy(self) -> str:
        """A shipped policy's name, or the path of a YAML file."""
        return self.chosen.policy

    @property
    def slo(self) -> SLO | None:
        """The service-level objective that requests are measured by, if there is one."""
        return SLO.model_validate(self.slo_limits) if self.slo_limits else None

    @property
    def state(self) -> StateDir:
        """The state folder."""
        return StateDir(Path(self.state_root))

    @property
    def cache_dir(self) -> Path:
        """Where lies what can be had again, environments of evaluation packages among it."""
        return Path(self.cache_root) if self.cache_root else self.state.cache

    @property
    def goldens(self) -> dict[str, tuple[GoldenSet, ...]]:
        """Sets of goldens of one's own, by tier."""
        return _GOLDENS.validate_python(self.golden_sets)

    @property
    def judge(self) -> SideModel | None:
        """The judge of open answers, if one is named."""
        return side_model(_side(self.judge_url, self.judge_model, self.judge_key_env))

    @property
    def embeddings(self) -> SideModel | None:
        """The model behind the embedding baselines, if one is named."""
        return side_model(_side(self.embeddings_url, self.embeddings_model, self.embeddings_key_env))

    @property
    def mlflow(self) -> MlflowSettings | None:
        """The MLflow server that is told of the campaign, if one is named."""
        if self.mlflow_url is None:
            return None
        return MlflowSettings(url=self.mlflow_url, experiment=self.mlflow_experiment)

    def target_names(self) -> list[str]:
        """The targets a campaign deploys to: those named in `target_paths`, or the default one."""
        return sorted(self.target_paths) or [DEFAULT_TARGET]

    def class_decided_for(self, target: str) -> str | None:
        """The class whose own winner that target gets; None: the winner by the speeds of this machine."""
        return class_decided_for(target, self.target_classes, self.class_references)

    def runs_of(self, campaign: str) -> dict[str, list[str]]:
        """The runs that decide in that campaign, each with the targets that get its winner."""
        runs: dict[str, list[str]] = {}
        for target in self.target_names():
            runs.setdefault(run_of(campaign, self.class_decided_for(target)), []).append(target)
        return dict(sorted(runs.items()))

    def decides_here(self) -> bool:
        """Whether any target gets its winner by the speeds of this machine."""
        return any(self.class_decided_for(target) is None for target in self.target_names())

    def classes_measured_here(self) -> list[str]:
        """Classes of targets, other than this machine's own, that get a winner by the speeds of this machine."""
        names = {self.target_classes.get(target, LOCAL_CLASS) for target in self.target_names()}
        return sorted(names - {LOCAL_CLASS} - self.class_references.keys())

    def queue_tags(self, job: str, *places: str) -> dict[str, str]:
        """The tag that sends a run to the workers' queue of its target or class, else of its job; none by default."""
        queue = next((self.queues[name] for name in (*places, job) if name in self.queues), None)
        return {QUEUE_TAG: queue} if queue is not None else {}

    def targets_of(self, run_id: str) -> list[str]:
        """The targets that get that run's winner."""
        return self.runs_of(campaign_of(run_id)).get(run_id, [])

    def classes_of(self, run_id: str) -> dict[str, list[str]]:
        """The targets that get that run's winner, by their device class."""
        classes: dict[str, list[str]] = {}
        for target in self.targets_of(run_id):
            classes.setdefault(self.target_classes.get(target, LOCAL_CLASS), []).append(target)
        return dict(sorted(classes.items()))

    def rollout_to(self, device_class: str) -> RolloutSettings:
        """How a release comes to several targets of that class: by default one canary first, then the rest."""
        return RolloutSettings.model_validate(self.class_rollouts.get(device_class, {}))

    def pinned(self) -> dict[str, Any]:
        """Run configuration that holds a campaign's child runs to the profile and the policy that it began with.

        It is the whole of the resource's: what a run configures of a resource replaces all that it was made with.
        """
        chosen = self.chosen
        whole = {name: getattr(self, name) for name in type(self).model_fields}
        whole |= {"profile_set": chosen.profile, "policy_set": chosen.policy, "notes_set": list(chosen.notes)}
        told = {name: value.name if isinstance(value, Enum) else value for name, value in whole.items()}
        return {"campaign": {"config": told}}


def _side(url: str | None, model: str | None, key_env: str | None) -> SideModelSettings | None:
    if url and model:
        return SideModelSettings(url=url, model=model, key_env=key_env)
    if url or model:
        raise BadInput(f"a side model's url is {url!r} and its name {model!r}", expected="both, or neither of them")
    return None
