"""A BEIR folder, read and checked: documents, queries and graded judgements.

What belongs here: the test collection, the loader that validates it, and the digests of what was read. What does not:
its nouns (`documents`), searching (`pool`), asking a model (`pointwise`, `listwise`) or scoring (`measures`).

A BEIR folder holds `corpus.jsonl` (`_id`, `title`, `text`), `queries.jsonl` (`_id`, `text`) and a tab-separated
`qrels/SPLIT.tsv` with a header line and the columns query, document and grade. The layout is that of
BEIR (Thakur et al. 2021, arXiv 2104.08663, https://github.com/beir-cellar/beir). A query whose every judged
document has grade 0 is *unanswerable*: somebody looked, and nothing in the corpus answers it. Beside them a folder may
hold `variants.jsonl`, templates of queries (`variants`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError

from milton_assets.tiers.retrieval.documents import Document, Query
from milton_assets.tiers.retrieval.variants import Template
from milton_assets.vocabulary.digest import sha256_file, sha256_json, short
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.strict_json import json_lines, parse_json, text_lines

SHIPPED = Path(__file__).resolve().parents[3] / "goldens" / "retrieval"
"""The collection that comes with the project; its datasheet is the README.md beside the files."""

ABOUT_FILE = "dataset.json"
VARIANTS_FILE = "variants.jsonl"
PUBLISHED_FILE = "published.jsonl"
"""What the templates draw by the public seed, as a text to read: it is digested, and drawn again when it is asked."""
BEIR_LAYOUT = "a BEIR folder: corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv"
MAX_GRADE = 100
_HAS_A_WORD = re.compile(r"[^\W_]{2}")
_WHOLE_NUMBER = re.compile(r"([+-]?\d{1,9})(?:\.0*)?")
_QREL = "query id, document id and grade, tab-separated"


@dataclass(frozen=True)
class RetrievalGoldens:
    """A test collection. `splits` maps a split's name to its queries in the order of its judgements.

    `digests` maps each file's name (relative to the folder) to its SHA-256; `version` is the one the folder states
    in `dataset.json`, else it is made from the digests, so that changed files never share a version. `templates`, by
    name, are asked beside the queries; what they are about is not in the corpus.
    """

    name: str
    version: str
    corpus: Mapping[str, Document]
    splits: Mapping[str, tuple[Query, ...]]
    digests: dict[str, str]
    templates: Mapping[str, Template] = field(default_factory=dict)

    def queries(self, split: str) -> tuple[Query, ...]:
        """The queries of that split. Raises `BadInput` naming the splits there are."""
        if split not in self.splits:
            raise BadInput(
                f"the data set {self.name} has no split {split!r}",
                expected=f"one of {sorted(self.splits)}",
                remedy=f"add qrels/{split}.tsv or choose another split",
            )
        return self.splits[split]


def load_goldens(folder: Path | None = None) -> RetrievalGoldens:
    """Read and check a BEIR folder; without one, the collection that is shipped.

    Raises `BadInput` naming file and line for what is missing, malformed, twice there or pointing nowhere.
    """
    root = SHIPPED if folder is None else folder
    if not root.is_dir():
        raise BadInput(f"{root} is no folder", expected=BEIR_LAYOUT, remedy="name the folder that holds the files")
    corpus = _read_corpus(root / "corpus.jsonl")
    texts = _read_queries(root / "queries.jsonl")
    qrels = sorted((root / "qrels").glob("*.tsv"))
    if not qrels:
        raise BadInput(f"{root / 'qrels'} holds no .tsv file", expected=BEIR_LAYOUT)
    splits = {path.stem: _read_split(path, texts, corpus) for path in qrels}
    files = [root / "corpus.jsonl", root / "queries.jsonl", *qrels]
    templates: Mapping[str, Template] = {}
    if (root / VARIANTS_FILE).is_file():
        templates = _read_templates(root / VARIANTS_FILE, texts)
        files.append(root / VARIANTS_FILE)
    digests = {path.relative_to(root).as_posix(): sha256_file(path) for path in files}
    name, version = _read_identity(root, digests)
    for described in (PUBLISHED_FILE, ABOUT_FILE):
        if (root / described).is_file():
            digests[described] = sha256_file(root / described)
    return RetrievalGoldens(
        name=name, version=version, corpus=corpus, splits=splits, digests=digests, templates=templates
    )


def _read_corpus(path: Path) -> dict[str, Document]:
    corpus: dict[str, Document] = {}
    for where, record in _records(path):
        doc_id = _text(record, "_id", where)
        if doc_id in corpus:
            raise BadInput(f"{where}: the document {doc_id!r} is there twice", expected="unique ids")
        title = record.get("title") or ""
        if not isinstance(title, str):
            raise BadInput(f"{where}: 'title' is {type(title).__name__}", expected="text")
        corpus[doc_id] = Document(doc_id, title, _text(record, "text", where, may_be_empty=True))
    if not corpus:
        raise BadInput(f"{path} holds no documents", expected=BEIR_LAYOUT)
    if not any(_HAS_A_WORD.search(document.full_text) for document in corpus.values()):
        raise BadInput(f"{path}: none of its {len(corpus)} documents has a word", expected="documents of text")
    return corpus


def _read_queries(path: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for where, record in _records(path):
        query_id = _text(record, "_id", where)
        if query_id in texts:
            raise BadInput(f"{where}: the query {query_id!r} is there twice", expected="unique ids")
        texts[query_id] = _text(record, "text", where)
    return texts


def _read_split(path: Path, texts: Mapping[str, str], corpus: Mapping[str, Document]) -> tuple[Query, ...]:
    grades: dict[str, dict[str, int]] = {}
    with _opened(path) as stream:
        for number, line in text_lines(stream, path.name):
            where = f"{path.name}:{number}"
            fields = line.split("\t")
            if number == 1 and len(fields) == 3 and _grade(fields[2]) is None:
                continue
            if len(fields) != 3:
                raise BadInput(
                    f"{where}: {len(fields)} columns", expected="query id, document id and grade, tab-separated"
                )
            query_id, doc_id, raw = fields
            grade = _grade(raw)
            if grade is None:
                raise BadInput(f"{where}: the grade is {raw!r:.80}", expected=f"a whole number up to {MAX_GRADE}")
            for unknown, known, what in ((query_id, texts, "query"), (doc_id, corpus, "document")):
                if unknown not in known:
                    raise BadInput(
                        f"{where}: there is no {what} {unknown!r:.200}", expected=f"the id of a {what} in the folder"
                    )
            judged = grades.setdefault(query_id, {})
            if judged.get(doc_id, grade) != grade:
                raise BadInput(
                    f"{where}: {doc_id!r} is judged twice for {query_id!r}, as {judged[doc_id]} and as {grade}",
                    expected="one grade a pair",
                )
            judged[doc_id] = grade
    if not grades:
        raise BadInput(f"{path} holds no judgements", expected=BEIR_LAYOUT)
    return tuple(Query(query_id, texts[query_id], judged) for query_id, judged in grades.items())


def _read_templates(path: Path, texts: Mapping[str, str]) -> dict[str, Template]:
    templates: dict[str, Template] = {}
    for where, record in _records(path):
        try:
            one = Template.model_validate(record)
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'template'}: {e['msg']}" for e in error.errors())
            raise BadInput(
                f"{where}: {faults}", expected="a template, as goldens/retrieval/variants.jsonl has"
            ) from error
        if one.id in templates or one.id in texts:
            raise BadInput(f"{where}: the id {one.id!r} is there twice", expected="ids unlike each other and queries'")
        templates[one.id] = one
    return templates


def _grade(raw: str) -> int | None:
    """The grade, or None when it is no whole number; `1.0` is one, as spreadsheets write it.

    A negative one (some sets mark spam so) counts as not relevant.
    """
    if (written := _WHOLE_NUMBER.fullmatch(raw.strip())) is None:
        return None
    grade = int(written[1])
    return None if grade > MAX_GRADE else max(0, grade)


def _read_identity(root: Path, digests: Mapping[str, str]) -> tuple[str, str]:
    path = root / ABOUT_FILE
    if not path.is_file():
        return root.resolve().name, f"sha256-{short(sha256_json(dict(digests)))}"
    record = parse_json(path.read_bytes(), str(path), expected='{"name": …, "version": …}')
    if not isinstance(record, dict):
        raise BadInput(f"{path} holds a {type(record).__name__}", expected='{"name": …, "version": …}')
    return _text(record, "name", path.name), _text(record, "version", path.name)


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with _opened(path) as stream:
        for line in json_lines(stream, path.name):
            if not isinstance(line.value, dict):
                raise BadInput(f"{line.where}: a {type(line.value).__name__}", expected="one JSON object a line")
            yield line.where, line.value


def _opened(path: Path) -> BinaryIO:
    if not path.is_file():
        raise BadInput(f"{path} is missing", expected=BEIR_LAYOUT)
    return path.open("rb")


def _text(record: Mapping[str, Any], key: str, where: str, *, may_be_empty: bool = False) -> str:
    value = record.get(key)
    if not isinstance(value, str) or not (may_be_empty or value.strip()):
        raise BadInput(
            f"{where}: {key!r} is {value!r:.80}", expected="text" if may_be_empty else "text that is not empty"
        )
    return value
