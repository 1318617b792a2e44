"""Installing an agent: whole, tried, and gone back from; and the wheels that another processor needs."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

from milton_assets.fleet import bootstrap
from milton_assets.fleet.installing import Found, own_wheel, wheels_for

ROOT = Path(__file__).parents[2]


def wheel(code: int) -> bytes:
    """A wheel whose agent ends with that code."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as made:
        for name in ("milton_assets/__init__.py", "milton_assets/agent/__init__.py"):
            made.writestr(name, "")
        made.writestr("milton_assets/agent/__main__.py", f"def main():\n    return {code}\n")
    return raw.getvalue()


def order(raw: bytes, version: str) -> dict[str, Any]:
    digest = hashlib.sha256(raw).hexdigest()
    sent = [{"name": "a.whl", "sha256": digest, "size_bytes": len(raw)}]
    return {"version": version * 64, "wheels": [digest], "left_out": [], "sent": sent}


def test_an_agent_that_comes_up_is_switched_to(tmp_path):
    good = wheel(0)
    done = bootstrap.install(str(tmp_path), order(good, "a"), io.BytesIO(good))
    assert (tmp_path / "current").readlink().name == done["version"] == "a" * 64


def test_an_agent_that_does_not_come_up_leaves_the_one_before_in_service(tmp_path):
    good, bad = wheel(0), wheel(1)
    bootstrap.install(str(tmp_path), order(good, "a"), io.BytesIO(good))
    with pytest.raises(bootstrap.Refused, match="does not come up"):
        bootstrap.install(str(tmp_path), order(bad, "b"), io.BytesIO(bad))
    assert (tmp_path / "current").readlink().name == "a" * 64


def test_a_wheel_that_is_not_what_was_named_is_refused(tmp_path):
    good = wheel(0)
    with pytest.raises(bootstrap.Refused, match="did not arrive as it was sent"):
        bootstrap.install(str(tmp_path), order(good, "a"), io.BytesIO(good[:-1] + b"x"))
    assert not (tmp_path / "current").exists()


def test_a_wheel_that_would_write_elsewhere_is_refused(tmp_path):
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as made:
        made.writestr("../escape.py", "")
    with pytest.raises(bootstrap.Refused, match="names the path"):
        bootstrap.install(str(tmp_path / "agent"), order(raw.getvalue(), "a"), io.BytesIO(raw.getvalue()))
    assert not list(tmp_path.rglob("escape.py"))


def test_our_wheel_is_the_same_from_the_same_sources(tmp_path):
    packages = (ROOT / "milton_assets", ROOT / "resources")
    first, second = (
        own_wheel(folder, packages).read_bytes() for folder in (_made(tmp_path, "a"), _made(tmp_path, "b"))
    )
    assert first == second


def _made(tmp_path: Path, name: str) -> Path:
    (tmp_path / name).mkdir()
    return tmp_path / name


@pytest.mark.slow
@pytest.mark.parametrize("python", [(3, 11, 2), (3, 13, 5)], ids=["bookworm", "trixie"])
def test_the_wheels_of_a_raspberry_pi_can_be_had_without_one(tmp_path, python):
    pi = Found(
        python=python,
        implementation="cpython",
        executable="/usr/bin/python3",
        machine="aarch64",
        libc="glibc",
        libc_version="2.36",
        system="Debian GNU/Linux 12",
        host="kitchen",
        home="/home/pi",
        free_bytes=1 << 30,
    )
    names = [one.path.name for one in wheels_for(pi, tmp_path, (ROOT / "milton_assets",), model_server=False)]
    assert any("pydantic_core" in name and "aarch64" in name for name in names)
    assert not [name for name in names if "x86_64" in name or name.startswith("numpy")]
