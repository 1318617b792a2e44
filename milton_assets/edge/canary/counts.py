"""What the records of a canary amount to: counts, from which all evidence follows.

What belongs here: adding a record. What does not: what the counts say (`verdict`).

Where a header keeps its value on one arm, its requests share their draw, so whoever asks often must not count often:
rates and times are taken from each unit's first request, and errors from each unit's first error. Times and lengths are
compared in pairs of first requests that arrived one after the other, if one fell to either arm and both were answered:
the load was the same for both, and which came first was drawn.

Answers to golden questions are compared in pairs of first requests that asked the same question one after the other. A
pair of which neither is right says nothing: whatever made both wrong, such as instructions to answer in another
language, hides what there is to compare.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field

from milton_assets.edge.canary.plan import Arm, CanaryPlan
from milton_assets.edge.canary.records import Asked, Marked, Paired, Rated, Record, Replied

_WAITING_PAIRS = 4096

Count = int


class ArmCounts(BaseModel):
    """One arm: requests in all, of which erred and failed; units, of whose first requests `first_erred` and
    `first_failed`; units that ever erred; answers that were rated, how many badly, and by how many units; answers to
    golden questions that were marked, and how many were right."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests: int = Field(default=0, ge=0)
    erred: int = Field(default=0, ge=0)
    failed: int = Field(default=0, ge=0)
    units: int = Field(default=0, ge=0)
    first_erred: int = Field(default=0, ge=0)
    first_failed: int = Field(default=0, ge=0)
    units_erred: int = Field(default=0, ge=0)
    rated: int = Field(default=0, ge=0)
    rated_badly: int = Field(default=0, ge=0)
    units_rated_badly: int = Field(default=0, ge=0)
    marked: int = Field(default=0, ge=0)
    right: int = Field(default=0, ge=0)


class PairCounts(BaseModel):
    """Pairs in which the challenger's figure was beyond the margin, and within it; one at the margin is neither."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    beyond: int = Field(default=0, ge=0)
    within: int = Field(default=0, ge=0)


class Counts(BaseModel):
    """All of them. `answer` is the time to the first token, or to the whole of an answer that was no stream; `writing`
    the time per output token; `longer` and `shorter` the output tokens. Of a shadow: `one_failed` are the recorded
    requests that only the challenger failed (beyond) or only the incumbent (within), and how many answers were
    alike. `one_wrong` are the pairs of a golden question of which only the challenger's answer was wrong (beyond) or
    only the incumbent's (within), `both_right` those of which neither was."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    challenger: ArmCounts = ArmCounts()
    incumbent: ArmCounts = ArmCounts()
    answer: PairCounts = PairCounts()
    writing: PairCounts = PairCounts()
    longer: PairCounts = PairCounts()
    shorter: PairCounts = PairCounts()
    one_failed: PairCounts = PairCounts()
    one_wrong: PairCounts = PairCounts()
    both_right: int = Field(default=0, ge=0)
    answers_alike: int = Field(default=0, ge=0)
    answers_differ: int = Field(default=0, ge=0)


class Tally:
    """The counts in the making, for one plan."""

    def __init__(self, plan: CanaryPlan) -> None:
        self.next_number = 0
        self.next_nth = 0
        self.next_turns: dict[str, int] = {}
        self._plan = plan
        self._arms: dict[Arm, dict[str, int]] = {arm: dict.fromkeys(ArmCounts.model_fields, 0) for arm in Arm}
        names = ("answer", "writing", "longer", "shorter", "one_failed", "one_wrong")
        self._pairs = {name: [0, 0] for name in names}
        self._answers = [0, 0]
        self._both_right = 0
        self.replayed: set[int] = set()
        self._waiting: OrderedDict[int, Asked] = OrderedDict()
        self._waiting_marked: OrderedDict[tuple[str, int], tuple[Arm, bool | None]] = OrderedDict()
        self._units_erred: set[str] = set()
        self._units_rated_badly: set[str] = set()

    def add_all(self, records: Iterable[Record]) -> None:
        """Add them in their order, as when a journal is read again."""
        for record in records:
            self.add(record)
        # What arrived and had not ended is lost: the next pair begins anew.
        self.next_nth += self.next_nth % 2
        for question, turn in self.next_turns.items():
            self.next_turns[question] = turn + turn % 2

    def add(self, record: Record) -> None:
        """Add one record."""
        if isinstance(record, Rated):
            arm = self._arms[record.arm]
            arm["rated"] += 1
            arm["rated_badly"] += record.value < 0
            if record.value < 0 and (record.unit is None or record.unit not in self._units_rated_badly):
                arm["units_rated_badly"] += 1
                if record.unit is not None:
                    self._units_rated_badly.add(record.unit)
            return
        if isinstance(record, Paired):
            self._add_replayed(record)
            return
        self.next_number = max(self.next_number, record.number + 1)
        arm = self._arms[record.arm]
        arm["requests"] += 1
        arm["erred"] += record.erred
        arm["failed"] += record.failed
        if record.golden is not None:
            self._add_marked(record.arm, record.golden)
        unit = record.unit or str(record.number)
        if record.erred and (record.unit is None or unit not in self._units_erred):
            arm["units_erred"] += 1
            if record.unit is not None:
                self._units_erred.add(unit)
        if record.nth is not None:
            self.next_nth = max(self.next_nth, record.nth + 1)
            arm["units"] += 1
            arm["first_erred"] += record.erred
            arm["first_failed"] += record.failed
            self._pair(record, record.nth)

    @property
    def requests(self) -> int:
        """How many requests there were."""
        return sum(arm["requests"] for arm in self._arms.values())

    def counts(self) -> Counts:
        """The counts so far."""
        arms = {str(arm): ArmCounts.model_validate(counted) for arm, counted in self._arms.items()}
        pairs = {name: PairCounts(beyond=beyond, within=within) for name, (beyond, within) in self._pairs.items()}
        alike = {"answers_alike": self._answers[0], "answers_differ": self._answers[1]}
        return Counts.model_validate({**arms, **pairs, **alike, "both_right": self._both_right})

    def _add_marked(self, arm: Arm, marked: Marked) -> None:
        self._mark(arm, marked.right)
        if marked.turn is None:
            return
        self.next_turns[marked.question] = max(self.next_turns.get(marked.question, 0), marked.turn + 1)
        pair = marked.question, marked.turn // 2
        other = self._waiting_marked.pop(pair, None)
        if other is None:
            self._waiting_marked[pair] = arm, marked.right
            if len(self._waiting_marked) > _WAITING_PAIRS:
                self._waiting_marked.popitem(last=False)
        elif other[0] is not arm:
            rights = {arm: marked.right, other[0]: other[1]}
            self._compare_marks(rights[Arm.CHALLENGER], rights[Arm.INCUMBENT])

    def _mark(self, arm: Arm, right: bool | None) -> None:
        if right is not None:
            self._arms[arm]["marked"] += 1
            self._arms[arm]["right"] += right

    def _compare_marks(self, ours: bool | None, theirs: bool | None) -> None:
        if ours is None or theirs is None:
            return
        if ours and theirs:
            self._both_right += 1
        elif ours or theirs:
            self._pairs["one_wrong"][ours] += 1

    def _add_replayed(self, record: Paired) -> None:
        self.replayed.add(record.number)
        ours, theirs = record.challenger, record.incumbent
        for arm, reply in ((Arm.CHALLENGER, ours), (Arm.INCUMBENT, theirs)):
            counts = self._arms[arm]
            counts["requests"] += 1
            counts["units"] += 1
            for name in ("erred", "failed", "first_erred", "first_failed", "units_erred"):
                counts[name] += reply.failed
            self._mark(arm, reply.right)
        if ours.failed != theirs.failed:
            self._pairs["one_failed"][theirs.failed] += 1
        if ours.failed or theirs.failed:
            return
        self._answers[ours.answer_sha256 != theirs.answer_sha256] += 1
        self._compare_marks(ours.right, theirs.right)
        self._compare_figures(ours, theirs)

    def _pair(self, record: Asked, nth: int) -> None:
        other = self._waiting.pop(nth // 2, None)
        if other is None:
            self._waiting[nth // 2] = record
            if len(self._waiting) > _WAITING_PAIRS:
                self._waiting.popitem(last=False)
            return
        if other.arm is record.arm or any(one.erred or one.outcome != "answered" for one in (record, other)):
            return
        ours, theirs = (record, other) if record.arm is Arm.CHALLENGER else (other, record)
        if ours.first_token_s is None and theirs.first_token_s is None:
            self._compare("answer", ours.duration_s, self._plan.margins.slower * theirs.duration_s)
        self._compare_figures(ours, theirs)

    def _compare_figures(self, ours: Asked | Replied, theirs: Asked | Replied) -> None:
        margins = self._plan.margins
        if ours.first_token_s is not None and theirs.first_token_s is not None:
            self._compare("answer", ours.first_token_s, margins.slower * theirs.first_token_s)
        if ours.per_token_s is not None and theirs.per_token_s is not None:
            self._compare("writing", ours.per_token_s, margins.slower * theirs.per_token_s)
        if ours.output_tokens is not None and theirs.output_tokens is not None:
            self._compare("longer", ours.output_tokens, margins.longer * theirs.output_tokens)
            self._compare("shorter", theirs.output_tokens, margins.longer * ours.output_tokens)

    def _compare(self, name: str, value: float, bound: float) -> None:
        if value != bound:
            self._pairs[name][value < bound] += 1
