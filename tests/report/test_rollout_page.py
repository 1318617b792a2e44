"""The page of a rollout: from its journal, with every failure's reason, and nothing that others wrote as markup."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html import unescape

import pytest

from milton_assets.report.page import rollout_page
from milton_assets.report.vega_lite import MEDIA_TYPE
from milton_assets.rollout.journal import created
from milton_assets.rollout.simulate import Fleet, Habit, Rates, simulate
from milton_assets.rollout.states import Phase
from milton_assets.usecases.rollout_report import MOST_PLACES, gather_rollout
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.state import StateDir
from tests.support.rollouts import plan_of

NOW = datetime(2026, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The journal of a rollout over 200 devices, a fifth offline, a twentieth failing, one lying; and its state."""
    state = StateDir(tmp_path_factory.mktemp("state"))
    fleet = Fleet(plan_of(200, waves=["1", "10%", "rest"], at_once=20), Rates(offline=0.2, failing=0.05), seed=1)
    fleet.devices["d7"].habit = Habit.LYING
    simulated = simulate(fleet)
    with created(state.rollouts / "spring") as journal:
        for event in simulated.events:
            journal.append(event)
    return state, simulated.state


def test_every_device_that_did_not_simply_stand_is_there_with_its_reason(kept):
    state, rollout = kept
    html = rollout_page(gather_rollout(state, "spring", now=NOW))
    rows = re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)
    told = {device.name: device for device in rollout.each() if device.phase is not Phase.STOOD}
    assert {device.phase for device in told.values()} == {Phase.FAILED, Phase.GIVEN_UP}
    for name, device in told.items():
        (row,) = [row for row in rows if f">{name}</" in row]
        assert device.reason in row
    assert f"{rollout.well} devices that stood" in html
    assert "its journal does not know the attempt" in html


def test_it_tells_waves_evidence_and_exposure(kept):
    state, rollout = kept
    html = rollout_page(gather_rollout(state, "spring", now=NOW))
    assert "v2 to 200 devices: done" in html
    assert "the one device so far stood" in html
    assert f"{rollout.begun} devices began: {rollout.well} stood, {rollout.failed} failed" in html
    assert f"{len(rollout.exposed())} devices may serve the release because of it, of at most 200" in html


def test_the_chart_never_shows_more_begun_than_allowed_and_stays_small(kept):
    chart = gather_rollout(kept[0], "spring", now=NOW).chart
    lines = {line.name: [place.y for place in line.places] for line in chart.lines}
    assert all(began <= most for began, most in zip(lines["began"], lines["at most allowed"], strict=True))
    assert lines["began"][-1] == kept[1].begun
    assert len(lines["began"]) <= 2 * MOST_PLACES


def test_the_page_loads_nothing_and_runs_but_our_own_script(kept):
    html = rollout_page(gather_rollout(kept[0], "spring", now=NOW))
    assert "default-src 'none'" in unescape(html)
    assert re.findall(r"<script([^>]*)>", html) == [f' type="{MEDIA_TYPE}"', ""]
    assert not re.search(r"(?:src|href)=\"http", html)


def test_a_rollout_that_is_not_there_is_said(tmp_path):
    with pytest.raises(BadInput, match="there is no rollout autumn"):
        gather_rollout(StateDir(tmp_path), "autumn", now=NOW)
