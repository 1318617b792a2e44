"""Measure a server with this project's inference tier; print a JSON row a request. Run by `bench_timing.py`.

python drive_milton.py http://127.0.0.1:8000 LOAD REQUESTS

LOAD is how many streams there are at once, each begun when another ends (`16`), or how many requests come a second, at
random and without waiting for answers (`44.4/s`).
"""

from __future__ import annotations

import json
import sys

from milton_assets.tiers.inference import ClosedLoad, InferencePlan, OpenLoad, measure_inference
from milton_assets.vocabulary.server import Endpoint


def main() -> None:
    """Measure one cell."""
    base_url, load, requests = sys.argv[1], sys.argv[2], int(sys.argv[3])
    rate, slash, _ = load.partition("/s")
    plan = InferencePlan(
        load=OpenLoad(rate_per_s=float(rate)) if slash else ClosedLoad(concurrency=int(load)),
        requests_per_round=requests,
        min_rounds=1,
        max_rounds=1,
        warm_up_requests=4 if slash else min(int(load), 4),
        max_tokens=256,
        calibrate=False,
    )
    result = measure_inference(Endpoint(base_url, "truth"), plan)
    samples = result.samples[result.samples.phase == "measured"]
    rows = [
        {"text": row.output_head, "ttft_ms": row.ttft_ms, "tpot_ms": row.tpot_ms, "e2e_ms": row.e2e_ms}
        for row in samples[samples.ok].itertuples()
    ]
    print(json.dumps({"rows": rows, "failed": int((~samples.ok).sum()), "client": result.provenance["client"]}))


if __name__ == "__main__":
    main()
