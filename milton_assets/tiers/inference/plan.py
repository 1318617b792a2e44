"""What is asked of a server, how often and under which load.

What belongs here: the plan, its load shapes, and the smoke preset. What does not: the prompts' text
(`goldens/inference`), the service-level objective (`milton_assets.vocabulary.slo`), and doing any of it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from milton_assets.tiers.inference.prompts import Prompt, load_goldens
from milton_assets.vocabulary.digest import sha256_json
from milton_assets.vocabulary.slo import SLO


class ClosedLoad(BaseModel):
    """`concurrency` requests in flight, each followed by the next. Latencies start when the request went out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["closed"] = "closed"
    concurrency: int = Field(default=1, ge=1, le=4096)


class OpenLoad(BaseModel):
    """Arrivals that do not wait for answers, at `rate_per_s`. Latencies start at the *scheduled* instant, so that a
    server (or client) that falls behind is not forgiven the queue it builds (coordinated omission).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["open"] = "open"
    rate_per_s: float = Field(gt=0, le=100_000, allow_inf_nan=False)
    arrivals: Literal["constant", "poisson"] = "poisson"


Load = Annotated[ClosedLoad | OpenLoad, Field(discriminator="kind")]


class InferencePlan(BaseModel):
    """One measurement of one server.

    A round asks `requests_per_round` prompts (every prompt once, unless said otherwise). Rounds are repeated, at
    least `min_rounds`, until the 95 % intervals of the headline figures (`ttft_ms.median`, `output_tokens_per_s`)
    are within ± `target_relative_half_width` of their values (or, with `decide_share`, until the interval of
    `slo_share` lies on one side of it), or `max_rounds` were run, or the next round would not fit in `budget_s`
    seconds (None: as long as it takes). A round that outlasts the budget is cut: what is in flight ends, nothing is
    begun.

    `cache` cold puts a number that was never sent before at the start of every prompt; warm sends the prompts as
    they are, once each before the measurement. `extra_body` is merged into every request, for what one server
    understands and others refuse (`ignore_eos`, `cache_salt`, …).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompts: tuple[Prompt, ...] = Field(default_factory=lambda: load_goldens().prompts, min_length=1)
    load: Load = ClosedLoad()
    cache: Literal["cold", "warm"] = "cold"
    warm_up_requests: int = Field(default=2, ge=0)
    requests_per_round: int | None = Field(default=None, ge=1)
    min_rounds: int = Field(default=3, ge=1)
    max_rounds: int = Field(default=20, ge=1)
    budget_s: float | None = Field(default=300.0, gt=0, allow_inf_nan=False)
    target_relative_half_width: float = Field(default=0.05, gt=0, lt=1)
    max_tokens: int = Field(default=128, ge=1)
    temperature: float = Field(default=0.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int = Field(default=0, ge=0)
    extra_body: dict[str, Any] = Field(default_factory=dict)
    slo: SLO | None = None
    decide_share: float | None = Field(default=None, gt=0, lt=1)
    calibrate: bool = True
    connect_timeout_s: float = Field(default=10.0, gt=0)
    stall_timeout_s: float = Field(default=60.0, gt=0)
    request_timeout_s: float = Field(default=300.0, gt=0)

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.max_rounds < self.min_rounds:
            raise ValueError(f"max_rounds {self.max_rounds} is below min_rounds {self.min_rounds}")
        if self.decide_share is not None and self.slo is None:
            raise ValueError("decide_share needs an slo to decide on")
        owned = {"model", "messages", "stream", "stream_options", "max_tokens"} & set(self.extra_body)
        if owned:
            raise ValueError(f"extra_body must not set {sorted(owned)}: the plan does")
        return self

    @classmethod
    def smoke(cls) -> Self:
        """Enough to see a small model work on two busy cores: about 20 s, intervals wide and honest."""
        return cls(
            min_rounds=2,
            max_rounds=3,
            budget_s=14.0,
            target_relative_half_width=0.10,
            max_tokens=32,
            warm_up_requests=1,
            stall_timeout_s=30.0,
            request_timeout_s=60.0,
        )

    @property
    def concurrency(self) -> int | None:
        """Requests in flight under a closed load; None under an open one."""
        return self.load.concurrency if isinstance(self.load, ClosedLoad) else None

    @property
    def round_size(self) -> int:
        """Requests a round: as asked, or every prompt once, as often as keeps the concurrency up for four turns."""
        if self.requests_per_round is not None:
            return self.requests_per_round
        prompts = len(self.prompts)
        wanted = 4 * self.load.concurrency if isinstance(self.load, ClosedLoad) and self.load.concurrency > 1 else 1
        return prompts * max(1, -(-wanted // prompts))

    def prompts_sha256(self) -> str:
        """SHA-256 of the prompts as canonical JSON."""
        return sha256_json([prompt.model_dump() for prompt in self.prompts])

    def sampling(self) -> dict[str, Any]:
        """How tokens are drawn, as it is sent and recorded."""
        return {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self.seed,
            "max_tokens": self.max_tokens,
        }
