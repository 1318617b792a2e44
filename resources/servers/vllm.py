"""Launch vLLM on a Hugging Face directory: `vllm serve`, or its module under an interpreter of our choice.

    with VLLMLauncher(interpreter=Path("venv/bin/python")).serve(Path("models/distilled/x"), "v1") as served: ...

What belongs here: its command line. What does not: the life of its process (`process`), reading its pages
(`dialects.vllm`), making an environment for it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from milton_assets.vocabulary import hf_directory
from milton_assets.vocabulary.artefact_files import directory_files
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.secrets import without_secrets
from milton_assets.vocabulary.server import Endpoint, RunningServer
from resources.servers.identity import identify
from resources.servers.memory import machine_bytes
from resources.servers.probe import probe
from resources.servers.process import Command, listening
from resources.servers.tokens import token_counter

PROGRAM = "vllm"
MODULE = "vllm.entrypoints.openai.api_server"
REMOTE_CODE = "--trust-remote-code"
OFFLINE = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
"""A launched server looks nothing up and reports nothing: the weights are the ones in the directory."""


@dataclass(frozen=True)
class VLLMLauncher:
    """Serves Hugging Face directories with vLLM, one process tree a `with` block.

    Without an `interpreter`, `vllm serve` from PATH runs; with one, its module `vllm.entrypoints.openai.api_server`,
    which the CPU build needs. `slots` is how many sequences run at once (`--max-num-seqs`). `extra` are further
    options of vLLM's; `allow_code` names the models that may bring pickles and code of their own, which vLLM never runs
    for another; `env` is added to our environment (on a CPU, `VLLM_CPU_KVCACHE_SPACE`); `port` is where it listens,
    None a free one.
    """

    interpreter: Path | None = None
    context_tokens: int | None = None
    slots: int = 16
    extra: tuple[str, ...] = ()
    allow_code: frozenset[str] = frozenset()
    env: Mapping[str, str] = field(default_factory=dict)
    start_deadline_s: float = 600.0
    grace_s: float = 30.0
    log_dir: Path | None = None
    memory_limit_bytes: int | None = None
    port: int | None = None

    @contextmanager
    def serve(self, artefact: Path, model: str) -> Iterator[RunningServer]:
        """Serve the directory under the name `model`. Raises `BadInput` for another kind of path, `ServerFailed`."""
        if not artefact.is_dir():
            raise BadInput(
                f"{artefact} is no Hugging Face model directory",
                expected="a directory with a config.json",
                remedy="give the distilled model's directory, or serve the GGUF with llama.cpp",
            )
        files = directory_files(artefact)
        hf_directory.check_directory(artefact, files, allow_code=model in self.allow_code)
        program = self.program(artefact)
        flags = (*self._flags(), *self._code_flags(model, files), *self.extra)

        limit_bytes = self.memory_limit_bytes or machine_bytes()

        def command(port: int) -> Command:
            place = ("--served-model-name", model, "--host", "127.0.0.1", "--port", str(port))
            return Command("vllm", (*program, *place, *flags), {**OFFLINE, **self.env}, limit_bytes)

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
            from_files = {
                "quantization": hf_directory.quantization(artefact),
                "chat_template_sha256": hf_directory.chat_template_sha256(artefact),
            }
            fingerprint = fingerprint.model_copy(update=from_files)
            identify(fingerprint, artefact)
            endpoint = Endpoint(server.base_url, model, self.slots)
            yield RunningServer(replace(endpoint, count_tokens=token_counter(endpoint, fingerprint.name)), fingerprint)

    def program(self, artefact: Path) -> tuple[str, ...]:
        """The command that is going to run, up to the artefact. Raises `BadInput` for a program that is not there."""
        if self.interpreter is not None:
            if not self.interpreter.is_file():
                raise BadInput(f"there is no interpreter {self.interpreter}", expected="a Python that has vLLM")
            return (str(self.interpreter), "-m", MODULE, "--model", str(artefact))
        found = shutil.which(PROGRAM)
        if found is None:
            raise BadInput(
                "there is no `vllm` on PATH",
                expected="vLLM installed here, or the interpreter of an environment that has it",
                remedy="install vLLM, name its interpreter, or attach to a running server by its URL",
            )
        return (found, "serve", str(artefact))

    def _code_flags(self, model: str, files: Mapping[str, Path]) -> tuple[str, ...]:
        """`--trust-remote-code` for a model that brings code and may. Raises `BadInput` when `extra` asks for more."""
        if any(REMOTE_CODE in option.replace("_", "-") for option in self.extra) and model not in self.allow_code:
            raise BadInput(
                f"vLLM's options for {model} include {REMOTE_CODE}, for whatever it serves",
                expected="models that may run code of their own named one by one",
                remedy=f"leave the option out, and name {model} in MILTON_ALLOW_MODEL_CODE if you trust who made it",
            )
        return (REMOTE_CODE,) if hf_directory.runs_remote_code(files) else ()

    def _flags(self) -> tuple[str, ...]:
        context = ("--max-model-len", str(self.context_tokens)) if self.context_tokens else ()
        return ("--max-num-seqs", str(self.slots), *context)
