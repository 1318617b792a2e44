"""The goldens that a tier is measured on: those that ship, or sets of one's own; digested, and kept in if private.

What belongs here: reading a tier's sets by its spec, the digests under which a manifest pins them, and errors about a
private set, which tell no text of it. What does not: any format, which is the tier's; keeping copies
(`resources.golden_copies`).

A golden that ships is pinned under the name in its tier's spec; a file of one's own as `TIER/SET/FILE`, where the set's
name is that of its folder or file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.metric import Metric
from milton_assets.vocabulary.tier import TierResult
from milton_assets.vocabulary.tier_spec import Tiers, TierSpec

_LEAST_TEXT = 6
"""Shorter texts of a set ("yes", "1969") are no secret by themselves and stand in every sentence."""
_KEPT_IN = "[text of a private set]"


class OwnSet(Protocol):
    """A set of goldens of one's own: a folder or a file, and whether any text may leave it."""

    @property
    def path(self) -> Path:
        """Where it lies, absolute."""
        ...

    @property
    def private(self) -> bool:
        """Whether only digests and figures may leave it."""
        ...


OwnSets = Mapping[str, Sequence[OwnSet]]
"""Sets of one's own, by tier."""


class PrivateSetFailed(MiltonError):
    """Something went wrong with a private set; the message tells no text of it."""


@dataclass(frozen=True)
class TierGoldens:
    """What one tier is measured on. `value` is what its reader returned.

    `pinned` has the SHA-256 of each file under its name in the manifest, `files` where each lies. `own`: they are not
    those that ship. A private set makes the whole tier private, for its samples hold the answers to all sets.
    """

    tier: str
    value: Any
    pinned: Mapping[str, str]
    files: Mapping[str, Path]
    own: bool = False
    private: frozenset[str] = frozenset()
    secrets: tuple[str, ...] = ()

    @property
    def is_private(self) -> bool:
        """Whether any of it is."""
        return bool(self.private)

    @property
    def stated(self) -> dict[str, str]:
        """The digests as the tier's tables state them: by file, and for sets of one's own by `SET/FILE`."""
        if not self.own:
            return dict(self.value.digests)
        return {name.removeprefix(f"{self.tier}/"): sha256 for name, sha256 in self.pinned.items()}

    @contextmanager
    def kept_in(self) -> Iterator[None]:
        """Errors of the block tell no text of a private set: its texts are cut out of what Milton's own errors say, and
        of others only the kind is told."""
        if not self.is_private:
            yield
            return
        try:
            yield
        except MiltonError as error:
            raise PrivateSetFailed(
                self._cut(error.problem), remedy="measure with the set not private to see it all"
            ) from None
        except Exception as error:  # noqa: BLE001 (whatever it is, its message may hold a text)
            kind = type(error).__name__
            raise PrivateSetFailed(
                f"measuring {self.tier} on a private set ended in {kind}, whose message may hold text of it",
                remedy="measure with the set not private, in a place that nobody else reads, to see it",
            ) from None

    def closed(self, result: TierResult, spec: TierSpec) -> TierResult:
        """The result as it may be kept: of a private set, text columns hold digests and messages no text of it."""
        if not self.is_private:
            return result
        samples = result.samples.copy()
        for column in samples.columns:
            if column not in spec.open_columns and not _is_figure(samples[column]):
                samples[column] = [
                    None if _is_nothing(value) else sha256_bytes(str(value).encode()) for value in samples[column]
                ]
        metrics = tuple(self._without_text(metric) for metric in result.metrics)
        return replace(result, samples=samples, metrics=metrics, provenance=self._cut_all(dict(result.provenance)))

    def _without_text(self, metric: Metric) -> Metric:
        return metric.model_copy(update={"why": self._cut(metric.why)}) if metric.why else metric

    def _cut_all(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._cut(value)
        if isinstance(value, Mapping):
            return {key: self._cut_all(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self._cut_all(inner) for inner in value]
        return value

    def _cut(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, _KEPT_IN)
        return text


def _is_figure(column: pd.Series) -> bool:
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return True
    return all(_is_nothing(value) or isinstance(value, bool | int | float) for value in column)


def _is_nothing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and value != value)


def read_goldens(spec: TierSpec, own: Sequence[OwnSet] = ()) -> TierGoldens:
    """What `spec` is measured on: the goldens that ship, or `own` sets instead of them.

    Raises `BadInput` naming file and line of a set that does not hold; of a private set only the place is told.
    """
    if not own:
        value = spec.read_goldens(None)
        pinned = {golden.name: value.digests[golden.file] for golden in spec.goldens}
        shipped = spec.shipped
        files = {golden.name: shipped / golden.file for golden in spec.goldens} if shipped is not None else {}
        return TierGoldens(spec.name, value, pinned, files)
    named: dict[str, OwnSet] = {}
    for one in own:
        name = _name_of(one.path)
        if name in named:
            raise BadInput(
                f"two sets of {spec.name} are called {name}: {named[name].path} and {one.path}",
                expected="sets whose folders or files have names of their own",
                remedy="rename one",
            )
        named[name] = one
    values = {name: _read(spec, one) for name, one in named.items()}
    with _telling_nothing(any(one.private for one in own), f"joining the sets of {spec.name}"):
        value = next(iter(values.values())) if len(values) == 1 else spec.join_goldens(values)
    pinned, files, private = {}, {}, set()
    for name, one in named.items():
        for file, sha256 in values[name].digests.items():
            key = f"{spec.name}/{name}/{file}"
            pinned[key] = sha256
            files[key] = one.path if one.path.is_file() else one.path / file
            if one.private:
                private.add(key)
    texts = {t for name, one in named.items() if one.private for t in spec.texts(values[name]) if len(t) >= _LEAST_TEXT}
    return TierGoldens(
        spec.name, value, pinned, files, True, frozenset(private), tuple(sorted(texts, key=len, reverse=True))
    )


def read_all_goldens(tiers: Tiers, own: OwnSets) -> dict[str, TierGoldens]:
    """What every tier is measured on. Raises `BadInput` for a set that does not hold or whose tier is not there."""
    for tier in own:
        _ = tiers[tier]
    return {name: read_goldens(spec, own.get(name, ())) for name, spec in tiers.items()}


def golden_digests(goldens: Mapping[str, TierGoldens]) -> dict[str, str]:
    """The digest of every golden as it was read, by its name in the manifest."""
    return {name: sha256 for one in goldens.values() for name, sha256 in one.pinned.items()}


def _name_of(path: Path) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem if path.is_file() else path.name).strip("-") or "set"


def _read(spec: TierSpec, one: OwnSet) -> Any:
    if not one.path.exists():
        raise BadInput(
            f"the goldens {one.path} of {spec.name} are not there",
            expected="a folder or a file",
            remedy="correct `goldens` in milton.yaml",
        )
    with _telling_nothing(one.private, f"the private set {one.path} of {spec.name}"):
        return spec.read_goldens(one.path)


@contextmanager
def _telling_nothing(private: bool, what: str) -> Iterator[None]:
    """Where a set is private, errors tell the place and no more."""
    if not private:
        yield
        return
    try:
        yield
    except MiltonError as error:
        place = re.search(r"[^\s:]+\.(?:jsonl?|tsv):\d+", error.problem)
        raise PrivateSetFailed(
            f"{what} does not hold" + (f" at {place.group(0)}" if place else ""),
            expected="a set in its tier's format",
            remedy="name it without `private` in a state folder that nobody else reads to see what is wrong",
        ) from None
    except Exception as error:  # noqa: BLE001 (whatever it is, its message may hold a text)
        raise PrivateSetFailed(f"{what} cannot be read ({type(error).__name__})") from None
