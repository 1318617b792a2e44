"""Text of others in Markdown: shown as it is, without effect.

Dagster's own component renders it (its parser, GitHub extensions and sanitiser, out of the installed web UI, in node).
Not shown by that: what a browser or a style sheet does with the elements, and named character references other than the
four of HTML's syntax.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milton_assets.vocabulary import markdown
from tests.support.dagster_markdown import NEEDS_NODE, rendered

HOSTILE = {
    "remote image": "![x](http://evil/x.png)",
    "html image": "<img src=x onerror=alert(1)>",
    "script link": "[a](javascript:alert(1))",
    "link reference": "[a][b] [b]: http://evil",
    "bare address": "see http://evil.example/x_y_z|q and www.evil.example or mail a@evil.example.",
    "upper case address": "HTTPS://EVIL.EXAMPLE WWW.evil.example",
    "name on a forge": "ask @somebody, (@somebody) or x@y",
    "issue on a forge": "fixes #12, closes owner/name#12 and GH-12 :tada:",
    "address in marks": "`http://evil.example` a@b.example`c@d.example",
    "autolink": "<http://evil.example> <a@evil.example>",
    "pipes": "a | b || c \\| d",
    "emphasis": "*a* _b_ **c** __d__ ~~e~~",
    "backticks": "`a` ``b`` ```c",
    "backslashes": "C:\\*x* \\\\_y_",
    "entity": "&lt;b&gt; &amp; &#60;i&#62;",
    "heading": "# big",
    "quote": "> said",
    "rule": "---",
    "underline": "===",
    "list": "- a",
    "numbered": "12. a",
    "task": "[x] done",
    "footnote": "[^1] [^1]: foo",
    "comment": "<!-- hidden --> seen",
    "fence": "~~~js",
}
PLAIN = {"table", "thead", "tbody", "tr", "td", "th", "p", "ul", "li", "div", "h2", "code"}


@NEEDS_NODE
def test_no_markdown_of_others_takes_effect_in_a_cell_an_item_a_heading_or_a_paragraph() -> None:
    safe = {name: markdown.text(foreign) for name, foreign in HOSTILE.items()}
    source = markdown.table(("kind", "text"), HOSTILE.items())
    source += "\n\n" + "\n".join(f"- {line}" for line in safe.values())
    source += "".join(f"\n\n## {line}\n\n{line}" for line in safe.values())
    page = rendered(source + "\n")
    assert page.elements <= PLAIN
    assert page.attributes <= {"classname"}
    assert page.rows[1:] == [[name, foreign] for name, foreign in HOSTILE.items()]
    assert page.items == list(HOSTILE.values())
    for foreign in HOSTILE.values():
        assert page.text.count(foreign) >= 4, foreign


@NEEDS_NODE
@settings(max_examples=25, deadline=None)
@given(st.lists(st.text("\\`*_[]<>&|~!$#-+=.()@:/w1a \n\x1b", min_size=1, max_size=24), min_size=8, max_size=8))
def test_any_mix_of_marks_is_shown_as_it_is(texts: list[str]) -> None:
    page = rendered(markdown.table(("a",), [(f"x{text}x",) for text in texts]))
    shown = [f"x{text}x".replace("\x1b", "\\x1b").replace("\n", " ") for text in texts]
    assert page.elements <= PLAIN
    assert [" ".join(row[0].split()) for row in page.rows[1:]] == [" ".join(line.split()) for line in shown]


@pytest.mark.parametrize(
    ("foreign", "shown"),
    [
        pytest.param("two\r\nlines\there", "two lines here", id="line breaks are spaces"),
        pytest.param("\x1b]0;title\x07\x1b[2J", r"\\x1b\]0;title\\x07\\x1b\[2J", id="control codes are shown"),
        pytest.param("q8_0 at 3 %", r"q8\_0 at 3 %", id="plain words stay"),
        pytest.param("at 14:25:00, 1:2", "at 14:25:00, 1:2", id="a time is no emoji"),
        pytest.param("fixes #12", "fixes `#12`", id="an issue is not closed"),
        pytest.param("closes GH-7 :tada:", "closes `GH-7` `:tada:`", id="nor by another spelling"),
    ],
)
def test_text_stays_on_one_printable_line(foreign: str, shown: str) -> None:
    assert markdown.text(foreign) == shown
