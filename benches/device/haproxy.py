"""HAProxy as a do-nothing proxy, for what a native one costs. Run by `bench_serving.py` where it is installed.

    python haproxy.py HOST PORT FOLDER

One thread, HTTP, connections to the server kept and shared, nothing held back (`http-no-delay`). It prints where it
listens, as the gateway does, and becomes HAProxy; its settings lie in FOLDER.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from pathlib import Path

SETTINGS = """global
    nbthread 1
defaults
    mode http
    option http-no-delay
    http-reuse always
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen forwarder
    bind fd@{descriptor}
    server there {host}:{port}
"""


def main() -> None:
    """Forward until SIGTERM."""
    host, port, folder = sys.argv[1:]
    program = shutil.which("haproxy") or sys.exit("haproxy is not installed")
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    listener.set_inheritable(True)
    settings = Path(folder) / "haproxy.cfg"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(SETTINGS.format(descriptor=listener.fileno(), host=host, port=port))
    print(f"listening at http://127.0.0.1:{listener.getsockname()[1]}/v1", flush=True)
    os.execv(program, [program, "-q", "-db", "-f", str(settings)])


if __name__ == "__main__":
    main()
