"""The report as Markdown, for a pull request or a chat.

    pull_request(data, tiers)

What belongs here: what is left of the page where there are no pictures. What does not: the decision card, which is
`milton_assets.selection.card`'s, and escaping (`milton_assets.vocabulary.markdown`).
"""

from __future__ import annotations

from collections.abc import Iterator

from milton_assets.report.cases import flips
from milton_assets.report.data import ReportData, Serving, TrendData
from milton_assets.report.drawing import data_rows
from milton_assets.selection import card
from milton_assets.vocabulary import markdown
from milton_assets.vocabulary.figure import figure
from milton_assets.vocabulary.tier_spec import Tiers


def pull_request(data: ReportData, tiers: Tiers) -> str:
    """The card with its digests, what serves, the flips, servers' errors, and what changed since the run before."""
    return "\n\n".join([card.to_markdown(data.decision, tiers).rstrip(), *_parts(data)]) + "\n"


def trend_table(trend: TrendData) -> str:
    """One figure over campaigns as a table, without the columns that no row of it fills."""
    header, rows = data_rows(trend.chart)
    filled = [column for column, cells in enumerate(zip(*rows, strict=True)) if any(cells)]
    lines = [
        f"## {markdown.text(trend.chart.title)}",
        markdown.table([header[c] for c in filled], [[row[c] for c in filled] for row in rows]),
    ]
    lines += [f"- {markdown.text(sentence)}" for sentence in trend.unread]
    return "\n\n".join(lines) + "\n"


def _parts(data: ReportData) -> Iterator[str]:
    if data.serving:
        yield "### What serves"
        header = ("target", "model", "since", "by the decision of", "health")
        yield markdown.table(header, map(_serving, data.serving))
    if found := flips(data):
        yield f"### Flips against {markdown.text(data.reference or '')}"
        header = ("model", "tier", "gained", "lost", "cases of both")
        yield markdown.table(header, [(f.model, f.tier, str(f.gained), str(f.lost), str(f.cases)) for f in found])
    said = [
        f"{model}, {tier.name}, {kind}: {words}"
        for tier in data.tiers
        for model, kinds in tier.said.items()
        for kind, words in kinds.items()
    ]
    if said:
        yield "### What servers said at the first error of each kind"
        yield markdown.items(said)
    yield "### What changed since the last run"
    if data.since is None:
        yield markdown.text(data.no_since)
    else:
        yield "\n".join(f"- {markdown.text(sentence)}" for sentence in data.since.sentences)
        moved = [f for f in data.since.figures if f.before is not None and f.now is not None]
        if moved:
            yield markdown.table(
                ("model", "figure", "then", "now"),
                [(f.model, f.metric, figure(f.before or 0.0), figure(f.now or 0.0)) for f in moved],
            )


def _serving(one: Serving) -> tuple[str, ...]:
    since = f"{one.since:%Y-%m-%d %H:%M} UTC" if one.since else "–"
    health = {True: "well", False: "not well", None: "never probed"}[one.well]
    return (one.target, one.model_version or "nothing", since, one.run_id or "–", "; ".join([health, *one.problems]))
