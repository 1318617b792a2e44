"""Runs wait for an object store that is away, and say so on their page.

    wait_for_the_object_store()      # before the process asks it for the first time

What belongs here: how often a request is tried. What does not: what is asked, and other stores than S3's. A person's
command fails within seconds, which is what the client does by itself; a run that has measured for an hour must not be
lost because the store was restarted when it was to write its table. The trying is botocore's own, by its own variables
(https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html), which whoever starts the process may set.
"""

from __future__ import annotations

import logging
import os

TRIES = 40
"""The waits double up to 20 s, each by chance between nothing and that: five to eight minutes in all."""

_TOLD_BY = "botocore.retries.standard"
_log = logging.getLogger("milton.object_store")


class _Waiting(logging.Handler):
    """Tells in our words, on a logger that `deploy/dagster.yaml` shows on a run's page, that a request is repeated."""

    def emit(self, record: logging.LogRecord) -> None:
        """Called for everything that botocore says of retries."""
        if str(record.msg).startswith("Retry needed") and isinstance(record.args, tuple):
            seconds = float(str(record.args[0]))
            _log.warning("the object store does not answer; asking again in %.1f s, %d times at most", seconds, TRIES)


def wait_for_the_object_store() -> None:
    """Have this process, and those that it starts, try a request for minutes."""
    os.environ.setdefault("AWS_RETRY_MODE", "standard")
    os.environ.setdefault("AWS_MAX_ATTEMPTS", str(TRIES))
    told = logging.getLogger(_TOLD_BY)
    if not any(isinstance(handler, _Waiting) for handler in told.handlers):
        told.addHandler(_Waiting())
        told.setLevel(logging.DEBUG)
        told.propagate = False
