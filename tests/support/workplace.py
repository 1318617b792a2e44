"""A whole workplace in a temporary folder: state, registry, Dagster instance, and the graph served by scripted models.

What belongs here: assembling the real graph through `build_defs`, with a model server that a test controls. What does
not: assertions. The scripted models are behind a real server on loopback; the files they claim to be are real GGUFs.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dagster import (
    AssetKey,
    DagsterInstance,
    Definitions,
    ExecuteInProcessResult,
    JobExecutionResult,
    build_sensor_context,
    execute_job,
)
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.definitions.sensor_definition import SensorExecutionData

from milton_assets.definitions import build_defs
from milton_assets.edge.deployment.contract import QUESTIONS
from milton_assets.tiers import reasoning, retrieval
from milton_assets.vocabulary.fingerprint import ServerFingerprint
from milton_assets.vocabulary.server import Endpoint, RunningServer
from milton_assets.vocabulary.state import StateDir
from resources.edge_server import EdgeServer
from resources.model_server import LlamaCppResource
from resources.registries.json_file import add_entries, new_entry
from tests.support.calculating import calculating
from tests.support.gguf_file import tiny_gguf
from tests.support.reasoning_player import Player, handler, honest
from tests.support.retrieval_models import answer_key, knowing, reading
from tests.support.scripted_server import Answer, Reply, ScriptedServer, Status, answer, scripted_server

VERSIONS = ("good", "better", "poor", "bad", "v1", "v2", "v3")
"""The versions that the scripted server lists, and so the ones a test may register."""

PROBES = {probe.prompt for probe in QUESTIONS}

BUILD = "SCRIPTED_BUILD"
"""The environment variable with the build that the scripted server says it is: another one is another environment."""

PROBED_AFTER_S = 0.1
"""How long a probe is thought about: a device may be ten times slower, so the machine may stall for a second or two."""

Behaviour = Callable[[dict[str, Any]], Reply | str]


def competent(goldens: reasoning.ReasoningGoldens | None = None, *, by_heart: Collection[str] = ()) -> Behaviour:
    """A model that verifies its way to every right answer, of the set that ships or of `goldens`, and ranks as the
    judgements say. It works out what can be worked out, and reads; or in the tiers `by_heart` it has the published
    answers by heart, and no others."""
    known, ranked = goldens or reasoning.load_goldens(), retrieval.load_goldens()
    think = handler(
        honest(known.cases, wrong_every=len(known.cases))
        if "reasoning" in by_heart
        else calculating(known, honest(known.cases))
    )
    graded, read, key = knowing(ranked), reading(ranked), answer_key(ranked)

    def judge(message: str) -> float:
        if (share := read(message)) is None:
            return graded(message)
        return (key(message) or 0.5) if "retrieval" in by_heart else share

    def reply(body: dict[str, Any]) -> Reply | str:
        text = body["messages"][-1]["content"]
        if body.get("stream"):
            return answer("a ", "b ", "c ", "d", first_delay_s=0.001, delay_s=0.001)
        if body.get("top_logprobs"):
            return _yes_or_no(judge(text), text)
        return answer("Paris.", first_delay_s=PROBED_AFTER_S) if text in PROBES else think(body)

    return reply


def clueless() -> Behaviour:
    """A model that streams as fast as any, never knows an answer, and ranks passages by nothing but their length."""
    think = handler(Player())

    def reply(body: dict[str, Any]) -> Reply | str:
        if body.get("stream"):
            return answer("a ", "b ", "c ", "d", delay_s=0.001)
        if body.get("top_logprobs"):
            return _yes_or_no(0.5, body["messages"][-1]["content"])
        return think(body)

    return reply


def broken(_: dict[str, Any]) -> Reply:
    """A model whose server fails on every call."""
    return Status(500)


def _yes_or_no(probability: float, text: str) -> Answer:
    """`probability` of Yes, and a little that differs with the text: no model says the very same of everything."""
    p = min(max(probability, 0.01), 0.98) + len(text) * 1e-7
    return answer("Yes" if p >= 0.5 else "No", top_logprobs={"Yes": math.log(p), "No": math.log(1 - p)})


def _scripted() -> ServerFingerprint:
    return ServerFingerprint(name="scripted", launched_by_us=True, build=os.environ.get(BUILD))


@dataclass(frozen=True)
class ScriptedServing:
    """`Launcher` for the scripted server: every artefact is served there, under the name asked for."""

    base_url: str

    @contextmanager
    def serve(self, artefact: Path, model: str) -> Iterator[RunningServer]:
        yield RunningServer(Endpoint(self.base_url, model), _scripted())


class ScriptedModels(LlamaCppResource):
    """The model server and the edge runtime of a workplace."""

    base_url: str

    def launcher(self) -> ScriptedServing:  # type: ignore[override]
        return ScriptedServing(self.base_url)

    def edge_server(self) -> EdgeServer:
        """What edge targets are served with."""
        return EdgeServer(file=self.launcher())


@dataclass
class Workplace:
    """The graph over one state folder."""

    state: StateDir
    instance: DagsterInstance
    server: ScriptedServer
    defs: Definitions
    policy: str
    behaviours: dict[str, Behaviour] = field(default_factory=dict)

    def artefact(self, version: str) -> Path:
        """Where the GGUF of that version is or would be."""
        return self.state.root / "models" / "quantized" / version / "model-f32.gguf"

    def register(
        self,
        version: str,
        behaviour: Behaviour,
        *,
        seed: int = 0,
        template: str = "{{ messages }}",
        weights: Path | None = None,
    ) -> Path:
        """Add a candidate whose GGUF is a tiny real file, or a copy of `weights`, and which behaves so; the file."""
        path = self.artefact(version)
        path.parent.mkdir(parents=True)
        if weights is None:
            tiny_gguf(path, seed=seed, template=template)
        else:
            shutil.copyfile(weights, path)
        relative = str(path.relative_to(self.state.root))
        add_entries(self.state.registry, {version: new_entry("org/base", gguf=relative)})
        self.behaviours[version] = behaviour
        return path

    def write_registry(self, models: Mapping[str, Any]) -> None:
        """Replace the registry file, as a trainer would."""
        self.state.registry.parent.mkdir(parents=True, exist_ok=True)
        self.state.registry.write_text(json.dumps({"models": models}))

    def run(
        self,
        job: str,
        partition: str | None = None,
        *,
        tags: Mapping[str, str] | None = None,
        config: Any = None,
        assets: Sequence[AssetKey] | None = None,
    ) -> ExecuteInProcessResult:
        """Run a job to its end, or these of its `assets`; a failed one is returned, not raised."""
        if partition is not None:
            definition = {
                "benchmark_model": "model_versions",
                "promote": "benchmark_runs",
                "deploy": "edge_targets",
                "look_after": "edge_targets",
                "roll_out": "rollouts",
            }
            self.instance.add_dynamic_partitions(definition[job], [partition])
        return self.defs.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            partition_key=partition,
            tags=tags,
            run_config=config,
            raise_on_error=False,
            asset_selection=assets,
        )

    def succeed(
        self, job: str, partition: str | None = None, *, tags: Mapping[str, str] | None = None, config: Any = None
    ) -> ExecuteInProcessResult:
        """`run`, which has to succeed. Raises `AssertionError` that says why it did not."""
        result = self.run(job, partition, tags=tags, config=config)
        assert result.success, failure_of(result) or f"{job} of {partition} was interrupted"
        return result

    def ask(self, sensor: str, cursor: str | None = None) -> SensorExecutionData:
        """What that sensor makes of what there is, asked with an instance of its own that is closed, as by a daemon."""
        context = build_sensor_context(
            instance_ref=self.instance.get_ref(),
            cursor=cursor,
            repository_def=self.defs.get_repository_def(),
            resources={key: self.defs.resources[key] for key in ("registry", "campaign")},
        )
        with context:
            return self.defs.resolve_sensor_def(sensor).evaluate_tick(context)

    def in_dry_runs(self) -> Workplace:
        """The same workplace, in which campaigns are dry runs."""
        environment = {"MILTON_STATE_DIR": str(self.state.root), "MILTON_DRY_RUN": "1"}
        served = {key: self.defs.resources[key] for key in ("model_server", "edge_runtime")}
        return replace(self, defs=build_defs(environment=environment, overrides=served))

    def conduct(self, config: Any = None) -> JobExecutionResult:
        """Run `autobench` as the command line does, with the job loaded from a module."""
        environment = {
            "MILTON_STATE_DIR": str(self.state.root),
            "MILTON_PROFILE": "smoke",
            "MILTON_POLICY": self.policy,
            "MILTON_WATCH_MACHINE": "0",
            "SCRIPTED_SERVER": self.server.base_url,
        }
        before = dict(os.environ)
        os.environ.update(environment)
        try:
            repository = ReconstructableRepository.for_module(
                "tests.support.served_defs", "make", working_directory=str(self.state.root)
            )
            job = repository.get_reconstructable_job("autobench")
            with execute_job(job, self.instance, run_config=config, raise_on_error=False) as result:
                return result
        finally:
            os.environ.clear()
            os.environ.update(before)


@contextmanager
def workplace(
    root: Path,
    *,
    policy: str = "smoke",
    settings: Mapping[str, str] | None = None,
    copy_of: Path | None = None,
    behaviours: Mapping[str, Behaviour] | None = None,
) -> Iterator[Workplace]:
    """A workplace below `root`, decided under `policy`; `settings` are further environment variables.

    It is empty, or a copy of the one below `copy_of`, which is closed, and whose models behave as `behaviours` says.
    """
    behaviours = dict(behaviours or {})
    state = StateDir(root / "state")
    home = root / "dagster"
    if copy_of is None:
        home.mkdir()
    else:
        for kept in ("state", "dagster"):
            shutil.copytree(copy_of / kept, root / kept)
    with (
        scripted_server(lambda body: behaviours[body["model"]](body), models=VERSIONS) as server,
        DagsterInstance.local_temp(str(home), {"telemetry": {"enabled": False}}) as instance,
    ):
        served = ScriptedModels(base_url=server.base_url)
        environment = {
            "MILTON_STATE_DIR": str(state.root),
            "MILTON_PROFILE": "smoke",
            "MILTON_POLICY": policy,
            "MILTON_WATCH_MACHINE": "0",
        }
        defs = build_defs(
            environment=environment | dict(settings or {}),
            overrides={"model_server": served, "edge_runtime": served},
        )
        yield Workplace(state, instance, server, defs, policy, behaviours)


def failure_of(result: ExecuteInProcessResult | JobExecutionResult) -> str:
    """Every message of the first step failure, from the outermost to its cause."""
    for event in result.all_events:
        if event.is_step_failure and (error := event.step_failure_data.error):
            messages = []
            while error:
                messages.append(error.message)
                error = error.cause
            return "\n".join(messages)
    return ""
