"""API keys: what one may look like, and keeping it out of everything that is kept or shown.

What belongs here: the one check of a key and the one redaction. What does not: where keys are read from
(`resources.api_keys`) and whom they are sent to.
"""

from __future__ import annotations

from milton_assets.vocabulary.errors import BadInput

REDACTED = "[redacted]"
_FIRST, _LAST = "!", "~"


def check_api_key(key: str, where: str) -> str:
    """The key, which a header can carry: visible ASCII. `where` names its source in the error, which tells no
    character of the key. Raises `BadInput`."""
    odd = next((place for place, character in enumerate(key, 1) if not _FIRST <= character <= _LAST), None)
    if not key:
        raise BadInput(f"the API key in {where} is empty", expected="the server's API key")
    if odd is not None:
        raise BadInput(
            f"character {odd} of {len(key)} of the API key in {where} cannot be sent in a header "
            f"({_kind(key[odd - 1])})",
            expected="visible ASCII characters only",
            remedy="copy the key again, without line breaks, spaces or typographic quotes",
        )
    return key


def redact(text: str, *secrets: str | None) -> str:
    """`text` with every secret in it replaced."""
    for secret in filter(None, secrets):
        text = text.replace(secret, REDACTED)
    return text


def _kind(character: str) -> str:
    if character in "\r\n":
        return "a line break"
    if character.isspace():
        return "white space"
    return "a control character" if ord(character) < 0x80 else "not ASCII"
