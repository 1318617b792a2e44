"""The incumbent beside a challenger: served after the challenger's own figures were taken, asked the same, in turn."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from milton_assets.tiers.inference import InferencePlan, measure_interleaved
from milton_assets.tiers.inference.beside import in_turn, ratios
from milton_assets.tiers.inference.calibrate import Bias, Calibration
from milton_assets.tiers.inference.definitions import BY_ROUND
from milton_assets.tiers.inference.sample import Sample
from milton_assets.tiers.inference.spec import SPEC
from milton_assets.tiers.inference.summary import Round, figures_of
from milton_assets.usecases.measuring import measure_tier
from milton_assets.vocabulary.beside import LEAST_ROUNDS, ROUNDS, Beside
from milton_assets.vocabulary.errors import BadInput, ServerFailed
from milton_assets.vocabulary.fingerprint import ServerFingerprint
from milton_assets.vocabulary.golden_set import read_goldens
from milton_assets.vocabulary.named_weights import NamedWeights
from milton_assets.vocabulary.progress import Progress
from milton_assets.vocabulary.server import Endpoint, RunningServer
from milton_assets.vocabulary.tier import TierResult
from milton_assets.vocabulary.tier_spec import Incumbent, Measuring
from tests.support.scripted_server import answer, scripted_server

PLAN = InferencePlan(warm_up_requests=0, min_rounds=1, max_rounds=1, max_tokens=8, calibrate=False)
WEIGHTS = "a" * 64


def fingerprinted(base_url: str) -> RunningServer:
    return RunningServer(Endpoint(base_url, "m"), ServerFingerprint(name="scripted"))


def measured(base_url: str, incumbent: Incumbent, progress: list[Progress] | None = None) -> TierResult:
    told: list[Progress] = [] if progress is None else progress
    goldens = read_goldens(SPEC, ())
    handed = Measuring(fingerprinted(base_url), goldens.value, PLAN, on_progress=told.append, incumbent=incumbent)
    return measure_tier(SPEC, goldens, handed)


@pytest.fixture(scope="module")
def both() -> tuple[TierResult, list[tuple[str, str]], list[Progress]]:
    """A challenger that was measured beside an incumbent, who was asked what in which order, and the progress told."""
    asked: list[tuple[str, str]] = []
    progress: list[Progress] = []

    def handler(name: str) -> Any:
        def reply(body: dict[str, Any]) -> Any:
            asked.append((name, body["messages"][-1]["content"].split(maxsplit=1)[1]))
            return answer("one ", "two ", "three")

        return reply

    with scripted_server(handler("challenger")) as mine, scripted_server(handler("incumbent")) as theirs:

        @contextmanager
        def serve() -> Iterator[RunningServer]:
            asked.append(("incumbent", "starts"))
            yield fingerprinted(theirs.base_url)

        result = measured(mine.base_url, Incumbent(NamedWeights("v1", WEIGHTS), serve), progress)
    return result, asked, progress


Both = tuple[TierResult, list[tuple[str, str]], list[Progress]]


def test_the_incumbent_is_served_once_the_challengers_own_figures_are_taken(both: Both) -> None:
    result, asked, _ = both
    own = list(itertools.takewhile(lambda one: one != ("incumbent", "starts"), asked))
    assert {name for name, _ in own} == {"challenger"}
    assert result.metric("ttft_ms.median").n == PLAN.round_size
    assert len(own) > PLAN.round_size


def test_both_answer_the_same_prompts_in_rounds_in_turn(both: Both) -> None:
    _, asked, _ = both
    after = asked[asked.index(("incumbent", "starts")) + 1 :]
    size = in_turn(PLAN).round_size
    rounds = [after[start : start + size] for start in range(0, len(after), size)]
    names = [{name for name, _ in one} for one in rounds]
    mine, theirs = {"challenger"}, {"incumbent"}
    assert names == [mine, theirs, theirs, mine] * (ROUNDS // 2)
    for one, other in zip(rounds[::2], rounds[1::2], strict=True):
        assert sorted(prompt for _, prompt in one) == sorted(prompt for _, prompt in other)


def test_the_table_says_what_each_pair_of_rounds_showed(both: Both) -> None:
    result, _, _ = both
    back = TierResult.from_table(result.to_table("v2", "0" * 64))
    beside = Beside.of(back.provenance)
    assert beside is not None
    assert (beside.version, beside.artefact_sha256, beside.because) == ("v1", WEIGHTS, None)
    assert len(beside.rounds) == ROUNDS
    assert all(one.mine["ttft_ms.median"] > 0 and one.theirs["ttft_ms.median"] > 0 for one in beside.rounds)


def test_the_progress_goes_on_through_both_parts_and_ends_once(both: Both) -> None:
    _, _, progress = both
    assert [step.done == step.total for step in progress].index(True) == len(progress) - 1
    assert progress[-1].note == "beside v1"


def test_where_the_incumbent_cannot_be_served_the_table_says_why_and_the_own_figures_stand() -> None:
    @contextmanager
    def serve() -> Iterator[RunningServer]:
        raise ServerFailed("v1 needs 9.0 GB beside the model under test, and 1.0 GB are free")
        yield

    with scripted_server(answer("one ", "two ")) as server:
        result = measured(server.base_url, Incumbent(NamedWeights("v1", WEIGHTS), serve))
    assert result.metric("ttft_ms.median").value is not None
    beside = Beside.of(result.provenance)
    assert beside is not None
    assert beside.why_not("ttft_ms.median") == "v1 needs 9.0 GB beside the model under test, and 1.0 GB are free"


def test_a_round_that_was_cut_or_in_which_a_request_failed_has_no_figures_to_pair(both: Both) -> None:
    rows = both[0].samples.to_dict("records")[-2:]
    one, other = (Sample(**{str(name): value for name, value in row.items()}) for row in rows)
    assert figures_of(Round(0.0, 1000.0, (one, other)), 2).keys() == set(BY_ROUND)
    assert figures_of(Round(0.0, 1000.0, (one,)), 2) == {}
    assert figures_of(Round(0.0, 1000.0, (one, replace(other, ok=False))), 2) == {}


def test_a_client_that_was_calibrated_for_the_own_figures_is_not_calibrated_again_for_the_rounds_in_turn() -> None:
    plan = PLAN.model_copy(update={"calibrate": True})
    known = Calibration(24, 1, Bias(0.25, 0.5), Bias(0.25, 0.5), Bias(1.0, 2.0))
    with scripted_server(lambda _: answer("one ", "two ", "three")) as server:
        (anew,) = measure_interleaved([Endpoint(server.base_url, "m")], plan)
        (result,) = measure_interleaved([Endpoint(server.base_url, "m")], plan, calibration=known)
    assert Calibration.stated(result.provenance) == known
    assert Calibration.stated(anew.provenance) not in (known, None)


def test_a_statement_that_does_not_read_is_refused() -> None:
    with pytest.raises(BadInput, match="rounds in turn that a table states do not read"):
        Beside.of({"beside": {"version": "v1"}})


def test_what_the_command_line_tells_of_two_servers_is_their_geometric_mean_ratio_and_its_interval(both: Both) -> None:
    def rounds(*rates: float) -> TierResult:
        told = [{"output_tokens_per_s": rate} for rate in rates]
        return replace(both[0], provenance={**both[0].provenance, "by_round": told})

    found = ratios(rounds(40.0, 50.0, 80.0), rounds(20.0, 25.0, 10.0))
    assert found.keys() == {"output_tokens_per_s"}
    ratio = found["output_tokens_per_s"]
    assert ratio.value == pytest.approx((2 * 2 * 8) ** (1 / 3))
    assert ratio.low < 2 < 8 < ratio.high
    assert ratio.rounds == LEAST_ROUNDS
    assert ratios(rounds(40.0, 50.0), rounds(20.0, 25.0)) == {}
