"""A chat template by its digest, and what a candidate descends from: what two templates are held against.

What belongs here: naming a template, a model's lineage, and showing how two templates differ. What does not: reading
one out of a file (`gguf`, `hf_directory`) and what follows from a difference (`milton_assets.selection.templates`). No
module of ours renders one: a template is code, and only the servers' sandboxes run it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, StringConstraints

from milton_assets.vocabulary.digest import Sha256

NO_TEMPLATE: Final = "none"
MAX_COMPARED_LINES: Final = 2000
MAX_SHOWN_LINES: Final = 60
_MAX_LINE_CHARACTERS: Final = 200

TemplateId = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64}|none)$")]
"""The SHA-256 of a template's text, or `none` for a model without one: the server then uses a template of its own."""


def template_id(sha256: str | None) -> str:
    """The name of the template with that digest, or of having none."""
    return NO_TEMPLATE if sha256 is None else sha256


class Lineage(BaseModel):
    """What a candidate descends from, as far as its template can be held against another's.

    `base_template` is that of the model it was made from, None where that model's files are not known here.
    `tokenizer_sha256` is equal for models that read text alike.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_model: str | None = None
    template: TemplateId = NO_TEMPLATE
    base_template: TemplateId | None = None
    tokenizer_sha256: Sha256 | None = None


def changes(base: str | None, template: str | None) -> tuple[str, ...]:
    """How `template` differs from `base`, as the lines of a unified diff; none when they are equal.

    At most `MAX_SHOWN_LINES` lines of at most 200 characters, so that no template can flood a terminal; the text is
    somebody else's and is to be printed as such.
    """
    before, after = ((text or "").splitlines()[:MAX_COMPARED_LINES] for text in (base, template))
    if base == template:
        return ()
    if before == after:
        return ("(they differ beyond the part that is compared, or in how their lines end)",)
    found = difflib.unified_diff(before, after, "base model", "this model", lineterm="", n=1)
    shown = list(islice(_cut(found), MAX_SHOWN_LINES + 1))
    if len(shown) > MAX_SHOWN_LINES:
        shown[MAX_SHOWN_LINES:] = [f"(more than {MAX_SHOWN_LINES} lines; the rest is not shown)"]
    return tuple(shown)


def _cut(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        left = len(line) - _MAX_LINE_CHARACTERS
        yield line if left <= 0 else f"{line[:_MAX_LINE_CHARACTERS]}… ({left} more characters)"
