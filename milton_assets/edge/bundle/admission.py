"""A device's own word on which bundles it takes: keys, policies, figures, age.

    check = admission(load_device_policy(Path("device-policy.yaml")))
    check(release, now=now, highest_counter=counter, trial=trial)      # raises NotAdmitted with every reason

What belongs here: the device policy and the pure question whether a manifest satisfies it. What does not: digests of
files (`verify`), and when the question is asked (`edge.deployment`).

The rules, in order, all of them told. On every device: a signature that is there holds; the sums cover the manifest; it
has not expired; its counter is not below the highest ever committed. Where the device has a policy, besides: a trusted
key signed; the decision's policy is among those admitted; the artefact is of an admitted kind; it is going to be tried
as the device wants it; every figure asked for is there and reaches its bound.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from milton_assets.edge.bundle.folder import Folder
from milton_assets.edge.bundle.keys import parse_public_key
from milton_assets.edge.bundle.read import read_document, read_sums
from milton_assets.edge.bundle.signing import signed_by
from milton_assets.edge.bundle.sshsig import SignatureInvalid, fingerprint
from milton_assets.edge.manifest import MANIFEST_FILE, BundleManifest, parse_manifest
from milton_assets.vocabulary.digest import Sha256, sha256_bytes
from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.files import write_atomic
from milton_assets.vocabulary.registry import ArtefactKind

MAX_POLICY_BYTES = 1 << 20

_Bound = Annotated[float, Field(allow_inf_nan=False)]


class NotAdmitted(MiltonError):
    """A bundle that the device refuses."""


@dataclass(frozen=True)
class Trial:
    """How a release is going to be tried on the device: before it becomes current, and in how many rounds after."""

    load_test: bool
    health_rounds: int


class DevicePolicy(BaseModel):
    """What a device admits. An empty list or mapping admits any, except `trusted_keys`, which must name at least one.

    `trusted_keys` are OpenSSH lines as in `signing_key.pub`; `policies` names of selection policies and
    `policy_sha256` their digests; `min_figures` and `max_figures` bound the manifest's figures by name.
    `require_load_test` and `min_health_rounds` are what no deployer may leave out here.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    trusted_keys: tuple[str, ...] = Field(min_length=1)
    policies: tuple[str, ...] = ()
    policy_sha256: tuple[Sha256, ...] = ()
    min_figures: dict[str, _Bound] = Field(default_factory=dict)
    max_figures: dict[str, _Bound] = Field(default_factory=dict)
    artefact_kinds: tuple[ArtefactKind, ...] = ()
    require_expiry: bool = False
    require_load_test: bool = False
    min_health_rounds: int = Field(default=0, ge=0, le=1000)

    @field_validator("trusted_keys")
    @classmethod
    def _keys_parse(cls, lines: tuple[str, ...]) -> tuple[str, ...]:
        for line in lines:
            try:
                parse_public_key(line)
            except BadInput as error:
                raise ValueError(error.problem) from None
        return lines

    @model_validator(mode="after")
    def _bounds_leave_room(self) -> Self:
        for name in self.min_figures.keys() & self.max_figures.keys():
            if self.min_figures[name] > self.max_figures[name]:
                raise ValueError(f"min_figures is above max_figures for {name}")
        return self

    @cached_property
    def trusted_fingerprints(self) -> frozenset[str]:
        """The fingerprints of the trusted keys."""
        return frozenset(fingerprint(parse_public_key(line)) for line in self.trusted_keys)


def load_device_policy(path: Path) -> DevicePolicy:
    """Read a device policy from YAML. Raises `BadInput` naming what is wrong."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadInput(f"the device policy {path} cannot be read ({error.strerror})") from None
    if len(raw) > MAX_POLICY_BYTES:
        raise BadInput(f"the device policy {path} has {len(raw)} bytes", expected=f"at most {MAX_POLICY_BYTES}")
    try:
        return DevicePolicy.model_validate(yaml.safe_load(raw))
    except (yaml.YAMLError, ValidationError, RecursionError) as error:
        raise BadInput(
            f"the device policy {path} does not hold: {error!s:.500}",
            expected=f"a mapping with trusted_keys and, if wanted, {', '.join([*DevicePolicy.model_fields][1:])}",
            remedy="correct the file; `milton device-policy init` writes one for a target that has none",
        ) from None


def write_device_policy(path: Path, policy: DevicePolicy) -> None:
    """Write the policy as YAML, without what is left at its default. Raises `BadInput` when the file is there."""
    if os.path.lexists(path):
        raise BadInput(
            f"{path} is there already", expected="a device without a policy", remedy="edit it, or move it away first"
        )
    write_atomic(path, yaml.safe_dump(policy.model_dump(mode="json", exclude_defaults=True), sort_keys=False))


def admit(
    manifest: BundleManifest,
    policy: DevicePolicy | None,
    last_counter: int,
    now: datetime,
    *,
    signer: str | None,
    trial: Trial,
) -> list[str]:
    """Every reason not to take this bundle, a sentence each; empty when it is admitted.

    A device without a policy (None) takes whatever has not expired and is no replay. `signer` is the fingerprint of the
    key whose signature holds, None when there is none; `last_counter` the highest counter ever committed on the device,
    0 when there was none; `now` is aware.
    """
    reasons = [] if policy is None else _signature(signer, policy)
    if manifest.expires_at is not None and now >= manifest.expires_at:
        reasons.append(f"it expired at {manifest.expires_at.isoformat()}")
    if manifest.counter < last_counter:
        reasons.append(
            f"it is a replay: its counter {manifest.counter} is below {last_counter}, the highest this device has run"
        )
    return reasons if policy is None else reasons + _demands(manifest, policy, trial)


def _signature(signer: str | None, policy: DevicePolicy) -> list[str]:
    if signer is None:
        return ["it bears no signature that holds"]
    if signer not in policy.trusted_fingerprints:
        return [f"it is signed by {signer}, a key this device does not trust"]
    return []


def _demands(manifest: BundleManifest, policy: DevicePolicy, trial: Trial) -> list[str]:
    reasons = []
    if manifest.expires_at is None and policy.require_expiry:
        reasons.append("it never expires, and this device takes only bundles that do")
    if policy.policies and manifest.policy_name not in policy.policies:
        reasons.append(f"it was decided under the policy {manifest.policy_name}, not one of {list(policy.policies)}")
    if policy.policy_sha256 and manifest.policy_sha256 not in policy.policy_sha256:
        reasons.append(f"its policy's digest {manifest.policy_sha256} is not one that this device admits")
    if policy.artefact_kinds and manifest.artefact_kind not in policy.artefact_kinds:
        reasons.append(f"it holds {manifest.artefact_kind}, not one of {[str(k) for k in policy.artefact_kinds]}")
    if policy.require_load_test and not trial.load_test:
        reasons.append("it would become current without a load test, which this device demands")
    if trial.health_rounds < policy.min_health_rounds:
        reasons.append(
            f"it would be watched for {trial.health_rounds} rounds, and this device demands {policy.min_health_rounds}"
        )
    return reasons + _figures(manifest.figures, policy)


def _figures(figures: Mapping[str, float], policy: DevicePolicy) -> list[str]:
    reasons = []
    for name in sorted(policy.min_figures.keys() | policy.max_figures.keys()):
        value = figures.get(name)
        low, high = policy.min_figures.get(name), policy.max_figures.get(name)
        if value is None:
            reasons.append(f"it states no {name}")
        elif low is not None and value < low:
            reasons.append(f"its {name} is {value:g}, below {low:g}")
        elif high is not None and value > high:
            reasons.append(f"its {name} is {value:g}, above {high:g}")
    return reasons


def admission(policy: DevicePolicy | None) -> Callable[..., None]:
    """The policy, or a device's that has none, as `edge.deployment.safeguards.Admission`.

    It raises `NotAdmitted` with every reason, and `BadInput` when the release's documents do not hold.
    """

    def check(release: Path, *, now: datetime, highest_counter: int, trial: Trial) -> None:
        with Folder(release) as folder:
            raw = read_document(folder, MANIFEST_FILE)
            manifest = parse_manifest(raw)
            reasons = []
            try:
                key = signed_by(folder)
            except SignatureInvalid as error:
                key = None
                reasons.append(f"its signature does not hold: {error}")
            if read_sums(folder).get(MANIFEST_FILE) != sha256_bytes(raw):
                reasons.append("the list that is signed does not cover its manifest")
        signer = None if key is None else fingerprint(key)
        reasons += admit(manifest, policy, highest_counter, now, signer=signer, trial=trial)
        if reasons:
            raise NotAdmitted(
                f"this device does not admit {manifest.name}: " + "; ".join(reasons),
                remedy="bundle the run again, signed with a trusted key, or deploy it as the device demands; "
                "`milton rollback` goes back to the release before",
            )

    return check
