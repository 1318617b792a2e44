"""The way back from a counter that locks a device: an order, signed by a key that the device trusts.

    order = counter_order(target, counter=1768140000, now=clock())
    signature = sign(order, key, COUNTER_NAMESPACE)       # or: ssh-keygen -Y sign -n milton-counter-reset -f KEY FILE
    reset_counter(target, order, signature, actor="ada", now=clock)

What belongs here: the order as a noun, making one for a target, and judging one. What does not: recording it
(`states`) and the lock it is done under (`deployer`).

A device refuses every bundle whose counter is below the highest it ever committed, so one bundle from a clock that was
far ahead would lock it for good. Nobody but a key that may sign its bundles may undo that: whoever holds one could
give the device any release anyway, so the order gives no power that they lack. It names the target's journal and the
counter it takes back, and its digest is kept, so it works on one device and once.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from milton_assets.edge.deployment.admission import NotAdmitted
from milton_assets.edge.deployment.fileops import FileOps
from milton_assets.edge.deployment.journal import Line
from milton_assets.edge.deployment.session import read_target
from milton_assets.edge.deployment.states import CounterReset, TargetState
from milton_assets.edge.deployment.trust import Trust
from milton_assets.edge.manifest import MAX_COUNTER
from milton_assets.edge.release.sshsig import fingerprint, verify_all
from milton_assets.vocabulary.digest import Sha256, sha256_bytes
from milton_assets.vocabulary.edge_target import EdgeTarget
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.keys import Slug
from milton_assets.vocabulary.strict_json import parse_json

COUNTER_NAMESPACE = "milton-counter-reset"
MAX_ORDER_BYTES = 4096


class CounterOrder(BaseModel):
    """That the target `target`, whose journal begins with the line `journal`, go back to `counter`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    target: Slug
    journal: Sha256
    from_counter: int = Field(ge=1, le=MAX_COUNTER)
    counter: int = Field(ge=0, le=MAX_COUNTER)
    made_at: AwareDatetime


def counter_order(target: EdgeTarget, counter: int, now: datetime, *, ops: FileOps | None = None) -> bytes:
    """The order that takes the target's highest counter back to `counter`, as the bytes to sign.

    Raises `BadInput` when nothing was ever deployed to it, or its highest counter is not above `counter`.
    """
    reading = read_target(target, ops or FileOps())
    highest = reading.state.highest_counter
    if not 0 <= counter < highest:
        raise BadInput(
            f"the highest counter of {target.name} is {highest}", expected=f"a counter below it, and not {counter}"
        )
    order = CounterOrder(
        target=target.name,
        journal=reading.lines[0].sha256,
        from_counter=highest,
        counter=counter,
        made_at=now,
    )
    return (order.model_dump_json(indent=1) + "\n").encode()


def checked_order(
    lines: Sequence[Line],
    state: TargetState,
    trust: Trust | None,
    order: bytes,
    signature: bytes,
    actor: str,
    now: datetime,
) -> CounterReset:
    """What the journal of a target in that state is to say of the order. Raises as `deployer.reset_counter`."""
    if trust is None:
        raise BadInput(
            "the target has no device policy, so there is no key that it would take an order from",
            remedy="`milton device-policy init` gives it one",
        )
    signers = [fingerprint(key) for key in verify_all(signature, order, COUNTER_NAMESPACE)]
    if refusal := trust.refusal(signers):
        raise NotAdmitted(f"the order {refusal}")
    said = _parsed(order)
    if not lines or (said.target, said.journal) != (state.name, lines[0].sha256):
        raise BadInput(
            f"the order is for the target {said.target}, with another journal", expected="one for this target"
        )
    if said.from_counter != state.highest_counter or said.counter >= state.highest_counter:
        raise BadInput(
            f"the order takes the counter back from {said.from_counter} to {said.counter}",
            expected=f"from {state.highest_counter}, the highest here, to one below it",
        )
    digest = sha256_bytes(order)
    if digest in state.counter_orders:
        raise BadInput("the order was carried out before", expected="an order of now")
    return CounterReset(
        at=now,
        actor=actor,
        from_counter=said.from_counter,
        counter=said.counter,
        signer=", ".join(sorted(trust.keys & set(signers))),
        order_sha256=digest,
    )


def _parsed(order: bytes) -> CounterOrder:
    if len(order) > MAX_ORDER_BYTES:
        raise BadInput(f"the order has {len(order)} bytes", expected=f"at most {MAX_ORDER_BYTES}")
    parse_json(order, "the order")
    try:
        return CounterOrder.model_validate_json(order, strict=True)
    except ValidationError as error:
        raise BadInput(
            f"the order does not hold: {error.errors()[0]['msg']}", expected="one by `counter_order`"
        ) from None
