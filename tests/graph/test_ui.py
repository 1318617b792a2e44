"""`make ui`: web UI and daemon come up, answer a newcomer in a real browser, and leave nothing behind on Ctrl-C."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from milton_assets.selection.summary import read_summary
from milton_assets.vocabulary.figure import figure, span
from resources.servers.process import free_port
from tests.support.browser import NEEDS_BROWSER, browser_page
from tests.support.processes import left_behind
from tests.support.targets import targets_of
from tests.support.tiers import TIERS
from tests.support.workplace import Workplace, broken, competent, workplace

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 150.0
QUERY = """{ repositoriesOrError { ... on RepositoryConnection { nodes {
  jobs { name runs(limit: 5) { runId repositoryOrigin { repositoryLocationName } } }
  sensors { name sensorState { status } } schedules { name } } } } }"""
pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def conducted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """The workplace of a campaign that was conducted before the UI came up: a good model was deployed, a broken one
    failed, and the MLflow server that was to be told was away."""
    root = tmp_path_factory.mktemp("ui")
    with workplace(root) as wp:
        wp.register("good", competent())
        wp.register("bad", broken, seed=1)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(root),
            "PYTHONPATH": str(ROOT),
            "MILTON_STATE_DIR": str(wp.state.root),
            "MILTON_WATCH_MACHINE": "0",
            "DAGSTER_MODULE_NAME": "tests.support.served_module",
            "MILTON_PROFILE": "smoke",
            "MILTON_POLICY": "smoke",
            "MILTON_MLFLOW_URL": "http://127.0.0.1:9",
            "SCRIPTED_SERVER": wp.server.base_url,
        }
        milton = Path(sys.executable).with_name("milton")
        command = [milton, "autobench"]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        (root / "said").write_text(done.stderr)
        yield wp


@pytest.fixture(scope="module")
def ui(conducted: Workplace) -> Iterator[str]:
    """The UI's address, of one `make ui` for all tests here, which a Ctrl-C ends: nothing may be left behind then."""
    assert shutil.which("make"), "the suite needs make"
    port, home = free_port(), conducted.state.root.parent
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "MILTON_STATE_DIR": str(conducted.state.root)}
    command = ["make", "-o", f"{sys.prefix}/.installed", f"VENV={sys.prefix}", f"PORT={port}", "ui"]
    with (home / "ui.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            yield f"http://127.0.0.1:{port}"
            os.killpg(process.pid, signal.SIGINT)
            process.wait(60)
            assert left_behind(str(conducted.state.root)) == []
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def graph_of(address: str) -> dict:
    """What the UI knows of the graph, as soon as it answers."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        try:
            answer = httpx.post(f"{address}/graphql", json={"query": QUERY}, timeout=30).json()
        except (httpx.TransportError, json.JSONDecodeError):  # not there yet, or not whole yet
            time.sleep(1)
            continue
        if nodes := ((answer.get("data") or {}).get("repositoriesOrError") or {}).get("nodes"):
            return nodes[0]
        time.sleep(1)
    pytest.fail(f"{address} did not answer within {DEADLINE_S} s")


def test_a_campaign_goes_on_without_the_server_that_was_to_be_told_and_says_so(conducted):
    said = (conducted.state.root.parent / "said").read_text()
    run_id = read_summary(conducted.state.runs).run_id
    assert f"{run_id} was not told to MLflow: the MLflow server http://127.0.0.1:9 does not answer" in said
    assert f"`milton mlflow {run_id}` tries again" in said


def test_the_ui_shows_the_graph_and_earlier_campaigns(ui):
    graph = graph_of(ui)
    assert {"autobench", "benchmark_model", "promote", "deploy"} <= {job["name"] for job in graph["jobs"]}
    running = {s["name"] for s in graph["sensors"] if s["sensorState"]["status"] == "RUNNING"}
    assert {"registry_sensor", "promote_when_measured", "deploy_when_bundled"} <= running
    assert [schedule["name"] for schedule in graph["schedules"]] == ["every_six_hours"]
    runs = {job["name"]: job["runs"] for job in graph["jobs"]}
    for job in ("autobench", "promote", "deploy"):
        assert [run["repositoryOrigin"] for run in runs[job]] == [{"repositoryLocationName": "milton_assets"}]


@NEEDS_BROWSER
def test_which_model_serves_since_when_and_why_is_two_clicks_from_the_landing_page(ui, conducted):
    graph_of(ui)
    summary = read_summary(conducted.state.runs)
    (done,) = targets_of(conducted.state).named("local").history()
    with browser_page() as page:
        page.goto(ui)
        page.locator('a[href="/assets"]', has_text="Catalog").first.click()
        page.locator('a[href="/assets/deployment"]').first.click()
        page.get_by_text(f"good on local since {done.finished_at:%Y-%m-%d %H:%M} UTC").first.wait_for()
        for reason in summary.decision.reasons:
            page.get_by_text(reason).first.wait_for()


@NEEDS_BROWSER
def test_the_lineage_opens_on_the_story_from_left_to_right_and_the_goldens_are_folded(ui):
    graph_of(ui)
    story = ("goldens", "entry", "tiers", "decision", "bundle", "deployment")
    with browser_page() as page:
        page.goto(f"{ui}/asset-groups")
        boxes = [page.locator("svg").get_by_text(step, exact=True).first for step in story]
        for box in boxes:
            box.wait_for()
        places = [box.bounding_box()["x"] for box in boxes]
        shown = page.locator("body").inner_text()
    assert places[1:] == sorted(places[1:]) and places[0] < places[2]
    assert [golden.name for spec in TIERS.values() for golden in spec.goldens if golden.name in shown] == []


@NEEDS_BROWSER
def test_verdict_winner_and_reasons_come_first_then_card_and_pictures(ui):
    graph_of(ui)
    with browser_page() as page:
        page.goto(f"{ui}/assets/selection_decision")
        page.get_by_text("decision_card", exact=True).wait_for()
        keys = [row.locator("td").first.inner_text() for row in page.locator("tr", has=page.locator("td")).all()]
    assert keys[1:7] == ["verdict", "winner", "reasons", "decision_card", "intervals", "pareto_front"]
    assert {"bundle", "campaign", "columns"} <= set(keys)


@NEEDS_BROWSER
def test_path_is_that_of_the_bundle_and_of_the_release_on_the_device(ui, conducted):
    graph_of(ui)
    (done,) = targets_of(conducted.state).named("local").history()
    bundle = conducted.state.place(read_summary(conducted.state.runs).bundle.path)
    with browser_page() as page:
        for asset, path in (("deployment", done.target_path), ("edge_bundle", str(bundle))):
            page.goto(f"{ui}/assets/{asset}")
            row = page.locator("tr", has=page.get_by_text("path", exact=True)).first
            row.get_by_text(path, exact=True).wait_for()


@NEEDS_BROWSER
def test_the_launchpad_opens_with_models_profile_and_policy(ui):
    graph_of(ui)
    with browser_page() as page:
        page.goto(f"{ui}/locations/milton_assets/jobs/autobench/playground")
        page.locator(".CodeMirror-line", has_text="conduct:").first.wait_for()
        offered = page.locator(".CodeMirror-code").first.inner_text()
        page.get_by_text("No errors").wait_for()
    assert [name for name in ("only:", "profile:", "policy:", "tiers:", "dry_run:") if name not in offered] == []


@NEEDS_BROWSER
def test_the_timeline_that_the_ui_opens_on_has_the_campaigns_runs(ui):
    graph_of(ui)
    with browser_page() as page:
        page.goto(ui)
        for job in ("autobench", "benchmark_model", "promote", "deploy"):
            page.locator(f'a[href$="/jobs/{job}"]').first.wait_for()


@NEEDS_BROWSER
def test_from_there_the_decisions_card_has_every_figure_in_a_cell_of_its_own(ui, conducted):
    graph_of(ui)
    good = read_summary(conducted.state.runs).decision.candidate("good")
    with browser_page() as page:
        page.goto(f"{ui}/assets/deployment")
        # The link opens a tab of its own.
        with page.context.expect_page() as opened:
            page.locator('a[href*="/assets/selection_decision?view=partitions"]').first.click()
        page = opened.value
        page.locator("tr", has_text="decision_card").get_by_text("[Show Markdown]").first.click()
        page.get_by_role("heading", name="PROMOTE good").wait_for()
        row = page.locator("tr", has=page.locator("td", has_text="good [promoted]")).first
        cells = row.locator("td").all_inner_texts()
    latency = good.reading("inference", "ttft_ms.median")
    assert cells[2] == f"{figure(latency.value)} [{span(latency.interval.low, latency.interval.high)}]"


@NEEDS_BROWSER
def test_a_childs_page_leads_to_its_campaign_and_that_back_to_every_child(ui, conducted):
    graph = graph_of(ui)
    runs = {job["name"]: [run["runId"] for run in job["runs"]] for job in graph["jobs"]}
    (conductor,) = runs["autobench"]
    with browser_page() as page:
        page.goto(f"{ui}/runs/{runs['promote'][0]}")
        page.locator(f'a[href$="/runs/{conductor}"]').first.click()
        for job in ("benchmark_model", "promote", "deploy"):
            for child in runs[job]:
                page.locator(f'a[href$="/runs/{child}"]').first.wait_for()
