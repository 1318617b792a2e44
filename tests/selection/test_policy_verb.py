"""`milton policy`: which there are, what one says, whether it holds, and one of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from milton_assets.selection.policy_file import load_policy, shipped_policies
from milton_assets.vocabulary.state import StateDir
from tests.support.shell import milton, told


def test_list_names_what_ships_and_which_one_is_taken(state: StateDir) -> None:
    found = {one["name"]: one["taken"] for one in told("policy", "list")}
    assert set(found) == set(shipped_policies())
    assert [name for name, taken in found.items() if taken] == ["seed"]
    taken = told("policy", "list", MILTON_POLICY="anchored")
    assert [one["name"] for one in taken if one["taken"]] == ["anchored"]


def test_show_tells_gates_weights_and_digest(state: StateDir) -> None:
    text = milton("policy", "show", "seed").stdout
    for said in ("cove_pass_rate >= 0.9", "0.25 latency", load_policy("seed").sha256, "when unclear: score"):
        assert said in text


def test_init_begins_from_a_shipped_one_with_its_comments(state: StateDir, tmp_path: Path) -> None:
    ours = tmp_path / "ours.yaml"
    told("policy", "init", ours, "--from", "anchored")
    like = load_policy("anchored").model_dump()
    assert load_policy(str(ours)).model_dump() == {**like, "name": "ours", "version": 1}
    assert "# " in ours.read_text()
    again = milton("policy", "init", ours)
    assert again.returncode == 1 and "there already" in again.stderr


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": 0}, "version"),
        ({"gates": [{"tier": "reasoning", "metric": "cove", "op": ">=", "threshold": 0.5}]}, "has no metric 'cove'"),
    ],
    ids=["shape", "metric"],
)
def test_check_names_what_does_not_hold(state: StateDir, tmp_path: Path, change: dict[str, object], says: str) -> None:
    ours = tmp_path / "ours.yaml"
    told("policy", "init", ours)
    assert told("policy", "check", ours)["name"] == "ours"
    ours.write_text(yaml.safe_dump(yaml.safe_load(ours.read_text()) | change))
    done = milton("policy", "check", ours)
    assert done.returncode == 1 and says in done.stderr
