"""What is told of requests: read from the bytes as they pass, and shown as Prometheus and OpenTelemetry have it."""

from __future__ import annotations

import json
import math
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from milton_assets.edge.serving.metrics import Metrics, Outcome, Told
from milton_assets.edge.serving.observe import Watched


def event(**value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def delta(**said: object) -> bytes:
    return event(choices=[{"index": 0, "delta": said}])


def watched(*pieces: bytes) -> Watched:
    found = Watched(streamed=True)
    for at, piece in enumerate(pieces):
        found.see(piece, float(at))
    return found


def test_a_chunk_that_only_names_the_role_is_no_token() -> None:
    assert watched(delta(role="assistant", content=""), delta(content="Par"), delta(content="is")).first_token_s == 1.0


@pytest.mark.parametrize(
    "said",
    [{"reasoning_content": "so"}, {"reasoning": "so"}, {"tool_calls": [{"id": "1"}]}, {"refusal": "no"}],
    ids=lambda said: next(iter(said)),
)
def test_whatever_a_model_says_is_a_token(said: dict[str, object]) -> None:
    assert watched(delta(content=""), delta(**said)).first_token_s == 1.0


def test_an_event_may_come_in_any_pieces() -> None:
    whole = delta(role="assistant") + delta(content="Par").replace(b"\n\n", b"\r\n\r\n") + delta(content="is")
    for cut in range(len(whole)):
        found = watched(whole[:cut], whole[cut:])
        assert found.first_token_s in {0.0, 1.0}
    assert watched(*(whole[n : n + 1] for n in range(len(whole)))).first_token_s is not None


def test_the_counts_are_the_servers_own() -> None:
    found = watched(
        delta(content="a b"), delta(content="c"), event(choices=[], usage={"prompt_tokens": 7, "completion_tokens": 3})
    )
    tokens = found.tokens()
    assert (tokens.input, tokens.output) == (7, 3)


def test_llama_cpps_timings_tell_as_much() -> None:
    tokens = watched(delta(content="a"), event(choices=[], timings={"prompt_n": 5, "predicted_n": 9})).tokens()
    assert (tokens.input, tokens.output) == (5, 9)


def test_an_answer_in_one_piece_tells_its_counts() -> None:
    found = Watched(streamed=False)
    raw = json.dumps({"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 2}}).encode()
    found.see(raw[:9], 0.0)
    found.see(raw[9:], 1.0)
    assert (found.tokens().input, found.tokens().output, found.first_token_s) == (4, 2, None)


@pytest.mark.parametrize(
    "raw",
    [
        b"data: {\n\n",
        b"data: []\n\n",
        b'data: {"choices": 3}\n\n',
        b'data: {"choices": [3, {"delta": 4}]}\n\n',
        b"\xff" * 50,
    ],
    ids=["no-json", "no-object", "no-choices", "odd-choices", "no-text"],
)
def test_an_odd_stream_has_no_figures_and_does_no_harm(raw: bytes) -> None:
    found = watched(raw, raw)
    assert found.first_token_s is None
    assert found.tokens().output is None


def test_watching_a_stream_without_an_end_takes_no_memory_and_little_time() -> None:
    found = Watched(streamed=True)
    began = time.process_time()
    for _ in range(2000):
        found.see(b"y" * 65536, 0.0)
    assert time.process_time() - began < 2.0
    assert sum(len(v) for v in vars(found).values() if isinstance(v, bytes | bytearray)) < 1 << 20


def told(**changes: object) -> Told:
    values = {
        "operation": "chat",
        "model": "v1",
        "outcome": Outcome.ANSWERED,
        "status": 200,
        "duration_s": 1.5,
        "time_to_first_token_s": 0.03,
        "time_per_output_token_s": 0.02,
        "input_tokens": 7,
        "output_tokens": 40,
    }
    return Told(**(values | changes))  # type: ignore[arg-type]


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The page, as Prometheus' own parser reads it."""
    families = text_string_to_metric_families(metrics.page())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def value(found: dict[tuple[str, tuple[tuple[str, str], ...]], float], name: str, **labels: str) -> float:
    return next(v for (called, has), v in found.items() if called == name and labels.items() <= dict(has).items())


def test_prometheus_reads_the_page() -> None:
    metrics = Metrics(lambda: {"milton_serving": ("Whether.", 1.0)})
    metrics.add(told())
    metrics.add(told(time_to_first_token_s=20.0))
    found = samples(metrics)
    name = "gen_ai_server_time_to_first_token_seconds"
    assert value(found, f"{name}_count", gen_ai_operation_name="chat", gen_ai_response_model="v1") == 2
    assert math.isclose(value(found, f"{name}_sum"), 20.03)
    assert value(found, f"{name}_bucket", le="0.02") == 0
    assert value(found, f"{name}_bucket", le="0.04") == 1
    assert value(found, f"{name}_bucket", le="10.0") == 1
    assert value(found, f"{name}_bucket", le="+Inf") == 2
    assert value(found, "gen_ai_client_token_usage_sum", gen_ai_token_type="output") == 80
    assert value(found, "milton_serving") == 1.0
    assert value(found, "milton_requests_total", outcome="answered", status="200") == 2


def test_an_error_is_named_by_its_kind() -> None:
    metrics = Metrics()
    metrics.add(told(status=503, outcome=Outcome.REFUSED))
    metrics.add(told(outcome=Outcome.CUT))
    found = samples(metrics)
    name = "gen_ai_server_request_duration_seconds_count"
    assert value(found, name, error_type="503") == 1
    assert value(found, name, error_type="upstream_lost") == 1


def test_what_is_unknown_is_left_out() -> None:
    metrics = Metrics()
    metrics.add(told(time_to_first_token_s=None, output_tokens=None))
    names = {name for name, _ in samples(metrics)}
    assert "gen_ai_server_time_to_first_token_seconds_count" not in names


def test_years_of_models_take_no_more_memory_than_the_last_ones() -> None:
    metrics = Metrics()
    for number in range(300):
        metrics.add(told(model=f"v{number}"))
    assert len(metrics.page()) < 1_000_000
    assert 'gen_ai_response_model="v299"' in metrics.page()


def test_a_name_with_quotes_stays_one_label() -> None:
    metrics = Metrics()
    metrics.add(told(model='a"b\\c\nd'))
    assert (
        value(samples(metrics), "gen_ai_server_request_duration_seconds_count", gen_ai_response_model='a"b\\c\nd') == 1
    )
