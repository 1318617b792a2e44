"""`milton bench NAME`: one tier against any running server, without Dagster.

What belongs here: the verb of every installed tier, made from its spec: the options all have, those for what it makes
use of, and those that its spec adds. What does not: measuring, how the answer looks (`bench_answer`), the further ways
in which the inference tier can be run (`bench_inference`), which is why it has a verb of its own, and other people's
tasks (`bench_evaluations`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from milton_assets.cli import bench_evaluations
from milton_assets.cli.bench_answer import show_result
from milton_assets.cli.common import (
    CA_FILE_HELP,
    EXIT_NO,
    GGUF_HELP,
    JsonOption,
    current_settings,
    progress_on_stderr,
    server_to_bench,
)

if TYPE_CHECKING:
    from milton_assets.vocabulary.server import RunningServer
    from milton_assets.vocabulary.tier_spec import NoReference, Reference, TierSpec


class TierVerbs(TyperGroup):
    """A verb for every installed tier; which there are is looked up when the group is used, and not before."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The tiers' names, in the order in which they are measured, and the packages whose evaluations can be run."""
        from milton_assets.tiers.discovery import installed_tiers

        return [*installed_tiers(), *bench_evaluations.VERBS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The verb of the tier of that name; None when no such tier is installed."""
        from milton_assets.cli import bench_inference
        from milton_assets.tiers.discovery import installed_tiers

        verb: Callable[..., None]
        if cmd_name in bench_evaluations.VERBS:
            verb = bench_evaluations.VERBS[cmd_name]
        elif (spec := installed_tiers().get(cmd_name)) is None:
            return None
        else:
            verb = bench_inference.bench_inference if cmd_name == "inference" else verb_of(spec)
        app = typer.Typer(add_completion=False)
        app.command(cmd_name)(verb)
        return typer.main.get_command(app)


def register(app: typer.Typer) -> None:
    """Add the group."""
    help_ = "Measure one tier against any running server, without Dagster."
    app.add_typer(typer.Typer(cls=TierVerbs, help=help_, no_args_is_help=True), name="bench")


@dataclass(frozen=True)
class _Option:
    name: str
    kind: Any
    default: Any
    typer: Any


def _common() -> Iterator[_Option]:
    yield _Option("base_url", str | None, None, typer.Option(help="The server's address, e.g. http://127.0.0.1:8000"))
    yield _Option("model", str | None, None, typer.Option(help="The name the server lists the model under."))
    yield _Option("gguf", Path | None, None, typer.Option(help=GGUF_HELP))
    yield _Option(
        "dataset",
        list[Path] | None,
        None,
        typer.Option(
            exists=True,
            help="Goldens of your own instead of those that ship: a folder or a file in the tier's format. "
            "May be repeated.",
        ),
    )
    yield _Option(
        "smoke", bool, False, typer.Option("--smoke", help="The plan for a first look, as in MILTON_PROFILE.")
    )
    yield _Option(
        "concurrency",
        int | None,
        None,
        typer.Option(min=1, max=1024, help="Calls in flight at once. Default: the server's slots."),
    )
    yield _Option("api_key", str | None, None, typer.Option(envvar="MILTON_API_KEY", help="The server's key."))
    yield _Option("ca_file", Path | None, None, typer.Option(help=CA_FILE_HELP))
    yield _Option("timeout", float, 120.0, typer.Option(min=0.1, help="Seconds before a call is given up."))


def _used(spec: TierSpec) -> Iterator[_Option]:
    from milton_assets.vocabulary.tier_spec import Uses

    if Uses.JUDGE in spec.uses:
        told = "A second server, whose model judges what matching leaves open."
        yield _Option("judge_base_url", str | None, None, typer.Option(help=told))
        yield _Option("judge_model", str | None, None, typer.Option(help="The name of the judge on that server."))
        told = "The judge's key; the model's is not sent to it."
        yield _Option("judge_api_key", str | None, None, typer.Option(envvar="MILTON_JUDGE_KEY", help=told))
    if Uses.EMBEDDINGS in spec.uses:
        told = "Also measure dense retrieval with this model, and its fusion with BM25."
        yield _Option("embedding_model", str | None, None, typer.Option(help=told))
        told = "The server that embeds (/v1/embeddings). Default: --base-url."
        yield _Option("embedding_url", str | None, None, typer.Option(help=told))
        told = "The key of --embedding-url; the model's own is not sent there."
        yield _Option("embedding_api_key", str | None, None, typer.Option(envvar="MILTON_EMBEDDINGS_KEY", help=told))
    if Uses.REFERENCE in spec.uses:
        told = "The GGUF that the model was made from, or is to be like; it is served here with llama.cpp, beside it."
        yield _Option("reference", Path | None, None, typer.Option(exists=True, dir_okay=False, help=told))


def verb_of(spec: TierSpec) -> Callable[..., None]:
    """The verb of a tier."""
    own = [
        _Option(option.name.replace("-", "_"), option.kind | None, None, typer.Option(help=option.about))
        for option in spec.options
    ]
    options = [*_common(), *_used(spec), *own]

    def bench(**given: Any) -> None:
        _bench(spec, given)

    parameters = [
        inspect.Parameter(
            option.name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=Annotated[option.kind, option.typer],
            default=inspect.Parameter.empty if option.default is ... else option.default,
        )
        for option in options
    ]
    parameters.append(
        inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, annotation=JsonOption, default=False)
    )
    bench.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    bench.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    bench.__doc__ = (
        f"{spec.about}\n\nExits 1 when {spec.headline} could not be had, because every call failed, say.\n\n"
        f"Example: milton bench {spec.name} --base-url http://127.0.0.1:8000 --model my-model\n\n"
        f"Example: milton bench {spec.name} --gguf my-model.gguf"
    )
    return bench


@dataclass(frozen=True)
class _OwnSet:
    path: Path
    private: bool = False


def _bench(spec: TierSpec, given: Mapping[str, Any]) -> None:
    from milton_assets.tiers.reasoning.judge import ModelPin
    from milton_assets.usecases.judging import qualified_judge
    from milton_assets.usecases.measuring import measure_tier
    from milton_assets.vocabulary.golden_set import read_goldens
    from milton_assets.vocabulary.metric import Status
    from milton_assets.vocabulary.tier_spec import Measuring, Needs
    from resources.evaluations.running import EvaluationRunner
    from resources.hardware import fingerprint
    from resources.machine_watch import watch_of
    from resources.servers.client import OpenAIChatModel
    from resources.servers.repeatable import repeatable
    from resources.side_models import SideModel, loaded_sha256

    judge_url, judge_model = given.get("judge_base_url"), given.get("judge_model")
    if (judge_url is None) != (judge_model is None):
        raise typer.BadParameter("--judge-base-url and --judge-model go together")
    embedding_url, embedding_model = given.get("embedding_url"), given.get("embedding_model")
    if embedding_model and not (embedding_url or given["base_url"]):
        raise typer.BadParameter("it needs --embedding-url, the server that embeds", param_hint="--embedding-model")
    if embedding_url and not embedding_model:
        raise typer.BadParameter("it needs --embedding-model", param_hint="--embedding-url")
    timeout_s, key = given["timeout"], given["api_key"]
    judge = SideModel(judge_url, judge_model, given["judge_api_key"], timeout_s) if judge_url and judge_model else None
    embeddings = None
    if embedding_model:
        embedding_key = given["embedding_api_key"] if embedding_url else key
        embeddings = SideModel(embedding_url or given["base_url"], embedding_model, embedding_key, timeout_s)
    _plan(spec, given, slots=1)  # an option that is none is said before a server is asked
    goldens = read_goldens(spec, [_OwnSet(path.absolute()) for path in given["dataset"] or ()])
    with ExitStack() as stack:
        where = (given["base_url"], given["model"], given["gguf"])
        served = stack.enter_context(server_to_bench(*where, api_key=key, ca_file=given["ca_file"]))
        plan = _plan(spec, given, slots=served.endpoint.slots)
        candidate = ModelPin(
            model=served.endpoint.model,
            base_url=served.endpoint.base_url,
            artefact_sha256=loaded_sha256(served.fingerprint) if judge else None,
        )
        chat_model = None
        if spec.needs is Needs.CHAT:
            asking = repeatable(served.fingerprint)
            chat_model = stack.enter_context(OpenAIChatModel(served.endpoint, timeout_s, asking=asking))
        measuring = Measuring(
            served,
            goldens.value,
            plan,
            chat_model=chat_model,
            judge=lambda pairs: qualified_judge(judge, pairs, [candidate]),
            embeddings=embeddings,
            forcing=served.endpoint.forcing if spec.needs is Needs.PROBABILITIES else None,
            reference=_reference(given, served),
            on_progress=progress_on_stderr(),
            runs_evaluations=EvaluationRunner(current_settings().cache_dir),
        )
        watch = watch_of(served) if current_settings().watch_machine else None
        result = measure_tier(spec, goldens, measuring, watch=watch)
        environment = fingerprint(served)
    show_result(result, served, environment, as_json=given["as_json"])
    if result.metric(spec.headline).status is not Status.OK:
        raise typer.Exit(EXIT_NO)


def _reference(given: Mapping[str, Any], served: RunningServer) -> Reference | NoReference:
    from milton_assets.usecases.references import Asking, reference_file
    from milton_assets.vocabulary.tier_spec import NoReference
    from resources.file_facts import FactsReader
    from resources.servers.llama_cpp import LlamaCppLauncher
    from resources.side_models import loaded_sha256

    path = given.get("reference")
    if path is None:
        return NoReference("no reference was given; --reference names one")
    asking = Asking(served, LlamaCppLauncher(), store=None, environment={})
    facts = FactsReader(current_settings().state, None, progress_on_stderr())
    reference = reference_file(path.absolute(), facts, asking)
    if loaded_sha256(served.fingerprint) == reference.artefact_sha256:
        return NoReference(f"{path.name}, the reference, has the same weights")
    return reference


def _plan(spec: TierSpec, given: Mapping[str, Any], *, slots: int) -> Any:
    from pydantic import ValidationError

    from milton_assets.vocabulary.keys import mint_variants_seed
    from milton_assets.vocabulary.tier_spec import Conditions

    profile = "smoke" if given["smoke"] else "full"
    conditions = Conditions(profile=profile, slots=given["concurrency"] or slots, variants_seed=mint_variants_seed())
    plan = spec.plan(conditions)
    values = {option.field: given[option.name.replace("-", "_")] for option in spec.options}
    wanted = {field: value for field, value in values.items() if value is not None}
    try:
        return type(plan).model_validate({**plan.model_dump(), **wanted})
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, part['loc']))}: {part['msg']}" for part in error.errors())
        raise typer.BadParameter(problems) from error
