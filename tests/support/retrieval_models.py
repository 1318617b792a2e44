"""Models and collections for the retrieval tier's tests: plain code that answers as a model would.

What belongs here: `ChatModel`s whose judgement a test decides, and a small BEIR folder on disk. What does not: HTTP.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from milton_assets.tiers.retrieval import Document, RetrievalGoldens
from milton_assets.vocabulary.chat import Completion, Message, Sampling, TokenLogprob

Ask = Callable[[str], Completion]


class FunctionModel:
    """A model whose answer is a function of the user's message; remembers how it was asked."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.asked: list[tuple[tuple[Message, ...], Sampling, int]] = []
        self._lock = threading.Lock()

    def complete(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        *,
        top_logprobs: int = 0,
        json_schema: Mapping[str, Any] | None = None,
    ) -> Completion:
        with self._lock:
            self.asked.append((tuple(messages), sampling, top_logprobs))
        return self.ask(messages[-1].content)


def yes_with(probability: float) -> Completion:
    """A one-word answer whose first token is Yes with that probability and otherwise No."""
    listed = {"Yes": probability, "No": 1 - probability}
    alternatives = tuple(TokenLogprob(word, math.log(p)) for word, p in listed.items() if p > 0)
    return Completion("Yes" if probability >= 0.5 else "No", "length", 50, 1, alternatives)


def saying(text: str, finish_reason: str = "stop") -> Completion:
    """An answer without logprobs."""
    return Completion(text, finish_reason, 50, len(text.split()))


def knowing(goldens: RetrievalGoldens, split: str = "test", *, best: int = 3) -> Callable[[str], float]:
    """A judge of messages that knows the judgements: the grade of the pair it is shown, as a share of `best`."""
    passages = {" ".join(doc.full_text.split()): doc.doc_id for doc in goldens.corpus.values()}

    def grade(message: str) -> float:
        query = next(query for query in goldens.queries(split) if f"Question: {query.text}\n" in message)
        doc_id = next(doc_id for text, doc_id in passages.items() if text in message)
        return query.grades.get(doc_id, 0) / best

    return grade


def write_beir(
    folder: Path,
    documents: Mapping[str, str],
    queries: Mapping[str, str],
    qrels: Mapping[str, Mapping[str, Mapping[str, int]]],
) -> Path:
    """A BEIR folder: document and query texts by id, and grades by split, query and document."""
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    corpus = [{"_id": one, "title": "", "text": text, "metadata": {}} for one, text in documents.items()]
    asked = [{"_id": one, "text": text, "metadata": {}} for one, text in queries.items()]
    for name, records in (("corpus", corpus), ("queries", asked)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    for split, by_query in qrels.items():
        lines = [f"{q}\t{d}\t{grade}\n" for q, graded in by_query.items() for d, grade in graded.items()]
        (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines))
    return folder


def documents_of(texts: Mapping[str, str]) -> dict[str, Document]:
    """A corpus of untitled documents."""
    return {doc_id: Document(doc_id, "", text) for doc_id, text in texts.items()}


def reading(goldens: RetrievalGoldens) -> Callable[[str], float | None]:
    """A judge of messages that reads any variant of a template: the share of what is asked for that a passage says;
    None for a question of another kind."""
    said = {
        template.question.format(**{key: value.asked for key, value in zip(template.asked, values, strict=True)}): [
            value.told for value in values
        ]
        for template in goldens.templates.values()
        for values in product(*template.asked.values())
    }

    def share(message: str) -> float | None:
        question, passage = message.removeprefix("Question: ").split("\n\n", 1)
        told = said.get(question)
        return None if told is None else sum(text.casefold() in passage.casefold() for text in told) / len(told)

    return share


def answer_key(goldens: RetrievalGoldens) -> Callable[[str], float | None]:
    """A key to every published pair, queries and variants: whether the passage answers; None for a pair it does not
    have."""
    grades = {
        (variant.query.text, passage.text): float(passage.doc_id == variant.answer)
        for variant in (template.published() for template in goldens.templates.values())
        for passage in variant.passages
    }
    queries = {query.text: query for queries in goldens.splits.values() for query in queries}
    documents = {" ".join(doc.full_text.split()): doc.doc_id for doc in goldens.corpus.values()}

    def look_up(message: str) -> float | None:
        question, rest = message.removeprefix("Question: ").split("\n\n", 1)
        passage = rest.removeprefix("Passage: ").split("\n\n", 1)[0]
        if query := queries.get(question):
            return query.grades.get(documents[passage], 0) / 3
        return grades.get((question, passage))

    return look_up
