"""When a figure says more about the client than about the server.

What belongs here: the rules by which a figure is marked invalid, each with its limit. What does not: taking the
figures that the rules look at (`watch`, `calibrate`).

The client may add at most 1 ms or 5 % of a figure, whichever is more; of a time per output token, that is of the span
from first to last token. A median or mean is judged by what the client typically adds, a tail (std, p95, p99) by the
99th percentile. Of the requests, 1 % or half the width of the share's interval, whichever is more, may be so near to a
limit of an SLO that what the client adds decides on which side they are. What the client adds:
- calibration bias; for the time per output token and gaps, the bias of the span from first to last token,
- scheduled-to-sent lag,
- to the time that a request takes in all, and so to what throughput is divided by: how long it waited for the client
  before it went out, on a stream that was free or after it was due (`watch.ClientLoad`); throughput that lost more than
  1 ms a request and 5 % to that was the client's as much as the server's. Fewer than 16 streams do not keep a client
  busy: where they wait, the machine is, which is watched by itself,
- event-loop lag, where the kernel did not stamp,
- reading delay, where the kernel stamped and events were joined: segments that wait together to be read may be merged,
  and then all bear the last one's stamp, too late by as much as the client is late in reading. A client that reads at
  once cannot merge anything: what then shares a stamp was sent together. Joined events count from 5 % on for a typical
  figure, from 1 % on for a tail: of the first tokens for what ends with one, of all token events for what lies between.

A count of tokens that the stream does not bear out is doubted, and with it every figure that rests on it: more than two
tokens an event while there are less than 1.5 bytes of text a token (prose has three to five), or less than half a token
an event.

A stream that serves the clock and no reader is doubted, where more than 5 % of the good ones are so: most of its text
comes at once after a silence; or it opens with text that does not print, and the first that does takes longer than
three of its own tokens and 5 ms. So is one that opens with a tenth of its text at most and then keeps silent for
longer than that took to come (and than three of its other gaps and 5 ms), where more than half of the good ones are so:
other requests silence some streams, and anywhere. More than 5 % of events without width, or more than half of the
answers ended by the server after one token, and no figure that a token moves is held to be one.

Where the server offers its tokenizer, the tokens are counted in the text; it may have told a quarter more or fewer, and
must have read as many of a prompt as its text has.

Above 90 % of a core every figure is invalid; where several processes made the load, that is the busiest one's. With a
cold cache less than half of a prompt may have been cached (as the median goes), with a warm one some of it must have
been, where the server tells; that holds for every figure which a cache moves, so for all but the time per output token,
gaps and the success rate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from milton_assets.tiers.inference.calibrate import Calibration
from milton_assets.tiers.inference.connection import StampSummary
from milton_assets.tiers.inference.sample import Sample
from milton_assets.tiers.inference.stats import share
from milton_assets.tiers.inference.summary import meets
from milton_assets.tiers.inference.watch import ClientLoad
from milton_assets.vocabulary.metric import Metric
from milton_assets.vocabulary.slo import SLO

ALLOWED_MS = 1.0
ALLOWED_SHARE = 0.05
MAX_CPU_SHARE = 0.9
LEAST_STREAMS = 16
MAX_COLD_SHARE = 0.5
MAX_UNSURE_SHARE = 0.01
MAX_TOKENS_AN_EVENT = 2.0
MIN_TOKENS_AN_EVENT = 0.5
MIN_BYTES_A_TOKEN = 1.5
MAX_JOINED_SHARE = 0.05
MAX_JOINED_SHARE_OF_TAILS = 0.01
_FROM_START = ("ttfb_ms", "ttft_ms", "ttfv_ms", "e2e_ms")
_BETWEEN_TOKENS = ("tpot_ms", "itl_ms")
_THROUGHPUT = ("output_tokens_per_s", "requests_per_s", "goodput_per_s", "energy_j_per_token")
_WITHIN_SLO = ("slo_share", "goodput_per_s")
_MOVED_BY_CACHE = (*_FROM_START, *_WITHIN_SLO, "request_output_tokens_per_s", "output_tokens_per_s", "requests_per_s")
_RESTS_ON_USAGE = ("tpot_ms", "request_output_tokens_per_s", "output_tokens_per_s", "energy_j_per_token")
_STREAMED = ("ttft_ms", "ttfv_ms", "tpot_ms", "itl_ms", *_WITHIN_SLO)
_OF_TOKENS = (*_STREAMED, *_RESTS_ON_USAGE, "e2e_ms", "requests_per_s")
MAX_ODD_SHARE = 0.05
MAX_TOLD = 1.25
_ENDS = 4
MAX_ENDED_AT_ONCE = 0.5
MAX_SILENT_SHARE = 0.5
BLANK_TOKENS = 3.0
BLANK_MS = 5.0
_TYPICAL = ("median", "mean")


@dataclass(frozen=True)
class TokenCount:
    """What tokens were counted by, `because` where that is not the served model's tokenizer.

    `prompt_floor` is how many tokens that finds in each prompt's own text, by the prompt's id: what a template adds
    comes on top.
    """

    by: str = "usage"
    because: str | None = None
    prompt_floor: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ClientEvidence:
    """What is known about the client and the cache during one measurement."""

    samples: Sequence[Sample]
    load: ClientLoad
    stamps: StampSummary
    calibration: Calibration | None
    cache: str
    slo: SLO | None = None
    counted: TokenCount = TokenCount()
    streams: int | None = None
    """In flight under a closed load; None under an open one."""


def judged(metrics: Sequence[Metric], evidence: ClientEvidence) -> tuple[Metric, ...]:
    """The same metrics, those that cannot be relied on marked invalid with every reason."""
    return tuple(
        metric.invalidated("; ".join(reasons)) if (reasons := list(_reasons(metric, evidence))) else metric
        for metric in metrics
    )


def _reasons(metric: Metric, evidence: ClientEvidence) -> Iterator[str]:
    if metric.value is None or metric.name in {"success_rate"}:
        return
    if evidence.load.cpu_share > MAX_CPU_SHARE:
        yield f"the client was the bottleneck: it used {evidence.load.cpu_share:.0%} of a core"
    name, _, statistic = metric.name.partition(".")
    if name in _THROUGHPUT and (complaint := _waited_for_the_client(evidence)):
        yield complaint
    if name in (*_FROM_START, *_BETWEEN_TOKENS):
        yield from _excesses(name, metric.value, typical=statistic in _TYPICAL, evidence=evidence)
    if name in _WITHIN_SLO and evidence.slo is not None and (doubt := _doubt(evidence.slo, evidence)):
        yield doubt
    if name in _RESTS_ON_USAGE and (complaint := _false_usage(evidence)):
        yield complaint
    if name in _MOVED_BY_CACHE and (complaint := _short_prompts(evidence)):
        yield complaint
    if name in _RESTS_ON_USAGE and (complaint := _usage_complaint(evidence)):
        yield complaint
    if name in _STREAMED:
        yield from _streamed_for_the_clock(evidence)
    if name in _OF_TOKENS:
        yield from _hardly_tokens(evidence)
    if name in _MOVED_BY_CACHE and (complaint := _cache_complaint(evidence)):
        yield complaint


def _waited_for_the_client(evidence: ClientEvidence) -> str | None:
    load = evidence.load
    if evidence.streams is not None and evidence.streams < LEAST_STREAMS:
        return None
    if load.waited_ms <= ALLOWED_MS or load.waited_share <= ALLOWED_SHARE:
        return None
    return (
        f"the client was the bottleneck: requests waited {load.waited_ms:.2f} ms for it, {load.waited_share:.0%} of "
        f"the time, allowed are {ALLOWED_SHARE:.0%}"
    )


def _excesses(name: str, value_ms: float, *, typical: bool, evidence: ClientEvidence) -> Iterator[str]:
    """What the client adds to a latency of `value_ms` beyond what is allowed."""
    gaps = 1.0
    if name == "tpot_ms":
        gaps = max(_median([(s.output_tokens or 1) - 1 for s in evidence.samples if s.ok]) or 1.0, 1.0)
    allowed_ms = max(ALLOWED_MS, ALLOWED_SHARE * value_ms * gaps)
    added = list(_blur_ms(name, typical=typical, evidence=evidence))
    lags = [sample.sent_lag_ms for sample in evidence.samples if sample.sent_lag_ms is not None]
    if lags and name in _FROM_START:
        added.append((f"scheduled-to-sent lag ({_which(typical)})", float(np.quantile(lags, 0.5 if typical else 0.99))))
    for what, added_ms in added:
        if added_ms > allowed_ms:
            yield f"{what} of {added_ms:.2f} ms, allowed are {allowed_ms:.2f} ms"


def _which(typical: bool) -> str:
    return "typical" if typical else "99th percentile"


def _blur_ms(name: str, *, typical: bool, evidence: ClientEvidence) -> Iterator[tuple[str, float]]:
    """By how much the instants that the latency lies between may be wrong."""
    load, stamps, which = evidence.load, evidence.stamps, _which(typical)
    joined = _joined_share(name, evidence.samples)
    if not stamps.by_kernel:
        yield f"event-loop lag ({which})", load.loop_lag_ms_median if typical else load.loop_lag_ms_p99
    elif name != "e2e_ms" and joined > (MAX_JOINED_SHARE if typical else MAX_JOINED_SHARE_OF_TAILS):
        delay_ms = stamps.reading_delay_ms_median if typical else stamps.reading_delay_ms_p99
        yield f"reading delay ({which}, with {joined:.0%} of what it stamps joined)", delay_ms
    if (calibration := evidence.calibration) is not None:
        if name in _FROM_START:
            bias, unit_ms = calibration.ttft_bias_ms, 1.0
        else:
            bias, unit_ms = calibration.tpot_bias_percent, calibration.span_ms / 100
        yield f"calibration bias ({which})", (abs(bias.median) if typical else bias.p99) * unit_ms


def _doubt(slo: SLO, evidence: ClientEvidence) -> str | None:
    """Whether too many requests are so near to a limit that the client decides on which side they are."""
    blur_ms = {
        name: max((ms for _, ms in _blur_ms(name, typical=False, evidence=evidence)), default=0.0)
        for name in slo.limits()
    }

    def limits(sample: Sample, sign: int) -> dict[str, float]:
        """The limits, moved by what the client may have taken from this request (−) or added to it (+)."""
        moved = {}
        for name, limit_ms in slo.limits().items():
            gaps = max((sample.output_tokens or 2) - 1, 1) if name == "tpot_ms" else 1
            lag_ms = (sample.sent_lag_ms or 0.0) if name in _FROM_START and sign > 0 else 0.0
            moved[name] = limit_ms + sign * blur_ms[name] / gaps + lag_ms
        return moved

    samples = evidence.samples
    if not samples:
        return None
    unsure = sum(meets(sample, limits(sample, +1)) and not meets(sample, limits(sample, -1)) for sample in samples)
    _, interval = share(sum(meets(sample, slo.limits()) for sample in samples), len(samples))
    allowed = max(MAX_UNSURE_SHARE, (interval.high - interval.low) / 2 if interval else 0.0)
    if unsure <= allowed * len(samples):
        return None
    return (
        f"{unsure / len(samples):.1%} of the requests are nearer to a limit than what the client adds, "
        f"allowed are {allowed:.1%}"
    )


def _joined_share(name: str, samples: Sequence[Sample]) -> float:
    """The share of first tokens that bear a later one's stamp; between tokens, of token events with another's."""
    good = [sample for sample in samples if sample.ok]
    if name in _FROM_START:
        joined, stamped = sum(sample.first_token_joined for sample in good), len(good)
    else:
        joined, stamped = sum(sample.joined_events for sample in good), sum(sample.token_events for sample in good)
    return joined / stamped if stamped else 0.0


def _usage_complaint(evidence: ClientEvidence) -> str | None:
    good = [sample for sample in evidence.samples if sample.ok and sample.output_tokens]
    tokens, events = sum(s.output_tokens or 0 for s in good), sum(s.token_events for s in good)
    if not tokens or not events:
        return None
    bytes_a_token = sum(s.output_bytes for s in good) / tokens
    if tokens > MAX_TOKENS_AN_EVENT * events and bytes_a_token < MIN_BYTES_A_TOKEN:
        return f"the server counts {tokens} tokens in {events} events, with {bytes_a_token:.1f} bytes of text a token"
    if tokens < MIN_TOKENS_AN_EVENT * events:
        return f"the server counts {tokens} tokens in {events} events that each carried text"
    return None


def _false_usage(evidence: ClientEvidence) -> str | None:
    """Whether the server told others than its tokenizer finds in the text, ends of turns allowed for."""
    good = [s for s in evidence.samples if s.ok and s.output_tokens and s.told_tokens]
    told, found = sum(s.told_tokens or 0 for s in good), sum(s.output_tokens or 0 for s in good)
    if told > MAX_TOLD * found + _ENDS * len(good) or told * MAX_TOLD + _ENDS * len(good) < found:
        return f"the server told {told} tokens, its tokenizer finds {found} in the text"
    return None


def _short_prompts(evidence: ClientEvidence) -> str | None:
    """Whether the server read fewer tokens than a prompt's own text has."""
    floor = evidence.counted.prompt_floor
    short = [
        (s.prompt_tokens, floor[s.prompt_id])
        for s in evidence.samples
        if s.ok and s.prompt_tokens is not None and s.prompt_tokens + _ENDS < floor.get(s.prompt_id, 0)
    ]
    if len(short) <= MAX_ODD_SHARE * sum(s.ok for s in evidence.samples):
        return None
    read, has = short[0]
    return f"of {len(short)} prompts the server read less than their text: {read} tokens of {has}, say"


def _streamed_for_the_clock(evidence: ClientEvidence) -> Iterator[str]:
    good = [sample for sample in evidence.samples if sample.ok]
    flushed = sum(bool(sample.flushed) for sample in good)
    if flushed > MAX_ODD_SHARE * len(good):
        yield f"in {flushed} of {len(good)} streams most of the text came in one event after a silence"
    silent_ms = [
        sample.silence_ms
        for sample in good
        if sample.silence_ms is not None and sample.ttft_ms is not None and sample.silence_ms > sample.ttft_ms
    ]
    if len(silent_ms) > MAX_SILENT_SHARE * len(good):
        yield (
            f"{len(silent_ms)} of {len(good)} streams open with a few letters, which nothing followed for "
            f"{_median(silent_ms):.0f} ms: longer than they took to come"
        )
    early_ms = [
        sample.blank_ms
        for sample in good
        if sample.blank_ms is not None and sample.blank_ms > BLANK_TOKENS * (sample.tpot_ms or 0.0) + BLANK_MS
    ]
    if len(early_ms) > MAX_ODD_SHARE * len(good):
        yield (
            f"{len(early_ms)} of {len(good)} streams open with text that does not print, {_median(early_ms):.0f} ms "
            "before the first that does"
        )


def _hardly_tokens(evidence: ClientEvidence) -> Iterator[str]:
    good = [sample for sample in evidence.samples if sample.ok]
    junk, events = sum(sample.junk_events or 0 for sample in good), sum(sample.token_events for sample in good)
    if junk > MAX_ODD_SHARE * events:
        yield f"{junk} of {events} token events hold only characters without width"
    at_once = sum(sample.output_tokens == 1 and not sample.truncated for sample in good)
    if at_once > MAX_ENDED_AT_ONCE * len(good):
        yield f"{at_once} of {len(good)} answers were ended after one token"


def _cache_complaint(evidence: ClientEvidence) -> str | None:
    shares = [
        sample.cached_tokens / sample.prompt_tokens
        for sample in evidence.samples
        if sample.ok and sample.cached_tokens is not None and sample.prompt_tokens
    ]
    cached = _median(shares)
    if cached is None:
        return None
    if evidence.cache == "cold" and cached >= MAX_COLD_SHARE:
        return f"the cache was to be cold, and {cached:.0%} of a prompt came from it"
    if evidence.cache == "warm" and cached == 0:
        return "the cache was to be warm, and nothing came from it"
    return None


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None
