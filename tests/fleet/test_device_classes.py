"""A winner per device class, each on its own evidence: a target here and a device behind a real sshd."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from dagster import RunsFilter

from milton_assets.edge.manifest import BundleManifest
from milton_assets.edge.release import Folder, read_documents
from milton_assets.selection.policy_file import load_policy
from milton_assets.selection.side_by_side import HERE, side_by_side
from milton_assets.selection.summary import RunSummary, read_summary, run_ids, summaries_beside
from milton_assets.tiers.inference import load_goldens
from milton_assets.usecases.past_ledger import ledger_before
from milton_assets.vocabulary.digest import sha256_file
from milton_assets.vocabulary.keys import BadKey, campaign_of, check_run_id, class_of, run_of
from milton_assets.vocabulary.named_weights import NamedWeights
from milton_assets.vocabulary.tier import TierResult
from resources.evidence_store import EvidenceFile, EvidenceStore
from tests.support.agents import put_measuring_agent
from tests.support.own_sshd import OwnSshd, free_port
from tests.support.scripted_server import Reply, answer
from tests.support.workplace import Behaviour, Workplace, competent, failure_of, workplace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

on_the_road = pytest.mark.xdist_group("device classes' road")


PROMPTS = {prompt.text for prompt in load_goldens().prompts}


def model(*, delay_s: float) -> Behaviour:
    """A competent model that takes so long for its first token on this machine, and says what it always says to the
    prompts of the inference tier."""
    think = competent()

    def reply(body: dict[str, object]) -> Reply | str:
        if body.get("stream"):
            return answer("a ", "b ", "c ", "d", first_delay_s=delay_s, delay_s=delay_s / 5)
        return "so 1T 2T" if body["messages"][-1]["content"] in PROMPTS else think(body)

    return reply


@pytest.fixture
def decided(sshd: OwnSshd, device_url: str, tmp_path: Path) -> Iterator[tuple[Workplace, tuple[RunSummary, ...]]]:
    """A campaign over two models, of which one is faster here and the other on the device; its summaries."""
    put_measuring_agent(sshd.home, STUB_TOKEN_MS="good=6,better=1")
    work = tmp_path / "work"
    work.mkdir()
    with workplace(work) as wp:
        wp.register("good", model(delay_s=0.001))
        wp.register("better", model(delay_s=0.03), seed=1)
        settings = {
            "targets": {"here": str(tmp_path / "here"), "kitchen": {"at": device_url, "class": "pi5"}},
            "device_classes": {"local": {}, "pi5": {"reference": "kitchen"}},
        }
        (wp.state.root / "milton.yaml").write_text(json.dumps(settings))
        result = wp.conduct()
        assert result.success, failure_of(result)
        yield wp, summaries_beside(wp.state.runs, read_summary(wp.state.runs))


@contextmanager
def one_referenced_class(work: Path, device_url: str, policy: str = "smoke") -> Iterator[Workplace]:
    """A workplace with one candidate, whose only target is the reference device of its class."""
    work.mkdir()
    with workplace(work, policy=policy) as wp:
        wp.register("good", competent())
        settings = {
            "targets": {"kitchen": {"at": device_url, "class": "pi5"}},
            "device_classes": {"pi5": {"reference": "kitchen"}},
        }
        (wp.state.root / "milton.yaml").write_text(json.dumps(settings))
        yield wp


@dataclass(frozen=True)
class Road:
    """What was decided on one class, campaign by campaign, and the anchor of the last two."""

    wp: Workplace
    first: RunSummary
    lacking: RunSummary
    found: RunSummary
    anchor: NamedWeights


def policy_for_a_first_look(file: Path) -> str:
    """`anchored`, which lets itself be wrong more often: few cases and few rounds on a busy machine show little."""
    policy = load_policy("anchored").model_dump(mode="json", exclude_none=True)
    policy["incumbent"]["alpha"] = 0.2
    file.write_text(yaml.safe_dump(policy | {"name": "first_look"}))
    return str(file)


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """`good` was deployed to the device, then the faster `better`; `good` is retired, and `v1` is new. From then on the
    device has another server, by which `v1` outruns both, and which has no memory for `good` at first."""
    tmp = tmp_path_factory.mktemp("road")
    sshd, policy = OwnSshd(tmp / "sshd", free_port()), policy_for_a_first_look(tmp / "policy.yaml")
    sshd.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            url = sshd.reached_from(tmp / "client", patch)
            with one_referenced_class(tmp / "work", url, policy) as wp:

                def conduct(build: str, serving: Sequence[str], slow: str = "", **told: object) -> RunSummary:
                    pace = ",".join(f"{version}=0.5" for version in serving)
                    first = ",".join(f"{version}={120 if version == slow else 20}" for version in serving)
                    put_measuring_agent(sshd.home, STUB_BUILD=build, STUB_TOKEN_MS=pace, STUB_FIRST_MS=first)
                    result = wp.conduct({"ops": {"conduct": {"config": told}}})
                    assert result.success, failure_of(result)
                    return read_summary(wp.state.runs)

                first = conduct("stub-1", ["good"], slow="good")
                wp.register("better", competent(), seed=1)
                assert conduct("stub-1", ["better"], only=["better"]).decision.winner == "better"
                wp.defs.resources["registry"].store().retire("good")
                wp.register("v1", competent(), seed=2)
                lacking = conduct("stub-2", ["better", "v1"], slow="better")
                found = conduct("stub-2", ["good", "v1"], slow="good", only=["v1"], tiers=["retrieval"])
                yield Road(wp, first, lacking, found, NamedWeights("good", sha256_file(wp.artefact("good"))))
    finally:
        sshd.stop()


@on_the_road
def test_where_every_target_has_a_referenced_class_this_machine_times_nobody(road):
    assert {class_of(name) for name in run_ids(road.wp.state.runs)} == {"pi5"}
    assert (road.first.decision.winner, [one.target for one in road.first.deployments]) == ("good", ["kitchen"])
    assert not (road.wp.state.benchmarks / "inference_metrics").exists()
    pins = road.first.manifest.candidate("good").pins
    assert {pin.tier for pin in pins} >= {"inference", "reasoning", "retrieval"}


@on_the_road
def test_without_figures_from_the_device_as_it_is_now_nobody_replaces_what_serves_and_it_is_said_what_to_do(road):
    decision = road.lacking.decision
    assert (decision.verdict, decision.incumbent, road.lacking.bundle) == ("no_verdict", "better", None)
    (anchor,) = road.lacking.manifest.anchors
    assert (anchor.version, anchor.pins) == ("good", ())
    assert "on the class pi5 ended in failure" in anchor.missing
    assert "llama.cpp ended with exit status 1" in anchor.missing
    said = next(reason for reason in decision.reasons if "v1 would replace better" in reason)
    assert "nobody can be held to good, the best deployed on ttft_ms.median and output_tokens_per_s" in said
    assert any("every campaign tries to measure it" in note and "anchors_let_go" in note for note in decision.notes)


@on_the_road
def test_the_best_that_was_deployed_is_measured_again_on_the_device_and_challengers_are_held_to_it(road):
    found, decision = road.found, road.found.decision
    (anchor,) = found.manifest.anchors
    assert (anchor.version, anchor.artefact_sha256, anchor.missing) == ("good", road.anchor.sha256, None)
    assert [(pin.model_version, pin.tier, pin.device_class) for pin in anchor.pins] == [
        (road.anchor.anchor_key, "inference", "pi5")
    ]
    measured = TierResult.from_table(
        EvidenceFile(EvidenceStore(road.wp.state.benchmarks), anchor.pins[0].uri, anchor.pins[0].sha256, "").read()
    )
    assert measured.provenance["measured_on"] == {"target": "kitchen", "class": "pi5"}
    assert measured.provenance["fingerprint"]["server"]["build"] == "stub-2"
    (challenge,) = (one.challenge for one in decision.candidates if one.challenge is not None)
    held = {one.metric: (one.against, one.against_run, one.non_inferior) for one in challenge.anchored}
    assert held["ttft_ms.median"] == held["output_tokens_per_s"] == ("good", found.run_id, True)
    assert held["nDCG@10"][:2] != ("good", found.run_id)
    assert (decision.verdict, decision.winner) == ("promote", "v1")
    assert any("server.build: 'stub-2' against 'stub-1'" in note for note in decision.notes)


def test_a_class_whose_reference_device_is_off_gets_no_verdict_and_the_device_is_named(sshd, device_url, tmp_path):
    sshd.stop()
    with one_referenced_class(tmp_path / "work", device_url) as wp:
        assert wp.conduct().success
        summary = read_summary(wp.state.runs)
    assert (summary.decision.verdict, summary.bundle, summary.deployments) == ("no_verdict", None, ())
    assert "kitchen, the reference device of the class pi5: the device cannot be reached" in summary.decision.reasons[1]


def manifest_of(wp: Workplace, summary: RunSummary) -> BundleManifest:
    with Folder(wp.state.bundles / summary.bundle.name) as folder:
        return read_documents(folder).manifest


def test_each_class_gets_its_own_winner_on_its_own_evidence(decided):
    wp, (here, pi5) = decided
    assert (class_of(here.run_id), class_of(pi5.run_id)) == (None, "pi5")
    assert campaign_of(pi5.run_id) == here.run_id
    assert (here.decision.winner, pi5.decision.winner) == ("good", "better")
    # Speed is each class's own, quality was measured once.
    for version in ("good", "better"):
        one, other = (summary.manifest.candidate(version) for summary in (here, pi5))
        assert one.pin("reasoning") == other.pin("reasoning")
        assert one.pin("inference").device_class is None
        assert other.pin("inference").device_class == "pi5"
        assert other.pin("inference").uri.startswith(f"inference_on_class/pi5/{version}/")
        assert one.fingerprint_sha256 != other.fingerprint_sha256
    runs = wp.instance.get_runs(RunsFilter(job_name="benchmark_on_class"))
    assert {run.tags["dagster/partition/device_class"] for run in runs} == {"pi5"}
    # Each target serves what won on its class, under a contract that was measured there.
    deployed = {one.target: one.release for summary in (here, pi5) for one in summary.deployments}
    assert deployed == {"here": here.bundle.release_digest, "kitchen": pi5.bundle.release_digest}
    assert manifest_of(wp, pi5).health.probes[0].answer_sha256 != manifest_of(wp, here).health.probes[0].answer_sha256
    # A decision goes on with the ledger of its own class.
    after = {name: ledger_before(wp.state.runs, run_of("benchmark_29990101_000000", name)) for name in (None, "pi5")}
    assert {name: ledger.previous.run_id for name, ledger in after.items()} == {None: here.run_id, "pi5": pi5.run_id}
    classes, rows = side_by_side((here, pi5))
    assert classes == [HERE, "pi5"]
    assert {row[0]: [cell.split(" ")[0] for cell in row[1:]] for row in rows} == {
        "good": ["1,", "2"],
        "better": ["2", "1,"],
    }
    # The stub there is another model, so its answers part from this machine's, and the evidence says where.
    pin = pi5.manifest.candidate("good").pin("inference")
    file = EvidenceFile(EvidenceStore(wp.state.benchmarks), pin.uri, pin.sha256, pin.dagster_run_id)
    table = TierResult.from_table(file.read())
    told = table.provenance["same_answers"]
    assert (told["asked"], told["failed"], len(told["differing"])) == (6, None, 6)
    assert all(one["same_characters"] >= 3 for one in told["differing"])
    assert table.provenance["measured_on"] == {"target": "kitchen", "class": "pi5"}


INTERRUPTED_ON_A_CLASS = """
import json, os, signal, sys
from pathlib import Path
from dagster import RunsFilter
from tests.support.workplace import competent, failure_of, workplace

on_classes = RunsFilter(job_name="benchmark_on_class")

def interrupting(body):
    seen = [run.tags["dagster/partition/device_class"] for run in wp.instance.get_runs(on_classes)]
    if body.get("stream") and sorted(set(seen)) == ["nuc", "pi5"] and not interrupted:
        interrupted.append(True)
        os.kill(os.getpid(), signal.SIGINT)
    return think(body)

root = Path(sys.argv[1])
think, interrupted = competent(), []
with workplace(root) as wp:
    wp.register("v1", think)
    wp.register("v2", interrupting, seed=1)
    at = {"kitchen": {"at": str(root / "kitchen"), "class": "pi5"}, "hall": {"at": str(root / "hall"), "class": "nuc"}}
    classes = {"pi5": {"reference": "kitchen"}, "nuc": {"reference": "hall"}}
    (wp.state.root / "milton.yaml").write_text(json.dumps({"targets": at, "device_classes": classes}))
    try:
        wp.conduct()
    except BaseException:
        assert interrupted
    os.environ["SCRIPTED_BUILD"] = "another"
    result = wp.conduct()
    assert result.success, failure_of(result)
    runs = [run for run in reversed(list(wp.instance.get_runs())) if run.job_name.startswith("benchmark")]
    told = [(run.tags["milton/campaign"], run.tags.get("dagster/partition/model_version", ""),
             run.tags.get("dagster/partition/device_class", "here"), run.status.value) for run in runs]
    print(json.dumps({"runs": told, "decided": sorted(path.stem for path in wp.state.runs.glob("*.json"))}))
"""


def test_a_campaign_that_was_interrupted_amid_a_class_goes_on_there_and_measures_again_what_a_changed_device_did(
    tmp_path,
):
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", INTERRUPTED_ON_A_CLASS, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    (campaign,) = {run[0] for run in seen["runs"]}
    assert [run[1:] for run in seen["runs"]] == [
        *(["", "here", "SUCCESS"],) * 2,
        ["v1", "pi5", "SUCCESS"],
        ["v2", "pi5", "SUCCESS"],
        ["v1", "nuc", "SUCCESS"],
        ["v2", "nuc", "CANCELED"],
        ["v2", "nuc", "SUCCESS"],
        ["v1", "nuc", "SUCCESS"],
    ]
    assert seen["decided"] == [f"{campaign}.nuc", f"{campaign}.pi5"]


@pytest.mark.parametrize("text", ["benchmark_20260111_142500.", "benchmark_20260111_142500.a|b", "benchmark_1.pi5"])
def test_what_is_no_class_ends_no_run_id(text):
    with pytest.raises(BadKey):
        check_run_id(text)


def test_runs_of_one_campaign_lie_beside_each_other(tmp_path):
    names = ["benchmark_20260111_142500", "benchmark_20260111_142500.pi5", "benchmark_20260112_142500.pi5"]
    for name in names:
        (tmp_path / f"{name}.json").write_text("{}")
    assert run_ids(tmp_path) == tuple(names)
