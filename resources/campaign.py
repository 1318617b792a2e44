"""How a campaign is to be run: where state lies, how thoroughly to measure, under which policy, what to deploy.

What belongs here: the settings every job shares, read once from the environment and validated. What does not: anything
that a single asset configures.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Self, TypeVar

from dagster import ConfigurableResource
from pydantic import Field, TypeAdapter, field_validator

from milton_assets.settings import GoldenSet, load_settings
from milton_assets.vocabulary.edge_target import DEFAULT_TARGET
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.keys import check_key
from milton_assets.vocabulary.registry import ArtefactKind
from milton_assets.vocabulary.server import Endpoint
from milton_assets.vocabulary.slo import SLO
from milton_assets.vocabulary.state import StateDir
from resources.api_keys import key_from
from resources.side_models import SideModel

_GOLDENS = TypeAdapter(dict[str, tuple[GoldenSet, ...]])


class Rerank(StrEnum):
    """How candidates rerank: `pointwise` works with every model, `listwise` asks for more."""

    POINTWISE = "pointwise"
    LISTWISE = "listwise"


_MAX_DAYS = 36_500


class Profile(StrEnum):
    """How thoroughly the tiers measure: `full` for decisions, `smoke` for a first look in minutes."""

    FULL = "full"
    SMOKE = "smoke"


Choice = TypeVar("Choice", bound=StrEnum)


def one_of(kind: type[Choice], text: str, variable: str) -> Choice:
    """The choice that `text` names. Raises `BadInput` naming the variable and the choices."""
    try:
        return kind(text)
    except ValueError:
        raise BadInput(
            f"{variable} is {text!r}",
            expected=f"one of {[str(k) for k in kind]}",
            remedy=f"unset or correct {variable}",
        ) from None


class Campaign(ConfigurableResource):  # type: ignore[type-arg]
    """Settings of a campaign; `from_environment` documents the variables."""

    state_root: str = Field(description="The state folder, see MILTON_STATE_DIR.")
    profile: Profile = Field(default=Profile.FULL, description="full or smoke.")
    policy: str = Field(default="seed", description="A shipped policy's name, or the path of a YAML file.")
    artifact: ArtefactKind = Field(default=ArtefactKind.GGUF, description="What is bundled: gguf or hf-distilled.")
    reuse_answers: bool = Field(
        default=True,
        description="Answer from the cache what the same weights were asked before; never for timing.",
    )
    rerank: Rerank = Field(default=Rerank.POINTWISE, description="pointwise or listwise.")
    judge_url: str | None = Field(default=None, description="Where a judge of open answers is served.")
    judge_model: str | None = Field(default=None, description="The judge's name there.")
    judge_key_env: str | None = Field(default=None, description="The environment variable that holds its API key.")
    embeddings_url: str | None = Field(default=None, description="A server with /v1/embeddings, for the baselines.")
    embeddings_model: str | None = Field(default=None, description="The embedding model's name there.")
    embeddings_key_env: str | None = Field(default=None, description="The environment variable that holds its API key.")
    dry_run: bool = Field(default=False, description="Say what would be measured, and measure nothing.")
    slo_text: str = Field(default="", description="Limits that a request must keep, as in ttft_ms=200,tpot_ms=50.")
    bundle_expires_days: float | None = Field(
        default=None,
        gt=0,
        description="So many days after they are made, bundles are not taken any more; never by default.",
    )
    target_paths: dict[str, str] = Field(
        default_factory=dict, description="Edge targets outside the state folder: name to directory, absolute."
    )

    golden_sets: dict[str, Any] = Field(
        default_factory=dict, description="Own goldens: tier to a list of sets, each with path and private."
    )

    @field_validator("state_root")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if not Path(value).is_absolute():
            raise BadInput(f"the state folder {value!r} is relative", expected="an absolute path")
        return value

    @field_validator("slo_text")
    @classmethod
    def _limits(cls, value: str) -> str:
        if value:
            SLO.parse(value, "MILTON_SLO")
        return value

    @property
    def slo(self) -> SLO | None:
        """The service-level objective that requests are measured by, if there is one."""
        return SLO.parse(self.slo_text, "MILTON_SLO") if self.slo_text else None

    @property
    def state(self) -> StateDir:
        """The state folder."""
        return StateDir(Path(self.state_root))

    @property
    def judge(self) -> SideModel | None:
        """The judge of open answers, if one is named."""
        return _side_model(self.judge_url, self.judge_model, self.judge_key_env, "MILTON_JUDGE")

    @property
    def embeddings(self) -> SideModel | None:
        """The model behind the embedding baselines, if one is named."""
        return _side_model(self.embeddings_url, self.embeddings_model, self.embeddings_key_env, "MILTON_EMBEDDINGS")

    def target_names(self) -> list[str]:
        """The targets a campaign deploys to: those named in `target_paths`, or the default one."""
        return sorted(self.target_paths) or [DEFAULT_TARGET]

    @property
    def goldens(self) -> dict[str, tuple[GoldenSet, ...]]:
        """Sets of goldens of one's own, by tier."""
        return _GOLDENS.validate_python(self.golden_sets)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read MILTON_STATE_DIR, _PROFILE, _POLICY, _ARTIFACT, _TARGETS, _SLO, _BUNDLE_EXPIRES_DAYS, _DRY_RUN, _RERANK,
        _JUDGE_… and _EMBEDDINGS_….

        The last two are URL, MODEL and KEY_ENV, the name of the variable that holds the key.
        MILTON_TARGETS is `NAME=DIR,NAME=DIR`; without it, campaigns deploy to one target in the state folder.
        MILTON_DRY_RUN is 1 or 0. Raises `BadInput`.
        """
        env = os.environ if environment is None else environment
        for prefix in ("MILTON_JUDGE", "MILTON_EMBEDDINGS"):
            _side_model(env.get(f"{prefix}_URL"), env.get(f"{prefix}_MODEL"), None, prefix)
        return cls(
            state_root=str(StateDir.from_environment(env).root),
            profile=one_of(Profile, env.get("MILTON_PROFILE", "full"), "MILTON_PROFILE"),
            policy=env.get("MILTON_POLICY", "seed"),
            artifact=one_of(ArtefactKind, env.get("MILTON_ARTIFACT", "gguf"), "MILTON_ARTIFACT"),
            slo_text=env.get("MILTON_SLO", ""),
            dry_run=_switch(env.get("MILTON_DRY_RUN", "0"), "MILTON_DRY_RUN"),
            bundle_expires_days=_days(env.get("MILTON_BUNDLE_EXPIRES_DAYS", ""), "MILTON_BUNDLE_EXPIRES_DAYS"),
            target_paths=_targets(env.get("MILTON_TARGETS", "")),
            rerank=one_of(Rerank, env.get("MILTON_RERANK", "pointwise"), "MILTON_RERANK"),
            judge_url=env.get("MILTON_JUDGE_URL") or None,
            judge_model=env.get("MILTON_JUDGE_MODEL") or None,
            judge_key_env=env.get("MILTON_JUDGE_KEY_ENV") or None,
            embeddings_url=env.get("MILTON_EMBEDDINGS_URL") or None,
            embeddings_model=env.get("MILTON_EMBEDDINGS_MODEL") or None,
            golden_sets=_GOLDENS.dump_python(load_settings(env).goldens, mode="json"),
            embeddings_key_env=env.get("MILTON_EMBEDDINGS_KEY_ENV") or None,
        )


def _side_model(url: str | None, model: str | None, key_env: str | None, prefix: str) -> SideModel | None:
    if url and model:
        return SideModel(Endpoint(url, model).base_url, model, key_from(key_env))
    if url or model:
        raise BadInput(f"{prefix}_URL is {url!r} and {prefix}_MODEL is {model!r}", expected="both, or neither of them")
    return None


def _switch(text: str, variable: str) -> bool:
    if text not in {"", "0", "1"}:
        raise BadInput(f"{variable} is {text!r}", expected="1 or 0")
    return text == "1"


def _days(text: str, variable: str) -> float | None:
    if not text:
        return None
    try:
        days = float(text)
    except ValueError:
        days = 0.0
    if not 0 < days <= _MAX_DAYS:
        raise BadInput(f"{variable} is {text!r}", expected=f"a number of days, above 0 and at most {_MAX_DAYS}")
    return days


def _targets(text: str) -> dict[str, str]:
    paths = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, path = part.partition("=")
        if not Path(path).is_absolute():
            raise BadInput(f"MILTON_TARGETS holds {part!r}", expected="NAME=DIR,NAME=DIR with absolute directories")
        paths[check_key(name, "target name")] = path
    return paths
