"""What the tiers say of themselves, held against what they are."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from milton_assets.selection.policy import Criterion, Policy
from milton_assets.selection.policy_file import BadPolicy, check_metrics, load_policy, shipped_policies
from milton_assets.usecases.measuring import BrokenResult, measure_tier
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.fingerprint import ServerFingerprint
from milton_assets.vocabulary.golden_set import read_goldens
from milton_assets.vocabulary.metric import Direction, Metric
from milton_assets.vocabulary.server import Endpoint, RunningServer
from milton_assets.vocabulary.tier import TierResult
from milton_assets.vocabulary.tier_spec import Conditions, Measuring, TierSpec
from tests.support.tiers import TIERS

SERVED = RunningServer(Endpoint("http://127.0.0.1:9", "m"), ServerFingerprint(name="scripted", launched_by_us=True))


def changed(policy: Policy, **criterion: object) -> Policy:
    first = Criterion.model_validate({**policy.criteria[0].model_dump(), "anchors": None, **criterion})
    return policy.model_copy(update={"criteria": (first, *policy.criteria[1:])})


@pytest.mark.parametrize("name", shipped_policies())
def test_every_shipped_policy_fits_the_tiers_that_ship(name: str) -> None:
    policy = load_policy(name)
    assert check_metrics(policy, TIERS) is policy


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"metric": "ttft_ms.meddian"}, r"no metric 'ttft_ms.meddian'; near are \['ttft_ms.median'"),
        ({"tier": "politeness"}, "is of tier politeness, and installed are"),
        ({"direction": "higher"}, "said to be better higher, and is better lower"),
    ],
    ids=["metric", "tier", "direction"],
)
def test_a_policy_that_does_not_fit_is_refused_with_what_is_near(change: dict[str, str], says: str) -> None:
    with pytest.raises(BadPolicy, match=says):
        check_metrics(changed(load_policy("seed"), **change), TIERS)


@pytest.mark.parametrize("spec", TIERS.values(), ids=lambda spec: spec.name)
def test_a_look_in_minutes_asks_less_than_a_campaign(spec: TierSpec) -> None:
    full, smoke = (spec.plan(Conditions(profile=profile, slots=2)) for profile in ("full", "smoke"))
    assert full != smoke
    assert spec.code_version() == spec.code_version()


@pytest.mark.parametrize("spec", TIERS.values(), ids=lambda spec: spec.name)
def test_what_ships_is_digested_under_the_names_in_the_spec(spec: TierSpec) -> None:
    goldens = read_goldens(spec)
    assert list(goldens.pinned) == [golden.name for golden in spec.goldens]
    assert all(path.is_file() for path in goldens.files.values())
    assert not goldens.is_private


def test_a_metric_has_the_direction_that_anybody_would_expect() -> None:
    better = {
        ("inference", "ttft_ms.median"): Direction.LOWER,
        ("inference", "output_tokens_per_s"): Direction.HIGHER,
        ("inference", "ttft_ms.std"): None,
        ("reasoning", "cove_pass_rate"): Direction.HIGHER,
        ("reasoning", "cove_broken"): Direction.LOWER,
        ("retrieval", "nDCG@10"): Direction.HIGHER,
        ("retrieval", "call_failure_rate"): Direction.LOWER,
        ("retrieval", "bm25:nDCG@10"): None,
    }
    for (tier, name), direction in better.items():
        metric = TIERS[tier].find(name)
        assert metric is not None
        assert metric.better is direction


def test_a_headline_that_is_no_metric_is_refused() -> None:
    with pytest.raises(BadInput, match="tier reasoning has no metric 'best' as its headline"):
        replace(TIERS["reasoning"], headline="best")


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (TierResult("retrieval", ()), "returned a result of retrieval"),
        (
            TierResult("reasoning", (Metric.measured("mood", "share", 1.0, n=1),)),
            r"returned no .*beyond its spec .*mood",
        ),
        ({"cove_pass_rate": 1.0}, "returned dict"),
    ],
    ids=["another tier's", "another metric", "no result"],
)
def test_a_tier_is_held_to_its_spec(result: object, says: str) -> None:
    spec = replace(TIERS["reasoning"], measure=lambda _: result)
    with pytest.raises(BrokenResult, match=says):
        goldens = read_goldens(spec)
        measure_tier(spec, goldens, Measuring(SERVED, goldens.value, spec.plan(Conditions())))


def test_goldens_and_code_version_are_stated_whatever_the_tier_forgets() -> None:
    spec = TIERS["reasoning"]
    forgetful = replace(spec, measure=lambda _: replace(spec.skipped("not tried"), samples=pd.DataFrame()))
    goldens = read_goldens(spec)
    result = measure_tier(forgetful, goldens, Measuring(SERVED, goldens.value, spec.plan(Conditions())))
    assert result.provenance["goldens"] == goldens.value.digests
    assert result.provenance["code_version"] == spec.code_version()
