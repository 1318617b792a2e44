"""The assets of what depends on the device: a tier's table a model version and device class, measured on its reference.

What belongs here: wiring. What does not: measuring on a device (`milton_assets.fleet.measuring`), the same tier on this
machine (`tiers`), and comparing answers (`milton_assets.usecases.classes`).
"""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
from dagster import (
    AssetDep,
    AssetExecutionContext,
    AssetsDefinition,
    MultiPartitionKey,
    Output,
    asset,
)

from milton_assets.assets.beta_features import by_dimension
from milton_assets.assets.evidence import progress_of, tier_output
from milton_assets.assets.guards import guarded_by
from milton_assets.assets.measured_entry import entry_for, name_shown
from milton_assets.fleet.measuring import Weights
from milton_assets.partitions import MODELS_ON_CLASSES
from milton_assets.usecases.classes import reference_of, sample_here, telling_who_is_away
from milton_assets.usecases.dry_run import WHY
from milton_assets.usecases.measuring import measure_tier
from milton_assets.usecases.targets import open_targets
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.golden_set import read_goldens
from milton_assets.vocabulary.keys import check_key
from milton_assets.vocabulary.tier import asset_on_class
from milton_assets.vocabulary.tier_spec import Conditions, Measuring, Tiers, TierSpec
from resources.campaign import Campaign
from resources.model_server import EdgeServerResource, ModelServerResource
from resources.parquet_io import EvidenceStoreResource
from resources.registry_resource import RegistryResource


def tier_on_class_asset(spec: TierSpec, tiers: Tiers, pool: str) -> AssetsDefinition:
    """The asset that holds what the tier measured on reference devices. `tiers` and `pool` as for `tier_asset`."""

    @asset(
        name=asset_on_class(spec.name),
        description=f"{spec.about} Measured on the reference device of a class, by itself.",
        partitions_def=MODELS_ON_CLASSES,
        deps=[
            AssetDep("registry_entry", partition_mapping=by_dimension("model_version")),
            *(golden.name for golden in spec.goldens),
        ],
        io_manager_key="evidence",
        group_name="tiers_on_class",
        code_version=spec.code_version(),
        output_required=False,
        kinds={"parquet"},
        pool=pool,
    )
    @guarded_by(lambda: spec.skipped(WHY).metrics)
    def measured(
        context: AssetExecutionContext,
        model_server: ModelServerResource,
        edge_runtime: EdgeServerResource,
        campaign: Campaign,
        registry: RegistryResource,
        evidence_store: EvidenceStoreResource,
    ) -> Output[pa.Table]:
        device_class, key = _keys(context)
        entry = entry_for(context, registry, campaign, model_server, evidence_store.store, key, here=True)
        version = entry.version  # an anchor's is not its key, and servers know a model by its version
        artefact = entry.artefact(model_server.artefact_kind)
        goldens = read_goldens(spec, campaign.goldens.get(spec.name, ()))
        targets = open_targets(campaign.state, campaign.target_paths, server=edge_runtime.edge_server)
        name, reference = reference_of(targets, campaign.class_references, device_class)
        on_progress = progress_of(context, spec.name, tuple(tiers), named=f"{name_shown(context, entry)} on {name}")
        # Before the device is asked for anything: it does not wait for long.
        sample = sample_here(model_server, artefact, version)
        weights = Weights(Path(artefact.path), artefact.sha256)
        with (
            telling_who_is_away(name, device_class),
            reference.measuring(weights, version, on_progress=on_progress) as there,
        ):
            slots = there.served.endpoint.slots
            measuring = Measuring(
                there.served,
                goldens.value,
                spec.plan(Conditions(str(campaign.profile), slots, campaign.slo, campaign.rerank.value)),
                on_progress=on_progress,
                open_client=there.open_client,
            )
            result = measure_tier(spec, goldens, measuring, watch=there if campaign.watch_machine else None)
            compared, expected = sample.compared(there), sample.compared_expectations(there)
            environment = there.fingerprint
        told = {
            "fingerprint": environment.model_dump(mode="json"),
            "measured_on": {"target": name, "class": device_class},
            "same_answers": compared.provenance(),
            "same_expectations": expected.provenance(),
        }
        result = replace(result, provenance={**result.provenance, **told})
        for doubt in filter(None, (compared.difference, expected.sentence if expected.differs else None)):
            context.log.warning(f"{version} on the class {device_class}: {doubt}")
        same = compared.difference or f"all {compared.asked} greedy answers are those of this machine"
        shown = {"measured_on": name, "same_answers": same, "same_expectations": expected.sentence}
        return tier_output(spec, result, key, artefact.sha256, **shown)

    return measured


def _keys(context: AssetExecutionContext) -> tuple[str, str]:
    """The device class and the model version of the run."""
    key = context.partition_key
    if not isinstance(key, MultiPartitionKey):
        raise BadInput(f"the partition {key!r:.200} has one dimension", expected="a device class and a model version")
    device_class, version = (key.keys_by_dimension[name] for name in ("device_class", "model_version"))
    return check_key(device_class, "device class"), check_key(version, "model version")
