"""Making a bundle: what it holds, what is refused, and that nothing half made is ever seen."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from blake3 import blake3

from milton_assets.edge.bundle import LinkMode
from milton_assets.edge.bundle.placing import place
from milton_assets.edge.bundle.streaming import CHUNK_BYTES, Region
from milton_assets.edge.manifest import RESERVED_FILES
from milton_assets.edge.release import read_manifest, verify_release
from milton_assets.edge.release.chain import winner_figures
from milton_assets.vocabulary.chat_template import Lineage
from milton_assets.vocabulary.digest import sha256_bytes, sha256_file
from milton_assets.vocabulary.errors import BadInput, EvidenceMismatch
from milton_assets.vocabulary.progress import Progress
from milton_assets.vocabulary.registry import Artefact, ArtefactKind
from tests.support.bundles import (
    NOW,
    Ingredients,
    decision_of,
    entry_of,
    evidence_of,
    hf_artefact,
    hf_folder,
    ingredients,
)
from tests.support.gguf_file import F32, UINT32, gguf_bytes, pair, tensor, tiny_gguf
from tests.support.page_cache import is_cached, require_direct


@pytest.fixture
def model(tmp_path: Path) -> Ingredients:
    return ingredients(tmp_path)


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "bundles"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_name_says_version_and_time(model: Ingredients, into: Path) -> None:
    bundle = model.bundle(into)
    assert bundle.path == into / "milton_edge_bundle_v1.20260111.1425_20260111_142500"
    assert names_in(into) == [bundle.path.name]


def test_it_holds_the_model_and_everything_that_says_why(model: Ingredients, into: Path) -> None:
    path = model.bundle(into).path
    found = sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
    assert found == [
        "SHA256SUMS",
        "attestations/provenance.intoto.json",
        "attestations/test-result.intoto.json",
        "benchmark_summary.json",
        "decision.json",
        "evidence_manifest.json",
        "manifest.json",
        "model/model-q4_0.gguf",
        "registry_entry.json",
        "sbom.cdx.json",
    ]
    assert (path / "model/model-q4_0.gguf").read_bytes() == Path(model.entry.artefacts[0].path).read_bytes()


def test_plain_sha256sum_accepts_it_and_its_list_covers_all_but_itself(model: Ingredients, into: Path) -> None:
    path = model.bundle(into).path
    checked = subprocess.run(
        ["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=path, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    listed = {line.split(": ")[0] for line in checked.stdout.splitlines()}
    there = {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()}
    assert listed == there - (RESERVED_FILES - {"manifest.json"})


def test_the_manifest_tells_model_decision_and_evidence(model: Ingredients, into: Path) -> None:
    manifest = model.bundle(into).manifest
    assert manifest.model_version == model.entry.version
    assert manifest.run_id == model.evidence.run_id
    assert manifest.evidence_sha256 == model.evidence.digest()
    assert manifest.entry_sha256 == model.entry.entry_sha256
    assert manifest.policy_sha256 == model.evidence.policy_sha256
    assert manifest.quantization == "Q4_0"
    assert manifest.licence == "Apache-2.0"
    assert manifest.chat_template_sha256 is not None
    assert manifest.requirements.runtime == "llama.cpp, GGUF version 3, architecture llama"
    assert manifest.requirements.disk_bytes == sum(file.size_bytes for file in manifest.files)
    assert manifest.requirements.ram_bytes > manifest.file(manifest.primary).size_bytes


@pytest.mark.parametrize(
    ("server", "least"),
    [
        ({"name": "llama.cpp (embedded)", "build": "xllamacpp 2026.10.11549"}, 11549),
        ({"name": "llama.cpp", "build": "b11434-0a1b2c3"}, 11434),
        ({"name": "llama.cpp", "build": "b0-unknown"}, None),
        ({"name": "vLLM", "build": "0.12.0"}, None),
        (None, None),
    ],
    ids=["the wheel", "llama-server", "a build of one's own", "another server", "a server elsewhere"],
)
def test_the_least_build_of_llama_cpp_is_the_one_that_it_was_measured_with(
    model: Ingredients, into: Path, server: dict[str, str] | None, least: int | None
) -> None:
    environment = sha256_bytes(b"environment")
    (candidate,) = model.evidence.candidates
    evidence = model.evidence.model_copy(
        update={
            "fingerprints": {environment: {"server": server}},
            "candidates": (candidate.model_copy(update={"fingerprint_sha256": environment}),),
        }
    )
    measured = replace(model, evidence=evidence, decision=decision_of(evidence, model.entry.version))
    assert measured.bundle(into).manifest.requirements.least_llama_build == least


def test_its_figures_are_those_the_decision_could_use(model: Ingredients, into: Path) -> None:
    assert model.bundle(into).manifest.figures == {"cove_pass_rate": 0.93, "ttft_ms.median": 41.5}
    assert winner_figures(model.decision | {"candidates": []}) == {}


def test_each_tensor_has_the_digest_of_its_bytes(tmp_path: Path, into: Path) -> None:
    data = os.urandom(96)
    path = tmp_path / "two.gguf"
    rows = [tensor("first", (8,), F32, 0), tensor("second", (8,), F32, 64)]
    path.write_bytes(gguf_bytes([pair("general.alignment", UINT32, 64)], rows, data=data, alignment=64))
    (table,) = ingredients(tmp_path, gguf=path).bundle(into).manifest.tensor_tables
    assert [(t.name, t.dtype, t.shape) for t in table.tensors] == [("first", "F32", (8,)), ("second", "F32", (8,))]
    assert [t.blake3 for t in table.tensors] == [blake3(data[:32]).hexdigest(), blake3(data[64:]).hexdigest()]
    header = path.read_bytes()[: -len(data)]
    assert table.rest_blake3 == blake3(header + data[32:64]).hexdigest()


def test_two_in_one_second_have_different_names_and_rising_counters(model: Ingredients, into: Path) -> None:
    first, second, third = (model.bundle(into) for _ in range(3))
    assert second.path.name == f"{first.path.name}-2"
    assert third.path.name == f"{first.path.name}-3"
    assert first.manifest.counter < second.manifest.counter < third.manifest.counter
    assert first.manifest.previous_release is None
    assert third.manifest.previous_release == second.manifest.release_digest
    assert all(verify_release(bundle.path).ok for bundle in (first, second, third))


def test_the_counter_rises_even_when_the_clock_was_set_back(model: Ingredients, into: Path) -> None:
    (into / "milton_edge_bundle_of_somebody_else").mkdir(parents=True)
    first = model.bundle(into)
    later = model.bundle(into, now=NOW - timedelta(days=400))
    assert later.manifest.counter == first.manifest.counter + 1


def test_makers_at_the_same_time_do_not_meet(model: Ingredients, into: Path) -> None:
    made = []
    threads = [threading.Thread(target=lambda: made.append(model.bundle(into))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({bundle.path for bundle in made}) == 6
    assert len({bundle.manifest.counter for bundle in made}) == 6
    assert len(names_in(into)) == 6


def test_a_time_without_zone_is_refused(model: Ingredients, into: Path) -> None:
    with pytest.raises(BadInput, match="no zone"):
        model.bundle(into, now=datetime(2026, 1, 1))


def test_optional_facts_reach_the_manifest(model: Ingredients, into: Path) -> None:
    manifest = model.bundle(
        into,
        licence="MIT",
        expires_at=NOW + timedelta(days=30),
        previous_release="a" * 64,
    ).manifest
    assert manifest.licence == "MIT"
    assert manifest.expires_at == datetime(2026, 2, 10, 14, 25, tzinfo=UTC)
    assert manifest.previous_release == "a" * 64


def test_progress_ends_at_its_total(tmp_path: Path, into: Path) -> None:
    steps: list[Progress] = []
    gguf = tiny_gguf(tmp_path / "large.gguf", data_bytes=8 << 20)
    ingredients(tmp_path, gguf=gguf).bundle(into, on_progress=steps.append)
    assert [step.done for step in steps] == sorted({step.done for step in steps})
    assert steps[-1].done == steps[-1].total == 20
    assert "large.gguf" in steps[-1].note


# What is refused


def test_a_missing_gguf_says_what_to_do_next(model: Ingredients, into: Path) -> None:
    Path(model.entry.artefacts[0].path).unlink()
    with pytest.raises(BadInput, match=r"is missing.*quantise the model again.*--artifact hf-distilled"):
        model.bundle(into)
    assert not into.exists()


def test_an_entry_without_a_gguf_says_what_to_do_next(tmp_path: Path, model: Ingredients, into: Path) -> None:
    other = model.with_artefact(hf_artefact(hf_folder(tmp_path / "hf")))
    with pytest.raises(BadInput, match=r"has no GGUF.*--artifact hf-distilled"):
        other.bundle(into, kind=ArtefactKind.GGUF)


def wrong_gguf(tmp_path: Path, shape: str) -> Path:
    path = tmp_path / "wrong.gguf"
    if shape == "folder":
        path.mkdir()
    elif shape == "pipe":
        os.mkfifo(path)
    elif shape == "no gguf":
        path.write_bytes(b"PK\x03\x04" * 100)
    elif shape == "suffix":
        path = tiny_gguf(tmp_path / "model.bin")
    elif shape == "name":
        path = tiny_gguf(tmp_path / "model\nx.gguf")
    elif shape == "truncated":
        whole = tiny_gguf(path).read_bytes()
        path.write_bytes(whole[:-10])
    return path


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        ("folder", "is a folder"),
        ("pipe", "no regular file"),
        ("no gguf", "no usable GGUF"),
        ("suffix", "does not end in .gguf"),
        ("name", "control or invisible"),
        ("truncated", "truncated"),
    ],
)
def test_a_path_of_the_wrong_kind_is_refused(
    tmp_path: Path, model: Ingredients, into: Path, shape: str, why: str
) -> None:
    path = wrong_gguf(tmp_path, shape)
    artefact = Artefact(kind=ArtefactKind.GGUF, path=str(path), size_bytes=1, sha256="0" * 64)
    with pytest.raises(BadInput, match=why):
        model.with_artefact(artefact).bundle(into)
    assert not into.exists() or names_in(into) == []


def test_weights_that_are_not_those_registered_are_refused_and_leave_nothing(model: Ingredients, into: Path) -> None:
    path = Path(model.entry.artefacts[0].path)
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(EvidenceMismatch, match=r"has the digest .*registered and measured"):
        model.bundle(into)
    assert names_in(into) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("winner", "v2"),
        ("verdict", "reject"),
        ("run_id", "benchmark_20200101_000000"),
        ("manifest_sha256", "0" * 64),
        ("policy_sha256", None),
    ],
)
def test_a_decision_that_does_not_promote_it_on_this_evidence_is_refused(
    model: Ingredients, into: Path, field: str, value: str | None
) -> None:
    with pytest.raises(EvidenceMismatch, match=field):
        model.bundle(into, decision=model.decision | {field: value})
    assert not into.exists()


def test_an_entry_that_was_changed_since_it_was_measured_is_refused(model: Ingredients, into: Path) -> None:
    changed = replace(model, entry=model.entry.model_copy(update={"raw": {"base_model": "other"}}))
    with pytest.raises(EvidenceMismatch, match="as it was measured"):
        changed.bundle(into)


def test_evidence_of_other_weights_is_refused(tmp_path: Path, model: Ingredients, into: Path) -> None:
    other = model.with_artefact(model.entry.artefacts[0].model_copy(update={"sha256": "0" * 64}))
    with pytest.raises(EvidenceMismatch, match="which was measured"):
        replace(other, entry=model.entry).bundle(into)


def test_weights_with_another_template_than_the_one_decided_on_are_refused(model: Ingredients, into: Path) -> None:
    (candidate,) = model.evidence.candidates
    lineage = Lineage(base_model=model.entry.base_model, template="1" * 64)
    evidence = model.evidence.model_copy(update={"candidates": (candidate.model_copy(update={"lineage": lineage}),)})
    decided = replace(model, evidence=evidence, decision=decision_of(evidence, model.entry.version))
    with pytest.raises(EvidenceMismatch, match=rf"the chat template of {model.entry.version} is .*1111"):
        decided.bundle(into)
    assert not into.exists()


def test_what_is_no_json_is_refused(model: Ingredients, into: Path) -> None:
    with pytest.raises(BadInput, match="the summary cannot be written as JSON"):
        model.bundle(into, summary={"speed": float("nan")})
    assert names_in(into) == []


def test_a_disk_that_is_too_small_is_told_before_copying(model: Ingredients, tmp_path: Path, into: Path) -> None:
    huge = tmp_path / "huge.gguf"
    huge.write_bytes(tiny_gguf(tmp_path / "small.gguf").read_bytes())
    os.truncate(huge, 1 << 43)
    artefact = Artefact(kind=ArtefactKind.GGUF, path=str(huge), size_bytes=1 << 43, sha256="0" * 64)
    with pytest.raises(BadInput, match=r"GB free.*expected: 8796\.\d\d GB"):
        model.with_artefact(artefact).bundle(into)
    assert names_in(into) == []


def test_a_folder_that_cannot_be_written_is_named(model: Ingredients, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="file"):
        model.bundle(tmp_path / "file" / "bundles")


# The full directory


@pytest.fixture
def directory(tmp_path: Path, model: Ingredients) -> Ingredients:
    return model.with_artefact(hf_artefact(hf_folder(tmp_path / "hf")))


def test_the_full_directory_is_bundled_on_request_with_its_size_as_a_warning_first(
    directory: Ingredients, into: Path
) -> None:
    told: list[str] = []
    steps: list[Progress] = []
    bundle = directory.bundle(
        into, on_warning=lambda text: told.append(f"{text} [{len(steps)}]"), on_progress=steps.append
    )
    assert told == [f"{bundle.warnings[0]} [0]"]
    assert "0.00 GB in 3 files" in bundle.warnings[0]
    assert bundle.manifest.primary == "model"
    assert (bundle.path / "model/original/params.json").exists()
    assert bundle.manifest.requirements.runtime == "vLLM or transformers"
    assert verify_release(bundle.path).ok


def test_links_into_the_hugging_face_cache_are_bundled_as_files(tmp_path: Path, model: Ingredients, into: Path) -> None:
    folder = hf_folder(tmp_path / "models--org--name/snapshots/abc")
    blob = tmp_path / "models--org--name/blobs/0123"
    blob.parent.mkdir()
    blob.write_text("words")
    (folder / "vocab.txt").symlink_to("../../blobs/0123")
    path = model.with_artefact(hf_artefact(folder)).bundle(into).path
    assert not (path / "model/vocab.txt").is_symlink()
    assert (path / "model/vocab.txt").read_text() == "words"


def test_a_link_out_of_the_model_is_never_bundled(tmp_path: Path, model: Ingredients, into: Path) -> None:
    folder = hf_folder(tmp_path / "hf")
    artefact = hf_artefact(folder)
    (tmp_path / "private.key").write_text("secret")
    (folder / "notes.txt").symlink_to(tmp_path / "private.key")
    with pytest.raises(BadInput, match="out of the model"):
        model.with_artefact(artefact).bundle(into)


def break_folder(folder: Path, shape: str) -> Path:
    if shape == "file":
        path = folder.parent / "single"
        path.write_text("")
        return path
    if shape == "missing":
        return folder.parent / "nowhere"
    if shape == "no config":
        (folder / "config.json").unlink()
    elif shape == "pipe":
        os.mkfifo(folder / "pipe")
    elif shape == "dangling":
        (folder / "gone").symlink_to("nowhere")
    elif shape == "linked folder":
        (folder / "loop").symlink_to(folder)
    elif shape == "case":
        (folder / "Config.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        ("file", r"is a file.*--artifact gguf"),
        ("missing", r"is missing.*--artifact gguf"),
        ("no config", "no config.json"),
        ("pipe", "no regular file"),
        ("dangling", "which is missing"),
        ("linked folder", "a link to a folder"),
        ("case", "one on some file system"),
    ],
)
def test_a_directory_that_cannot_be_carried_is_refused(
    tmp_path: Path, model: Ingredients, into: Path, shape: str, why: str
) -> None:
    path = break_folder(hf_folder(tmp_path / "hf"), shape)
    artefact = Artefact(kind=ArtefactKind.HF_DISTILLED, path=str(path), size_bytes=1, sha256="0" * 64)
    with pytest.raises(BadInput, match=why):
        model.with_artefact(artefact).bundle(into)


def test_a_directory_whose_evidence_is_the_ggufs_is_bundled_with_a_warning(
    tmp_path: Path, model: Ingredients, into: Path
) -> None:
    gguf = model.entry.artefacts[0]
    folder = hf_artefact(hf_folder(tmp_path / "hf"))
    entry = entry_of(gguf, model.entry.version).model_copy(update={"artefacts": (gguf, folder)})
    both = replace(model, entry=entry, evidence=evidence_of(entry, gguf), kind=ArtefactKind.HF_DISTILLED)
    assert any("measured on another artefact" in warning for warning in both.bundle(into).warnings)


# Sharing bytes with the source


def clones(folder: Path) -> bool:
    source, target = folder / "a", folder / "b"
    source.write_bytes(b"x")
    with source.open("rb") as read, target.open("wb") as write:
        try:
            fcntl.ioctl(write.fileno(), 0x40049409, read.fileno())
        except OSError as error:
            assert error.errno in {errno.EOPNOTSUPP, errno.EINVAL, errno.EXDEV, errno.ENOTTY}
            return False
    return True


def test_bytes_are_cloned_where_the_file_system_can_and_else_copied(tmp_path: Path) -> None:
    source = tiny_gguf(tmp_path / "m.gguf", data_bytes=1 << 20)
    placed = place(source, tmp_path / "placed")
    assert placed.how == ("clone" if clones(tmp_path) else "copy")
    assert placed.sha256 == sha256_file(source) == sha256_file(tmp_path / "placed")


@pytest.mark.parametrize("surplus", [-1, 0, 1, 4096])
def test_a_copy_of_any_size_is_whole(tmp_path: Path, surplus: int) -> None:
    source = tmp_path / "weights"
    source.write_bytes(os.urandom(3 * CHUNK_BYTES + surplus))
    placed = place(source, tmp_path / "placed", link=LinkMode.COPY)
    assert placed.sha256 == sha256_file(source) == sha256_file(tmp_path / "placed")


def test_a_copy_takes_no_room_in_the_page_cache(tmp_path: Path) -> None:
    require_direct(tmp_path)
    source = tmp_path / "weights"
    source.write_bytes(bytes(3 * CHUNK_BYTES))
    place(source, tmp_path / "placed", link=LinkMode.COPY)
    assert not is_cached(tmp_path / "placed", CHUNK_BYTES)


def test_an_edit_of_the_source_in_place_does_not_reach_a_bundle(model: Ingredients, into: Path) -> None:
    bundle = model.bundle(into)
    source = Path(model.entry.artefacts[0].path)
    assert source.stat().st_ino != (bundle.path / bundle.manifest.primary).stat().st_ino
    with source.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\xff")
    assert verify_release(bundle.path).ok


def test_an_edit_through_a_hard_link_is_not_unnoticed(model: Ingredients, into: Path) -> None:
    bundle = model.bundle(into, link=LinkMode.HARD)
    before = verify_release(bundle.path)
    assert before.ok
    assert any("hard link" in note for note in before.notes)
    with Path(model.entry.artefacts[0].path).open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\xff")
    (problem,) = verify_release(bundle.path).problems
    assert (problem.kind, problem.path) == ("digest", bundle.manifest.primary)


def test_a_hard_link_across_file_systems_is_refused_with_the_remedy(model: Ingredients) -> None:
    elsewhere = Path("/dev/shm") / f"milton-{os.getpid()}-{time.monotonic_ns()}"
    if (
        not elsewhere.parent.is_dir()
        or elsewhere.parent.stat().st_dev == Path(model.entry.artefacts[0].path).stat().st_dev
    ):
        pytest.skip("there is only one file system")
    try:
        with pytest.raises(BadInput, match="without a hard link"):
            model.bundle(elsewhere, link=LinkMode.HARD)
        assert names_in(elsewhere) == []
    finally:
        elsewhere.rmdir()


def test_not_waiting_for_the_disk_makes_the_same_bundle(model: Ingredients, into: Path, tmp_path: Path) -> None:
    quick, durable = model.bundle(into, durable=False), model.bundle(tmp_path / "other")
    assert quick.manifest == durable.manifest
    assert verify_release(quick.path).ok


def test_copying_can_be_asked_for(model: Ingredients, into: Path) -> None:
    bundle = model.bundle(into, link=LinkMode.COPY)
    assert verify_release(bundle.path).ok
    assert (bundle.path / bundle.manifest.primary).stat().st_nlink == 1


# Interruptions

_SLOWLY = """
import sys, time
from pathlib import Path
from tests.support.bundles import ingredients

def slowly(step):
    print("step", flush=True)
    time.sleep(30)

folder = Path(sys.argv[1])
ingredients(folder, gguf=folder / "m.gguf").bundle(folder / "bundles", on_progress=slowly)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_maker_leaves_nothing_for_the_next_one(tmp_path: Path, into: Path, how: signal.Signals) -> None:
    gguf = tiny_gguf(tmp_path / "m.gguf", data_bytes=4 << 20)
    maker = subprocess.Popen(
        [sys.executable, "-c", _SLOWLY, tmp_path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert maker.stdout is not None
    assert maker.stdout.readline() == "step\n"
    (staged,) = into.iterdir()
    assert staged.name.startswith(".")
    maker.send_signal(how)
    maker.wait(timeout=20)
    maker.stdout.close()
    if how is signal.SIGKILL:
        os.utime(staged, (0, 0))  # what was left behind is swept once it is a minute old
    else:
        assert names_in(into) == []
    bundle = ingredients(tmp_path, gguf=gguf).bundle(into)
    assert names_in(into) == [bundle.path.name]


def test_the_staging_of_a_maker_at_work_is_not_swept(tmp_path: Path, model: Ingredients, into: Path) -> None:
    at_work = into / ".staging-somebody"
    at_work.mkdir(parents=True)
    os.utime(at_work, (0, 0))
    handle = os.open(at_work, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        model.bundle(into)
        assert at_work.exists()
    finally:
        os.close(handle)
    model.bundle(into)
    assert not at_work.exists()


def test_a_source_that_changes_while_it_is_read_is_refused(tmp_path: Path, into: Path) -> None:
    gguf = tiny_gguf(tmp_path / "m.gguf", data_bytes=4 << 20)
    model = ingredients(tmp_path, gguf=gguf)

    def edit(_: Progress) -> None:
        with gguf.open("ab") as stream:
            stream.write(b"more")

    with pytest.raises(BadInput, match="changed while"):
        model.bundle(into, on_progress=edit, link=LinkMode.COPY)
    assert names_in(into) == []


def test_a_signer_sees_the_sums_before_anything_is_visible(model: Ingredients, into: Path) -> None:
    seen: list[Path] = []

    def sign(staged: Path) -> None:
        assert (staged / "SHA256SUMS").exists()
        assert all(name.startswith(".") for name in names_in(into))
        (staged / "SHA256SUMS.sig").write_text("signature")
        seen.append(staged)

    bundle = model.bundle(into, sign=sign)
    assert len(seen) == 1
    assert (bundle.path / "SHA256SUMS.sig").read_text() == "signature"


def test_the_manifest_on_disk_is_the_one_returned(model: Ingredients, into: Path) -> None:
    bundle = model.bundle(into)
    assert read_manifest(bundle.path) == bundle.manifest


@pytest.mark.parametrize("link", [LinkMode.COPY, LinkMode.HARD])
def test_a_source_that_is_cut_short_while_it_is_read_is_refused(tmp_path: Path, link: LinkMode) -> None:
    source = tmp_path / "m.gguf"
    source.write_bytes(os.urandom(20 << 20))

    def cut(done: int) -> None:
        os.truncate(source, 1 << 20)

    with pytest.raises(BadInput, match="changed while it was copied"):
        place(source, tmp_path / "out", link=link, regions=[Region(0, 20 << 20)], on_bytes=cut)


@pytest.mark.parametrize("digest", ["", "latest", "A" * 64, "a" * 63])
def test_a_previous_release_that_is_no_digest_is_refused(model: Ingredients, into: Path, digest: str) -> None:
    with pytest.raises(BadInput, match="is no release"):
        model.bundle(into, previous_release=digest)


def test_a_directorys_chat_template_is_in_the_manifest(tmp_path: Path, model: Ingredients, into: Path) -> None:
    folder = hf_folder(tmp_path / "hf")
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    bundle = model.with_artefact(hf_artefact(folder)).bundle(into)
    assert bundle.manifest.chat_template_sha256 == sha256_bytes(b"{{ messages }}")
