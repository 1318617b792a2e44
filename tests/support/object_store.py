"""A real S3 server on loopback, moto's, in this process.

What belongs here: a bucket to write to, and how many bytes were read from it. What does not: several hosts
(`tests.support.cluster`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem
from upath import UPath

from tests.support.own_sshd import free_port


@dataclass
class Given:
    """How many bytes of its answers' bodies a server has given out."""

    size_bytes: int = 0

    def counting(self, app: Any) -> Any:
        """The WSGI application `app`, counted."""

        def counted(environ: Any, start_response: Any) -> Iterator[bytes]:
            for chunk in app(environ, start_response):
                self.size_bytes += len(chunk)
                yield chunk

        return counted


def forget_object_stores() -> None:
    """Have this process look anew where the environment says that the object store is: a client keeps its address."""
    S3FileSystem.clear_instance_cache()


@contextmanager
def object_store(given: Given | None = None) -> Iterator[UPath]:
    """An empty bucket, until the block ends: one of its own, since all servers of a process share what they hold.

    What the server gives out is counted in `given`.
    """
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    if given is not None:
        server._server.app = given.counting(server._server.app)
    try:
        host, port = server.get_host_and_port()
        name = f"milton-{uuid4().hex}"
        bucket = UPath(f"s3://{name}", key="test", secret="test", endpoint_url=f"http://{host}:{port}")
        bucket.fs.mkdir(name)
        yield bucket
    finally:
        server.stop()
        forget_object_stores()


@contextmanager
def nobody_answers() -> Iterator[dict[str, str]]:
    """The variables of an environment whose object store is away: nobody listens at its address."""
    try:
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_MAX_ATTEMPTS": "1",
        }
    finally:
        forget_object_stores()
