"""The manifest's nouns, and its JSON read as hostile input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milton_assets.edge.manifest import (
    MAX_MANIFEST_BYTES,
    BundleManifest,
    FileEntry,
    check_no_collision,
    parse_manifest,
    release_digest,
)
from milton_assets.edge.relative_path import BadPath, check_path
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.strict_json import parse_json
from tests.support.bundles import ingredients


@pytest.fixture
def manifest(tmp_path: Path) -> BundleManifest:
    return ingredients(tmp_path).bundle(tmp_path / "bundles").manifest


def changed(manifest: BundleManifest, **fields: Any) -> bytes:
    return json.dumps(manifest.model_dump(mode="json") | fields).encode()


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("", "empty"),
        ("/etc/passwd", "absolute"),
        ("../outside", "'..' part"),
        ("model/../../outside", "'..' part"),
        ("model/./x", "'.' or"),
        ("model//x", "empty, '.'"),
        ("model/", "empty, '.'"),
        ("model\\x", "backslash"),
        ("model/a\nb", "control"),
        ("model/a\x00b", "control"),
        ("model/a\u202egnp.sh", "invisible"),
        ("model/a\u200b", "invisible"),
        ("model/a\u00a0b", "invisible"),
        ("model/\ud800", "invisible"),
        ("model/e\u0301", "NFC"),
        ("model/ x", "space"),
        ("model/x.", "dot"),
        ("x" * 201, "longer"),
        ("/".join(["x" * 100] * 6), "longer"),
    ],
)
def test_a_path_that_could_leave_or_hide_is_refused(path: str, why: str) -> None:
    with pytest.raises(BadPath, match=why):
        check_path(path)


@pytest.mark.parametrize("path", ["model/model-q4_0.gguf", ".gitattributes", "model/Größe 1.bin", "a/b/c/d"])
def test_a_plain_path_is_kept(path: str) -> None:
    assert check_path(path) == path


@given(st.text(max_size=40))
def test_whatever_path_is_accepted_stays_below_its_folder(path: str) -> None:
    try:
        check_path(path)
    except BadPath:
        return
    below = Path("/root/folder") / path
    assert below.resolve().is_relative_to("/root/folder")
    assert below.as_posix() == f"/root/folder/{path}"


@pytest.mark.parametrize(
    "paths",
    [
        ["a", "a"],
        ["model/README", "model/readme"],
        ["model/ﬁle", "model/file"],
        ["straße", "STRASSE"],
        ["model", "model/x"],
        ["MODEL", "model/x/y"],
    ],
)
def test_paths_that_are_one_on_some_file_system_are_refused(paths: list[str]) -> None:
    with pytest.raises(BadPath):
        check_no_collision(paths)


def test_a_manifest_survives_its_json(manifest: BundleManifest) -> None:
    assert parse_manifest(manifest.to_json()) == manifest


def test_the_release_digest_does_not_depend_on_the_order_of_files(manifest: BundleManifest) -> None:
    assert release_digest(reversed(manifest.files)) == manifest.release_digest


def test_the_release_digest_changes_with_any_path_size_or_digest(manifest: BundleManifest) -> None:
    first, *rest = manifest.files
    variants = [
        first.model_copy(update={"path": "other"}),
        first.model_copy(update={"size_bytes": first.size_bytes + 1}),
        first.model_copy(update={"sha256": "0" * 64}),
    ]
    digests = {release_digest([variant, *rest]) for variant in variants} | {manifest.release_digest}
    assert len(digests) == 4


def test_a_file_that_is_not_listed_is_named(manifest: BundleManifest) -> None:
    assert manifest.file(manifest.primary).path == manifest.primary
    with pytest.raises(BadInput, match="lists no file 'other'"):
        manifest.file("other")


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("release_digest", "0" * 64, "not the digest of the file list"),
        ("name", "milton_edge_bundle_other_20260111_142500", "the name"),
        ("name", "../../etc", "the name"),
        ("model_version", "../x", "slug"),
        ("primary", "decision.json", "not below model/"),
        ("primary", "model/other.gguf", "not among the files"),
        ("artefact_kind", "hf-distilled", "not among the files"),
        ("counter", 0, "counter"),
        ("counter", "7", "counter"),
        ("created_at", "2026-01-11T14:25:00", "timezone"),
        ("expires_at", "2026-01-11T14:24:00Z", "not after created_at"),
        ("files", [], "files"),
        ("figures", {"x": "high"}, "figures"),
        ("surprise", 1, "surprise"),
        ("health", {"probes": []}, "health"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused_with_the_field(
    manifest: BundleManifest, field: str, value: Any, why: str
) -> None:
    with pytest.raises(BadInput, match=why):
        parse_manifest(changed(manifest, **{field: value}))


def test_a_manifest_may_not_list_its_own_sums_or_signature(manifest: BundleManifest) -> None:
    for reserved in ("manifest.json", "SHA256SUMS", "sha256sums.SIG", "manifest.json/x"):
        files = [*manifest.files, FileEntry(path=reserved, size_bytes=0, sha256="0" * 64)]
        raw = changed(
            manifest,
            files=[file.model_dump(mode="json") for file in files],
            release_digest=release_digest(files),
        )
        with pytest.raises(BadInput, match=r"one on some file system|both a file and a folder"):
            parse_manifest(raw)


def tables(manifest: BundleManifest, **tensor: Any) -> list[dict[str, Any]]:
    table = manifest.tensor_tables[0].model_dump(mode="json")
    table["tensors"] = [table["tensors"][0], table["tensors"][0] | tensor]
    return [table]


@pytest.mark.parametrize(
    ("tensor", "why"),
    [
        ({"name": "second"}, "overlaps"),
        ({"offset_bytes": 480, "size_bytes": 0}, "name appears twice"),
        ({"name": "second", "offset_bytes": 10**6}, "beyond its end"),
        ({"name": "second", "offset_bytes": -1}, "offset_bytes"),
    ],
)
def test_a_tensor_table_that_overlaps_or_runs_over_is_refused(
    manifest: BundleManifest, tensor: dict[str, Any], why: str
) -> None:
    with pytest.raises(BadInput, match=why):
        parse_manifest(changed(manifest, tensor_tables=tables(manifest, **tensor)))


def test_a_tensor_table_of_a_file_that_is_not_listed_is_refused(manifest: BundleManifest) -> None:
    table = manifest.tensor_tables[0].model_dump(mode="json") | {"path": "model/other.gguf"}
    with pytest.raises(BadInput, match="not among the files"):
        parse_manifest(changed(manifest, tensor_tables=[table]))


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "no valid JSON"),
        (b"\xff\xfe", "no valid JSON"),
        (b"[]", "list"),
        (b"{}", "schema_version None"),
        (b'{"schema_version": 1}', "schema_version 1. expected: 2"),
        (b'{"schema_version": 1, "schema_version": 1}', "appears twice"),
        (b'{"schema_version": NaN}', "NaN"),
        (b'{"schema_version": 1' + b"0" * 5000 + b"}", "no valid JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b" " * (MAX_MANIFEST_BYTES + 1), "at most"),
    ],
)
def test_what_is_no_manifest_is_refused_with_its_own_message(raw: bytes, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        parse_manifest(raw)


def test_many_errors_are_counted_and_the_first_few_named(manifest: BundleManifest) -> None:
    raw = changed(manifest, counter=0, name=3, run_id="x", model_version=None, files=7)
    with pytest.raises(BadInput, match=r"and \d+ more"):
        parse_manifest(raw)


@given(st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda x: st.lists(x, max_size=3)))
def test_any_json_is_either_a_manifest_or_bad_input(value: Any) -> None:
    with pytest.raises(BadInput):
        parse_manifest(json.dumps(value).encode())


def test_strict_json_keeps_what_is_right() -> None:
    assert parse_json(b'{"a": [1, 2.5, "x"]}', "it") == {"a": [1, 2.5, "x"]}
