"""`milton demo` and `milton registry list / show / add / retire / digest`.

What belongs here: the verbs' arguments and how their answers look. What does not: reading and writing the registry
(`resources.registries`), and where the demo's weights come from (`resources.demo_models`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from milton_assets.cli.common import (
    JsonOption,
    answer,
    current_settings,
    current_state,
    progress_on_stderr,
    registry_of,
    text_given,
)
from milton_assets.settings import Settings, dagster_home
from milton_assets.vocabulary.keys import check_key
from milton_assets.vocabulary.registry import Artefact, ArtefactKind, NewModel, Registry, RegistryEntry, RegistryStore
from milton_assets.vocabulary.terminal import printable

Version = Annotated[
    str, typer.Argument(metavar="VERSION", help="The model version, as `milton registry list` shows it.")
]

MANY = 200
"""Of more entries than these, `list` draws lines in place of a table."""


def register(app: typer.Typer) -> None:
    """Add `demo` and the group `registry`."""
    app.command()(demo)
    group = typer.Typer(
        help="The models that are known, and what is wrong with those that are not.", no_args_is_help=True
    )
    group.command("list")(list_entries)
    group.command()(show)
    group.command()(add)
    group.command()(retire)
    group.command()(digest)
    app.add_typer(group, name="registry")


def demo(
    with_gemma: Annotated[
        bool,
        typer.Option("--with-gemma", help="Also Gemma 3 270M (238 MB; its terms: https://ai.google.dev/gemma/terms)."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Put real small models into an empty registry.

    Fetches SmolLM2-135M-Instruct (Apache-2.0, 93 MB) once, in 4 bits, requantises it here, and registers three
    versions. The one called q8_0 holds the same 4-bit weights written down in 8 bits: larger, and no better. A registry
    that holds anything is left as it is. Gemma is a base model that a quality gate should reject.

    Example: milton demo && milton registry list
    """
    from resources.demo_models import fill_empty_registry
    from resources.registries.json_file import registered

    state = current_state()
    present = list(registered(state.registry)) if state.registry.exists() else []
    added: tuple[str, ...] = ()
    if not present:
        added = fill_empty_registry(
            state, current_settings().cache_dir, with_gemma=with_gemma, on_progress=progress_on_stderr()
        )

    def text(console: Console) -> None:
        if added:
            console.print(f"Registered {', '.join(added)} in {_foreign(str(state.registry))}.", soft_wrap=True)
            console.print(
                "All are made of one 4-bit file: the q8_0 holds its weights in 8 bits, larger and no more precise.",
                soft_wrap=True,
            )
            console.print("Next: milton registry list", soft_wrap=True)
        else:
            console.print(
                f"{_foreign(str(state.registry))} is not empty and was left as it is. "
                f"It holds: {_foreign(', '.join(present))}.",
                soft_wrap=True,
            )

    answer(
        {"registry": str(state.registry), "added": list(added), "already_there": present}, as_json=as_json, text=text
    )


def list_entries(as_json: JsonOption = False) -> None:
    """List the registered models, the quarantined entries with their reasons, and the best on past evidence.

    Example: milton registry list --json | jq '.entries[].version'
    """
    from milton_assets.usecases.past_decisions import best_version, past_decisions

    settings = current_settings()
    store = registry_of(settings)
    registry = store.read(on_progress=progress_on_stderr())
    aliases = store.aliases()
    best = best_version(past_decisions(settings.runs))

    def text(console: Console) -> None:
        _draw(console, store.uri, registry, aliases)
        if best is not None:
            console.print(f"Best on past evidence: {best.winner}, promoted by {best.run_id}.", soft_wrap=True)

    def payload() -> dict[str, Any]:
        told = _registry_payload(store.uri, registry, aliases)
        return {**told, "best": None if best is None else best.model_dump(mode="json")}

    answer(payload, as_json=as_json, text=text)


def show(version: Version, as_json: JsonOption = False) -> None:
    """Show one entry: what the registry says, its files with their digests, what its GGUF says of itself, and how
    its chat template differs from its base model's, or from a relative's.

    Of files in an object store the heads are read, and their digests are the registry's word until somebody needs them.

    Example: milton registry show smollm2-135m-q4_1
    """
    from milton_assets.usecases.template_changes import template_changes

    settings = current_settings()
    store = registry_of(settings)
    entry = store.judged(version, on_progress=progress_on_stderr())
    aliases = _of_version(version, store.aliases())
    payload = {**_entry_payload(entry), "aliases": list(aliases), "raw": entry.raw, "gguf": _gguf_payload(store, entry)}
    changed = template_changes(store, entry)
    payload["template_changes"] = (
        None if changed.against is None else {"against": changed.against, "lines": changed.lines}
    )
    payload["not_compared_with"] = list(changed.passed_over)

    def text(console: Console) -> None:
        for label, value in _facts(entry, payload["gguf"], aliases):
            console.print(f"[bold]{label:15}[/bold] {_foreign(value)}", soft_wrap=True)
        for said in changed.passed_over:
            console.print(f"Its chat template was not compared with another's: {_foreign(said)}", soft_wrap=True)
        if changed.against is not None:
            equal = "is that of" if not changed.lines else "differs from that of"
            console.print(f"Its chat template {equal} {_foreign(changed.against)}.", soft_wrap=True)
            for line in changed.lines:
                console.print(f"  {_foreign(line)}", soft_wrap=True, highlight=False)

    answer(payload, as_json=as_json, text=text)


def add(
    base_model: Annotated[str, typer.Option(help="What it was made from, e.g. HuggingFaceTB/SmolLM2-135M-Instruct.")],
    version: Annotated[
        str | None,
        typer.Option(
            help="The new version, a slug that no entry has, e.g. v1.20260111.1425; MLflow numbers its versions itself."
        ),
    ] = None,
    gguf: Annotated[
        Path | None, typer.Option(help="The quantised model, a GGUF file; of a split one, the first part.")
    ] = None,
    hf: Annotated[Path | None, typer.Option(help="The distilled model, a Hugging Face directory.")] = None,
    link: Annotated[bool, typer.Option("--link", help="Hard-link the files instead of copying them.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Register a model as a candidate, bringing its files into the state folder.

    Files that already lie there (or below MILTON_ARTEFACT_ROOTS) are registered where they are.

    Example: milton registry add --version v2 --gguf model-q4_0.gguf --base-model org/model
    """
    if gguf is None and hf is None:
        raise typer.BadParameter("give --gguf FILE, --hf DIR, or both")
    settings = current_settings()
    store = registry_of(settings)
    model = NewModel(
        version=None if version is None else check_key(version, "model version"),
        base_model=text_given(base_model),
        gguf=gguf,
        hf=hf,
        link=link,
    )
    entry = store.add(model, on_progress=progress_on_stderr())
    _make_known_to_dagster(settings, entry.version)
    answer(
        _entry_payload(entry),
        as_json=as_json,
        text=lambda console: console.print(
            f"Registered {entry.version} in {_foreign(store.uri)}. Next: milton registry show {entry.version}",
            soft_wrap=True,
        ),
    )


def _make_known_to_dagster(settings: Settings, version: str) -> None:
    """Make the version a partition, so that `dg launch` and the web UI take it at once.

    Only where Dagster has a home already (`milton env` makes it): loading Dagster takes seconds, and a campaign and the
    sensor find the version by themselves.
    """
    home = Path(dagster_home(settings))
    if not (home / "dagster.yaml").exists():
        return
    from dagster import DagsterInstance

    from milton_assets.partitions import MODEL_VERSIONS

    with DagsterInstance.from_config(str(home)) as instance:
        instance.add_dynamic_partitions(str(MODEL_VERSIONS.name), [version])


def retire(version: Version, as_json: JsonOption = False) -> None:
    """Set an entry's status to retired: it is no candidate any more, and nothing is deleted.

    Example: milton registry retire smollm2-135m-q4_0
    """
    changed = registry_of(current_settings()).retire(version)
    sentence = f"Retired {version}." if changed else f"{version} was retired already."
    answer(
        {"version": version, "status": "retired", "changed": changed},
        as_json=as_json,
        text=lambda console: console.print(_foreign(sentence), soft_wrap=True),
    )


def digest(
    path: Annotated[
        Path,
        typer.Argument(metavar="PATH", help="A GGUF (of a split one the first part), or a Hugging Face directory."),
    ],
    as_json: JsonOption = False,
) -> None:
    """Print a model's digest as an entry in an object store names it, once the model was judged as `add` does.

    A GGUF's is its SHA-256. A directory's, or a split GGUF's, is over all its files' names and digests.

    Example: milton registry digest ./distilled    # distilled#sha256=5d41…
    """
    from resources.registries.artefacts import Surroundings, directory_artefact, gguf_artefact

    if not path.exists():
        raise typer.BadParameter(f"{printable(str(path))} is missing")
    whole = path.resolve().parent / path.name if path.name else path.resolve()
    facts = Surroundings(current_state()).facts(on_progress=progress_on_stderr())
    # Which version may hold code is for the registry to say.
    found = directory_artefact(whole, facts, allow_code=True) if whole.is_dir() else gguf_artefact(whole, facts)
    facts.save()
    named = f"{whole.name}#sha256={found.sha256}"
    answer(
        {**found.model_dump(mode="json"), "named": named},
        as_json=as_json,
        text=lambda console: console.out(printable(named), highlight=False),
    )


def _registry_payload(uri: str, registry: Registry, aliases: Mapping[str, str]) -> dict[str, Any]:
    return {
        "registry": uri,
        "sha256": registry.sha256,
        "entries": [_entry_payload(entry) for entry in registry.entries.values()],
        "quarantined": [{"version": each.version, "reason": each.reason} for each in registry.quarantined],
        "aliases": dict(aliases),
    }


def _entry_payload(entry: RegistryEntry) -> dict[str, Any]:
    return {**entry.model_dump(mode="json", exclude={"raw"}), "content_sha256": entry.content_sha256}


def _gguf_payload(store: RegistryStore, entry: RegistryEntry) -> dict[str, Any] | None:
    header = store.head(entry, ArtefactKind.GGUF).header if entry.find(ArtefactKind.GGUF) else None
    if header is None:
        return None
    return {
        "version": header.version,
        "architecture": header.architecture,
        "quantization": header.quantization,
        "parameters": header.parameters,
        "tensors": len(header.tensors),
        "has_chat_template": header.chat_template is not None,
    }


def _draw(console: Console, uri: str, registry: Registry, aliases: Mapping[str, str]) -> None:
    if len(registry.entries) > MANY:
        console.out("\n".join(_lines(uri, registry, aliases)), highlight=False)
    else:
        console.print(_table(uri, registry, aliases))
    for quarantined in registry.quarantined:
        console.print(
            f"[red]quarantined[/red] {_foreign(quarantined.version)}: {_foreign(quarantined.reason)}", soft_wrap=True
        )
    if not registry.entries and not registry.quarantined:
        console.print("The registry is empty. Next: milton demo, or milton registry add", soft_wrap=True)


def _lines(uri: str, registry: Registry, aliases: Mapping[str, str]) -> Iterator[str]:
    """The entries a line each, in columns: of so many, measuring and folding a table's cells takes most of the time."""
    yield printable(uri)
    rows = [
        (
            entry.version,
            ", ".join((entry.status.value, *_of_version(entry.version, aliases))),
            f"{entry.created_at:%Y-%m-%d %H:%M}",
            "; ".join(_in_words(artefact) for artefact in entry.artefacts) or "none left",
            printable(entry.base_model),
        )
        for entry in registry.entries.values()
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _table(uri: str, registry: Registry, aliases: Mapping[str, str]) -> Table:
    table = Table(title=_foreign(uri), title_justify="left")
    for name in ("version", "status", "base model", "created (UTC)", "artefacts"):
        table.add_column(name, no_wrap=name in {"version", "created (UTC)"}, overflow="fold")
    for entry in registry.entries.values():
        table.add_row(
            entry.version,
            ", ".join((entry.status.value, *_of_version(entry.version, aliases))),
            _foreign(entry.base_model),
            f"{entry.created_at:%Y-%m-%d %H:%M}",
            escape("\n".join(_in_words(artefact) for artefact in entry.artefacts)) or "none left",
        )
    return table


def _foreign(text: str) -> str:
    """Text that others wrote, for rich's markup."""
    return escape(printable(text))


def _of_version(version: str, aliases: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(sorted(alias for alias, whose in aliases.items() if whose == version))


def _in_words(artefact: Artefact) -> str:
    label = artefact.quantization or artefact.kind.value
    return f"{printable(label)}, {artefact.size_bytes / 1e6:,.0f} MB"


def _facts(entry: RegistryEntry, gguf: dict[str, Any] | None, aliases: Sequence[str]) -> list[tuple[str, str]]:
    facts = [
        ("version", entry.version),
        ("status", ", ".join((entry.status.value, *aliases))),
        ("base model", entry.base_model),
        ("created", entry.created_at.isoformat()),
        ("entry digest", entry.entry_sha256),
        ("content digest", entry.content_sha256),
    ]
    for artefact in entry.artefacts:
        facts.append((artefact.kind.value, artefact.path))
        word = "" if Path(artefact.path).exists() else ", as the registry says: it is fetched there when it is needed"
        facts.append(("", f"{artefact.size_bytes:,} bytes, SHA-256 {artefact.sha256}{word}"))
        template = artefact.chat_template_sha256
        facts.append(("", f"chat template SHA-256 {template}" if template else "no chat template"))
    if gguf is not None:
        facts.append(
            (
                "GGUF says",
                f"{gguf['architecture']}, {gguf['quantization']}, {gguf['parameters'] / 1e6:,.1f} M parameters in "
                f"{gguf['tensors']} tensors, {'a' if gguf['has_chat_template'] else 'no'} chat template",
            )
        )
    return facts
