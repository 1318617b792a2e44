"""A device's own word on which bundles it takes: keys, policies, figures, age.

    check = admission(load_device_policy(Path("device-policy.yaml")))
    check(release, now=now, highest_counter=counter, trial=trial)      # raises NotAdmitted with every reason

What belongs here: the device policy and the pure question whether a manifest satisfies it. What does not: whether the
release is what its manifest says, and its figures those of its decision (`edge.release.verify_release`, which every
door asks first), and when the question is asked (`attempt`, `activation`).

The rules, in order, all of them told. On every device: signatures that are there hold; manifest and sums agree; it has
not expired; its counter is not below the highest ever committed; neither its counter nor its time of making lies in the
device's future, beyond a day for clocks that disagree. Where the device has a policy, besides: as many keys signed as
are required, of those that it believes (`trust`); the decision's policy is among those admitted; the artefact is of an
admitted kind; it is going to be tried as the device wants it; every figure asked for is there, was measured on this
very artefact, and reaches its bound.

Going back to a release that the target has run, age is no reason (expiry and counter): the device must be able to
return to what it knows. Everything else is asked all the same, so a key that is revoked is revoked for what lies on the
device too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from milton_assets.edge.deployment.layout import POLICY_FILE
from milton_assets.edge.deployment.trust import Trust, trust_in
from milton_assets.edge.manifest import BundleManifest
from milton_assets.edge.release import Folder, read_document, read_documents
from milton_assets.edge.release.chain import measured_artefact_sha256
from milton_assets.edge.release.sshsig import MAX_SIGNATURES, fingerprint, parse_public_key
from milton_assets.vocabulary.digest import Sha256
from milton_assets.vocabulary.edge_target import EdgeTarget
from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.files import write_atomic
from milton_assets.vocabulary.registry import ArtefactKind
from milton_assets.vocabulary.yaml_document import read_yaml

CLOCKS_APART = timedelta(days=1)
"""How far the clock of whoever made a bundle may be ahead of the device's."""
COUNTERS_APART = 10_000
"""How far a counter may be above the highest committed one, where that is ahead of the clock already."""

_Bound = Annotated[float, Field(allow_inf_nan=False)]


class NotAdmitted(MiltonError):
    """A bundle that the device refuses."""


@dataclass(frozen=True)
class Trial:
    """How a release is going to be tried on the device: before it becomes current, and in how many rounds after."""

    load_test: bool
    health_rounds: int


PROVED = Trial(load_test=True, health_rounds=1000)
"""As much as a policy can demand: of a release that proved itself on this target before."""


class DevicePolicy(BaseModel):
    """What a device admits. An empty list or mapping admits any, except `trusted_keys`, which must name at least one.

    `trusted_keys` are OpenSSH lines as in `signing_key.pub`, of which `required_signatures` have to sign, until a key
    list that they signed says otherwise (`trust`); `max_silence_hours` is how long the device may hear no controller
    before it says so (None: it never does); `policies` names of selection policies and
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
    required_signatures: int = Field(default=1, ge=1, le=MAX_SIGNATURES)
    max_silence_hours: float | None = Field(default=None, gt=0, le=100_000, allow_inf_nan=False)

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
        if self.required_signatures > len(self.trusted_fingerprints):
            raise ValueError(
                f"{self.required_signatures} signatures are required of {len(self.trusted_fingerprints)} keys"
            )
        return self

    @cached_property
    def trusted_fingerprints(self) -> frozenset[str]:
        """The fingerprints of the keys that the policy itself lists."""
        return frozenset(fingerprint(parse_public_key(line)) for line in self.trusted_keys)


def load_device_policy(path: Path) -> DevicePolicy:
    """Read a device policy from YAML. Raises `BadInput` naming what is wrong."""
    fields = f"trusted_keys and, if wanted, {', '.join([*DevicePolicy.model_fields][1:])}"
    try:
        return DevicePolicy.model_validate(read_yaml(path, holds=fields).content)
    except (BadInput, ValidationError) as error:
        raise BadInput(
            f"the device policy {path} does not hold: {error!s:.500}",
            expected=f"a mapping with {fields}",
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
    last_counter: int | None,
    now: datetime,
    *,
    signers: Collection[str],
    trial: Trial,
    measured_sha256: str | None = None,
    trust: Trust | None = None,
) -> list[str]:
    """Every reason not to take this bundle, a sentence each; empty when it is admitted.

    A device without a policy (None) asks for age alone. `signers` are the fingerprints of the keys whose signatures
    hold; `trust` is whom the device believes, by default those whom its policy lists; `last_counter` the highest
    counter ever committed on the device, 0 when there was none, None when the device goes back to what it has run;
    `now` is aware. `measured_sha256` is the digest of the artefact that the evidence was measured on; None takes it to
    be the bundled one.
    """
    reasons = []
    if policy is not None and (refusal := (trust or trust_of_policy(policy)).refusal(signers)):
        reasons.append(f"it {refusal}")
    if last_counter is not None:
        reasons += _age(manifest, last_counter, now)
    if policy is None:
        return reasons
    return reasons + _demands(manifest, policy, trial) + _figures(manifest, policy, measured_sha256)


def _age(manifest: BundleManifest, last_counter: int, now: datetime) -> list[str]:
    reasons = []
    if manifest.expires_at is not None and now >= manifest.expires_at:
        reasons.append(f"it expired at {manifest.expires_at.isoformat()}")
    if manifest.counter < last_counter:
        reasons.append(
            f"it is a replay: its counter {manifest.counter} is below {last_counter}, the highest this device has run"
        )
    latest = now + CLOCKS_APART
    if manifest.created_at > latest:
        reasons.append(
            f"it was made at {manifest.created_at.isoformat(timespec='seconds')}, which this device's clock has not "
            f"reached ({now.isoformat(timespec='seconds')})"
        )
    most = max(int(latest.timestamp()), last_counter + COUNTERS_APART)
    if manifest.counter > most:
        reasons.append(
            f"its counter {manifest.counter} is above {most}, and would lock out every bundle that comes after it"
        )
    return reasons


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
    return reasons


def _figures(manifest: BundleManifest, policy: DevicePolicy, measured_sha256: str | None) -> list[str]:
    reasons = []
    asked = sorted(policy.min_figures.keys() | policy.max_figures.keys())
    if asked and measured_sha256 not in {None, manifest.artefact_sha256}:
        reasons.append(f"its figures were measured on another artefact, {measured_sha256}")
    for name in asked:
        value = manifest.figures.get(name)
        low, high = policy.min_figures.get(name), policy.max_figures.get(name)
        if value is None:
            reasons.append(f"it states no {name}")
        elif low is not None and value < low:
            reasons.append(f"its {name} is {value:g}, below {low:g}")
        elif high is not None and value > high:
            reasons.append(f"its {name} is {value:g}, above {high:g}")
    return reasons


def admission(policy: DevicePolicy | None, trust: Trust | None = None) -> Callable[..., None]:
    """The policy, or a device's that has none, as `edge.deployment.safeguards.Admission`; `trust` as for `admit`.

    It raises `NotAdmitted` with every reason, and `BadInput` when the release's documents do not hold.
    """

    def check(release: Path, *, now: datetime, highest_counter: int | None, trial: Trial) -> None:
        with Folder(release) as folder:
            documents = read_documents(folder)
            reasons = [str(problem) for problem in documents.problems()]
            measured = measured_artefact_sha256(documents.manifest, lambda name: read_document(folder, name))
        reasons += admit(
            documents.manifest,
            policy,
            highest_counter,
            now,
            signers=documents.fingerprints(),
            trial=trial,
            measured_sha256=measured,
            trust=trust,
        )
        if reasons:
            raise NotAdmitted(
                f"this device does not admit {documents.manifest.name}: " + "; ".join(reasons),
                remedy="bundle the run again, signed with a trusted key, or deploy it as the device demands"
                # Without a counter to hold it against it is a release to go back to that is refused.
                + ("" if highest_counter is None else "; `milton rollback` goes back to the release before"),
            )

    return check


def policy_in(folder: Path) -> DevicePolicy | None:
    """The policy of the target in that folder; None when it has none. Raises `BadInput` for one that does not hold."""
    path = folder / POLICY_FILE
    return load_device_policy(path) if os.path.lexists(path) else None


def trust_of_policy(policy: DevicePolicy) -> Trust:
    """Whom a device believes by its policy alone."""
    return Trust.of_policy(policy.trusted_keys, policy.required_signatures)


def trust_by(policy: DevicePolicy, folder: Path) -> Trust:
    """Whom the target in that folder, with that policy, believes now. Raises `BadInput`."""
    return trust_in(folder, policy.trusted_keys, policy.required_signatures)


def trust_of(target: EdgeTarget) -> Trust | None:
    """Whom the target believes now; None when it has no policy, and so takes what nobody signed. Raises `BadInput`."""
    policy = policy_in(target.path)
    return None if policy is None else trust_by(policy, target.path)


def admission_of(target: EdgeTarget) -> Callable[..., None]:
    """The target's own policy, with whom it believes now, as `admission`. Raises `BadInput` as `policy_in`."""
    return admission(policy_in(target.path), trust_of(target))
