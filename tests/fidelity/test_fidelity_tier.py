"""The fidelity tier: a model against the one that it was made from, over a text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import pytest

from milton_assets.tiers.fidelity.goldens import SHIPPED, read
from milton_assets.tiers.fidelity.spec import SPEC
from milton_assets.tiers.fidelity.tier import FidelityPlan
from milton_assets.usecases.measuring import measure_tier
from milton_assets.vocabulary.chat import CallErrorKind, ModelCallFailed
from milton_assets.vocabulary.errors import BadInput, ServerFailed
from milton_assets.vocabulary.fingerprint import ServerFingerprint
from milton_assets.vocabulary.forcing import Forced, ReferenceNotToBeHad, TeacherForcing
from milton_assets.vocabulary.golden_set import read_goldens
from milton_assets.vocabulary.metric import Metric, Status
from milton_assets.vocabulary.progress import OnProgress, Progress, silent
from milton_assets.vocabulary.server import Endpoint, RunningServer
from milton_assets.vocabulary.tier import TierResult
from milton_assets.vocabulary.tier_spec import Conditions, Measuring, NoReference, Reference
from tests.support.forced_model import WORDS, WordModel, model

SERVED = RunningServer(Endpoint("http://127.0.0.1:9", "m"), ServerFingerprint(name="vllm", launched_by_us=True))
ORIGINAL = model(1)
SHA256 = "a" * 64
WHOLE = FidelityPlan(top=WORDS, draws=200)


def reference(
    of: TeacherForcing = ORIGINAL, opened: Callable[[], AbstractContextManager[TeacherForcing]] | None = None
) -> Reference:
    return Reference("original", SHA256, opened or (lambda: nullcontext(of)))


def measured(
    forcing: TeacherForcing | None,
    against: Reference | NoReference,
    plan: FidelityPlan = WHOLE,
    on_progress: OnProgress = silent,
) -> TierResult:
    goldens = read_goldens(SPEC)
    handed = Measuring(SERVED, goldens.value, plan, forcing=forcing, reference=against, on_progress=on_progress)
    return measure_tier(SPEC, goldens, handed)


def by_name(result: TierResult) -> dict[str, Metric]:
    return {metric.name: metric for metric in result.metrics}


def test_a_model_is_as_its_reference_is() -> None:
    found = by_name(measured(ORIGINAL, reference()))
    assert (found["kl_to_reference"].value, found["top1_flips"].value, found["flip_loss.p999"].value) == (0, 0, 0)
    assert found["perplexity"].value == found["reference:perplexity"].value
    assert found["kl_to_reference"].n >= 1000


def test_more_damage_is_seen_in_every_figure() -> None:
    little, much = (by_name(measured(model(2, like=ORIGINAL, damage=damage), reference())) for damage in (0.2, 2.0))
    for name in ("kl_to_reference", "kl_to_reference.p999", "top1_flips", "flip_loss.p999"):
        one, other = little[name], much[name]
        assert one.value is not None
        assert other.value is not None
        assert one.value < other.value
    one, other = little["kl_to_reference"].interval, much["kl_to_reference"].interval
    assert one is not None
    assert other is not None
    assert one.high < other.low
    assert one.method == "block_bootstrap"


def test_a_first_look_tells_no_tail_and_says_how_many_places_it_takes() -> None:
    found = by_name(measured(model(2, like=ORIGINAL), reference(), SPEC.plan(Conditions(profile="smoke"))))
    assert found["kl_to_reference"].n == 72
    assert found["kl_to_reference.p999"].status is Status.SKIPPED
    assert found["kl_to_reference.p999"].why == "72 places were looked at, and the figure at 99.9% takes 1000 at least"


def test_without_a_reference_only_perplexity_is_known() -> None:
    found = by_name(measured(ORIGINAL, NoReference("it names none")))
    assert found["perplexity"].status is Status.OK
    others = {name: (m.status, m.why) for name, m in found.items() if name != "perplexity"}
    assert set(others.values()) == {(Status.SKIPPED, "it names none")}


def test_a_server_that_tells_no_probabilities_is_named() -> None:
    found = by_name(measured(None, reference()))
    assert {m.status for m in found.values()} == {Status.SKIPPED}
    assert "the server (vllm) does not tell what its model expects" in (found["perplexity"].why or "")


def test_other_tokens_are_not_compared() -> None:
    result = measured(ORIGINAL, reference(WordModel(ORIGINAL.probabilities, shift=1)))
    found = by_name(result)
    assert found["kl_to_reference"].status is Status.SKIPPED
    assert "the tokenizers differ: passage tide-tables" in (found["kl_to_reference"].why or "")
    assert found["perplexity"].status is Status.OK


@contextmanager
def not_here() -> Iterator[TeacherForcing]:
    raise ReferenceNotToBeHad("it needs 90 GB")
    yield ORIGINAL


@contextmanager
def dies() -> Iterator[TeacherForcing]:
    raise ServerFailed("the server died")
    yield ORIGINAL


class Mute:
    def forced(self, text: str, *, first: int, places: int, top: int) -> Forced:
        raise ModelCallFailed(CallErrorKind.TIMEOUT, "no answer")


@pytest.mark.parametrize(
    ("opened", "status", "says"),
    [
        (not_here, Status.SKIPPED, "it needs 90 GB"),
        (dies, Status.ERROR, "its reference original failed: the server died"),
        (lambda: nullcontext(Mute()), Status.ERROR, "its reference original failed: timeout: no answer"),
    ],
    ids=["no room", "dies", "does not answer"],
)
def test_a_reference_that_cannot_be_asked_leaves_perplexity(
    opened: Callable[[], AbstractContextManager[TeacherForcing]], status: Status, says: str
) -> None:
    found = by_name(measured(ORIGINAL, reference(opened=opened)))
    assert (found["kl_to_reference"].status, found["kl_to_reference"].why) == (status, says)
    assert found["perplexity"].status is Status.OK


def test_a_model_that_does_not_answer_is_an_error_everywhere() -> None:
    found = by_name(measured(Mute(), reference()))
    assert {m.status for m in found.values()} == {Status.ERROR}


def test_the_table_tells_every_place_and_what_it_was_held_against() -> None:
    other = model(2, like=ORIGINAL)
    result = measured(other, reference())
    row = result.samples.iloc[31]
    assert (row["passage_id"], row["position"]) == ("bread-dough", 5)
    assert result.samples["kl"].mean() == pytest.approx(by_name(result)["kl_to_reference"].value)
    again = measured(ORIGINAL, reference())
    stated, same = result.provenance["reference"], again.provenance["reference"]
    assert stated == same
    assert stated["artefact_sha256"] == SHA256
    elsewhere = measured(other, reference(other))
    assert elsewhere.provenance["reference"]["expectations_sha256"] != stated["expectations_sha256"]


def test_it_is_told_how_far_it_is() -> None:
    steps: list[Progress] = []
    measured(ORIGINAL, reference(), FidelityPlan(passages=2, draws=100), steps.append)
    assert [(step.done, step.total) for step in steps] == [(n, 4) for n in range(1, 5)]


class TestPassages:
    def test_that_ship_are_long_enough_and_differ(self) -> None:
        passages = read(None).passages
        assert len({one.text for one in passages}) == len(passages) == 40
        assert min(len(ORIGINAL.tokens(one.text)) for one in passages) > 20

    def test_that_ship_have_a_datasheet(self) -> None:
        assert f"{len(read(None).passages)} passages" in (SHIPPED / "README.md").read_text()

    def test_of_ones_own_may_be_plain_text(self, tmp_path: Path) -> None:
        file = tmp_path / "mine.txt"
        file.write_text("\nOne passage\nin two lines.\n\n \nAnother.\n")
        found = read(file)
        assert [(one.id, one.text) for one in found.passages] == [
            ("passage-000001", "One passage\nin two lines."),
            ("passage-000002", "Another."),
        ]
        assert list(found.digests) == ["mine.txt"]

    @pytest.mark.parametrize(
        ("lines", "says"),
        [
            (["{}"], r":1 is no passage: id"),
            (['{"id": "a", "text": ""}'], r":1 is no passage: text"),
            ([json.dumps({"id": "a", "text": "b"})] * 2, r"\['a'\] are there twice"),
            ([], "holds no passage"),
        ],
        ids=["no id", "empty", "twice", "none"],
    )
    def test_that_do_not_hold_are_refused_with_their_line(self, tmp_path: Path, lines: list[str], says: str) -> None:
        file = tmp_path / "passages.jsonl"
        file.write_text("\n".join(lines))
        with pytest.raises(BadInput, match=says):
            read(tmp_path)
