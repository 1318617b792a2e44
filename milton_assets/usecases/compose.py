"""From settings to the things that work: what graph and command line are both put together with.

    settings = load_settings()
    server = edge_server_of(settings)

What belongs here: a function for each thing that settings describe, so that both front doors get the same. What does
not: Dagster's resources, which `milton_assets.definitions` makes of the same settings, and the settings themselves.

Each function imports what it composes: listing a registry is not to wait for clients of servers and devices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from milton_assets.settings import Settings

if TYPE_CHECKING:
    from milton_assets.fleet.targets import Targets
    from milton_assets.vocabulary.registry import RegistryStore
    from milton_assets.vocabulary.server import Launcher
    from resources.demo_default import Chosen
    from resources.edge_server import EdgeServer
    from resources.evidence_store import EvidenceStore
    from resources.side_models import SideModel


def evidence_store_of(settings: Settings) -> EvidenceStore:
    """Where the evidence lies."""
    from resources.evidence_store import EvidenceStore

    return EvidenceStore(settings.evidence_root)


def registry_of(settings: Settings) -> RegistryStore:
    """The registry that is named, by default the state folder's. Raises `BadInput` for a URI that none is for."""
    from resources.registries import open_registry

    return open_registry(
        settings.registry, settings.state, artefact_roots=settings.artefact_roots, allow_code=settings.allow_model_code
    )


def targets_of(settings: Settings) -> Targets:
    """The edge targets: those that are named, and those in the state folder."""
    from milton_assets.usecases.targets import open_targets

    named = {name: target.at for name, target in settings.targets.items()}
    classes = {name: target.device_class for name, target in settings.targets.items()}
    return open_targets(settings.state, named, server=lambda: edge_server_of(settings), classes=classes)


def edge_server_of(settings: Settings) -> EdgeServer:
    """What releases are served with, here and on devices."""
    from resources.servers import launching

    return launching.edge_server(settings.edge_server, settings.edge_program)


def model_server_of(settings: Settings) -> Launcher:
    """What candidates are measured on. Raises `BadInput` when the variable that is to hold its key is empty."""
    from resources.servers import launching

    return launching.model_server(settings.server)


def judge_of(settings: Settings) -> SideModel | None:
    """The judge of open answers, if one is named. Raises `BadInput` when the variable of its key is empty."""
    from resources.side_models import side_model

    return side_model(settings.judge)


def embeddings_of(settings: Settings) -> SideModel | None:
    """The model behind the embedding baselines, if one is named. Raises as `judge_of`."""
    from resources.side_models import side_model

    return side_model(settings.embeddings)


def chosen_of(settings: Settings) -> Chosen:
    """The profile and the policy: what is set, else what suits the registry."""
    from resources.demo_default import chosen_for

    return chosen_for(settings.profile, settings.policy, None if settings.registry else settings.state.registry)
