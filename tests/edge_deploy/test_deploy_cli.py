"""`milton deploy`, `rollback`, `history`, `status`, `recover`, as a shell calls them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from milton_assets.edge.bundle.keys import init_keys
from milton_assets.edge.bundle.signing import default_signer
from milton_assets.vocabulary.state import StateDir
from tests.support.decided_run import decided
from tests.support.edge_bundles import WEIGHTS_FILE, make_bundle, read_manifest
from tests.support.selection import RUN_ID
from tests.support.shell import UNPROBED, milton, told


@pytest.fixture
def bundle(state: StateDir) -> Path:
    return make_bundle(state.bundles, "v1")


def test_deploy_takes_the_newest_bundle_to_the_local_target(state: StateDir, bundle: Path) -> None:
    newer = make_bundle(state.bundles, "v2", counter=2)
    done = told("deploy", *UNPROBED, "--actor", "ada")
    assert (done["target"], done["model_version"], done["actor"]) == ("local", "v2", "ada")
    current = state.deployments / "local" / "current"
    assert read_manifest(current) == read_manifest(newer)
    assert (state.deployment_history / "local.jsonl").exists()


def test_deploy_takes_the_bundle_of_the_run_that_is_named(state: StateDir, bundle: Path) -> None:
    make_bundle(state.bundles, "v2", counter=2, run_id="benchmark_20260112_000000")
    done = told("deploy", "--run", "benchmark_20260111_142500", *UNPROBED)
    assert done["model_version"] == "v1"


def test_a_run_without_a_bundle_is_told_how_to_make_one(state: StateDir, bundle: Path) -> None:
    done = milton("deploy", "--run", "benchmark_20260101_000000", *UNPROBED)
    assert done.returncode == 1
    assert "milton bundle create --run benchmark_20260101_000000 --artifact gguf" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_no_run_is_not_taken_for_one_without_a_bundle(state: StateDir, bundle: Path) -> None:
    assert "'tuesday' is not a benchmark run id" in milton("deploy", "--run", "tuesday", *UNPROBED).stderr


def test_another_kind_of_artefact_is_looked_for_when_asked(state: StateDir, bundle: Path) -> None:
    done = milton("deploy", "--artifact", "hf-distilled", *UNPROBED)
    assert done.returncode == 1
    assert "holds no hf-distilled bundle" in done.stderr


def test_what_is_no_bundle_is_passed_over_with_a_warning(state: StateDir, bundle: Path) -> None:
    broken = make_bundle(state.bundles, "v2", counter=2)
    (broken / "manifest.json").write_text("{")
    done = milton("deploy", *UNPROBED)
    assert done.returncode == 0
    assert f"warning: passed over {broken.name}" in done.stderr


def test_a_dry_run_changes_nothing(state: StateDir, bundle: Path) -> None:
    done = told("deploy", "--bundle", bundle, "--dry-run", *UNPROBED)
    assert done["outcome"] == "would_commit"
    assert not state.deployments.exists()


def test_a_custom_path_becomes_a_target_that_is_found_again(state: StateDir, bundle: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "device"
    done = told("deploy", "--target-path", elsewhere, *UNPROBED)
    assert (elsewhere / "current" / "manifest.json").exists()
    (seen,) = told("status")
    assert (seen["target"], seen["target_path"]) == (done["target"], str(elsewhere))
    assert told("history", "--target", done["target"])[0]["id"] == done["id"]


def test_rollback_history_and_status_tell_the_same_story(state: StateDir, bundle: Path) -> None:
    told("deploy", "--bundle", bundle, *UNPROBED)
    told("deploy", "--bundle", make_bundle(state.bundles, "v2", counter=2), *UNPROBED)
    back = told("rollback", "--target", "local", *UNPROBED)
    (seen,) = told("status")
    assert (back["model_version"], seen["active"]["model_version"]) == ("v1", "v1")
    assert [one["operation"] for one in told("history")] == ["deploy", "deploy", "rollback"]
    people = milton("history")
    assert all(word in people.stdout for word in ("rollback", "v1", "v2", "committed"))
    assert "serves     v1, release" in milton("status").stdout


def test_a_deployment_that_does_not_stand_exits_1_and_tells_machines_too(state: StateDir, bundle: Path) -> None:
    (bundle / "model" / "weights.gguf").write_bytes(b"short")
    done = milton("deploy", "--bundle", bundle, "--json", *UNPROBED)
    assert done.returncode == 1
    assert json.loads(done.stdout)["outcome"] == "failed"
    assert "is truncated: it has 5 bytes, listed are 14128" in done.stderr


def test_a_status_that_contradicts_the_journal_exits_1_and_recover_settles_it(state: StateDir, bundle: Path) -> None:
    told("deploy", *UNPROBED)
    (state.deployments / "local" / "current").unlink()
    seen = milton("status")
    assert seen.returncode == 1
    assert "current points to nothing" in seen.stdout
    assert "milton recover" in seen.stderr
    assert "current pointed to nothing" in milton("recover").stdout
    assert milton("status").returncode == 0
    assert "nothing was left to settle" in milton("recover").stdout


def test_status_says_what_it_looks_at_and_verify_finds_bytes_changed_under_another_name(
    state: StateDir, bundle: Path, tmp_path: Path
) -> None:
    told("deploy", *UNPROBED)
    (seen,) = told("status", "--verify")
    assert seen["verification"]["problems"] == []
    assert seen["verification"]["size_bytes"] == read_manifest(bundle).payload_bytes
    assert "byte for byte what was deployed" in milton("status", "--verify").stdout
    outside = tmp_path / "outside"
    outside.hardlink_to(state.deployments / "local" / "current" / WEIGHTS_FILE)
    raw = bytearray(outside.read_bytes())
    raw[-1] ^= 1
    outside.write_bytes(raw)
    unread = milton("status")
    assert unread.returncode == 0
    assert "not at their bytes (`--verify` does)" in unread.stdout
    done = milton("status", "--verify")
    assert done.returncode == 1
    assert f"{WEIGHTS_FILE}: has the SHA-256" in done.stdout
    assert f"{WEIGHTS_FILE}: has 2 hard links" in done.stdout
    assert "not what was deployed: local" in done.stderr


def test_every_target_is_recovered_and_one_that_cannot_be_keeps_no_other_from_it(state: StateDir, bundle: Path) -> None:
    assert told("recover", "--all") == []
    for name in ("attic", "broken", "kitchen"):
        told("deploy", "--target", name, *UNPROBED)
        (state.deployments / name / "current").unlink()
    (state.deployments / "broken" / "journal.jsonl").write_text("scribble\n")
    done = milton("recover", "--all", "--json")
    assert [sentence.split(":")[0] for sentence in json.loads(done.stdout)] == ["attic", "kitchen"]
    assert (done.returncode, "broken: line 1 of the target's journal does not hold" in done.stderr) == (1, True)
    for name in ("attic", "kitchen"):
        assert (state.deployments / name / "current" / "manifest.json").exists()


def test_gc_says_what_it_would_free_and_then_frees_it(state: StateDir, bundle: Path) -> None:
    for number in (1, 2):
        told("deploy", "--bundle", make_bundle(state.bundles, f"v{number}", counter=number), *UNPROBED)
    digest = read_manifest(bundle).release_digest
    assert f"would free release {digest[:12]}" in milton("gc", "--dry-run").stdout
    freed = told("gc")
    assert freed["freed"] == [digest]
    assert freed["kept"] == [told("status")[0]["active"]["digest"]]
    assert "freed 0.0 MB on local" in milton("gc").stdout


def test_a_device_policy_can_be_given(state: StateDir, bundle: Path, tmp_path: Path) -> None:
    keys = init_keys(tmp_path / "keys")
    policy = tmp_path / "policy.yaml"
    policy.write_text(yaml.safe_dump({"trusted_keys": [keys.public.read_text().strip()]}))
    done = milton("deploy", "--device-policy", policy, *UNPROBED)
    assert done.returncode == 1
    assert "bears no signature" in done.stderr


def test_a_target_with_a_policy_refuses_unsigned_and_foreign_bundles_and_takes_the_own(
    state: StateDir, tmp_path: Path
) -> None:
    assert "milton keys init" in milton("device-policy", "init").stderr
    own, foreign = init_keys(state.keys), init_keys(tmp_path / "keys")
    made = told("device-policy", "init", "--min-health-rounds", "0", "--no-require-load-test")
    assert made["path"] == str(state.deployments / "local" / "device-policy.yaml")
    assert made["trusted_keys"] == [own.public.read_text().strip()]
    unsigned = milton("deploy", "--bundle", make_bundle(state.bundles, "v1"), *UNPROBED)
    assert (unsigned.returncode, "bears no signature" in unsigned.stderr) == (1, True)
    signed = make_bundle(state.bundles, "v2", counter=2)
    for keys, refused in ((foreign, True), (own, False)):
        sign = default_signer(keys.folder)
        assert sign is not None
        sign(signed)
        done = milton("deploy", "--bundle", signed, *UNPROBED)
        assert (done.returncode, "a key this device does not trust" in done.stderr) == (int(refused), refused)
    assert "signed by SHA256:" in milton("device-policy", "show").stdout
    assert "is there already" in milton("device-policy", "init").stderr


def test_a_counter_is_taken_back_with_the_key_that_the_policy_trusts(state: StateDir) -> None:
    told("keys", "init")
    told("deploy", "--bundle", make_bundle(state.bundles, "v9", counter=1_000_000), *UNPROBED)
    assert "has no device policy" in milton("device-policy", "reset-counter", "--counter", "0").stderr
    told("device-policy", "init", "--min-health-rounds", "0", "--no-require-load-test")
    done = told("device-policy", "reset-counter", "--counter", "5")
    assert (done["from_counter"], done["counter"]) == (1_000_000, 5)
    older = make_bundle(state.bundles, "v6", counter=6)
    add_signature = default_signer(state.keys)
    assert add_signature is not None
    add_signature(older)
    assert told("deploy", "--bundle", older, *UNPROBED)["outcome"] == "committed"


def test_a_policy_demands_a_load_test_and_a_watch_unless_told_otherwise(state: StateDir, bundle: Path) -> None:
    init_keys(state.keys)
    told("device-policy", "init", "--target", "pi", "--admit", "seed")
    assert [told("status"), told("history"), told("recover", "--all")] == [[], [], []]
    assert "nothing was deployed yet to: pi" in milton("status").stdout
    done = milton("deploy", "--target", "pi", *UNPROBED)
    assert done.returncode == 1
    for demand in ("under the policy smoke, not one of ['seed']", "without a load test", "watched for 0 rounds"):
        assert demand in done.stderr


def test_a_policy_is_not_put_where_something_else_lives(state: StateDir, tmp_path: Path) -> None:
    init_keys(state.keys)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"x")
    assert "in use for something else" in milton("device-policy", "init", "--target-path", tmp_path / "photos").stderr
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.jpg"]


def test_evidence_is_held_against_its_files_before_a_bundle_is_deployed(state: StateDir) -> None:
    decided(state)
    told("bundle", "create", "--no-health-contract")
    told("deploy", *UNPROBED)
    table = next(state.benchmarks.rglob("*.parquet"))
    table.write_bytes(table.read_bytes() + b"x")
    refused = milton("deploy", *UNPROBED)
    assert refused.returncode == 1
    assert "does not hold" in refused.stderr
    assert str(table.relative_to(state.benchmarks)) in refused.stderr
    assert len(told("history")) == 1


def test_a_bundle_that_rests_on_other_evidence_than_its_run_is_refused(state: StateDir) -> None:
    decided(state)
    bundle = make_bundle(state.bundles, "v1", run_id=RUN_ID)
    rests_on = f"rests on the evidence manifest {read_manifest(bundle).evidence_sha256}"
    assert rests_on in milton("deploy", "--bundle", bundle, *UNPROBED).stderr


def test_that_evidence_is_not_here_to_look_at_is_said(state: StateDir, bundle: Path) -> None:
    done = milton("deploy", *UNPROBED)
    assert done.returncode == 0
    assert "note: benchmark_20260111_142500 was not decided here, so its evidence is not looked at" in done.stderr


def test_a_history_in_a_pipe_has_date_and_id_whole_in_80_columns(state: StateDir, bundle: Path) -> None:
    done = told("deploy", "--target", "a-device-with-a-long-name-in-the-kitchen", *UNPROBED, "--actor", "a" * 60)
    lines = milton("history", COLUMNS="80").stdout.splitlines()
    assert lines[0].split() == [*done["started_at"][:16].split("T"), done["id"], "committed"]
    assert max(map(len, lines)) <= 80
    assert any(done["release"][:12] in line for line in lines)


def test_a_failed_attempts_reason_is_a_sentence_in_the_history_and_no_path_or_digest_is_broken(
    state: StateDir, bundle: Path
) -> None:
    (state.root / "elsewhere").mkdir()
    broken = bundle.rename(state.root / "elsewhere" / ("b" * 70))
    (broken / WEIGHTS_FILE).write_bytes(b"other weights")
    failed = milton("deploy", "--bundle", broken, *UNPROBED, "--json")
    assert failed.returncode == 1
    reason = json.loads(failed.stdout)["reason"]
    shown = milton("history", COLUMNS="80").stdout
    assert [word for word in reason.splitlines()[0].split() if word not in shown.split()] == []


def test_what_a_server_said_before_it_ended_is_told_to_machines_and_counted_for_people(state: StateDir) -> None:
    make_bundle(state.bundles, "v1")
    failed = milton("deploy", "--health-rounds", "0", "--json")
    reason = json.loads(failed.stdout)["reason"]
    first, *others = reason.splitlines()
    shown = milton("history").stdout
    assert others and "\\x0a" not in shown
    assert " ".join(shown.split()).endswith(f"{first} … ({len(others)} more lines with --json)")


def test_text_that_others_wrote_is_shown_and_does_nothing(state: StateDir, bundle: Path) -> None:
    told("deploy", *UNPROBED, "--actor", "\x1b[2J\x1b]0;title\x07\u202eada [red]x[/bold]")
    for verb in ("history", "status"):
        shown = milton(verb).stdout
        assert not set(shown) & {"\x1b", "\x07", "\u202e"}
        assert "\\x1b[2J" in shown
        assert "[/bold]" in shown


def test_nothing_deployed_is_an_answer_not_an_error(state: StateDir) -> None:
    assert told("history") == []
    assert told("status") == []
    assert "nothing was ever deployed" in milton("history").stdout
    assert "there are no targets yet" in milton("status").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("deploy", "--run", "benchmark_20260111_142500", "--bundle", "x"),
        ("status", "--target", "a", "--target-path", "b"),
        ("deploy", "--artifact", "onnx"),
        ("deploy", "--wait", "-1"),
        ("recover", "--all", "--target", "a"),
    ],
)
def test_wrong_usage_exits_2(state: StateDir, arguments: tuple[str, ...]) -> None:
    assert milton(*arguments).returncode == 2


def test_a_target_name_that_is_no_slug_is_refused(state: StateDir, bundle: Path) -> None:
    done = milton("deploy", "--target", "../../etc", *UNPROBED)
    assert done.returncode == 1
    assert "is not a slug" in done.stderr


@pytest.mark.parametrize("verb", ["deploy", "rollback", "history", "status", "recover", "gc"])
def test_every_verb_shows_an_example(verb: str) -> None:
    assert f"Example: milton {verb}" in " ".join(milton(verb, "--help").stdout.split())
