"""Measure a server with vLLM's `bench serve`; print a JSON row a request.

`bench_timing.py` runs it in vLLM's environment.

    python drive_vllm.py http://127.0.0.1:8000 CONCURRENCY REQUESTS

It calls the function behind the command, since the CPU build's command does not start and its datasets need more
packages. What it does per request is the command's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from typing import Any

from vllm.benchmarks.datasets import SampleRequest
from vllm.benchmarks.serve import TaskType, benchmark


def measured(base_url: str, concurrency: int, requests: int) -> dict[str, Any]:
    """What `vllm bench serve --backend openai-chat --max-concurrency …` reports."""
    asked = [
        SampleRequest(f"[{number}] Tell me of rivers.", 8, 256, request_id=str(number)) for number in range(requests)
    ]
    return dict(
        asyncio.run(
            benchmark(
                task_type=TaskType.GENERATION,
                endpoint_type="openai-chat",
                api_url=f"{base_url}/v1/chat/completions",
                base_url=base_url,
                model_id="truth",
                model_name="truth",
                tokenizer=None,
                input_requests=asked,
                logprobs=None,
                request_rate=float("inf"),
                burstiness=1.0,
                disable_tqdm=True,
                num_warmups=min(concurrency, 4),
                profile=False,
                selected_percentile_metrics=["ttft", "tpot", "itl", "e2el"],
                selected_percentiles=[99.0],
                ignore_eos=False,
                goodput_config_dict={},
                max_concurrency=concurrency,
                lora_modules=None,
                extra_headers=None,
                extra_body={"temperature": 0},
                ready_check_timeout_sec=30,
            )
        )
    )


def main() -> None:
    """Measure one cell."""
    with contextlib.redirect_stdout(sys.stderr):
        result = measured(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    rows = [
        {
            "text": text,
            "ttft_ms": ttft * 1e3,
            "tpot_ms": (latency - ttft) / (tokens - 1) * 1e3,
            "e2e_ms": latency * 1e3,
        }
        for text, ttft, latency, tokens, error in zip(
            result["generated_texts"],
            result["ttfts"],
            result["latencies"],
            result["output_lens"],
            result["errors"],
            strict=True,
        )
        if not error
    ]
    print(json.dumps({"rows": rows, "failed": result["failed"]}))


if __name__ == "__main__":
    main()
