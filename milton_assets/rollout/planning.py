"""From what a person asks for to a plan, and what that plan will take, in sentences.

What belongs here: reading waves and freezes as they are written, in which order devices are asked, what opens each
wave. What does not: the plan's nouns (`plan`), and which devices there are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from datetime import time

from milton_assets.rollout.plan import Freeze, Gate, Member, Opens, Plan, Wave
from milton_assets.statistics.failure_rate import highest_rate
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.keys import check_key

DEFAULT_WAVES = ("1", "rest")
"""One canary first, then the rest."""
_FREEZE = re.compile(r"(?:(?P<days>[A-Za-z,]+) )?(?P<begins>\d\d:\d\d)-(?P<ends>\d\d:\d\d)")
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def waves_of(
    said: Sequence[str], members: Sequence[Member], gate: Gate, opens: Opens | None = None
) -> tuple[Wave, ...]:
    """The waves that are written as `3` (devices), `10%` (of the fleet), `class=pi5` (a label) or `rest`.

    What opens the next wave is `opens`; where that is None the evidence, and "all well" for a wave after which it could
    not suffice. Raises `BadInput` for what is no wave, waves that nobody would be in, and waves whose devices are too
    few for the evidence that was asked for.
    """
    waves: list[Wave] = []
    reached = 0
    for text in said:
        if waves and waves[-1].limit is None and waves[-1].label is None:
            raise BadInput(f"the wave {text!r:.50} comes after `rest`", expected="`rest` as the last wave")
        limit, label = _limit_and_label(text, len(members))
        wave = Wave(said=text, limit=limit, label=label)
        takes = sum(wave.takes(member) for member in members)
        if not takes:
            raise BadInput(
                f"the wave {text!r:.50} has no device",
                expected=f"one of the labels {', '.join(sorted({one for m in members for one in m.labels}))}",
            )
        reached = min(reached + (takes if limit is None else limit), len(members))
        needed = gate.test.trials_to_show_small()
        if opens is Opens.EVIDENCE and reached < needed and text != said[-1]:
            raise BadInput(
                f"after the wave {text} at most {reached} devices have begun, and the evidence cannot open the next "
                f"one: it takes {needed} that all stood to exclude a failure rate of {gate.intolerable:.0%}",
                expected="waves of more devices, a higher intolerable rate, or waves that open when all are well",
                remedy="`--wave`, `--intolerable` or `--opens all-well`",
            )
        shown = opens or (Opens.EVIDENCE if reached >= needed else Opens.ALL_WELL)
        waves.append(wave.model_copy(update={"opens": shown}))
    if not waves:
        raise BadInput("a rollout without a wave", expected="waves such as 1, 10%, class=pi5, rest")
    return tuple(waves)


def _limit_and_label(text: str, fleet: int) -> tuple[int | None, str | None]:
    if text == "rest":
        return None, None
    if re.fullmatch(r"[1-9]\d{0,6}", text):
        return int(text), None
    if (share := re.fullmatch(r"(\d{1,3}(?:\.\d{1,3})?)%", text)) and 0 < float(share.group(1)) <= 100:
        # Rounded down: a wave is never larger than it is said to be, but one device is the least that can be tried.
        return max(1, int(fleet * float(share.group(1)) / 100)), None
    if text.startswith("class="):
        return None, check_key(text.removeprefix("class="), "device class")
    raise BadInput(
        f"{text!r:.50} is no wave",
        expected="a number of devices (3), a share of the fleet (10%), a class (class=pi5), or rest",
    )


def freeze_of(text: str) -> Freeze:
    """The freeze that is written as `22:00-06:00` or `sat,sun 00:00-23:59`, in UTC. Raises `BadInput`."""
    found = _FREEZE.fullmatch(text)
    try:
        if not found:
            raise ValueError("no two times of day")
        days = tuple(_DAYS.index(day.lower()) for day in (found["days"] or ",".join(_DAYS)).split(","))
        return Freeze(begins=time.fromisoformat(found["begins"]), ends=time.fromisoformat(found["ends"]), days=days)
    except ValueError as error:
        raise BadInput(
            f"{text!r:.50} is no freeze ({error!s:.200})", expected="HH:MM-HH:MM in UTC, or sat,sun HH:MM-HH:MM"
        ) from None


def in_order(members: Sequence[Member], seed: str) -> tuple[Member, ...]:
    """The members in an order that nobody chose and everybody gets again from the same `seed`.

    So the canary is another device each time, and a wave is a sample of the fleet, as the evidence takes it to be.
    """
    return tuple(sorted(members, key=lambda one: hashlib.sha256(f"{seed}\0{one.name}".encode()).digest()))


def what_it_takes(plan: Plan) -> Iterator[str]:
    """What the plan will do, a sentence a wave and then what stops it."""
    gate, reached = plan.gate, 0
    for number, wave in enumerate(plan.waves, 1):
        takes = sum(wave.takes(member) for member in plan.members)
        most = takes if wave.limit is None else min(wave.limit, takes)
        reached = min(reached + most, len(plan.members))
        begin = f"wave {number} ({wave.said}): at most {_devices(most)}, {plan.at_once} at once"
        if number == len(plan.waves):
            yield f"{begin}; at most {reached} of {len(plan.members)} have begun by its end"
        elif wave.opens is Opens.EVIDENCE:
            yield (
                f"{begin}; the next opens once a failure rate of {gate.intolerable:.0%} is excluded with an error of "
                f"{gate.alpha:.0%}: after {gate.test.trials_to_show_small()} devices if none fails, "
                f"{gate.test.trials_to_show_small(1)} if one does"
            )
        else:
            yield (
                f"{begin}; the next opens if every device so far stood. That is no rate: after {reached} that stood, "
                f"one of up to {highest_rate(0, reached):.0%} is still possible"
            )
    few = gate.test.failures_to_show_large(reached)
    after = f": {few} of {reached} failures suffice" if few is not None else f", which {reached} devices cannot"
    yield (
        f"it stops, in any wave, once a failure rate of {gate.tolerable:.0%} or less is excluded with an error of "
        f"{gate.beta:.0%}{after}"
    )


def _devices(count: int) -> str:
    return f"{count} device" if count == 1 else f"{count} devices"
