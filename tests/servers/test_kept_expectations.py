"""What a model expected is kept as evidence: asked once for the same weights, text and server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from milton_assets.vocabulary.fingerprint import ServerFingerprint
from milton_assets.vocabulary.forcing import Forced, TeacherForcing
from resources.answer_cache import CacheKey
from resources.evidence_store import EvidenceStore
from resources.predictions import KeptExpectations, key_of
from tests.support.forced_model import model

MODEL = model(5)
TEXT = "the river below runs high for a few decades"
ASKED = {"first": 2, "places": 4, "top": 6}
SERVER = ServerFingerprint(
    name="llama.cpp (embedded)", build="1", launched_by_us=True, flags=("--threads", "2"), quantization="Q4_0"
)


@pytest.fixture
def store(tmp_path: Path) -> EvidenceStore:
    return EvidenceStore(tmp_path)


def key(weights: str = "a", **changed: object) -> CacheKey:
    found = key_of(weights * 64, SERVER.model_copy(update=changed), {})
    assert found is not None
    return found


class Opened:
    """Counts how often the model was opened and is open."""

    def __init__(self) -> None:
        self.times = self.open = 0

    @contextmanager
    def __call__(self) -> Iterator[TeacherForcing]:
        self.times += 1
        self.open += 1
        yield MODEL
        self.open -= 1


def test_it_is_asked_once_and_then_found(store: EvidenceStore) -> None:
    opened = Opened()
    answers = []
    for _ in range(2):
        with KeptExpectations(store, key(), opened) as kept:
            answers.append(kept.forced(TEXT, **ASKED))
    assert answers == [MODEL.forced(TEXT, **ASKED)] * 2
    assert (opened.times, opened.open) == (1, 0)


def test_several_texts_open_it_once(store: EvidenceStore) -> None:
    opened = Opened()
    with KeptExpectations(store, key(), opened) as kept:
        for text in (TEXT, "another text of words", "a third text of words"):
            kept.forced(text, **ASKED)
        assert opened.open == 1
    assert (opened.times, opened.open) == (1, 0)


@pytest.mark.parametrize(
    "other",
    [key("b"), key(build="2"), key(flags=("--threads", "4")), key(name="llama.cpp")],
    ids=["weights", "build", "flags", "server"],
)
def test_other_weights_or_another_server_are_asked_anew(store: EvidenceStore, other: CacheKey) -> None:
    opened = Opened()
    for one in (key(), other):
        with KeptExpectations(store, one, opened) as kept:
            kept.forced(TEXT, **ASKED)
    assert opened.times == 2


def test_another_models_template_is_no_other_server() -> None:
    assert key(quantization="F16", chat_template_sha256="c" * 64, context_tokens=128) == key()


@pytest.mark.parametrize("change", [{"first": 3}, {"places": 5}, {"top": 5}], ids=str)
def test_another_question_is_asked_anew(store: EvidenceStore, change: dict[str, int]) -> None:
    opened = Opened()
    with KeptExpectations(store, key(), opened) as kept:
        kept.forced(TEXT, **ASKED)
    with KeptExpectations(store, key(), opened) as kept:
        kept.forced(TEXT, **{**ASKED, **change})
    assert opened.times == 2


@pytest.mark.parametrize("damage", [b"", b"{}", b'"places":[[-9', None], ids=["empty", "no fields", "torn", "changed"])
def test_a_damaged_file_is_not_believed_and_written_anew(
    store: EvidenceStore, tmp_path: Path, damage: bytes | None
) -> None:
    opened = Opened()
    with KeptExpectations(store, key(), opened) as kept:
        right = kept.forced(TEXT, **ASKED)
    (file,) = (tmp_path / "expectations").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b'"first":2', b'"first":1') if damage is None else damage)
    with KeptExpectations(store, key(), opened) as kept:
        assert kept.forced(TEXT, **ASKED) == right
    assert (opened.times, file.read_bytes()) == (2, whole)


def test_a_place_of_which_nothing_is_known_is_kept_as_such(store: EvidenceStore) -> None:
    right = MODEL.forced(TEXT, **ASKED)

    class Silent:
        def forced(self, text: str, *, first: int, places: int, top: int) -> Forced:
            return Forced(right.tokens, right.first, (right.places[0], None, *right.places[2:]))

    opened = Silent()
    answers = []
    for _ in range(2):
        with KeptExpectations(store, key(), lambda: nullcontext(opened)) as kept:
            answers.append(kept.forced(TEXT, **ASKED))
    assert answers == [opened.forced(TEXT, **ASKED)] * 2


def test_what_is_not_to_be_recalled_is_asked_and_kept(store: EvidenceStore) -> None:
    opened = Opened()
    for _ in range(2):
        with KeptExpectations(store, key(), opened, recalls=False) as kept:
            kept.forced(TEXT, **ASKED)
    assert opened.times == 2


def test_of_a_server_that_somebody_else_runs_nothing_may_be_kept() -> None:
    assert key_of("a" * 64, SERVER.model_copy(update={"launched_by_us": False}), {}) is None
