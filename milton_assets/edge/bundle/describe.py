"""What a bundle says of itself, for people and for machines.

What belongs here: turning a manifest into a short description. What does not: checking it; an inspection believes what
it reads and says so.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from milton_assets.edge.manifest import BundleManifest
from milton_assets.vocabulary.digest import short
from milton_assets.vocabulary.server import ServingSettings
from milton_assets.vocabulary.terminal import printable


def described(manifest: BundleManifest) -> dict[str, Any]:
    """The manifest as JSON, the tensor tables reduced to their counts."""
    document = manifest.model_dump(mode="json", exclude={"tensor_tables"})
    document["tensor_tables"] = [
        {"path": table.path, "tensors": len(table.tensors)} for table in manifest.tensor_tables
    ]
    document["payload_bytes"] = manifest.payload_bytes
    return document


def show(manifest: BundleManifest, console: Console) -> None:
    """Draw the description on `console`."""
    facts = Table(show_header=False, box=None, pad_edge=False)
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    for name, value in _facts(manifest):
        facts.add_row(name, Text(printable(value)))
    console.print(Text(printable(manifest.name), style="bold"))
    console.print(facts)
    files = Table(title="Files", title_justify="left")
    files.add_column("path", overflow="fold")
    files.add_column("MB", justify="right")
    files.add_column("SHA-256")
    for entry in manifest.files:
        files.add_row(Text(printable(entry.path)), f"{entry.size_bytes / 1e6:.3f}", short(entry.sha256))
    console.print(files)


def _facts(manifest: BundleManifest) -> list[tuple[str, str]]:
    needs = manifest.requirements
    probes = "; ".join(
        f"{probe.prompt!r} ({'fixed answer' if probe.answer_sha256 else 'any answer'})"
        for probe in manifest.health.probes
    )
    served = manifest.health.served_with
    speed = manifest.health.min_output_tokens_per_s
    figures = ", ".join(f"{name} {value:.4g}" for name, value in sorted(manifest.figures.items()))
    tensors = sum(len(table.tensors) for table in manifest.tensor_tables)
    return [
        ("model", f"{manifest.model_version}, {manifest.artefact_kind}, {manifest.quantization or 'not quantised'}"),
        ("base model", f"{manifest.base_model} (licence {manifest.licence or 'not stated'})"),
        ("release", manifest.release_digest),
        ("previous release", manifest.previous_release or "none named"),
        ("made", f"{manifest.created_at:%Y-%m-%d %H:%M:%S %Z}, counter {manifest.counter}"),
        ("expires", f"{manifest.expires_at:%Y-%m-%d %H:%M:%S %Z}" if manifest.expires_at else "never"),
        ("decided by", f"{manifest.run_id} under policy {manifest.policy_name} ({short(manifest.policy_sha256)})"),
        ("decision", manifest.decision_sha256),
        ("evidence", manifest.evidence_sha256),
        ("figures", figures or "none"),
        (
            "needs",
            f"{needs.runtime}{_from_build(needs.least_llama_build)}; {needs.ram_bytes / 1e9:.2f} GB of RAM, "
            f"{needs.disk_bytes / 1e9:.2f} GB of disk",
        ),
        ("health", f"{probes}; loads within {manifest.health.max_load_seconds:g} s"),
        ("speed", f"at least {speed:g} tokens/s" if speed else "not asked for"),
        ("served with", _settings(served) if served else "whatever the device's server is set to"),
        ("primary", f"{manifest.primary} ({tensors} tensors with a digest each)"),
    ]


def _from_build(build: int | None) -> str:
    return "" if build is None else f", build {build} or later"


def _settings(served: ServingSettings) -> str:
    said = {"context tokens a slot": served.context_tokens, "slots": served.slots, "threads": served.threads}
    return ", ".join(f"{value} {name}" for name, value in said.items() if value is not None)
