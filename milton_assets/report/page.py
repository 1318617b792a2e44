"""The report as one HTML file that needs nothing else: no network, no second file.

    page(data, tiers)

What belongs here: what stands where, and the page's security. What does not: charts' geometry (`drawing`), the cases'
data (`cases`) and colours (`page.css`).

Whatever others wrote is shown as text: the template escapes every value, control characters are shown as their codes,
cases travel as JSON and enter the page by `textContent` only, and a Content-Security-Policy lets nothing run, load or
be sent but the page's own style and script, which it names by their digests.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from milton_assets.report.cases import BUDGET_BYTES, CaseData, case_data, flips
from milton_assets.report.data import FigureChange, ReportData, RolloutData, RolloutRow, Serving, TrendData
from milton_assets.report.drawing import COLOURS, data_rows, draw, legend
from milton_assets.report.embedded import embedded
from milton_assets.report.vega_lite import MEDIA_TYPE, vega_lite
from milton_assets.selection import card
from milton_assets.selection.decision import Standing
from milton_assets.vocabulary.chart import Chart
from milton_assets.vocabulary.figure import figure
from milton_assets.vocabulary.terminal import printable
from milton_assets.vocabulary.tier_spec import Tiers

LIMIT_BYTES = 3_000_000
"""What a page may have."""

_HERE = Path(__file__).parent
_ROOM_BYTES = 20_000


@dataclass(frozen=True)
class Picture:
    """A chart as the page shows it: its drawing, its colours' names, and its data, as a table and as Vega-Lite."""

    chart: Chart
    svg: Markup
    legend: tuple[tuple[str, int], ...]
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    vega_lite: Markup


def page(data: ReportData, tiers: Tiers) -> str:
    """The whole page; `tiers` have the words for what figures are read against."""
    colours = {model: number % COLOURS for number, model in enumerate(data.models)}
    parts = {
        "data": data,
        "decision": data.decision,
        "headline": card.headline(data.decision),
        "tone": "promote" if card.keeps(data.decision) else data.decision.verdict.value,
        "parts": _card(data, tiers),
        "charts": [_picture(chart, colours) for chart in data.charts],
        "tiers": [(tier, [_picture(chart, colours) for chart in tier.charts]) for tier in data.tiers],
        "flips": flips(data),
        "chain": list(_chain(data)),
        "eligible": sum(report.standing is Standing.ELIGIBLE for report in data.decision.candidates),
    }

    def with_cases(cases: CaseData) -> str:
        return _rendered(
            "page.html.j2",
            **parts,
            cases=cases,
            has_cases=cases.shown > 0,
            cases_json=Markup(cases.json),  # noqa: S704 - `embedded` leaves no `<` in it
            shortened=_shortened(cases),
        )

    # Cases are what gives way: they may be as long as the rest of the page lets them.
    rest = len(with_cases(CaseData("", None, 0, 0)).encode()) + _ROOM_BYTES
    return with_cases(case_data(data, min(BUDGET_BYTES, LIMIT_BYTES - rest)))


def trend_page(trend: TrendData) -> str:
    """A page on one figure over campaigns."""
    return _rendered("trend.html.j2", trend=trend, shown=_picture(trend.chart, {}))


def rollout_page(rollout: RolloutData) -> str:
    """A page on one rollout over a fleet."""
    left_out = f"{rollout.left_out} devices that stood, or had the release before, are left out."
    return _rendered(
        "rollout.html.j2",
        rollout=rollout,
        tone="promote" if rollout.is_well else "no_verdict",
        shown=_picture(rollout.chart, {}),
        waves=_table("Waves", rollout.wave_header, rollout.waves, ""),
        devices=_table("Devices", rollout.device_header, rollout.devices, left_out),
    )


def _table(title: str, header: tuple[str, ...], rows: tuple[RolloutRow, ...], caption: str) -> dict[str, Any]:
    """A table as the template's parts have it: cells as lines."""
    return {
        "title": title,
        "header": [[cell] for cell in header],
        "rows": [[[cell] for cell in row.cells] for row in rows],
        "caption": caption,
    }


def _rendered(template: str, **parts: Any) -> str:
    """The page with those parts, with our own style and scripts and the policy that names them."""
    style, figures, cases = (_read(name) for name in ("page.css", "figures.js", "cases.js"))
    return (
        _environment()
        .get_template(template)
        .render(
            **parts,
            style=Markup(style),  # noqa: S704 - our own file
            figures_script=Markup(figures),  # noqa: S704 - our own file
            cases_script=Markup(cases),  # noqa: S704 - our own file
            media_type=MEDIA_TYPE,
            policy=_content_security_policy(style, figures, cases),
        )
    )


def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=FileSystemLoader(_HERE),
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters |= {"change": _change, "improved": _improved, "health": _health}
    return environment


def _shown(value: Any) -> Any:
    """What the template prints: text of others without control characters, our own markup as it is."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _content_security_policy(style: str, *scripts: str) -> str:
    sources = {"style-src": [style], "script-src": scripts}
    named = [
        " ".join([directive, *(f"'sha256-{_digest(text)}'" for text in texts)]) for directive, texts in sources.items()
    ]
    return "; ".join(["default-src 'none'", *named, "base-uri 'none'", "form-action 'none'"])


def _digest(text: str) -> str:
    return b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _picture(chart: Chart, colours: Mapping[str, int]) -> Picture:
    header, rows = data_rows(chart)
    svg = Markup(draw(chart, colours))  # noqa: S704 - ElementTree escaped every text in it
    spec = Markup(embedded(vega_lite(chart)))  # noqa: S704 - `embedded` leaves no `<` in it
    return Picture(chart, svg, legend(chart, colours), header, rows, spec)


def _card(data: ReportData, tiers: Tiers) -> list[dict[str, Any]]:
    """The parts of the decision card, tables with their cells as lines."""
    parts: list[dict[str, Any]] = []
    for part in card.sections(data.decision, tiers):
        if isinstance(part, card.Grid):
            parts.append(
                {
                    "title": part.title,
                    "header": [cell.split("\n") for cell in part.header],
                    "rows": [[cell.split("\n") for cell in row] for row in part.rows],
                    "caption": part.caption,
                }
            )
        else:
            parts.append({"title": part.title, "lines": part.lines})
    return parts


def _shortened(cases: CaseData) -> str:
    said = []
    if cases.longest is not None:
        said.append(f"texts are shortened to {cases.longest:,} characters")
    if cases.shown < cases.there_are:
        said.append(f"{cases.there_are - cases.shown} of {cases.there_are} cases are left out")
    return f"To keep this page small, {' and '.join(said)}; the evidence has them whole." if said else ""


def _chain(data: ReportData) -> Iterator[tuple[str, str, str]]:
    """Every link, from what serves to the weights: what it is, which one, and its SHA-256."""
    manifest = data.manifest
    for done in data.deployments:
        yield "deployment", f"{done.id} on {done.target}", done.release
    if data.bundle is not None:
        yield "bundle", data.bundle.name, data.bundle.release_digest
    yield "decision", data.run_id, data.decision.digest()
    yield "policy", f"{manifest.policy_name} v{data.decision.policy.version}", manifest.policy_sha256
    yield "evidence manifest", data.run_id, data.decision.manifest_sha256
    for candidate in manifest.candidates:
        if candidate.model_version not in data.models:
            continue
        yield "registry entry", candidate.model_version, candidate.entry_sha256
        yield (
            "weights",
            f"{candidate.model_version}, {candidate.artefact_size_bytes:,} bytes",
            candidate.artefact_sha256,
        )
        for pin in candidate.pins:
            yield f"{pin.tier} table", pin.uri, pin.sha256
    for name, sha256 in manifest.goldens.items():
        yield "golden, private" if name in manifest.private_goldens else "golden", name, sha256


def _change(change: FigureChange) -> str:
    before, now = ("not measured" if value is None else figure(value) for value in (change.before, change.now))
    return f"{before} → {now} {change.unit}".rstrip()


def _improved(change: FigureChange) -> str:
    if change.before is None or change.now is None:
        return ""
    if change.improved is not None and not change.apart:
        return "not told apart"
    return {True: "better", False: "worse", None: "same"}[change.improved]


def _health(serving: Serving) -> str:
    return {True: "well", False: "not well", None: "never probed"}[serving.well]
