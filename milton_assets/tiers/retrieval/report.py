"""What the report shows of retrieval: each model beside BM25 and the ceiling, and each query as a person reads it.

What belongs here: charts and sheets, from results as they are kept. What does not: figures (`figures`) and drawing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from milton_assets.tiers.retrieval.documents import Query
from milton_assets.tiers.retrieval.figures import RANDOM
from milton_assets.tiers.retrieval.goldens import RetrievalGoldens
from milton_assets.tiers.retrieval.known_answers import FRESH, PUBLISHED, Label
from milton_assets.tiers.retrieval.measures import HEADLINE
from milton_assets.vocabulary.case_sheet import CaseSheet, Passage
from milton_assets.vocabulary.chart import Axis, Chart, Dot, DotChart, DotRow, Rule
from milton_assets.vocabulary.figure import figure
from milton_assets.vocabulary.metric import Direction
from milton_assets.vocabulary.tier import TierResult

_BASELINES = {RANDOM: "random order", f"bm25:{HEADLINE}": "BM25", f"oracle:{HEADLINE}": "best order"}
_VARIANTS = {PUBLISHED: "published variant", FRESH: "fresh variant"}
_SHOWN = 5


def charts(results: Mapping[str, TierResult]) -> tuple[Chart, ...]:
    """The headline measure of each result, with the baselines as lines where all results agree on them."""
    rows = tuple(
        DotRow(name=name, dots=(Dot.of(metric),))
        for name, result in results.items()
        for metric in result.metrics
        if metric.name == HEADLINE
    )
    if not rows:
        return ()
    return (
        DotChart(
            key="against_bm25",
            title=f"{HEADLINE} beside BM25 and the ceiling",
            about="Every model ranks the same documents: BM25's order of them, and the best there is, are the lines.",
            x=Axis(label=HEADLINE, better=Direction.HIGHER, low=0, high=1),
            series=("the model",),
            rows=rows,
            rules=tuple(_rules(results)),
        ),
    )


def sheets(result: TierResult, goldens: Any) -> tuple[CaseSheet, ...]:
    """Every query, with the titles of its documents where `goldens` is the set that was measured on."""
    known = goldens if isinstance(goldens, RetrievalGoldens) else None
    queries = {} if known is None else {q.query_id: q for split in known.splits.values() for q in split}
    if "query" not in result.samples.columns:
        return ()
    rows = [{str(name): value for name, value in row.items()} for row in result.samples.to_dict("records")]
    return tuple(_variant_sheet(row) if row.get("part") in _VARIANTS else _sheet(row, known, queries) for row in rows)


def _rules(results: Mapping[str, TierResult]) -> Iterable[Rule]:
    for name, label in _BASELINES.items():
        values = {m.value for result in results.values() for m in result.metrics if m.name == name}
        if len(values) == 1 and (value := values.pop()) is not None:
            yield Rule(value=value, label=label)


def _sheet(row: Mapping[str, Any], goldens: RetrievalGoldens | None, queries: Mapping[str, Query]) -> CaseSheet:
    query = queries.get(str(row["query_id"]))
    score = _number(row.get(HEADLINE))
    return CaseSheet(
        case_id=str(row["query_id"]),
        kind="answerable" if row["answerable"] else "unanswerable",
        question=str(row["query"]),
        gold=_gold(query, goldens) if query else "" if row["answerable"] else "nothing in the corpus answers it",
        score=score,
        why=_why(row, score),
        passages=(
            Passage(label="ranking", text=_ranked(row["ranking"], goldens, query, row.get("scores"))),
            Passage(label="BM25", text=_ranked(row["bm25_ranking"], goldens, query)),
            *(Passage(label="failed call", text=str(failure)) for failure in row["failures"]),
        ),
    )


_WHY = {
    Label.FIRST: "the passage that answers is ranked first",
    Label.NOT_FIRST: "another passage is ranked first",
    Label.NOT_RANKED: "it put the passages in no order",
    Label.FAILED: "a call failed, so the template says nothing of what the model knows",
}


def _variant_sheet(row: Mapping[str, Any]) -> CaseSheet:
    texts = dict(zip(row["shown"], row["passages"], strict=True))
    order = [f"{place}. {texts[passage]}" for place, passage in enumerate(row["ranking"], start=1)]
    return CaseSheet(
        case_id=str(row["query_id"]),
        kind=_VARIANTS[str(row["part"])],
        question=str(row["query"]),
        gold=texts[row["answer"]],
        score=float(row["right"]),
        right=bool(row["right"]),
        why=_WHY[Label(row["label"])],
        passages=(
            Passage(label="ranking", text="\n".join(order)),
            *(Passage(label="failed call", text=str(failure)) for failure in row["failures"]),
        ),
    )


def _why(row: Mapping[str, Any], score: float | None) -> str:
    if score is None:
        best = _number(row.get("best_p_yes"))
        said = "" if best is None else f"; the surest Yes was {figure(best)}"
        return f"it has no right order, and counts in whether the model sees that{said}"
    bm25, oracle = _number(row.get(f"bm25:{HEADLINE}")), _number(row.get(f"oracle:{HEADLINE}"))
    beside = [f"{name} {figure(value)}" for name, value in (("BM25", bm25), ("best", oracle)) if value is not None]
    return f"{HEADLINE} {figure(score)}" + (f" ({', '.join(beside)})" if beside else "")


def _gold(query: Query, goldens: RetrievalGoldens | None) -> str:
    found = [
        f"{doc} (grade {grade}) {_title(doc, goldens)}".rstrip()
        for doc, grade in sorted(query.grades.items(), key=lambda pair: (-pair[1], pair[0]))
        if grade > 0
    ]
    return "\n".join(found) or "nothing in the corpus answers it"


def _ranked(documents: Any, goldens: RetrievalGoldens | None, query: Query | None, scores: Any = None) -> str:
    lines = []
    for place, document in enumerate(list(documents)[:_SHOWN]):
        grade = query.grades.get(document, 0) if query else 0
        score = f" {figure(float(scores[place]))}" if scores is not None and place < len(scores) else ""
        mark = f" ✓{grade}" if grade else ""
        lines.append(f"{place + 1}. {document}{score}{mark} {_title(document, goldens)}".rstrip())
    return "\n".join(lines)


def _title(document: str, goldens: RetrievalGoldens | None) -> str:
    found = goldens.corpus.get(document) if goldens else None
    return found.title if found else ""


def _number(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else float(value)
