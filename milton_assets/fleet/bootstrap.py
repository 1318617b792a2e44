"""Runs on the device itself, before there is an agent: says what the device is, and installs an agent from wheels.

It is sent as text to the device's `python3`, so it needs nothing but the standard library, and any Python 3.8 reads it.

What belongs here: looking, and unpacking wheels whose digests were named beforehand into a folder of their own, trying
what was installed, and switching a link to it. What does not: deciding what to install (`installing`), and everything
an agent does.

Each wheel is unpacked once, under its digest, so an update brings only what changed. A version that does not come up
is never switched to, and one that does not come up through the link is gone back from.
"""

# Older Pythons read this file, to be able to say that they are too old.
from __future__ import annotations

import compileall
import fnmatch
import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from typing import IO, Any

MARK = "\nmilton-bootstrap "
TRY_S = 120
_LAUNCHER = """#!{python} -IB
import os
import sys
sys.path[1:1] = {paths!r}
os.environ["PYTHONPATH"] = os.pathsep.join({paths!r})  # for the processes that it starts
from milton_assets.agent.__main__ import main
sys.exit(main())
"""


class Refused(Exception):
    """What was asked for cannot be done; the message says why."""


def look(root: str) -> dict[str, Any]:
    """What decides which wheels fit, and which are there already."""
    libc, libc_version = platform.libc_ver()
    usage = shutil.disk_usage(os.path.expanduser("~"))
    packages = os.path.join(root, "packages")
    system = platform.system()
    try:
        with open("/etc/os-release", encoding="utf-8", errors="replace") as stream:
            lines = dict(line.rstrip().split("=", 1) for line in stream if "=" in line)
        system = lines.get("PRETTY_NAME", system).strip('"')
    except OSError:
        pass
    return {
        "python": list(sys.version_info[:3]),
        "implementation": sys.implementation.name,
        "executable": sys.executable,
        "machine": platform.machine(),
        "libc": libc,
        "libc_version": libc_version,
        "system": system,
        "host": platform.node(),
        "home": os.path.expanduser("~"),
        "free_bytes": usage.free,
        "packages": sorted(os.listdir(packages)) if os.path.isdir(packages) else [],
        "current": _current(root),
    }


def install(root: str, order: dict[str, Any], stream: IO[bytes]) -> dict[str, Any]:
    """Unpack the wheels that follow in `stream`, make a version of all that `order` names, try it, and switch to it."""
    packages = os.path.join(root, "packages")
    os.makedirs(packages, exist_ok=True)
    for wheel in order["sent"]:
        raw = _exactly(stream, int(wheel["size_bytes"]))
        if hashlib.sha256(raw).hexdigest() != wheel["sha256"]:
            raise Refused("%s did not arrive as it was sent" % wheel["name"])
        _unpack(raw, os.path.join(packages, _digest(wheel["sha256"])), order["left_out"])
    paths = [os.path.join(packages, _digest(sha256)) for sha256 in order["wheels"]]
    missing = [path for path in paths if not os.path.isdir(path)]
    if missing:
        raise Refused("%d of the wheels are neither here nor sent" % len(missing))
    version = os.path.join(root, "versions", _digest(order["version"]))
    os.makedirs(version, exist_ok=True)
    launcher = os.path.join(version, "milton-agent")
    with open(launcher + ".next", "w", encoding="utf-8") as made:
        made.write(_LAUNCHER.format(python=sys.executable, paths=paths))
    os.chmod(launcher + ".next", 0o755)
    os.replace(launcher + ".next", launcher)
    _try(launcher)
    before = _current(root)
    _switch(root, os.path.basename(version))
    try:
        _try(os.path.join(root, "current", "milton-agent"))
    except Refused:
        _switch(root, before)
        raise
    _drop_unused(root, {os.path.basename(version), before})
    return {"version": os.path.basename(version), "before": before, "size_bytes": sum(map(_size, paths))}


def _digest(text: Any) -> str:
    if not isinstance(text, str) or len(text) != 64 or set(text) - set("0123456789abcdef"):
        raise Refused("%r is no digest" % (text,))
    return text


def _exactly(stream: IO[bytes], size: int) -> bytes:
    parts = []
    while size:
        raw = stream.read(min(size, 1 << 20))
        if not raw:
            raise Refused("the connection ended before everything had arrived")
        parts.append(raw)
        size -= len(raw)
    return b"".join(parts)


def _unpack(raw: bytes, into: str, left_out: list[str]) -> None:
    """A wheel's modules; its scripts, and what matches a pattern of `left_out`, are left out."""
    if os.path.isdir(into):
        return
    beside = into + ".next"
    shutil.rmtree(beside, ignore_errors=True)
    with zipfile.ZipFile(io.BytesIO(raw)) as wheel:
        for entry in wheel.infolist():
            parts = entry.filename.split("/")
            if entry.filename.startswith("/") or ".." in parts or "\\" in entry.filename:
                raise Refused("a wheel names the path %r" % entry.filename)
            if parts[0].endswith(".data"):
                if len(parts) < 3 or parts[1] not in ("purelib", "platlib"):
                    continue
                parts = parts[2:]
            if entry.is_dir() or any(fnmatch.fnmatch(entry.filename, pattern) for pattern in left_out):
                continue
            path = os.path.join(beside, *parts)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with wheel.open(entry) as source, open(path, "wb") as made:
                shutil.copyfileobj(source, made, 1 << 20)
    compileall.compile_dir(beside, quiet=2, stripdir=beside, prependdir=into)
    os.rename(beside, into)


def _try(launcher: str) -> None:
    try:
        done = subprocess.run(
            [launcher, "check"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TRY_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refused("the new agent does not come up: %s" % error) from None
    if done.returncode:
        said = done.stdout.decode("utf-8", "replace").strip()[-500:]
        raise Refused("the new agent does not come up: %s" % said)


def _current(root: str) -> str | None:
    try:
        return os.path.basename(os.readlink(os.path.join(root, "current")))
    except OSError:
        return None


def _switch(root: str, version: str | None) -> None:
    link = os.path.join(root, "current")
    if version is None:
        os.unlink(link)
        return
    if os.path.lexists(link + ".next"):
        os.unlink(link + ".next")
    os.symlink(os.path.join("versions", version), link + ".next")
    os.replace(link + ".next", link)


def _drop_unused(root: str, kept: set[str | None]) -> None:
    used: set[str] = set()
    for version in os.listdir(os.path.join(root, "versions")):
        path = os.path.join(root, "versions", version)
        if version in kept:
            with open(os.path.join(path, "milton-agent"), encoding="utf-8") as stream:
                text = stream.read()
            used.update(name for name in os.listdir(os.path.join(root, "packages")) if name in text)
        else:
            shutil.rmtree(path, ignore_errors=True)
    for name in os.listdir(os.path.join(root, "packages")):
        if name not in used:
            shutil.rmtree(os.path.join(root, "packages", name), ignore_errors=True)


def _size(path: str) -> int:
    return sum(os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(path) for name in names)


def main(stream: IO[bytes], answer: IO[str]) -> None:
    """Read one order, a line of JSON, carry it out, and answer with a marked line of JSON."""
    try:
        order = json.loads(stream.readline(1 << 20))
        root = os.path.join(os.path.expanduser("~"), order["root"])
        said: dict[str, Any] = {"done": look(root) if order["do"] == "look" else install(root, order, stream)}
    except Refused as error:
        said = {"refused": str(error)}
    except OSError as error:
        said = {"refused": "%s: %s" % (error.strerror, error.filename)}
    answer.write(MARK + json.dumps(said) + "\n")
    answer.flush()


if __name__ in ("__main__", "milton_bootstrap"):
    main(sys.stdin.buffer, sys.stdout)
