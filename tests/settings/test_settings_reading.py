"""Settings come from milton.yaml, then the environment; what does not hold names its source and what to write."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from milton_assets.settings import Profile, Settings, load_settings, read_settings
from milton_assets.settings.leaves import leaves
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.registry import ArtefactKind
from milton_assets.vocabulary.slo import SLO


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A state folder that is there."""
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


def given(home: Path, text: str = "", **variables: str) -> Settings:
    """The settings with this milton.yaml and these variables."""
    if text:
        (home / "milton.yaml").write_text(text)
    return load_settings({"MILTON_STATE_DIR": str(home), **variables})


def test_nothing_needs_to_be_set(tmp_path):
    settings = load_settings({"HOME": str(tmp_path)})
    assert settings.state_dir == tmp_path / ".local/state/milton"
    assert settings.cache_dir == tmp_path / ".cache/milton"
    assert (settings.artifact, settings.server.which, settings.targets) == (ArtefactKind.GGUF, "llama.cpp", {})


def test_the_file_sets_and_a_variable_overrides_it(home):
    text = "profile: smoke\nserver:\n  slots: 4\n  threads: 2\n"
    settings = given(home, text, MILTON_SERVER_SLOTS="8")
    assert (settings.profile, settings.server.slots, settings.server.threads) == (Profile.SMOKE, 8, 2)


def test_a_variable_that_is_empty_is_not_set(home):
    assert given(home, "profile: smoke", MILTON_PROFILE="").profile is Profile.SMOKE


def test_a_key_without_a_value_is_not_set(home):
    settings = given(home, "judge:\nserver:\n  # slots: 4\nartifact:\n")
    assert (settings.judge, settings.server.slots, settings.artifact) == (None, None, ArtefactKind.GGUF)


def test_a_file_of_comments_alone_sets_nothing(home):
    assert given(home, "# profile: smoke\n") == given(home)


def test_settings_are_frozen(home):
    with pytest.raises(ValidationError, match="frozen"):
        given(home).policy = "seed"


def test_every_setting_has_a_variable_of_its_own_but_those_that_no_line_can_hold():
    variables = [leaf.variable for leaf in leaves()]
    named = [name for name in variables if name]
    assert len(named) == len(set(named))
    assert [leaf.name for leaf in leaves() if leaf.variable is None] == ["goldens", "queues"]


def test_relative_paths_in_the_file_count_from_its_folder(home):
    text = "policy: policies/ours.yaml\ntargets: {kit: devices/kit}\ngoldens: {reasoning: [cases.json]}\n"
    settings = given(home, text + "artefact_roots: [weights]\nserver: {binary: bin/llama-server}\n")
    assert settings.policy == str(home / "policies/ours.yaml")
    assert settings.targets["kit"].path == home / "devices/kit"
    assert settings.goldens["reasoning"][0].path == home / "cases.json"
    assert settings.artefact_roots == (home / "weights",)
    assert settings.server.binary == str(home / "bin/llama-server")


def test_a_target_is_a_directory_or_an_address_with_a_class(home):
    text = "device_classes: [local, pi5]\ntargets:\n  box: /srv/box\n  pi: {at: 'ssh://pi@kitchen', class: pi5}\n"
    targets = given(home, text).targets
    assert (targets["box"].path, targets["box"].device_class) == (Path("/srv/box"), "local")
    assert (targets["pi"].path, targets["pi"].at, targets["pi"].device_class) == (None, "ssh://pi@kitchen", "pi5")


def test_a_class_may_name_the_target_on_which_its_speed_is_measured(home):
    text = (
        "device_classes: {local: , pi5: {reference: pi}}\ntargets:\n  box: /srv/box\n  pi: {at: /srv/pi, class: pi5}\n"
    )
    settings = given(home, text)
    assert (list(settings.device_classes), settings.class_references) == (["local", "pi5"], {"pi5": "pi"})
    assert [settings.class_decided_for(name) for name in ("box", "pi")] == [None, "pi5"]


def test_a_class_may_say_in_which_waves_a_release_comes_to_it(home):
    settings = given(home, "device_classes: {local: {}, pi5: {rollout: {waves: [1, 10%, rest], at_once: 20}}}")
    assert settings.rollout_to("local").waves == ("1", "rest")
    assert (settings.rollout_to("pi5").waves, settings.rollout_to("pi5").at_once) == (("1", "10%", "rest"), 20)


def test_variables_hold_what_a_line_can(home):
    settings = given(
        home,
        MILTON_SLO="ttft_ms=200, tpot_ms=50",
        MILTON_TARGETS="kit=/srv/kit,pi=ssh://pi@kitchen",
        MILTON_ARTEFACT_ROOTS="/a:/b",
        MILTON_SERVER_EXTRA_ARGS="--flash-attn on --override-kv 'a b'",
        MILTON_SERVER_ENV="CUDA_VISIBLE_DEVICES=1",
        MILTON_JUDGE_URL="http://judge:1",
        MILTON_JUDGE_MODEL="j",
        MILTON_VLLM_PYTHON="/venv/bin/python",
    )
    assert settings.slo == SLO(ttft_ms=200, tpot_ms=50)
    assert [target.at for target in settings.targets.values()] == ["/srv/kit", "ssh://pi@kitchen"]
    assert settings.artefact_roots == (Path("/a"), Path("/b"))
    assert settings.server.extra_args == ("--flash-attn", "on", "--override-kv", "a b")
    assert settings.server.env == {"CUDA_VISIBLE_DEVICES": "1"}
    assert settings.judge.model == "j"
    assert settings.server.vllm_python == Path("/venv/bin/python")


def test_the_edge_is_served_as_was_measured_unless_it_is_told_otherwise(home):
    text = "server: {binary: /opt/llama-server, gpu_layers: 99, slots: 4}\nedge_server: {slots: 1}\n"
    (home / "milton.yaml").write_text(text)
    reading = read_settings({"MILTON_STATE_DIR": str(home)})
    edge = reading.settings.edge_server
    assert (edge.binary, edge.gpu_layers, edge.slots) == ("/opt/llama-server", 99, 1)
    assert str(reading.origin(("edge_server", "gpu_layers"))) == "as server.gpu_layers"
    assert str(reading.origin(("edge_server", "slots"))) == "milton.yaml line 2"


def test_an_edge_of_another_program_takes_nothing_from_the_server(home):
    settings = given(home, "server: {which: vllm, slots: 32, extra_args: [--enforce-eager]}")
    assert (settings.edge_server.slots, settings.edge_server.extra_args) == (None, ())


HOSTILE = {
    "a word that is none": ("profile: quick", "line 1: profile is 'quick'", "'full' or 'smoke'"),
    "a number out of range": ("server:\n  slots: 0", "line 2: server.slots is '0'", "greater than or equal to 1"),
    "an unknown key": ("polcy: seed", "line 1: there is no setting 'polcy'", "expected: policy"),
    "an unknown key below": ("server:\n  slot: 2", "line 2: there is no setting 'server.slot'", "server.slots"),
    "a group that is no mapping": ("server: vllm", "server is 'vllm'", "a mapping with any of which"),
    "a key given twice": ("policy: a\npolicy: b", "line 2: policy is given twice", "each key once"),
    "no mapping": ("- policy", "holds no mapping", "settings"),
    "an alias": ("a: &a [x]\nb: *a", "uses a YAML alias", "written out"),
    "no YAML": ("policy: [", "line 1", "valid YAML"),
    "nesting without end": ("policy: " + "[" * 5000 + "]" * 5000, "is nested deeper than 100 levels", "a few levels"),
    "a tag": ("policy: !!python/name:os.system x", "could not determine a constructor", "valid YAML"),
    "its own folder": ("state_dir: /x", "line 1: state_dir is set in the file", "MILTON_STATE_DIR"),
    "layers without a GPU": ("server: {gpu_layers: 99}", "server.gpu_layers is 99", "server.binary"),
    "a class that is not declared": ("targets: {pi: {at: /pi, class: pi5}}", "'pi5'", "device_classes"),
    "a reference of another class": (
        "device_classes: {local: {}, pi5: {reference: box}}\ntargets: {box: /srv/box}",
        "device_classes.pi5 has the reference 'box'",
        "a target of that class",
    ),
    "a misspelt key of a target": ("targets: {pi: {at: /pi, clas: pi5}}", "targets.pi.clas", "class"),
    "a target's name that is no slug": ("targets: {a/b: /pi}", "targets.a/b is no name", "a slug"),
    "a golden set without a path": ("goldens: {reasoning: [{private: true}]}", "path is missing", "path"),
    "half a judge": ("judge: {url: 'http://j:1'}", "judge.model is missing", "judge.model"),
    "no address": ("judge: {url: judge, model: j}", "judge.url is 'judge'", "http://HOST:PORT"),
    "an unknown server": ("server: {which: ollama}", "server.which is 'ollama'", "llama.cpp, vllm, or an address"),
}


@pytest.mark.parametrize(("text", "found", "expected"), HOSTILE.values(), ids=HOSTILE)
def test_what_does_not_hold_in_the_file_names_line_and_what_to_write(home, text, found, expected):
    with pytest.raises(BadInput) as refused:
        given(home, text)
    assert str(home / "milton.yaml") in refused.value.problem
    assert found in refused.value.problem
    assert expected in str(refused.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MILTON_PROFILE", "quick"),
        ("MILTON_ARTIFACT", "onnx"),
        ("MILTON_STATE_DIR", "relative/path"),
        ("MILTON_DRY_RUN", "perhaps"),
        ("MILTON_BUNDLE_EXPIRES_DAYS", "soon"),
        ("MILTON_BUNDLE_EXPIRES_DAYS", "-1"),
        ("MILTON_BUNDLE_EXPIRES_DAYS", "nan"),
        ("MILTON_TARGETS", "pi=relative"),
        ("MILTON_TARGETS", "pi"),
        ("MILTON_SLO", "taste_ms=3"),
        ("MILTON_SLO", "ttft_ms"),
        ("MILTON_CACHE_DIR", "relative"),
        ("MILTON_POLICY", "./ours.yaml"),
        ("MILTON_SERVER", "ollama"),
        ("MILTON_SERVER_SLOTS", "many"),
        ("MILTON_SERVER_EXTRA_ARGS", "'unclosed"),
        ("MILTON_LOG_LEVEL", "loud"),
    ],
)
def test_what_does_not_hold_in_a_variable_names_it(home, variable, value):
    with pytest.raises(BadInput, match=variable) as refused:
        given(home, **{variable: value})
    assert refused.value.expected


def test_every_problem_is_told_at_once(home):
    with pytest.raises(BadInput) as refused:
        given(home, "profile: quick\nserver: {slots: 0}", MILTON_ARTIFACT="onnx")
    for source in ("line 1", "line 2", "MILTON_ARTIFACT"):
        assert source in refused.value.problem


def test_an_address_with_a_password_is_told_without_it(home):
    with pytest.raises(BadInput) as refused:
        given(home, MILTON_SERVER="ftp://me:secret@host")
    assert "secret" not in str(refused.value)


def test_a_variable_that_no_setting_has_is_told_with_the_nearest_name(home):
    reading = read_settings({"MILTON_STATE_DIR": str(home), "MILTON_POLICEY": "seed"})
    assert reading.notes == ("no setting is called MILTON_POLICEY; did you mean MILTON_POLICY?",)


def test_a_variable_that_holds_a_key_is_no_unknown_one(home):
    environment = {"MILTON_STATE_DIR": str(home), "MILTON_API_KEY": "sk-1", "MILTON_SERVER_KEY_ENV": "MILTON_API_KEY"}
    assert read_settings(environment).notes == ()


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.write_bytes(b"\xff")], ids=["a folder", "no UTF-8"])
def test_a_file_that_is_none_is_refused(home, make):
    make(home / "milton.yaml")
    with pytest.raises(BadInput, match=r"milton\.yaml"):
        given(home)


def test_a_file_without_end_is_refused(home):
    (home / "milton.yaml").write_text("# " + "x" * 300_000)
    with pytest.raises(BadInput, match="larger than"):
        given(home)
