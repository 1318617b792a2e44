"""Whose entry a run measures: that of its partition in the registry, or an anchor's, which its tag names.

What belongs here: telling the two apart, and how the terminal calls them. What does not: the registry, and finding an
anchor's weights (`milton_assets.usecases.anchors`).
"""

from dagster import AssetExecutionContext

from milton_assets.assets.evidence import ANCHOR_TAG
from milton_assets.usecases.anchors import entry_of
from milton_assets.usecases.targets import open_targets
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.named_weights import NamedWeights
from milton_assets.vocabulary.registry import RegistryEntry
from resources.campaign import Campaign
from resources.edge_server import EdgeServer
from resources.evidence_store import EvidenceStore
from resources.model_server import ModelServerResource
from resources.registry_resource import RegistryResource


def entry_for(
    context: AssetExecutionContext,
    registry: RegistryResource,
    campaign: Campaign,
    model_server: ModelServerResource,
    store: EvidenceStore,
    key: str,
    *,
    here: bool,
) -> RegistryEntry:
    """The entry that `key`, a model version or an anchor's key, stands for. Raises `BadInput` when there is none.

    Its files are on this machine then, where they have to be `here`; an anchor's always are.
    """
    if (tag := context.run.tags.get(ANCHOR_TAG)) is None:
        return registry.entry(key) if here else registry.judged(key)
    if (named := NamedWeights.of(tag)).anchor_key != key:
        raise BadInput(
            f"the run is tagged {ANCHOR_TAG}: {tag}", expected=f"the partition {named.anchor_key}, not {key}"
        )
    return entry_of(
        named,
        registry.store(),
        model_server.artefact_kind,
        campaign.state,
        open_targets(campaign.state, campaign.target_paths, server=EdgeServer),
        store,
        allow_code=registry.allow_code,
    )


def name_shown(context: AssetExecutionContext, entry: RegistryEntry) -> str:
    """How the terminal calls the model that the run measures."""
    return f"{entry.version} (anchor)" if ANCHOR_TAG in context.run.tags else entry.version
