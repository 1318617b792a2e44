"""Heads are read strictly: what is let through means to h11, an independent reader, just what it means to us."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from milton_assets.edge.serving.heads import BadHead, RequestHead, ResponseHead, response_head

LINES = [
    b"Host: x",
    b"host:x",
    b"Content-Length: 3",
    b"Content-Length: 3, 3",
    b"Content-Length: 03",
    b"Content-Length: +3",
    b"Content-Length: 4",
    b"Content-Length:",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: Chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: \tchunked \t",
    b"Connection: close",
    b"Connection: keep-alive, x",
    b"X: a\tb \xff",
    b"X: a\x00b",
    b"X: a\nTransfer-Encoding: chunked",
    b"X: a\r",
    b"X:",
    b" folded: line",
    b": nameless",
    b"Expect: 100-continue",
]
FIRST = [
    b"POST /v1/x HTTP/1.1",
    b"GET /v1/x?y=%20 HTTP/1.0",
    b"HEAD * HTTP/1.1",
    b"POST  /v1/x HTTP/1.1",
    b"POST /v1/ x HTTP/1.1",
    b"POST /v1/x HTTP/1.1 ",
    b"POST /v1/\xff HTTP/1.1",
    b"P\tST / HTTP/1.1",
    b"POST /v1/x HTTP/2.0",
]
lines = st.lists(st.one_of(st.sampled_from(LINES), st.binary(max_size=12)), max_size=6)


def joined(first: bytes, more: list[bytes]) -> bytes:
    return b"\r\n".join([first, *more])


@given(st.one_of(st.sampled_from(FIRST), st.binary(max_size=20)), lines)
def test_a_request_that_is_let_through_is_the_same_one_to_h11(first: bytes, more: list[bytes]) -> None:
    raw = joined(first, more)
    try:
        head = RequestHead.read(raw)
        length = head.body_length
    except BadHead:
        return
    if b"\r\n\r\n" in raw:
        return  # the head ends there, and whoever reads it would have cut it there
    other = h11.Connection(h11.SERVER)
    other.receive_data(raw + b"\r\n\r\n" + b"abcdefgh")
    event = other.next_event()
    assert isinstance(event, h11.Request)
    assert (event.method, event.target, event.http_version) == (head.method, head.target, b"1.%d" % head.minor)
    told = [one for one in head.headers if one[0] != b"content-length"]
    assert told == [(bytes(k), bytes(v)) for k, v in event.headers if k not in {b"content-length"}] or head.in_chunks
    if length is not None:
        body = other.next_event()
        assert isinstance(body, h11.Data if length else h11.EndOfMessage)
        if isinstance(body, h11.Data):
            assert len(body.data) == min(length, 8)
    else:
        assert (b"transfer-encoding", b"chunked") in event.headers


@given(st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.1 204", b"HTTP/1.0 500 ", b"HTTP/1.1 20 OK"]), lines)
def test_a_response_that_is_let_through_is_the_same_one_to_h11(first: bytes, more: list[bytes]) -> None:
    raw = joined(first, more)
    try:
        head = ResponseHead.read(raw)
        in_chunks, length = head.in_chunks, head.length
    except BadHead:
        return
    if b"\r\n\r\n" in raw:
        return
    other = h11.Connection(h11.CLIENT)
    other.send(h11.Request(method=b"GET", target=b"/", headers=[(b"host", b"x")]))
    other.send(h11.EndOfMessage())
    other.receive_data(raw + b"\r\n\r\n" + b"abcdefgh")
    event = other.next_event()
    assert isinstance(event, h11.Response)
    assert (event.status_code, event.reason) == (head.status, head.reason)
    if head.has_body(asked_head_only=False) and not in_chunks and length:
        body = other.next_event()
        assert isinstance(body, h11.Data)
        assert len(body.data) == min(length, 8)


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ([b"host: x", b"host: x"], 400),
        ([b"host: x", b"content-length: 3", b"transfer-encoding: chunked"], 400),
        ([b"host: x", b"content-length: 3", b"content-length: 4"], 400),
        ([b"host: x", b"transfer-encoding: identity"], 501),
        ([b"host: x", b"transfer-encoding: chunked", b"transfer-encoding: chunked"], 501),
        ([b"host: x", b"x: a\nb: c"], 400),
        ([b"host: x", b" folded"], 400),
    ],
    ids=["two-hosts", "length-and-chunks", "two-lengths", "another-coding", "coded-twice", "bare-newline", "folded"],
)
def test_what_two_readers_could_take_for_two_things_is_refused(more: list[bytes], status: int) -> None:
    with pytest.raises(BadHead) as refused:
        assert RequestHead.read(joined(b"POST /v1/x HTTP/1.1", more)).body_length
    assert refused.value.status == status


def test_what_is_written_is_read_back() -> None:
    raw = response_head(404, b"Not Found", [(b"content-length", b"0"), (b"connection", b"close")])
    assert raw.endswith(b"\r\n\r\n")
    head = ResponseHead.read(raw[:-4])
    assert (head.status, head.length, head.ends_connection) == (404, 0, True)
