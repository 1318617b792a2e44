"""The goldens as source assets: what scores models, each with a data version equal to its content digest.

What belongs here: the observable source assets. What does not: the files (`goldens/`) and reading them. Observing one
after its file changed makes the tables downstream stale in the UI.
See https://docs.dagster.io/guides/build/assets/asset-versioning-and-caching
"""

from collections.abc import Callable

from dagster import AssetKey, AssetObservation, DagsterInstance, DataVersion, SourceAsset

from milton_assets.assets.young_features import observable
from milton_assets.tiers import inference, reasoning, retrieval
from resources.dagster_private import DATA_VERSION_TAG

DIGESTS: dict[str, Callable[[], str]] = {
    "inference_prompts": lambda: inference.load_goldens().digests["prompts.jsonl"],
    "reasoning_cases": lambda: reasoning.load_goldens().digests["cases.jsonl"],
    "reasoning_judge_pairs": lambda: reasoning.load_goldens().digests["judge_pairs.jsonl"],
    "reasoning_dataset": lambda: reasoning.load_goldens().digests["dataset.json"],
    "retrieval_corpus": lambda: retrieval.load_goldens().digests["corpus.jsonl"],
    "retrieval_queries": lambda: retrieval.load_goldens().digests["queries.jsonl"],
    "retrieval_qrels": lambda: retrieval.load_goldens().digests["qrels/test.tsv"],
    "retrieval_qrels_dev": lambda: retrieval.load_goldens().digests["qrels/dev.tsv"],
    "retrieval_dataset": lambda: retrieval.load_goldens().digests["dataset.json"],
}
"""How to digest each golden, by the name of its source asset."""

DESCRIPTIONS = {
    "inference_prompts": "The fixed prompts that are timed.",
    "reasoning_cases": "Questions with gold answers and aliases, for Chain-of-Verification.",
    "reasoning_judge_pairs": "Labelled answers that a judge proves itself on.",
    "reasoning_dataset": "Name, version and licence of the reasoning goldens.",
    "retrieval_corpus": "The documents that are ranked.",
    "retrieval_queries": "The queries.",
    "retrieval_qrels": "Which document answers which query, and how well.",
    "retrieval_qrels_dev": "The same for the queries that prompts are tried on; no figure rests on it.",
    "retrieval_dataset": "Name and version of the retrieval goldens.",
}


def _source(name: str) -> SourceAsset:
    return observable(name, lambda: DataVersion(DIGESTS[name]()), group_name="goldens", description=DESCRIPTIONS[name])


GOLDENS = [_source(name) for name in DIGESTS]


def golden_digests() -> dict[str, str]:
    """The digest of every golden as it is now."""
    return {name: digest() for name, digest in DIGESTS.items()}


def observe_goldens(instance: DagsterInstance) -> dict[str, str]:
    """Record the digests as observations, so that the UI knows what is stale; returns them."""
    digests = golden_digests()
    for name, digest in digests.items():
        observation = AssetObservation(asset_key=AssetKey(name), tags={DATA_VERSION_TAG: digest})
        instance.report_runless_asset_event(observation)
    return digests
