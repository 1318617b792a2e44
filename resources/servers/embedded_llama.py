"""llama.cpp's server inside a Python process of its own, from the `xllamacpp` wheel: nothing to compile or install.

    python -P embedded_llama.py --model FILE --alias NAME --port N [--ctx-size N] [--parallel N] [--threads N]
        [--embedding] [--set NAME=VALUE …]

What belongs here: this program. What does not: imports of ours, since it is run as a file; starting and stopping it
(`llama_cpp`). Options are named as `llama-server` names them; `--set` sets any number or truth value among xllamacpp's
`CommonParams`, e.g. `--set n_batch=512`.
"""

from __future__ import annotations

import argparse
import signal
import sys
from importlib.metadata import version
from typing import Any

try:
    import xllamacpp
except ImportError as error:
    # A small system (a container's, a device's) may lack the library that OpenMP needs; no wheel brings it.
    sys.exit(f"xllamacpp does not load: {error}; libgomp.so.1 is in the package libgomp1 of Debian and Ubuntu")


def parameters(options: argparse.Namespace) -> Any:
    """The server's parameters. Raises `SystemExit` for a `--set` that names nothing, or no number or truth value."""
    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.model_alias = {options.alias}
    params.hostnames = [options.host]
    params.port = options.port
    params.n_parallel = options.parallel
    params.n_ctx = options.ctx_size
    params.use_jinja = True
    params.endpoint_props = True
    params.endpoint_metrics = True
    params.ui = False
    params.embedding = options.embedding
    # Every slot has its own share of the context, so that one request cannot take another's.
    params.kv_unified = False
    if options.threads:
        params.cpuparams.n_threads = options.threads
        params.cpuparams_batch.n_threads = options.threads
    for setting in options.set:
        name, _, value = setting.partition("=")
        kind = type(getattr(params, name, None))
        if kind not in {int, float, bool}:
            sys.exit(f"--set {setting}: xllamacpp has no number or truth value called {name}")
        try:
            setattr(params, name, value.lower() in {"1", "true"} if kind is bool else kind(value))
        except ValueError:
            sys.exit(f"--set {setting}: {value!r} is no {kind.__name__}")
    return params


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--alias", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ctx-size", type=int, default=4096)
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--embedding", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args()
    stop = {signal.SIGTERM, signal.SIGINT}
    # Blocked before the server starts its threads, which inherit it: only sigwait below may take them.
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)
    print(f"xllamacpp {version('xllamacpp')}", flush=True)  # noqa: T201 - the log
    try:
        server = xllamacpp.Server(parameters(options))
    except RuntimeError as error:
        sys.exit(f"llama.cpp did not start: {error}")
    print(f"serving at {server.listening_address}", flush=True)  # noqa: T201 - the log
    signal.sigwait(stop)


if __name__ == "__main__":
    main()
