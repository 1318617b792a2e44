"""Whose signatures a device believes, and how it learns of others: by those that it believes."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given
from hypothesis import strategies as st

from milton_assets.edge.bundle.key_lists import KeyLists, Missing, rotate
from milton_assets.edge.bundle.keys import init_keys, load_private_key, load_public_key
from milton_assets.edge.bundle.signing import add_signature
from milton_assets.edge.deployment import DeploymentFailed, DevicePolicy, EdgeTarget, Outcome, deploy, rollback
from milton_assets.edge.deployment.admission import write_device_policy
from milton_assets.edge.deployment.heard import heard, silence
from milton_assets.edge.deployment.standing import standing_problems
from milton_assets.edge.deployment.trust import KEY_LIST_FILE, KeyList, NotBelieved, SignedList, Trust, learn, trust_in
from milton_assets.edge.release import verify_release
from milton_assets.edge.release.sshsig import fingerprint, public_line, sign
from milton_assets.vocabulary.errors import BadInput, MiltonError
from tests.support.crashing import clock, healthy
from tests.support.edge_bundles import make_bundle

NOW = datetime(2026, 1, 11, 15, tzinfo=UTC)
PRIVATE = [ed25519.Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in range(1, 6)]
LINES = [public_line(key.public_key()) for key in PRIVATE]
NAMES = [fingerprint(key.public_key()) for key in PRIVATE]


def signed_list(before: SignedList | None, keys: list[int], by: list[int], **more: object) -> SignedList:
    """A list of these keys, after `before`, signed by those."""
    version = before.parsed().version + 1 if before else 1
    facts = {"version": version, "follows": before.sha256 if before else None, "made_at": NOW, "required": 1}
    made = KeyList.model_validate({**facts, "keys": tuple(LINES[one] for one in keys), **more}).to_json()
    signatures = b"".join(sign(made, PRIVATE[one], "milton-key-list") for one in by)
    return SignedList(document=made.decode(), signatures=signatures.decode())


def revoked(*numbers: int) -> tuple[dict[str, object], ...]:
    return tuple({"fingerprint": NAMES[one], "at": NOW, "reason": "stolen"} for one in numbers)


FIRST = signed_list(None, [1], [0, 1])
ROOT = Trust.of_policy([LINES[0]], 1)


# A list, against what is believed


def test_a_device_learns_of_a_new_key_by_one_that_it_believes() -> None:
    after = ROOT.after(FIRST)
    assert (after.version, after.keys, after.refusal([NAMES[1]])) == (1, frozenset({NAMES[1]}), None)
    assert "a key this device does not trust" in str(after.refusal([NAMES[0]]))


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (signed_list(None, [1], [1]), "0 of 1 required keys that are believed now"),
        (signed_list(None, [1], [0]), "0 of 1 required keys of its own"),
        (signed_list(None, [1], [2, 1]), "0 of 1 required keys that are believed now"),
        (signed_list(FIRST, [2], [0, 1, 2]), "it has the version 2, and 1 is the next"),
    ],
    ids=["by the new key alone", "without the new key", "by a stranger", "one that leaves one out"],
)
def test_a_list_that_does_not_follow_is_not_taken(made: SignedList, why: str) -> None:
    with pytest.raises(NotBelieved, match=why):
        ROOT.after(made)


def test_the_list_after_is_signed_by_the_keys_before_and_not_by_the_policys() -> None:
    first = ROOT.after(FIRST)
    assert first.after(signed_list(FIRST, [2], [1, 2])).keys == {NAMES[2]}
    with pytest.raises(NotBelieved, match="0 of 1 required keys that are believed now"):
        first.after(signed_list(FIRST, [2], [0, 2]))


def test_a_list_that_was_in_force_is_not_taken_again_and_a_fork_does_not_follow() -> None:
    other = signed_list(None, [1, 2], [0, 1])
    with pytest.raises(NotBelieved, match="it follows"):
        ROOT.after(FIRST).after(signed_list(other, [2], [1, 2]))
    with pytest.raises(NotBelieved, match="it has the version 1, and 2 is the next"):
        ROOT.after(FIRST).after(FIRST)


def test_a_revoked_key_stays_revoked() -> None:
    gone = signed_list(FIRST, [2], [1, 2], revoked=revoked(1))
    trust = ROOT.after(FIRST).after(gone)
    assert "was revoked on 2026-01-11 (stolen)" in str(trust.refusal([NAMES[1]]))
    with pytest.raises(NotBelieved, match="takes back"):
        trust.after(signed_list(gone, [1, 2], [1, 2]))


def test_so_many_keys_have_to_sign_as_the_policy_says_and_a_list_may_ask_for_more() -> None:
    two = Trust.of_policy(LINES[:3], 2)
    assert "1 of 2 required keys" in str(two.refusal([NAMES[0], NAMES[4]]))
    assert two.refusal([NAMES[0], NAMES[2]]) is None
    with pytest.raises(NotBelieved, match="1 of 2 required keys that are believed now"):
        two.after(signed_list(None, [0, 3], [0, 3]))
    with pytest.raises(NotBelieved, match="it lists 1 keys, and 2 have to sign here"):
        two.after(signed_list(None, [3], [0, 1, 3]))
    assert two.after(signed_list(None, [0, 3], [0, 1, 3])).required == 2
    assert two.after(signed_list(None, [0, 1, 3], [0, 1, 3], required=3)).required == 3


def test_a_signature_for_another_purpose_counts_for_nothing() -> None:
    stolen = sign(FIRST.document.encode(), PRIVATE[0], "milton-bundle").decode()
    with pytest.raises(NotBelieved, match="made for"):
        ROOT.after(SignedList(document=FIRST.document, signatures=stolen))


@given(st.binary(max_size=300), st.integers(0, 2000))
def test_whatever_bytes_come_a_list_is_taken_or_refused_and_never_one_that_was_changed(raw: bytes, at: int) -> None:
    document = FIRST.document.encode()
    at %= len(document)
    changed = document[:at] + raw + document[at + len(raw) :]
    try:
        taken = ROOT.after(SignedList(document=changed.decode("utf-8", "replace"), signatures=FIRST.signatures))
    except MiltonError:
        return
    assert changed == document
    assert taken.version == 1


@given(st.binary(max_size=300), st.integers(0, 2000))
def test_whatever_becomes_of_the_signatures_none_counts_that_was_changed(raw: bytes, at: int) -> None:
    armoured = FIRST.signatures.encode()
    at %= len(armoured)
    changed = (armoured[:at] + raw + armoured[at + len(raw) :]).decode("latin-1")
    try:
        signers = SignedList(document=FIRST.document, signatures=changed[:8000]).signers()
    except MiltonError:
        return
    assert signers <= {NAMES[0], NAMES[1]}


@given(st.lists(st.tuples(st.sets(st.integers(0, 4), max_size=3), st.sets(st.integers(0, 4), max_size=5)), max_size=5))
def test_no_list_is_taken_that_the_keys_believed_before_it_did_not_sign(steps: list[tuple[set[int], set[int]]]) -> None:
    trust, before = ROOT, None
    for keys, by in steps:
        if not keys or not by:
            continue
        made = signed_list(before, sorted(keys), sorted(by))
        believed, own = {NAMES[one] for one in by} & trust.keys, by & keys
        if believed and own:
            trust, before = trust.after(made), made
            assert trust.keys == {NAMES[one] for one in keys}
        else:
            with pytest.raises(NotBelieved):
                trust.after(made)


# On a device


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def test_a_device_that_was_away_takes_every_list_in_turn_or_none(folder: Path) -> None:
    second = signed_list(FIRST, [2], [1, 2])
    third = signed_list(second, [3], [2, 3])
    forged = signed_list(second, [4], [4])
    with pytest.raises(NotBelieved):
        learn(folder, [FIRST, second, forged], keys=LINES[:1], required=1)
    assert trust_in(folder, LINES[:1], 1).version == 0
    assert learn(folder, [FIRST], keys=LINES[:1], required=1).version == 1
    assert learn(folder, [FIRST, second, third], keys=LINES[:1], required=1).version == 3
    assert trust_in(folder, LINES[:1], 1).keys == {NAMES[3]}


def test_the_owners_policy_prevails_once_it_names_other_keys(folder: Path) -> None:
    learn(folder, [FIRST], keys=LINES[:1], required=1)
    assert trust_in(folder, [LINES[4]], 1) == Trust.of_policy([LINES[4]], 1)


def test_a_key_list_that_does_not_hold_is_refused_and_not_passed_over(folder: Path) -> None:
    learn(folder, [FIRST], keys=LINES[:1], required=1)
    path = folder / KEY_LIST_FILE
    path.write_text(path.read_text()[:-20])
    with pytest.raises(BadInput, match="does not hold"):
        trust_in(folder, LINES[:1], 1)


def test_a_power_cut_while_a_list_is_kept_leaves_the_old_or_the_new_one(folder: Path, monkeypatch) -> None:
    learn(folder, [FIRST], keys=LINES[:1], required=1)
    second = signed_list(FIRST, [2], [1, 2])
    cut = {"fsync": "os.fsync", "replace": "pathlib.Path.replace"}
    for where in cut.values():
        with monkeypatch.context() as patch:

            def broken(*_: object) -> None:
                raise OSError("the power went")

            patch.setattr(where, broken)
            with pytest.raises(OSError, match="the power went"):
                learn(folder, [FIRST, second], keys=LINES[:1], required=1)
        assert trust_in(folder, LINES[:1], 1).version == 1
    assert learn(folder, [FIRST, second], keys=LINES[:1], required=1).version == 2


# Bundles


@pytest.fixture
def place(tmp_path: Path, target: EdgeTarget) -> Callable[..., Path]:
    """A target whose policy trusts the key in `keys`; makes bundles that are signed by the keys in these folders."""
    keys = init_keys(tmp_path / "keys")
    target.path.mkdir()
    write_device_policy(
        target.path / "device-policy.yaml", DevicePolicy(trusted_keys=(keys.public.read_text().strip(),))
    )

    def make(version: str, counter: int, *signers: str) -> Path:
        bundle = make_bundle(tmp_path / "bundles", version, counter=counter)
        for one in signers:
            add_signature(bundle, load_private_key(tmp_path / one / "signing_key"))
        return bundle

    return make


def put(bundle: Path, target: EdgeTarget) -> Outcome:
    return deploy(bundle, target, load_test=healthy, actor="ada", now=clock).outcome


def test_after_a_rotation_the_new_key_deploys_and_the_old_one_does_not(place, target, tmp_path) -> None:
    put(place("v1", 1, "keys"), target)
    lists = KeyLists(tmp_path / "keys")
    old = load_private_key(tmp_path / "keys" / "signing_key")
    assert rotate(lists, now=NOW) == Missing(0, 0)
    (retired,) = (tmp_path / "keys" / "retired").iterdir()
    assert load_private_key(retired / "signing_key").public_key() == old.public_key()
    policy = [load_public_key(retired / "signing_key.pub")]
    learn(target.path, lists.chain(), keys=[public_line(policy[0])], required=1)
    assert put(place("v2", 2, "keys"), target) is Outcome.COMMITTED
    with pytest.raises(DeploymentFailed, match="a key this device does not trust"):
        put(place("v3", 3, str(retired.relative_to(tmp_path))), target)


def killed_after(renames: int) -> Callable[[Path, Path], Path]:
    """`Path.replace`, which so many times does what it should."""
    real, done = Path.replace, [0]

    def replace(path: Path, to: Path) -> Path:
        if done[0] == renames:
            raise OSError("killed")
        done[0] += 1
        return real(path, to)

    return replace


def test_a_rotation_that_was_interrupted_anywhere_goes_on(tmp_path: Path, monkeypatch) -> None:
    init_keys(tmp_path / "keys")
    lists, kills = KeyLists(tmp_path / "keys"), 0
    while True:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", killed_after(min(kills, 1)))
            kills += 1
            try:
                assert rotate(lists, now=NOW) == Missing(0, 0)
                break
            except OSError:
                continue
    assert kills > 4
    (own,) = lists.trust().keys
    assert own == fingerprint(load_public_key(tmp_path / "keys" / "signing_key.pub"))
    assert own == fingerprint(load_private_key(tmp_path / "keys" / "signing_key").public_key())
    assert not (tmp_path / "keys" / "next").exists()


def test_what_a_revoked_key_signed_is_refused_and_what_is_in_service_is_named(place, target, tmp_path) -> None:
    put(place("v1", 1, "keys"), target)
    put(place("v2", 2, "keys"), target)
    line = (tmp_path / "keys" / "signing_key.pub").read_text().strip()
    lists = KeyLists(tmp_path / "keys")
    assert not rotate(lists, now=NOW, reason="stolen")
    assert standing_problems(target.path, clock()) == ()
    learn(target.path, lists.chain(), keys=[line], required=1)
    (said,) = standing_problems(target.path, clock())
    assert "(v2), in service, is signed by" in said
    assert "was revoked on 2026-01-11 (stolen)" in said
    with pytest.raises(DeploymentFailed, match="was revoked"):
        rollback(target, actor="ada", now=clock)
    # Its maker vouches for it again, with the new key.
    again = tmp_path / "bundles" / "milton_edge_bundle_v2_20260111_142500"
    add_signature(again, load_private_key(tmp_path / "keys" / "signing_key"))
    assert put(again, target) is Outcome.COMMITTED
    assert len(verify_release(target.path / "current").signers) == 2
    assert standing_problems(target.path, clock()) == ()


def test_two_of_three_keys_have_to_sign_a_bundle_where_the_policy_says_so(target, tmp_path) -> None:
    lines = [init_keys(tmp_path / name).public.read_text().strip() for name in ("one", "two", "three")]
    target.path.mkdir()
    write_device_policy(
        target.path / "device-policy.yaml", DevicePolicy(trusted_keys=tuple(lines), required_signatures=2)
    )
    bundle = make_bundle(tmp_path / "bundles", "v1")
    add_signature(bundle, load_private_key(tmp_path / "two" / "signing_key"))
    with pytest.raises(DeploymentFailed, match="1 of 2 required keys signed it"):
        put(bundle, target)
    with pytest.raises(BadInput, match=r"is signed by .* already"):
        add_signature(bundle, load_private_key(tmp_path / "two" / "signing_key"))
    add_signature(bundle, load_private_key(tmp_path / "three" / "signing_key"))
    assert verify_release(bundle).ok
    assert put(bundle, target) is Outcome.COMMITTED


def test_a_policy_that_requires_more_signatures_than_it_has_keys_does_not_hold() -> None:
    with pytest.raises(ValueError, match="2 signatures are required of 1 keys"):
        DevicePolicy(trusted_keys=(LINES[0],), required_signatures=2)


# Freeze


def test_a_device_that_hears_no_controller_for_longer_than_its_policy_allows_says_so(folder: Path) -> None:
    heard(folder, NOW, limit_hours=24)
    assert silence(folder, NOW + timedelta(hours=24), limit_hours=24) is None
    assert silence(folder, NOW + timedelta(days=365), limit_hours=None) is None
    late = NOW + timedelta(hours=50)
    assert "no controller was heard since 2026-01-11 15:00 UTC, 50.0 hours" in str(
        silence(folder, late, limit_hours=24)
    )
    heard(folder, late, limit_hours=24)
    told = str(silence(folder, late + timedelta(hours=1), limit_hours=24))
    assert "from 2026-01-11 15:00 to 2026-01-13 17:00 UTC, 50.0 hours" in told
    heard(folder, late + timedelta(hours=20), limit_hours=24)
    assert silence(folder, late + timedelta(hours=25), limit_hours=24) is None


def test_before_the_first_word_a_silence_is_counted_from_the_policy(place, target) -> None:
    path = target.path / "device-policy.yaml"
    path.write_text(path.read_text() + "max_silence_hours: 1\n")
    assert standing_problems(target.path, datetime.now(UTC)) == ()
    (said,) = standing_problems(target.path, datetime.now(UTC) + timedelta(hours=2))
    assert said.startswith("no controller was heard since")


# The list in the making


def test_a_list_counts_once_enough_keys_have_signed_it(tmp_path: Path) -> None:
    init_keys(tmp_path / "keys")
    own = load_private_key(tmp_path / "keys" / "signing_key")
    lists = KeyLists(tmp_path / "keys")
    lists.propose(now=NOW, add=[LINES[0]], required=2)
    assert lists.sign(own) == Missing(0, 1)
    assert lists.chain() == ()
    assert lists.sign(PRIVATE[0]) == Missing(0, 0)
    assert [one.parsed().required for one in lists.chain()] == [2]
    lists.propose(now=NOW, drop=[NAMES[0]], required=1)
    assert lists.sign(own) == Missing(1, 0)
    with pytest.raises(BadInput, match="in the making"):
        lists.propose(now=NOW, add=[LINES[1]])
    assert not lists.sign(PRIVATE[0])
    assert lists.trust().version == 2


def test_a_list_that_is_missing_is_named(tmp_path: Path) -> None:
    init_keys(tmp_path / "keys")
    lists = KeyLists(tmp_path / "keys")
    rotate(lists, now=NOW)
    rotate(lists, now=NOW + timedelta(days=1))
    (lists.folder / "1.json").unlink()
    with pytest.raises(BadInput, match=r"holds the key lists \[2\]"):
        lists.chain()


def test_the_verbs_make_sign_and_deliver_lists(tmp_path: Path, state, monkeypatch, capsys) -> None:
    from milton_assets.cli.app import main

    def milton(*arguments: str) -> tuple[int, dict]:
        monkeypatch.setattr("sys.argv", ["milton", *arguments, "--json"])
        with pytest.raises(SystemExit) as done:
            main()
        said = capsys.readouterr().out
        return int(done.value.code or 0), json.loads(said) if said else {}

    init_keys(tmp_path / "second")
    assert milton("keys", "init")[0] == 0
    assert milton("device-policy", "init", "--target", "local", "--max-silence-hours", "72")[0] == 0
    old = milton("keys", "list")[1]["believed"]["keys"]
    assert milton("keys", "rotate", "--revoke", "lost")[1] == {
        "in_force": True,
        "version": 1,
        "lacks": {"of_the_keys_before": 0, "of_its_own": 0},
    }
    code, told = milton("keys", "deliver")
    assert (code, told["local"]["version"], told["local"]["revoked"][0]["fingerprint"]) == (0, 1, old[0])
    second = ("--add", str(tmp_path / "second" / "signing_key.pub"), "--required", "2")
    assert milton("keys", "change", *second)[1]["lacks"] == {"of_the_keys_before": 0, "of_its_own": 1}
    assert milton("keys", "sign-list", "--key", str(tmp_path / "second" / "signing_key"))[1]["in_force"]
    make_bundle(state.bundles, "v1")
    assert milton("bundle", "sign")[0] == 0
    deploying = ("deploy", "--target", "local", "--no-load-test", "--health-rounds", "0")
    assert milton(*deploying)[0] == 1
    assert len(milton("bundle", "sign", "--key", str(tmp_path / "second" / "signing_key"))[1]["signers"]) == 2
    policy = state.deployments / "local" / "device-policy.yaml"
    policy.write_text(policy.read_text().replace("require_load_test: true", "").replace("min_health_rounds: 1", ""))
    assert milton(*deploying)[0] == 0
    assert milton("keys", "list", "--targets")[1]["targets"]["local"]["required"] == 2
