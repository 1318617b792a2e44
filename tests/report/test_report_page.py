"""The page on a campaign: one file, everything in it, text of others as text, private sets kept in."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta
from importlib.resources import files
from pathlib import Path

import pytest
from pydantic import ValidationError

from milton_assets.report.cases import case_data, flips
from milton_assets.report.data import TierPart
from milton_assets.report.drawing import COLOURS, draw
from milton_assets.report.page import page, trend_page
from milton_assets.report.text import pull_request, trend_table
from milton_assets.selection.summary import BundleRecord, RunSummary, change_summary, read_summary
from milton_assets.usecases.measuring import ERROR_EXAMPLES
from milton_assets.usecases.reporting import gather_trend, keep_page, summary_for_bundle
from milton_assets.vocabulary.chart import Axis, Dot, DotChart, DotRow, Join, Line, Place, PlaneChart
from milton_assets.vocabulary.digest import sha256_file
from milton_assets.vocabulary.errors import BadInput, EvidenceMismatch
from milton_assets.vocabulary.state import StateDir
from tests.support.browser import NEEDS_BROWSER, browser_page, in_browser, parsed
from tests.support.reported import NOW, case, decided, gathered, model, query, sources
from tests.support.selection import RUN_ID
from tests.support.tiers import TIERS

LIMIT_BYTES = 3_000_000


@pytest.fixture
def home(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state")


def typical(home: StateDir, **parts: object):
    """Two models of which the challenger gains one case and loses another."""
    old = model(
        "old",
        [case("c1", right=True), case("c2", right=False), case("c3", right=True)],
        [query("q1", 0.4), query("q2", 0.8)],
        cove=2 / 3,
        latency=(30.0, 28.0, 32.0),
        throughput=(50.0, 48.0, 52.0),
    )
    new = model(
        "new",
        [case("c1", right=True), case("c2", right=True), case("c3", right=False)],
        [query("q1", 0.9), query("q2", 0.8)],
        cove=2 / 3,
        latency=(20.0, 19.0, 21.0),
        throughput=(50.0, 48.0, 52.0),
        ndcg=0.85,
    )
    return decided(home, [old, new], **{"incumbent": "old", **parts})


def test_the_page_is_one_file_that_loads_nothing(home: StateDir) -> None:
    document = parsed(page(gathered(home, typical(home)), TIERS))
    policy = next(m["content"] for m in document.named("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    for tag in ("link", "img", "iframe", "object", "embed", "base", "form", "image", "use", "foreignobject"):
        assert document.named(tag) == [], tag
    addresses = {value for _, a in document.elements for name, value in a.items() if name in {"src", "href"}}
    assert all(address.startswith("#") for address in addresses)
    assert not any(name.startswith("on") or name == "style" for _, a in document.elements for name in a)


def test_the_page_tells_what_the_issue_asks_for(home: StateDir) -> None:
    summary = typical(home)
    document = parsed(page(gathered(home, summary), TIERS))
    charts = {attributes["id"] for attributes in document.named("figure")}
    assert {"figure_inference_ttft_ms.median", "pareto", "against_bm25", "probability_best"} <= charts
    assert any(key.startswith("challenge_") for key in charts)
    assert len(document.named("svg")) == len(charts)
    for sha256 in (summary.decision.digest(), summary.decision.manifest_sha256, summary.decision.policy_sha256):
        assert sha256 in document.text
    assert all(pin.sha256 in document.text for pin in summary.manifest.pins())
    for sentence in summary.decision.reasons:
        assert sentence in document.text
    assert "No target has been deployed to yet" in document.text


def test_every_picture_has_its_data(home: StateDir) -> None:
    document = parsed(page(gathered(home, typical(home)), TIERS))
    assert len([a for a in document.named("details") if a.get("class") == "data"]) == len(document.named("figure"))


@NEEDS_BROWSER
def test_a_browser_shows_the_cases_flips_first_and_every_model_side_by_side(home: StateDir, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(page(gathered(home, typical(home)), TIERS))
    shown = in_browser(path)
    assert len([a for a in shown.named("article") if "case" in a.get("class", "")]) == 5
    assert len([a for a in shown.named("div") if a.get("class", "").startswith("answer ")]) == 6
    first = [shown.text.index(question) for question in ("What is c2?", "What is c3?", "Where is q1?", "What is c1?")]
    assert max(first[:2]) < first[3] and first[2] < shown.text.index("Where is q2?")
    for said in (
        "It is Ag.",
        "Which is it?",
        "the answer names a known wrong answer",
        "gained",
        "lost",
        "5 of 5 cases",
    ):
        assert said in shown.text


def test_no_case_of_a_private_set_is_on_the_page(home: StateDir) -> None:
    one = model("v1", [case("c1", right=True, question="zanthoxylum", final="zanthoxylum")], [query("q1", 0.4)])
    summary = decided(home, [one], private=["reasoning/secret/cases.jsonl"])
    data = gathered(home, summary)
    assert "zanthoxylum" not in page(data, TIERS) + pull_request(data, TIERS)
    assert "measured on a private set, so no case is shown" in page(data, TIERS)
    assert "Where is q1?" in page(data, TIERS)


def test_the_data_refuses_cases_of_a_private_set(home: StateDir) -> None:
    shown = gathered(home, typical(home)).tiers[1]
    with pytest.raises(ValidationError, match="private set, whose cases may not be shown"):
        TierPart.model_validate({**shown.model_dump(), "private": True})


def test_ten_models_with_full_sets_stay_within_three_megabytes(home: StateDir) -> None:
    models = []
    for number in range(10):
        long = {name: f"{name} {number} " * 60 for name in ("baseline", "final", "check_question", "check_answer")}
        models.append(
            model(
                f"v{number}",
                [
                    case(f"c{i:03}", right=(i + number) % 3 > 0, **{k: f"{v}{i}" for k, v in long.items()})
                    for i in range(180)
                ],
                [query(f"q{i:03}", i / 180) for i in range(180)],
            )
        )
    data = gathered(home, decided(home, models))
    html = page(data, TIERS)
    assert len(html.encode()) < LIMIT_BYTES
    assert html.count("v9") > 10 and "Where is q179?" in html
    assert "texts are shortened to" in html
    steps = tuple(Place(x=number / 7, y=number / 200) for number in range(1, 201))
    line = Line(name="v0", places=steps, join=Join.STEPS, marked=False)
    many = PlaneChart(key="many", title="Many", x=Axis(label="ms"), y=Axis(label="share"), lines=(line,) * 10)
    crowded = data.model_copy(update={"charts": tuple(many.model_copy(update={"key": f"many{i}"}) for i in range(5))})
    fuller = page(crowded, TIERS)
    assert len(fuller.encode()) < LIMIT_BYTES
    assert _longest(fuller) < _longest(html), "cases give way to pictures"


def _longest(html: str) -> int:
    """To how many characters the page says that it shortened the texts of cases."""
    found = re.search(r"texts are shortened to ([\d,]+) characters", html)
    assert found is not None
    return int(found[1].replace(",", ""))


def test_what_does_not_fit_at_all_is_left_out_and_said(home: StateDir) -> None:
    one = model("v1", [case(f"c{i:03}", right=True, final="x" * 100 + str(i)) for i in range(50)])
    kept = case_data(gathered(home, decided(home, [one])), budget_bytes=6000)
    assert 0 < kept.shown < kept.there_are == 50
    assert len(kept.json.encode()) <= 6000


def test_flips_against_the_incumbent_are_the_decisions_and_told_once(home: StateDir) -> None:
    data = gathered(home, typical(home))
    (found,) = [f for f in data.decision.candidate("new").flips if f.tier == "reasoning"]
    assert (found.won, found.lost, found.n) == (1, 1, 3)
    html = page(data, TIERS)
    assert "Case by case against old" in html and "Flips against" not in html
    assert flips(data) == ()


def test_where_nothing_served_before_flips_are_counted_against_the_leader(home: StateDir) -> None:
    data = gathered(home, typical(home, incumbent=None))
    assert data.reference == "new"
    assert {(f.tier, f.gained, f.lost, f.cases) for f in flips(data)} == {
        ("reasoning", 1, 1, 3),
        ("retrieval", 0, 1, 2),
    }


def test_what_changed_since_the_run_before_is_told(home: StateDir) -> None:
    decided(home, [model("old", cove=0.5)], run_id="benchmark_20260110_000000")
    since = gathered(home, typical(home)).since
    assert since is not None and since.run_id == "benchmark_20260110_000000"
    assert "the candidate new is new" in since.sentences
    assert any(sentence.startswith("the outcome was promote old") for sentence in since.sentences)
    moved = {(f.model, f.metric): f.improved for f in since.figures}
    assert moved["old", "cove_pass_rate"] is True and moved["new", "cove_pass_rate"] is None
    assert moved["old", "ttft_ms.median"] is False


def test_a_figure_is_better_than_in_the_run_before_only_where_the_intervals_do_not_overlap(home: StateDir) -> None:
    decided(
        home,
        [model("old", latency=(40.0, 39.0, 41.0), throughput=(49.0, 47.0, 51.0))],
        run_id="benchmark_20260110_000000",
    )
    told = parsed(page(gathered(home, typical(home)), TIERS)).text
    assert "40.0 → 30.0 msbetter" in told
    assert "49.0 → 50.0 tokens/snot told apart" in told


def test_an_incumbent_that_stays_is_told_as_kept_and_not_as_a_rejection(home: StateDir) -> None:
    decided(home, [model("old", cove=0.5)], run_id="benchmark_20260110_000000")
    since = gathered(home, decided(home, [model("old", cove=0.5)], incumbent="old")).since
    assert since is not None and since.sentences[0] == "the outcome was promote old, now it is keep old"


def test_two_models_are_compared_as_if_the_first_served(home: StateDir) -> None:
    data = gathered(home, typical(home), between=("new", "old"))
    assert data.models == ("new", "old") and data.reference == "new"
    assert data.compared is not None and data.compared.incumbent == "new"
    with pytest.raises(BadInput, match="no candidate"):
        gathered(home, read_summary(home.runs), between=("new", "nobody"))


def test_a_page_on_evidence_that_was_touched_is_not_made(home: StateDir) -> None:
    summary = typical(home)
    table = next(home.benchmarks.glob("reasoning/*.parquet"))
    table.write_bytes(table.read_bytes() + b" ")
    with pytest.raises(EvidenceMismatch, match="was changed"):
        gathered(home, summary)


def test_the_page_lies_beside_the_summary_which_has_its_digest(home: StateDir) -> None:
    typical(home)
    path = keep_page(sources(home), RUN_ID, now=NOW)
    record = read_summary(home.runs).report
    assert path == home.runs / f"{RUN_ID}.html" and record is not None
    assert (home.place(record.path), record.sha256) == (path, sha256_file(path))


def test_a_bundle_has_the_digest_of_the_page_as_it_was_decided_which_later_pages_leave_be(home: StateDir) -> None:
    typical(home)
    path = keep_page(sources(home), RUN_ID, now=NOW)
    as_decided = sha256_file(path)
    held = bundled(home, NOW + timedelta(minutes=1))
    keep_page(sources(home), RUN_ID, now=NOW + timedelta(hours=1))
    assert (held.bundle, held.deployments) == (None, ())
    assert held.report is not None and held.report.sha256 == as_decided != sha256_file(path)
    assert sha256_file(home.place(held.report.path)) == as_decided


def test_a_page_that_was_touched_or_tells_what_came_later_is_made_anew_for_a_bundle(home: StateDir) -> None:
    typical(home)
    path = keep_page(sources(home), RUN_ID, now=NOW)
    path.write_bytes(path.read_bytes() + b" ")
    touched = bundled(home, NOW).report
    record = BundleRecord(path="bundles/edge", name="edge", release_digest="0" * 64)
    change_summary(home.runs, RUN_ID, lambda told: told.model_copy(update={"bundle": record}))
    keep_page(sources(home), RUN_ID, now=NOW)
    later = bundled(home, NOW).report
    assert touched is not None and touched == later
    assert sha256_file(home.place(touched.path)) == touched.sha256 != sha256_file(path)


def bundled(home: StateDir, now: datetime) -> RunSummary:
    """The summary as a bundle of that time holds it."""
    warned: list[str] = []
    held = summary_for_bundle(sources(home), read_summary(home.runs), now=now, on_warning=warned.append)
    assert warned == []
    return held


def test_a_bundle_is_made_without_a_page_that_cannot_be(home: StateDir) -> None:
    summary = typical(home)
    next(home.benchmarks.glob("reasoning/*.parquet")).unlink()
    warned: list[str] = []
    held = summary_for_bundle(sources(home), summary, now=NOW, on_warning=warned.append)
    assert held.report is None and f"names no page on {RUN_ID}" in warned[0]


def test_a_figure_over_campaigns_is_one_page_too(home: StateDir) -> None:
    with pytest.raises(BadInput, match="no benchmark run that can be read has ended"):
        gather_trend(sources(home), "cove_pass_rate", now=NOW)
    decided(home, [model("old", cove=0.5)], run_id="benchmark_20260110_000000")
    typical(home)
    trend = gather_trend(sources(home), "cove_pass_rate", now=NOW)
    assert [(line.name, [place.y for place in line.places]) for line in trend.chart.lines] == [
        ("old", [0.5, pytest.approx(2 / 3)]),
        ("new", [pytest.approx(2 / 3)]),
    ]
    assert parsed(trend_page(trend)).named("svg")
    assert trend_table(trend).splitlines()[2].startswith("| name | decided | "), "no column is empty"
    with pytest.raises(BadInput, match="no campaign was decided on a figure 'beauty'"):
        gather_trend(sources(home), "beauty", now=NOW)


def test_no_label_of_a_picture_leaves_its_frame(home: StateDir) -> None:
    long = "v" * 128
    html = page(gathered(home, decided(home, [model(long, ndcg=0.9), model("b", ndcg=0.4)], incumbent="b")), TIERS)
    for x, words in re.findall(r'<text x="([\d.-]+)"[^>]*class="name end">(?:<title>[^<]*</title>)?([^<]*)', html):
        assert float(x) - 6.4 * len(words) >= 0, words


def test_a_figure_that_is_missing_lies_over_no_other() -> None:
    missing, there = Dot(note="error: no answer came"), Dot(value=0.5, low=0.2, high=0.8)
    several = DotChart(
        key="k", title="t", x=Axis(label="x"), series=("a", "b"), rows=(DotRow(name="r", dots=(missing, there)),)
    )
    alone = several.model_copy(update={"series": ("a",), "rows": (DotRow(name="r", dots=(missing,)),)})
    assert ">×<title>a: error: no answer came</title></text>" in draw(several, {})
    assert ">error: no answer came</text>" in draw(alone, {})


def contrast(one: str, other: str) -> float:
    """Of two colours `rgb(r, g, b)`, as https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio has it."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@NEEDS_BROWSER
def test_what_stands_on_a_bar_can_be_read_in_light_and_dark() -> None:
    """At least 4.5 to 1, as https://www.w3.org/TR/WCAG22/#contrast-minimum asks of small text."""
    style = files("milton_assets.report").joinpath("page.css").read_text()
    kinds = [f"{kind}{number}" for kind in "cp" for number in range(COLOURS)]
    bars = "".join(f'<rect class="{kind} block"/><text class="on">1</text>' for kind in kinds)
    fills = "[...document.querySelectorAll('svg > *')].map(element => getComputedStyle(element).fill)"
    with browser_page() as browser:
        browser.set_content(f"<!doctype html><style>{style}</style><svg>{bars}</svg>")
        for scheme in ("light", "dark"):
            browser.emulate_media(color_scheme=scheme)
            told = browser.evaluate(fills)
            pairs = zip(kinds, told[::2], told[1::2], strict=True)
            read = {kind: contrast(bar, text) for kind, bar, text in pairs}
            assert {kind: ratio for kind, ratio in read.items() if ratio < 4.5} == {}, scheme


LETTERS_IN_PICTURES = """[...document.querySelectorAll('svg text:not([transform])')].map(text => {
  const picture = text.ownerSVGElement;
  return parseFloat(getComputedStyle(text).fontSize) * picture.getBoundingClientRect().width
    / picture.viewBox.baseVal.width;
})"""
TEXTS_BEYOND_THEIR_PICTURE = """[...document.querySelectorAll('svg text')].filter(text => {
  const [own, all] = [text, text.ownerSVGElement].map(e => e.getBoundingClientRect());
  return own.left < all.left - 1 || own.right > all.right + 1
    || own.top < all.top - 1 || own.bottom > all.bottom + 1;
}).map(text => text.textContent)"""


@NEEDS_BROWSER
def test_on_a_telephone_pictures_stay_legible_and_on_paper_it_says_how_many_cases_there_are(
    home: StateDir, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    path.write_text(page(gathered(home, typical(home)), TIERS))
    with browser_page() as browser:
        browser.set_viewport_size({"width": 400, "height": 800})
        browser.goto(path.as_uri())
        heights = browser.evaluate(LETTERS_IN_PICTURES)
        assert min(heights) >= 8, "pixels of a letter"
        assert browser.evaluate(TEXTS_BEYOND_THEIR_PICTURE) == []
        assert browser.evaluate("document.documentElement.scrollWidth") == 400
        browser.emulate_media(media="print")
        assert browser.locator("#count").inner_text() == "5 of 5 cases"
        assert not browser.locator("#search").is_visible()


def test_what_servers_said_at_their_errors_is_told_and_of_a_private_set_it_is_not(home: StateDir) -> None:
    one = model("v1", [case("c1", right=True)], [query("q1", 0.4)])
    said = {"http_status": "answered 400: the prompt has 9 tokens too many"}
    tiers = {name: replace(result, provenance={ERROR_EXAMPLES: said}) for name, result in one.tiers.items()}
    summary = decided(home, [replace(one, tiers=tiers)], private=["reasoning/secret/cases.jsonl"])
    told = page(gathered(home, summary), TIERS)
    line = f"v1, http_status: {said['http_status']}"
    assert told.count(line) == len(tiers) - 1
    assert pull_request(gathered(home, summary), TIERS).count(said["http_status"]) == len(tiers) - 1


def test_a_figure_of_a_device_class_is_a_line_of_its_own(home: StateDir) -> None:
    for run_id, rate in (("benchmark_20260110_000000", 0.5), ("benchmark_20260110_000000.pi5", 0.6)):
        decided(home, [model("old", cove=rate)], run_id=run_id)
    lines = gather_trend(sources(home), "cove_pass_rate", now=NOW).chart.lines
    assert [(line.name, [place.y for place in line.places]) for line in lines] == [
        ("old", [pytest.approx(0.5)]),
        ("old on pi5", [pytest.approx(0.6)]),
    ]
