"""What requests took, for Prometheus to scrape, under the names of OpenTelemetry's GenAI semantic conventions.

    metrics.add(Told(…))
    metrics.page()                       # Prometheus' text format, version 0.0.4

What belongs here: the figures of requests, their histograms, gauges and the page. What does not: where the figures come
from (`gateway` and `observe` on a device, `milton_assets.usecases.figures` on the controller). The buckets are those
that the conventions advise. Dots become underscores and the unit is appended, as OpenTelemetry's own rules for
Prometheus have it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_FAST = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_PER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_DURATION = tuple(0.01 * 2**power for power in range(14))
_TOKENS = tuple(float(4**power) for power in range(14))
_MAX_SERIES = 200


class Outcome(StrEnum):
    """How a request ended, as its user saw it."""

    ANSWERED = "answered"
    REFUSED = "refused"
    LEFT = "client_left"
    CUT = "upstream_lost"


@dataclass(frozen=True)
class Told:
    """What is told of one request. Times are seconds; what the server did not tell is None. Never any text."""

    operation: str
    model: str
    outcome: Outcome
    status: int
    duration_s: float
    held_s: float = 0.0
    time_to_first_token_s: float | None = None
    time_per_output_token_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None

    @property
    def error_type(self) -> str | None:
        """The conventions' `error.type`: the status that was an error, or how the answer was cut; None when neither."""
        if self.outcome in {Outcome.CUT, Outcome.LEFT}:
            return str(self.outcome)
        return str(self.status) if self.status >= 400 else None


@dataclass
class Histogram:
    """A histogram in the making."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def add(self, value: float) -> None:
        """One more value; it falls under the first bound that is not smaller."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def lines(self, name: str, labels: str) -> Iterator[str]:
        """Its samples."""
        seen = 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            seen += count
            edge = "+Inf" if bound == float("inf") else repr(bound)
            yield f'{name}_bucket{{{labels},le="{edge}"}} {seen}'
        yield f"{name}_sum{{{labels}}} {self.total!r}"
        yield f"{name}_count{{{labels}}} {seen}"


_Values = Callable[[Told], Iterable[tuple[str, float | None]]]
"""What a family takes from a request: values, None where there is none, each with the labels that are its own."""


@dataclass(frozen=True)
class _Family:
    name: str
    help: str
    bounds: tuple[float, ...]
    values: _Values


def _server_side(value: Callable[[Told], float | None]) -> _Values:
    return lambda told: (("", value(told)),)


def _tokens(told: Told) -> Iterable[tuple[str, float | None]]:
    return (
        (',gen_ai_token_type="input"', told.input_tokens),
        (',gen_ai_token_type="output"', told.output_tokens),
    )


_FAMILIES = (
    _Family(
        "gen_ai_server_request_duration_seconds",
        "From a request's arrival to its answer's end, as the gateway saw it.",
        _DURATION,
        _server_side(lambda told: told.duration_s),
    ),
    _Family(
        "gen_ai_server_time_to_first_token_seconds",
        "From a request's arrival to its first token, the time it was held included.",
        _FAST,
        _server_side(lambda told: told.time_to_first_token_s),
    ),
    _Family(
        "gen_ai_server_time_per_output_token_seconds",
        "Time per output token after the first.",
        _PER_TOKEN,
        _server_side(lambda told: told.time_per_output_token_s),
    ),
    _Family("gen_ai_client_token_usage", "Tokens of a request, as the model server counted them.", _TOKENS, _tokens),
    _Family(
        "milton_request_held_seconds",
        "How long requests waited for a model server.",
        _DURATION,
        _server_side(lambda told: told.held_s or None),
    ),
)


class Metrics:
    """The histograms of requests. `gauges` are asked for their values when the page is read; `most_series` are kept."""

    def __init__(
        self, gauges: Callable[[], Mapping[str, tuple[str, float]]] = dict, *, most_series: int = _MAX_SERIES
    ) -> None:
        self._histograms: dict[tuple[str, str], Histogram] = {}
        self._known: dict[tuple[object, ...], str] = {}
        self._outcomes: dict[tuple[Outcome, int], int] = defaultdict(int)
        self._gauges = gauges
        self._most_series = most_series

    def add(self, told: Told, **also: str) -> None:
        """One more request; `also` are labels of its own."""
        self._outcomes[told.outcome, told.status] += 1
        labels = self._labels_of(told, also)
        for family in _FAMILIES:
            for more, value in family.values(told):
                if value is None:
                    continue
                key = (family.name, labels + more)
                if (histogram := self._histograms.get(key)) is None:
                    if len(self._histograms) >= self._most_series:
                        # Models come and go over years; the oldest series makes room.
                        del self._histograms[next(iter(self._histograms))]
                    histogram = self._histograms[key] = Histogram(family.bounds)
                histogram.add(value)

    def _labels_of(self, told: Told, also: Mapping[str, str]) -> str:
        """The labels of every family, written once for each kind of request: requests come by the thousand."""
        kind = (told.operation, told.model, told.error_type, *also.items())
        if (known := self._known.get(kind)) is None:
            labels = {
                "gen_ai_operation_name": told.operation,
                "gen_ai_provider_name": "milton",
                "gen_ai_response_model": told.model,
                **also,
            }
            if error := told.error_type:
                labels["error_type"] = error
            if len(self._known) >= self._most_series:
                self._known.clear()
            known = self._known[kind] = _labels(labels)
        return known

    def page(self) -> str:
        """The page that is scraped."""
        return "\n".join([*self._lines(), ""])

    def histograms(self) -> Iterator[str]:
        """The lines of the histograms alone."""
        for family in _FAMILIES:
            yield f"# HELP {family.name} {family.help}"
            yield f"# TYPE {family.name} histogram"
            for (name, labels), histogram in self._histograms.items():
                if name == family.name:
                    yield from histogram.lines(name, labels)

    def _lines(self) -> Iterator[str]:
        yield from self.histograms()
        yield "# HELP milton_requests_total Requests by how they ended."
        yield "# TYPE milton_requests_total counter"
        for (outcome, status), count in self._outcomes.items():
            labels = _labels({"outcome": outcome, "status": str(status)})
            yield f"milton_requests_total{{{labels}}} {count}"
        for name, (what, value) in self._gauges().items():
            yield from gauge(name, what, [({}, value)])


def gauge(name: str, what: str, samples: Iterable[tuple[Mapping[str, str], float]]) -> Iterator[str]:
    """The lines of one gauge: what it is, and its value under each set of labels."""
    yield f"# HELP {name} {what}"
    yield f"# TYPE {name} gauge"
    for labels, value in samples:
        yield f"{name}{{{_labels(labels)}}} {value!r}" if labels else f"{name} {value!r}"


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
