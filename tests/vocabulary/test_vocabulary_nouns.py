"""The smaller nouns: errors, the state folder, endpoints, edge targets, fingerprints, calls, progress."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from milton_assets.vocabulary.chat import CallErrorKind, ModelCallFailed, Sampling
from milton_assets.vocabulary.edge_target import EdgeTarget
from milton_assets.vocabulary.errors import BadInput, EvidenceMismatch, MiltonError, ServerFailed
from milton_assets.vocabulary.fingerprint import (
    Fingerprint,
    GpuFingerprint,
    HostFingerprint,
    Offload,
    ServerFingerprint,
)
from milton_assets.vocabulary.progress import Progress, silent
from milton_assets.vocabulary.server import Endpoint
from milton_assets.vocabulary.state import StateDir

# Errors


def test_an_error_says_what_was_found_expected_and_to_do() -> None:
    error = BadInput("found a.", expected="b.", remedy="do c.")
    assert str(error) == "found a. expected: b. next: do c."
    assert str(BadInput("found a")) == "found a."
    assert str(BadInput("found a", remedy="do c")) == "found a. next: do c."


@pytest.mark.parametrize("kind", [MiltonError, BadInput, EvidenceMismatch, ServerFailed])
@given(problem=st.text(), expected=st.none() | st.text(), remedy=st.none() | st.text())
def test_an_error_crosses_processes_whole(
    kind: type[MiltonError], problem: str, expected: str | None, remedy: str | None
) -> None:
    error = kind(problem, expected=expected, remedy=remedy)
    for back in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(back) is kind
        assert (str(back), back.problem, back.expected, back.remedy) == (str(error), problem, expected, remedy)


def test_a_failed_call_keeps_its_kind_across_processes() -> None:
    error = ModelCallFailed(CallErrorKind.TIMEOUT, "no token in 5 s")
    back = pickle.loads(pickle.dumps(error))
    assert (back.kind, str(back)) == (CallErrorKind.TIMEOUT, "timeout: no token in 5 s.")


# The state folder


@pytest.mark.parametrize(
    ("environment", "root"),
    [
        ({"MILTON_STATE_DIR": "/s", "XDG_STATE_HOME": "/x", "HOME": "/h"}, "/s"),
        ({"MILTON_STATE_DIR": "", "XDG_STATE_HOME": "/x", "HOME": "/h"}, "/x/milton"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/h"}, "/h/.local/state/milton"),
        ({"HOME": "/h"}, "/h/.local/state/milton"),
        ({}, str(Path.home() / ".local/state/milton")),
    ],
)
def test_state_lies_where_the_environment_says(environment: dict[str, str], root: str) -> None:
    assert StateDir.from_environment(environment).root == Path(root)


def test_a_relative_state_folder_is_refused() -> None:
    with pytest.raises(BadInput, match="MILTON_STATE_DIR is 's'"):
        StateDir.from_environment({"MILTON_STATE_DIR": "s"})


def test_every_part_has_a_place_of_its_own_below_the_root() -> None:
    state = StateDir(Path("/s"))
    names = [name for name, kind in vars(StateDir).items() if isinstance(kind, property)]
    places = {name: getattr(state, name) for name in names}
    assert len(set(places.values())) == len(places)
    assert all(state.root in place.parents for place in places.values())
    assert {
        "registry": state.root / "models/registry.json",
        "quantized": state.root / "models/quantized",
        "distilled": state.root / "models/distilled",
        "benchmarks": state.root / "benchmarks",
        "runs": state.root / "benchmarks/runs",
        "bundles": state.root / "bundles",
        "deployments": state.root / "deployments",
        "deployment_history": state.root / "deployment_history",
        "dagster": state.root / "dagster",
        "cache": state.root / "cache",
        "keys": state.root / "keys",
    }.items() <= places.items()


# Endpoints and targets


@pytest.mark.parametrize("address", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"])
def test_an_endpoints_address_is_kept_without_slash_and_v1(address: str) -> None:
    endpoint = Endpoint(address, "m")
    assert (endpoint.base_url, endpoint.v1) == ("http://h:1", "http://h:1/v1")


@pytest.mark.parametrize("address", ["", "h:1", "ftp://h", "http://", "//h:1"])
def test_what_is_no_server_address_is_refused(address: str) -> None:
    with pytest.raises(BadInput, match="no server address"):
        Endpoint(address, "m")


def test_an_endpoint_works_on_one_request_at_least() -> None:
    with pytest.raises(BadInput, match="0 slots"):
        Endpoint("http://h", "m", slots=0)


def test_an_endpoints_key_is_not_shown() -> None:
    assert "secret" not in repr(Endpoint("http://h", "m", api_key="secret"))


def test_a_target_has_a_slug_and_an_absolute_path() -> None:
    assert EdgeTarget("edge-1", Path("/srv/edge")).history_file is None
    with pytest.raises(BadInput, match="is not a slug"):
        EdgeTarget("../edge", Path("/srv/edge"))
    with pytest.raises(BadInput, match="is relative"):
        EdgeTarget("edge-1", Path("srv/edge"))


# Fingerprints


def fingerprint(**server: object) -> Fingerprint:
    host = HostFingerprint(cpu_model="cpu", physical_cores=2, logical_cores=4, ram_bytes=8, kernel="6.1")
    gpu = GpuFingerprint(name="gpu", memory_bytes=1, driver="1.0", power_limit_w=300.0)
    fields = {"name": "llama.cpp", "flags": ("-t", "2"), "model_path": "/m", "quantization": "Q4_0", **server}
    return Fingerprint(host=host, gpus=(gpu,), server=ServerFingerprint(**fields))


def test_equal_environments_are_comparable_and_have_one_digest() -> None:
    assert fingerprint().comparable_with(fingerprint()) == []
    assert fingerprint().digest() == fingerprint().digest()


def test_what_belongs_to_the_model_may_differ() -> None:
    other = fingerprint(model_path="/n", quantization="Q8_0", chat_template_sha256="x")
    assert fingerprint().comparable_with(other) == []
    assert fingerprint().digest() != other.digest()


def test_every_other_difference_is_named() -> None:
    other = fingerprint(flags=("-t", "4"), slots=2).model_copy(update={"gpus": ()})
    other = other.model_copy(update={"host": other.host.model_copy(update={"kernel": "6.2"})})
    differences = fingerprint().comparable_with(other)
    assert [difference.split(":")[0] for difference in differences] == [
        "host.kernel",
        "gpus",
        "server.flags",
        "server.slots",
    ]
    assert "'6.1' against '6.2'" in differences[0]


def offload(layers: int, of_layers: int = 31, gpu: str = "CUDA0: A") -> Offload:
    return Offload(layers=layers, of_layers=of_layers, gpus=(gpu,), memory_bytes=of_layers << 20)


def test_how_many_layers_a_model_has_on_a_gpu_may_differ() -> None:
    one, other = fingerprint(offload=offload(31, 31)), fingerprint(offload=offload(25, 25))
    assert one.comparable_with(other) == []
    assert one.environment_digest() == other.environment_digest()


@pytest.mark.parametrize(
    "told", [None, offload(0), offload(7), offload(31, gpu="CUDA0: B")], ids=["CPU build", "none", "some", "other GPU"]
)
def test_a_model_on_a_gpu_is_not_compared_with_one_that_is_not_all_there(told: Offload | None) -> None:
    on_gpu, other = fingerprint(offload=offload(31)), fingerprint(offload=told)
    (difference,) = on_gpu.comparable_with(other)
    assert difference.startswith("server.offload: 'all layers on GPUs; CUDA0: A used' against ")
    assert on_gpu.environment_digest() != other.environment_digest()


def test_no_more_layers_are_offloaded_than_there_are() -> None:
    with pytest.raises(ValidationError, match="32 layers of 31"):
        offload(32)


def test_a_server_against_none_is_a_difference() -> None:
    alone = fingerprint().model_copy(update={"server": None})
    assert len(fingerprint().comparable_with(alone)) == 1
    assert alone.comparable_with(alone) == []


def test_machines_that_are_unknown_for_different_reasons_are_a_difference() -> None:
    one, two = (
        fingerprint().model_copy(update={"host": None, "gpus": (), "host_absent_because": f"it runs on {name}"})
        for name in ("a", "b")
    )
    assert one.comparable_with(one) == []
    assert [difference.split(":")[0] for difference in one.comparable_with(two)] == ["host_absent_because"]


# Plain values


def test_sampling_is_greedy_and_seeded_unless_said_otherwise() -> None:
    assert (Sampling().temperature, Sampling().seed) == (0.0, 0)


def test_a_silent_listener_takes_any_step() -> None:
    assert silent(Progress("copy", 1, 2)) is None
