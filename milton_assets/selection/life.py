"""The incumbent's life: what was seen and tested before this decision, and what it hands to the next.

    life = Life.of(manifest, candidates, incumbent)
    life.noises(criterion, versions, values)         # measured where it was, else assumed
    life.starts(criterion, versions, gains)          # the same for rounds in turn
    life.looked(...)                                 # the p-values of a decision, with what was spent before
    life.after(...)                                  # the next ledger

What belongs here: reading the ledger for one decision's candidates, counting evidence once, and writing the next
ledger. What does not: the shares and tests (`milton_assets.statistics`), and what is compared with what (`compare`).

Alpha is spent over the life of an incumbent (ADR 160). The challengers that stand for the first time together are a
group, and the groups share alpha; the evidence on each hypothesis is looked at when it has doubled, and the looks share
what the group has. Evidence that was looked at is not looked at again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from milton_assets.selection.candidate import Candidate
from milton_assets.selection.comparability import Procedure, procedure
from milton_assets.selection.field import sent_back
from milton_assets.selection.policy import Criterion, Margin, MetricRef, Superiority
from milton_assets.selection.scoring import Array
from milton_assets.statistics.multiplicity import holm, one_sided
from milton_assets.statistics.spending import Noise, group_share, is_look, look_share
from milton_assets.vocabulary.digest import sha256_bytes, sha256_json
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.evidence import CandidateEvidence, EvidenceManifest
from milton_assets.vocabulary.field_evidence import FieldFinding
from milton_assets.vocabulary.fingerprint import Fingerprint
from milton_assets.vocabulary.ledger import Anchor, Challenger, Ledger, Previous, Repeated, Spread, Tally
from milton_assets.vocabulary.tier import TierResult

_UNKNOWN = "0" * 64
"""The digest of an environment that is not known; nothing measured in it is a repetition of anything."""

ASSUMED_OF_STARTS = math.sqrt(2) / 3
"""The noise of a gain in rounds in turn that is assumed, as a share of the policy's noise of a figure between
campaigns: a third for each of the two models. What drifts, both share; what is left is how the processes lie."""

NEW = Tally(0, 0.0, 1.0, False, "")
"""A hypothesis of which nothing was seen yet."""


@dataclass(frozen=True)
class Life:
    """The ledger as one decision's candidates need it.

    `keys` know each version by its weights and how it was measured, `hows` each (version, tier) by how alone, `tables`
    by the digest of its table, `weights` by those. `incumbent` is the SHA-256 of the weights that serve, None where it
    is not known; `begins` is whether they serve for the first time. `anchored` are the tables of the anchors, by
    digest. `sent_back` is the verdict by which the field sent the incumbent's weights back, and `let_go` the anchors
    that they were until then; `released` those that a setting lets go: the ledger has neither any more.
    """

    ledger: Ledger = field(default_factory=Ledger)
    keys: Mapping[str, str] = field(default_factory=dict)
    hows: Mapping[tuple[str, str], str] = field(default_factory=dict)
    tables: Mapping[tuple[str, str], str] = field(default_factory=dict)
    incumbent: str | None = None
    weights: Mapping[str, str] = field(default_factory=dict)
    anchored: Mapping[str, TierResult] = field(default_factory=dict)
    begins: bool = False
    sent_back: FieldFinding | None = None
    let_go: tuple[Anchor, ...] = ()
    released: tuple[Anchor, ...] = ()

    @classmethod
    def of(
        cls,
        manifest: EvidenceManifest,
        candidates: Sequence[Candidate],
        incumbent: str | None,
        anchored: Mapping[str, TierResult],
    ) -> Life:
        """What the manifest's ledger says to these candidates, sorted by version. `anchored` holds the tables that its
        anchors pin, by digest.

        A life begins where other weights serve than the ledger is about. Where the incumbent's weights are not known,
        because it was no candidate, the ledger is handed on as it is.
        """
        hows = _hows(manifest, candidates)
        weights = manifest.weights
        keys: dict[str, str] = {}
        taken: set[str] = set()
        for one in candidates:
            if one.version not in weights:
                continue
            parts = [weights[one.version], *(f"{tier}={hows[one.version, tier]}" for tier in sorted(one.tiers))]
            key = sha256_bytes("\n".join(parts).encode())
            # The same weights twice in one campaign are two candidates.
            keys[one.version] = key if key not in taken else sha256_bytes("\n".join((*parts, one.version)).encode())
            taken.add(keys[one.version])
        ledger = manifest.ledger
        serving = weights.get(incumbent) if incumbent is not None else None
        begins = incumbent is None or (serving is not None and serving != ledger.incumbent)
        if begins:
            ledger = ledger.model_copy(update={"incumbent": serving, "families": (), "challengers": {}})
        tables = {(pin.model_version, pin.tier): pin.sha256 for pin in manifest.pins()}
        against = sent_back(manifest.field, serving)
        let_go = tuple(one for one in ledger.anchors if against is not None and one.artefact_sha256 == serving)
        released = tuple(one for one in ledger.anchors if one.artefact_sha256 in manifest.anchors_let_go)
        if let_go or released:
            kept = tuple(one for one in ledger.anchors if one not in let_go and one not in released)
            ledger = ledger.model_copy(update={"anchors": kept})
        wanted = [(one.uri, one.sha256) for anchor in ledger.anchors for one in anchor.tables]
        wanted += [(pin.uri, pin.sha256) for one in manifest.anchors for pin in one.pins]
        if missing := [uri for uri, sha256 in dict.fromkeys(wanted) if sha256 not in anchored]:
            raise BadInput(
                f"{manifest.run_id} holds challengers to figures that were not read: {', '.join(missing)}",
                expected="the tables that the ledger's anchors pin",
            )
        return cls(ledger, keys, hows, tables, serving, weights, anchored, begins, against, let_go, released)

    def noises(self, criterion: Criterion, versions: Sequence[str], values: Array) -> list[Noise]:
        """For each version the noise of that criterion, from all that was measured as it was, this time included."""
        if criterion.noise <= 0:
            return [Noise(0.0)] * len(versions)
        found: dict[str | None, Noise] = {None: Noise(criterion.noise)}
        places = self._places(criterion, versions)
        repeats = self._repeats(criterion, versions, values)
        for where in places:
            if where is not None and where not in found:
                spread = self._spread(where, repeats)
                found[where] = Noise(criterion.noise, spread.squares, spread.freedom)
        return [found[where] for where in places]

    def starts(self, criterion: Criterion, versions: Sequence[str], gains: Array) -> list[tuple[Noise, int] | None]:
        """Of each version that was measured beside the incumbent in rounds in turn: the noise of its gain, and in how
        many campaigns it was, this one included. `gains` are today's logarithms, NaN for who was not.

        What two processes differ by for as long as they live is in it, and is assumed until the same two models were
        measured in turn twice.
        """
        repeats = _added(self.ledger, self._gains(criterion, versions, gains))
        found: list[tuple[Noise, int] | None] = []
        for version, gain in zip(versions, gains.tolist(), strict=True):
            where, key = self._where_in_turn(criterion, version), self._pair(version)
            if math.isnan(gain) or key is None:
                found.append(None)
                continue
            assumed, spread = criterion.noise * ASSUMED_OF_STARTS, Spread(0.0, 0)
            if where is not None:
                spread = self._spread(where, repeats)
            known = repeats.get(where or "", {}).get(key)
            noise = Noise(assumed, spread.squares, spread.freedom)
            found.append((noise, 1 if known is None else known.seen))
        return found

    def _pair(self, version: str) -> str | None:
        """What knows a version together with what serves; None where that is not known."""
        key = self.keys.get(version)
        return None if key is None or self.incumbent is None else sha256_bytes(f"{key}\n{self.incumbent}".encode())

    def _where_in_turn(self, reference: MetricRef, version: str) -> str | None:
        how = self.hows.get((version, reference.tier), _UNKNOWN)
        return None if how == _UNKNOWN else f"{reference.tier}/{reference.metric}/in turn/{how}"

    def _places(self, reference: MetricRef, versions: Sequence[str]) -> list[str | None]:
        """For each version what its figures are repeated under; None where its environment is not known."""
        hows = [self.hows.get((version, reference.tier), _UNKNOWN) for version in versions]
        named = {how: None if how == _UNKNOWN else f"{reference.tier}/{reference.metric}/{how}" for how in set(hows)}
        return [named[how] for how in hows]

    def _repeats(self, criterion: Criterion, versions: Sequence[str], values: Array) -> dict[str, dict[str, Repeated]]:
        """The ledger's repeats of that criterion with this decision's figures added, for the places they were taken."""
        return _added(self.ledger, self._figures(criterion, versions, values))

    def _figures(self, criterion: Criterion, versions: Sequence[str], values: Array) -> Iterator[_Figure]:
        places = self._places(criterion, versions)
        for version, where, value in zip(versions, places, values.tolist(), strict=True):
            table = self.tables.get((version, criterion.tier))
            if where is not None and table is not None and value > 0:
                yield _Figure(where, self.keys[version], math.log(value), table)

    def _gains(self, criterion: Criterion, versions: Sequence[str], gains: Array) -> Iterator[_Figure]:
        """The same of gains in rounds in turn, which are logarithms already."""
        for version, gain in zip(versions, gains.tolist(), strict=True):
            if math.isnan(gain) or criterion.noise <= 0:
                continue
            where, table = self._where_in_turn(criterion, version), self.tables.get((version, criterion.tier))
            if where is not None and table is not None and (key := self._pair(version)) is not None:
                yield _Figure(where, key, gain, table)

    def _spread(self, where: str, repeats: Mapping[str, Mapping[str, Repeated]]) -> Spread:
        gone = self.ledger.spreads.get(where, Spread(0.0, 0))
        here = repeats.get(where, self.ledger.repeats.get(where, {})).values()
        return _folded(gone, here)

    def seen(self, margin: Margin, versions: Sequence[str]) -> tuple[list[Tally], list[int]]:
        """What was tested before of each of the versions, and the number of the group each belongs to."""
        name, newcomers = f"{margin.tier}/{margin.metric}", len(self.ledger.families) + 1
        known = [self.ledger.challengers.get(self.keys.get(version, "")) for version in versions]
        tests = [NEW if one is None else one.tests.get(name, NEW) for one in known]
        return tests, [newcomers if one is None else one.group for one in known]

    def pairs(self, tier: str, incumbent: str, challengers: Sequence[str]) -> list[str]:
        """For each challenger the digest of its and the incumbent's table together; empty where there is none to
        count."""
        theirs = self.tables.get((incumbent, tier))
        tables = [self.tables.get((version, tier)) for version in challengers]
        return ["" if None in (theirs, mine) else sha256_bytes(f"{theirs}\n{mine}".encode()) for mine in tables]

    def corrected(
        self, p_spent: Array, better: npt.NDArray[np.bool_], groups: Sequence[int], superiority: Superiority
    ) -> Array:
        """P-values (metrics, challengers) after Holm's correction in each group and the group's share of alpha: of two
        sides, or of one for those that are `better`."""
        result = np.full(p_spent.shape, np.nan)
        numbers = np.array(groups)
        for group in sorted(set(groups)):
            some = numbers == group
            family = self.ledger.families[group - 1] if group <= len(self.ledger.families) else 0
            mine = holm(p_spent[:, some], family)
            if superiority is Superiority.ONE_SIDED:
                ahead = better[:, some]
                mine = np.where(ahead, holm(one_sided(p_spent[:, some], ahead), family), mine)
            result[:, some] = np.minimum(mine / group_share(group), 1.0)
        return result

    def after(
        self,
        criteria: Sequence[tuple[Criterion, Sequence[str], Array]],
        tests: Mapping[str, Mapping[str, Tally]],
        anchors: tuple[Anchor, ...] | None = None,
        in_turn: Sequence[tuple[Criterion, Sequence[str], Array]] = (),
    ) -> Ledger:
        """The next ledger: this decision's figures of `criteria` (criterion, versions, values) and `tests` added.

        `tests` are by version, then by `TIER/METRIC`; `anchors` stay what they are where none are given; `in_turn` are
        gains as `starts` takes them. What was measured of weights that do not stand any more is kept as a spread.
        """
        repeats: dict[str, dict[str, Repeated]] = {}
        spreads = dict(self.ledger.spreads)
        taken: list[tuple[set[str | None], dict[str, dict[str, Repeated]]]] = [
            ({self.keys.get(version) for version in versions}, self._repeats(criterion, versions, values))
            for criterion, versions, values in criteria
            if criterion.noise > 0
        ]
        taken += [
            (set(map(self._pair, versions)), _added(self.ledger, self._gains(criterion, versions, gains)))
            for criterion, versions, gains in in_turn
        ]
        for standing, added in taken:
            for where, here in added.items():
                repeats[where] = {key: one for key, one in here.items() if key in standing}
                gone = [one for key, one in here.items() if key not in standing]
                if (spread := _folded(spreads.get(where, Spread(0.0, 0)), gone)).freedom:
                    spreads[where] = spread
        for where, here in self.ledger.repeats.items():
            if where not in repeats and (spread := _folded(spreads.get(where, Spread(0.0, 0)), here.values())).freedom:
                spreads[where] = spread
        challengers = dict(self.ledger.challengers)
        families = self.ledger.families
        newcomers = [version for version in tests if self.keys.get(version) not in challengers]
        if newcomers:
            families = (*families, sum(len(tests[version]) for version in newcomers))
        for version, mine in tests.items():
            if (key := self.keys.get(version)) is None:
                continue
            known = challengers.get(key)
            group = known.group if known is not None else len(families)
            before = known.tests if known is not None else {}
            challengers[key] = Challenger(group=group, tests={**before, **mine})
        return self.ledger.model_copy(
            update={
                "previous": None,
                "starts_because": None,
                "families": families,
                "challengers": challengers,
                "repeats": repeats,
                "spreads": spreads,
                "anchors": self.ledger.anchors if anchors is None else anchors,
            }
        )


def looked(before: Tally, evidence: str, gain: float, p_value: float) -> Tally:
    """`before` with one more piece of evidence: `gain` and `p_value` are over all of it.

    The p-value counts at a look only. Evidence that counted, or of which nothing can be counted, changes nothing but a
    first look.
    """
    if math.isnan(gain) or math.isnan(p_value) or (before.seen and evidence in ("", before.evidence)):
        return before
    seen = before.seen + 1
    if not is_look(seen):
        return before._replace(seen=seen, total=round(gain * seen, 12), evidence=evidence)
    spent = round(min(1.0, p_value / look_share(seen)), 15)
    return Tally(seen, round(gain * seen, 12), spent, gain > 0, evidence)


class _Figure(NamedTuple):
    """A figure's logarithm: where and of what it was measured, and the digest of the table that it stands in."""

    where: str
    key: str
    logarithm: float
    table: str


def _added(ledger: Ledger, figures: Iterable[_Figure]) -> dict[str, dict[str, Repeated]]:
    """The ledger's repeats with these figures added, for the places they were taken."""
    found: dict[str, dict[str, Repeated]] = {}
    for where, key, logarithm, table in figures:
        if (here := found.get(where)) is None:
            here = found[where] = dict(ledger.repeats.get(where, {}))
        here[key] = _repeated(here.get(key), logarithm, table)
    return found


def _repeated(before: Repeated | None, logarithm: float, table: str) -> Repeated:
    """Welford's update; the same table does not count twice."""
    if before is None:
        return Repeated(1, round(logarithm, 12), 0.0, table)
    if before.evidence == table:
        return before
    seen, off = before.seen + 1, logarithm - before.mean
    mean = before.mean + off / seen
    return Repeated(seen, round(mean, 12), round(before.squares + off * (logarithm - mean), 15), table)


def _folded(spread: Spread, more: Iterable[Repeated]) -> Spread:
    """`spread` with what those repeats show added."""
    squares, freedom = [spread.squares], spread.freedom
    for one in more:
        squares.append(one.squares)
        freedom += one.seen - 1
    return Spread(round(math.fsum(squares), 15), freedom)


def _hows(manifest: EvidenceManifest, candidates: Sequence[Candidate]) -> dict[tuple[str, str], str]:
    """A digest for each version and tier of how it was measured: the procedure and the environment."""
    environments = _Environments()
    # By version once: among ten thousand candidates, looking for each one's takes half a minute.
    stated = {one.model_version: _stated(one, manifest) for one in manifest.candidates}
    known: list[tuple[str, Procedure, str]] = []
    hows = {}
    for one in candidates:
        for tier, result in one.tiers.items():
            raw = result.provenance.get("fingerprint")
            environment = environments.digest(stated.get(one.version) if raw is None else raw)
            if environment == _UNKNOWN:
                hows[one.version, tier] = _UNKNOWN
                continue
            made = procedure(result)
            for where, other, digest in known:
                if where == environment and other == made:
                    hows[one.version, tier] = digest
                    break
            else:
                digest = sha256_json([environment, dict(made)])
                known.append((environment, made, digest))
                hows[one.version, tier] = digest
    return hows


def how_of(result: TierResult) -> str:
    """The digest of how `result` was made, by what its table states of itself: as in `Life.hows`."""
    environment = _Environments().digest(result.provenance.get("fingerprint"))
    return environment if environment == _UNKNOWN else sha256_json([environment, dict(procedure(result))])


def _stated(evidence: CandidateEvidence, manifest: EvidenceManifest) -> object:
    """The environment that the manifest states of a candidate, or None."""
    return manifest.fingerprints.get(evidence.fingerprint_sha256) if evidence.fingerprint_sha256 is not None else None


class _Environments:
    """The digests of environments as tables, or else their candidates' evidence, state them.

    The same object is looked at once, whoever it belongs to; what is asked about outlives this.
    """

    def __init__(self) -> None:
        self._by_identity: dict[int, str] = {}
        self._by_text: dict[str, str] = {}

    def digest(self, raw: object) -> str:
        """That of the environment stated as `raw`; `_UNKNOWN` of none, and of one in no known form."""
        if raw is None:
            return _UNKNOWN
        if (known := self._by_identity.get(id(raw))) is not None:
            return known
        if (text := repr(raw)) not in self._by_text:
            try:
                self._by_text[text] = Fingerprint.model_validate(raw).environment_digest()
            except ValidationError:
                self._by_text[text] = _UNKNOWN
        return self._by_identity.setdefault(id(raw), self._by_text[text])


def with_previous(ledger: Ledger, run_id: str, decision_sha256: str) -> Ledger:
    """The ledger as the manifest of the next run pins it: with who wrote it."""
    return ledger.model_copy(update={"previous": Previous(run_id=run_id, decision_sha256=decision_sha256)})
