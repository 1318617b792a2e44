"""`milton trace`: from the deployment to the weights, and which file it is that breaks the chain."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from milton_assets.cli.app import main
from milton_assets.edge.bundle.keys import init_keys
from milton_assets.edge.canary.plan import Arm
from milton_assets.edge.deployment import Deployment
from milton_assets.fleet.canaries import field_verdict, keep
from milton_assets.fleet.ssh import SshTarget
from milton_assets.fleet.target import DeployRequest
from milton_assets.rollout.arms import judge_fleet
from milton_assets.rollout.arms_kept import DeviceTold, FleetVerdict, KeptFleetVerdict, figures_in, keep_verdict
from milton_assets.usecases.trace import Link, Records, trace
from milton_assets.vocabulary.digest import sha256_file
from milton_assets.vocabulary.golden_set import golden_digests, read_all_goldens
from resources.evidence_store import EvidenceStore
from resources.registries import open_registry
from resources.registries.json_file import retire
from tests.support.agents import LYING, put_agent
from tests.support.arms import figures, plan_of
from tests.support.canaries import canary_told
from tests.support.own_sshd import OwnSshd, free_port
from tests.support.targets import targets_of
from tests.support.tiers import TIERS
from tests.support.workplace import Workplace, clueless, competent, failure_of, workplace


def shipped_digests() -> dict[str, str]:
    return golden_digests(read_all_goldens(TIERS, {}))


NOW = datetime(2026, 1, 12, tzinfo=UTC)
RUN = "benchmark_20260101_000000"
LINKS = ["deployment", "release", "bundle", "decision", "evidence", "registry entry", "weights"]

DOCUMENTS = (
    "SHA256SUMS",
    "manifest.json",
    "decision.json",
    "evidence_manifest.json",
    "benchmark_summary.json",
    "registry_entry.json",
    "sbom.cdx.json",
    "attestations/*",
    "model/*",
)
SIGNATURES = ("SHA256SUMS.sig", "model.sig")
CHAIN = [
    *(("release", f"deployments/local/releases/*/{name}") for name in DOCUMENTS),
    *(("bundle", f"bundles/*/{name}") for name in DOCUMENTS),
    # Whether there should be a signature, only the other copy can tell.
    *(("bundle", f"{place}/{name}") for place in ("deployments/local/releases/*", "bundles/*") for name in SIGNATURES),
    ("decision", f"benchmarks/runs/{RUN}.json"),
    ("decision", f"benchmarks/runs/{RUN}.*.html"),
    ("decision", f"benchmarks/selection_decision/{RUN}/*T*.json"),
    ("decision", f"benchmarks/selection_decision/{RUN}/*.parquet"),
    *(
        ("evidence", f"benchmarks/{tier}_metrics/{version}/*.parquet")
        for tier in ("inference", "reasoning", "retrieval", "fidelity")
        for version in ("good", "poor")
    ),
    ("registry entry", "benchmarks/registry_entry/good/*.parquet"),
    ("registry entry", "models/registry.json"),
    ("weights", "models/quantized/good/*.gguf"),
]
"""Which link holds which files of the state folder."""

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("trace")]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """A good model, chosen over a poor one and deployed. Each test puts back what it changes."""
    with workplace(tmp_path_factory.mktemp("trace")) as wp:
        init_keys(wp.state.keys)
        wp.register("good", competent())
        wp.register("poor", clueless(), seed=1)
        for job, partition in (
            ("benchmark_model", "good"),
            ("benchmark_model", "poor"),
            ("promote", RUN),
            ("deploy", "local"),
        ):
            result = wp.run(job, partition)
            assert result.success, failure_of(result)
        yield wp


@pytest.fixture(scope="module")
def kitchen(place: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SshTarget, Path]]:
    """A device behind a real sshd to which the same bundle was deployed, and the target's folder there."""
    root = tmp_path_factory.mktemp("kitchen")
    sshd = OwnSshd(root / "sshd", free_port())
    sshd.start()
    client = sshd.client(root / "client")
    sshd.know(client)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", f"{client}{os.pathsep}{os.environ['PATH']}")
            folder = put_agent(sshd.home) / "deployments" / "kitchen"
            url = f"ssh://{sshd.user}@127.0.0.1:{sshd.port}"
            patch.setenv("MILTON_TARGETS", f"kitchen={url}")
            target = targets_of(place.state, {"kitchen": url}).named("kitchen")
            assert isinstance(target, SshTarget)
            bundle = next(place.state.bundles.glob("milton_edge_bundle_*"))
            target.deploy(bundle, DeployRequest(actor="ada", health_rounds=0))
            yield target, folder
    finally:
        sshd.stop()


@pytest.fixture
def deployment(place: Workplace) -> Deployment:
    """The one deployment."""
    return targets_of(place.state).named("local").history()[-1]


@pytest.fixture
def follow(place: Workplace, deployment: Deployment) -> Callable[..., dict[str, Link]]:
    """The chain as things are when it is called, by link."""

    def links(goldens: Callable[[], dict[str, str]] = shipped_digests) -> dict[str, Link]:
        store = EvidenceStore(place.state.benchmarks)
        records = Records(
            place.state, store, place.instance, goldens, {deployment.id: deployment}, open_registry(None, place.state)
        )
        target = targets_of(place.state).named("local")
        return {link.what: link for link in trace(deployment, target, records).links}

    return links


@pytest.fixture
def follow_there(place: Workplace, kitchen: tuple[SshTarget, Path]) -> Callable[..., dict[str, Link]]:
    """The chain of what is deployed on the device, as things are when it is called, by link."""

    def links(target: SshTarget = kitchen[0]) -> dict[str, Link]:
        (done,) = target.history()
        store, registry = EvidenceStore(place.state.benchmarks), open_registry(None, place.state)
        records = Records(place.state, store, place.instance, shipped_digests, {done.id: done}, registry)
        return {link.what: link for link in trace(done, target, records).links}

    return links


@pytest.fixture
def ask(
    place: Workplace, deployment: Deployment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[], tuple[int, str]]:
    """`milton trace DEPLOYMENT --json`: its exit status, and what it says."""
    monkeypatch.setenv("MILTON_STATE_DIR", str(place.state.root))
    monkeypatch.setenv("DAGSTER_HOME", place.instance.root_directory)
    monkeypatch.setattr("sys.argv", ["milton", "trace", deployment.id, "--json"])

    def traced() -> tuple[int, str]:
        with pytest.raises(SystemExit) as done:
            main()
        said = capsys.readouterr()
        return int(done.value.code or 0), said.out or said.err

    return traced


def broken(links: dict[str, Link]) -> list[str]:
    return [what for what, link in links.items() if not link.holds]


def modified(raw: bytes) -> bytes:
    """Another letter in the first half. The last digit of a number may change and leave the number as it is.

    The registry's second half is another model's, whose entry is not of this chain.
    """
    place = next(at for at in range(len(raw) // 3, len(raw)) if raw[at : at + 1].isalpha())
    return raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]


TAMPERINGS: dict[str, Callable[[bytes], bytes | None]] = {
    "modified": modified,
    "truncated": lambda raw: raw[: len(raw) // 2],
    "deleted": lambda _: None,
}


@contextmanager
def tampered(path: Path, change: Callable[[bytes], bytes | None]) -> Iterator[None]:
    """The file with other bytes, or gone, and as it was afterwards; another name that it has stays as it is."""
    folder_mode, mode, raw = path.parent.stat().st_mode, path.stat().st_mode, path.read_bytes()
    path.parent.chmod(0o755)
    path.unlink()
    if (bytes_now := change(raw)) is not None:
        path.write_bytes(bytes_now)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        path.write_bytes(raw)
        path.chmod(mode)
        path.parent.chmod(folder_mode)


def test_the_chain_leads_from_the_deployment_to_the_weights(follow):
    links = follow()
    assert (list(links), broken(links)) == (LINKS, [])
    assert links["evidence"].detail.startswith("8 tables, each as pinned on disk and in the event log, and ")


@pytest.mark.parametrize(
    ("link", "pattern", "how"),
    # Weights that are no longer where they were registered are no tampering.
    [(link, pattern, how) for link, pattern in CHAIN for how in TAMPERINGS if (link, how) != ("weights", "deleted")],
)
def test_a_file_that_was_tampered_with_is_named(place, follow, link, pattern, how):
    found = list(place.state.root.glob(pattern))
    assert found, f"nothing is {pattern}"
    for path in found:
        with tampered(path, TAMPERINGS[how]):
            links = follow()
        assert link in broken(links)
        assert path.name in links[link].detail


def test_every_file_of_release_and_bundle_is_tried(place):
    tried = {path for _, pattern in CHAIN for path in place.state.root.glob(pattern)}
    for folder in (*place.state.bundles.iterdir(), *(place.state.deployments / "local" / "releases").iterdir()):
        assert {path for path in folder.rglob("*") if path.is_file()} <= tried


def test_that_todays_goldens_are_others_is_a_note_and_no_broken_link(follow):
    links = follow(goldens=lambda: {**shipped_digests(), "reasoning_cases": "0" * 64})
    assert broken(links) == []
    assert "the golden reasoning_cases is 000000000000 today; the decision was taken on" in links["evidence"].detail


def test_weights_that_were_moved_away_are_absent_but_no_break(place, follow, tmp_path):
    source = next((place.state.quantized / "good").glob("*.gguf"))
    with moved(source, tmp_path / "elsewhere.gguf"):
        links = follow()
    assert broken(links) == []
    assert f"{source} is absent, the bundle holds it" in links["weights"].detail


def test_a_bundle_that_was_cleared_away_is_absent_but_no_break(place, follow, tmp_path):
    bundle = next(place.state.bundles.glob("milton_edge_bundle_*"))
    with moved(bundle, tmp_path / "elsewhere"):
        links = follow()
    assert broken(links) == []
    assert f"{bundle} is absent" in links["bundle"].detail


def test_an_entry_that_was_retired_since_is_no_break(place, follow):
    with tampered(place.state.registry, lambda raw: raw):
        retire(place.state.registry, "good")
        assert broken(follow()) == []


def test_an_entry_that_has_no_canonical_form_is_named_and_no_traceback(place, follow):
    def half_a_character(raw: bytes) -> bytes:
        models = json.loads(raw)
        models["models"]["good"]["note"] = "\ud83d"
        return json.dumps(models).encode()

    with tampered(place.state.registry, half_a_character):
        links = follow()
    assert broken(links) == ["registry entry"]
    assert str(place.state.registry) in links["registry entry"].detail


def test_a_release_that_is_gone_ends_the_chain_there(place, follow, tmp_path):
    release = next((place.state.deployments / "local" / "releases").iterdir())
    with moved(release, tmp_path / "release"):
        links = follow()
    assert (list(links), broken(links)) == (LINKS[:2], ["release"])


def test_the_verb_exits_0_for_a_chain_that_holds_and_1_for_one_that_is_broken(place, ask):
    assert ask()[0] == 0
    release = next((place.state.deployments / "local" / "releases").iterdir())
    with tampered(release / "decision.json", TAMPERINGS["truncated"]):
        status, said = ask()
    assert status == 1
    assert [link["what"] for link in json.loads(said)["links"] if not link["holds"]] == ["release", "decision"]


@pytest.mark.parametrize("how", TAMPERINGS)
def test_a_journal_that_was_tampered_with_is_named(place, ask, how):
    journal = place.state.deployments / "local" / "journal.jsonl"
    with tampered(journal, TAMPERINGS[how]):
        status, said = ask()
    assert status == 1
    assert str(journal.parent) in said


def test_a_deployment_on_a_device_is_verified_there_and_traced_to_the_weights_here(place, kitchen, follow_there):
    links = follow_there()
    assert (list(links), broken(links)) == (LINKS, [])
    assert f"bytes read at {kitchen[0].url}" in links["release"].detail
    assert f"{next(place.state.bundles.glob('milton_edge_bundle_*'))} holds the same files" in links["bundle"].detail


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("model/model-f32.gguf", {"release"}),
        ("manifest.json", {"release"}),
        ("decision.json", {"release", "decision"}),
        ("evidence_manifest.json", {"release", "decision"}),
        ("SHA256SUMS.sig", {"release", "bundle"}),
    ],
)
@pytest.mark.parametrize("how", TAMPERINGS)
def test_what_was_tampered_with_on_a_device_is_named_over_the_wire(kitchen, follow_there, name, names, how):
    path = next((kitchen[1] / "releases").iterdir()) / name
    with tampered(path, TAMPERINGS[how]):
        links = follow_there()
    assert set(broken(links)) == names
    assert path.name in links[sorted(names)[0]].detail


def test_a_release_that_is_gone_from_a_device_ends_the_chain_there(kitchen, follow_there, tmp_path):
    with moved(next((kitchen[1] / "releases").iterdir()), tmp_path / "release"):
        links = follow_there()
    assert (list(links), broken(links)) == (LINKS[:2], ["release"])


def test_a_device_that_tells_other_documents_than_it_was_given_is_not_believed(kitchen, follow_there):
    """Its verifier was made to find nothing: what it tells is held against its manifest here."""
    folder = next((kitchen[1] / "releases").iterdir())
    lying = replace(kitchen[0], command=f"env {LYING}=1 {kitchen[0].command}")
    with tampered(folder / "decision.json", TAMPERINGS["modified"]):
        assert lying.verify().problems == ()
        links = follow_there(lying)
    assert broken(links) == ["decision"]
    assert "decision.json" in links["decision"].detail


def test_the_verb_traces_a_deployment_on_a_device(kitchen, ask, monkeypatch):
    (done,) = kitchen[0].history()
    monkeypatch.setattr("sys.argv", ["milton", "trace", done.id, "--json"])
    status, said = ask()
    assert (status, [link["what"] for link in json.loads(said)["links"]]) == (0, LINKS)


def test_the_chain_goes_on_to_the_field_verdicts_of_its_release_and_names_one_that_was_changed(
    place, kitchen, follow_there
):
    (done,) = kitchen[0].history()
    kept = keep(place.state, field_verdict("kitchen", kitchen[0].url, canary_told("kitchen", done.release), NOW))
    try:
        links = follow_there()
        assert (list(links), broken(links)) == ([*LINKS, "field verdict"], [])
        assert links["field verdict"].digest == kept.sha256
        assert "go_back newer beside" in links["field verdict"].detail
        assert "signed by SHA256:" in links["field verdict"].detail
        kept.path.write_bytes(kept.path.read_bytes().replace(b"go_back", b"promote"))
        assert broken(follow_there()) == ["field verdict"]
    finally:
        shutil.rmtree(place.state.field)


@pytest.fixture
def compared(place: Workplace, kitchen: tuple[SshTarget, Path]) -> Iterator[KeptFleetVerdict]:
    """A kept verdict of a comparison over sixteen devices, whose challenger is the release on the device."""
    (done,) = kitchen[0].history()
    plan = plan_of(16).model_copy(update={"challenger": done.release})
    told = {}
    for name, arm, _ in plan.arms():
        erring = figures(errors=0.5 if arm is Arm.CHALLENGER else 0.0)
        told[name] = DeviceTold(arm=arm, canary=plan.id, figures=erring, journal_sha256="e" * 64)
    judged = judge_fleet(plan, figures_in(told))
    verdict = FleetVerdict(plan=plan, told=told, lost=(), outcome=judged.outcome, reasons=judged.reasons, at=NOW)
    folder = place.state.rollouts / plan.id
    folder.mkdir(parents=True)
    try:
        yield keep_verdict(place.state, folder, verdict)
    finally:
        shutil.rmtree(folder)


def test_the_chain_goes_on_to_the_verdict_of_a_comparison_over_a_fleet(kitchen, follow_there, compared):
    links = follow_there()
    assert (list(links), broken(links)) == ([*LINKS, "field verdict"], [])
    link = links["field verdict"]
    assert (link.which, link.digest) == (compared.verdict.plan.id, sha256_file(compared.path))
    assert link.detail.startswith(
        "go_back v2 beside v1 on 4 of 16 devices: its devices' shares of errors are the worst"
    )
    assert link.detail.endswith(f"signed by {compared.signer}") and "SHA256:" in link.detail


@pytest.mark.parametrize("how", ["verdict", "a device's figure", "signature", "no signature"])
def test_a_fleets_verdict_that_was_changed_by_a_byte_breaks_the_chain_and_is_named(
    kitchen, follow_there, compared, how
):
    changes = {
        "verdict": (compared.path, lambda raw: raw.replace(b"go_back", b"promote")),
        "a device's figure": (compared.path, lambda raw: raw.replace(b'"errors": 0.5', b'"errors": 0.4', 1)),
        "signature": (compared.path.with_name(f"{compared.path.name}.sig"), modified),
        "no signature": (compared.path.with_name(f"{compared.path.name}.sig"), lambda _: None),
    }
    path, change = changes[how]
    with tampered(path, change):
        links = follow_there()
    assert broken(links) == ["field verdict"]
    link = links["field verdict"]
    assert link.which == compared.verdict.plan.id
    assert str(compared.path) in link.detail


@contextmanager
def moved(path: Path, elsewhere: Path) -> Iterator[None]:
    shutil.move(path, elsewhere)
    try:
        yield
    finally:
        shutil.move(elsewhere, path)
