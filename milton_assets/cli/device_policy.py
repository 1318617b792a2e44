"""`milton device-policy`: which bundles a target admits, whoever deploys.

What belongs here: the verbs' arguments and what they print. What does not: what a policy says and when it is asked
(`milton_assets.edge.deployment.admission`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from milton_assets.cli.common import JsonOption, answer, current_state
from milton_assets.cli.which_target import ActorOption, TargetOption, TargetPathOption, acting, target_of
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.figure import counted

if TYPE_CHECKING:
    from rich.console import Console

    from milton_assets.edge.deployment.admission import DevicePolicy
    from milton_assets.fleet.target import KeepsPolicy, Target


def register(app: typer.Typer) -> None:
    """Add `device-policy` and its verbs to the command line."""
    verbs = typer.Typer(help="Which bundles a target admits, whoever deploys.", no_args_is_help=True)
    verbs.command()(init)
    verbs.command()(show)
    verbs.command()(reset_counter)
    app.add_typer(verbs, name="device-policy")


def init(
    target: TargetOption = None,
    target_path: TargetPathOption = None,
    trust: Annotated[
        list[Path] | None,
        typer.Option(
            "--trust", metavar="KEY.pub", help="A public key to trust; by default that of `milton keys init`."
        ),
    ] = None,
    admit: Annotated[
        list[str] | None,
        typer.Option("--admit", metavar="POLICY", help="A selection policy that may have decided; any by default."),
    ] = None,
    require_expiry: Annotated[bool, typer.Option("--require-expiry", help="Admit only bundles that expire.")] = False,
    require_load_test: Annotated[
        bool, typer.Option("--require-load-test/--no-require-load-test", help="Let no deployer skip the load test.")
    ] = True,
    min_health_rounds: Annotated[
        int, typer.Option("--min-health-rounds", metavar="N", min=0, help="Let no deployer watch for fewer rounds.")
    ] = 1,
    required_signatures: Annotated[
        int, typer.Option("--required-signatures", metavar="N", min=1, help="How many trusted keys have to sign.")
    ] = 1,
    max_silence_hours: Annotated[
        float | None,
        typer.Option("--max-silence-hours", metavar="H", help="Say so after so long without a controller."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Give a target its device policy: from then on it takes only bundles signed by a trusted key, tried as demanded.

    The target may be one that nothing was deployed to yet. A policy that is there is never overwritten.

    Example: milton device-policy init --target local
    """
    from pydantic import ValidationError

    from milton_assets.edge.bundle.keys import KeyFiles, load_public_key
    from milton_assets.edge.deployment.admission import DevicePolicy
    from milton_assets.edge.release.sshsig import public_line

    keys = trust or [KeyFiles(current_state().keys).public]
    try:
        policy = DevicePolicy(
            trusted_keys=tuple(public_line(load_public_key(key)) for key in keys),
            policies=tuple(admit or ()),
            require_expiry=require_expiry,
            require_load_test=require_load_test,
            min_health_rounds=min_health_rounds,
            required_signatures=required_signatures,
            max_silence_hours=max_silence_hours,
        )
    except ValidationError as error:
        raise BadInput(f"that makes no device policy: {error.errors()[0]['msg']}") from None
    place = _with_policy(target_of(target, target_path))
    place.guard(policy)
    _tell(place.policy_path, policy, as_json=as_json)


def show(target: TargetOption = None, target_path: TargetPathOption = None, as_json: JsonOption = False) -> None:
    """Show a target's device policy. Exits 1 when it has none, or one that does not hold.

    Example: milton device-policy show --target local
    """
    named = target_of(target, target_path)
    place = _with_policy(named)
    if (policy := place.device_policy()) is None:
        raise BadInput(
            f"the target {named.name} has no device policy: it takes any bundle that has not expired and is no replay",
            remedy=f"`milton device-policy init --target {named.name}` gives it one",
        )
    _tell(place.policy_path, policy, as_json=as_json)


def reset_counter(
    counter: Annotated[
        int,
        typer.Option(
            "--counter",
            metavar="N",
            min=0,
            help="Take bundles from this counter on; `milton bundle inspect` shows one's.",
        ),
    ],
    target: TargetOption = None,
    target_path: TargetPathOption = None,
    key: Annotated[
        list[Path] | None,
        typer.Option(
            "--key", metavar="FILE", help="A private key to sign with; by default that of `milton keys init`."
        ),
    ] = None,
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a target's highest counter back, signed by a key that its policy trusts.

    A target takes no bundle with a lower counter than it ever ran, so one from a clock that was far ahead locks out all
    that come after it.

    Example: milton device-policy reset-counter --target local --counter 1768140000
    """
    from milton_assets.edge.bundle.keys import KeyFiles, load_private_key
    from milton_assets.edge.deployment import COUNTER_NAMESPACE
    from milton_assets.edge.release.sshsig import sign

    place = _with_policy(target_of(target, target_path))
    private = [load_private_key(path) for path in key or [KeyFiles(current_state().keys).private]]
    order = place.counter_order(counter)
    signatures = b"".join(sign(order, one, COUNTER_NAMESPACE) for one in private)
    done = place.reset_counter(order, signatures, actor=acting(actor))
    told = done.model_dump(mode="json")
    answer(
        told,
        as_json=as_json,
        text=lambda console: console.print(f"the highest counter was {done.from_counter} and is now {done.counter}"),
    )


def _with_policy(target: Target) -> KeepsPolicy:
    from milton_assets.fleet.target import KeepsPolicy

    if isinstance(target, KeepsPolicy):
        return target
    raise BadInput(
        f"the device policy of the target {target.name} ({target.url}) cannot be reached from here",
        expected="a target on this machine",
        remedy="run `milton device-policy` on the device: the policy is its owner's",
    )


def _tell(path: Path, policy: DevicePolicy, *, as_json: bool) -> None:
    def show(console: Console) -> None:
        console.print(f"{path} admits a bundle", markup=False, soft_wrap=True)
        for sentence in _sentences(policy):
            console.print(f"  {sentence}", markup=False, soft_wrap=True)

    answer({"path": str(path), **policy.model_dump(mode="json")}, as_json=as_json, text=show)


def _sentences(policy: DevicePolicy) -> list[str]:
    number = f"{policy.required_signatures} of " if policy.required_signatures > 1 else ""
    said = [f"signed by {number}{' or '.join(sorted(policy.trusted_fingerprints))}, or as a key list of theirs says"]
    if policy.policies:
        said.append(f"decided under {' or '.join(policy.policies)}")
    said += [f"with a policy of the digest {digest}" for digest in policy.policy_sha256]
    said += [f"that holds {kind}" for kind in policy.artefact_kinds]
    said += [f"whose {name} is at least {bound:g}" for name, bound in policy.min_figures.items()]
    said += [f"whose {name} is at most {bound:g}" for name, bound in policy.max_figures.items()]
    said.append("that expires, and has not" if policy.require_expiry else "that has not expired")
    said.append("that is not older than one it has run")
    if policy.require_load_test:
        said.append("after a load test")
    if policy.min_health_rounds:
        said.append(f"and watches it for at least {counted(policy.min_health_rounds, 'round')}")
    if policy.max_silence_hours is not None:
        said.append(f"and says so when no controller is heard for {policy.max_silence_hours:g} hours")
    return said
