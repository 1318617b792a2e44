"""Making a load with several processes, where one would be the bottleneck: one process parses on one core.

    with LoadProcesses() as pool, pool.opened(endpoint, plan, processes_for(plan)) as asking:
        taken = asking.take(order, on_sample)

What belongs here: how many processes a plan wants, starting and ending them, having them begin together, and joining
what each took. What does not: the program that they run (`load_process`), and the schedule that they share (`load`).

A process that dies makes the measurement an error, and ends the others: what is left of a load is another load.
"""

from __future__ import annotations

import math
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Final, Self, TypeVar

from pydantic import TypeAdapter, ValidationError

from milton_assets.tiers.inference import load_process
from milton_assets.tiers.inference.clock import now_ns
from milton_assets.tiers.inference.connection import StampSummary
from milton_assets.tiers.inference.load_process import Begin, Close, Done, Made, Open, Ready, Said, Take
from milton_assets.tiers.inference.orders import OnSample, Order, Taken
from milton_assets.tiers.inference.plan import ClosedLoad, InferencePlan
from milton_assets.tiers.inference.watch import ClientLoad
from milton_assets.vocabulary.chat import clean_text
from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.server import Endpoint

STREAMS_A_PROCESS: Final = 64
CHUNKS_A_PROCESS_PER_S: Final = 10_000
MOST_PROCESSES: Final = 16
_ANSWER_S: Final = 60.0
"""To start, or to make ready."""
_TOGETHER_NS: Final = 5_000_000
_SAID: TypeAdapter[Ready | Made | Done] = TypeAdapter(Said)
_Answer = TypeVar("_Answer", Ready, Made, Done)


class LoadProcessFailed(MiltonError):
    """A process of the client died, or did not do what was asked of it."""


def usable_cores() -> int:
    """How many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processes_for(plan: InferencePlan, cores: int | None = None) -> int:
    """How many processes make the plan's load: one for `STREAMS_A_PROCESS` streams, or for `CHUNKS_A_PROCESS_PER_S`
    chunks a second if every answer of an open load is as long as it may be; at most one a core.

    Both are what one process bears with room to spare on a core of today's (docs/timing.md).
    """
    if isinstance(plan.load, ClosedLoad):
        wanted = math.ceil(plan.load.concurrency / STREAMS_A_PROCESS)
    else:
        wanted = math.ceil(plan.load.rate_per_s * plan.max_tokens / CHUNKS_A_PROCESS_PER_S)
    return max(1, min(wanted, usable_cores() if cores is None else cores, MOST_PROCESSES))


def merged(parts: Sequence[Taken], order: Order) -> Taken:
    """What several processes took of one order, as one. Of the client's own figures, those of the one that did worst.

    Raises `LoadProcessFailed` when a request is missing or was made twice.
    """
    samples = sorted((sample for part in parts for sample in part.samples), key=lambda sample: sample.index)
    cut = sum(part.cut for part in parts)
    if len({sample.index for sample in samples}) != len(samples) or len(samples) + cut != order.count:
        raise LoadProcessFailed(
            f"of {order.count} requests {len(parts)} processes made {len(samples)} and left {cut}",
            expected="each made once, or left once",
        )
    return Taken(
        start_ms=min(part.start_ms for part in parts),
        end_ms=max(part.end_ms for part in parts),
        samples=tuple(samples),
        gaps=tuple(gaps for part in parts for gaps in part.gaps),
        texts={index: text for part in parts for index, text in part.texts.items()},
        cut=cut,
        load=_worst([part.load for part in parts]),
        stamps=_all_stamps([part.stamps for part in parts]),
    )


def _worst(loads: Sequence[ClientLoad]) -> ClientLoad:
    most = {field.name: max(getattr(load, field.name) for load in loads) for field in fields(ClientLoad)}
    return ClientLoad(**most | {"processes": sum(load.processes for load in loads)})


def _all_stamps(stamps: Sequence[StampSummary]) -> StampSummary:
    """A process that took nothing in says nothing of who stamps."""
    told = [one for one in stamps if one.pieces] or stamps[:1]
    return StampSummary(
        by_kernel=all(one.by_kernel for one in told),
        pieces=sum(one.pieces for one in told),
        reading_delay_ms_median=max(one.reading_delay_ms_median for one in told),
        reading_delay_ms_p99=max(one.reading_delay_ms_p99 for one in told),
    )


class _Process:
    """One load process. What it says goes, line by line, to `said`, and None when it has ended."""

    def __init__(self, index: int, counter: int, said: queue.SimpleQueue[tuple[_Process, bytes | None]]) -> None:
        self.index = index
        self._complaints: IO[bytes] = TemporaryFile()  # noqa: SIM115 (`end` closes it)
        # As many paths as here, whatever they were found by; without the folder that this process happens to be in.
        paths = os.pathsep.join(path for path in sys.path if path)
        self._popen = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-c",
                f"from {load_process.__name__} import main; main()",
                str(counter),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            pass_fds=(counter,),
            env=os.environ | {"PYTHONPATH": paths},
            process_group=0,  # Ctrl-C is for whoever started it, who ends it
        )
        self._thread = threading.Thread(target=self._listen, args=(said,), name=f"load-process-{index}", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    def _listen(self, said: queue.SimpleQueue[tuple[_Process, bytes | None]]) -> None:
        for line in self._popen.stdout or ():
            said.put((self, line))
        said.put((self, None))

    def tell(self, message: Open | Take | Begin | Close) -> None:
        """Send it a message. Raises `LoadProcessFailed`."""
        assert self._popen.stdin is not None  # noqa: S101 (it was asked for)
        try:
            self._popen.stdin.write(message.model_dump_json().encode() + b"\n")
            self._popen.stdin.flush()
        except BrokenPipeError:
            raise self.died() from None

    def died(self) -> LoadProcessFailed:
        """How it ended, in its last words."""
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(timeout=5)
        status = self._popen.returncode
        how = f"by {signal.Signals(-status).name}" if status is not None and status < 0 else f"with status {status}"
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").strip().splitlines()
        words = f": {clean_text(lines[-1])[:300]}" if lines else ""
        return LoadProcessFailed(
            f"process {self.index} of the load client ended {how} amid the measurement{words}",
            expected="it to make its part of the load to the end",
            remedy="look in the kernel's log for want of memory, and measure again",
        )

    def end(self) -> None:
        """End it; it holds nothing that would be lost."""
        self._popen.kill()
        self._popen.wait()
        self._thread.join()
        for stream in (self._popen.stdin, self._popen.stdout, self._complaints):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()


class LoadProcesses:
    """Load processes, started when they are first wanted, ended with the block; one order at a time."""

    def __init__(self) -> None:
        self._said: queue.SimpleQueue[tuple[_Process, bytes | None]] = queue.SimpleQueue()
        self._processes: list[_Process] = []
        self._clients = 0

    def __enter__(self) -> Self:
        self._counter: IO[bytes] = TemporaryFile()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        self._counter.close()

    @property
    def pids(self) -> list[int]:
        """The processes that run now."""
        return [process.pid for process in self._processes]

    @contextmanager
    def opened(self, endpoint: Endpoint, plan: InferencePlan, many: int) -> Iterator[AskedByMany]:
        """`many` processes as one that asks this server. Raises `LoadProcessFailed`."""
        self._clients += 1
        number = self._clients
        while len(self._processes) < many:
            self._processes.append(_Process(len(self._processes), self._counter.fileno(), self._said))
        mine, epoch_ns = self._processes[:many], now_ns()
        asked = [
            Open(
                client=number,
                base_url=endpoint.base_url,
                model=endpoint.model,
                api_key=endpoint.api_key,
                ca_file=endpoint.ca_file,
                plan=plan,
                keep_texts=endpoint.count_tokens is not None,
                index=index,
                of=many,
                epoch_ns=epoch_ns,
            )
            for index in range(many)
        ]
        self._ask(mine, asked, Done)
        try:
            yield AskedByMany(self, mine, number)
        finally:
            if mine == self._processes[:many]:
                self._ask(mine, [Close(client=number)] * many, Done)

    def take(self, mine: Sequence[_Process], client: int, order: Order) -> Taken:
        """Have the processes carry out the order together. Raises `LoadProcessFailed`."""
        if list(mine) != self._processes[: len(mine)]:
            raise LoadProcessFailed("the processes of this client have ended", remedy="open it anew")
        os.lseek(self._counter.fileno(), 0, os.SEEK_SET)
        self._ask(mine, [Take(client=client, order=order)] * len(mine), Ready)
        at_ns = now_ns() + _TOGETHER_NS
        made = self._ask(mine, [Begin(at_ns=at_ns)] * len(mine), Made, within_s=None)
        return merged([one.taken for one in made], order)

    def _ask(
        self,
        mine: Sequence[_Process],
        messages: Sequence[Open | Take | Begin | Close],
        answer: type[_Answer],
        within_s: float | None = _ANSWER_S,
    ) -> list[_Answer]:
        """Each process's answer to its message. Whatever ends the waiting ends the processes, whose answers would come
        when nobody waits for them."""
        answers: dict[_Process, _Answer] = {}
        try:
            for process, message in zip(mine, messages, strict=True):
                process.tell(message)
            while len(answers) < len(mine):
                process, line = self._said.get(timeout=within_s)
                if line is None:
                    raise process.died()
                said = _SAID.validate_json(line)
                if not isinstance(said, answer):
                    raise LoadProcessFailed(f"process {process.index} said {said.kind!r}", expected=answer.__name__)
                answers[process] = said
        except queue.Empty:
            self._end()
            silent = len(mine) - len(answers)
            raise LoadProcessFailed(
                f"{silent} of {len(mine)} processes of the load client said nothing for {within_s:g} s",
                remedy="see what keeps this machine busy, and measure again",
            ) from None
        except ValidationError as error:
            self._end()
            raise LoadProcessFailed(f"a process of the load client said what is no answer: {error!s:.300}") from None
        except BaseException:
            self._end()
            raise
        return [answers[process] for process in mine]

    def _end(self) -> None:
        ended, self._processes = self._processes, []
        for process in ended:
            process.end()
        self._said = queue.SimpleQueue()


class AskedByMany:
    """One server, asked by several processes."""

    def __init__(self, pool: LoadProcesses, mine: Sequence[_Process], number: int) -> None:
        self._pool = pool
        self._mine = mine
        self._number = number

    def take(self, order: Order, on_sample: OnSample) -> Taken:
        """See `Client`. Its samples are told when the round is over."""
        taken = self._pool.take(self._mine, self._number, order)
        for sample in taken.samples:
            on_sample(sample)
        return taken
