"""Bringing the agent to a device: our own wheel and exactly those it needs there, each pinned by its digest.

    found = look(link)                                   # Python, processor, C library, room
    wheels = wheels_for(found, into, packages, wheelhouse=None)
    install(link, found, wheels)                         # sends what is missing, tries it, switches to it

What belongs here: which wheels, and having the device install them (`bootstrap` does it there). What does not: what the
agent does, and remembering the target (`milton_assets.usecases.devices`).

The device needs a Python and a login, neither root nor a network nor pip. What is sent is what is run there, by the
login that the person who adds the device has; from then on nothing that arrives is ever run.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from milton_assets.fleet import bootstrap
from milton_assets.fleet.links import Link, NotLetIn, meaning
from milton_assets.fleet.remote_shell import AGENT_HOME
from milton_assets.fleet.wire import WireBroken
from milton_assets.vocabulary.digest import Sha256, sha256_json
from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.strict_json import parse_json

NEEDED = (
    "blake3",
    "cryptography",
    "h11",
    "httpx",
    "nvidia-ml-py",
    "psutil",
    "pydantic",
    "pyyaml",
    "rfc8785",
    "zstandard",
)
"""What a device's modules import, without the model server."""
MODEL_SERVER = "xllamacpp"
LEFT_OUT = frozenset(
    {
        "assets",
        "campaign",
        "cli",
        "component",
        "conductor",
        "definitions",
        "jobs",
        "lineage",
        "partitions",
        "schedules",
        "sensors",
    }
)
"""Parts of our packages that no device runs: they are Dagster's, or a person's."""
UNUSED_FILES = ("zstandard/_cffi*", "*/tests/*", "*.pyi")
"""Files of wheels that nothing here loads: zstandard's second backend is as large as all our own code."""
PYTHONS = ((3, 11), (3, 13))
SPARE_BYTES = 64 << 20
INSTALL_S = 1800
_UNPACKED = 5
"""A wheel unpacks to about so many times its size, compiled modules included."""
_STARTER = "import sys; s=sys.stdin.buffer; exec(compile(s.read(int(s.readline())),'bootstrap','exec'))"
_RECORD_TIME = (1980, 1, 1, 0, 0, 0)


class Found(BaseModel):
    """What a device is, as far as it decides which wheels fit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    python: tuple[int, int, int]
    implementation: str
    executable: str
    machine: str
    libc: str
    libc_version: str
    system: str
    host: str
    home: str
    free_bytes: int = Field(ge=0)
    packages: tuple[str, ...] = ()
    current: str | None = None

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platforms whose wheels run there, the newest first."""
        major, minor = map(int, self.libc_version.split(".")[:2])
        tags = [f"manylinux_{major}_{n}_{self.machine}" for n in range(minor, 16, -1)]
        return (*tags, f"manylinux2014_{self.machine}", f"linux_{self.machine}")


@dataclass(frozen=True)
class Wheel:
    """A wheel on this machine."""

    path: Path
    sha256: str

    @classmethod
    def at(cls, path: Path) -> Wheel:
        """The wheel at that path."""
        with path.open("rb") as stream:
            return cls(path, hashlib.file_digest(stream, "sha256").hexdigest())

    @property
    def size_bytes(self) -> int:
        """Its bytes."""
        return self.path.stat().st_size


class Installed(BaseModel):
    """The version that the device switched to, the one before it, and the bytes that it takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Sha256
    before: str | None
    size_bytes: int


def look(link: Link) -> Found:
    """What the device is. Raises `BadInput` when no agent can run there, and as `links.opened`."""
    try:
        found = Found.model_validate(_ordered(link, {"do": "look"}, (), timeout_s=60))
    except ValidationError as error:
        raise BadInput(f"the device says of itself what cannot be: {error.errors()[0]['msg']}") from None
    python = ".".join(map(str, found.python))
    if not PYTHONS[0] <= found.python[:2] <= PYTHONS[1] or found.implementation != "cpython":
        raise BadInput(
            f"{found.host} has {found.implementation} {python} ({found.executable})",
            expected="CPython 3.11 to 3.13 as python3",
            remedy="install it there (Raspberry Pi OS since Bookworm has it)",
        )
    if found.libc != "glibc" or not re.fullmatch(r"\d+\.\d+.*", found.libc_version):
        raise BadInput(f"{found.host} has the C library {found.libc or 'unknown'}", expected="glibc")
    return found


def wheels_for(
    found: Found,
    into: Path,
    packages: Sequence[Path],
    *,
    wheelhouse: Path | None = None,
    model_server: bool = True,
) -> tuple[Wheel, ...]:
    """Our wheel, made of the folders `packages`, and all that it needs on that device, in the folder `into`.

    They come from the folder `wheelhouse`, else by pip as it is configured here. Raises `BadInput` when one is missing.
    """
    into.mkdir(parents=True, exist_ok=True)
    needed = [*NEEDED, *([MODEL_SERVER] if model_server else [])]
    _download(found, needed, into, wheelhouse)
    own = own_wheel(into, packages)
    others = [Wheel.at(path) for path in sorted(into.glob("*.whl")) if path != own]
    return (*others, Wheel.at(own))


def _download(found: Found, needed: Sequence[str], into: Path, wheelhouse: Path | None) -> None:
    short = "".join(map(str, found.python[:2]))
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as pins:
        pins.writelines(f"{name}=={pinned}\n" for name, pinned in _installed_here())
        pins.flush()
        command = [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"),
            *("--dest", str(into), "--only-binary=:all:", "--implementation", "cp"),
            *("--python-version", ".".join(map(str, found.python)), "--constraint", pins.name),
            *(part for tag in found.platforms for part in ("--platform", tag)),
            *(part for tag in (f"cp{short}", "abi3", "none") for part in ("--abi", tag)),
            *(("--no-index", "--find-links", str(wheelhouse)) if wheelhouse else ()),
            *needed,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("WARNING")]
        raise BadInput(
            f"the wheels for {found.machine} and Python {'.'.join(map(str, found.python))} cannot be had: "
            f"{' '.join(said)[-400:] or 'pip failed'}",
            expected="wheels of " + ", ".join(needed),
            remedy="put them into a folder and name it with --wheelhouse, or let pip reach an index",
        )


def _installed_here() -> Iterator[tuple[str, str]]:
    """The releases that run here; the same are to run there."""
    seen: set[str] = set()
    waiting = [*NEEDED, MODEL_SERVER]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            yield name, version(name)
            waiting += [
                re.split(r"[^A-Za-z0-9._-]", line)[0] for line in requires(name) or () if "extra ==" not in line
            ]
        except PackageNotFoundError:
            continue  # needed on another platform only: pip chooses its release


def own_wheel(into: Path, packages: Sequence[Path]) -> Path:
    """Our own wheel with what devices run, the same bytes from the same sources."""
    release = version("milton-autobench")
    path = into / f"milton_autobench-{release}-py3-none-any.whl"
    info = f"milton_autobench-{release}.dist-info"
    entries = {f"{info}/METADATA": f"Metadata-Version: 2.1\nName: milton-autobench\nVersion: {release}\n".encode()}
    entries[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: milton\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    for root in packages:
        for source in sorted(root.rglob("*")):
            relative = source.relative_to(root)
            if source.suffix in {".py", ".yaml", ".conf"} and relative.parts[0].removesuffix(".py") not in LEFT_OUT:
                entries[f"{root.name}/{relative.as_posix()}"] = source.read_bytes()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, raw in entries.items():
            wheel.writestr(zipfile.ZipInfo(name, _RECORD_TIME), raw, zipfile.ZIP_DEFLATED)
        wheel.writestr(zipfile.ZipInfo(f"{info}/RECORD", _RECORD_TIME), "".join(f"{name},,\n" for name in entries))
    return path


def install(link: Link, found: Found, wheels: Sequence[Wheel]) -> Installed:
    """Have the device install these wheels as one version and switch to it.

    Raises `BadInput` when there is no room or the new agent does not come up; the one before it then goes on.
    """
    missing = [wheel for wheel in wheels if wheel.sha256 not in found.packages]
    room = _UNPACKED * sum(wheel.size_bytes for wheel in missing) + SPARE_BYTES
    if found.free_bytes < room:
        raise BadInput(
            f"{found.host} has {found.free_bytes / 1e6:.0f} MB free, the agent takes {room / 1e6:.0f} MB while it is "
            "installed",
            remedy="free room on the device",
        )
    digests = [wheel.sha256 for wheel in wheels]
    order = {
        "do": "install",
        "version": sha256_json(digests),
        "wheels": digests,
        "left_out": UNUSED_FILES,
        "sent": [
            {"name": wheel.path.name, "sha256": wheel.sha256, "size_bytes": wheel.size_bytes} for wheel in missing
        ],
    }
    return Installed.model_validate(_ordered(link, order, missing, timeout_s=INSTALL_S))


def _ordered(link: Link, order: dict[str, Any], wheels: Sequence[Wheel], *, timeout_s: float) -> Any:
    """What the bootstrap answers. Raises what it refused, or what the connection's end means."""
    source = Path(str(bootstrap.__file__)).read_bytes()
    remote = f"python3 -c {shlex.quote(_STARTER)}"
    with tempfile.TemporaryFile() as sent:
        sent.write(b"%d\n" % len(source) + source)
        sent.write(json.dumps({**order, "root": AGENT_HOME}).encode() + b"\n")
        for wheel in wheels:
            sent.write(wheel.path.read_bytes())
        sent.seek(0)
        try:
            done = subprocess.run(link.command(remote), stdin=sent, capture_output=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired:
            raise MiltonError(f"the device did not answer within {timeout_s:g} s", remedy="try again") from None
        except FileNotFoundError:
            raise BadInput("there is no OpenSSH client here", remedy="install openssh-client") from None
    told = done.stdout.decode(errors="replace").rpartition(bootstrap.MARK)
    if not told[1]:
        said = done.stderr.decode(errors="replace").strip()
        if re.search(r"python3.*not found", said):
            raise NotLetIn("the device has no python3", expected="CPython 3.11 to 3.13", remedy="install it there")
        raise meaning(done.returncode, said, WireBroken("the device said nothing"))
    answer = parse_json(told[2], "the device's answer")
    if not isinstance(answer, dict) or "done" not in answer:
        why = answer.get("refused") if isinstance(answer, dict) else answer
        raise BadInput(
            f"the device refused: {why!s:.600}",
            remedy="see what it says; the agent that was there before goes on",
        )
    return answer["done"]
