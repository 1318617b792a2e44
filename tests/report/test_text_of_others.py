"""Text that models, servers, registries and data sets wrote is text, whichever way it comes to somebody's eyes.

One hostile text is sent down every way there is: the page, the page in a browser, Markdown as the web UI draws it, and
the terminal.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from milton_assets.assets.evidence import metrics_markdown
from milton_assets.report.page import page, trend_page
from milton_assets.report.text import pull_request, trend_table
from milton_assets.report.vega_lite import MEDIA_TYPE
from milton_assets.selection import card
from milton_assets.selection.outcome import print_outcome
from milton_assets.selection.policy_file import load_policy
from milton_assets.selection.summary import RunSummary
from milton_assets.usecases.measuring import ERROR_EXAMPLES
from milton_assets.usecases.reporting import gather_trend
from milton_assets.usecases.tracking import campaign_run
from milton_assets.vocabulary import markdown
from milton_assets.vocabulary.metric import Metric
from milton_assets.vocabulary.state import StateDir
from tests.support.browser import NEEDS_BROWSER, Document, in_browser, parsed
from tests.support.dagster_markdown import NEEDS_NODE, rendered
from tests.support.reported import NOW, case, decided, gathered, model, query, sources
from tests.support.tiers import TIERS

HOSTILE = (
    "</script><script>document.title='owned'</script>"
    "<img src=http://198.51.100.7/x.png onerror=document.title='owned'>"
    "</title></style><iframe src=//198.51.100.7></iframe>"
    "![remote](http://198.51.100.7/y.png) [link](javascript:document.title='owned') **bold** | cell |"
    " \x1b[2J\x1b]0;owned\x07 \u202egnp.exe <!-- {{ 7*7 }} {% raw %} &lt;b&gt; \u2028 end"
)


@pytest.fixture
def home(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state")


@pytest.fixture
def hostile(home: StateDir) -> RunSummary:
    """A run in which everything that others write is hostile: cases, failures, reasons, the policy's words, notes."""
    texts = dict.fromkeys(("question", "gold", "baseline", "final", "check_question", "check_answer", "error"), HOSTILE)
    said = dict.fromkeys(("query", "document", "failure"), HOSTILE)
    one = model("v1", [case("c1", right=False, kind=HOSTILE, **texts)], [query("q1", 0.4, **said)])
    heard = {ERROR_EXAMPLES: {"http_status": HOSTILE}}
    one = replace(one, tiers={name: replace(result, provenance=heard) for name, result in one.tiers.items()})
    left_out = model("v2", excluded=HOSTILE)
    policy = load_policy("smoke").model_copy(update={"summary": HOSTILE})
    return decided(home, [one, left_out], policy=policy, notes=(HOSTILE,))


def only_our_scripts(document: Document) -> None:
    """Two scripts of our own; all others are data, which no browser runs."""
    kinds = Counter(attributes.get("type", "") for attributes in document.named("script"))
    figures = len(document.named("figure"))
    assert kinds == {"": 2, "application/json": 1, MEDIA_TYPE: figures} and figures > 0


def harmless(html: str) -> None:
    """Nothing of `HOSTILE` became an element, an attribute, or a control character."""
    document = parsed(html)
    counted = {tag: len(document.named(tag)) for tag in ("img", "iframe", "style")}
    assert counted == {"img": 0, "iframe": 0, "style": 1}
    only_our_scripts(document)
    assert not any("198.51.100.7" in value for _, a in document.elements for value in a.values())
    assert not any(name.startswith("on") for _, a in document.elements for name in a)
    assert "\x1b" not in html and "\x07" not in html and "\u202e" not in html and "\u2028" not in html
    assert "49" not in document.text.partition("{{")[2][:10]


def test_text_of_others_is_text_on_the_page(home: StateDir, hostile: RunSummary) -> None:
    html = page(gathered(home, hostile), TIERS)
    harmless(html)
    document = parsed(html)
    assert "<img src=http://198.51.100.7/x.png" in document.text
    inlined = [text for tag, text in document.inlined if tag == "script" and text.startswith("{")]
    assert not any("<" in text for text in inlined)
    data = next(text for text in inlined if '"texts"' in text)
    assert any("</script>" in text for text in json.loads(data)["texts"])


@NEEDS_BROWSER
def test_text_of_others_has_no_effect_in_a_browser(home: StateDir, hostile: RunSummary, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(page(gathered(home, hostile), TIERS))
    shown = in_browser(path)
    assert shown.named("img") == [] and shown.named("iframe") == []
    only_our_scripts(shown)
    assert not any("198.51.100.7" in value for _, a in shown.elements for value in a.values())
    assert "NO VERDICT" in shown.text or "PROMOTE v1" in shown.text
    assert shown.text.count("</script><script>document.title") >= 6
    assert "owned ·" not in shown.text


@NEEDS_NODE
def test_text_of_others_is_text_in_all_markdown_that_the_web_ui_or_a_forge_draws(
    home: StateDir, hostile: RunSummary
) -> None:
    failed = Metric.failed("ttft_ms.median", "ms", HOSTILE, n=3, errors=3)
    ways = {
        "the card": card.to_markdown(hostile.decision, TIERS),
        "reasons": markdown.items((*hostile.decision.reasons, HOSTILE)),
        "a measurement": metrics_markdown((failed,)),
        "for a pull request": pull_request(gathered(home, hostile), TIERS),
        "a trend": trend_table(gather_trend(sources(home), "cove_pass_rate", now=NOW)),
        "MLflow's note": campaign_run(hostile).tags["mlflow.note.content"],
    }
    told = rendered("\n\n".join(ways.values()))
    assert not {"img", "iframe", "script", "a"} & told.elements
    assert not any(name.startswith("on") for name in told.attributes)
    assert "\x1b" not in told.text and "\u202e" not in told.text
    assert told.text.count("<img src=http://198.51.100.7/x.png") >= 3


def test_text_of_others_cannot_steer_the_terminal(home: StateDir, hostile: RunSummary) -> None:
    out = StringIO()
    print_outcome(hostile, home.runs, home, Console(file=out, width=100, highlight=False), TIERS)
    shown = out.getvalue()
    assert [c for c in shown if not c.isprintable() and c != "\n"] == []
    assert "\\x1b" in shown.replace("\n", "") and "[link]" in shown.replace("\n", "").replace(" ", "")


def test_text_of_others_is_text_on_the_page_of_a_trend(home: StateDir, hostile: RunSummary) -> None:
    (home.runs / "benchmark_20260110_000000.json").write_text(json.dumps({"run_id": HOSTILE}))
    trend = gather_trend(sources(home), "cove_pass_rate", now=NOW)
    assert len(trend.unread) == 1
    assert parsed(trend_page(trend)).named("img") == []
