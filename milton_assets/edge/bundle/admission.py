"""A device's own word on which bundles it takes: keys, policies, figures, age.

    admit = admission(load_device_policy(Path("device.yaml")))
    admit(release, now=now, highest_counter=counter)      # raises NotAdmitted with every reason

What belongs here: the device policy and the pure question whether a manifest satisfies it. What does not: digests of
files (`verify`), and when the question is asked (`edge.deployment`).

The rules, in order, all of them told: a trusted key signed `SHA256SUMS`; the sums cover the manifest; it has not
expired; its counter is not below the highest ever committed; the decision's policy is among those admitted; every
figure asked for is there and reaches its bound; the artefact is of an admitted kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from milton_assets.vocabulary.registry import ArtefactKind

MAX_POLICY_BYTES = 1 << 20

_Bound = Annotated[float, Field(allow_inf_nan=False)]


class NotAdmitted(MiltonError):
    """A bundle that the device's policy refuses."""


class DevicePolicy(BaseModel):
    """What a device admits. An empty list or mapping admits any, except `trusted_keys`, which must name at least one.

    `trusted_keys` are OpenSSH lines as in `signing_key.pub`; `policies` names of selection policies and
    `policy_sha256` their digests; `min_figures` and `max_figures` bound the manifest's figures by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    trusted_keys: tuple[str, ...] = Field(min_length=1)
    policies: tuple[str, ...] = ()
    policy_sha256: tuple[Sha256, ...] = ()
    min_figures: dict[str, _Bound] = Field(default_factory=dict)
    max_figures: dict[str, _Bound] = Field(default_factory=dict)
    artefact_kinds: tuple[ArtefactKind, ...] = ()
    require_expiry: bool = False

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
            expected="a mapping with trusted_keys and, if wanted, policies, min_figures, max_figures, require_expiry",
        ) from None


def admit(
    manifest: BundleManifest,
    policy: DevicePolicy,
    last_counter: int,
    now: datetime,
    *,
    signer: str | None,
) -> list[str]:
    """Every reason not to take this bundle, a sentence each; empty when it is admitted.

    `signer` is the fingerprint of the key whose signature holds, None when there is none; `last_counter` the highest
    counter ever committed on the device, 0 when there was none; `now` is aware.
    """
    reasons = []
    if signer is None:
        reasons.append("it bears no signature that holds")
    elif signer not in policy.trusted_fingerprints:
        reasons.append(f"it is signed by {signer}, a key this device does not trust")
    if manifest.expires_at is None and policy.require_expiry:
        reasons.append("it never expires, and this device takes only bundles that do")
    if manifest.expires_at is not None and now >= manifest.expires_at:
        reasons.append(f"it expired at {manifest.expires_at.isoformat()}")
    if manifest.counter < last_counter:
        reasons.append(
            f"it is a replay: its counter {manifest.counter} is below {last_counter}, the highest this device has run"
        )
    if policy.policies and manifest.policy_name not in policy.policies:
        reasons.append(f"it was decided under the policy {manifest.policy_name}, not one of {list(policy.policies)}")
    if policy.policy_sha256 and manifest.policy_sha256 not in policy.policy_sha256:
        reasons.append(f"its policy's digest {manifest.policy_sha256} is not one that this device admits")
    if policy.artefact_kinds and manifest.artefact_kind not in policy.artefact_kinds:
        reasons.append(f"it holds {manifest.artefact_kind}, not one of {[str(k) for k in policy.artefact_kinds]}")
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


def admission(policy: DevicePolicy) -> Callable[..., None]:
    """The policy as what `edge.deployment.deploy(admit=…)` takes: `(release, *, now, highest_counter)`.

    It raises `NotAdmitted` with every reason, and `BadInput` when the release's documents do not hold.
    """

    def check(release: Path, *, now: datetime, highest_counter: int) -> None:
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
        reasons += admit(manifest, policy, highest_counter, now, signer=signer)
        if reasons:
            raise NotAdmitted(
                f"this device does not admit {manifest.name}: " + "; ".join(reasons),
                remedy="sign it with a trusted key, or change the device's policy",
            )

    return check
