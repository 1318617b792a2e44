"""A program that plays `llama-server`: it loads nothing and streams as many tokens as are asked for, at a set pace.

What belongs here: what a launcher and the inference tier ask of that program. What does not: any other behaviour
(`toy_server` plays processes that fail, `scripted_server` answers that do). Run as a file, by a launcher's arguments:

    python stub_llama_server.py --model FILE --alias NAME --host 127.0.0.1 --port N --parallel 1 --threads 2

`STUB_TOKEN_MS` in its environment is the time between two tokens, for all models (`2`) or by name (`small=2,large=9`),
where it serves no other; `STUB_FIRST_MS` how much more the first one takes; `STUB_SAYS` a word that all its answers
begin with, and `STUB_BUILD` the build that it says it is.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_OPTIONS = "-t, --threads N  -b, --batch-size N  -ub, --ubatch-size N  -ctk, --cache-type-k TYPE"


def _by_name(told: str, model: str) -> dict[str, str]:
    return dict(part.split("=") for part in told.split(",")) if "=" in told else {model: told}


def first_s(model: str) -> float:
    """Seconds by which the first token of that model takes longer than another."""
    return float(_by_name(os.environ.get("STUB_FIRST_MS", "0"), model).get(model, "0")) / 1e3


def token_s(model: str) -> float:
    """Seconds between two tokens of that model."""
    by_name = _by_name(os.environ.get("STUB_TOKEN_MS", "2"), model)
    if model not in by_name:
        raise SystemExit(f"no memory for {model}")
    return float(by_name[model]) / 1e3


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    options: argparse.Namespace

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        options = self.options
        pages: dict[str, Any] = {
            "/health": {"status": "ok"},
            "/v1/models": {"object": "list", "data": [{"id": options.alias, "owned_by": "llamacpp"}]},
            "/props": {
                "build_info": os.environ.get("STUB_BUILD", "stub-1"),
                "model_path": options.model,
                "total_slots": options.parallel,
                "chat_template": "{{ messages }}",
                "default_generation_settings": {"n_ctx": options.ctx_size // options.parallel},
            },
        }
        page = pages.get(self.path)
        self._send(json.dumps(page).encode(), 200 if page is not None else 404)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/tokenize":
            self._send(json.dumps({"tokens": list(range(len(body["content"].split())))}).encode())
            return
        if self.path == "/completion":
            # Expects the text's own token at nine places of ten, and another one else.
            ((token, _),) = body["logit_bias"]
            listed = [{"id": token, "logprob": -0.105}, {"id": token + 1, "logprob": -2.4}][: body["n_probs"]]
            place = {**listed[0], "top_logprobs": listed}
            self._send(json.dumps({"content": " so", "completion_probabilities": [place]}).encode())
            return
        question = body["messages"][-1]["content"]
        words = [os.environ.get("STUB_SAYS", "so"), *(f"{n}{question[:1]}" for n in range(1, body["max_tokens"]))]
        usage = {"prompt_tokens": len(question.split()), "completion_tokens": len(words)}
        if not body.get("stream"):
            time.sleep(token_s(self.options.alias) * len(words))
            choice = {"index": 0, "message": {"content": " ".join(words)}, "finish_reason": "length"}
            self._send(json.dumps({"choices": [choice], "usage": usage}).encode())
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        time.sleep(first_s(self.options.alias))
        for number, word in enumerate(words, 1):
            time.sleep(token_s(self.options.alias))
            finish = "length" if number == len(words) else None
            self._event({"choices": [{"index": 0, "delta": {"content": f" {word}"}, "finish_reason": finish}]})
        self._event({"choices": [], "usage": usage})
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _event(self, event: Any) -> None:
        self._chunk(b"data: " + json.dumps(event).encode() + b"\n\n")

    def _chunk(self, raw: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(raw), raw))

    def _send(self, raw: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


def program(folder: Path) -> Path:
    """An executable in `folder` that runs this file: a `llama-server` to name in settings."""
    path = folder / "llama-server"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).resolve()} "$@"\n')
    path.chmod(0o755)
    return path


def program_by_flags(folder: Path, *, options: str = _OPTIONS) -> Path:
    """The same, ten times as fast with one thread, that dies of a batch of 128; `options` is its help."""
    path = folder / "llama-server"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"""#!/bin/sh
case " $* " in
*" --help "*) echo "{options}"; exit 0;;
*" --ubatch-size 128 "*) echo "no batch of 128 here" >&2; exit 1;;
*" --threads 1 "*) STUB_TOKEN_MS=1;;
*) STUB_TOKEN_MS=10;;
esac
export STUB_TOKEN_MS
exec {sys.executable} {Path(__file__).resolve()} "$@"
"""
    )
    path.chmod(0o755)
    return path


def main() -> None:
    """Serve as told, until a signal."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--model", required=True)
    parser.add_argument("--alias", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ctx-size", type=int, default=4096)
    parser.add_argument("--parallel", type=int, default=1)
    _Handler.options, _ = parser.parse_known_args()
    token_s(_Handler.options.alias)
    ThreadingHTTPServer((_Handler.options.host, _Handler.options.port), _Handler).serve_forever()


if __name__ == "__main__":
    main()
