"""The inference tier: how fast a server answers, measured over its streaming API, and how sure that is.

    from milton_assets.tiers.inference import InferencePlan, measure_inference
    result = measure_inference(Endpoint("http://127.0.0.1:8000", "my-model"), InferencePlan.smoke())

What belongs here: the tier's public names. What does not: their making; read `plan`, then `tier`, then what it calls.

A name is loaded when it is first asked for: a device that measures loads the client and none of the statistics.
"""

from typing import TYPE_CHECKING

from milton_assets.vocabulary.lazy_names import loaded_on_demand

if TYPE_CHECKING:
    from milton_assets.tiers.inference.definitions import DEFINITIONS_VERSION, HEADLINES, METRICS, code_version
    from milton_assets.tiers.inference.plan import ClosedLoad, InferencePlan, OpenLoad
    from milton_assets.tiers.inference.prompts import InferenceGoldens, Prompt, load_goldens
    from milton_assets.tiers.inference.tier import measure_inference, measure_interleaved
    from milton_assets.vocabulary.slo import SLO

__all__ = [
    "DEFINITIONS_VERSION",
    "HEADLINES",
    "METRICS",
    "SLO",
    "ClosedLoad",
    "InferenceGoldens",
    "InferencePlan",
    "OpenLoad",
    "Prompt",
    "code_version",
    "load_goldens",
    "measure_inference",
    "measure_interleaved",
]

_WHERE = {
    "milton_assets.tiers.inference.definitions": ("DEFINITIONS_VERSION", "HEADLINES", "METRICS", "code_version"),
    "milton_assets.tiers.inference.plan": ("ClosedLoad", "InferencePlan", "OpenLoad"),
    "milton_assets.tiers.inference.prompts": ("InferenceGoldens", "Prompt", "load_goldens"),
    "milton_assets.tiers.inference.tier": ("measure_inference", "measure_interleaved"),
    "milton_assets.vocabulary.slo": ("SLO",),
}

__getattr__ = loaded_on_demand(__name__, _WHERE)
