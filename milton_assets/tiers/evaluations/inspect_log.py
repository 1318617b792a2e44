"""A log of inspect_ai, `.eval` or `.json`, read strictly.

    log = read_inspect_log(Path("2026-11-26T…_capitals_….eval"))

What belongs here: its format, as inspect_ai 0.3 writes it (log version 2). What does not: what an evaluation is
(`milton_assets.vocabulary.evaluation`), and figures.

An `.eval` file is a zip from outside, whose members are deflated or, since 2026, compressed with zstd, which Python's
zipfile does not know before 3.14. Nothing of it is written to disk; a member is read no further than a limit, whatever
its header says, and so are all of them together. Of a sample its id, epoch, scores, error
and the model's words are kept; of what was asked, and what would have been right, the digest.

A sample without a score, or whose score is no number, is one that failed, as inspect's own `Score.unscored` is. Words
are numbers as inspect itself counts them (`C` 1, `P` 0.5, `I` and `N` 0).
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from milton_assets.tiers.evaluations.agreement import Scored, check_count, check_mean
from milton_assets.vocabulary.digest import sha256_file, sha256_json
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.evaluation import Answer, EvaluationLog, Package
from milton_assets.vocabulary.strict_json import parse_json

MAX_SAID_CHARACTERS = 4_000
"""More of the model's words is not kept: they are for people to look at, and no figure rests on them."""

_LOG_VERSIONS = (2,)
_EXPECTED = "a log of inspect_ai 0.3 that ran to its end"
_LETTERS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
_WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}


@dataclass(frozen=True)
class Limits:
    """What a log may be at most: its file, the members of a `.eval`, one of them unpacked, and all that are read."""

    file_bytes: int = 1 << 30
    members: int = 200_000
    member_bytes: int = 256 << 20
    total_bytes: int = 4 << 30


class _Part(BaseModel):
    # Strict: a number in quotes is another log. What it holds beyond is not ours, and each release holds more.
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class _Dataset(_Part):
    name: str | None = None
    location: str | None = None


class _Spec(_Part):
    task: str = Field(min_length=1)
    task_version: int | str = 0
    task_args: dict[str, Any] = Field(default_factory=dict)
    model: str = Field(min_length=1)
    model_generate_config: dict[str, Any] = Field(default_factory=dict)
    created: str
    dataset: _Dataset = Field(default_factory=_Dataset)
    packages: dict[str, str] = Field(default_factory=dict)


class _Plan(_Part):
    config: dict[str, Any] = Field(default_factory=dict)


class _MetricValue(_Part):
    value: int | float


class _ScoreResult(_Part):
    name: str
    reducer: str | None = None
    metrics: dict[str, _MetricValue] = Field(default_factory=dict)


class _Results(_Part):
    total_samples: int | None = None
    scores: list[_ScoreResult] = Field(default_factory=list)


class _Header(_Part):
    version: int
    status: str
    eval: _Spec
    plan: _Plan = Field(default_factory=_Plan)
    results: _Results | None = None
    invalidated: bool = False


class _Score(_Part):
    value: Any = None
    answer: Any = None


class _Error(_Part):
    message: str = ""


class _Output(_Part):
    completion: Any = None


class _Sample(_Part):
    id: int | str
    epoch: int = Field(ge=1)
    input: Any = None
    choices: Any = None
    target: Any = None
    scores: dict[str, _Score] | None = None
    output: _Output | None = None
    error: _Error | None = None
    limit: Any = None
    invalidation: Any = None


def read_inspect_log(path: Path, limits: Limits | None = None) -> EvaluationLog:
    """The log at `path`. Raises `BadInput` for what is no log, one that did not end well, or one beyond the limits."""
    limits = limits or Limits()
    size = path.stat().st_size
    if size > limits.file_bytes:
        raise BadInput(f"{path} has {size} bytes", expected=f"a log of at most {limits.file_bytes} bytes")
    if path.suffix == ".eval":
        header, samples = _unpacked(path, limits)
    else:
        document = _json(path.read_bytes(), str(path))
        header, samples = _header(document, str(path)), _listed(document, str(path))
    if header.version not in _LOG_VERSIONS:
        raise BadInput(f"{path} is a log of version {header.version}", expected=f"one of {list(_LOG_VERSIONS)}")
    if header.status != "success":
        raise BadInput(
            f"the evaluation of {path} ended with {header.status!r:.60}",
            expected="status success",
            remedy="run it to its end (`inspect eval-retry`) and import that log",
        )
    answers, scored = [], []
    taken_back = header.invalidated
    for sample in samples:
        scores = _scores(sample)
        answers.append(_answer(sample, scores))
        scored.append(Scored(str(sample.id), scores, sample.error is not None))
        taken_back |= sample.invalidation is not None
    if taken_back:
        raise BadInput(
            f"samples of {path} were invalidated by whoever made it",
            expected="a log whose samples all stand",
            remedy="ask them anew (`inspect eval-retry`) and import that log",
        )
    spec = header.eval
    log = EvaluationLog(
        package=Package.INSPECT,
        package_version=spec.packages.get("inspect_ai", "unknown"),
        task=spec.task,
        task_version=str(spec.task_version),
        model=spec.model,
        created_at=spec.created,
        answers=tuple(answers),
        files={path.name: sha256_file(path)},
        dataset=spec.dataset.name or "",
        how={
            "generate": _told({**spec.model_generate_config, **header.plan.config}),
            "task_args": _told(spec.task_args),
        },
    )
    if header.results is not None:
        check_count(len(answers), header.results.total_samples, "answers", str(path))
    for result in header.results.scores if header.results else ():
        if result.reducer in {None, "mean"}:
            for name in {"accuracy", "mean"} & result.metrics.keys():
                if math.isfinite(stated := result.metrics[name].value):
                    check_mean(scored, result.name, stated, str(path))
    return log


def _told(config: Mapping[str, Any]) -> dict[str, Any]:
    """What bears on answers; how many are asked at once does not."""
    return {key: value for key, value in sorted(config.items()) if value is not None and not key.startswith("max_conn")}


def _scores(sample: _Sample) -> dict[str, float]:
    """Every score of the sample that is a number, by its scorer's name; `SCORER/PART` for one of parts."""
    scores: dict[str, float] = {}
    for name, score in (sample.scores or {}).items():
        values = {f"{name}/{key}": value for key, value in score.value.items()} if isinstance(score.value, dict) else {}
        for full, value in (values or {name: score.value}).items():
            if (number := _number(value)) is not None:
                scores[full] = number
    return scores


def _answer(sample: _Sample, scores: dict[str, float]) -> Answer:
    said = sample.output.completion if sample.output is not None else None
    error = sample.error.message if sample.error is not None else None
    if error is not None:
        scores = {}
    elif not scores:
        error = "it was not scored"
    return Answer(
        sample=str(sample.id),
        epoch=sample.epoch,
        asked_sha256=sha256_json([_only_content(sample.input), sample.choices, sample.target]),
        scores=scores,
        said=said[:MAX_SAID_CHARACTERS] if isinstance(said, str) else "",
        error=None if error is None else error[:MAX_SAID_CHARACTERS],
    )


def _only_content(asked: Any) -> Any:
    """What was asked, without the ids that inspect gives its messages, which are others in every run."""
    if isinstance(asked, list):
        return [_only_content(each) for each in asked]
    if isinstance(asked, dict):
        return {key: value for key, value in asked.items() if key in {"role", "content"}}
    return asked


def _number(value: Any) -> float | None:
    """The score as a number, as `inspect_ai.scorer.value_to_float` has it; None for what is none."""
    if isinstance(value, bool | int | float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, str):
        if (known := _LETTERS.get(value, _WORDS.get(value.lower()))) is not None:
            return known
        try:
            number = float(value)
        except ValueError:
            return None
        return number if math.isfinite(number) else None
    return None


def _unpacked(path: Path, limits: Limits) -> tuple[_Header, Iterator[_Sample]]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise BadInput(f"{path} is no zip ({error})", expected=f"{_EXPECTED}, `.eval` or `.json`") from None
    names = archive.namelist()
    if len(names) > limits.members or len(names) != len(set(names)):
        archive.close()
        raise BadInput(
            f"{path} holds {len(names)} members, {len(set(names))} of other names",
            expected=f"at most {limits.members}, each once",
        )
    if "header.json" not in names:
        archive.close()
        raise BadInput(f"{path} holds no header.json", expected=_EXPECTED, remedy="run the evaluation to its end")
    budget = _Budget(path, limits)
    header = _header(_json(budget.read(archive, "header.json"), f"{path}:header.json"), str(path))

    def samples() -> Iterator[_Sample]:
        with archive:
            for name in sorted(names):
                if name.startswith("samples/") and name.endswith(".json"):
                    where = f"{path}:{name}"
                    yield _sample(_json(budget.read(archive, name), where), where)

    return header, samples()


class _Budget:
    """How much of an archive may still be unpacked."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self._path = path
        self._limits = limits
        self._left = limits.total_bytes

    def read(self, archive: zipfile.ZipFile, name: str) -> bytes:
        most = min(self._limits.member_bytes, self._left)
        try:
            raw = _member(archive, archive.getinfo(name), most + 1)
        except _UNPACKABLE as error:
            raise BadInput(f"{self._path}: {name!r:.200} cannot be unpacked ({error})", expected=_EXPECTED) from None
        if len(raw) > most:
            raise BadInput(
                f"{self._path}: {name!r:.200} unpacks to more than {most} bytes",
                expected=f"at most {self._limits.member_bytes} a sample and {self._limits.total_bytes} in all",
            )
        self._left -= len(raw)
        return raw


_ZSTD = 93
_MAX_WINDOW_BYTES = 128 << 20
_LOCAL_HEADER_BYTES = 30
_UNPACKABLE = (
    zipfile.BadZipFile,
    zlib.error,
    zstandard.ZstdError,
    struct.error,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
)


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, most: int) -> bytes:
    """The first `most` bytes of a member; all of them are held against its checksum."""
    if info.compress_type != _ZSTD:
        with archive.open(info) as stream:
            return stream.read(most)
    if (file := archive.fp) is None:
        raise zipfile.BadZipFile("it is closed")
    file.seek(info.header_offset)
    header = file.read(_LOCAL_HEADER_BYTES)
    name_bytes, extra_bytes = struct.unpack("<4s22xHH", header)[1:]
    file.seek(name_bytes + extra_bytes, io.SEEK_CUR)
    packed = file.read(info.compress_size)
    with zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES).stream_reader(
        packed, read_across_frames=True
    ) as stream:
        raw = stream.read(most)
    if len(raw) < most and zlib.crc32(raw) != info.CRC:
        raise zipfile.BadZipFile("its bytes are not those of its checksum")
    return raw


def _json(raw: bytes, where: str) -> Any:
    """Inspect writes NaN where a sample has no score; in all else its logs are strict JSON."""
    return parse_json(raw, where, expected=_EXPECTED, nan=True)


def _header(document: Any, where: str) -> _Header:
    try:
        return _Header.model_validate(document)
    except ValidationError as error:
        raise BadInput(f"{where} is no log of inspect_ai: {_first(error)}", expected=_EXPECTED) from None


def _listed(document: Any, where: str) -> Iterator[_Sample]:
    samples = document.get("samples")
    if not isinstance(samples, list):
        raise BadInput(f"{where} holds no samples", expected="a log with its samples, not its header alone")
    for number, sample in enumerate(samples, start=1):
        yield _sample(sample, f"{where}: sample {number}")


def _sample(value: Any, where: str) -> _Sample:
    try:
        return _Sample.model_validate(value)
    except ValidationError as error:
        raise BadInput(f"{where} is no sample of inspect_ai: {_first(error)}", expected=_EXPECTED) from None


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the document'}: {first['msg']}"
