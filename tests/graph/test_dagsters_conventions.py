"""What Dagster's users expect of any project: owners, kinds and tags on every asset, freshness, and `dg` that works."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from dagster import AssetKey

from milton_assets.definitions import build_defs
from milton_assets.tiers.discovery import installed_tiers
from milton_assets.vocabulary.tier import asset_of, asset_on_class

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    environment = {
        "MILTON_STATE_DIR": str(tmp_path_factory.mktemp("state")),
        "MILTON_OWNERS": "team:edge,a@example.org",
    }
    return build_defs(environment=environment).resolve_asset_graph()


def test_every_asset_has_its_owners_a_kind_and_its_stage(graph):
    lacking = []
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        if list(node.owners) != ["team:edge", "a@example.org"] or not node.kinds or "milton/stage" not in node.tags:
            lacking.append((key.to_user_string(), node.owners, node.kinds, node.tags))
    assert lacking == []


def test_stage_and_tier_are_tags(graph):
    def tagged(key: str, value: str) -> set[str]:
        return {k.to_user_string() for k in graph.get_all_asset_keys() if graph.get(k).tags.get(key) == value}

    tiers = installed_tiers()
    measure = {asset_of(tier) for tier in tiers} | {asset_on_class(t) for t, spec in tiers.items() if spec.per_class}
    assert tagged("milton/stage", "measure") == measure | {"registry_entry"}
    goldens = {golden.name for golden in tiers["reasoning"].goldens}
    assert tagged("milton/tier", "reasoning") == {asset_of("reasoning"), *goldens}


def test_goldens_can_still_be_observed(graph):
    assert all(
        graph.get(AssetKey(golden.name)).is_observable for s in installed_tiers().values() for golden in s.goldens
    )


def test_the_health_of_deployments_grows_stale_where_nobody_asks(graph):
    policy = graph.get(AssetKey("device_health")).freshness_policy
    assert policy.warn_window.to_timedelta() == timedelta(hours=1)
    assert policy.fail_window.to_timedelta() == timedelta(days=1)


def dg(tmp_path: Path, *words: str) -> str:
    """What `dg` says in the project's folder."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "MILTON_STATE_DIR": str(tmp_path / "state"),
        "DAGSTER_DISABLE_TELEMETRY": "1",
    }
    command = [Path(sys.executable).with_name("dg"), *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_dg_lists_the_definitions_and_checks_them(tmp_path):
    listed = json.loads(dg(tmp_path, "list", "defs", "--json", "--assets", 'tag:"milton/stage"="deploy"'))
    assert [(one["asset_key"], one["owners"], one["kinds"]) for one in listed["assets"]] == [
        (name, [{"team": "milton"}], ["file"]) for name in ("deployment", "rollout")
    ]
    assert "All definitions loaded successfully" in dg(tmp_path, "check", "defs")
