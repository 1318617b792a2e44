"""Deltas: small where the models are alike, exact always, and believed only by digest."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from milton_assets.edge.bundle import Bundle, default_signer
from milton_assets.edge.bundle.coding import FIELDS, Coding, chunk_bytes, decode, encode, from_planes, to_planes, xor
from milton_assets.edge.bundle.delta import MAGIC, MAX_HEAD_BYTES, Op, apply_delta, create_delta
from milton_assets.edge.bundle.keys import init_keys, load_public_key
from milton_assets.edge.disk_errors import DiskFailed
from milton_assets.edge.release import ReleaseDamaged, SignatureInvalid, verify_release
from milton_assets.edge.release.sshsig import fingerprint
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.progress import Progress
from tests.support.bundles import hf_artefact, hf_folder, ingredients
from tests.support.file_limits import file_size_limit
from tests.support.gguf_file import ARRAY, F32, Q8_0, STRING, UINT32, gguf_bytes, pair, tensor

BLOCKS = 600
Q8_BYTES = BLOCKS * 34


def q8(generator: np.random.Generator) -> np.ndarray:
    """Random Q8_0 blocks: a half-precision scale and 32 quants each."""
    scales = generator.uniform(0.001, 0.01, BLOCKS).astype(np.float16).view(np.uint8).reshape(BLOCKS, 2)
    quants = generator.integers(-127, 128, (BLOCKS, 32), dtype=np.int8).view(np.uint8)
    return np.hstack([scales, quants])


def tuned(blocks: np.ndarray) -> np.ndarray:
    """The blocks after a little training: every scale a bit other, one quant in fifty moved by one."""
    generator = np.random.default_rng(5)
    moved = blocks.copy()
    moved[:, 0] ^= generator.integers(0, 4, BLOCKS, dtype=np.uint8)
    here = generator.random((BLOCKS, 32)) < 0.02
    moved[:, 2:][here] += 1
    return moved


def write_model(path: Path, contents: list[np.ndarray], *, names: list[str] | None = None, title: str = "one") -> Path:
    names = names or [f"blk.{i}.weight" for i in range(len(contents))]
    stride = Q8_BYTES + (-Q8_BYTES % 32)
    rows = [tensor(name, (BLOCKS * 32,), Q8_0, i * stride) for i, name in enumerate(names)]
    words = (STRING, [f"word{i * 7919 % 10007}" for i in range(1500)])
    data = b"".join(content.tobytes().ljust(stride, b"\0") for content in contents)
    pairs = [pair("general.name", STRING, title), pair("tokenizer.words", ARRAY, words)]
    path.write_bytes(gguf_bytes([*pairs, pair("general.file_type", UINT32, 7)], rows, data=data))
    return path


@pytest.fixture
def tensors() -> list[np.ndarray]:
    generator = np.random.default_rng(1)
    return [q8(generator) for _ in range(4)]


@pytest.fixture
def bundle_of(tmp_path: Path) -> Callable[..., Bundle]:
    def make(contents: list[np.ndarray], version: str, **options: object) -> Bundle:
        path = write_model(tmp_path / f"{version}.gguf", contents, **options)  # type: ignore[arg-type]
        return ingredients(tmp_path, version=version, gguf=path).bundle(tmp_path / "bundles")

    return make


@pytest.fixture
def old(bundle_of: Callable[..., Bundle], tensors: list[np.ndarray]) -> Bundle:
    return bundle_of(tensors, "v1")


def weights_bytes(bundle: Bundle) -> int:
    return bundle.manifest.file(bundle.manifest.primary).size_bytes


def test_what_is_applied_is_the_new_bundle_byte_for_byte(
    old: Bundle, bundle_of: Callable[..., Bundle], tensors: list[np.ndarray], tmp_path: Path
) -> None:
    new = bundle_of([tuned(content) for content in tensors], "v2", title="two")
    steps: list[Progress] = []
    create_delta(old.path, new.path, tmp_path / "d", on_progress=steps.append)
    applied = apply_delta(tmp_path / "d", old.path, tmp_path / "in", on_progress=steps.append)
    assert applied == tmp_path / "in" / new.path.name
    for path in new.path.rglob("*"):
        if path.is_file():
            assert (applied / path.relative_to(new.path)).read_bytes() == path.read_bytes()
    assert verify_release(applied).ok
    assert {step.stage for step in steps} == {"delta", "apply"}


def test_a_tuned_model_is_a_fraction(
    old: Bundle, bundle_of: Callable[..., Bundle], tensors: list[np.ndarray], tmp_path: Path
) -> None:
    new = bundle_of([tuned(content) for content in tensors], "v2")
    report = create_delta(old.path, new.path, tmp_path / "d")
    assert report.pays
    assert (report.same, report.xor, report.raw) == (0, 4, 0)
    assert report.size_bytes == (tmp_path / "d").stat().st_size < 0.35 * weights_bytes(new)
    assert report.to_json()["share"] == pytest.approx(report.size_bytes / report.full_bytes, abs=1e-6)


def test_unchanged_tensors_cost_nothing_even_renamed_or_moved(
    old: Bundle, bundle_of: Callable[..., Bundle], tensors: list[np.ndarray], tmp_path: Path
) -> None:
    names = [f"other.{i}" for i in range(4)]
    new = bundle_of(tensors[::-1], "v2", names=names)
    report = create_delta(old.path, new.path, tmp_path / "d")
    assert (report.same, report.xor, report.raw) == (4, 0, 0)
    assert report.size_bytes < 0.25 * weights_bytes(new)
    assert verify_release(apply_delta(tmp_path / "d", old.path, tmp_path / "in")).ok


def test_a_new_tensor_is_sent_raw(
    old: Bundle, bundle_of: Callable[..., Bundle], tensors: list[np.ndarray], tmp_path: Path
) -> None:
    new = bundle_of([*tensors[:3], q8(np.random.default_rng(9))], "v2")
    report = create_delta(old.path, new.path, tmp_path / "d")
    assert (report.same, report.xor, report.raw) == (3, 0, 1)
    assert Q8_BYTES < report.size_bytes < 2 * Q8_BYTES
    assert verify_release(apply_delta(tmp_path / "d", old.path, tmp_path / "in")).ok


def test_models_that_have_nothing_in_common_are_sent_whole_and_need_no_old_one(
    old: Bundle, bundle_of: Callable[..., Bundle], tmp_path: Path
) -> None:
    path = tmp_path / "noise.gguf"
    noise = np.random.default_rng(3).integers(0, 256, 400_000, dtype=np.uint8).tobytes()
    path.write_bytes(gguf_bytes([], [tensor("x", (100_000,), F32, 0)], data=noise))
    new = ingredients(tmp_path, version="v2", gguf=path).bundle(tmp_path / "bundles")
    report = create_delta(old.path, new.path, tmp_path / "d")
    assert not report.pays
    assert report.size_bytes > new.manifest.payload_bytes
    assert verify_release(apply_delta(tmp_path / "d", None, tmp_path / "in")).ok


def test_a_directory_of_files_without_tensors_travels_too(tmp_path: Path, old: Bundle) -> None:
    model = ingredients(tmp_path, version="v2").with_artefact(hf_artefact(hf_folder(tmp_path / "hf")))
    first = model.bundle(tmp_path / "bundles")
    second = model.bundle(tmp_path / "bundles")
    report = create_delta(first.path, second.path, tmp_path / "d")
    assert report.size_bytes < 40_000
    assert verify_release(apply_delta(tmp_path / "d", first.path, tmp_path / "in")).ok
    create_delta(old.path, second.path, tmp_path / "e")
    assert verify_release(apply_delta(tmp_path / "e", old.path, tmp_path / "in2")).ok


def test_a_delta_is_never_overwritten(old: Bundle, tmp_path: Path) -> None:
    (tmp_path / "d").write_text("mine")
    with pytest.raises(BadInput, match="exists already"):
        create_delta(old.path, old.path, tmp_path / "d")
    assert (tmp_path / "d").read_text() == "mine"


# What is refused


@pytest.fixture
def new(bundle_of: Callable[..., Bundle], tensors: list[np.ndarray]) -> Bundle:
    return bundle_of([tensors[0], *(tuned(content) for content in tensors[1:3]), q8(np.random.default_rng(9))], "v2")


@pytest.fixture
def delta(old: Bundle, new: Bundle, tmp_path: Path) -> Path:
    report = create_delta(old.path, new.path, tmp_path / "delta")
    assert (report.same, report.xor, report.raw, report.pays) == (1, 2, 1, True)
    return report.path


def nothing_left(into: Path) -> bool:
    return not into.exists() or not list(into.iterdir())


def test_another_old_bundle_is_refused(delta: Path, new: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is the release"):
        apply_delta(delta, new.path, tmp_path / "in")
    with pytest.raises(BadInput, match="needs the bundle it was made from"):
        apply_delta(delta, None, tmp_path / "in")
    assert nothing_left(tmp_path / "in")


@pytest.mark.parametrize("number", [0, 1])
def test_a_damaged_old_tensor_is_named_and_nothing_is_left(
    delta: Path, old: Bundle, tmp_path: Path, number: int
) -> None:
    place = old.manifest.tensor_tables[0].tensors[number]
    with (old.path / old.manifest.primary).open("r+b") as stream:
        stream.seek(place.offset_bytes + 50)
        stream.write(b"\xaa\xbb\xcc")
    with pytest.raises(ReleaseDamaged, match=rf"tensor blk\.{number}\.weight .* did not come out"):
        apply_delta(delta, old.path, tmp_path / "in")
    assert nothing_left(tmp_path / "in")


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_an_old_bundle_that_is_not_whole_is_named(delta: Path, old: Bundle, tmp_path: Path, damage: str) -> None:
    path = old.path / old.manifest.primary
    if damage == "missing":
        path.unlink()
    else:
        os.truncate(path, path.stat().st_size - Q8_BYTES * 4)
    with pytest.raises(BadInput, match="old bundle"):
        apply_delta(delta, old.path, tmp_path / "in")


def test_a_new_bundle_that_is_not_whole_makes_no_delta(old: Bundle, new: Bundle, tmp_path: Path) -> None:
    path = new.path / new.manifest.primary
    os.truncate(path, path.stat().st_size - 500)
    with pytest.raises(ReleaseDamaged, match="shorter than"):
        create_delta(old.path, new.path, tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_a_disk_that_does_not_take_the_new_bundle_is_told_as_such_and_nothing_is_left(
    delta: Path, old: Bundle, tmp_path: Path
) -> None:
    with file_size_limit(1000), pytest.raises(DiskFailed, match="larger than this process may write"):
        apply_delta(delta, old.path, tmp_path / "in")
    assert list((tmp_path / "in").iterdir()) == []


def test_a_signature_must_hold_and_be_trusted(tmp_path: Path, old: Bundle, tensors: list[np.ndarray]) -> None:
    keys = init_keys(tmp_path / "keys")
    ours = fingerprint(load_public_key(keys.public))
    model = ingredients(tmp_path, version="v2", gguf=write_model(tmp_path / "v2.gguf", [tuned(t) for t in tensors]))
    signed = model.bundle(tmp_path / "bundles", sign=default_signer(keys.folder))
    create_delta(old.path, signed.path, tmp_path / "d")
    assert verify_release(apply_delta(tmp_path / "d", old.path, tmp_path / "in", trusted={ours}), trusted={ours}).ok
    with pytest.raises(SignatureInvalid, match="not trusted"):
        apply_delta(tmp_path / "d", old.path, tmp_path / "in2", trusted={"SHA256:other"})
    unsigned = model.bundle(tmp_path / "bundles")
    create_delta(old.path, unsigned.path, tmp_path / "e")
    with pytest.raises(SignatureInvalid, match="not signed"):
        apply_delta(tmp_path / "e", old.path, tmp_path / "in2", trusted={ours})
    assert nothing_left(tmp_path / "in2")


def body_start(raw: bytes) -> int:
    (length,) = struct.unpack_from("<I", raw, len(MAGIC))
    start = len(MAGIC) + 4
    head = json.loads(raw[start : start + length])
    return start + length + sum(head["documents"].values())


def with_head(raw: bytes, **fields: object) -> bytes:
    (length,) = struct.unpack_from("<I", raw, len(MAGIC))
    start = len(MAGIC) + 4
    head = json.dumps(json.loads(raw[start : start + length]) | fields).encode()
    return MAGIC + struct.pack("<I", len(head)) + head + raw[start + length :]


def in_body(raw: bytes, content: bytes) -> bytes:
    at = body_start(raw)
    return raw[:at] + content


CHUNK = struct.Struct("<BI")
HOSTILE: list[tuple[str, Callable[[bytes], bytes], str]] = [
    ("no delta", lambda raw: b"PK" + raw, "it is no delta"),
    ("an empty file", lambda _: b"", "cut short"),
    ("a huge head", lambda raw: MAGIC + struct.pack("<I", MAX_HEAD_BYTES + 1) + raw, "head has"),
    ("another head", lambda raw: with_head(raw, more=1), "other fields"),
    ("a huge document", lambda raw: with_head(raw, documents={"manifest.json": 1 << 40}), "other documents"),
    ("an unknown document", lambda raw: with_head(raw, documents={"../evil": 1}), "other documents"),
    ("documents that are none", lambda raw: with_head(raw, documents=7), "other documents"),
    ("another release", lambda raw: with_head(raw, release="0" * 64), "another release"),
    ("no base", lambda raw: with_head(raw, base_release=None), "names none|did not come out"),
    ("something after the end", lambda raw: raw + b"x", "goes on after its end"),
    ("an unknown instruction", lambda raw: in_body(raw, b"\x09"), "unknown instruction"),
    ("an unknown old file", lambda raw: in_body(raw, bytes([Op.SAME]) + bytes(32)), "does not have"),
    ("an unknown old piece", lambda raw: in_body(raw, bytes([Op.XOR]) + bytes(32)), "cut short"),
    ("a header of an unknown piece", lambda raw: in_body(raw, bytes([Op.DICTIONARY]) + bytes(38)), "does not have"),
    ("a chunk too long", lambda raw: in_body(raw, b"\0" + CHUNK.pack(0, 1 << 31)), "is stored in"),
    ("a chunk too short", lambda raw: in_body(raw, b"\0" + CHUNK.pack(0, 3) + b"abc"), "has 3 bytes"),
    ("an unknown coding", lambda raw: in_body(raw, b"\0" + CHUNK.pack(7, 3) + b"abc"), "is not a valid"),
    ("no zstd frame", lambda raw: in_body(raw, b"\0" + CHUNK.pack(1, 3) + b"abc"), "does not decompress"),
]


@pytest.mark.parametrize(("change", "why"), [h[1:] for h in HOSTILE], ids=[h[0] for h in HOSTILE])
def test_a_hostile_delta_is_refused_with_its_own_message_and_leaves_nothing(
    delta: Path, old: Bundle, tmp_path: Path, change: Callable[[bytes], bytes], why: str
) -> None:
    delta.write_bytes(change(delta.read_bytes()))
    with pytest.raises((BadInput, ReleaseDamaged), match=why):
        apply_delta(delta, old.path, tmp_path / "in")
    assert nothing_left(tmp_path / "in")


def test_no_flipped_byte_makes_another_release(delta: Path, old: Bundle, tmp_path: Path) -> None:
    raw = delta.read_bytes()
    for at in range(body_start(raw), len(raw), 997):
        changed = bytearray(raw)
        changed[at] ^= 0x41
        delta.write_bytes(changed)
        with pytest.raises((BadInput, ReleaseDamaged)):
            apply_delta(delta, old.path, tmp_path / "in")
    assert nothing_left(tmp_path / "in")


def test_no_cut_makes_another_release(delta: Path, old: Bundle, tmp_path: Path) -> None:
    raw = delta.read_bytes()
    for length in range(0, len(raw), 1501):
        delta.write_bytes(raw[:length])
        with pytest.raises(BadInput, match="cut short"):
            apply_delta(delta, old.path, tmp_path / "in")
    assert nothing_left(tmp_path / "in")


# Coding a chunk


@given(dtype=st.sampled_from(sorted(FIELDS)), blocks=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
def test_planes_are_only_another_order(dtype: str, blocks: int, seed: int) -> None:
    raw = np.random.default_rng(seed).integers(0, 256, blocks * sum(FIELDS[dtype]), dtype=np.uint8).tobytes()
    planes = to_planes(raw, dtype)
    assert sorted(planes) == sorted(raw)
    assert from_planes(planes, dtype) == raw


@given(raw=st.binary(min_size=1, max_size=400), dtype=st.sampled_from([*sorted(FIELDS), "I32", ""]))
def test_a_chunk_comes_back(raw: bytes, dtype: str) -> None:
    repeated = raw * 20
    coding, stored = encode(repeated, dtype)
    assert len(stored) <= len(repeated)
    assert decode(coding, stored, len(repeated), dtype) == repeated


def test_scales_apart_from_quants_are_smaller() -> None:
    blocks = q8(np.random.default_rng(0))
    blocks[:, 2:] = 0
    coding, _ = encode(np.tile(blocks, (20, 1)).tobytes(), "Q8_0")
    assert coding is Coding.ZSTD_PLANES


def test_chunks_are_whole_blocks() -> None:
    assert all(chunk_bytes(dtype) % sum(fields) == 0 for dtype, fields in FIELDS.items())


def test_a_frame_of_another_size_is_refused() -> None:
    coding, stored = encode(bytes(1000), "")
    with pytest.raises(ValueError, match="another size"):
        decode(coding, stored, 999, "")
    with pytest.raises(ValueError, match="no planes"):
        decode(Coding.ZSTD_PLANES, stored, 1000, "I32")


@given(st.binary(min_size=1, max_size=50))
def test_xor_with_itself_is_nothing_and_twice_is_the_same(raw: bytes) -> None:
    other = raw[::-1]
    assert not any(xor(raw, raw))
    assert xor(xor(raw, other), other) == raw
