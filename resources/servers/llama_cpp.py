"""Launch llama.cpp's server on a GGUF file: the one inside the `xllamacpp` wheel, or a `llama-server` on PATH.

    with LlamaCppLauncher(slots=2).serve(Path("model-q4_0.gguf"), "v1") as served: ...

What belongs here: its command line. What does not: the life of its process (`process`), reading its pages
(`dialects.llama_cpp`).
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.secrets import without_secrets
from milton_assets.vocabulary.server import Endpoint, RunningServer
from resources.hardware import usable_cores
from resources.servers.forcing import teacher_forcing
from resources.servers.identity import identify
from resources.servers.memory import allowance_bytes
from resources.servers.offload import offload_told
from resources.servers.probe import probe
from resources.servers.process import DEFAULT_GRACE_S, Command, listening
from resources.servers.tokens import token_counter

BINARY = "llama-server"
EMBEDDED = Path(__file__).with_name("embedded_llama.py")
_PLACING = (
    *("-ngl", "--gpu-layers", "--n-gpu-layers", "-dev", "--device"),
    *("-ot", "--override-tensor", "-cmoe", "--cpu-moe", "-ncmoe", "--n-cpu-moe"),
)
_PLACING_ENV = ("LLAMA_ARG_", "GGML_")
"""What its environment says of options, and of memory that GPU and processor share."""
_ALWAYS = ("--jinja", "--props", "--metrics")
_TELLING = {"LLAMA_ARG_LOG_VERBOSITY": "4"}
"""So that it says what it puts on GPUs (`offload`): from b9151 on llama.cpp says it only where its log is traced
(ggml-org/llama.cpp#23021). The variable is read from b9360 on; builds before b9151 say it without being asked."""


@dataclass(frozen=True)
class LlamaCppLauncher:
    """Serves GGUF files with llama.cpp, one process a `with` block.

    `context_tokens` is each slot's context; `slots` how many requests run at once. `threads` defaults to the usable
    cores (`resources.hardware`). `binary` is the `llama-server` to run, a path or a name on PATH; `prefer_binary` takes
    one from PATH when it is there, else the embedded server; the fingerprint names which ran. `gpu_layers` is how many
    layers that binary puts on the GPU. `extra` goes to the program as it is: options of `llama-server`, or
    `--set NAME=VALUE` of `embedded_llama`. Logs stay in `log_dir` when there is one. `memory_limit_bytes` is what the
    server may hold; None is reckoned by `memory.allowance_bytes`. `port` is where it listens; None takes a free one.
    """

    context_tokens: int = 4096
    slots: int = 1
    threads: int | None = None
    embedding: bool = False
    binary: str | None = None
    prefer_binary: bool = False
    gpu_layers: int | None = None
    extra: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    start_deadline_s: float = 120.0
    grace_s: float = DEFAULT_GRACE_S
    log_dir: Path | None = None
    memory_limit_bytes: int | None = None
    port: int | None = None

    def __post_init__(self) -> None:
        for what in ("context_tokens", "slots"):
            if getattr(self, what) < 1:
                raise BadInput(f"{what} is {getattr(self, what)}", expected="at least 1")

    @contextmanager
    def serve(self, artefact: Path, model: str) -> Iterator[RunningServer]:
        """Serve the GGUF file under the name `model`. Raises `BadInput` for another kind of path, `ServerFailed`."""
        if not artefact.is_file():
            found = "a directory" if artefact.is_dir() else "nothing"
            raise BadInput(
                f"llama.cpp is to serve {artefact}, and there is {found}",
                expected="a GGUF file",
                remedy="give the GGUF, or serve the directory with vLLM",
            )
        binary = self.program()
        program = (binary, *_ALWAYS) if binary else (sys.executable, "-P", str(EMBEDDED))
        flags = (*self._flags(), *self.extra)

        limit_bytes = self.memory_limit_bytes or allowance_bytes(artefact, self.context_tokens * self.slots)

        def command(port: int) -> Command:
            place = ("--model", str(artefact), "--alias", model, "--host", "127.0.0.1", "--port", str(port))
            return Command(
                "llama.cpp", (*program, *place, *flags), _TELLING | self.env, limit_bytes, is_ours=not binary
            )

        with listening(
            command,
            start_deadline_s=self.start_deadline_s,
            log_dir=self.log_dir,
            grace_s=self.grace_s,
            port=self.port,
        ) as server:
            fingerprint = probe(server.base_url, model).fingerprint(
                launched_by_us=True, flags=without_secrets(flags), slots=self.slots
            )
            fingerprint = fingerprint.model_copy(update={"offload": offload_told(server.child.log_lines())})
            if not binary:
                # The wheel's build of llama.cpp calls itself b0-unknown: the wheel's version says which it is.
                known = {"name": f"{fingerprint.name} (embedded)", "build": f"xllamacpp {version('xllamacpp')}"}
                fingerprint = fingerprint.model_copy(update=known)
            identify(fingerprint, artefact)
            endpoint = Endpoint(server.base_url, model, self.slots)
            told = fingerprint.name
            endpoint = replace(
                endpoint, count_tokens=token_counter(endpoint, told), forcing=teacher_forcing(endpoint, told)
            )
            yield RunningServer(endpoint, fingerprint)

    def program(self) -> str | None:
        """The `llama-server` that is going to run; None for the embedded one. Raises `BadInput` for one not there."""
        found = shutil.which(self.binary or BINARY) if self.binary or self.prefer_binary else None
        if self.binary and found is None:
            raise BadInput(
                f"there is no program {self.binary}",
                expected="a `llama-server` that can be run",
                remedy="correct the binary in milton.yaml, or leave it out for the CPU build from the wheel",
            )
        if self.gpu_layers and found is None:
            raise BadInput(
                f"{self.gpu_layers} layers are to be on the GPU, and the wheel's llama.cpp is built for the CPU",
                expected=f"a `{BINARY}` built for the GPU, on PATH or named",
                remedy="name its binary in milton.yaml, or leave gpu_layers out",
            )
        return found

    def planned_gpu_layers(self) -> int | None:
        """How many layers it is told to put on GPUs; None where it takes what fits, or where other words or variables
        that it is given decide what goes there."""
        decides = any(word.partition("=")[0] in _PLACING for word in self.extra)
        return None if decides or any(name.startswith(_PLACING_ENV) for name in self.env) else self.gpu_layers

    def _flags(self) -> tuple[str, ...]:
        threads = self.threads or usable_cores()
        # llama.cpp divides its context among the slots.
        context = self.context_tokens * self.slots
        flags: tuple[str, ...] = ("--ctx-size", str(context), "--parallel", str(self.slots), "--threads", str(threads))
        if self.gpu_layers is not None and self.program():
            flags = (*flags, "--gpu-layers", str(self.gpu_layers))
        return (*flags, "--embedding") if self.embedding else flags
