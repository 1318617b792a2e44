r"""LaTeX that models write into answers, and what formatting leaves behind when it is lost, as plain characters.

What belongs here: the few commands that stand in numbers (`9{,}500`, `\frac{1}{2}`, `10^{3}`, `\boxed{6}`); a space
that was lost before a name ("written byAnna"); the number of a footnote that stuck to a year ("in 19731."). What does
not: typesetting, or reading the numbers (`quantities`).
"""

from __future__ import annotations

import re

_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), plain)
    for pattern, plain in (
        (r"\\(?:left|right|displaystyle)(?![A-Za-z])", ""),
        (r"\\[dt]?frac *\{([^{}]*)\} *\{([^{}]*)\}", r" \1/\2"),
        (r"\\[dt]?frac *(\d)(\d)", r" \1/\2"),
        (r"(?<=\d)\{,\}(?=\d)", ","),
        (r"(?<=\d)\\[,;:! ](?=\d{3})", ""),
        (r"\^ ?\\circ(?![A-Za-z])|\^\{\\circ\}", "°"),
        (r"\^\{([^{}]*)\}", r"^\1"),
        (r"\\(?:times|cdot)(?![A-Za-z])", " × "),
        (r"\\div(?![A-Za-z])", " ÷ "),
        (r"\\approx(?![A-Za-z])", " ≈ "),
        (r"\\(?:text|textbf|mathrm|mathbf|operatorname)\{([^{}]*)\}", r" \1 "),
        (r"\\boxed\{([^{}]*)\}", r" #### \1 "),
        (r"\\([%$&#])", r"\1"),
        (r"\\+[,;:! ]", " "),
    )
)
_MOST_NESTED = 4
_REST_OF_LATEX = str.maketrans("", "", "\\{}")


def without_latex(text: str) -> str:
    """`text` with the commands above replaced, and again where one stood in another; anything else of LaTeX stays,
    unless it nests deeper than numbers do: then its braces and backslashes go. Linear in the text's length, and without
    effect on its own result.
    """
    for _ in range(_MOST_NESTED):
        if "\\" not in text and "{" not in text:
            return text
        before = text
        for pattern, plain in _RULES:
            text = pattern.sub(plain, text)
        if text == before:
            return text
    return text.translate(_REST_OF_LATEX)


_LOST_SPACE = re.compile(
    r"(?<![^\W_])((?:by|in|on|at|of|to|from|for|and|the|was|is|as|with|named|called|In|On|The|By)(?=[A-Z][a-z]{2}))"
)
_LOST_SPACE_AFTER_A_YEAR = re.compile(r"(?<=\b[12]\d{3})(?=(?:in|on|at|by|and|to|of|from|for|with|as)\b)")
_TORN_DECIMAL = re.compile(
    r"(?<=[a-z(] )(\d{1,3})\. {1,2}(?=\d{1,3} ?(?:%|°|(?:million|billion|percent|[kcm]?m|km/h|mph|kg|g|mi|miles"
    r"|met(?:er|re)s|inch(?:es)?|feet|degrees|[KMG]b(?:it|ps)|[KMG]B)\b))"
)
_FOOTNOTE = re.compile(
    r"(\b(?:in|of|on|since|until|by|from|year|[A-Z][a-z]{2,8}(?: \d{1,2}(?:st|nd|rd|th)?,?)?)"
    r" (?:1[5-9]|20)\d\d)[1-9]{1,2}"
    r"(?=\.?\s*(?:\n|$)|\.\s+[A-Z])"
)


def without_artefacts(text: str) -> str:
    """`text` with lost spaces before names put back, torn decimals mended, and numbers of footnotes taken off years."""
    text = _TORN_DECIMAL.sub(r"\1.", text)
    return _FOOTNOTE.sub(r"\1", _LOST_SPACE_AFTER_A_YEAR.sub(" ", _LOST_SPACE.sub(r"\1 ", text)))
