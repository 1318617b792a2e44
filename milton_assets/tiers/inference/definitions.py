"""What the figures are called and which definitions they follow.

What belongs here: the version of docs/timing.md, the names and units of all metrics, and the code version that makes a
stored figure stale. What does not: computing them.
"""

from __future__ import annotations

from milton_assets.tiers.inference.prompts import SHIPPED
from milton_assets.tiers.inference.stats import STATISTICS
from milton_assets.vocabulary.code_version import code_version as version_of_code

DEFINITIONS_VERSION = "2.3.0"
"""Of docs/timing.md. The first number changes when figures stop being comparable with older ones."""

PER_REQUEST: tuple[tuple[str, str], ...] = (
    ("ttfb_ms", "ms"),
    ("ttft_ms", "ms"),
    ("ttfv_ms", "ms"),
    ("tpot_ms", "ms"),
    ("e2e_ms", "ms"),
    ("request_output_tokens_per_s", "tokens/s"),
)
"""Figures of which every request has one, by the column of its sample."""

SYSTEM: tuple[tuple[str, str], ...] = (
    ("output_tokens_per_s", "tokens/s"),
    ("requests_per_s", "requests/s"),
    ("success_rate", "share"),
    ("slo_share", "share"),
    ("goodput_per_s", "requests/s"),
    ("energy_j_per_token", "J/token"),
)

METRICS: tuple[tuple[str, str], ...] = (
    *((f"{name}.{statistic}", unit) for name, unit in (*PER_REQUEST, ("itl_ms", "ms")) for statistic in STATISTICS),
    *SYSTEM,
)
"""Every metric of the tier, name and unit, in the order in which a result holds them."""

HEADLINES = ("ttft_ms.median", "output_tokens_per_s")

BY_ROUND = ("ttft_ms.median", "tpot_ms.median", "e2e_ms.median", "output_tokens_per_s")
"""Figures that are told of each round, too: what servers that are measured in turn are compared by."""


def code_version() -> str:
    """A digest that changes whenever a figure could come out otherwise: the code that measures, the shipped prompts."""
    package = "milton_assets.tiers.inference"
    # The truth server runs as a program of its own: no import leads to it.
    return version_of_code(
        f"{package}.beside", f"{package}.truth_server", libraries=("numpy", "scipy", "h11"), files=(SHIPPED,)
    )
