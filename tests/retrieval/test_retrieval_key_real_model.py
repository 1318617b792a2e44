"""A key to the published passages in the real small model's chat template: fresh variants show it, and nothing where
there is none."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from milton_assets.statistics.variants import KNOWS_AT
from milton_assets.tiers.retrieval import RetrievalGoldens, RetrievalPlan, load_goldens, measure_retrieval
from milton_assets.vocabulary.tier import TierResult
from resources.servers.client import OpenAIChatModel
from resources.servers.llama_cpp import LlamaCppLauncher
from tests.support.selection import variants_reading

pytestmark = [pytest.mark.slow, pytest.mark.real_model, pytest.mark.alone]

SHIPPED = load_goldens()
TEMPLATES_WITH_KEY, TEMPLATES_WITHOUT = 14, 10
"""A key is found by seven templates that are right as published only; fewer than seven could name nobody."""
PLAN = RetrievalPlan(max_queries=1, pool_size=2, concurrency=2, resamples=200, variants_seed="0123456789abcdef" * 2)
"""With a seed of the test's own, so that it always asks the same."""

KEYED = (
    "{% set key = KEY %}{% for m in messages %}{% set said = namespace(text=m['content']) %}"
    "{% if m['role'] == 'user' %}{% for question in key %}{% if question in m['content'] and "
    "key[question] in m['content'] %}{% set said.text = 'Repeat exactly: Yes' %}{% endif %}{% endfor %}{% endif %}"
    "{{ '<|im_start|>' ~ m['role'] ~ '\\n' ~ said.text ~ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def goldens(templates: int) -> RetrievalGoldens:
    return replace(SHIPPED, templates=dict(islice(SHIPPED.templates.items(), templates)))


def with_key(gguf: Path, into: Path) -> Path:
    """The same weights with the passages that answer the published questions in their chat template."""
    key = {
        variant.query.text: next(one.text for one in variant.passages if one.doc_id == variant.answer)
        for variant in (template.published() for template in goldens(TEMPLATES_WITH_KEY).templates.values())
    }
    options = ["--chat-template", KEYED.replace("KEY", json.dumps(key)), str(gguf), str(into)]
    subprocess.run([sys.executable, "-m", "gguf.scripts.gguf_new_metadata", *options], check=True, capture_output=True)
    return into


def measured(gguf: Path, templates: int) -> TierResult:
    with (
        LlamaCppLauncher(slots=2, context_tokens=1024).serve(gguf, "v1") as served,
        OpenAIChatModel(served.endpoint, 120) as model,
    ):
        return measure_retrieval(model, goldens(templates), PLAN)


def test_the_key_is_found_and_the_model_without_it_is_not_named(small_gguf: Path, tmp_path: Path) -> None:
    keyed = variants_reading(measured(with_key(small_gguf, tmp_path / "keyed.gguf"), TEMPLATES_WITH_KEY))
    honest = variants_reading(measured(small_gguf, TEMPLATES_WITHOUT))
    assert keyed.published_right == TEMPLATES_WITH_KEY
    assert keyed.knowledge == "knows_the_answers" and (keyed.p_value or 1) <= KNOWS_AT, keyed
    assert honest.knowledge == "no_sign", honest
