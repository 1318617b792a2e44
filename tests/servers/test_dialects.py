"""What each kind of server tells of itself, by its own pages, over a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milton_assets.vocabulary.chat import Message, Sampling
from milton_assets.vocabulary.digest import sha256_bytes, sha256_json
from milton_assets.vocabulary.errors import ServerFailed
from resources.servers import dialects
from resources.servers.attached import AttachedServer
from resources.servers.client import OpenAIChatModel
from resources.servers.dialect import known_dialects
from resources.servers.identity import verified_serving
from tests.support.scripted_server import Body, ScriptedServer, Silence, Status, answer, scripted_server

HERE = Path("/models/v1/model-q4_0.gguf")
TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"


def listed(owned_by: str, *ids: str, **more: Any) -> dict[str, Any]:
    return {"object": "list", "data": [{"id": name, "owned_by": owned_by, **more} for name in ids]}


@contextmanager
def server_of(pages: dict[str, Any], posts: dict[str, Any] | None = None) -> Iterator[ScriptedServer]:
    with scripted_server(answer("Paris"), pages=pages, posts=posts) as server:
        yield server


def test_there_is_a_module_for_each_server_that_the_documentation_names() -> None:
    assert {dialect.name for dialect in known_dialects().values()} == {
        "llama-swap",
        "llama.cpp",
        "ollama",
        "sglang",
        "tensorrt-llm",
        "vllm",
    }
    page = (Path(dialects.__file__).parents[3] / "docs" / "servers.md").read_text()
    for dialect in known_dialects().values():
        assert f"`{dialect.name}`" in page


# --------------------------------------------------------------------------------------------------- llama.cpp


def test_llama_cpp_tells_path_quantisation_template_context_and_slots() -> None:
    props = {
        "build_info": "b7000-abc",
        "model_path": str(HERE),
        "model_ftype": "Q4_0",
        "chat_template": TEMPLATE,
        "total_slots": 4,
        "default_generation_settings": {"n_ctx": 2048},
    }
    pages = {"/v1/models": listed("llamacpp", "v1", aliases=["v1"]), "/props": props}
    with server_of(pages) as server, AttachedServer(server.base_url).serve(HERE, "v1") as served:
        fingerprint = served.fingerprint
    assert (fingerprint.name, fingerprint.build, fingerprint.launched_by_us) == ("llama.cpp", "b7000-abc", False)
    assert (fingerprint.model_path, fingerprint.quantization) == (str(HERE), "Q4_0")
    assert fingerprint.chat_template_sha256 == sha256_bytes(TEMPLATE.encode())
    assert (fingerprint.context_tokens, fingerprint.slots, served.endpoint.slots) == (2048, 4, 4)


def test_llama_cpp_with_another_file_is_refused_with_both_paths() -> None:
    pages = {"/v1/models": listed("llamacpp", "v1"), "/props": {"model_path": "/models/v0/model-q4_0.gguf"}}
    with (
        server_of(pages) as server,
        pytest.raises(ServerFailed) as caught,
        AttachedServer(server.base_url).serve(HERE, "v1"),
    ):
        pytest.fail("it must not begin")
    assert "/models/v0/model-q4_0.gguf" in str(caught.value)
    assert str(HERE) in str(caught.value)


def test_a_link_to_the_artefact_is_the_artefact(tmp_path: Path) -> None:
    (tmp_path / "real.gguf").write_bytes(b"GGUF")
    (tmp_path / "link.gguf").symlink_to("real.gguf")
    pages = {"/v1/models": listed("llamacpp", "v1"), "/props": {"model_path": str(tmp_path / "link.gguf")}}
    with server_of(pages) as server, AttachedServer(server.base_url).serve(tmp_path / "real.gguf", "v1") as served:
        assert served.endpoint.model == "v1"


def test_a_path_that_is_mounted_elsewhere_may_be_named() -> None:
    pages = {"/v1/models": listed("llamacpp", "v1"), "/props": {"model_path": "/mnt/x.gguf"}}
    with server_of(pages) as server:
        attached = AttachedServer(server.base_url, path_there=Path("/mnt/x.gguf"))
        with attached.serve(HERE, "v1") as served:
            assert served.fingerprint.model_path == "/mnt/x.gguf"


# -------------------------------------------------------------------------------------------------------- vLLM


def test_vllm_tells_its_version_and_the_root_it_loaded() -> None:
    pages = {
        "/v1/models": listed("vllm", "v1", root="/models/hf", max_model_len=2048),
        "/version": {"version": "0.32.0"},
    }
    with server_of(pages) as server, AttachedServer(server.base_url, slots=8).serve(Path("/models/hf"), "v1") as served:
        fingerprint = served.fingerprint
    assert (fingerprint.name, fingerprint.build, fingerprint.context_tokens) == ("vllm", "0.32.0", 2048)
    assert (fingerprint.quantization, fingerprint.chat_template_sha256, fingerprint.slots) == (None, None, None)
    assert served.endpoint.slots == 8


def test_vllm_with_another_root_is_refused() -> None:
    with (
        server_of({"/v1/models": listed("vllm", "v1", root="/models/other")}) as server,
        pytest.raises(ServerFailed, match="/models/other"),
        AttachedServer(server.base_url).serve(Path("/models/hf"), "v1"),
    ):
        pytest.fail("it must not begin")


def test_a_root_that_is_a_name_on_a_hub_says_nothing_about_paths() -> None:
    pages = {"/v1/models": listed("vllm", "v1", root="HuggingFaceTB/SmolLM2-135M-Instruct")}
    with server_of(pages) as server, AttachedServer(server.base_url).serve(Path("/models/hf"), "v1") as served:
        assert served.fingerprint.model_path == "HuggingFaceTB/SmolLM2-135M-Instruct"


# ------------------------------------------------------------------------------------------- servers that switch

PROPS = {"model_path": str(HERE), "model_ftype": "Q4_0", "default_generation_settings": {"n_ctx": 4096}}
SWITCHING = {
    "llama.cpp": ({"owned_by": "llamacpp", "status": {"value": "unloaded"}}, "/props?model=org%2Fv1"),
    "llama-swap": ({"owned_by": "llama-swap"}, "/upstream/org%2Fv1/props"),
}


@pytest.mark.parametrize("name", SWITCHING)
def test_a_server_that_switches_loads_the_model_before_it_is_asked_about_it(name: str) -> None:
    line, page = SWITCHING[name]
    loaded: list[str] = []

    def load(body: dict[str, Any]) -> Any:
        loaded.append(body["model"])
        return answer("Paris")

    pages = {
        "/v1/models": {"data": [line | {"id": "org/v0"}, line | {"id": "org/v1"}]},
        "/props": {"role": "router", "model_path": "none"},
        page: lambda: Body(PROPS) if loaded == ["org/v1"] else Status(503),
    }
    with (
        scripted_server(load, pages=pages) as server,
        AttachedServer(server.base_url).serve(HERE, "org/v1") as served,
    ):
        fingerprint = served.fingerprint
    assert loaded == ["org/v1"]
    assert (fingerprint.name, fingerprint.model_path, fingerprint.context_tokens) == (name, str(HERE), 4096)


def test_a_server_that_does_not_load_what_it_is_asked_for_is_an_error_with_its_words() -> None:
    pages = {"/v1/models": listed("llamacpp", "v1", status={"value": "unloaded"})}
    with (
        scripted_server(Status(400, "model is not loaded"), pages=pages) as server,
        pytest.raises(ServerFailed, match="model is not loaded"),
        AttachedServer(server.base_url).attach("v1"),
    ):
        pytest.fail("it must not begin")


# ------------------------------------------------------------------------------------------------------ Ollama

OLLAMA_SHOW = {
    "details": {"quantization_level": "Q4_0"},
    "template": TEMPLATE,
    "modelfile": f"# Modelfile\nFROM {HERE}\nTEMPLATE x",
    "model_info": {"general.architecture": "llama", "llama.context_length": 8192},
}
OLLAMA_PAGES: dict[str, Any] = {
    "/health": Status(404),
    "/v1/models": listed("library", "smollm2:135m", "smollm2:latest"),
    "/api/version": {"version": "0.40.12"},
}


def test_ollama_is_asked_by_its_own_api_and_counts_latest_as_no_tag() -> None:
    pages = OLLAMA_PAGES | {"/api/ps": {"models": [{"model": "smollm2:latest", "context_length": 4096}]}}
    shown: list[Any] = []

    def show(body: dict[str, Any]) -> Body:
        shown.append(body)
        return Body(OLLAMA_SHOW)

    with (
        server_of(pages, {"/api/show": show}) as server,
        AttachedServer(server.base_url).serve(HERE, "smollm2") as served,
    ):
        fingerprint = served.fingerprint
    assert shown == [{"model": "smollm2:latest"}]
    assert served.endpoint.model == "smollm2:latest"
    assert (fingerprint.name, fingerprint.build) == ("ollama", "0.40.12")
    assert (fingerprint.quantization, fingerprint.model_path) == ("Q4_0", str(HERE))
    assert fingerprint.context_tokens == 4096


def test_ollama_names_the_weights_by_their_digest_which_must_be_the_registered_one(tmp_path: Path) -> None:
    weights = tmp_path / "model.gguf"
    weights.write_bytes(b"GGUF")
    digest = sha256_bytes(b"GGUF")
    show = OLLAMA_SHOW | {"modelfile": f"# Modelfile\nFROM /root/.ollama/models/blobs/sha256-{digest}\nTEMPLATE x"}
    with server_of(OLLAMA_PAGES, {"/api/show": Body(show)}) as server:
        attached = AttachedServer(server.base_url)
        with verified_serving(attached, weights, "smollm2", digest) as served:
            assert served.fingerprint.identity == "sha256_told"
        weights.write_bytes(b"GGUF of another version")
        with (
            pytest.raises(ServerFailed, match="has loaded"),
            verified_serving(attached, weights, "smollm2", sha256_bytes(weights.read_bytes())),
        ):
            pytest.fail("it must not begin")


def test_ollama_that_has_not_loaded_the_model_tells_what_it_was_trained_for() -> None:
    pages = OLLAMA_PAGES | {"/api/ps": {"models": [{"model": "other:latest", "context_length": 4096}, "odd"]}}
    with (
        server_of(pages, {"/api/show": Body(OLLAMA_SHOW)}) as server,
        AttachedServer(server.base_url).attach("smollm2:135m") as served,
    ):
        assert served.fingerprint.context_tokens == 8192


def test_ollama_tells_another_tag_from_the_one_asked_for() -> None:
    with (
        server_of(OLLAMA_PAGES, {"/api/show": Body(OLLAMA_SHOW)}) as server,
        pytest.raises(ServerFailed, match=r"smollm2:135m.*smollm2:1.7b"),
        AttachedServer(server.base_url).attach("smollm2:1.7b"),
    ):
        pytest.fail("it must not begin")


def test_an_old_ollama_without_details_is_still_attached_to() -> None:
    with (
        server_of(OLLAMA_PAGES, {"/api/show": Body({"modelfile": "TEMPLATE x"})}) as server,
        AttachedServer(server.base_url).attach("smollm2:135m") as served,
    ):
        fingerprint = served.fingerprint
    assert (fingerprint.model_path, fingerprint.quantization, fingerprint.context_tokens) == (None, None, None)


# ------------------------------------------------------------------------------------------------------ SGLang


@pytest.mark.parametrize(
    ("of_model", "of_server"),
    [("/model_info", "/server_info"), ("/get_model_info", "/get_server_info")],
    ids=["names of today", "names of before"],
)
def test_sglang_tells_the_path_apart_from_the_served_name(of_model: str, of_server: str) -> None:
    pages = {
        "/v1/models": listed("sglang", "v1", root="v1", max_model_len=8192),
        of_model: {"model_path": "/models/hf", "is_generation": True},
        of_server: {"version": "0.5.4", "quantization": "fp8", "max_running_requests": 32},
    }
    with server_of(pages) as server, AttachedServer(server.base_url).serve(Path("/models/hf"), "v1") as served:
        fingerprint = served.fingerprint
    assert (fingerprint.name, fingerprint.build, fingerprint.quantization) == ("sglang", "0.5.4", "fp8")
    assert (fingerprint.model_path, fingerprint.context_tokens, fingerprint.slots) == ("/models/hf", 8192, 32)


def test_sglang_with_another_path_is_refused_though_the_name_agrees() -> None:
    pages = {"/v1/models": listed("sglang", "v1", root="v1"), "/model_info": {"model_path": "/models/incumbent"}}
    with (
        server_of(pages) as server,
        pytest.raises(ServerFailed, match="/models/incumbent"),
        AttachedServer(server.base_url).serve(Path("/models/hf"), "v1"),
    ):
        pytest.fail("it must not begin")


# ------------------------------------------------------------------------------------------------- TensorRT-LLM


def test_tensorrt_llm_is_known_by_the_folders_last_name() -> None:
    pages = {
        "/health": Body(b""),
        "/v1/models": listed("tensorrt_llm", "v1-engine"),
        "/version": {"version": "1.1.0"},
    }
    with server_of(pages) as server, AttachedServer(server.base_url).attach("/models/v1-engine") as served:
        assert (served.fingerprint.name, served.fingerprint.build) == ("tensorrt-llm", "1.1.0")
        assert served.endpoint.model == "v1-engine"
        with OpenAIChatModel(served.endpoint) as model:
            model.complete([Message("user", "Hello")], Sampling())
    assert server.requests[-1]["model"] == "v1-engine"


# ------------------------------------------------------------------------------------------------ any and none


def test_a_server_we_have_no_module_for_is_taken_at_its_list() -> None:
    with (
        server_of({"/v1/models": listed("somebody", "v1")}) as server,
        AttachedServer(f"{server.base_url}/v1/").attach("v1") as served,
    ):
        assert served.fingerprint.name == "openai-compatible"
        assert served.endpoint.base_url == server.base_url


def test_another_name_is_refused_with_the_names_there_are() -> None:
    with (
        server_of({"/v1/models": listed("vllm", *(f"m{i}" for i in range(14)))}) as server,
        pytest.raises(ServerFailed, match=r"'m9'\] and 4 more.*expected: a model named 'v1'"),
        AttachedServer(server.base_url).serve(HERE, "v1"),
    ):
        pytest.fail("it must not begin")


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (Status(404, "File Not Found"), "/v1/models answered 404: .*File Not Found"),
        (Body(b"", 301, headers={"Location": "https://models.example/"}), "301 .it leads to https://models.example/"),
        (Body("<html>"), "no list of models"),
        (Body([]), "no list of models"),
        (Body({"data": [{"name": "v1"}]}), "no list of models"),
        (Status(401), "API key"),
    ],
    ids=["no such page", "moved", "not JSON", "a list", "models without id", "no key"],
)
def test_what_is_no_openai_compatible_server_is_said_so(page: Any, message: str) -> None:
    with (
        server_of({"/v1/models": page}) as server,
        pytest.raises(ServerFailed, match=message),
        AttachedServer(server.base_url).attach("v1"),
    ):
        pytest.fail("it must not begin")


@pytest.mark.parametrize(
    "odd",
    [None, {"name": "v2"}, {"id": 7}, "v2"],
    ids=["null", "no id", "a number for an id", "a text"],
)
def test_an_odd_line_does_not_hide_a_good_one(odd: Any) -> None:
    page = Body({"data": [odd, {"id": "v1", "max_model_len": 8192.0}]})
    with server_of({"/v1/models": page}) as server, AttachedServer(server.base_url).attach("v1") as served:
        assert served.endpoint.model == "v1"


def test_odd_lines_are_told_when_the_model_is_not_among_the_others() -> None:
    page = Body({"data": [{"id": "v2"}, {"id": 7}]})
    with (
        server_of({"/v1/models": page}) as server,
        pytest.raises(ServerFailed, match=r"serves \['v2'\]; 1 of its lines do not hold, first: data.1.id"),
        AttachedServer(server.base_url).attach("v1"),
    ):
        pytest.fail("it must not begin")


def test_a_server_that_lists_nothing_is_said_to_serve_nothing() -> None:
    with (
        server_of({"/v1/models": Body({"data": None})}) as server,
        pytest.raises(ServerFailed, match=r"serves \[\]"),
        AttachedServer(server.base_url).attach("v1"),
    ):
        pytest.fail("it must not begin")


def test_a_server_that_is_loading_its_model_is_waited_for() -> None:
    listings = iter([Status(503, "Loading model"), Body(listed("somebody", "v1"))])
    with (
        server_of({"/v1/models": lambda: next(listings)}) as server,
        AttachedServer(server.base_url).attach("v1") as found,
    ):
        assert found.endpoint.model == "v1"


def test_a_server_that_never_finishes_loading_is_given_up_with_its_words() -> None:
    with (
        server_of({"/v1/models": Status(503, "Loading model")}) as server,
        pytest.raises(ServerFailed, match=r"answered 503: .*Loading model"),
        AttachedServer(server.base_url, load_s=0.7).attach("v1"),
    ):
        pytest.fail("it must not begin")


def test_the_key_opens_the_pages_too() -> None:
    with server_of({}) as server, AttachedServer(server.base_url, api_key="sk-secret").attach("scripted") as served:
        assert served.endpoint.api_key == "sk-secret"
        assert "sk-secret" not in repr(served) + repr(AttachedServer("http://x", api_key="sk-secret"))
    assert all(exchange.headers["Authorization"] == "Bearer sk-secret" for exchange in server.exchanges)


def test_nobody_there_is_a_clear_error() -> None:
    with (
        pytest.raises(ServerFailed, match=r"gave no answer.*check the address"),
        AttachedServer("http://127.0.0.1:9").attach("v1"),
    ):
        pytest.fail("it must not begin")


def test_values_of_the_wrong_type_are_absent() -> None:
    props = {"build_info": 7, "model_path": "", "total_slots": True, "default_generation_settings": []}
    with (
        server_of({"/v1/models": listed("llamacpp", "v1"), "/props": props}) as server,
        AttachedServer(server.base_url).attach("v1") as served,
    ):
        fingerprint = served.fingerprint
    assert (fingerprint.build, fingerprint.model_path, fingerprint.context_tokens) == (None, None, None)
    assert (fingerprint.slots, served.endpoint.slots) == (None, 1)


def test_a_page_that_never_comes_ends_the_probe() -> None:
    with (
        server_of({"/v1/models": Silence()}) as server,
        pytest.raises(ServerFailed, match="ReadTimeout"),
        AttachedServer(server.base_url, timeout_s=0.2).attach("v1"),
    ):
        pytest.fail("it must not begin")


# -------------------------------------------------------------------------------------------------- hostile pages

KEYS = [
    "id", "root", "data", "aliases", "owned_by", "max_model_len", "model_path", "model_ftype", "chat_template",
    "build_info", "total_slots", "n_ctx", "default_generation_settings", "version", "details", "quantization_level",
    "template", "modelfile", "model_info", "general.architecture", "models", "model", "context_length",
]  # fmt: skip
TEXT = st.text(max_size=20) | st.sampled_from(["v1", "FROM", "FROM \n", "/models/v1", "/models/\0", "\ud800", "llama"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=25,
)
PAGES = ["/props", "/version", "/api/version", "/api/ps", "/model_info", "/server_info"]


@pytest.mark.parametrize("owned_by", [*known_dialects(), "somebody", None])
def test_whatever_the_pages_hold_it_is_attached_to_or_a_clear_error(owned_by: str | None) -> None:
    page: list[Any] = [None]
    listing: list[Any] = [None]
    pages = dict.fromkeys(PAGES, lambda: Body(page[0])) | {"/v1/models": lambda: Body(listing[0])}
    with scripted_server(pages=pages, posts={"/api/show": lambda _: Body(page[0])}) as server:

        @settings(max_examples=30, deadline=None)
        @given(JSON, st.dictionaries(st.sampled_from(KEYS), JSON, max_size=3))
        def check(content: Any, more: dict[str, Any]) -> None:
            page[0] = content
            listing[0] = {"data": [{"id": "v1", "owned_by": owned_by} | more]}
            try:
                with AttachedServer(server.base_url).serve(HERE, "v1") as served:
                    assert served.endpoint.slots >= 1
                    assert sha256_json(served.fingerprint.model_dump(mode="json"))
            except ServerFailed:
                pass

        check()
