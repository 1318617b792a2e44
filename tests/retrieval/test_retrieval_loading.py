"""Reading a BEIR folder: what is taken as it is, and what is refused with file, line and reason."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milton_assets.tiers.retrieval import load_goldens
from milton_assets.tiers.retrieval.pool import pools
from milton_assets.vocabulary.errors import BadInput
from tests.support.retrieval_models import write_beir


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_beir(
        tmp_path / "beir",
        {"d1": "A lamp burns oil.", "d2": "A boat needs a keel."},
        {"q1": "What does a lamp burn?", "q2": "Who built the keel?"},
        {"test": {"q1": {"d1": 3, "d2": 0}, "q2": {"d2": 0}}, "dev": {"q1": {"d1": 1}}},
    )


def test_a_folder_is_read_with_its_splits(folder: Path) -> None:
    goldens = load_goldens(folder)
    assert sorted(goldens.splits) == ["dev", "test"]
    assert goldens.corpus["d1"].text == "A lamp burns oil."
    assert [query.query_id for query in goldens.queries("test")] == ["q1", "q2"]
    assert goldens.queries("test")[0].grades == {"d1": 3, "d2": 0}


def test_a_query_whose_judged_documents_all_fail_is_unanswerable(folder: Path) -> None:
    answerable = {query.query_id: query.answerable for query in load_goldens(folder).queries("test")}
    assert answerable == {"q1": True, "q2": False}


def test_each_file_is_pinned_by_its_digest(folder: Path) -> None:
    (folder / "dataset.json").write_text('{"name": "lamps", "version": "1"}')
    digests = load_goldens(folder).digests
    assert sorted(digests) == ["corpus.jsonl", "dataset.json", "qrels/dev.tsv", "qrels/test.tsv", "queries.jsonl"]
    for name, digest in digests.items():
        assert digest == hashlib.sha256((folder / name).read_bytes()).hexdigest()


def test_without_a_stated_version_changed_files_change_the_version(folder: Path) -> None:
    before = load_goldens(folder).version
    with (folder / "corpus.jsonl").open("a") as stream:
        stream.write(json.dumps({"_id": "d3", "text": "More."}) + "\n")
    assert load_goldens(folder).version != before


def test_a_stated_name_and_version_are_used(folder: Path) -> None:
    (folder / "dataset.json").write_text('{"name": "lamps", "version": "2.1"}')
    goldens = load_goldens(folder)
    assert (goldens.name, goldens.version) == ("lamps", "2.1")


def test_a_title_is_part_of_the_text_that_is_searched(folder: Path) -> None:
    (folder / "corpus.jsonl").write_text(
        '{"_id": "d1", "title": "Lamps", "text": "They burn."}\n{"_id": "d2", "text": ""}\n'
    )
    corpus = load_goldens(folder).corpus
    assert corpus["d1"].full_text == "Lamps\nThey burn."
    assert corpus["d2"].full_text == ""


def test_documents_of_stop_words_alone_are_never_found(folder: Path) -> None:
    (folder / "corpus.jsonl").write_text('{"_id": "d1", "text": "the of and"}\n{"_id": "d2", "text": "is it"}\n')
    goldens = load_goldens(folder)
    found = pools(goldens.corpus, goldens.queries("test"), size=5, seed=1)
    assert [pool.shown for pool in found] == [(), ()]


def test_a_byte_order_mark_windows_lines_and_blank_lines_are_no_trouble(folder: Path) -> None:
    raw = (folder / "corpus.jsonl").read_text().replace("\n", "\r\n\r\n")
    (folder / "corpus.jsonl").write_bytes(b"\xef\xbb\xbf" + raw.encode())
    assert list(load_goldens(folder).corpus) == ["d1", "d2"]


def test_judgements_without_a_header_are_read_from_the_first_line(folder: Path) -> None:
    (folder / "qrels" / "test.tsv").write_text("q1\td1\t2\n")
    assert load_goldens(folder).queries("test")[0].grades == {"d1": 2}


def test_a_negative_grade_means_not_relevant(folder: Path) -> None:
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t-1\n")
    assert load_goldens(folder).queries("test")[0].grades == {"d1": 0}


def test_a_whole_grade_may_be_written_as_a_decimal_and_a_judgement_may_be_repeated(folder: Path) -> None:
    (folder / "qrels" / "test.tsv").write_text(HEADER + "q1\td1\t1.0\nq1\td2\t0.0\nq1\td1\t1\n")
    assert load_goldens(folder).queries("test")[0].grades == {"d1": 1, "d2": 0}


def test_an_unknown_split_names_those_there_are(folder: Path) -> None:
    with pytest.raises(BadInput, match=r"no split 'train'.*\['dev', 'test'\]"):
        load_goldens(folder).queries("train")


def test_a_path_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is no folder"):
        load_goldens(tmp_path / "nowhere")


def replaced(name: str, text: str | bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)

    return write


def removed(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


DOCUMENT = '{"_id": "d1", "text": "x"}\n'
HEADER = "query-id\tcorpus-id\tscore\n"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (removed("corpus.jsonl"), "corpus.jsonl is missing"),
        (removed("queries.jsonl"), "queries.jsonl is missing"),
        (replaced("corpus.jsonl", ""), "holds no documents"),
        (replaced("corpus.jsonl", DOCUMENT * 2), "corpus.jsonl:2: the document 'd1' is there twice"),
        (replaced("corpus.jsonl", '{"_id": "d1", "text": "… !"}\n'), "none of its 1 documents has a word"),
        (replaced("corpus.jsonl", "{\n"), "corpus.jsonl:1 is no valid JSON"),
        (replaced("corpus.jsonl", "[" * 100_000), "corpus.jsonl:1 is no valid JSON: it is nested too deeply"),
        (replaced("corpus.jsonl", "[1]\n"), "corpus.jsonl:1: a list"),
        (replaced("corpus.jsonl", '{"_id": 7, "text": "x"}\n'), "'_id' is 7"),
        (replaced("corpus.jsonl", '{"_id": "d1", "text": null}\n'), "'text' is None"),
        (replaced("corpus.jsonl", '{"_id": "d1", "title": 3, "text": "x"}\n'), "'title' is int"),
        (replaced("corpus.jsonl", b"\xff\xfe\n"), "not UTF-8"),
        (replaced("corpus.jsonl", b'"' + b"x" * (8 << 20) + b'"'), "beyond the limits"),
        (replaced("queries.jsonl", '{"_id": "q1", "text": " "}\n'), "'text' is ' '"),
        (replaced("queries.jsonl", '{"_id": "q1", "text": "a"}\n' * 2), "the query 'q1' is there twice"),
        (replaced("qrels/test.tsv", HEADER), "holds no judgements"),
        (replaced("qrels/test.tsv", HEADER + "q1\td1\n"), "test.tsv:2: 2 columns"),
        (replaced("qrels/test.tsv", HEADER + "q1\td1\tgood\n"), "the grade is 'good'"),
        (replaced("qrels/test.tsv", HEADER + "q1\td1\t101\n"), "the grade is '101'"),
        (replaced("qrels/test.tsv", HEADER + "q1\td1\t1.5\n"), "the grade is '1.5'"),
        (replaced("qrels/test.tsv", HEADER + "q1\td1\t" + "9" * 4301 + "\n"), "the grade is '999"),
        (replaced("qrels/test.tsv", HEADER + "q9\td1\t1\n"), "no query 'q9'"),
        (replaced("qrels/test.tsv", HEADER + "q1\td9\t1\n"), "no document 'd9'"),
        (replaced("qrels/test.tsv", HEADER + "q1\td1\t1\nq1\td1\t2\n"), "judged twice"),
        (replaced("dataset.json", "{"), "is no valid JSON"),
        (replaced("dataset.json", "[]"), "holds a list"),
        (replaced("dataset.json", '{"name": "x"}'), "'version' is None"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(folder: Path, spoil: Callable[[Path], None], says: str) -> None:
    spoil(folder)
    with pytest.raises(BadInput) as refused:
        load_goldens(folder)
    assert says in str(refused.value)


def test_a_folder_without_judgements_is_refused(folder: Path) -> None:
    for path in (folder / "qrels").iterdir():
        path.unlink()
    with pytest.raises(BadInput, match=r"holds no \.tsv file"):
        load_goldens(folder)


@settings(deadline=None)
@given(raw=st.binary(max_size=300))
def test_any_bytes_in_the_judgements_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    folder = write_beir(tmp_path_factory.mktemp("beir"), {"d1": "x"}, {"q1": "y"}, {})
    (folder / "qrels" / "test.tsv").write_bytes(raw)
    try:
        goldens = load_goldens(folder)
    except BadInput as refused:
        assert refused.expected
    else:
        assert goldens.queries("test")
