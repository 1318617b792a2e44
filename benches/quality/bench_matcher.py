"""How far the matcher agrees with people: kappa, precision and recall, overall and for each kind of answer.

What belongs here: the comparison of `matching.match` with labels, beside the plain "the answer contains the gold" and
what a judge that never errs would add, with how many answers it would be asked about. What does not: the labelled
answers (`tests/reasoning/labelled_pairs.jsonl`, or a file of yours), any bound on the figures.

    python benches/quality/bench_matcher.py
    python benches/quality/bench_matcher.py --pairs mine.jsonl --disagreements 20

A line of a file of yours is a JSON object with `question`, `answer`, `right` (true or false, what people said) and
`gold`: a text, a list of texts of which any is right, or an object as in `goldens/reasoning/cases.jsonl`. `kind` and
`part` are optional and group the figures. A line that does not hold ends the run with its number. Label files of
others (EVOUNA, say) become this in a few lines of one's own; none is in this project.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from milton_assets.statistics.agreement import cohen_kappa
from milton_assets.tiers.reasoning.answers import Gold, ListAnswer, TextAnswer
from milton_assets.tiers.reasoning.goldens import parse_lines, read_bytes
from milton_assets.tiers.reasoning.matching import match
from milton_assets.tiers.reasoning.verdict import Match, Reason
from milton_assets.vocabulary.errors import BadInput

CEILINGS = (
    ("ceiling with a judge of what is hedged", {Reason.HEDGED}),
    ("ceiling with a judge of all that is left to it", {Reason.HEDGED, Reason.OPEN}),
)
OURS = Path(__file__).resolve().parents[2] / "tests" / "reasoning" / "labelled_pairs.jsonl"


class Pair(BaseModel):
    """One answer and what people said of it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    question: str = Field(min_length=1)
    gold: Gold
    answer: str
    right: bool
    kind: str = "all"
    part: str = "all"

    @field_validator("gold", mode="before")
    @classmethod
    def _texts(cls, gold: Any) -> Any:
        if isinstance(gold, str | list):
            accepted = [gold] if isinstance(gold, str) else gold
            return TextAnswer(accept=tuple(dict.fromkeys(text for text in accepted if str(text).strip())))
        return gold


@dataclass(frozen=True)
class Agreement:
    """The 2x2 of labels and verdicts."""

    hits: int
    misses: int
    alarms: int
    rejections: int

    @classmethod
    def of(cls, labels: Iterable[tuple[bool, bool]]) -> Agreement:
        """Count (people's label, verdict)."""
        seen = list(labels)
        return cls(*(seen.count(cell) for cell in ((True, True), (True, False), (False, True), (False, False))))

    @property
    def n(self) -> int:
        """How many pairs."""
        return self.hits + self.misses + self.alarms + self.rejections

    def row(self, name: str) -> str:
        """The figures as a row of a Markdown table; a dash where a share is 0/0."""
        precision = _share(self.hits, self.hits + self.alarms)
        recall = _share(self.hits, self.hits + self.misses)
        kappa, interval = cohen_kappa(self.hits, self.misses, self.alarms, self.rejections)
        return (
            f"| {name} | {self.n} | {precision} | {recall} | {kappa:.3f} [{interval.low:.2f}, {interval.high:.2f}] "
            f"| {self.alarms} | {self.misses} |"
        )


def contains(pair: Pair) -> bool:
    """What a plain matcher says: the answer holds a gold, whatever stands around it."""
    gold = pair.gold
    said = pair.answer.casefold()
    if isinstance(gold, ListAnswer):
        return all(any(alias.casefold() in said for alias in item) for item in gold.items)
    golds = gold.accept if isinstance(gold, TextAnswer) else (gold.shown(),)
    return any(alias.casefold() in said for alias in golds)


def verdict(pair: Pair) -> Match:
    """What the matcher says, without rivals: nobody's labelled answers name any."""
    return match(pair.answer, pair.gold, question=pair.question)


def judged(pair: Pair, found: Match, reasons: Collection[Reason]) -> bool:
    """What a judge that never errs would make of it, were it asked about what the matcher leaves for these reasons."""
    return pair.right if found.for_judge and found.reason in reasons else found.right


def report(pairs: Sequence[Pair], disagreements: int) -> str:
    """Tables in Markdown: the rules, what a perfect judge would add to them, what stays; and `disagreements`."""
    said = [(pair, verdict(pair)) for pair in pairs]
    head = "| {} | n | precision | recall | kappa | wrongly passed | missed |\n|---|---|---|---|---|---|---|"
    lines = [head.format("part")]
    for part in sorted({pair.part for pair in pairs}):
        of_part = [(p, m) for p, m in said if p.part == part]
        lines.append(Agreement.of((p.right, m.right) for p, m in of_part).row(part))
        lines.append(Agreement.of((p.right, contains(p)) for p, _ in of_part).row(f"{part}, plain contains"))
        for name, reasons in CEILINGS:
            lines.append(Agreement.of((p.right, judged(p, m, reasons)) for p, m in of_part).row(f"{part}, {name}"))
    lines += ["", head.format("kind")]
    for kind in sorted({pair.kind for pair in pairs}):
        lines.append(Agreement.of((p.right, m.right) for p, m in said if p.kind == kind).row(kind))
    lines += ["", "| verdict | n | right by people | judge calls | right among these |", "|---|---|---|---|---|"]
    for reason in Reason:
        of_reason = [(p, m) for p, m in said if m.reason is reason]
        asked = [p for p, m in of_reason if m.for_judge]
        if of_reason:
            rights = sum(p.right for p, _ in of_reason)
            lines.append(f"| {reason} | {len(of_reason)} | {rights} | {len(asked)} | {sum(p.right for p in asked)} |")
    wrong = [(p, m.reason) for p, m in said if p.right is not m.right]
    lines += ["", *(f"{r}: {p.question!r} gold {p.gold.shown()!r}: {p.answer!r}" for p, r in wrong[:disagreements])]
    return "\n".join(lines)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.3f}" if whole else "-"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report; 2 when the file does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, default=OURS, help="labelled answers, a JSON object a line")
    parser.add_argument("--part", help="this part alone, such as dev")
    parser.add_argument("--disagreements", type=int, default=0, help="how many disagreements to print")
    options = parser.parse_args(arguments)
    try:
        pairs = parse_lines(read_bytes(options.pairs), Pair, options.pairs)
    except BadInput as error:
        print(error, file=sys.stderr)
        return 2
    print(report([pair for pair in pairs if options.part in {None, pair.part}], options.disagreements))
    return 0


if __name__ == "__main__":
    sys.exit(main())
