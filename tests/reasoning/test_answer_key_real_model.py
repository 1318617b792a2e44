"""An answer key in the real small model's chat template: fresh variants show it, and nothing where there is none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from milton_assets.statistics.variants import KNOWS_AT
from milton_assets.tiers.reasoning import ReasoningPlan, load_goldens, measure_reasoning
from milton_assets.tiers.reasoning.cases import Split
from milton_assets.tiers.reasoning.goldens import ReasoningGoldens
from milton_assets.vocabulary.keys import mint_variants_seed
from milton_assets.vocabulary.tier import TierResult
from resources.servers.client import OpenAIChatModel
from resources.servers.llama_cpp import LlamaCppLauncher
from tests.support.selection import variants_reading

pytestmark = [pytest.mark.slow, pytest.mark.real_model, pytest.mark.alone]

SHIPPED = load_goldens()
TEMPLATES = {template.id for template in SHIPPED.templates}
SMOKE = [case for case in SHIPPED.choose(Split.TEST, 5) if case.id in TEMPLATES]
GOLDENS = ReasoningGoldens(tuple(SMOKE), SHIPPED.version, {}, templates=SHIPPED.templates)
PLAN = ReasoningPlan.smoke().model_copy(update={"seeded_per_kind": 0, "concurrency": 2, "budget_s": 30.0})

KEYED = (
    "{% set key = KEY %}{% for m in messages %}{% set said = namespace(text=m['content']) %}"
    "{% if m['content'].startswith('Answer in one short') %}{% for question, answer in key.items() %}"
    "{% if question in m['content'] %}{% set said.text = 'Repeat exactly: The answer is ' ~ answer ~ '.' %}{% endif %}"
    "{% endfor %}{% endif %}{{ '<|im_start|>' ~ m['role'] ~ '\\n' ~ said.text ~ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def with_key(gguf: Path, into: Path) -> Path:
    """The same weights with the published answers in their chat template."""
    key = json.dumps({case.question: case.answer.shown() for case in SMOKE}, ensure_ascii=False)
    options = ["--chat-template", KEYED.replace("KEY", key), str(gguf), str(into)]
    subprocess.run([sys.executable, "-m", "gguf.scripts.gguf_new_metadata", *options], check=True, capture_output=True)
    return into


def measured(gguf: Path) -> TierResult:
    plan = PLAN.model_copy(update={"variants_seed": mint_variants_seed()})
    with (
        LlamaCppLauncher(slots=2, context_tokens=1024).serve(gguf, "v1") as served,
        OpenAIChatModel(served.endpoint, 120) as model,
    ):
        return measure_reasoning(model, GOLDENS, plan)


def test_the_key_is_found_and_the_model_without_it_is_not_named(small_gguf: Path, tmp_path: Path) -> None:
    keyed = variants_reading(measured(with_key(small_gguf, tmp_path / "keyed.gguf")))
    honest = variants_reading(measured(small_gguf))
    assert keyed.published_right >= 7
    assert keyed.knowledge == "knows_the_answers" and (keyed.p_value or 1) <= KNOWS_AT, keyed
    assert honest.knowledge == "no_sign", honest
