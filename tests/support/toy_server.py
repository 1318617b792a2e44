"""A program that plays a model server in a child process: it can be slow, crash, refuse to stop, or have children.

What belongs here: the behaviour of a *process* (`scripted_server` plays the behaviour of answers). Run as a file:

    python toy_server.py --port 8000 [--slow S] [--crash-before MESSAGE] [--stubborn] [--brood FILE]

`GET /crash` crashes it. `TOY_OWNED_BY` in the environment is what it signs its model with.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

STUBBORN_CHILD = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    ready_at = 0.0
    has_health = True
    model = "toy"
    root: str | None = None

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        if self.path == "/crash":
            print("toy server: CUDA error: out of patience", flush=True)
            os._exit(9)
        owner = os.environ.get("TOY_OWNED_BY", "toy")
        pages = {
            "/health": {"status": "ok"},
            "/v1/models": {"object": "list", "data": [{"id": self.model, "root": self.root, "owned_by": owner}]},
            "/version": {"version": "1.2.3"},
            "/environment": dict(os.environ),
            "/arguments": sys.argv[1:],
            "/pid": os.getpid(),
        }
        if not self.has_health:
            del pages["/health"]
        loading = time.monotonic() < self.ready_at
        page = {"error": "loading"} if loading else pages.get(self.path)
        body = json.dumps(page).encode()
        self.send_response(503 if loading else 200 if page is not None else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serve as told."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--slow", type=float, default=0.0)
    parser.add_argument("--crash-before", metavar="MESSAGE")
    parser.add_argument("--stubborn", action="store_true")
    parser.add_argument("--brood", type=Path, help="start children in sessions of their own; their ids go here")
    parser.add_argument("--no-health", action="store_true")
    parser.add_argument("--served-model-name", default="toy")
    parser.add_argument("--model")
    options, _ = parser.parse_known_args()
    print(f"toy server starting on port {options.port}", flush=True)
    if options.crash_before is not None:
        print(options.crash_before, file=sys.stderr, flush=True)
        sys.exit(3)
    if options.stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if options.brood:
        heir = "import subprocess, sys; "
        heir += f"child = subprocess.Popen([sys.executable, '-c', {STUBBORN_CHILD!r}], stdout=subprocess.DEVNULL); "
        heir += "print(child.pid)"
        child = subprocess.Popen([sys.executable, "-c", STUBBORN_CHILD], start_new_session=True)
        # This one's parent ends at once: an orphan that only a subreaper can find.
        orphan = subprocess.run(
            [sys.executable, "-c", heir], start_new_session=True, stdout=subprocess.PIPE, text=True, check=True
        )
        options.brood.write_text(f"{child.pid} {orphan.stdout.strip()}")
    _Handler.ready_at = time.monotonic() + options.slow
    _Handler.has_health = not options.no_health
    _Handler.model = options.served_model_name
    _Handler.root = options.model
    ThreadingHTTPServer((options.host, options.port), _Handler).serve_forever()


if __name__ == "__main__":
    main()
