"""Verifying a bundle: whatever was done to it is named, and nothing outside it is touched."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milton_assets.edge.bundle import Bundle
from milton_assets.edge.manifest import release_digest
from milton_assets.edge.release import Folder, ReleaseDamaged, read_sums, verify_release
from milton_assets.edge.release.folder import MAX_DEPTH
from milton_assets.edge.release.sums import MAX_SUMS_BYTES, parse_sums, render_sums
from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.errors import BadInput
from tests.support.bundles import ingredients


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return ingredients(tmp_path).bundle(tmp_path / "bundles")


def test_a_fresh_bundle_holds(bundle: Bundle) -> None:
    report = verify_release(bundle.path)
    assert report.ok
    assert report.files_checked == len(bundle.manifest.files)
    assert report.bytes_checked == bundle.manifest.payload_bytes
    assert report.require() == bundle.manifest


def test_it_needs_neither_dagster_nor_the_models_runtime(bundle: Bundle) -> None:
    code = (
        "import sys; from pathlib import Path; from milton_assets.edge.release import verify_release; "
        f"assert verify_release(Path({str(bundle.path)!r})).ok; "
        "print(sorted({'dagster', 'pandas', 'xllamacpp', 'httpx'} & {m.split('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def flip(path: Path, at: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 0x10
    path.write_bytes(raw)


def unix_socket(path: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(path.parent)  # a socket's whole path is limited to 108 bytes
        try:
            listener.bind(path.name)
        finally:
            os.chdir(here)


def swap(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


DAMAGES: list[tuple[str, Callable[[Path], object], str, str]] = [
    (
        "a flipped bit in the weights",
        lambda b: flip(b / "model/model-q4_0.gguf", -5),
        "digest",
        "model/model-q4_0.gguf",
    ),
    (
        "a zeroed file",
        lambda b: (b / "decision.json").write_bytes(bytes((b / "decision.json").stat().st_size)),
        "digest",
        "decision.json",
    ),
    ("a truncated file", lambda b: os.truncate(b / "model/model-q4_0.gguf", 100), "size", "model/model-q4_0.gguf"),
    ("a longer file", lambda b: os.truncate(b / "model/model-q4_0.gguf", 10_000), "size", "model/model-q4_0.gguf"),
    ("a missing file", lambda b: (b / "evidence_manifest.json").unlink(), "missing", "evidence_manifest.json"),
    ("a missing folder", lambda b: shutil.rmtree(b / "model"), "missing", "model/model-q4_0.gguf"),
    ("an extra file", lambda b: (b / "model/extra.bin").write_text("x"), "extra", "model/extra.bin"),
    ("an extra folder", lambda b: (b / "empty").mkdir(), "extra", "empty/"),
    ("a link", lambda b: swap(b / "decision.json", lambda p: p.symlink_to("/etc/passwd")), "symlink", "decision.json"),
    ("an extra link", lambda b: (b / "link").symlink_to("decision.json"), "symlink", "link"),
    ("a pipe", lambda b: swap(b / "decision.json", os.mkfifo), "special", "decision.json"),
    ("a socket", lambda b: unix_socket(b / "decision.json"), "special", "decision.json"),
    ("a folder for a file", lambda b: swap(b / "decision.json", lambda p: p.mkdir()), "special", "decision.json"),
    (
        "a device",
        lambda b: swap(b / "decision.json", lambda p: os.mknod(p, 0o20600, os.makedev(1, 5))),
        "special",
        "decision.json",
    ),
    ("a changed list", lambda b: flip(b / "SHA256SUMS", 3), "malformed", ""),
    ("a missing list", lambda b: (b / "SHA256SUMS").unlink(), "malformed", ""),
    ("a missing manifest", lambda b: (b / "manifest.json").unlink(), "malformed", ""),
    (
        "a manifest that is a link",
        lambda b: swap(b / "manifest.json", lambda p: p.symlink_to("/etc/passwd")),
        "malformed",
        "",
    ),
    ("a manifest that is a pipe", lambda b: swap(b / "manifest.json", os.mkfifo), "malformed", ""),
]


@pytest.mark.parametrize(("damage", "kind", "path"), [d[1:] for d in DAMAGES], ids=[d[0] for d in DAMAGES])
def test_damage_is_named_with_its_kind_and_path(
    bundle: Bundle, damage: Callable[[Path], object], kind: str, path: str
) -> None:
    try:
        damage(bundle.path)
    except PermissionError:
        pytest.skip("making a device needs root")
    report = verify_release(bundle.path)
    assert not report.ok
    assert (kind, path or str(bundle.path)) in {(p.kind.value, p.path) for p in report.problems} or kind == "malformed"
    assert report.to_json()["ok"] is False
    with pytest.raises(ReleaseDamaged):
        report.require()


def test_a_folder_swapped_for_a_link_is_not_followed(bundle: Bundle, tmp_path: Path) -> None:
    (bundle.path / "model").rename(tmp_path / "elsewhere")
    (bundle.path / "model").symlink_to(tmp_path / "elsewhere")
    found = {(problem.kind.value, problem.path) for problem in verify_release(bundle.path).problems}
    assert ("symlink", "model") in found
    assert ("special", "model/model-q4_0.gguf") in found


def test_all_problems_are_told_not_only_the_first(bundle: Bundle) -> None:
    (bundle.path / "decision.json").unlink()
    (bundle.path / "extra").write_text("")
    flip(bundle.path / bundle.manifest.primary, -1)
    found = {(problem.kind.value, problem.path) for problem in verify_release(bundle.path).problems}
    assert {("missing", "decision.json"), ("extra", "extra"), ("digest", bundle.manifest.primary)} <= found


def test_a_name_with_control_characters_is_told_without_them(bundle: Bundle) -> None:
    (bundle.path / "evil\x1b[2J").write_text("")
    (problem,) = verify_release(bundle.path).problems
    assert "\x1b" not in str(problem)


def test_a_file_that_cannot_be_read_is_a_problem_of_its_own(bundle: Bundle) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    (bundle.path / "decision.json").chmod(0)
    assert ("unreadable", "decision.json") in {(p.kind.value, p.path) for p in verify_release(bundle.path).problems}


def resealed(bundle: Bundle, path: str, raw: bytes) -> None:
    """Replace a file and make manifest and sums agree with it, as a forger without the key can."""
    (bundle.path / path).write_bytes(raw)
    files = [
        file.model_copy(update={"size_bytes": len(raw), "sha256": sha256_bytes(raw)}) if file.path == path else file
        for file in bundle.manifest.files
    ]
    manifest = bundle.manifest.model_copy(update={"files": tuple(files), "release_digest": release_digest(files)})
    (bundle.path / "manifest.json").write_bytes(manifest.to_json())
    digests = {file.path: file.sha256 for file in files} | {"manifest.json": sha256_bytes(manifest.to_json())}
    (bundle.path / "SHA256SUMS").write_bytes(render_sums(digests))


@pytest.mark.parametrize("path", ["registry_entry.json", "evidence_manifest.json", "decision.json"])
def test_a_document_that_was_swapped_and_resealed_breaks_the_chain(bundle: Bundle, path: str) -> None:
    document = json.loads((bundle.path / path).read_text())
    (document["raw"] if path == "registry_entry.json" else document)["added"] = True
    resealed(bundle, path, json.dumps(document).encode())
    assert [(p.kind.value, p.path) for p in verify_release(bundle.path).problems] == [("chain", path)]


@pytest.mark.parametrize("raw", [b"[]", b"{}", b"nonsense", b'{"a": 1, "a": 2}'])
def test_a_resealed_document_of_another_shape_breaks_the_chain(bundle: Bundle, raw: bytes) -> None:
    resealed(bundle, "registry_entry.json", raw)
    assert [(p.kind.value, p.path) for p in verify_release(bundle.path).problems] == [("chain", "registry_entry.json")]


def test_weights_whose_header_does_not_parse_are_malformed_even_with_right_digests(bundle: Bundle) -> None:
    size = bundle.manifest.file(bundle.manifest.primary).size_bytes
    resealed(bundle, bundle.manifest.primary, b"GGUF" + b"\xff" * (size - 4))
    problem, chain = verify_release(bundle.path).problems
    assert (problem.kind.value, problem.path) == ("malformed", bundle.manifest.primary)
    assert (chain.kind.value, chain.path) == ("chain", bundle.manifest.primary)


def test_weights_with_other_tensors_than_the_manifest_lists_are_malformed(bundle: Bundle) -> None:
    raw = (bundle.path / bundle.manifest.primary).read_bytes().replace(b"token_embd.weight", b"token_embd.bright")
    resealed(bundle, bundle.manifest.primary, raw)
    problem, _ = verify_release(bundle.path).problems
    assert "other tensors" in problem.detail


@pytest.mark.parametrize(
    ("sums", "why"),
    [
        (lambda sums: {**sums, "extra": "0" * 64}, "lists extra"),
        (lambda sums: {k: v for k, v in sums.items() if k != "decision.json"}, "does not list decision.json"),
        (lambda sums: {**sums, "manifest.json": "0" * 64}, "but it is"),
    ],
)
def test_sums_that_disagree_with_the_manifest_are_told(
    bundle: Bundle, sums: Callable[[dict[str, str]], dict[str, str]], why: str
) -> None:
    (bundle.path / "SHA256SUMS").write_bytes(render_sums(sums(read_sums(bundle.path))))
    (problem,) = verify_release(bundle.path).problems
    assert why in problem.detail


def test_what_is_no_folder_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="no folder"):
        verify_release(tmp_path / "file")
    with pytest.raises(BadInput, match="does not exist"):
        verify_release(tmp_path / "nowhere")


def test_a_folder_nested_without_end_is_refused(bundle: Bundle) -> None:
    (bundle.path / "/".join(["d"] * (MAX_DEPTH + 2))).mkdir(parents=True)
    (problem,) = verify_release(bundle.path).problems
    assert "folders deep" in problem.detail


def test_a_document_that_is_too_long_is_not_read(bundle: Bundle) -> None:
    os.truncate(bundle.path / "SHA256SUMS", MAX_SUMS_BYTES + 1)
    (problem,) = verify_release(bundle.path).problems
    assert "at most" in problem.detail


def test_an_open_folder_does_not_leave_itself(bundle: Bundle) -> None:
    (bundle.path / "up").symlink_to("..")
    with Folder(bundle.path) as folder:
        with pytest.raises(BadInput, match="through a link"), folder.open_file("up/bundles"):
            pass
        with pytest.raises(BadInput, match="no regular file"), folder.open_file("model"):
            pass
        with pytest.raises(FileNotFoundError), folder.open_file("model/none"):
            pass


SUMS_LINE = "0" * 64 + "  model/x\n"


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "empty"),
        (SUMS_LINE[:-1].encode(), "breaks off"),
        (b"\xff\n", "UTF-8"),
        (b"\n", "line 1"),
        (SUMS_LINE.replace("  ", " *").encode(), "line 1"),
        (SUMS_LINE.upper().replace("0", "A").encode(), "line 1"),
        (f"\\{SUMS_LINE}".encode(), "line 1"),
        ((SUMS_LINE * 2).encode(), "line 2"),
        (SUMS_LINE.replace("model/x", "../x").encode(), "'..'"),
        ((SUMS_LINE + SUMS_LINE.replace("x", "X")).encode(), "one on some file system"),
        (b"x" * (MAX_SUMS_BYTES + 1), "at most"),
        (b"\n" * 20_000, "lines"),
    ],
)
def test_a_list_that_render_would_not_write_is_refused(raw: bytes, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        parse_sums(raw)


@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,8}\.[a-z]{1,3}", fullmatch=True),
        st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
        min_size=1,
    )
)
def test_a_list_survives_writing_and_reading(digests: dict[str, str]) -> None:
    assert parse_sums(render_sums(digests)) == digests
