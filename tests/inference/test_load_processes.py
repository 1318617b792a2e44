"""A load made by several processes is one load: one schedule, one set of rows, and an error when one of them dies."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from milton_assets.tiers.inference import ClosedLoad, InferencePlan, OpenLoad, Prompt, measure_inference
from milton_assets.tiers.inference.client import measuring_here
from milton_assets.tiers.inference.clock import now_ns
from milton_assets.tiers.inference.connection import StampSummary
from milton_assets.tiers.inference.durations import Durations
from milton_assets.tiers.inference.load import Part, Waited, run_round, turns_of
from milton_assets.tiers.inference.orders import MEASURED, Order, Taken
from milton_assets.tiers.inference.processes import LoadProcesses, LoadProcessFailed, merged, processes_for
from milton_assets.tiers.inference.sample import Ask, Sample
from milton_assets.tiers.inference.transport import Timing
from milton_assets.tiers.inference.truth import truth_server
from milton_assets.tiers.inference.watch import ClientLoad
from milton_assets.vocabulary.server import Endpoint
from tests.support.scripted_server import Delta, InFlight, Stall, Stream, answer, scripted_server

PROMPT = Prompt(id="p", kind="code", text="Go on.")
ASK = Ask(0, MEASURED, 0, PROMPT, None)


def plan(load: ClosedLoad | OpenLoad, **changes: Any) -> InferencePlan:
    settings = {"min_rounds": 1, "max_rounds": 1, "warm_up_requests": 1, "max_tokens": 100, "calibrate": False}
    return InferencePlan(prompts=(PROMPT,), load=load, **(settings | changes))


# ----------------------------------------------------------------------------------------------- how many, and whose


@pytest.mark.parametrize(
    ("load", "cores", "wanted"),
    [
        (ClosedLoad(concurrency=1), 16, 1),
        (ClosedLoad(concurrency=64), 16, 1),
        (ClosedLoad(concurrency=65), 16, 2),
        (ClosedLoad(concurrency=512), 16, 8),
        (ClosedLoad(concurrency=512), 2, 2),
        (ClosedLoad(concurrency=4096), 96, 16),
        (ClosedLoad(concurrency=512), 1, 1),
        (OpenLoad(rate_per_s=100), 16, 1),
        (OpenLoad(rate_per_s=400), 16, 4),
    ],
)
def test_a_plan_wants_a_process_for_every_64_streams_or_10_000_chunks_a_second_and_no_more_than_there_are_cores(
    load: ClosedLoad | OpenLoad, cores: int, wanted: int
) -> None:
    assert processes_for(plan(load), cores) == wanted


@given(st.integers(1, 9), st.integers(1, 600), st.integers(0, 700))
def test_the_parts_of_a_load_are_the_whole_load(of: int, concurrency: int, requests: int) -> None:
    parts = [Part(index, of) for index in range(of)]
    streams = [part.streams(concurrency, requests) for part in parts]
    assert sum(streams) == min(concurrency, requests)
    assert max(streams) - min(streams) <= 1
    assert sorted(number for part in parts for number in part.arrivals(requests)) == list(range(requests))


# ----------------------------------------------------------------------------------------------------------- joining


def sample(index: int) -> Sample:
    return Sample(**(dict.fromkeys(Sample.__dataclass_fields__) | {"index": index, "ok": True}))


def counted(*durations_ns: int) -> Durations:
    durations = Durations()
    for duration_ns in durations_ns:
        durations.add(duration_ns)
    return durations


LOADS = st.builds(
    ClientLoad,
    *[st.floats(0, 100)] * 6,
    nice=st.integers(-20, 19),
    waited_share=st.floats(0, 1),
    waited_ms=st.floats(0, 9),
)
STAMPS = st.builds(StampSummary, st.booleans(), st.integers(0, 10**6), st.floats(0, 50), st.floats(0, 50))


@st.composite
def parts_of_a_round(draw: st.DrawFn) -> tuple[list[Taken], Order]:
    """Requests, each made by one of some processes or cut by it."""
    processes, count = draw(st.integers(1, 5)), draw(st.integers(0, 40))
    makers = draw(st.lists(st.integers(0, processes - 1), min_size=count, max_size=count))
    cut = draw(st.integers(0, 3))
    parts = []
    for process in range(processes):
        mine = [index for index, maker in enumerate(makers) if maker == process]
        parts.append(
            Taken(
                start_ms=draw(st.floats(0, 10)),
                end_ms=draw(st.floats(10, 99)),
                samples=tuple(sample(index) for index in mine),
                gaps=tuple(counted(1000 * index) for index in mine),
                texts={index: f"text {index}" for index in mine},
                cut=cut if process == 0 else 0,
                load=draw(LOADS),
                stamps=draw(STAMPS),
            )
        )
    return parts, Order(MEASURED, 0, count + cut, ClosedLoad(concurrency=8))


@given(parts_of_a_round())
def test_what_processes_took_is_joined_to_what_one_would_have_taken(taken: tuple[list[Taken], Order]) -> None:
    parts, order = taken
    whole = merged(parts, order)
    assert [one.index for one in whole.samples] == list(range(order.count - whole.cut))
    assert sorted(gaps.mean_ns for gaps in whole.gaps) == [1000.0 * one.index for one in whole.samples]
    assert whole.texts == {one.index: f"text {one.index}" for one in whole.samples}
    assert (whole.start_ms, whole.end_ms) == (min(p.start_ms for p in parts), max(p.end_ms for p in parts))
    assert whole.stamps.pieces == sum(part.stamps.pieces for part in parts)


@given(parts_of_a_round())
def test_the_process_that_did_worst_speaks_for_the_client(taken: tuple[list[Taken], Order]) -> None:
    parts, order = taken
    whole = merged(parts, order)
    for name in ("cpu_share", "loop_lag_ms_p99", "preemptions_per_s", "waited_share", "waited_ms"):
        assert getattr(whole.load, name) == max(getattr(part.load, name) for part in parts)
    assert whole.load.processes == len(parts)
    heard = [part.stamps for part in parts if part.stamps.pieces]
    if heard:
        assert whole.stamps.by_kernel == all(stamps.by_kernel for stamps in heard)
        assert whole.stamps.reading_delay_ms_p99 == max(stamps.reading_delay_ms_p99 for stamps in heard)


@given(parts_of_a_round())
def test_what_one_process_took_alone_is_itself(taken: tuple[list[Taken], Order]) -> None:
    part = taken[0][0]
    order = replace(taken[1], count=len(part.samples) + part.cut)
    assert merged([part], order) == part


@pytest.mark.parametrize("indices", [[(0, 1), (1, 2)], [(0,), (1,)]], ids=["made twice", "not made"])
def test_a_request_that_was_made_twice_or_not_at_all_is_no_round(indices: list[tuple[int, ...]]) -> None:
    stamps = StampSummary(True, 1, 0.0, 0.0)
    load = ClientLoad(0, 0, 0, 0, 0, 1)
    parts = [Taken(0, 1, tuple(map(sample, mine)), (), {}, 0, load, stamps) for mine in indices]
    with pytest.raises(LoadProcessFailed, match="of 3 requests 2 processes made"):
        merged(parts, Order(MEASURED, 0, 3, ClosedLoad()))


# ----------------------------------------------------------------------------------------------------- made together


@contextmanager
def by_two() -> Iterator[Callable[..., Any]]:
    """Measures by two processes, whatever the plan wants."""
    with measuring_here(processes=lambda _: 2) as open_client:
        yield lambda endpoint, plan: measure_inference(endpoint, plan, open_client=open_client)


@pytest.fixture(scope="module")
def measure() -> Iterator[Callable[..., Any]]:
    with by_two() as measure:
        yield measure


def test_two_processes_have_as_many_requests_in_flight_as_were_asked_for(measure: Callable[..., Any]) -> None:
    with scripted_server(in_flight := InFlight(answer("a", "b"), 0.1)) as server:
        result = measure(Endpoint(server.base_url, "m"), plan(ClosedLoad(concurrency=5), requests_per_round=15))
    measured = result.samples[result.samples.phase == "measured"]
    assert in_flight.most == 5
    assert measured["index"].tolist() == list(range(1, 16))
    assert measured.nonce.nunique() == 15
    assert result.provenance["client"]["processes"] == 2


def test_two_processes_keep_the_arrivals_of_one(measure: Callable[..., Any]) -> None:
    load = OpenLoad(rate_per_s=100, arrivals="constant")
    with scripted_server(answer("a", "b")) as server:
        result = measure(Endpoint(server.base_url, "m"), plan(load, requests_per_round=20))
    due_ms = result.samples[result.samples.phase == "measured"].scheduled_offset_ms.to_numpy()
    assert np.diff(due_ms) == pytest.approx(10.0)
    assert result.metric("success_rate").value == 1.0


@pytest.mark.alone
def test_two_processes_are_as_near_to_the_truth_as_one(measure: Callable[..., Any]) -> None:
    for processes, how in ((1, measure_inference), (2, measure)):
        with truth_server(first_token_ms=40, inter_token_ms=10, tokens=8) as server:
            told = how(Endpoint(server.base_url, "truth"), plan(ClosedLoad(concurrency=32), requests_per_round=96))
        rows = told.samples[told.samples.phase == "measured"]
        truths = [server.truths[int(head.split()[0])] for head in rows.output_head]
        assert told.provenance["client"]["processes"] == processes
        assert np.median(rows.ttft_ms) == pytest.approx(np.median([truth.ttft_ms for truth in truths]), abs=1.0)
        assert np.median(rows.e2e_ms) == pytest.approx(np.median([truth.e2e_ms for truth in truths]), abs=1.0)


# ------------------------------------------------------------------------------------------------------------- ends

SILENT = Stream(Delta("a"), Stall())


def until(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + 30
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.02)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_process_that_is_killed_makes_the_measurement_an_error_and_ends_the_other() -> None:
    load = ClosedLoad(concurrency=4)
    with scripted_server(SILENT) as server, LoadProcesses() as pool:
        with pool.opened(Endpoint(server.base_url, "m"), plan(load), 2) as asking:
            first, second = pool.pids

            def kill() -> None:
                until(lambda: len(server.requests) == 4)
                os.kill(second, signal.SIGKILL)

            killer = threading.Thread(target=kill)
            killer.start()
            with pytest.raises(LoadProcessFailed, match="process 1 of the load client ended by SIGKILL"):
                asking.take(Order(MEASURED, 0, 4, load), lambda _: None)
            killer.join()
        assert gone(first)
        assert pool.pids == []


_MEASURING = """
import sys
from milton_assets.tiers.inference.orders import Order
from milton_assets.tiers.inference.plan import ClosedLoad, InferencePlan
from milton_assets.tiers.inference.processes import LoadProcesses
from milton_assets.vocabulary.server import Endpoint

load = ClosedLoad(concurrency=4)
with LoadProcesses() as pool, pool.opened(Endpoint(sys.argv[1], "m"), InferencePlan(load=load), 2) as asking:
    print(*pool.pids, flush=True)
    asking.take(Order("measured", 0, 4, load), lambda _: None)
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "SIGKILL"])
def test_whoever_measures_leaves_no_process_behind(sent: signal.Signals) -> None:
    with scripted_server(SILENT) as server:
        told = [sys.executable, "-c", _MEASURING, server.base_url]
        with subprocess.Popen(told, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as measuring:
            assert measuring.stdout is not None
            pids = [int(word) for word in measuring.stdout.readline().split()]
            until(lambda: len(server.requests) == 4)
            measuring.send_signal(sent)
            measuring.wait(timeout=30)
        assert len(pids) == 2
        until(lambda: all(map(gone, pids)))


# ------------------------------------------------------------------------------------- waiting for the client


def waited(load: ClosedLoad | OpenLoad, requests: int, late_ms: float, out_ms: float = 10.0) -> Waited:
    """What requests waited that went out so late after their stream was free, or they were due, and were then out."""

    async def work() -> Waited:
        start_ns = free_ns = now_ns() - int(1e9)

        async def send(_: Ask, due_ns: int | None) -> Timing:
            nonlocal free_ns
            sent_ns = (free_ns if due_ns is None else due_ns) + int(late_ms * 1e6)
            free_ns = sent_ns + int(out_ms * 1e6)
            return Timing(due_ns=due_ns, sent_ns=sent_ns, ended_ns=free_ns)

        return await run_round(load, [ASK] * requests, send, seed=0, start_ns=start_ns, turns=turns_of(requests))

    return asyncio.run(work())


def test_a_stream_waits_for_the_client_between_an_answer_and_the_next_request() -> None:
    # The round ends some 0.9 s after the last answer, which the client so was late in reading.
    told = waited(ClosedLoad(), 5, late_ms=10, out_ms=10)
    read_late_ms = told.of_ns / 1e6 - 100
    assert told.waited_ns / 1e6 == pytest.approx(50 + read_late_ms)
    assert told.share > 0.5


def test_an_arrival_waits_for_the_client_from_when_it_was_due() -> None:
    told = waited(OpenLoad(rate_per_s=1000, arrivals="constant"), 20, late_ms=7)
    assert told.mean_ms == pytest.approx(14.0)
    assert waited(OpenLoad(rate_per_s=1000, arrivals="constant"), 20, late_ms=0).share == 0.0


def test_throughput_that_a_starved_client_limits_is_not_valid() -> None:
    ended = threading.Event()

    def starve() -> None:
        while not ended.is_set():
            sum(range(300_000))  # holds the interpreter for milliseconds at a time

    thread = threading.Thread(target=starve)
    # The server is a process of its own, and not starved with the client.
    with truth_server(first_token_ms=5, inter_token_ms=1, tokens=4) as server:
        thread.start()
        try:
            result = measure_inference(
                Endpoint(server.base_url, "m"), plan(ClosedLoad(concurrency=16), requests_per_round=32)
            )
        finally:
            ended.set()
            thread.join()
    for name in ("output_tokens_per_s", "requests_per_s"):
        assert not result.metric(name).valid
        assert "the client was the bottleneck: requests waited" in (result.metric(name).why or "")
    assert result.metric("success_rate").valid
