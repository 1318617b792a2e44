"""Is the model under test the registered one? Shown before it is measured and again after, never assumed.

    with verified_serving(launcher, path, "v1", expected_sha256=artefact.sha256) as served: ...

What belongs here: comparing what was loaded with what was registered. What does not: finding out what was loaded
(`probe`), and what the registry holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from milton_assets.vocabulary.digest import sha256_file, sha256_listing
from milton_assets.vocabulary.errors import BadInput, ServerFailed
from milton_assets.vocabulary.fingerprint import ServerFingerprint
from milton_assets.vocabulary.server import Served, Serves

Digest = Callable[[Path], str]


def digest_of(artefact: Path) -> str:
    """SHA-256 of a file, or of a folder as `sha256_listing` of its files. Raises `BadInput` when there is neither."""
    if artefact.is_file():
        return sha256_file(artefact)
    if artefact.is_dir():
        files = (path for path in artefact.rglob("*") if path.is_file())
        return sha256_listing({path.relative_to(artefact).as_posix(): sha256_file(path) for path in files})
    raise BadInput(
        f"there is no artefact at {artefact}",
        expected="a GGUF file or a Hugging Face directory",
        remedy="correct the path in the registry, or quantise the model again",
    )


def check_path(server: ServerFingerprint, artefact: Path) -> None:
    """Raise `ServerFailed` when the server tells the absolute path it loaded, and it is another than `artefact`.

    A server that tells no path, or a name on a hub, is taken at its model's name.
    """
    if server.model_path is None or not Path(server.model_path).is_absolute():
        return
    if "\0" in server.model_path or Path(server.model_path).resolve() != artefact.resolve():
        raise ServerFailed(
            f"the {server.name} server has loaded {server.model_path!r}",
            expected=f"{artefact}, which is registered",
            remedy="stop that server or start it with the registered file, then measure again",
        )


@contextmanager
def verified_serving(
    serves: Serves,
    artefact: Path,
    model: str,
    expected_sha256: str | None,
    *,
    digest: Digest = digest_of,
) -> Iterator[Served]:
    """Serve `artefact` and show that it is the registered one.

    Its SHA-256 is `expected_sha256` before the server starts and after it was used (not looked at when None), and the
    path that the server says it loaded is `artefact`. Raises `ServerFailed` otherwise; an error of the block's own
    passes as it is.
    """
    _check_digest(artefact, expected_sha256, digest, "before it was served")
    with serves.serve(artefact, model) as served:
        check_path(served.fingerprint, artefact)
        yield served
    _check_digest(artefact, expected_sha256, digest, "after it was served")


def _check_digest(artefact: Path, expected: str | None, digest: Digest, when: str) -> None:
    if expected is not None and (found := digest(artefact)) != expected:
        raise ServerFailed(
            f"{artefact} has the SHA-256 {found} {when}",
            expected=f"{expected}, as registered",
            remedy="register the changed file as a new version, or restore the registered one",
        )
