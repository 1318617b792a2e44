"""`milton bundle`: what the verbs print, for people and machines, and their exit codes."""

from __future__ import annotations

import itertools
import json
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from milton_assets.cli import bundle as verbs
from milton_assets.cli import keys
from milton_assets.edge.bundle import LinkMode, default_signer, pack_bundle
from milton_assets.edge.bundle.keys import init_keys
from milton_assets.edge.deployment import ProbeFailed
from milton_assets.edge.release import read_manifest, verify_release
from milton_assets.vocabulary.errors import BadInput, EvidenceMismatch
from milton_assets.vocabulary.state import StateDir
from tests.support.bundles import ingredients
from tests.support.decided_run import VERSION, decided
from tests.support.gguf_file import tiny_gguf
from tests.support.selection import RUN_ID

UNMEASURED = ("--no-health-contract",)


@pytest.fixture
def app() -> typer.Typer:
    root = typer.Typer()
    root.callback()(lambda: None)
    verbs.register(root)
    keys.register(root)
    return root


@pytest.fixture
def home(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> StateDir:
    monkeypatch.setenv("COLUMNS", "200")
    return state


def test_create_bundles_the_winner_of_the_latest_run(app: typer.Typer, home: StateDir) -> None:
    decided(home)
    made = CliRunner().invoke(app, ["bundle", "create", *UNMEASURED, "--json"])
    assert made.exit_code == 0, made.output
    told = json.loads(made.stdout)
    assert Path(told["path"]).parent == home.bundles
    report = verify_release(Path(told["path"]))
    assert report.ok
    assert report.manifest is not None
    assert report.manifest.release_digest == told["release_digest"]
    assert report.manifest.figures["nDCG@10"] == 0.6


def test_create_says_where_it_lies_and_what_to_try(app: typer.Typer, home: StateDir, tmp_path: Path) -> None:
    decided(home)
    made = CliRunner().invoke(
        app, ["bundle", "create", "--run", RUN_ID, "--output", str(tmp_path / "out"), "--hard-link", *UNMEASURED]
    )
    assert made.exit_code == 0, made.output
    (path,) = (tmp_path / "out").iterdir()
    assert f"made {path}" in made.stdout
    assert "next: milton bundle verify" in made.stdout
    assert "note: no health contract was measured: devices take any answer" in made.stderr
    assert "20/20" in made.stderr


def test_create_of_a_run_that_promoted_nothing_exits_one(app: typer.Typer, home: StateDir) -> None:
    decided(home, cove=0.1)
    made = CliRunner().invoke(app, ["bundle", "create"])
    assert made.exit_code == 1
    assert "promoted nothing (reject)" in made.stderr
    assert not home.bundles.exists()


def test_create_measures_a_health_contract_unless_told_not_to(app: typer.Typer, home: StateDir) -> None:
    decided(home)
    made = CliRunner().invoke(app, ["bundle", "create"])
    assert isinstance(made.exception, ProbeFailed), "a file of one tensor cannot be served"
    assert "measuring the health contract: serving m.gguf" in made.stderr
    assert not home.bundles.exists()


def test_create_refuses_evidence_that_changed_since_the_decision(app: typer.Typer, home: StateDir) -> None:
    decided(home)
    table = next(home.benchmarks.rglob("*.parquet"))
    table.write_bytes(table.read_bytes() + b"x")
    made = CliRunner().invoke(app, ["bundle", "create", *UNMEASURED])
    assert isinstance(made.exception, EvidenceMismatch)
    assert str(table.relative_to(home.benchmarks)) in str(made.exception)
    assert not home.bundles.exists()


def test_bundles_expire_by_the_setting_unless_the_verb_is_told(
    app: typer.Typer, home: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided(home)
    monkeypatch.setenv("MILTON_BUNDLE_EXPIRES_DAYS", "30")
    by_setting = json.loads(CliRunner().invoke(app, ["bundle", "create", *UNMEASURED, "--json"]).stdout)
    told = ["bundle", "create", *UNMEASURED, "--json", "--expires-in-days", "2", "--output", str(home.root / "other")]
    by_option = json.loads(CliRunner().invoke(app, told).stdout)
    for made, days in ((by_setting, 30), (by_option, 2)):
        manifest = read_manifest(Path(made["path"]))
        assert manifest.expires_at - manifest.created_at == timedelta(days=days)


def test_what_is_bundled_is_the_setting(app: typer.Typer, home: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    decided(home)
    monkeypatch.setenv("MILTON_ARTIFACT", "hf-distilled")
    refused = CliRunner().invoke(app, ["bundle", "create", *UNMEASURED])
    assert "no distilled Hugging Face directory" in str(refused.exception)


def test_create_can_be_told_which_release_it_follows(app: typer.Typer, home: StateDir) -> None:
    decided(home)
    made = CliRunner().invoke(app, ["bundle", "create", *UNMEASURED, "--previous-release", "a" * 64, "--json"])
    assert read_manifest(Path(json.loads(made.stdout)["path"])).previous_release == "a" * 64


def test_verify_takes_the_latest_bundle_and_says_ok(app: typer.Typer, home: StateDir, tmp_path: Path) -> None:
    ingredients(tmp_path).bundle(home.bundles)
    checked = CliRunner().invoke(app, ["bundle", "verify"])
    assert checked.exit_code == 0
    assert checked.stdout.startswith("OK: 8 files")


def test_verify_exits_one_and_names_what_is_wrong(app: typer.Typer, home: StateDir, tmp_path: Path) -> None:
    bundle = ingredients(tmp_path).bundle(home.bundles)
    (bundle.path / "decision.json").unlink()
    (bundle.path / "[red]extra").write_text("")
    checked = CliRunner().invoke(app, ["bundle", "verify", bundle.path.name])
    assert checked.exit_code == 1
    assert "missing: decision.json: is missing" in checked.stdout
    assert "extra: [red]extra" in checked.stdout
    assert "2 problem(s)" not in checked.stdout
    assert "problem(s)" in checked.stderr


def test_verify_tells_machines_the_same(app: typer.Typer, home: StateDir, tmp_path: Path) -> None:
    bundle = ingredients(tmp_path).bundle(tmp_path / "elsewhere", link=LinkMode.HARD)
    checked = CliRunner().invoke(app, ["bundle", "verify", str(bundle.path), "--json"])
    told = json.loads(checked.stdout)
    assert told["ok"] is True
    assert told["release_digest"] == bundle.manifest.release_digest
    assert any("hard link" in note for note in told["notes"])
    shown = CliRunner().invoke(app, ["bundle", "verify", str(bundle.path)])
    assert "note: model/model-q4_0.gguf" in shown.stdout


def test_inspect_shows_model_decision_needs_and_files(app: typer.Typer, home: StateDir, tmp_path: Path) -> None:
    bundle = ingredients(tmp_path).bundle(home.bundles)
    shown = CliRunner().invoke(app, ["bundle", "inspect", bundle.path.name])
    assert shown.exit_code == 0
    for expected in (
        VERSION,
        "Q4_0",
        "Apache-2.0",
        "cove_pass_rate 0.93",
        "policy seed",
        bundle.manifest.release_digest,
    ):
        assert expected in shown.stdout
    machine = CliRunner().invoke(app, ["bundle", "inspect", "--json"])
    told = json.loads(machine.stdout)
    assert told["release_digest"] == bundle.manifest.release_digest
    assert told["tensor_tables"] == [{"path": "model/model-q4_0.gguf", "tensors": 1}]


def test_inspect_keeps_control_sequences_off_the_terminal(app: typer.Typer, home: StateDir, tmp_path: Path) -> None:
    bundle = ingredients(tmp_path).bundle(home.bundles)
    evil = bundle.manifest.model_copy(update={"base_model": "x\x1b[2J[red]y"})
    (bundle.path / "manifest.json").write_bytes(evil.to_json())
    shown = CliRunner().invoke(app, ["bundle", "inspect"])
    assert "\x1b" not in shown.stdout
    assert "x\\x1b[2J[red]y" in shown.stdout


def test_a_bundle_that_is_not_there_is_an_error_with_the_next_step(app: typer.Typer, home: StateDir) -> None:
    for arguments in (["bundle", "verify"], ["bundle", "verify", "none"]):
        failed = CliRunner().invoke(app, arguments)
        assert isinstance(failed.exception, BadInput)
        assert "milton bundle create" in str(failed.exception)


def test_once_there_is_a_key_bundles_are_signed_with_it_by_default(app: typer.Typer, home: StateDir) -> None:
    decided(home)
    made = CliRunner().invoke(app, ["keys", "init", "--json"])
    assert made.exit_code == 0, made.output
    key = json.loads(made.stdout)
    signed = json.loads(
        CliRunner().invoke(app, ["bundle", "create", *UNMEASURED, "--json", "--expires-in-days", "30"]).stdout
    )
    assert signed["signed"] is True
    checked = CliRunner().invoke(app, ["bundle", "verify", signed["path"], "--trust", key["path"]])
    assert checked.exit_code == 0
    assert f"signed by {key['fingerprint']}" in checked.stdout
    unsigned = json.loads(CliRunner().invoke(app, ["bundle", "create", *UNMEASURED, "--json", "--no-sign"]).stdout)
    refused = CliRunner().invoke(app, ["bundle", "verify", unsigned["path"], "--trust", key["path"]])
    assert refused.exit_code == 1
    assert "it is not signed" in refused.stdout


def test_keys_show_prints_what_a_device_needs(app: typer.Typer, home: StateDir) -> None:
    CliRunner().invoke(app, ["keys", "init"])
    shown = CliRunner().invoke(app, ["keys", "show"])
    assert shown.exit_code == 0
    assert (home.keys / "signing_key.pub").read_text().strip() in shown.stdout
    assert "ssh-keygen -Y verify" in shown.stdout


def test_keys_show_without_a_key_says_how_to_make_one(app: typer.Typer, home: StateDir) -> None:
    failed = CliRunner().invoke(app, ["keys", "show"])
    assert isinstance(failed.exception, BadInput)
    assert "milton keys init" in str(failed.exception)


def test_a_bundle_travels_as_one_file(app: typer.Typer, home: StateDir, tmp_path: Path) -> None:
    CliRunner().invoke(app, ["keys", "init"])
    decided(home)
    CliRunner().invoke(app, ["bundle", "create", *UNMEASURED])
    packed = CliRunner().invoke(app, ["bundle", "pack", "--output", str(tmp_path / "b.tar"), "--json"])
    assert json.loads(packed.stdout)["size_bytes"] == (tmp_path / "b.tar").stat().st_size
    key = str(home.keys / "signing_key.pub")
    back = CliRunner().invoke(
        app, ["bundle", "unpack", str(tmp_path / "b.tar"), "--output", str(tmp_path / "in"), "--trust", key]
    )
    assert back.exit_code == 0, back.output
    (path,) = (tmp_path / "in").iterdir()
    assert f"unpacked {path}" in back.stdout
    assert verify_release(path).ok


def test_what_is_received_must_be_signed_by_the_own_key_unless_any_signer_will_do(
    app: typer.Typer, home: StateDir, tmp_path: Path
) -> None:
    init_keys(tmp_path / "theirs")
    bundles = {
        "theirs": ingredients(tmp_path, version="v1").bundle(home.bundles, sign=default_signer(tmp_path / "theirs")),
        "nobody": ingredients(tmp_path, version="v2").bundle(home.bundles),
    }
    for whose, bundle in bundles.items():
        pack_bundle(bundle.path, tmp_path / f"{whose}.tar")

    def unpack(whose: str, *options: str) -> Result:
        into = str(tmp_path / f"in{next(number)}")
        return CliRunner().invoke(app, ["bundle", "unpack", str(tmp_path / f"{whose}.tar"), "--output", into, *options])

    number = itertools.count()
    assert "signed by SHA256:" in unpack("theirs").stdout
    assert "nobody signed it" in unpack("nobody").stdout
    CliRunner().invoke(app, ["keys", "init"])
    for whose, why in {"theirs": "which is not trusted", "nobody": "is not signed"}.items():
        assert why in str(unpack(whose).exception)
        assert unpack(whose, "--any-signer").exit_code == 0
    assert json.loads(unpack("nobody", "--any-signer", "--json").stdout)["signers"] == []
    key = str(tmp_path / "theirs" / "signing_key.pub")
    assert unpack("theirs", "--trust", key).exit_code == 0
    assert unpack("theirs", "--trust", key, "--any-signer").exit_code == 2


def test_scrub_exits_one_and_repair_mends(app: typer.Typer, home: StateDir, tmp_path: Path) -> None:
    bundle = ingredients(tmp_path).bundle(home.bundles)
    good = shutil.copytree(bundle.path, tmp_path / "good")
    whole = CliRunner().invoke(app, ["bundle", "scrub"])
    assert (whole.exit_code, whole.stdout) == (0, "nothing is damaged\n")
    with (bundle.path / bundle.manifest.primary).open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\xff")
    found = CliRunner().invoke(app, ["bundle", "scrub"])
    assert found.exit_code == 1
    assert found.stdout == "model/model-q4_0.gguf: tensor token_embd.weight\n"
    assert "milton bundle repair --from" in found.stderr
    mended = CliRunner().invoke(app, ["bundle", "repair", "--from", str(good)])
    assert mended.exit_code == 0, mended.output
    assert "mended with 0.000 MB" in mended.stdout
    assert CliRunner().invoke(app, ["bundle", "scrub"]).exit_code == 0


def test_a_delta_makes_the_new_bundle_from_the_old_one(app: typer.Typer, home: StateDir, tmp_path: Path) -> None:
    old = ingredients(tmp_path, version="v1", gguf=tiny_gguf(tmp_path / "a.gguf", data_bytes=1 << 20))
    new = ingredients(tmp_path, version="v2", gguf=tiny_gguf(tmp_path / "b.gguf", data_bytes=1 << 20, seed=1))
    before, after = old.bundle(home.bundles).path.name, new.bundle(home.bundles).path.name
    file = str(tmp_path / "d")
    made = CliRunner().invoke(app, ["bundle", "delta", "--from", before, "--to", after, "--output", file])
    assert made.exit_code == 0, made.output
    assert "% of the new bundle's 1.1" in made.stdout
    assert "tensors: 0 the same" in made.stdout
    applied = CliRunner().invoke(
        app, ["bundle", "apply", file, "--from", before, "--output", str(tmp_path / "in"), "--json"]
    )
    assert applied.exit_code == 0, applied.output
    assert verify_release(Path(json.loads(applied.stdout)["path"])).ok
