"""Frames: bounded, strict, with a deadline in every state; whatever arrives, the other side is told or left in time."""

from __future__ import annotations

import os
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milton_assets.fleet.wire import (
    GREETING,
    MAX_BANNER_BYTES,
    MAX_HEADER_BYTES,
    MAX_PAYLOAD_BYTES,
    Frame,
    ProtocolViolated,
    Wire,
    WireBroken,
    packed,
)
from milton_assets.vocabulary.errors import BadInput, MiltonError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 53), 1 << 53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def heard(raw: bytes, *, deadline_s: float = 2.0, greeting: bool = False) -> Frame | bytes:
    """What a wire makes of these bytes, after which the other side ends."""
    reading, writing = os.pipe()
    other, unused = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as stream:
            stream.write(raw)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    wire = Wire(reading, unused)
    try:
        return wire.await_greeting(deadline_s=deadline_s) if greeting else wire.receive(deadline_s=deadline_s)
    finally:
        for handle in (reading, other, unused):
            os.close(handle)
        thread.join()


@given(header=st.dictionaries(st.text(max_size=10), JSON, max_size=5), payload=st.binary(max_size=2000))
def test_a_frame_arrives_as_it_was_sent(header, payload):
    assert heard(packed(header, payload)) == Frame(header, payload)


@given(raw=st.binary(max_size=300))
def test_whatever_arrives_is_a_frame_or_refused(raw):
    try:
        frame = heard(raw)
    except (ProtocolViolated, WireBroken, BadInput):
        return
    assert isinstance(frame, Frame)
    assert isinstance(frame.header, dict)


@given(header=st.dictionaries(st.text(max_size=10), JSON, max_size=3), payload=st.binary(max_size=50), data=st.data())
def test_a_frame_that_is_cut_short_is_no_frame(header, payload, data):
    raw = packed(header, payload)
    cut = data.draw(st.integers(0, len(raw) - 1))
    with pytest.raises(WireBroken):
        heard(raw[:cut])


@pytest.mark.parametrize(
    ("header_bytes", "payload_bytes"),
    [(0, 0), (1, 0), (MAX_HEADER_BYTES + 1, 0), (2, MAX_PAYLOAD_BYTES + 1), ((1 << 32) - 1, (1 << 32) - 1)],
)
def test_lengths_beyond_the_limits_are_refused_before_anything_is_read(header_bytes, payload_bytes):
    lengths = header_bytes.to_bytes(4, "big") + payload_bytes.to_bytes(4, "big")
    with pytest.raises(ProtocolViolated, match="a frame of"):
        heard(lengths)


@pytest.mark.parametrize(
    "header", [b"[]", b"1 ", b'{"a":1,"a":2}', b'{"a":NaN}', b"{" * 2000, b"\xff\xfe", b'"\\ud800"'], ids=range(7)
)
def test_a_header_that_is_no_strict_object_is_refused(header):
    with pytest.raises(BadInput):
        heard(len(header).to_bytes(4, "big") + bytes(4) + header)


def test_silence_ends_at_the_deadline():
    reading, writing = os.pipe()
    began = time.monotonic()
    with pytest.raises(WireBroken, match="before the deadline"):
        Wire(reading, writing).receive(deadline_s=0.2)
    assert time.monotonic() - began < 5
    for handle in (reading, writing):
        os.close(handle)


def test_a_side_that_takes_nothing_is_left_at_the_deadline():
    reading, writing = os.pipe()
    with pytest.raises(WireBroken, match="took nothing"):
        Wire(reading, writing).send({"verb": "chunk"}, bytes(1 << 20), deadline_s=0.2)
    for handle in (reading, writing):
        os.close(handle)


@given(banner=st.binary(max_size=2000))
def test_a_banner_before_the_greeting_does_no_harm(banner):
    if b"milton-agent" in banner:
        return
    said = heard(banner + b"\n" + GREETING, greeting=True)
    assert isinstance(said, bytes)
    assert said.rstrip(b"\n") == banner.rstrip(b"\n")


def test_a_banner_without_end_is_refused():
    with pytest.raises(ProtocolViolated, match="no greeting of an agent"):
        heard(b"x" * (MAX_BANNER_BYTES + (1 << 17)), greeting=True)


def test_another_version_of_the_protocol_is_refused_with_both_named():
    with pytest.raises(MiltonError, match="speaks protocol 7, this milton speaks protocol 5"):
        heard(b"\nmilton-agent protocol 7\n", greeting=True)
