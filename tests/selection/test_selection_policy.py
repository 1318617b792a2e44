"""Policies: what is shipped, what is refused, and that errors name the line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milton_assets.selection.policy import GateMode, Normalisation
from milton_assets.selection.policy_file import BadPolicy, load_policy, parse_policy, shipped_policies
from milton_assets.vocabulary.metric import Direction
from milton_assets.vocabulary.yaml_document import MAX_YAML_BYTES

MINIMAL = """\
name: ours
version: 3
summary: one criterion
normalisation: minmax_pool
criteria:
  - {tier: inference, metric: ttft_ms.median, label: latency, direction: lower, weight: 1}
"""


def test_seed_weighs_the_four_headline_metrics_at_a_quarter_each() -> None:
    policy = load_policy("seed")
    assert [(c.metric, c.direction, c.weight) for c in policy.criteria] == [
        ("ttft_ms.median", Direction.LOWER, 0.25),
        ("output_tokens_per_s", Direction.HIGHER, 0.25),
        ("cove_pass_rate", Direction.HIGHER, 0.25),
        ("nDCG@10", Direction.HIGHER, 0.25),
    ]
    assert policy.normalisation is Normalisation.MINMAX_POOL


def test_seed_gates_on_ninety_and_fifty_per_cent_by_the_point_estimate() -> None:
    gates = load_policy("seed").gates
    assert [(g.metric, g.op, g.threshold, g.mode) for g in gates] == [
        ("cove_pass_rate", ">=", 0.9, GateMode.POINT),
        ("nDCG@10", ">=", 0.5, GateMode.POINT),
        ("kl_to_reference", "<=", 1.0, GateMode.POINT),
    ]


def test_seed_breaks_ties_by_lower_latency_then_higher_throughput() -> None:
    assert [(t.metric, t.direction) for t in load_policy("seed").tie_breaks] == [
        ("ttft_ms.median", Direction.LOWER),
        ("output_tokens_per_s", Direction.HIGHER),
    ]


def test_smoke_differs_from_seed_only_in_its_gates_incumbent_rule_and_words() -> None:
    own = {"name", "version", "summary", "gates", "incumbent"}
    seed, smoke = (load_policy(name).model_dump(exclude=own) for name in ("seed", "smoke"))
    assert smoke == seed


def test_smoke_says_that_it_proves_nothing_about_fitness() -> None:
    assert "says nothing about fitness" in load_policy("smoke").summary


@pytest.mark.parametrize("name", shipped_policies())
def test_every_shipped_policy_loads_under_its_own_name(name: str) -> None:
    assert load_policy(name).name == name


def test_a_policy_is_loaded_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "ours.yaml"
    path.write_text(MINIMAL)
    assert load_policy(path).version == 3
    assert load_policy(str(path)) == load_policy(path)


def test_comments_and_layout_do_not_change_the_digest() -> None:
    assert parse_policy("# ours\n" + MINIMAL.replace(": ", ":   "), "x").sha256 == parse_policy(MINIMAL, "x").sha256


def test_a_changed_threshold_changes_the_digest() -> None:
    other = MINIMAL.replace("version: 3", "version: 4")
    assert parse_policy(other, "x").sha256 != parse_policy(MINIMAL, "x").sha256


@pytest.mark.parametrize(
    ("found", "instead", "line", "says"),
    [
        ("version: 3", "version: zero", 2, "version"),
        ("direction: lower", "direction: downwards", 6, "criteria.0.direction"),
        ("weight: 1", "weight: 0.5", 1, "weights sum to 0.5"),
        ("weight: 1", "weight: .nan", 6, "criteria.0.weight"),
        ("normalisation: minmax_pool", "normalisation: anchored", 1, "needs anchors"),
        ("summary: one criterion", "summry: one criterion", 3, "summry"),
        ("summary: one criterion\n", "", 1, "summary: Field required"),
        ("label: latency", "label: latency, anchors: {worst: 1, best: 9}", 6, "other side of its worst"),
        ("label: latency", "label: latency, anchors: {worst: 1, best: 1}", 6, "must differ"),
        ("label: latency", "label: latency, anchors: {worst: 1, best: 0, scale: log}", 6, "above 0"),
        ("name: ours", "name: ../ours", 1, "not a slug"),
        ("name: ours", "name: ours\nversion: 1", 3, "version is given twice"),
        ("name: ours", "name: [ours", 2, "expected"),
        ("summary: one criterion", "summary: x\nsecond_opinion: minmax_pool", 1, "second opinion is the first"),
        (
            "summary: one criterion",
            "summary: x\ntie_breaks: [{tier: inference, metric: e2e_ms.median, direction: lower}]",
            1,
            "no criteria",
        ),
        (
            "summary: one criterion",
            "summary: x\nincumbent: {margins: [{tier: inference, metric: e2e_ms.median, margin: 1}]}",
            1,
            "no criteria",
        ),
    ],
)
def test_an_invalid_policy_is_refused_with_the_line_and_the_reason(
    found: str, instead: str, line: int, says: str
) -> None:
    with pytest.raises(BadPolicy) as caught:
        parse_policy(MINIMAL.replace(found, instead), "ours.yaml")
    assert f"line {line}:" in str(caught.value)
    assert says in str(caught.value)
    assert "ours.yaml" in str(caught.value)


def test_a_metric_weighed_twice_is_refused() -> None:
    twice = MINIMAL.replace("weight: 1}", "weight: 0.5}") + MINIMAL.splitlines()[-1].replace("weight: 1", "weight: 0.5")
    with pytest.raises(BadPolicy, match=r"criterion on ttft_ms\.median appears twice"):
        parse_policy(twice, "x")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no mapping"),
        ("- a\n- b", "no mapping"),
        ("a: &x 1\nb: *x", "alias"),
        ("a: \x00", "cannot be read as YAML"),
        ("a: !!python/object:os.system {}", "could not determine a constructor"),
        ("[" * 20_000 + "]" * 20_000, "nested deeper than 100 levels"),
    ],
)
def test_what_is_no_policy_at_all_is_refused(text: str, says: str) -> None:
    with pytest.raises(BadPolicy, match=says):
        parse_policy(text, "x.yaml")


@given(st.text(max_size=300))
def test_any_text_is_a_policy_or_a_clear_error(text: str) -> None:
    with pytest.raises(BadPolicy):
        parse_policy(text, "x.yaml")


def test_an_unknown_name_lists_the_shipped_policies() -> None:
    with pytest.raises(BadPolicy, match="seed"):
        load_policy("sead")


def test_a_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(BadPolicy, match="cannot be read: No such file"):
        load_policy(tmp_path / "none.yaml")


def test_a_file_that_is_no_text_or_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadPolicy, match="not UTF-8"):
        load_policy(path)
    path.write_bytes(b"#" * (MAX_YAML_BYTES + 1))
    with pytest.raises(BadPolicy, match="larger than"):
        load_policy(path)
