"""The decision card: the decision as a page that explains itself, for the terminal and in Markdown.

    card.render(decision, Console(), tiers)
    card.to_markdown(decision, tiers)

What belongs here: laying out what the decision says. What does not: computing anything, and pictures (`plots`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from milton_assets.selection.decision import (
    Between,
    CandidateReport,
    Challenge,
    Decision,
    Difference,
    Flips,
    GateAnswer,
    GateOutcome,
    Knowledge,
    LeftOut,
    Reading,
    Standing,
    Verdict,
    WeightChange,
)
from milton_assets.selection.gates import unusable
from milton_assets.selection.policy import Gate, MarginKind, MetricRef
from milton_assets.statistics.variants import KNOWS_AT
from milton_assets.vocabulary import markdown
from milton_assets.vocabulary.chat_template import NO_TEMPLATE
from milton_assets.vocabulary.digest import short
from milton_assets.vocabulary.field_evidence import FieldArm
from milton_assets.vocabulary.figure import DIGITS, figure, rounded, span
from milton_assets.vocabulary.metric import Interval, Metric, Status
from milton_assets.vocabulary.terminal import printable
from milton_assets.vocabulary.tier_spec import Tiers

MAX_ROWS = 20
"""Candidates shown; the decision's JSON has them all."""

MOST_DIGITS = 17
"""So many significant digits tell any two figures apart."""

_PIECES = (28, 24, 20, 17, 15, 13, 12, 11, 10)
_BETWEEN = 2
_SENTENCE = 18
_PARTS = re.compile(r"[^-_./]*[-_./]|[^-_./]+")
_ENDS = re.compile(r"[^–]*–|[^–]+")

_HEADLINE = {
    Verdict.PROMOTE: "PROMOTE {winner}",
    Verdict.REJECT: "REJECT: nothing is promoted",
    Verdict.NO_VERDICT: "NO VERDICT: the evidence cannot tell",
}
_COLOUR = {Verdict.PROMOTE: "green", Verdict.REJECT: "red", Verdict.NO_VERDICT: "yellow"}
_STANDING = {
    Standing.ELIGIBLE: "eligible",
    Standing.FAILED: "failed a gate",
    Standing.INCONCLUSIVE: "inconclusive",
    Standing.NO_EVIDENCE: "no evidence",
}
_KNOWLEDGE = {
    Knowledge.KNOWS: "it knows the answers",
    Knowledge.NO_SIGN: "no sign of it",
    Knowledge.NOT_KNOWN: "not known\ntoo few templates",
}


@dataclass(frozen=True)
class Grid:
    """A table: `rows` of cells, a cell may hold several lines, the first its answer; `caption` explains the columns."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""


@dataclass(frozen=True)
class Lines:
    """A list of sentences."""

    title: str
    lines: tuple[str, ...]


def sections(decision: Decision, tiers: Tiers) -> list[Grid | Lines]:
    """What the card says below its headline, in order; empty parts are left out."""
    parts: list[Grid | Lines] = [Lines("Why this verdict", decision.reasons), _candidates(decision, tiers)]
    if decision.policy.gates:
        parts.append(_gates(decision))
    parts += [
        Lines("Why not the others", tuple(_why_not(decision))),
        *_variants(decision),
        Lines("How sure", (*_how_sure(decision), *_noise(decision))),
        *_challenges(decision),
        *_flips(decision),
        *_field(decision),
        Lines("What would change it", tuple(_sensitivity(decision))),
        Lines("Also note", decision.notes),
        Lines("Rests on", tuple(_rests_on(decision))),
    ]
    return [part for part in parts if isinstance(part, Grid) or part.lines]


def headline(decision: Decision) -> str:
    """The verdict in a few words. Where nothing is promoted because what serves today holds its ground, it is kept."""
    if keeps(decision):
        return f"KEEP {decision.incumbent}: it serves today, and nothing is shown to be better"
    return _HEADLINE[decision.verdict].format(winner=decision.winner)


def outcome(decision: Decision) -> str:
    """The verdict in two words, for a line among others: "promote v2", "keep v1", "reject", "no verdict"."""
    if keeps(decision):
        return f"keep {decision.incumbent}"
    return f"{decision.verdict.replace('_', ' ')} {decision.winner or ''}".rstrip()


def keeps(decision: Decision) -> bool:
    """Whether the incumbent stood, passed the gates and stays. Elsewhere a rejection leaves nothing that is fit."""
    return decision.verdict is Verdict.REJECT and decision.incumbent in {r.version for r in decision.eligible}


def render(decision: Decision, console: Console, tiers: Tiers) -> None:
    """Draw the card; `tiers` have the words for what figures are read against.

    It fits 100 columns; where there are fewer, or names are long, these are broken at their separators, and nothing is
    cut off.
    """
    policy = decision.policy
    colour = "green" if keeps(decision) else _COLOUR[decision.verdict]
    head = Text(headline(decision), style=f"bold {colour}")
    about = printable(f"{decision.run_id}, policy {policy.name} v{policy.version}: {policy.summary}")
    head.append(f"\n{about}", style="not bold default")
    console.print(Panel(head, title="Decision", border_style=colour))
    for part in sections(decision, tiers):
        if isinstance(part, Grid):
            console.print(_grid(part, console.width))
        else:
            console.print(Text(part.title, style="bold"))
            for line in part.lines:
                row = Table.grid(padding=(0, 1, 0, 0))
                row.add_column(width=1)
                row.add_column(overflow="fold")
                row.add_row("•", Text(printable(line)))
                console.print(row)
            console.print()


def to_markdown(decision: Decision, tiers: Tiers) -> str:
    """The card in GitHub-flavoured Markdown, for the metadata of an asset.

    A cell is one line there, with what stands below its answer on the terminal in brackets: Dagster's UI drops `<br>`.
    """
    policy, winner = decision.policy, decision.winner or "none"
    parts = [
        f"## {markdown.text(headline(decision))}",
        f"**Winner:** {markdown.text(winner)}. **Run:** {markdown.text(decision.run_id)}. "
        f"**Policy:** {markdown.text(f'{policy.name} v{policy.version}: {policy.summary}')}",
    ]
    for part in sections(decision, tiers):
        parts.append(f"### {markdown.text(part.title)}")
        if isinstance(part, Grid):
            parts.append(markdown.table(_flat(part.header), map(_flat, part.rows)))
            if part.caption:
                parts.append(markdown.text(part.caption))
        else:
            parts.append("\n".join(f"- {markdown.text(line)}" for line in part.lines))
    return "\n\n".join(parts) + "\n"


def _flat(cells: Iterable[str]) -> list[str]:
    return [_one_line(*cell.split("\n")) for cell in cells]


def _one_line(answer: str, *below: str) -> str:
    if not below:
        return answer
    rest = "; ".join(below)
    return f"{answer} {rest}" if rest.startswith("[") else f"{answer} [{rest}]"


def _lines(text: str, longest: int | None) -> str:
    lines = map(printable, text.split("\n"))
    return "\n".join(lines if longest is None else (_broken(line, longest) for line in lines))


def _broken(line: str, longest: int) -> str:
    """The line, its words in pieces of at most so many characters, where there are separators to break them at."""
    words = []
    for word in line.split(" "):
        pieces = [""]
        for part in (_ENDS if "–" in word else _PARTS).findall(word):
            if pieces[-1] and len(pieces[-1]) + len(part) > longest:
                pieces.append("")
            pieces[-1] += part
        words.append("\n".join(pieces))
    return " ".join(words)


def _grid(part: Grid, width: int) -> Table:
    """The table in that many columns: its words whole if they fit, else broken at separators into the longest pieces
    that do, else folded anywhere."""
    for longest in (None, *_PIECES):
        cells = [[_lines(cell, longest) for cell in row] for row in (part.header, *part.rows)]
        least = [max(map(_least, column)) for column in zip(*cells, strict=True)]
        if sum(least) + _BETWEEN * len(least) <= width:
            return _table(part, cells, least)
    return _table(part, cells, [1] * len(least))


def _table(part: Grid, cells: Sequence[Sequence[str]], least: Sequence[int]) -> Table:
    table = Table(
        title=Text(part.title),
        title_justify="left",
        title_style="bold",
        caption=Text(part.caption) if part.caption else None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    header, *rows = cells
    for title, characters in zip(header, least, strict=True):
        table.add_column(Text(title), overflow="fold", min_width=characters)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _least(cell: str) -> int:
    """How many columns of the terminal a cell needs: its longest word, and enough for a sentence to be read."""
    sentence = max(map(cell_len, cell.splitlines()), default=0)
    return max([_SENTENCE if sentence > _SENTENCE else 0, *map(cell_len, cell.split())])


def _candidates(decision: Decision, tiers: Tiers) -> Grid:
    references = decision.policy.criteria
    header = ["", "candidate", *(_column(decision, reference) for reference in references), "score", "P(best)"]
    # A score is a place between the worst and the best of the pool: of one candidate it says nothing.
    alone = len(decision.eligible) == 1
    rows = []
    for report in decision.candidates[:MAX_ROWS]:
        rows.append(
            (
                "-" if report.rank is None else str(report.rank),
                f"{report.version}\n{_status(decision, report)}",
                *(_figure(report.reading(reference.tier, reference.metric)) for reference in references),
                "-" if report.score is None or alone else f"{report.score:.3f}",
                "-" if report.probability_best is None or alone else _share(report.probability_best),
            )
        )
    more = len(decision.candidates) - len(rows)
    title = "Candidates" + (f" (the first {len(rows)}; {more} more in the JSON)" if more else "")
    names = ", ".join(f"{c.label} is {c.metric}" for c in decision.policy.criteria if c.label != c.metric)
    caption = f"{names}. With each figure its confidence interval. P(best): share of resamplings it leads."
    if decision.baselines:
        caption += f" For comparison: {', '.join(_baseline(reading, tiers) for reading in decision.baselines)}."
    return Grid(title, tuple(header), tuple(rows), caption)


def _baseline(reading: Reading, tiers: Tiers) -> str:
    """The baseline in its tier's words; by its bare prefix where the tier is not installed any more."""
    kind, _, name = reading.metric.name.partition(":")
    spec = tiers.get(reading.tier)
    words = spec.baselines.get(kind, kind) if spec is not None else kind
    return f"{name} of {words} " + _one_line(*_figure(reading.metric).split("\n"))


def _status(decision: Decision, report: CandidateReport) -> str:
    words = "promoted" if report.version == decision.winner else _STANDING[report.standing]
    return f"{words}\nserves today" if report.version == decision.incumbent else words


def _column(decision: Decision, reference: MetricRef) -> str:
    units = (r.reading(reference.tier, reference.metric).unit for r in decision.candidates)
    unit = next((unit for unit in units if unit), "")
    name = next((c.label for c in decision.policy.criteria if c.key == reference.key), reference.metric)
    return f"{name}\n{unit}" if unit else name


def _figure(metric: Metric) -> str:
    if metric.value is None:
        return metric.status.value
    text = figure(metric.value)
    if metric.interval is not None:
        text += f"\n{span(metric.interval.low, metric.interval.high)}"
    if not metric.valid:
        text += "\nnot valid"
    if metric.errors:
        text += f"\n{metric.errors} of {metric.n} failed"
    return text


def _gates(decision: Decision) -> Grid:
    idle = _gates_that_asked_nobody(decision)
    asking = [(place, gate) for place, gate in enumerate(decision.policy.gates) if gate not in idle]
    header = ["candidate", *(f"{gate} ({gate.mode})" for _, gate in asking)]
    rows = [
        (
            report.version,
            *(_gate(report.gates[place], gate, report.reading(gate.tier, gate.metric)) for place, gate in asking),
        )
        for report in decision.candidates[:MAX_ROWS]
    ]
    weighed = {criterion.key for criterion in decision.policy.criteria}
    alone = [gate.metric for _, gate in asking if gate.key not in weighed]
    captions = [f"{', '.join(alone)}: a gate and no ranking, it is weighed in no score."] if alone else []
    captions += [f"The gate {gate} asked nobody: no candidate has the figure." for gate in idle]
    return Grid("Gates", tuple(header), tuple(rows), " ".join(captions))


def _gates_that_asked_nobody(decision: Decision) -> list[Gate]:
    """The gates that ask only where there is a figure, of which there is none."""
    return [
        gate
        for place, gate in enumerate(decision.policy.gates)
        if gate.only_where_measured
        and all(report.gates[place].answer is GateAnswer.NOT_MEASURED for report in decision.candidates)
    ]


def _gate(outcome: GateOutcome, gate: Gate, metric: Metric) -> str:
    answer = outcome.answer.replace("_", " ")
    words = f"{'admitted' if outcome.admits else 'refused'} ({answer})"
    if metric.value is None or outcome.answer is GateAnswer.NOT_MEASURED or unusable(metric) is not None:
        return f"{words}\n{outcome.why}"
    interval = metric.interval
    digits = _telling_digits(gate, [metric.value] if interval is None else [metric.value, interval.low, interval.high])
    below = "no interval is known" if interval is None else span(interval.low, interval.high, digits)
    return f"{words}: {figure(metric.value, digits)}\n{below}"


def _telling_digits(gate: Gate, values: Sequence[float]) -> int:
    """As many digits as everywhere on the card, or as it takes to see on which side of the threshold the values are."""
    return next(
        digits
        for digits in range(DIGITS, MOST_DIGITS + 1)
        if digits == MOST_DIGITS or all(gate.holds(rounded(value, digits)) == gate.holds(value) for value in values)
    )


def _variants(decision: Decision) -> Iterable[Grid | Lines]:
    """What fresh variants showed; one sentence where nobody was asked any."""
    read = [(report, one) for report in decision.candidates[:MAX_ROWS] for one in report.variants]
    asked = [(report, one) for report, one in read if one.templates]
    if not asked:
        if read:
            yield Lines("Published answers", (f"of everybody: {read[0][1].why}",))
        return
    header = ("candidate", "published right", "fresh right", "p (Holm)", "does it know the answers?")
    rows = [
        (
            f"{report.version}\n{one.tier}",
            f"{one.published_right} of {one.templates}" if one.templates else "-",
            f"{one.fresh_right} of {one.fresh}" if one.templates else "-",
            "-" if one.p_value is None or one.p_holm is None else f"{one.p_value:.2g} ({one.p_holm:.2g})",
            _KNOWLEDGE[one.knowledge] + ("\nlet through" if one.allowed else ""),
        )
        for report, one in read
    ]
    seeds = ", ".join(dict.fromkeys(one.seed for _, one in asked if one.seed))
    yield Grid(
        "Published cases against fresh variants of them",
        header,
        tuple(rows),
        f"The fresh variants were drawn by the seed {seeds}, minted for their campaign. Right is in reasoning an "
        "answer whose draft or final version is, only the draft where fresh variants were not verified; in retrieval a "
        "ranking with the passage on top that answers. In at "
        f"most {KNOWS_AT:.0%} of decisions anybody who knows none of the answers is said to know them.",
    )


def _why_not(decision: Decision) -> Iterable[str]:
    chosen = decision.incumbent if keeps(decision) else decision.winner
    others = [report for report in decision.candidates if report.version != chosen]
    if decision.verdict is Verdict.PROMOTE or decision.eligible:
        for report in others[:MAX_ROWS]:
            yield f"{report.version}: {report.why}"
        if len(others) > MAX_ROWS:
            yield f"and {len(others) - MAX_ROWS} more, each with its reason in the JSON"


def _how_sure(decision: Decision) -> Iterable[str]:
    if decision.confidence is not None:
        yield decision.confidence.why
        if decision.confidence.unknown_because:
            yield f"the probability of being best is not known: {decision.confidence.unknown_because}"
    front = [report.version for report in decision.eligible if report.pareto_optimal]
    if len(decision.eligible) > 1:
        yield (
            f"not dominated by any other (Pareto front): {_some(front)}"
            if len(front) > 1
            else f"{front[0]} is at least as good as every other on all criteria"
        )


def _challenges(decision: Decision) -> Iterable[Grid | Lines]:
    challenged = [(r, r.challenge) for r in decision.candidates if r.challenge is not None][:MAX_ROWS]
    if not challenged:
        return
    header = ("challenger", "metric", "better by [interval]", "p (Holm)", "conclusion")
    rows = [
        (report.version, *_difference(difference))
        for report, challenge in challenged
        for difference in (*challenge.differences, *challenge.anchored)
    ]
    yield Grid(f"Against {decision.incumbent}, which serves today", header, tuple(rows))
    yield Lines("May it replace the incumbent?", tuple(_may_replace(r, c) for r, c in challenged))


def _flips(decision: Decision) -> Iterable[Grid]:
    """What each candidate gets right that the incumbent gets wrong, and the other way round."""
    rows = [(report.version, *_flip(flips)) for report in decision.candidates[:MAX_ROWS] for flips in report.flips]
    if not rows:
        return
    header = ("candidate", "metric", "won : lost", "p (exact)", "the same?")
    caption = (
        f"Won: right where {decision.incumbent} is wrong, or the better score; lost: the other way round. The same: "
        "within the policy's margin, by two one-sided tests."
    )
    yield Grid(f"Case by case against {decision.incumbent}", header, tuple(rows), caption)


def _flip(flips: Flips) -> tuple[str, ...]:
    if flips.won is None or flips.lost is None or flips.p_value is None:
        return (flips.metric, "-", "-", f"unknown\n{flips.why}")
    answer = "unknown" if flips.equivalence is None else flips.equivalence.value
    count = f"{flips.won} : {flips.lost}\nof {flips.n}"
    return (flips.metric, count, f"{flips.p_value:.3f}", f"{answer}\n{flips.why}")


def _field(decision: Decision) -> Iterable[Grid]:
    """What canaries said of the incumbent, whose benchmark's figures are in the table of candidates."""
    if not decision.field:
        return
    rows = [
        (
            f"{one.finding.said.replace('_', ' ')}\n{one.finding.why}",
            f"{one.finding.challenger_version}\n{_erred(one.finding.challenger, one.challenger_errors)}",
            f"{', '.join(one.finding.beside)}\n{_erred(one.finding.incumbent, one.incumbent_errors)}",
            f"{one.finding.target or f'{one.finding.devices} devices'}\nsince {one.finding.since:%Y-%m-%d %H:%M}",
            f"{one.follows}\n{one.finding.canary}",
        )
        for one in decision.field[:MAX_ROWS]
    ]
    header = ("the field's verdict", "on\nerrors", "beside\nerrors", "where", "what follows here")
    caption = (
        "Signed verdicts of canaries, in UTC, with 95 % intervals of the error rates where requests are independent. "
        "They enter no score, no gate and no test; weights that the field sent back are no anchor."
    )
    yield Grid(f"What the field said of {decision.incumbent}", header, tuple(rows), caption)


def _erred(arm: FieldArm, interval: Interval | None) -> str:
    told = f"{arm.erred} of {arm.requests} requests"
    if interval is not None:
        return f"{told}\n{_share(arm.units_erred / arm.units)} [{_share(interval.low)}–{_share(interval.high)}]"
    if arm.per_device:
        return f"{told}\n{_share(arm.per_device[0])} to {_share(arm.per_device[-1])} of a device's"
    return told


def _share(value: float) -> str:
    return f"{value:.1%}"


def _may_replace(report: CandidateReport, challenge: Challenge) -> str:
    return f"{report.version}: {'yes' if challenge.replaces else 'no'}, {challenge.why}"


def _difference(difference: Difference) -> tuple[str, ...]:
    percent = difference.kind is MarginKind.RELATIVE

    def signed(value: float) -> str:
        return f"{value + 0.0:+.1%}" if percent else f"{value + 0.0:+.3f}"

    better_by = "unknown"
    if difference.difference is not None:
        better_by = signed(difference.difference)
        if difference.interval is not None:
            better_by += f"\n[{signed(difference.interval.low)}, {signed(difference.interval.high)}]"
    p_value = "-"
    if difference.p_value is not None and difference.p_holm is not None:
        p_value = f"{difference.p_value:.3f} ({difference.p_holm:.3f})\n{_looks(difference.looks)}"
    of = f" against {difference.against}, the best deployed" if difference.against is not None else ""
    of += f"\nas {difference.against_run} measured it" if difference.against_run is not None else ""
    return (f"{difference.metric}{of}\n{difference.test}", better_by, p_value, difference.why)


def _looks(seen: int) -> str:
    """How much evidence there has been since the incumbent serves, and how much of it was looked at."""
    looked = 1 << (seen.bit_length() - 1) if seen else 0
    return f"{seen} seen" if seen == looked else f"{seen} seen, looked at {looked}"


def _noise(decision: Decision) -> Iterable[str]:
    for one in decision.noise:
        what = f"noise of {one.metric} between campaigns"
        if one.between is Between.STARTS:
            what = f"noise of {one.metric} against {decision.incumbent} in rounds in turn, from start to start"
        if one.measured is None or one.below is None:
            yield (
                f"{what}: {one.assumed:.1%}, assumed; nothing was measured twice "
                "here in the same way yet, so only large differences count"
            )
        else:
            yield (
                f"{what}: {one.measured:.1%}, measured here on the same weights "
                f"(below {one.below:.1%}, 95 % sure, {one.freedom} degrees of freedom); "
                f"{one.assumed:.1%} had been assumed"
            )


def _sensitivity(decision: Decision) -> Iterable[str]:
    if decision.sensitivity is None:
        return
    before, weights = decision.eligible[0].version, decision.sensitivity.weights
    for change in weights:
        action = f"with the weight of {change.metric} {'halved' if change.factor < 1 else 'raised by half'}"
        if change.changes:
            yield f"{action}, {_would_be(change)}"
        elif change.leader != before:
            yield f"{action}, {change.leader} would lead the ranking, and the outcome would be the same"
    if not any(change.changes for change in weights):
        yield "no weight, halved or raised by half, changes the outcome"
    for left in decision.sensitivity.left_out[:MAX_ROWS]:
        yield f"without {left.version}, {_would_be(left)}"
    if not decision.sensitivity.left_out:
        yield "nobody, left out, changes the outcome"
    yield from decision.sensitivity.held


def _would_be(outcome: WeightChange | LeftOut) -> str:
    if outcome.winner is not None:
        return f"{outcome.winner} would be promoted"
    return f"nothing would be promoted ({outcome.verdict.replace('_', ' ')})"


def _rests_on(decision: Decision) -> Iterable[str]:
    yield f"policy {decision.policy.name} v{decision.policy.version}, SHA-256 {decision.policy_sha256}"
    yield f"evidence manifest, SHA-256 {decision.manifest_sha256}, taken {decision.decided_at:%Y-%m-%d %H:%M:%S} UTC"
    yield f"this decision, SHA-256 {decision.digest()} ({short(decision.digest())})"
    yield from _templates(decision)
    missing = [
        f"{report.version} {metric.name} is {metric.status}: {metric.why}"
        for report in decision.candidates[:MAX_ROWS]
        for metric in (reading.metric for reading in report.readings)
        if metric.status is not Status.OK
    ]
    yield from missing[:MAX_ROWS]


def _templates(decision: Decision) -> Iterable[str]:
    """Which chat templates the candidates have, the most frequent first."""
    whose: dict[str, list[str]] = {}
    for report in decision.candidates:
        if report.chat_template is not None:
            whose.setdefault(report.chat_template, []).append(report.version)
    for template, versions in sorted(whose.items(), key=lambda item: (-len(item[1]), item[0]))[:MAX_ROWS]:
        named = "no chat template" if template == NO_TEMPLATE else f"chat template, SHA-256 {template}"
        yield f"{named}: {_some(versions)}"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:10])
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10} more"
