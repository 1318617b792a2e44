"""Scrubbing names the damaged tensor; repairing fetches it and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from milton_assets.edge.bundle import Bundle, LinkMode, RepairImpossible, repair_bundle, scrub_bundle
from milton_assets.edge.disk_errors import DiskFailed
from milton_assets.edge.release import ReleaseDamaged, verify_release
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.progress import Progress
from tests.support.bundles import ingredients
from tests.support.file_limits import file_size_limit
from tests.support.gguf_file import F32, STRING, gguf_bytes, pair, tensor

NAMES = ("blk.0.weight", "blk.1.weight", "blk.2.weight")
SIZE = 4080
PADDING = bytes(16)


def gguf(path: Path, *, seed: int = 0, title: str = "one") -> Path:
    """Three tensors with padding between, of which only the last depends on `seed`."""
    contents = [bytes((i * 7 + j) % 256 for j in range(SIZE)) for i in range(2)]
    contents.append(bytes((j * 3 + seed) % 256 for j in range(SIZE)))
    rows = [tensor(name, (SIZE // 4,), F32, i * (SIZE + len(PADDING))) for i, name in enumerate(NAMES)]
    path.write_bytes(gguf_bytes([pair("general.name", STRING, title)], rows, data=PADDING.join(contents)))
    return path


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return ingredients(tmp_path, gguf=gguf(tmp_path / "m.gguf")).bundle(tmp_path / "bundles")


@pytest.fixture
def good(bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle.path, tmp_path / "good"))


def weights(bundle: Bundle) -> Path:
    return bundle.path / bundle.manifest.primary


def damage_tensor(bundle: Bundle, number: int, at: int = 100) -> None:
    table = bundle.manifest.tensor_tables[0]
    with weights(bundle).open("r+b") as stream:
        stream.seek(table.tensors[number].offset_bytes + at)
        stream.write(b"\xee\xee\xee")


def damage_title(bundle: Bundle) -> None:
    raw = weights(bundle).read_bytes()
    weights(bundle).write_bytes(raw.replace(b"one", b"two", 1))


def test_a_whole_bundle_has_no_damage(bundle: Bundle) -> None:
    steps: list[Progress] = []
    report = scrub_bundle(bundle.path, on_progress=steps.append)
    assert report.ok
    assert report.bytes_checked == bundle.manifest.payload_bytes
    assert steps[-1].done == steps[-1].total


@pytest.mark.parametrize("number", range(3))
def test_the_damaged_tensor_is_named_and_only_it_is_fetched(bundle: Bundle, good: Path, number: int) -> None:
    damage_tensor(bundle, number)
    (damage,) = scrub_bundle(bundle.path).damages
    assert (damage.path, damage.tensors, damage.outside, damage.whole) == (
        bundle.manifest.primary,
        (NAMES[number],),
        False,
        False,
    )
    assert str(damage) == f"model/m.gguf: tensor {NAMES[number]}"
    report = repair_bundle(bundle.path, good)
    assert report.fetched_bytes == SIZE
    assert report.repaired == (damage,)
    assert verify_release(bundle.path).ok


def test_damage_outside_the_tensors_is_told_apart(bundle: Bundle, good: Path) -> None:
    damage_title(bundle)
    damage_tensor(bundle, 1)
    (damage,) = scrub_bundle(bundle.path).damages
    assert (damage.tensors, damage.outside) == ((NAMES[1],), True)
    assert "header or the padding" in str(damage)
    outside = weights(bundle).stat().st_size - 3 * SIZE
    assert repair_bundle(bundle.path, good).fetched_bytes == SIZE + outside
    assert verify_release(bundle.path).ok


@pytest.mark.parametrize("shape", ["truncated", "missing", "link", "document"])
def test_a_file_of_which_nothing_can_be_told_is_fetched_as_a_whole(
    bundle: Bundle, good: Path, tmp_path: Path, shape: str
) -> None:
    path = bundle.path / "decision.json" if shape == "document" else weights(bundle)
    size = path.stat().st_size
    if shape == "truncated":
        os.truncate(path, 1000)
    elif shape == "document":
        path.write_bytes(bytes(size))
    else:
        path.unlink()
        if shape == "link":
            (tmp_path / "outside").write_text("untouched")
            path.symlink_to(tmp_path / "outside")
    (damage,) = scrub_bundle(bundle.path).damages
    assert damage.whole
    assert "as a whole" in str(damage)
    assert repair_bundle(bundle.path, good).fetched_bytes == size
    assert verify_release(bundle.path).ok
    if shape == "link":
        assert (tmp_path / "outside").read_text() == "untouched"


def test_a_missing_folder_is_made_again(bundle: Bundle, good: Path) -> None:
    shutil.rmtree(bundle.path / "model")
    repair_bundle(bundle.path, good)
    assert verify_release(bundle.path).ok


def test_another_version_helps_when_it_shares_the_tensor(bundle: Bundle, tmp_path: Path) -> None:
    other = ingredients(tmp_path, version="v2", gguf=gguf(tmp_path / "n.gguf", seed=5, title="a longer title"))
    source = other.bundle(tmp_path / "others").path
    damage_tensor(bundle, 0)
    assert repair_bundle(bundle.path, source).fetched_bytes == SIZE
    assert verify_release(bundle.path).ok
    damage_tensor(bundle, 2)
    with pytest.raises(RepairImpossible, match=r"does not have tensor blk\.2\.weight"):
        repair_bundle(bundle.path, source)
    damage_title(bundle)
    with pytest.raises(RepairImpossible):
        repair_bundle(bundle.path, source)
    os.truncate(weights(bundle), 10)
    with pytest.raises(RepairImpossible, match=r"does not have model/m\.gguf"):
        repair_bundle(bundle.path, source)


def test_a_source_that_is_damaged_too_mends_nothing(bundle: Bundle, good: Path) -> None:
    damage_tensor(bundle, 1)
    before = weights(bundle).read_bytes()
    with (good / bundle.manifest.primary).open("r+b") as stream:
        stream.seek(bundle.manifest.tensor_tables[0].tensors[1].offset_bytes)
        stream.write(b"\x01\x02")
    with pytest.raises(RepairImpossible, match="damaged too"):
        repair_bundle(bundle.path, good)
    assert weights(bundle).read_bytes() == before
    assert sorted(p.name for p in weights(bundle).parent.iterdir()) == ["m.gguf"]
    os.truncate(weights(bundle), 10)
    with pytest.raises(ReleaseDamaged, match="still not"):
        repair_bundle(bundle.path, good)


def test_a_repair_leaves_the_other_name_of_a_hard_link_alone(tmp_path: Path) -> None:
    source = gguf(tmp_path / "m.gguf")
    model = ingredients(tmp_path, gguf=source)
    linked = model.bundle(tmp_path / "bundles", link=LinkMode.HARD)
    good = Path(shutil.copytree(linked.path, tmp_path / "good"))
    damage_tensor(linked, 0)
    edited = source.read_bytes()
    repair_bundle(linked.path, good)
    assert verify_release(linked.path).ok
    assert source.read_bytes() == edited


def test_a_folder_that_became_a_link_is_not_written_through(bundle: Bundle, good: Path, tmp_path: Path) -> None:
    (bundle.path / "model").rename(tmp_path / "moved")
    (bundle.path / "model").symlink_to(tmp_path / "moved")
    with pytest.raises(BadInput, match="is a link"):
        repair_bundle(bundle.path, good)
    assert [p.name for p in (tmp_path / "moved").iterdir()] == ["m.gguf"]


def test_a_folder_in_the_place_of_a_file_is_left_to_people(bundle: Bundle, good: Path) -> None:
    weights(bundle).unlink()
    weights(bundle).mkdir()
    with pytest.raises(BadInput, match="is a folder"):
        repair_bundle(bundle.path, good)


def test_a_damaged_manifest_is_refused(bundle: Bundle) -> None:
    forged = bundle.manifest.model_copy(update={"counter": 1})
    (bundle.path / "manifest.json").write_bytes(forged.to_json())
    with pytest.raises(BadInput, match="says of itself is damaged"):
        scrub_bundle(bundle.path)


# Bad sectors


@pytest.fixture(scope="session")
def bad_sectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that makes one byte of one file unreadable for the process that preloads it."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("playing a failing disk needs a C compiler")
    library = tmp_path_factory.mktemp("disk") / "bad_sector.so"
    source = Path(__file__).parents[1] / "support" / "bad_sector.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    return library


def milton_with_bad_sector(
    library: Path, path: str, at: int, *arguments: str | Path
) -> subprocess.CompletedProcess[str]:
    call = "import sys; from milton_assets.cli.app import main; sys.argv[0] = 'milton'; main()"
    environment = os.environ | {"LD_PRELOAD": str(library), "BAD_SECTOR_IN": path, "BAD_SECTOR_AT": str(at)}
    return subprocess.run(
        [sys.executable, "-c", call, *map(str, arguments)], capture_output=True, text=True, check=False, env=environment
    )


def test_a_tensor_that_the_disk_cannot_read_is_named_and_fetched(bundle: Bundle, good: Path, bad_sectors: Path) -> None:
    tensor = bundle.manifest.tensor_tables[0].tensors[1]
    sector = (bad_sectors, f"{bundle.path.name}/{bundle.manifest.primary}", tensor.offset_bytes + 10)
    found = milton_with_bad_sector(*sector, "bundle", "scrub", bundle.path)
    assert (found.returncode, found.stdout) == (1, f"{bundle.manifest.primary}: tensor {tensor.name}\n")
    mended = milton_with_bad_sector(*sector, "bundle", "repair", bundle.path, "--from", good)
    assert mended.returncode == 0, mended.stderr
    assert verify_release(bundle.path).ok


def test_a_header_or_a_document_that_the_disk_cannot_read_is_told_too(bundle: Bundle, bad_sectors: Path) -> None:
    header = milton_with_bad_sector(bad_sectors, bundle.manifest.primary, 5, "bundle", "scrub", bundle.path)
    assert header.stdout == f"{bundle.manifest.primary}: the header or the padding between tensors\n"
    document = milton_with_bad_sector(bad_sectors, "decision.json", 5, "bundle", "scrub", bundle.path)
    assert document.stdout.startswith("decision.json: missing, unreadable")
    for done in (header, document):
        assert (done.returncode, "Traceback" in done.stderr) == (1, False)


def test_a_disk_that_does_not_take_the_repair_is_told_as_such(bundle: Bundle, good: Path) -> None:
    damage_tensor(bundle, 1)
    before = weights(bundle).read_bytes()
    with file_size_limit(4096), pytest.raises(DiskFailed, match="larger than this process may write"):
        repair_bundle(bundle.path, good)
    assert weights(bundle).read_bytes() == before
    assert sorted(p.name for p in weights(bundle).parent.iterdir()) == ["m.gguf"]
