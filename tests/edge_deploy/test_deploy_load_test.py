"""A release is served and asked before anyone depends on it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from milton_assets.edge.deployment import HealthWindow, ProbeFailed, ServedLoadTest, measure_contract
from milton_assets.edge.deployment.contention import LEAST_SHARE, processor_times, share_left
from milton_assets.edge.deployment.loadtest import SPEED_ROUNDS, Answer, judge
from milton_assets.edge.deployment.states import ProbeReport
from milton_assets.edge.manifest import HealthContract, Probe
from milton_assets.vocabulary.chat import Completion
from milton_assets.vocabulary.errors import BadInput, ServerFailed
from milton_assets.vocabulary.fingerprint import ServerFingerprint
from milton_assets.vocabulary.processor_times import ProcessorTimes
from milton_assets.vocabulary.server import Endpoint, RunningServer, ServingSettings
from resources.edge_server import EdgeServer
from resources.hardware import usable_cores
from resources.servers.client import OpenAIChatModel
from resources.servers.llama_cpp import LlamaCppLauncher
from resources.servers.vllm import VLLMLauncher
from tests.support.scripted_server import Reply, Status, answer, scripted_server


def contract(*digests: str | None, floor: float | None = None, max_load_seconds: float = 60.0) -> HealthContract:
    probes = tuple(Probe(prompt=f"question {n}", max_tokens=7, answer_sha256=d) for n, d in enumerate(digests))
    return HealthContract(probes=probes, min_output_tokens_per_s=floor, max_load_seconds=max_load_seconds)


class Scripted:
    """Serves anything with a scripted server; remembers what it was asked."""

    def __init__(self, script: Reply | list[Reply]) -> None:
        self.script = script
        self.requests: list[dict[str, object]] = []

    @contextmanager
    def serve(self, artefact: Path, model: str) -> Iterator[RunningServer]:
        with scripted_server(self.script, models=(model,)) as server:
            yield RunningServer(Endpoint(server.base_url, model), ServerFingerprint(name="scripted"))
            self.requests = list(server.requests)


class Broken:
    """A server that never starts."""

    @contextmanager
    def serve(self, artefact: Path, model: str) -> Iterator[RunningServer]:
        raise ServerFailed("llama-server ended with 1; its last line: cannot open the file")
        yield


def probed(script: Reply | list[Reply], asked: HealthContract) -> ProbeReport:
    return ServedLoadTest(Scripted(script), OpenAIChatModel)(Path("/model"), "v1", asked)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_an_answer_is_enough_when_nothing_more_was_promised() -> None:
    report = probed(answer("Par", "is"), contract(None))
    assert (report.problems, report.answers, report.answer_sha256) == ((), ("Paris",), (sha("Paris"),))
    assert report.output_tokens_per_s is not None


def test_each_question_is_asked_once_greedily_with_its_limit() -> None:
    serves = Scripted(answer("yes"))
    ServedLoadTest(serves, OpenAIChatModel)(Path("/model"), "v1", contract(None, None))
    assert [r["messages"] for r in serves.requests] == [[{"role": "user", "content": f"question {n}"}] for n in (0, 1)]
    assert {(r["temperature"], r["seed"], r["max_tokens"]) for r in serves.requests} == {(0.0, 0, 7)}


def test_another_answer_than_the_signed_one_is_a_problem() -> None:
    (problem,) = probed([answer("Paris"), answer("baa baa")], contract(sha("Paris"), sha("Rome"))).problems
    assert problem.startswith("probe 2 was answered 'baa baa'")


def test_an_empty_answer_is_a_problem() -> None:
    assert probed(answer(" "), contract(None)).problems == ("probe 1 got an empty answer",)


def test_a_server_that_fails_is_a_problem_with_its_last_words() -> None:
    report = ServedLoadTest(Broken(), OpenAIChatModel)(Path("/model"), "v1", contract(None))
    assert "was not served: llama-server ended with 1; its last line: cannot open the file" in report.problems[0]


def test_a_call_that_fails_is_a_problem() -> None:
    assert "did not answer" in probed(Status(500), contract(None)).problems[0]


def completion(tokens: int | None) -> Completion:
    return Completion("fine", "stop", 3, tokens)


@pytest.mark.parametrize(("tokens", "verdict"), [(100, []), (10, ["10.0"]), (None, ["an unknown number of"])])
def test_a_model_slower_than_promised_is_a_problem(tokens: int | None, verdict: list[str]) -> None:
    report = judge(contract(None, floor=50.0), 1.0, [Answer(completion(tokens), took_s=1.0)])
    assert [p.split(" tokens/s")[0].removeprefix("it wrote ") for p in report.problems] == verdict


@pytest.mark.parametrize(
    ("left", "is_slow"), [(1.0, True), (0.75, True), (0.5, False)], ids=["idle", "a-quarter-taken", "half-taken"]
)
def test_of_the_promised_speed_so_much_is_asked_for_as_others_left(left: float, is_slow: bool) -> None:
    report = judge(contract(None, floor=50.0), 1.0, [Answer(completion(30), took_s=1.0)], share_left=left)
    assert bool(report.problems) is is_slow


def test_processors_that_others_take_are_told_from_those_that_we_take() -> None:
    before = ProcessorTimes(total_s=100.0, busy_s=50.0, ours_s=10.0)
    assert share_left(before, ProcessorTimes(total_s=110.0, busy_s=58.0, ours_s=13.0)) == 0.5
    assert share_left(before, ProcessorTimes(total_s=110.0, busy_s=60.0, ours_s=20.0)) == 1.0
    assert share_left(before, ProcessorTimes(total_s=110.0, busy_s=60.0, ours_s=10.0)) == LEAST_SHARE
    assert share_left(before, before) == 1.0


def test_what_a_child_of_ours_works_is_ours() -> None:
    before = processor_times()
    worker = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        deadline = time.monotonic() + 60
        while (after := processor_times()).ours_s - before.ours_s < 0.3 and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        worker.kill()
        worker.wait()
    assert after.ours_s - before.ours_s >= 0.3
    assert after.busy_s - before.busy_s >= 0.3


def test_a_release_that_is_only_too_slow_is_asked_again_and_its_fastest_round_counts() -> None:
    # 2 tokens/s, below a tenth of what is promised, and then some hundreds.
    hurried = answer("Paris", completion_tokens=7)
    serves = Scripted([answer("Paris", completion_tokens=7, first_delay_s=3.0), hurried])
    asked = contract(sha("Paris"), floor=30.0)
    report = ServedLoadTest(serves, OpenAIChatModel, pause_s=0)(Path("/model"), "v1", asked)
    assert report.problems == ()
    assert len(serves.requests) == 2


def test_a_release_that_is_too_slow_every_time_is_refused() -> None:
    serves = Scripted(answer("Paris"))
    asked = contract(sha("Paris"), floor=1e9)
    report = ServedLoadTest(serves, OpenAIChatModel, pause_s=0)(Path("/model"), "v1", asked)
    assert "tokens/s, at least 1000000000.0 is promised" in report.problems[0]
    assert len(serves.requests) == SPEED_ROUNDS


def test_a_wrong_answer_is_not_asked_for_again() -> None:
    serves = Scripted(answer("baa"))
    report = ServedLoadTest(serves, OpenAIChatModel, pause_s=0)(Path("/m"), "v1", contract(sha("Paris"), floor=1e9))
    assert len(report.problems) == 2
    assert len(serves.requests) == 1


def test_a_model_that_loads_slower_than_promised_is_a_problem() -> None:
    report = judge(contract(None, max_load_seconds=2.0), 2.5, [Answer(completion(4), took_s=1.0)])
    assert report.problems == ("it took 2.5 s to load, at most 2.0 s is allowed",)


def test_a_measured_contract_promises_the_answers_and_a_share_of_the_speed() -> None:
    serves = ServedLoadTest(Scripted([answer("Paris"), answer("12")]), OpenAIChatModel)
    questions = (Probe(prompt="capital?"), Probe(prompt="7+5?"))
    measured = measure_contract(serves, Path("/model"), "v1", questions=questions, least_speed=0.25)
    assert [probe.answer_sha256 for probe in measured.probes] == [sha("Paris"), sha("12")]
    assert measured.min_output_tokens_per_s is not None
    again = ServedLoadTest(Scripted([answer("Paris"), answer("13")]), OpenAIChatModel)
    (problem,) = again(Path("/model"), "v1", measured.model_copy(update={"min_output_tokens_per_s": None})).problems
    assert problem.startswith("probe 2 was answered '13'")


class Settable(Scripted):
    """Remembers under which settings it was asked to serve."""

    told: ServingSettings | None = None

    def configured(self, settings: ServingSettings) -> Scripted:
        self.told = settings
        return self


def test_a_contract_records_what_it_was_measured_with_and_a_device_serves_with_just_that() -> None:
    settings = ServingSettings(context_tokens=1234, slots=2, threads=3)
    here, there = Settable(answer("Paris")), Settable(answer("Paris"))
    measured = measure_contract(ServedLoadTest(here, OpenAIChatModel), Path("/model"), "v1", served_with=settings)
    assert (measured.served_with, here.told) == (settings, settings)
    ServedLoadTest(there, OpenAIChatModel)(Path("/model"), "v1", measured)
    assert there.told == settings


def test_a_contract_that_names_no_settings_leaves_them_to_the_server() -> None:
    serves = Settable(answer("Paris"))
    ServedLoadTest(serves, OpenAIChatModel)(Path("/model"), "v1", contract(None))
    assert serves.told is None


def test_the_edges_server_takes_the_settings_of_a_contract(tmp_path: Path) -> None:
    measured = EdgeServer(file=LlamaCppLauncher(context_tokens=777, slots=2, threads=1)).settings(tmp_path / "m.gguf")
    device = EdgeServer(file=LlamaCppLauncher(extra=("--set", "x=1")), directory=VLLMLauncher(slots=3))
    assert measured is not None
    there = device.configured(measured)
    assert there.settings(tmp_path / "m.gguf") == measured
    assert there.file == LlamaCppLauncher(context_tokens=777, slots=2, threads=1, extra=("--set", "x=1"))
    assert device.settings(tmp_path) == ServingSettings(slots=3)


def test_the_edges_server_records_the_threads_that_it_would_take() -> None:
    settings = EdgeServer().settings(Path("/m.gguf"))
    assert settings == ServingSettings(context_tokens=4096, slots=1, threads=usable_cores())


def test_answers_need_not_be_promised_for_devices_of_another_kind() -> None:
    serves = ServedLoadTest(Scripted(answer("Paris")), OpenAIChatModel)
    measured = measure_contract(serves, Path("/model"), "v1", same_answers=False)
    assert {probe.answer_sha256 for probe in measured.probes} == {None}


def test_a_model_that_does_not_answer_gets_no_contract() -> None:
    with pytest.raises(ProbeFailed, match="measuring the health contract failed"):
        measure_contract(ServedLoadTest(Broken(), OpenAIChatModel), Path("/model"), "v1")


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, float("nan")])
def test_a_share_of_the_speed_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(BadInput, match="least speed"):
        measure_contract(ServedLoadTest(Broken(), OpenAIChatModel), Path("/model"), "v1", least_speed=share)


@pytest.mark.parametrize(("rounds", "interval_s"), [(0, 1.0), (1, -1.0), (1, float("inf")), (1, float("nan"))])
def test_a_health_window_that_makes_no_sense_is_refused(rounds: int, interval_s: float) -> None:
    with pytest.raises(BadInput, match="health window"):
        HealthWindow(ServedLoadTest(Broken(), OpenAIChatModel), rounds, interval_s)
