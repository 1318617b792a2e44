"""Does the release answer? Serving it, asking what its health contract asks, and judging the answers.

What belongs here: the probe and its judgement. What does not: model servers and HTTP; the caller brings something that
serves and something that makes a chat model of an endpoint.

On a device with memory for one model the release is tried in the memory of the one that serves, where that is lent
(`borrowing`): the gateway loads it, users wait, and only the asking is done here.

A device is seldom idle: what is in service answers while the next release is probed. So a release that answers as it
should, and is only too slow, is asked again, and its fastest round counts; and what is promised is promised of the
processors that others left it meanwhile (`contention`, docs/adr/0109).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from milton_assets.edge.deployment.borrowing import NotLent, borrowed, to_borrow_for
from milton_assets.edge.deployment.contention import processor_times, share_left
from milton_assets.edge.deployment.states import ProbeReport
from milton_assets.edge.manifest import HealthContract, Probe
from milton_assets.vocabulary.chat import ChatModel, Completion, Message, ModelCallFailed, Sampling
from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.errors import ServerFailed
from milton_assets.vocabulary.server import Endpoint, Launcher, ServingSettings

_SHOWN_CHARACTERS = 200
SPEED_ROUNDS = 3
"""How often the questions are asked, at most, before a release counts as too slow."""


class LoadTest(Protocol):
    """Serves a model file or folder and holds it against a health contract."""

    def __call__(self, artefact: Path, model: str, contract: HealthContract) -> ProbeReport:
        """What the model answered, and every way in which it broke the contract. Raises nothing a model can cause."""
        ...


class EdgeLauncher(Launcher, Protocol):
    """A server that can be told what a contract was measured with, e.g. `resources.edge_server.EdgeServer`."""

    def configured(self, settings: ServingSettings) -> Launcher:
        """The same server with these settings."""
        ...


@dataclass(frozen=True)
class ServedLoadTest:
    """A load test against a server of its own, on a port of its own.

    `launcher` starts and stops it, under the settings of the contract if it names any; `chat_model` makes a client of
    its endpoint, e.g. `resources.servers.client.OpenAIChatModel`.
    `pause_s` is waited before a slow release is asked again. `target` is the folder of a target whose gateway may lend
    its memory; without one nothing is borrowed.
    """

    launcher: EdgeLauncher
    chat_model: Callable[[Endpoint], AbstractContextManager[ChatModel]]
    pause_s: float = 2.0
    target: Path | None = None

    def __call__(self, artefact: Path, model: str, contract: HealthContract) -> ProbeReport:
        """Serve `artefact` as `model` and ask each of the contract's questions greedily; again while it is too slow."""
        launcher = self.launcher.configured(contract.served_with) if contract.served_with else self.launcher
        started = time.monotonic()
        try:
            if self.target is not None and (folder := to_borrow_for(self.target, artefact)) is not None:
                return self._borrowing(self.target, folder, contract)
            with launcher.serve(artefact, model) as served, self.chat_model(served.endpoint) as chat:
                load_s = time.monotonic() - started
                return self._asked(chat, contract, load_s)
        except (ServerFailed, NotLent) as error:
            return _nothing(time.monotonic() - started, f"the model was not served: {error}")
        except ModelCallFailed as error:
            return _nothing(time.monotonic() - started, f"the model did not answer: {_in_full(error)}")

    def _borrowing(self, target: Path, folder: Path, contract: HealthContract) -> ProbeReport:
        with (
            borrowed(target, folder) as lent,
            self.chat_model(Endpoint(lent.base_url, lent.model, lent.slots)) as chat,
        ):
            return self._asked(chat, contract, lent.load_s, lent.pid)

    def _asked(self, chat: ChatModel, contract: HealthContract, load_s: float, *servers: int) -> ProbeReport:
        unhurried = contract.model_copy(update={"min_output_tokens_per_s": None})
        for number in range(1, SPEED_ROUNDS + 1):
            before = processor_times(*servers)
            answers = [_ask(chat, probe) for probe in contract.probes]
            report = judge(contract, load_s, answers, share_left=share_left(before, processor_times(*servers)))
            is_known = report.output_tokens_per_s is not None
            is_only_slow = report.problems and is_known and not judge(unhurried, load_s, answers).problems
            if not is_only_slow or number == SPEED_ROUNDS:
                break
            time.sleep(self.pause_s)
        return report


@dataclass(frozen=True)
class Answer:
    """One probe's answer and how long it took, in seconds."""

    completion: Completion
    took_s: float


def _ask(chat: ChatModel, probe: Probe) -> Answer:
    began = time.monotonic()
    completion = chat.complete([Message("user", probe.prompt)], Sampling(max_tokens=probe.max_tokens))
    return Answer(completion, time.monotonic() - began)


def _in_full(error: Exception) -> str:
    """What went wrong, with how the server ended where that was why."""
    return "\n".join((str(error), *getattr(error, "__notes__", ())))


def _nothing(load_s: float, problem: str) -> ProbeReport:
    return ProbeReport(load_s=load_s, output_tokens_per_s=None, answers=(), answer_sha256=(), problems=(problem,))


def judge(contract: HealthContract, load_s: float, answers: list[Answer], *, share_left: float = 1.0) -> ProbeReport:
    """Hold the answers, in the order of the contract's probes, against the contract.

    `share_left` is the share of the processors that others left meanwhile: so much of the promised speed is asked for.
    """
    problems = []
    if load_s > contract.max_load_seconds:
        problems.append(f"it took {load_s:.1f} s to load, at most {contract.max_load_seconds:.1f} s is allowed")
    for number, (probe, answer) in enumerate(zip(contract.probes, answers, strict=True), start=1):
        problems += _judge_answer(number, probe, answer.completion.text)
    speed = _output_tokens_per_s(answers)
    floor = contract.min_output_tokens_per_s
    if floor is not None and (speed is None or speed < floor * share_left):
        found = "an unknown number of" if speed is None else f"{speed:.1f}"
        beside = f", and others left {share_left:.0%} of the processors" if share_left < 1 else ""
        problems.append(f"it wrote {found} tokens/s, at least {floor:.1f} is promised{beside}")
    texts = [answer.completion.text for answer in answers]
    return ProbeReport(
        load_s=load_s,
        output_tokens_per_s=speed,
        answers=tuple(text[:_SHOWN_CHARACTERS] for text in texts),
        answer_sha256=tuple(sha256_bytes(text.encode()) for text in texts),
        problems=tuple(problems),
    )


def _judge_answer(number: int, probe: Probe, text: str) -> list[str]:
    if not text.strip():
        return [f"probe {number} got an empty answer"]
    digest = sha256_bytes(text.encode())
    if probe.answer_sha256 is not None and digest != probe.answer_sha256:
        return [
            f"probe {number} was answered {text[:80]!r} (SHA-256 {digest[:12]}), expected {probe.answer_sha256[:12]}"
        ]
    return []


def _output_tokens_per_s(answers: list[Answer]) -> float | None:
    counts = [answer.completion.completion_tokens for answer in answers]
    took_s = sum(answer.took_s for answer in answers)
    if any(count is None for count in counts) or took_s <= 0:
        return None
    return sum(count for count in counts if count is not None) / took_s
