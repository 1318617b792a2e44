"""The event stream parser, against the rules of the WHATWG standard and against hostile bytes."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from milton_assets.tiers.inference.sse import MAX_EVENT_BYTES, Event, EventParser, EventTooLarge

LINE_ENDS = (b"\r\n", b"\n", b"\r")
texts = st.text(st.characters(blacklist_characters="\r\n", blacklist_categories=("Cs",)), max_size=12).map(str.encode)
fields = st.one_of(
    texts.map(lambda text: b"data: " + text),
    texts.map(lambda text: b"data:" + text),
    st.just(b"data"),
    texts.map(lambda text: b": " + text),
    texts.map(lambda text: b"event: " + text),
    texts.map(lambda text: b"id: " + text),
    texts.map(lambda text: b"retry:" + text),
    texts.map(lambda text: b"nonsense: " + text),
    st.just(b""),
    texts,
)
streams = st.lists(st.tuples(fields, st.sampled_from(LINE_ENDS)), max_size=30).map(
    lambda lines: b"".join(line + end for line, end in lines)
)


def reference(stream: bytes) -> list[Event]:
    """The standard's algorithm on the whole stream at once, line by line, written for clarity."""
    stream = stream.removeprefix(b"\xef\xbb\xbf")
    lines = re.split(rb"\r\n|\r|\n", stream)[:-1]
    events, data, name = [], b"", b""
    for line in lines:
        if line == b"":
            if data:
                events.append(Event(data[:-1], name or b"message"))
            data, name = b"", b""
        elif not line.startswith(b":"):
            field, _, value = line.partition(b":")
            value = value[1:] if value.startswith(b" ") else value
            if field == b"data":
                data += value + b"\n"
            elif field == b"event":
                name = value
    return events


def parse(*pieces: bytes) -> list[Event]:
    parser = EventParser()
    return [event for piece in pieces for event in parser.feed(piece)]


@given(streams, st.data())
@example(b"data: a\r\n\r\ndata: b\r\r\n", None)
def test_any_split_of_the_bytes_gives_the_events_of_the_standard(stream: bytes, data: st.DataObject | None) -> None:
    cuts = [] if data is None else sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert parse(*pieces) == reference(stream)


@given(streams)
def test_a_byte_at_a_time_gives_the_same_events(stream: bytes) -> None:
    assert parse(*(stream[i : i + 1] for i in range(len(stream)))) == reference(stream)


@given(st.binary(max_size=200), st.integers(1, 7))
def test_arbitrary_bytes_are_parsed_like_any_other(stream: bytes, step: int) -> None:
    assert parse(*(stream[i : i + step] for i in range(0, len(stream), step))) == reference(stream)


def test_data_lines_are_joined_by_a_line_feed() -> None:
    assert parse(b"data: one\ndata: two\n\n") == [Event(b"one\ntwo")]


def test_comments_and_unknown_fields_are_ignored() -> None:
    assert parse(b": ping\nid: 7\nfoo: bar\ndata: x\n\n") == [Event(b"x")]


def test_an_event_has_the_type_it_names_and_the_next_one_does_not() -> None:
    assert parse(b"event: error\ndata: x\n\ndata: y\n\n") == [Event(b"x", b"error"), Event(b"y", b"message")]


def test_a_carriage_return_ends_an_event_before_its_line_feed_arrives() -> None:
    parser = EventParser()
    assert parser.feed(b"data: x\r\n\r") == [Event(b"x")]
    assert parser.feed(b"\ndata: y\r\n\r\n") == [Event(b"y")]


def test_a_leading_byte_order_mark_is_dropped_even_in_two_pieces() -> None:
    assert parse(b"\xef\xbb", b"\xbfdata: x\n\n") == [Event(b"x")]


def test_an_unfinished_event_is_not_dispatched() -> None:
    assert parse(b"data: x\n") == []


@pytest.mark.parametrize("line", [b"data: " + b"x" * 65536, b"data: " + b"x" * 65535 + b"\n"])
def test_an_event_without_end_is_refused_before_it_fills_the_memory(line: bytes) -> None:
    parser = EventParser()
    with pytest.raises(EventTooLarge):
        for _ in range(MAX_EVENT_BYTES // len(line) + 2):
            parser.feed(line)
