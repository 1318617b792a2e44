"""Deployments that cannot break a device: a release is in service whole, or not at all.

    from milton_assets.edge.deployment import deploy, rollback, status

    deployment = deploy(bundle, target, load_test=test, actor="ada", now=clock)
    rollback(target, actor="ada", now=clock)

What belongs here: taking bundles into service on a target, and going back. What does not: making bundles
(`edge.bundle`), which targets there are (`milton_assets.fleet.targets`), model servers, Dagster.

Read `states` first: it is the whole argument. `attempt` is the order of steps, `recovery` what happens after a crash.

A name is loaded when it is first asked for: what a device looks up in a blink must not load what it never uses.
"""

from typing import TYPE_CHECKING

from milton_assets.vocabulary.lazy_names import loaded_on_demand

if TYPE_CHECKING:
    from milton_assets.edge.deployment.admission import (
        DevicePolicy,
        NotAdmitted,
        Trial,
        admit,
        load_device_policy,
    )
    from milton_assets.edge.deployment.attempt import AttemptKnown, NothingBefore, OtherManifest
    from milton_assets.edge.deployment.attempt_ending import DeploymentFailed, ProbeFailed
    from milton_assets.edge.deployment.capacity import Memory, NotEnoughMemory, NotEnoughRoom, RuntimeTooOld
    from milton_assets.edge.deployment.collection import Collection
    from milton_assets.edge.deployment.confirmation import NobodyCameBack, confirm
    from milton_assets.edge.deployment.contract import measure_contract
    from milton_assets.edge.deployment.counter_reset import COUNTER_NAMESPACE, counter_order
    from milton_assets.edge.deployment.deployer import collect_garbage, deploy, recover_target, reset_counter, rollback
    from milton_assets.edge.deployment.fileops import FileOps
    from milton_assets.edge.deployment.history import Deployment, Outcome
    from milton_assets.edge.deployment.journal import JournalDamaged
    from milton_assets.edge.deployment.layout import NotATarget
    from milton_assets.edge.deployment.loadtest import LoadTest, ServedLoadTest
    from milton_assets.edge.deployment.lock import TargetBusy
    from milton_assets.edge.deployment.report import TargetStatus, Verification, status
    from milton_assets.edge.deployment.safeguards import Admission, HealthWindow
    from milton_assets.edge.deployment.session import ClockSetBack, NeverDeployed, NotOurs
    from milton_assets.edge.deployment.states import Operation, ProbeReport, Release
    from milton_assets.edge.deployment.verification import deployed_documents, verify_deployed
    from milton_assets.edge.disk_errors import DiskFailed
    from milton_assets.edge.release import ReleaseDamaged
    from milton_assets.vocabulary.edge_target import EdgeTarget

__all__ = [
    "COUNTER_NAMESPACE",
    "Admission",
    "AttemptKnown",
    "ClockSetBack",
    "Collection",
    "Deployment",
    "DeploymentFailed",
    "DevicePolicy",
    "DiskFailed",
    "EdgeTarget",
    "FileOps",
    "HealthWindow",
    "JournalDamaged",
    "LoadTest",
    "Memory",
    "NeverDeployed",
    "NobodyCameBack",
    "NotATarget",
    "NotAdmitted",
    "NotEnoughMemory",
    "NotEnoughRoom",
    "NotOurs",
    "NothingBefore",
    "Operation",
    "OtherManifest",
    "Outcome",
    "ProbeFailed",
    "ProbeReport",
    "Release",
    "ReleaseDamaged",
    "RuntimeTooOld",
    "ServedLoadTest",
    "TargetBusy",
    "TargetStatus",
    "Trial",
    "Verification",
    "admit",
    "collect_garbage",
    "confirm",
    "counter_order",
    "deploy",
    "deployed_documents",
    "load_device_policy",
    "measure_contract",
    "recover_target",
    "reset_counter",
    "rollback",
    "status",
    "verify_deployed",
]

_WHERE = {
    "milton_assets.edge.deployment.admission": (
        "DevicePolicy",
        "NotAdmitted",
        "Trial",
        "admit",
        "load_device_policy",
    ),
    "milton_assets.edge.deployment.attempt": ("AttemptKnown", "NothingBefore", "OtherManifest"),
    "milton_assets.edge.deployment.attempt_ending": ("DeploymentFailed", "ProbeFailed"),
    "milton_assets.edge.deployment.capacity": ("Memory", "NotEnoughMemory", "NotEnoughRoom", "RuntimeTooOld"),
    "milton_assets.edge.deployment.collection": ("Collection",),
    "milton_assets.edge.deployment.confirmation": ("NobodyCameBack", "confirm"),
    "milton_assets.edge.deployment.contract": ("measure_contract",),
    "milton_assets.edge.deployment.counter_reset": ("COUNTER_NAMESPACE", "counter_order"),
    "milton_assets.edge.deployment.deployer": (
        "collect_garbage",
        "deploy",
        "recover_target",
        "reset_counter",
        "rollback",
    ),
    "milton_assets.edge.deployment.fileops": ("FileOps",),
    "milton_assets.edge.deployment.history": ("Deployment", "Outcome"),
    "milton_assets.edge.deployment.journal": ("JournalDamaged",),
    "milton_assets.edge.deployment.layout": ("NotATarget",),
    "milton_assets.edge.deployment.loadtest": ("LoadTest", "ServedLoadTest"),
    "milton_assets.edge.deployment.lock": ("TargetBusy",),
    "milton_assets.edge.deployment.report": ("TargetStatus", "Verification", "status"),
    "milton_assets.edge.deployment.safeguards": ("Admission", "HealthWindow"),
    "milton_assets.edge.deployment.session": ("ClockSetBack", "NeverDeployed", "NotOurs"),
    "milton_assets.edge.deployment.states": ("Operation", "ProbeReport", "Release"),
    "milton_assets.edge.deployment.verification": ("deployed_documents", "verify_deployed"),
    "milton_assets.edge.disk_errors": ("DiskFailed",),
    "milton_assets.edge.release": ("ReleaseDamaged",),
    "milton_assets.vocabulary.edge_target": ("EdgeTarget",),
}

__getattr__ = loaded_on_demand(__name__, _WHERE)
