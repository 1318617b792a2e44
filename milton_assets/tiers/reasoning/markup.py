r"""LaTeX that models write into answers, as plain characters.

What belongs here: the few commands that stand in numbers (`9{,}500`, `\frac{1}{2}`, `10^{3}`, `\boxed{6}`). What does
not: typesetting, or reading the numbers (`quantities`).
"""

from __future__ import annotations

import re

_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), plain)
    for pattern, plain in (
        (r"\\(?:left|right|displaystyle)(?![A-Za-z])", ""),
        (r"\\[dt]?frac ?\{([^{}]*)\} ?\{([^{}]*)\}", r" \1/\2"),
        (r"\\[dt]?frac ?(\d)(\d)", r" \1/\2"),
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
        (r"\\[,;:! ]", " "),
    )
)


def without_latex(text: str) -> str:
    """`text` with the commands above replaced; anything else of LaTeX stays. Linear in the text's length."""
    if "\\" not in text and "{" not in text:
        return text
    for pattern, plain in _RULES:
        text = pattern.sub(plain, text)
    return text
