"""A bundle in an OCI registry: a ModelPack artefact whose layers are the files, and the same release again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from milton_assets.edge.bundle import Bundle, default_signer
from milton_assets.edge.bundle.keys import init_keys, load_public_key
from milton_assets.edge.bundle.modelpack import (
    ARTEFACT_TYPE,
    FILE_PATH,
    IMAGE_MANIFEST_TYPE,
    ModelPack,
    modelpack_of,
    read_modelpack,
)
from milton_assets.edge.release import Folder, ReleaseDamaged, SignatureInvalid, read_documents, verify_release
from milton_assets.edge.release.sshsig import fingerprint
from milton_assets.usecases.sharing import Pushed, pull_bundle, push_bundle
from milton_assets.vocabulary.errors import BadInput
from resources.oci_registry import OciFailed, OciReference, OciRepository
from tests.support.bundles import ingredients
from tests.support.own_oci_registry import PASSWORD, USER, OwnRegistry, docker_config, own_registry
from tests.support.shell import milton, told


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRegistry]:
    with own_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture
def signer(tmp_path: Path) -> str:
    return fingerprint(load_public_key(init_keys(tmp_path / "keys").public))


@pytest.fixture
def bundle(tmp_path: Path, signer: str) -> Bundle:
    return ingredients(tmp_path).bundle(tmp_path / "bundles", sign=default_signer(tmp_path / "keys"))


@pytest.fixture
def place(registry: OwnRegistry, tmp_path: Path) -> OciReference:
    """A repository that no other test uses."""
    name = hashlib.sha256(str(tmp_path).encode()).hexdigest()[:16]
    return OciReference.parse(f"oci://{registry.host}/models/{name}:v1")


@pytest.fixture
def pushed(bundle: Bundle, place: OciReference) -> Pushed:
    with OciRepository(place) as repository:
        return push_bundle(bundle.path, repository)


def pull(reference: OciReference, into: Path, trusted: set[str] | None = None) -> Path:
    with OciRepository(reference) as repository:
        return pull_bundle(repository, into, trusted=trusted)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_pulled_is_the_same_release_byte_for_byte(
    bundle: Bundle, pushed: Pushed, signer: str, tmp_path: Path
) -> None:
    back = pull(pushed.artefact, tmp_path / "in", {signer})
    assert back == tmp_path / "in" / bundle.path.name
    assert files_of(back) == files_of(bundle.path)
    assert verify_release(back, trusted={signer}).ok


def test_the_artefact_is_a_modelpack_whose_layers_are_the_files_themselves(
    bundle: Bundle, pushed: Pushed, registry: OwnRegistry
) -> None:
    at = f"http://{registry.host}/v2/{pushed.artefact.name}"
    answer = httpx.get(f"{at}/manifests/v1", headers={"Accept": IMAGE_MANIFEST_TYPE}, trust_env=False)
    manifest = answer.json()
    assert (answer.headers["Docker-Content-Digest"], manifest["artifactType"]) == (
        pushed.artefact.digest,
        ARTEFACT_TYPE,
    )
    found = {
        layer["annotations"][FILE_PATH]: httpx.get(f"{at}/blobs/{layer['digest']}", trust_env=False).content
        for layer in manifest["layers"]
    }
    assert found == files_of(bundle.path)
    (weights,) = (
        one for one in manifest["layers"] if one["mediaType"].startswith("application/vnd.cncf.model.weight.v1")
    )
    assert weights["annotations"][FILE_PATH].endswith(".gguf")
    config = httpx.get(f"{at}/blobs/{manifest['config']['digest']}", trust_env=False).json()
    assert set(config) == {"descriptor", "modelfs", "config"}
    assert config["modelfs"]["diffIds"] == [layer["digest"] for layer in manifest["layers"]]
    assert config["config"]["format"] == "gguf"


def test_equal_bundles_are_one_artefact(bundle: Bundle, pushed: Pushed) -> None:
    with OciRepository(pushed.artefact) as repository:
        again = push_bundle(bundle.path, repository)
    assert (again.artefact.digest, again.sent_bytes) == (pushed.artefact.digest, 0)


def test_a_damaged_bundle_is_not_pushed(bundle: Bundle, place: OciReference) -> None:
    weights = next(bundle.path.rglob("*.gguf"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x55")
    with OciRepository(place) as repository:
        with pytest.raises(OciFailed, match="digest"):
            push_bundle(bundle.path, repository)
        with pytest.raises(OciFailed, match="404"):
            repository.manifest(IMAGE_MANIFEST_TYPE, 1 << 20)


def test_a_key_that_is_not_trusted_is_known_before_weights_travel(pushed: Pushed, tmp_path: Path) -> None:
    with pytest.raises(SignatureInvalid):
        pull(pushed.artefact, tmp_path / "in", {"SHA256:somebody-else"})
    assert not (tmp_path / "in").exists() or not list((tmp_path / "in").iterdir())


def test_a_blob_that_changed_in_the_registry_is_found_and_nothing_is_left(
    pushed: Pushed, registry: OwnRegistry, bundle: Bundle, tmp_path: Path
) -> None:
    weights = next(bundle.path.rglob("*.gguf")).read_bytes()
    (stored,) = (path for path in registry.blob_files() if path.read_bytes() == weights)
    stored.write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    try:
        with pytest.raises(ReleaseDamaged, match="SHA-256"):
            pull(pushed.artefact, tmp_path / "in")
    finally:
        stored.write_bytes(weights)
    assert list((tmp_path / "in").iterdir()) == []


def another(change: Callable[[dict[str, Any]], None]) -> Callable[[OciReference], OciReference]:
    """Stores the artefact's manifest with a change, as somebody with access to the registry could; where it is."""

    def store(reference: OciReference) -> OciReference:
        with OciRepository(reference) as repository:
            _, raw = repository.manifest(IMAGE_MANIFEST_TYPE, 1 << 20)
            manifest = json.loads(raw)
            change(manifest)
            return reference.at(repository.put_manifest(json.dumps(manifest).encode(), IMAGE_MANIFEST_TYPE, None))

    return store


def _path(text: str) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        manifest["layers"][-1]["annotations"][FILE_PATH] = text

    return change


def _another_digest(manifest: dict[str, Any]) -> None:
    manifest["layers"][-1]["digest"] = manifest["layers"][0]["digest"]


def _another_file(manifest: dict[str, Any]) -> None:
    layer = manifest["layers"][0] | {"annotations": {FILE_PATH: "model/extra.gguf"}}
    manifest["layers"].append(layer)


def _without_manifest(manifest: dict[str, Any]) -> None:
    manifest["layers"] = [one for one in manifest["layers"] if one["annotations"][FILE_PATH] != "manifest.json"]


def _another_type(manifest: dict[str, Any]) -> None:
    manifest["artifactType"] = "application/vnd.example+json"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (_path("../../etc/cron.d/x"), "ModelPack"),
        (_path("/etc/passwd"), "ModelPack"),
        (_path("manifest.json"), "twice"),
        (_another_digest, "has another"),
        (_another_file, "has another 'model/extra.gguf'"),
        (_without_manifest, "manifest.json"),
        (_another_type, "artifactType"),
    ],
    ids=[
        "a path upwards",
        "a path from the root",
        "a file twice",
        "another blob",
        "a file more",
        "no manifest",
        "a type",
    ],
)
def test_an_artefact_that_is_not_the_signed_release_is_refused(
    change: Callable[[dict[str, Any]], None], found: str, pushed: Pushed, tmp_path: Path
) -> None:
    reference = another(change)(pushed.artefact)
    with pytest.raises(BadInput, match=found):
        pull(reference, tmp_path / "in")
    assert not (tmp_path / "in").exists() or not list((tmp_path / "in").iterdir())


@given(
    st.binary(max_size=400)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda value: json.dumps(value).encode())
)
def test_any_bytes_are_an_artefact_or_a_clear_error(raw: bytes) -> None:
    try:
        read_modelpack(raw, "oci://h/n:t")
    except BadInput:
        return
    pytest.fail("random bytes are no ModelPack")


def test_a_manifest_reads_back_as_it_was_written(bundle: Bundle) -> None:
    with Folder(bundle.path) as folder:
        packed = modelpack_of(read_documents(folder)).manifest
    assert read_modelpack(packed.to_bytes(), "here") == packed
    assert isinstance(packed, ModelPack)


@pytest.mark.parametrize(
    "text",
    [
        "oci://host",
        "host/name:v1",
        "oci://host/UPPER:v1",
        "oci://host/n@sha256:12",
        "oci://u:p@host/n",
        "oci://host/../n",
    ],
)
def test_what_is_no_reference_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadInput, match="oci://HOST/NAME:TAG"):
        OciReference.parse(text)


def test_nobody_there_is_a_clear_error_at_once(bundle: Bundle) -> None:
    with (
        OciRepository(OciReference.parse("oci://127.0.0.1:9/models/lamp:v1")) as repository,
        pytest.raises(OciFailed, match="gave no answer"),
    ):
        push_bundle(bundle.path, repository)


def test_a_registry_that_wants_a_password_gets_the_one_of_docker_login(bundle: Bundle, tmp_path: Path) -> None:
    with own_registry(tmp_path / "locked", locked=True) as locked:
        reference = f"oci://{locked.host}/models/lamp:v1"
        state = {"MILTON_STATE_DIR": tmp_path / "state", "HOME": tmp_path / "home"}
        refused = milton("bundle", "push", reference, bundle.path, **state)
        assert (refused.returncode, f"docker login {locked.host}" in refused.stderr) == (1, True), refused.stderr
        docker_config(tmp_path / "home", locked.host, USER, PASSWORD)
        sent = told("bundle", "push", reference, bundle.path, **state)
        assert sent["artefact"].startswith(reference)
        back = told("bundle", "pull", sent["artefact"], "--output", tmp_path / "in", "--any-signer", **state)
        assert files_of(Path(back["path"])) == files_of(bundle.path)
        assert PASSWORD not in refused.stderr + json.dumps([sent, back])
