"""The graph and the command line resolve every setting alike, from milton.yaml as from the variable.

A new setting that stands in no row of `ROWS` fails the last test here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from dagster import AssetKey, Definitions

from milton_assets.cli.common import current_settings
from milton_assets.definitions import build_defs
from milton_assets.settings import Settings, load_settings
from milton_assets.settings.leaves import leaves
from milton_assets.usecases import compose
from milton_assets.usecases.targets import open_targets


class Row(NamedTuple):
    """How a setting is given both ways, what each front door makes of it, and what that must be."""

    file: str
    variables: dict[str, str]
    graph: Callable[[Definitions], Any]
    command_line: Callable[[Settings], Any]
    expected: Any


def campaign(name: str) -> Callable[[Definitions], Any]:
    return lambda defs: getattr(defs.resources["campaign"], name)


def setting(name: str) -> Callable[[Settings], Any]:
    return lambda settings: getattr(settings, name)


def graphs_targets(defs: Definitions) -> Any:
    made = defs.resources["campaign"]
    return open_targets(made.state, made.target_paths, server=defs.resources["edge_runtime"].edge_server)


def measured(file: str, variables: dict[str, str], attribute: str, expected: Any) -> Row:
    return Row(
        file,
        variables,
        lambda defs: getattr(defs.resources["model_server"].launcher(), attribute),
        lambda settings: getattr(compose.model_server_of(settings), attribute),
        expected,
    )


def on_the_edge(file: str, variables: dict[str, str], attribute: str, expected: Any, kind: str = "file") -> Row:
    return Row(
        file,
        variables,
        lambda defs: getattr(getattr(defs.resources["edge_runtime"].edge_server(), kind), attribute),
        lambda settings: getattr(getattr(compose.edge_server_of(settings), kind), attribute),
        expected,
    )


def side(which: str, attribute: str, expected: str) -> Row:
    prefix = f"MILTON_{which.upper()}"
    return Row(
        f"{which}: {{url: 'http://side:1', model: m, key_env: A_KEY}}",
        {f"{prefix}_URL": "http://side:1", f"{prefix}_MODEL": "m", f"{prefix}_KEY_ENV": "A_KEY"},
        lambda defs: getattr(getattr(defs.resources["campaign"], which), attribute),
        lambda settings: getattr(getattr(compose, f"{which}_of")(settings), attribute),
        expected,
    )


def launches(group: str, make: Callable[..., Row]) -> dict[str, Row]:
    """The rows of a group that launches a server."""
    prefix = f"MILTON_{group.upper()}"
    simple = {
        "binary": ("/opt/llama-server", "binary", "/opt/llama-server"),
        "prefer_binary": ("1", "prefer_binary", True),
        "slots": ("4", "slots", 4),
        "context_tokens": ("2048", "context_tokens", 2048),
        "threads": ("3", "threads", 3),
        "start_deadline_s": ("9", "start_deadline_s", 9.0),
        "memory_limit_gb": ("8", "memory_limit_bytes", 8_000_000_000),
        "log_dir": ("/var/log/milton", "log_dir", Path("/var/log/milton")),
    }
    rows = {
        f"{group}.{name}": make(
            f"{group}: {{{name}: {'true' if text == '1' else text}}}", {f"{prefix}_{name.upper()}": text}, *seen
        )
        for name, (text, *seen) in simple.items()
    }
    rows[f"{group}.gpu_layers"] = make(
        f"{group}: {{gpu_layers: 99, binary: x}}",
        {f"{prefix}_GPU_LAYERS": "99", f"{prefix}_BINARY": "x"},
        "gpu_layers",
        99,
    )
    rows[f"{group}.extra_args"] = make(
        f"{group}: {{extra_args: [--flash-attn, 'on']}}",
        {f"{prefix}_EXTRA_ARGS": "--flash-attn on"},
        "extra",
        ("--flash-attn", "on"),
    )
    rows[f"{group}.env"] = make(f"{group}: {{env: {{A: b}}}}", {f"{prefix}_ENV": "A=b"}, "env", {"A": "b"})
    return rows


ATTACHED = {"MILTON_SERVER": "http://gpu-box:8000", "MILTON_SERVER_KEY_ENV": "A_KEY", "MILTON_SERVER_PATH": "/mnt/v1"}
ATTACHED_FILE = "server: {which: 'http://gpu-box:8000', key_env: A_KEY, path: /mnt/v1}"

ROWS: dict[str, Row] = {
    "state_dir": Row("", {}, campaign("state"), setting("state"), None),
    "profile": Row(
        "profile: smoke",
        {"MILTON_PROFILE": "smoke"},
        campaign("profile"),
        lambda settings: compose.chosen_of(settings).profile,
        "smoke",
    ),
    "policy": Row(
        "policy: anchored",
        {"MILTON_POLICY": "anchored"},
        campaign("policy"),
        lambda settings: compose.chosen_of(settings).policy,
        "anchored",
    ),
    "targets": Row(
        "targets: {kit: /srv/kit}",
        {"MILTON_TARGETS": "kit=/srv/kit"},
        lambda defs: graphs_targets(defs).named("kit").url,
        lambda settings: compose.targets_of(settings).named("kit").url,
        "file:///srv/kit",
    ),
    "device_classes": Row(
        "device_classes: {local: {}, pi5: {reference: pi}}\ntargets: {pi: {at: /srv/pi, class: pi5}}",
        # A variable names targets without their classes, so one of the class `local` is the reference.
        {"MILTON_DEVICE_CLASSES": "local=pi,pi5", "MILTON_TARGETS": "pi=/srv/pi"},
        lambda defs: defs.resources["campaign"].class_decided_for("pi") in {"pi5", "local"},
        lambda settings: settings.class_decided_for("pi") in {"pi5", "local"},
        True,
    ),
    "artifact": Row(
        "artifact: hf-distilled",
        {"MILTON_ARTIFACT": "hf-distilled"},
        campaign("artifact"),
        setting("artifact"),
        "hf-distilled",
    ),
    "bundle_expires_days": Row(
        "bundle_expires_days: 30",
        {"MILTON_BUNDLE_EXPIRES_DAYS": "30"},
        campaign("bundle_expires_days"),
        setting("bundle_expires_days"),
        30.0,
    ),
    "slo": Row(
        "slo: {ttft_ms: 200}",
        {"MILTON_SLO": "ttft_ms=200"},
        lambda defs: defs.resources["campaign"].slo.limits(),
        lambda settings: settings.slo.limits(),
        {"ttft_ms": 200.0},
    ),
    "artefact_roots": Row(
        "artefact_roots: [/a, /b]",
        {"MILTON_ARTEFACT_ROOTS": "/a:/b"},
        lambda defs: tuple(map(Path, defs.resources["registry"].artefact_roots)),
        setting("artefact_roots"),
        (Path("/a"), Path("/b")),
    ),
    "registry": Row(
        "registry: 'folder:///srv/gguf'",
        {"MILTON_REGISTRY": "folder:///srv/gguf"},
        lambda defs: defs.resources["registry"].store().uri,
        lambda settings: compose.registry_of(settings).uri,
        "folder:///srv/gguf",
    ),
    "allow_model_code": Row(
        "allow_model_code: [v1]",
        {"MILTON_ALLOW_MODEL_CODE": "v1"},
        lambda defs: set(defs.resources["registry"].allow_code),
        lambda settings: set(settings.allow_model_code),
        {"v1"},
    ),
    "allowed_templates": Row(
        f"allowed_templates: [{'a' * 64}]",
        {"MILTON_ALLOWED_TEMPLATES": "a" * 64},
        lambda defs: list(defs.resources["campaign"].allowed_templates),
        lambda settings: list(settings.allowed_templates),
        ["a" * 64],
    ),
    "allowed_contaminated": Row(
        f"allowed_contaminated: [{'c' * 64}]",
        {"MILTON_ALLOWED_CONTAMINATED": "c" * 64},
        lambda defs: list(defs.resources["campaign"].allowed_contaminated),
        lambda settings: list(settings.allowed_contaminated),
        ["c" * 64],
    ),
    "anchors_let_go": Row(
        f"anchors_let_go: [{'a' * 64}]",
        {"MILTON_ANCHORS_LET_GO": "a" * 64},
        lambda defs: list(defs.resources["campaign"].anchors_let_go),
        lambda settings: list(settings.anchors_let_go),
        ["a" * 64],
    ),
    "reasoning_budget_s": Row(
        "reasoning_budget_s: 600",
        {"MILTON_REASONING_BUDGET_S": "600"},
        campaign("reasoning_budget_s"),
        setting("reasoning_budget_s"),
        600.0,
    ),
    "goldens": Row(
        "goldens: {reasoning: [{path: /g, private: true}]}",
        {},
        lambda defs: defs.resources["campaign"].goldens["reasoning"][0].path,
        lambda settings: settings.goldens["reasoning"][0].path,
        Path("/g"),
    ),
    "rerank": Row("rerank: listwise", {"MILTON_RERANK": "listwise"}, campaign("rerank"), setting("rerank"), "listwise"),
    **{
        f"judge.{name}": side("judge", seen, expected)
        for name, seen, expected in (
            ("url", "base_url", "http://side:1"),
            ("model", "model", "m"),
            ("key_env", "api_key", "sk-1"),
        )
    },
    **{
        f"embeddings.{name}": side("embeddings", seen, expected)
        for name, seen, expected in (
            ("url", "base_url", "http://side:1"),
            ("model", "model", "m"),
            ("key_env", "api_key", "sk-1"),
        )
    },
    "server.which": measured(ATTACHED_FILE, ATTACHED, "base_url", "http://gpu-box:8000"),
    "server.key_env": measured(ATTACHED_FILE, ATTACHED, "api_key", "sk-1"),
    "server.path": measured(ATTACHED_FILE, ATTACHED, "path_there", Path("/mnt/v1")),
    "server.ca_file": measured(
        "server: {which: 'https://gpu-box', ca_file: /etc/ours.pem}",
        {"MILTON_SERVER": "https://gpu-box", "MILTON_SERVER_CA_FILE": "/etc/ours.pem"},
        "ca_file",
        Path("/etc/ours.pem"),
    ),
    "server.vllm_python": measured(
        "server: {which: vllm, vllm_python: /venv/python}",
        {"MILTON_SERVER": "vllm", "MILTON_VLLM_PYTHON": "/venv/python"},
        "interpreter",
        Path("/venv/python"),
    ),
    **launches("server", measured),
    "edge_server.vllm_python": on_the_edge(
        "edge_server: {vllm_python: /venv/python}",
        {"MILTON_EDGE_SERVER_VLLM_PYTHON": "/venv/python"},
        "interpreter",
        Path("/venv/python"),
        "directory",
    ),
    **launches("edge_server", on_the_edge),
    "evidence_url": Row(
        "evidence_url: /srv/evidence",
        {"MILTON_EVIDENCE_URL": "/srv/evidence"},
        lambda defs: str(defs.resources["evidence_store"].store.root),
        lambda settings: str(compose.evidence_store_of(settings).root),
        "/srv/evidence",
    ),
    "queues": Row("queues: {deploy: edge-box}", {}, campaign("queues"), setting("queues"), {"deploy": "edge-box"}),
    "accelerator_pool": Row(
        "accelerator_pool: accelerator-gpu-box",
        {"MILTON_ACCELERATOR_POOL": "accelerator-gpu-box"},
        lambda defs: {op.pool for asset in defs.assets if asset.key.path == ["reasoning_metrics"] for op in [asset.op]},
        lambda settings: {settings.accelerator_pool},
        {"accelerator-gpu-box"},
    ),
    "reuse_answers": Row(
        "reuse_answers: false",
        {"MILTON_REUSE_ANSWERS": "0"},
        campaign("reuse_answers"),
        setting("reuse_answers"),
        False,
    ),
    "watch_machine": Row(
        "watch_machine: false",
        {"MILTON_WATCH_MACHINE": "0"},
        campaign("watch_machine"),
        setting("watch_machine"),
        False,
    ),
    "owners": Row(
        "owners: ['team:edge', 'models@example.org']",
        {"MILTON_OWNERS": "team:edge, models@example.org"},
        lambda defs: tuple(defs.resolve_asset_graph().get(AssetKey("deployment")).owners),
        setting("owners"),
        ("team:edge", "models@example.org"),
    ),
    "openlineage_url": Row(
        "openlineage_url: 'http://catalogue:5000'",
        {"OPENLINEAGE_URL": "http://catalogue:5000"},
        lambda defs: any(sensor.name.startswith("openlineage") for sensor in defs.sensors),
        lambda settings: settings.openlineage_url == "http://catalogue:5000",
        True,
    ),
    **{
        f"mlflow.{name}": Row(
            "mlflow: {url: 'http://tracking:5000', experiment: edge}",
            {"MILTON_MLFLOW_URL": "http://tracking:5000", "MILTON_MLFLOW_EXPERIMENT": "edge"},
            lambda defs, name=name: getattr(defs.resources["campaign"].mlflow, name),
            lambda settings, name=name: getattr(settings.mlflow, name),
            expected,
        )
        for name, expected in (("url", "http://tracking:5000"), ("experiment", "edge"))
    },
    "dry_run": Row("dry_run: true", {"MILTON_DRY_RUN": "1"}, campaign("dry_run"), setting("dry_run"), True),
    "log_level": Row(
        "log_level: debug", {"MILTON_LOG_LEVEL": "debug"}, campaign("log_level"), setting("log_level"), "DEBUG"
    ),
}
ONLY_ON_THE_COMMAND_LINE = {"cache_dir", "serving.host", "serving.port", "serving.mode"}
"""Where `milton demo` and the tests download to, and how `milton-serve` serves: the graph does neither."""


@pytest.mark.parametrize("source", ["file", "variables"])
@pytest.mark.parametrize("name", ROWS)
def test_both_front_doors_make_the_same_of_it(name, source, tmp_path, monkeypatch):
    row = ROWS[name]
    if source == "variables" and not row.variables:
        pytest.skip("it has no variable")
    for variable, text in {
        "MILTON_STATE_DIR": str(tmp_path),
        "A_KEY": "sk-1",
        **(row.variables if source == "variables" else {}),
    }.items():
        monkeypatch.setenv(variable, text)
    if source == "file":
        (tmp_path / "milton.yaml").write_text(row.file)
    by_graph, by_command_line = row.graph(build_defs()), row.command_line(current_settings())
    assert by_graph == by_command_line
    if row.expected is not None:
        assert by_command_line == row.expected


def test_no_setting_is_left_uncompared():
    assert {*ROWS, *ONLY_ON_THE_COMMAND_LINE} == {leaf.name for leaf in leaves()}


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.expected is not None])
def test_the_row_sets_what_would_otherwise_be_something_else(name, tmp_path):
    row = ROWS[name]
    (tmp_path / "milton.yaml").write_text(row.file)
    environment = {"MILTON_STATE_DIR": str(tmp_path)}
    path = next(leaf.path for leaf in leaves() if leaf.name == name)

    def value(settings: Settings) -> Any:
        found: Any = settings
        for part in path:
            found = getattr(found, part, None)
        return found

    given = value(load_settings(environment))
    (tmp_path / "milton.yaml").unlink()
    assert given != value(load_settings(environment))
