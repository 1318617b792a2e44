"""Is the model under test the registered one? Shown before it is measured and again after, never assumed.

    with verified_serving(launcher, path, "v1", expected_sha256=artefact.sha256) as served: ...

What belongs here: comparing what was loaded with what was registered. What does not: finding out what was loaded
(`probe`), and what the registry holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from milton_assets.vocabulary.artefact_files import artefact_digest, artefact_files
from milton_assets.vocabulary.digest import sha256_file
from milton_assets.vocabulary.errors import BadInput, ServerFailed
from milton_assets.vocabulary.fingerprint import IdentityProof, ServerFingerprint
from milton_assets.vocabulary.server import Attaches, Launcher, RunningServer

Digest = Callable[[Path], str]
Bring = Callable[[], None]
"""Has an artefact's files on this machine, where they need not be before."""
_BLOB = re.compile(r"(?:^|[/\\@])sha256[-:]([0-9a-fA-F]{64})$")
_RELATIVE = re.compile(r"^\.{1,2}[/\\]|\.gguf$", re.IGNORECASE)
_PARTS = re.compile(r"[/\\]")


def nothing() -> None:
    """Brings files that are on this machine already."""


def digest_of(artefact: Path) -> str:
    """The digest of a GGUF, of all parts of a split one, or of a directory. Raises `BadInput` when there is neither."""
    if not artefact.exists():
        raise BadInput(
            f"there is no artefact at {artefact}",
            expected="a GGUF file or a Hugging Face directory",
            remedy="correct the path in the registry, or quantise the model again",
        )
    files = artefact_files(artefact)
    return artefact_digest(artefact, {name: sha256_file(file) for name, file in files.items()})


def identify(server: ServerFingerprint, artefact: Path, sha256: str | None = None) -> IdentityProof:
    """What the server tells of what it loaded, compared with `artefact`, its path there, and with its SHA-256.

    A blob named by its digest (Ollama) is compared by that alone; an absolute path wholly; a relative one, or a name
    that looks like a file's, by its last part. A server that tells none of these, or a name on a hub, is taken at its
    model's name. Raises `ServerFailed` when it tells something else.
    """
    told = server.model_path
    if told is None:
        return IdentityProof.NAME_ONLY
    if digest := _BLOB.search(told):
        if sha256 is None:
            return IdentityProof.NAME_ONLY
        same, shown = digest[1].lower() == sha256, IdentityProof.TOLD_DIGEST
    elif Path(told).is_absolute():
        same, shown = "\0" not in told and Path(told).resolve() == artefact.resolve(), IdentityProof.PATH
    elif _RELATIVE.search(told):
        same, shown = _PARTS.split(told)[-1] == artefact.name, IdentityProof.PATH_NAME
    else:
        return IdentityProof.NAME_ONLY
    if not same:
        raise ServerFailed(
            f"the {server.name} server has loaded {told!r}",
            expected=f"{artefact}, which is registered" + (f" with the SHA-256 {sha256}" if digest else ""),
            remedy="stop that server or start it with the registered file, then measure again; "
            "if it sees that file under another path, name the path (MILTON_SERVER_PATH)",
        )
    return shown


@contextmanager
def verified_serving(
    launcher: Launcher,
    artefact: Path,
    model: str,
    expected_sha256: str | None,
    *,
    bring: Bring = nothing,
    digest: Digest = digest_of,
) -> Iterator[RunningServer]:
    """Serve `artefact` and show that it is the registered one.

    Its SHA-256 is `expected_sha256` before the server starts and after it was used (not looked at when None), and what
    the server says it loaded is `artefact`. The fingerprint's `identity` says how that was shown. `bring` has the
    artefact's files on this machine, and is called when they are wanted: not for a server that runs already and tells
    the digest of what it loaded, which is asked again after it was used. Raises `ServerFailed` otherwise, and as
    `bring` does; an error of the block's own passes as it is.
    """

    def check_files(when: str) -> None:
        check_digest(artefact, expected_sha256, when, digest=digest)

    runs_already = launcher if isinstance(launcher, Attaches) else None
    if runs_already is None:
        bring()
        check_files("before it was served")
    with launcher.serve(artefact, model) as served:
        shown = identify(served.fingerprint, served.artefact_there or artefact, expected_sha256)
        if served.fingerprint.launched_by_us and expected_sha256 is not None:
            shown = IdentityProof.LAUNCHED_FROM_DIGEST
        told_by = runs_already if shown is IdentityProof.TOLD_DIGEST else None
        if runs_already is not None and told_by is None:
            bring()
            check_files("before it was measured")
            served = runs_already.counting_here(served, artefact)
        yield replace(served, fingerprint=served.fingerprint.model_copy(update={"identity": shown}))
    if told_by is None:
        check_files("after it was served")
    else:
        check_told(told_by, artefact, model, expected_sha256)


def check_told(server: Attaches, artefact: Path, model: str, sha256: str | None) -> None:
    """Raise `ServerFailed` unless a server that told the digest of what it loaded tells it still."""
    with server.attach(model) as now:
        if identify(now.fingerprint, artefact, sha256) is not IdentityProof.TOLD_DIGEST:
            raise ServerFailed(
                f"the {now.fingerprint.name} server tells no digest of what it has loaded any more",
                expected=f"{sha256}, which it told before {model} was measured",
                remedy="let one server serve from start to end, and measure again",
            )


def check_digest(artefact: Path, expected: str | None, when: str, *, digest: Digest = digest_of) -> None:
    """Raise `ServerFailed`, which says `when`, unless that is the artefact's SHA-256; None is not looked at."""
    if expected is not None and (found := digest(artefact)) != expected:
        raise ServerFailed(
            f"{artefact} has the SHA-256 {found} {when}",
            expected=f"{expected}, as registered",
            remedy="register the changed file as a new version, or restore the registered one",
        )
