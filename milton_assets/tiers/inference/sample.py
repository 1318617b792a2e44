"""One request, as a row: what was asked, when, what came back, and what it says about latency.

What belongs here: the request's body, and turning instants and a stream into a `Sample`. What does not: when requests
are sent (`load`) and what many samples say together (`summary`). The definitions are in docs/timing.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from milton_assets.tiers.inference.plan import InferencePlan
from milton_assets.tiers.inference.prompts import Prompt
from milton_assets.tiers.inference.stream import ChatStream, Failure
from milton_assets.tiers.inference.transport import Timing
from milton_assets.vocabulary.chat import CallErrorKind, clean_text


@dataclass(frozen=True)
class Ask:
    """One request to make: `index` counts all requests of the measurement, `nonce` keeps a cold cache cold."""

    index: int
    phase: str
    round: int
    prompt: Prompt
    nonce: str | None


@dataclass(frozen=True)
class Sample:
    """One request that was made. Milliseconds; None where it is unknown or undefined.

    Offsets count from the start of the measurement. Latencies start at `sent`, under an open load at `scheduled`.
    `joined_events` came in one read with the token event before them, so that only the last one's arrival is known;
    `first_token_joined` says whether one of them followed the first token.
    `output_tokens` are those that the served model's tokenizer finds in the text, where the server offers it, else what
    the server told in `usage`, which `told_tokens` always is.
    `blank_events` came before the first text that prints, `blank_ms` the first of them; `junk_events` held nothing but
    characters without width; `flushed` says that most of the text came at once after a silence, `silence_ms` how long
    nothing followed its first letters, where that is its longest silence by far.
    `output_bytes` is the text that came, visible or not, as UTF-8.
    `ok` rows have no `error_kind`; latencies that a failed request still showed are kept, but enter no figure.
    """

    index: int
    phase: str
    round: int
    prompt_id: str
    prompt_kind: str
    nonce: str | None
    ok: bool
    error_kind: str | None
    error_detail: str | None
    http_status: int | None
    scheduled_offset_ms: float | None
    sent_offset_ms: float | None
    ended_offset_ms: float | None
    sent_lag_ms: float | None
    reconnected: bool
    ttfb_ms: float | None
    ttft_ms: float | None
    ttfv_ms: float | None
    tpot_ms: float | None
    e2e_ms: float | None
    request_output_tokens_per_s: float | None
    output_tokens: int | None
    told_tokens: int | None
    prompt_tokens: int | None
    cached_tokens: int | None
    output_bytes: int
    token_events: int
    reasoning_events: int
    blank_events: int
    blank_ms: float | None
    junk_events: int
    flushed: bool
    silence_ms: float | None
    joined_events: int
    first_token_joined: bool
    finish_reason: str | None
    truncated: bool
    output_head: str


def request_body(plan: InferencePlan, model: str, ask: Ask) -> dict[str, Any]:
    """The chat completion request. A nonce opens the user's turn, since not every template has a system turn."""
    text = ask.prompt.text if ask.nonce is None else f"[{ask.nonce}] {ask.prompt.text}"
    return {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "stream": True,
        "stream_options": {"include_usage": True},
        **plan.sampling(),
        **plan.extra_body,
    }


def to_sample(ask: Ask, plan: InferencePlan, timing: Timing, stream: ChatStream, epoch_ns: int) -> Sample:
    """Reduce one exchange to its row. `epoch_ns` is the start of the measurement."""
    failure = stream.verdict(plan.max_tokens, timing.failure)
    start_ns = timing.due_ns if timing.due_ns is not None else timing.sent_ns
    if failure is None and start_ns is None:
        failure = Failure(CallErrorKind.MALFORMED, "the answer came before the request had gone out")
    if timing.sent_ns is None:
        start_ns = None
    ended_ns = stream.last_event_ns or timing.ended_ns
    usage = stream.usage
    tokens = usage.completion_tokens if usage else None
    e2e_ms = _ms(ended_ns, start_ns)
    return Sample(
        index=ask.index,
        phase=ask.phase,
        round=ask.round,
        prompt_id=ask.prompt.id,
        prompt_kind=ask.prompt.kind,
        nonce=ask.nonce,
        ok=failure is None,
        error_kind=failure.kind.value if failure else None,
        error_detail=clean_text(failure.detail) if failure else None,
        http_status=stream.status,
        scheduled_offset_ms=_ms(timing.due_ns, epoch_ns),
        sent_offset_ms=_ms(timing.sent_ns, epoch_ns),
        ended_offset_ms=_ms(ended_ns, epoch_ns),
        sent_lag_ms=_ms(timing.sent_ns, timing.due_ns),
        reconnected=timing.reconnected,
        ttfb_ms=_ms(timing.first_byte_ns, start_ns),
        ttft_ms=_ms(stream.first_token_ns, start_ns),
        ttfv_ms=_ms(stream.first_visible_ns, start_ns),
        tpot_ms=_time_per_output_token_ms(stream, tokens),
        e2e_ms=e2e_ms,
        request_output_tokens_per_s=tokens / e2e_ms * 1e3 if tokens and e2e_ms else None,
        output_tokens=tokens,
        told_tokens=tokens,
        prompt_tokens=usage.prompt_tokens if usage else None,
        cached_tokens=usage.cached_tokens if usage else None,
        output_bytes=stream.text_bytes,
        token_events=stream.token_events,
        reasoning_events=stream.reasoning_events,
        blank_events=stream.shape.blank_events,
        blank_ms=stream.shape.blank_ms,
        junk_events=stream.shape.junk_events,
        flushed=stream.shape.flushed,
        silence_ms=stream.shape.silence_ms,
        joined_events=stream.joined_events,
        first_token_joined=stream.first_token_joined,
        finish_reason=stream.finish_reason,
        truncated=stream.finish_reason == "length",
        output_head=clean_text(stream.head),
    )


def recounted(sample: Sample, tokens: int) -> Sample:
    """The same request with the tokens that were counted in its text, and the figures that rest on them."""
    told = sample.output_tokens
    after_first, told_after_first = tokens - 1 - sample.blank_events, (told or 0) - 1 - sample.blank_events
    tpot_ms = sample.tpot_ms
    if tpot_ms is not None:
        tpot_ms = tpot_ms * told_after_first / after_first if after_first >= 1 else None
    return replace(
        sample,
        output_tokens=tokens,
        tpot_ms=tpot_ms,
        request_output_tokens_per_s=tokens / sample.e2e_ms * 1e3 if tokens and sample.e2e_ms else None,
    )


def _time_per_output_token_ms(stream: ChatStream, tokens: int | None) -> float | None:
    """(last − first) / (n − 1) without the blank ones before the first; undefined for one token or one event."""
    if tokens is None or stream.token_events - stream.shape.blank_events < 2:
        return None
    span_ms, after_first = _ms(stream.last_token_ns, stream.first_token_ns), tokens - 1 - stream.shape.blank_events
    return None if span_ms is None or after_first < 1 else span_ms / after_first


def _ms(instant_ns: int | None, since_ns: int | None) -> float | None:
    return None if instant_ns is None or since_ns is None else (instant_ns - since_ns) / 1e6
