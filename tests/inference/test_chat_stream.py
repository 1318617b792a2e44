"""What counts as a token, and what verdict a stream gets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from milton_assets.tiers.inference.shape import is_junk, prints
from milton_assets.tiers.inference.stream import ChatStream, Failure
from milton_assets.vocabulary.chat import CallErrorKind

USAGE = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}}


def delta(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": None}]}


def finish(reason: str = "stop") -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}


def streamed(*chunks: Any, status: int = 200, content_type: str = "text/event-stream", **headers: str) -> ChatStream:
    """Chunk number i arrives at i + 1 ns. Bytes go in as they are, "[DONE]" as such, all else as JSON."""
    stream = ChatStream()
    stream.on_head(status, {"content-type": content_type} | {name.replace("_", "-"): v for name, v in headers.items()})
    for stamp, chunk in enumerate(chunks, 1):
        if isinstance(chunk, bytes):
            stream.on_body(stamp, chunk)
        else:
            text = chunk if chunk == "[DONE]" else json.dumps(chunk)
            stream.on_body(stamp, f"data: {text}\n\n".encode())
    return stream


def kind(stream: ChatStream, max_tokens: int = 64, transport: Failure | None = None) -> CallErrorKind | None:
    failure = stream.verdict(max_tokens, transport)
    return failure.kind if failure else None


def test_a_whole_answer_is_good() -> None:
    stream = streamed(delta(role="assistant"), delta(content="a"), delta(content="b"), finish(), USAGE, "[DONE]")
    assert kind(stream) is None
    assert (stream.first_token_ns, stream.last_token_ns, stream.last_event_ns) == (2, 3, 6)
    assert stream.head == "ab"


@pytest.mark.parametrize(
    "nothing",
    [delta(role="assistant"), delta(content=""), delta(content=None), delta(reasoning_content=""), {"choices": []}],
    ids=["role only", "empty content", "null content", "empty reasoning", "no choice"],
)
def test_a_chunk_without_text_is_no_token(nothing: dict[str, Any]) -> None:
    stream = streamed(nothing, delta(content="a"), finish(), USAGE)
    assert stream.first_token_ns == 2
    assert stream.token_events == 1


@pytest.mark.parametrize(
    ("stamps", "joined", "first_joined"),
    [([1, 2, 3], 0, False), ([1, 2, 2], 1, False), ([2, 2, 3], 1, True), ([2, 2, 2], 2, True)],
)
def test_token_events_that_share_a_stamp_are_counted(stamps: list[int], joined: int, first_joined: bool) -> None:
    stream = ChatStream()
    stream.on_head(200, {"content-type": "text/event-stream"})
    for stamp in stamps:
        stream.on_body(stamp, f"data: {json.dumps(delta(content='a'))}\n\n".encode())
    assert (stream.joined_events, stream.first_token_joined) == (joined, first_joined)


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
def test_reasoning_is_the_first_token_but_not_the_first_visible_one(key: str) -> None:
    stream = streamed(delta(**{key: "hm"}), delta(content="a"), finish(), USAGE)
    assert (stream.first_token_ns, stream.first_visible_ns) == (1, 2)
    assert (stream.token_events, stream.reasoning_events) == (2, 1)


def test_gaps_are_those_between_token_events_alone() -> None:
    gaps: list[int] = []
    stream = ChatStream(gaps.append)
    stream.on_head(200, {})
    for stamp, chunk in [(10, delta(role="assistant")), (30, delta(content="a")), (35, delta(content="b"))]:
        stream.on_body(stamp, f"data: {json.dumps(chunk)}\n\n".encode())
    assert gaps == [5]


def test_an_event_in_two_pieces_arrives_with_the_second() -> None:
    whole = f"data: {json.dumps(delta(content='a'))}\n\n".encode()
    assert streamed(whole[:20], whole[20:]).first_token_ns == 2


def test_cached_tokens_are_read_where_the_server_tells() -> None:
    usage = USAGE["usage"] | {"prompt_tokens_details": {"cached_tokens": 4}}  # type: ignore[operator]
    stream = streamed(delta(content="a"), finish(), {"choices": [], "usage": usage})
    assert stream.usage is not None
    assert stream.usage.cached_tokens == 4


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([{"error": {"message": "out of memory"}}], CallErrorKind.ERROR_IN_STREAM),
        ([delta(content="a"), {"object": "error", "message": "x"}], CallErrorKind.ERROR_IN_STREAM),
        ([b"event: error\ndata: {}\n\n"], CallErrorKind.ERROR_IN_STREAM),
        ([delta(content="a")], CallErrorKind.CUT_SHORT),
        ([b"data: {no json\n\n"], CallErrorKind.NOT_JSON),
        ([b"data: \xff\xfe\n\n"], CallErrorKind.NOT_JSON),
        ([b"data: [1, 2]\n\n"], CallErrorKind.MALFORMED),
        ([{"choices": "none"}], CallErrorKind.MALFORMED),
        ([{"choices": [{"delta": "text"}]}], CallErrorKind.MALFORMED),
        ([delta(content=["part"])], CallErrorKind.MALFORMED),
        ([b"<html>a proxy speaks</html>"], CallErrorKind.NOT_SSE),
        ([], CallErrorKind.EMPTY),
        ([delta(role="assistant"), finish(), USAGE], CallErrorKind.EMPTY),
        ([delta(content="a"), finish(), "[DONE]"], CallErrorKind.USAGE_MISSING),
        ([delta(content="a"), finish(), {"usage": {"completion_tokens": "two"}}], CallErrorKind.USAGE_MISSING),
        ([delta(content="a"), finish(), {"usage": {"completion_tokens": 0}}], CallErrorKind.MALFORMED),
        ([delta(content="a"), finish("length"), USAGE], CallErrorKind.TRUNCATED),
    ],
)
def test_each_way_to_fail_has_its_kind(chunks: list[Any], expected: CallErrorKind) -> None:
    assert kind(streamed(*chunks)) is expected


def test_stopping_at_max_tokens_is_no_error() -> None:
    stream = streamed(delta(content="a"), delta(content="b"), finish("length"), USAGE)
    assert kind(stream, max_tokens=2) is None


def test_an_http_error_shows_what_the_server_said() -> None:
    stream = streamed(b'{"error": "no such model"}', status=404, content_type="application/json")
    failure = stream.verdict(64)
    assert failure is not None
    assert failure.kind is CallErrorKind.HTTP_STATUS
    assert "404" in failure.detail
    assert "no such model" in failure.detail


@pytest.mark.parametrize(
    ("status", "headers", "says"),
    [
        (429, {"retry_after": "7"}, "status 429 (Retry-After 7): slow down"),
        (
            301,
            {"location": "https://elsewhere.example/"},
            "status 301 (it leads to https://elsewhere.example/): slow down",
        ),
    ],
)
def test_an_http_error_shows_how_long_to_wait_and_where_a_redirect_leads(
    status: int, headers: dict[str, str], says: str
) -> None:
    failure = streamed(b"slow down", status=status, **headers).verdict(64)
    assert failure is not None and failure.detail == says


def test_an_encoded_body_is_refused() -> None:
    stream = ChatStream()
    stream.on_head(200, {"content-encoding": "gzip"})
    assert kind(stream) is CallErrorKind.MALFORMED


def test_the_first_failure_is_the_one_that_is_told() -> None:
    stream = streamed({"error": "first"}, b"data: {no json\n\n")
    assert kind(stream, transport=Failure(CallErrorKind.CUT_SHORT, "closed")) is CallErrorKind.ERROR_IN_STREAM


def test_a_connection_that_dies_after_done_does_no_harm() -> None:
    stream = streamed(delta(content="a"), finish(), USAGE, "[DONE]")
    assert kind(stream, transport=Failure(CallErrorKind.CUT_SHORT, "closed")) is None


def test_an_endless_event_is_no_event_stream() -> None:
    stream = ChatStream()
    stream.on_head(200, {})
    for _ in range(200):
        stream.on_body(1, b"x" * 65536)
    assert kind(stream) is CallErrorKind.NOT_SSE


@pytest.mark.parametrize("reason", ["abort", "error", "cancelled", "content_filter"])
def test_a_stream_that_the_server_broke_off_is_an_error(reason: str) -> None:
    assert kind(streamed(delta(content="a"), finish(reason), USAGE, "[DONE]")) is CallErrorKind.ABORTED


def test_more_tokens_than_were_asked_for_are_malformed() -> None:
    whole = streamed(*[delta(content="word")] * 64, finish("length"), usage(65), "[DONE]")
    assert kind(whole, max_tokens=64) is CallErrorKind.MALFORMED
    assert kind(whole, max_tokens=65) is None


def test_more_tokens_than_bytes_of_text_are_malformed() -> None:
    assert kind(streamed(delta(content="word"), finish(), usage(40), "[DONE]")) is CallErrorKind.MALFORMED
    assert kind(streamed(delta(reasoning_content="0" * 40), finish(), usage(40), "[DONE]")) is None


def test_a_delta_of_parts_is_the_text_of_its_text_parts() -> None:
    assert streamed(delta(content=[{"type": "text", "text": "ab"}]), finish(), USAGE).head == "ab"


@pytest.mark.parametrize(
    "odd",
    [b"[" * 200_000, b'{"choices": ' + b"9" * 4_301 + b"}"],
    ids=["200,000 nested brackets", "a number of 4,301 digits"],
)
def test_json_that_python_will_not_read_is_an_error_of_that_request(odd: bytes) -> None:
    stream = streamed(b"data: " + odd + b"\n\n", delta(content="a"), finish(), USAGE)
    assert kind(stream) is CallErrorKind.NOT_JSON


def usage(completion_tokens: int) -> dict[str, Any]:
    return {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": completion_tokens}}


# ------------------------------------------------------------------------------- streams that serve only the clock

BLANKS = {"a space": " ", "line feeds": "\n\n", "zero-width": "\u200b", "a filler": "\u3164", "a control": "\x00"}


@pytest.mark.parametrize("blank", BLANKS.values(), ids=BLANKS.keys())
@pytest.mark.parametrize("part", ["content", "reasoning_content"])
def test_blank_text_first_does_not_stop_the_clock(blank: str, part: str) -> None:
    stream = streamed(delta(**{part: blank}), delta(**{part: blank}), delta(content="Paris"), finish(), USAGE)
    assert (stream.first_token_ns, stream.first_visible_ns, stream.token_events) == (3, 3, 3)
    assert (stream.shape.blank_events, stream.shape.blank_ms) == (2, 2e-6)


def test_a_stream_that_never_prints_has_no_token() -> None:
    stream = streamed(delta(content="\u200b"), delta(content=" \n"), finish(), USAGE, "[DONE]")
    assert kind(stream) is CallErrorKind.EMPTY


def test_gaps_between_blank_events_before_the_first_token_are_none() -> None:
    gaps: list[int] = []
    stream = ChatStream(on_gap=gaps.append)
    stream.on_head(200, {"content-type": "text/event-stream"})
    for stamp, text in ((1, " "), (2, " "), (50, "a"), (60, "b")):
        stream.on_body(stamp, f"data: {json.dumps(delta(content=text))}\n\n".encode())
    assert gaps == [10]


SENTENCE = "aris is the capital of France and of much else."


@pytest.mark.parametrize(
    ("events", "flushed"),
    [
        pytest.param([(0, "P"), (1000, SENTENCE)], True, id="a-letter-silence-and-all"),
        pytest.param([(0, "P"), (10, "."), (1000, SENTENCE)], True, id="two-events-first"),
        pytest.param([(n * 10, " word") for n in range(20)], False, id="steady"),
        pytest.param([(n * 10, " four words to a chunk") for n in range(8)], False, id="several-tokens-a-chunk"),
        pytest.param([(0, SENTENCE)], False, id="one-event"),
    ],
)
def test_text_that_comes_at_once_after_a_silence_is_seen(events: list[tuple[int, str]], flushed: bool) -> None:
    stream = ChatStream()
    stream.on_head(200, {"content-type": "text/event-stream"})
    for stamp, text in events:
        stream.on_body(stamp, f"data: {json.dumps(delta(content=text))}\n\n".encode())
    assert stream.shape.flushed is flushed


@pytest.mark.parametrize(
    ("gaps_ms", "silence_ms"),
    [
        pytest.param([260] + [10] * 20, 260, id="a-letter-silence-and-the-rest-as-it-comes"),
        pytest.param([260] + [0] * 20, 260, id="a-letter-silence-and-the-rest-at-once"),
        pytest.param([10] * 20, None, id="steady"),
        pytest.param([40] * 5, None, id="several-tokens-a-chunk"),
        pytest.param([0, 0, 0, 100] * 5, None, id="a-proxy-that-passes-on-every-tenth-of-a-second"),
        pytest.param([10] * 10 + [260] + [10] * 10, None, id="a-pause-further-on"),
        pytest.param([300], None, id="two-events"),
    ],
)
def test_a_silence_after_the_first_letters_is_seen(gaps_ms: list[int], silence_ms: int | None) -> None:
    stream, at_ms = ChatStream(), 0
    stream.on_head(200, {"content-type": "text/event-stream"})
    for n, gap_ms in enumerate([44, *gaps_ms]):
        at_ms += gap_ms
        stream.on_body(at_ms * 1_000_000, f"data: {json.dumps(delta(content=' word' if n else 'T'))}\n\n".encode())
    assert stream.shape.silence_ms == silence_ms


def test_letters_of_every_script_print_and_characters_without_width_are_junk() -> None:
    assert all(map(prints, ("a", "é", "漢", "ا", "🙂", "।", "\ufffd", "\ud83d")))
    assert all(map(is_junk, ("\u200b", "\u2060\ufeff", "\x00")))
    assert not any(map(is_junk, (" ", "\n", "a\u200b", "")))
