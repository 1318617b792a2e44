"""Whom to trust over TLS: the system's certificates, and those a user names beside them.

What belongs here: the one place that makes a client's TLS context. What does not: connections.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from milton_assets.vocabulary.errors import BadInput


def trusting(ca_file: Path | None) -> ssl.SSLContext:
    """A client's context. Raises `BadInput` when `ca_file` cannot be read or holds no certificate."""
    context = ssl.create_default_context()
    if ca_file is None:
        return context
    try:
        context.load_verify_locations(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise BadInput(
            f"{ca_file} gives no certificate to trust ({error})",
            expected="a file of certificates in PEM form",
            remedy="name the certificate of the server, or of the authority that signed it",
        ) from error
    return context
