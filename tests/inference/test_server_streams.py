"""Each server's own stream, as it puts it on the wire, through the whole tier; and one too fast for the client."""

from __future__ import annotations

import json
from typing import Any

import pytest

from milton_assets.tiers.inference import InferencePlan, Prompt, measure_inference
from milton_assets.vocabulary.server import Endpoint
from milton_assets.vocabulary.tier import TierResult
from tests.support.scripted_server import Done, Raw, Stream, Usage, scripted_server

PLAN = InferencePlan(
    prompts=(Prompt(id="p", kind="factual", text="Question?"),),
    warm_up_requests=0,
    requests_per_round=3,
    min_rounds=1,
    max_rounds=1,
    max_tokens=8,
    calibrate=False,
)


def chunk(delta: dict[str, Any] | None, *, of_choice: dict[str, Any] | None = None, **more: Any) -> Raw:
    choice = {"index": 0, "delta": delta, "finish_reason": None, **(of_choice or {})}
    event = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", **more}
    event["choices"] = [] if delta is None else [choice]
    return Raw(b"data: " + json.dumps(event).encode() + b"\n\n", 0.005)


def usage(completion_tokens: int, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": 5, "completion_tokens": completion_tokens, "total_tokens": 5 + completion_tokens, **more}


def measured(*steps: Any) -> TierResult:
    with scripted_server(Stream(*steps)) as server:
        return measure_inference(Endpoint(server.base_url, "m"), PLAN)


def sglang() -> list[Any]:
    """A role with empty content, nulls in every delta, an ending of nulls, usage in a chunk without choices.

    Source: SGLang, `openai/serving_chat.py` and `openai/protocol.py`.
    """
    nulls = {"role": None, "content": None, "reasoning_content": None, "tool_calls": None}
    plain = {"logprobs": None, "matched_stop": None}
    return [
        chunk(nulls | {"role": "assistant", "content": ""}, of_choice=plain, usage=None),
        chunk(nulls | {"reasoning_content": "Hm"}, of_choice=plain, usage=None),
        chunk(nulls | {"content": "Par"}, of_choice=plain, usage=None),
        chunk(nulls | {"content": "is"}, of_choice=plain, usage=None),
        chunk(nulls, of_choice=plain | {"finish_reason": "stop", "matched_stop": 2}, usage=None),
        chunk(None, usage=usage(3, prompt_tokens_details=None, reasoning_tokens=1)),
    ]


def tensorrt_llm() -> list[Any]:
    """Deltas without a role but in the first, an empty one at the end with the reason, usage without choices.

    Source: TensorRT-LLM, `serve/openai_protocol.py` and `serve/postprocess_handlers.py`.
    """
    nulls = {"content": None, "reasoning_content": None, "reasoning": None, "tool_calls": None}
    plain = {"logprobs": None, "stop_reason": None, "avg_decoded_tokens_per_iter": None}
    return [
        chunk(nulls | {"role": "assistant", "content": ""}, of_choice=plain),
        chunk(nulls | {"reasoning_content": "Hm"}, of_choice=plain),
        chunk(nulls | {"content": "Par"}, of_choice=plain),
        chunk(nulls | {"content": "is"}, of_choice=plain),
        chunk(nulls | {"content": ""}, of_choice=plain | {"finish_reason": "stop"}),
        chunk(None, usage=usage(3)),
    ]


def ollama() -> list[Any]:
    """The role in every delta, reasoning as `reasoning` beside an empty content, usage without choices.

    Source: Ollama, `openai/openai.go`.
    """
    said = {"system_fingerprint": "fp_ollama"}
    return [
        chunk({"role": "assistant", "content": "", "reasoning": "Hm"}, **said),
        chunk({"role": "assistant", "content": "Par"}, **said),
        chunk({"role": "assistant", "content": "is"}, **said),
        chunk({"role": "assistant", "content": ""}, of_choice={"finish_reason": "stop"}, **said),
        chunk(None, usage=usage(3), **said),
    ]


@pytest.mark.parametrize("stream", [sglang, tensorrt_llm, ollama], ids=lambda stream: stream.__name__)
def test_a_servers_own_stream_is_read_as_it_is_meant(stream: Any) -> None:
    rows = measured(*stream(), Done()).samples
    assert rows.ok.all()
    assert (rows.output_tokens == 3).all()
    assert (rows.token_events == 3).all()
    assert (rows.reasoning_events == 1).all()
    assert (rows.ttft_ms <= rows.ttfv_ms).all()
    assert set(rows.finish_reason) == {"stop"}
    assert set(rows.output_head) == {"HmParis"}


def test_a_server_that_is_faster_than_the_client_gives_figures_that_the_client_marks_invalid() -> None:
    tokens = 20_000
    one = chunk({"content": "word "}).data
    plan = PLAN.model_copy(update={"max_tokens": tokens})
    reply = Stream(Raw(one * tokens), chunk({}, of_choice={"finish_reason": "stop"}), Usage(5, tokens), Done())
    with scripted_server(reply) as server:
        result = measure_inference(Endpoint(server.base_url, "m"), plan)
    assert result.metric("success_rate").value == 1.0
    assert result.metric("success_rate").valid
    for name in ("itl_ms.median", "itl_ms.p99"):
        metric = result.metric(name)
        assert not metric.valid
        assert "reading delay" in (metric.why or "") or "bottleneck" in (metric.why or "")
    assert result.provenance["stamps"]["reading_delay_ms_p99"] > 1
