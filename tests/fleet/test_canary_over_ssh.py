"""A canary on a device behind a real sshd: started, split, judged, sent back and promoted, all over the wire."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from milton_assets.edge.bundle.keys import init_keys
from milton_assets.edge.canary.plan import Margins
from milton_assets.edge.canary.starting import CanaryRequest, CanaryTold
from milton_assets.edge.canary.verdict import Outcome
from milton_assets.fleet.canaries import problems_of
from milton_assets.fleet.local import LocalMeans, LocalTarget
from milton_assets.fleet.target import DeployRequest
from milton_assets.settings import load_settings
from milton_assets.usecases.canaries import canaries_on, told_and_kept
from milton_assets.usecases.compose import targets_of
from milton_assets.usecases.golden_questions import golden_sheet
from milton_assets.vocabulary.edge_target import target_in
from milton_assets.vocabulary.state import StateDir
from resources.inventory import inventory_of
from tests.support.agents import put_agent
from tests.support.crashing import healthy
from tests.support.edge_bundles import make_bundle
from tests.support.own_sshd import OwnSshd, free_port
from tests.support.scripted_server import Status, answer
from tests.support.served_target import CONTRACT, Scripts, ServedTarget, served, wait_for

pytestmark = pytest.mark.slow
BY_HAND = DeployRequest(actor="ada", health_rounds=0)
WIDE = Margins(failures=0.2, errors=0.3, slower=50, longer=4, wrong=0.45)
QUESTION = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "stream": True}


def ask(gateway: ServedTarget, times: int) -> list[str | None]:
    """Ask so often; which version answered each, None where the server failed."""

    def one(_: int) -> str | None:
        response = client.post(gateway.chat, json=QUESTION)
        return response.headers["x-milton-model-version"] if response.status_code == 200 else None

    with httpx.Client(timeout=60) as client, ThreadPoolExecutor(4) as pool:
        return list(pool.map(one, range(times)))


def test_a_worse_release_goes_back_and_a_better_one_is_promoted_and_deployed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sshd = OwnSshd(tmp_path / "attic", free_port())
    sshd.start()
    try:
        client = sshd.client(tmp_path / "client")
        sshd.know(client)
        monkeypatch.setenv("PATH", f"{client}{os.pathsep}{os.environ['PATH']}")
        at_home = put_agent(sshd.home)
        state = tmp_path / "state"
        state.mkdir()
        (state / "milton.yaml").write_text(f"targets: {{attic: 'ssh://{sshd.user}@127.0.0.1:{sshd.port}'}}\n")
        (state / "own.jsonl").write_text(
            '{"id": "france", "question": "What is the capital of France?", "answer": "Paris"}\n'
        )
        _run(state, at_home / "deployments" / "attic", tmp_path / "bundles")
    finally:
        sshd.stop()


def _run(state: Path, there: Path, bundles: Path) -> None:
    settings = load_settings({"MILTON_STATE_DIR": str(state)})
    init_keys(settings.state.keys)
    attic = targets_of(settings).named("attic")
    first, worse, better = (
        make_bundle(bundles, version, counter=counter, health=CONTRACT)
        for counter, version in enumerate(("first", "worse", "better"), 1)
    )
    # The release that is in service was brought by somebody at the device, which costs no connection.
    own = StateDir(there.parents[1])
    LocalTarget(target_in(own, "attic", None), own, LocalMeans(lambda: healthy, inventory_of)).deploy(first, BY_HAND)
    slowly = {"first_delay_s": 0.01, "delay_s": 0.01}
    knows = answer("It is", " Paris.", **slowly)
    scripts = Scripts({"first": knows, "worse": Status(500), "better": knows})
    with served(SimpleNamespace(path=there), scripts) as gateway:  # type: ignore[arg-type]

        def canary_of(bundle: Path) -> CanaryTold:
            request = CanaryRequest(actor="ada", share=0.5, margins=WIDE, assume_memory=True)
            sheet = golden_sheet(settings, str(state / "own.jsonl"))
            plan = canaries_on(attic).canary_start(bundle, request, goldens=sheet)
            wait_for(lambda: gateway.splitter.splits == plan.id)
            for _ in range(40):
                ask(gateway, 20)
                if gateway.splitter.splits != plan.id:
                    break
            told = canaries_on(attic).canary_told(plan.id)
            kept = told_and_kept(settings.state, attic, told)
            assert kept is not None, told.judgement
            assert kept.signer is not None and not list(problems_of(settings.state, kept))
            return told

        told = canary_of(worse)
        assert told.verdict is not None and told.verdict.outcome is Outcome.GO_BACK and told.verdict.fact is None
        assert told.counts.challenger.failed > 0 == told.counts.incumbent.failed
        assert set(ask(gateway, 8)) == {"first"}, "users see nothing of it any more"

        told = canary_of(better)
        assert told.verdict is not None and told.verdict.outcome is Outcome.PROMOTE, told.judgement
        assert told.counts.both_right > 0
        assert attic.status().active.model_version == "first", "a verdict deploys nothing"
        done = attic.deploy(better, BY_HAND)
        assert done.release is not None
        gateway.serves(done.release)
        assert set(ask(gateway, 8)) == {"better"}
