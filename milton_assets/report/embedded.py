"""JSON that stands in a page's `<script>`, whoever wrote its texts.

    <script type="application/json">{{ embedded(value) }}</script>

What belongs here: that encoding, by which none of it can end the script. What does not: what is encoded.
"""

from __future__ import annotations

import json
from typing import Any

_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def embedded(value: Any) -> str:
    """The value as compact JSON in which no character means anything to HTML. Raises `ValueError` for NaN."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character, escape in _UNSAFE.items():
        text = text.replace(character, escape)
    return text
