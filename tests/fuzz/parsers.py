"""The parsers of foreign bytes, each with valid input to start from and the only errors that it may raise.

What belongs here: one `Parser` each. What does not: damaging the input (`damage`).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from milton_assets.edge.bundle.archive import pack_bundle, unpack_bundle
from milton_assets.edge.canary.plan import Arm
from milton_assets.edge.canary.records import Rated, line_of, records_in
from milton_assets.edge.deployment.admission import load_device_policy
from milton_assets.edge.deployment.fileops import FileOps
from milton_assets.edge.deployment.journal import JOURNAL_FILE, Journal, parse
from milton_assets.edge.deployment.states import Failed, Operation, Started, TargetCreated
from milton_assets.edge.manifest import MANIFEST_FILE, SUMS_FILE, parse_manifest
from milton_assets.edge.release.disk import opened
from milton_assets.edge.release.dsse import check_model_signature, model_signature
from milton_assets.edge.release.safetensors import read_tensors
from milton_assets.edge.release.sshsig import parse_public_key, public_line, sign, verify
from milton_assets.edge.release.sums import parse_sums
from milton_assets.edge.serving.heads import BadHead, RequestHead
from milton_assets.edge.serving.http1 import Refused
from milton_assets.edge.serving.splitting import feedback_in
from milton_assets.rollout import journal as rollout_journal
from milton_assets.rollout.journal import created
from milton_assets.rollout.simulate import Fleet, Rates, simulate
from milton_assets.tiers.evaluations.inspect_log import Limits, read_inspect_log
from milton_assets.tiers.evaluations.lm_eval_log import read_lm_eval_log
from milton_assets.tiers.inference.sse import EventParser, EventTooLarge
from milton_assets.tiers.inference.stream import ChatStream
from milton_assets.tiers.reasoning.datasets import load_dataset
from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.gguf_reader import read_header
from milton_assets.vocabulary.state import StateDir
from milton_assets.vocabulary.strict_json import parse_json
from resources.registries import open_registry
from tests.support.edge_bundles import make_bundle
from tests.support.evaluation_logs import RESULTS, SAMPLES, harness, inspect_eval, small_members
from tests.support.gguf_file import ARRAY, F32, Q8_0, STRING, UINT32, gguf_bytes, pair, tensor
from tests.support.rollouts import plan_of

AT = datetime(2026, 1, 11, 14, 25, tzinfo=UTC)
MESSAGE, NAMESPACE = b"message", "milton-bundle"


@dataclass(frozen=True)
class Parser:
    """`read` is given any bytes and may raise `errors` alone; `seeds` are valid, `words` what its format is made of."""

    read: Callable[[bytes], object]
    seeds: Callable[[], tuple[bytes, ...]]
    words: tuple[bytes, ...] = ()
    errors: tuple[type[Exception], ...] = (MiltonError,)


@contextmanager
def _file(raw: bytes, name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=_memory()) as folder:
        path = Path(folder) / name
        path.write_bytes(raw)
        yield path


@cache
def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _of_file(read: Callable[[Path], object], name: str) -> Callable[[bytes], object]:
    def parse_file(raw: bytes) -> object:
        with _file(raw, name) as path:
            return read(path)

    return parse_file


@cache
def _key() -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(7, ec.SECP256R1())


def _ggufs() -> tuple[bytes, ...]:
    pairs = [
        pair("general.architecture", STRING, "llama"),
        pair("general.alignment", UINT32, 64),
        pair("tokenizer.ggml.tokens", ARRAY, (STRING, ["a", "b", "ä"])),
    ]
    rows = [tensor("a", (32, 2), Q8_0, 0), tensor("b", (8,), F32, 128)]
    return gguf_bytes(pairs, rows, data=bytes(160), alignment=64), gguf_bytes()


def _safetensors() -> tuple[bytes, ...]:
    header = json.dumps(
        {
            "__metadata__": {"format": "pt"},
            "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
            "b": {"dtype": "BF16", "shape": [4], "data_offsets": [16, 24]},
        }
    ).encode()
    return (len(header).to_bytes(8, "little") + header + bytes(24),)


def _of_bundle(name: str) -> Callable[[], tuple[bytes, ...]]:
    def seeds() -> tuple[bytes, ...]:
        with tempfile.TemporaryDirectory() as folder:
            return ((make_bundle(Path(folder), "v1") / name).read_bytes(),)

    return seeds


def _packed() -> tuple[bytes, ...]:
    with tempfile.TemporaryDirectory() as folder:
        bundle = make_bundle(Path(folder), "v1")
        return (pack_bundle(bundle, Path(folder) / "b.tar").read_bytes(),)


def _unpack(raw: bytes) -> object:
    with _file(raw, "b.tar") as path:
        return unpack_bundle(path, path.parent / "out")


def _journal() -> tuple[bytes, ...]:
    attempt, ops = "deploy_20260111_142500_000_0a1b2c", FileOps()
    with tempfile.TemporaryDirectory() as place, opened(ops, ops.open_folder(place)) as folder:
        journal = Journal(ops, folder)
        journal.append(TargetCreated(at=AT, name="edge"))
        journal.append(Started(at=AT, deployment=attempt, operation=Operation.DEPLOY, actor="ada", bundle="b"))
        journal.append(Failed(at=AT, deployment=attempt, reason="disk"))
        return ((Path(place) / JOURNAL_FILE).read_bytes(),)


@cache
def _rollout_journal() -> tuple[bytes, ...]:
    kept = simulate(Fleet(plan_of(2), Rates(failing=0.5), seed=1))
    with tempfile.TemporaryDirectory() as place, created(Path(place)) as journal:
        for event in kept.events:
            journal.append(event)
        return ((Path(place) / rollout_journal.JOURNAL_FILE).read_bytes(),)


def _registry(raw: bytes) -> object:
    with tempfile.TemporaryDirectory(dir=_memory()) as folder:
        state = StateDir(Path(folder))
        state.registry.parent.mkdir(parents=True)
        state.registry.write_bytes(raw)
        return open_registry(None, state).read()


def _registries() -> tuple[bytes, ...]:
    entry = {
        "base_model": "org/model",
        "created_at": "2026-01-11T14:25:00Z",
        "status": "candidate",
        "metrics": {"compression": {"gguf_path": "models/x.gguf"}, "distillation": None, "cove": {"pass": 0.5}},
    }
    return (json.dumps({"models": {"v1": entry, "v2": entry | {"status": "retired"}}}).encode(),)


def _stream(raw: bytes) -> object:
    parser = EventParser()
    for at in range(0, len(raw), 7):
        parser.feed(raw[at : at + 7])
    stream = ChatStream()
    stream.on_head(200, {"content-type": "text/event-stream"})
    for stamp, at in enumerate(range(0, len(raw), 11), 1):
        stream.on_body(stamp, raw[at : at + 11])
    return stream.verdict(64, None)


def _streams() -> tuple[bytes, ...]:
    def event(value: Any) -> bytes:
        return b"data: " + json.dumps(value).encode() + b"\n\n"

    def delta(**fields: Any) -> bytes:
        return event({"choices": [{"index": 0, "delta": fields, "finish_reason": None}]})

    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    usage = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}}
    return (
        delta(role="assistant")
        + delta(content="a")
        + delta(content="b")
        + event(end)
        + event(usage)
        + b"data: [DONE]\n\n",
    )


def _model_signature(raw: bytes) -> None:
    check_model_signature(raw, "b", {"a": "0" * 64}, [_key().public_key()], "model.sig")


def _eval(raw: bytes) -> object:
    with _file(raw, "log.eval") as path:
        return read_inspect_log(path, Limits(member_bytes=1 << 20, total_bytes=1 << 22))


def _evals() -> tuple[bytes, ...]:
    with tempfile.TemporaryDirectory() as folder:
        packed = (inspect_eval(Path(folder) / f"{kind}.eval", small_members(), kind) for kind in (0, 8))
        return tuple(path.read_bytes() for path in packed)


def _harness(name: str) -> Callable[[bytes], object]:
    def parse_one(raw: bytes) -> object:
        with tempfile.TemporaryDirectory(dir=_memory()) as folder:
            path = harness(Path(folder))
            (path.parent / name).write_bytes(raw)
            return read_lm_eval_log(path, "capitals")

    return parse_one


_JSON = (
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b":",
    b",",
    b"null",
    b"NaN",
    b"1e999",
    b"9" * 5000,
    b"[" * 2000,
    b'"\\ud800"',
    b"-0",
)

PARSERS: dict[str, Parser] = {
    "gguf": Parser(_of_file(read_header, "m.gguf"), _ggufs, (b"GGUF", bytes(8), b"\xff" * 8, b"general.alignment")),
    "safetensors": Parser(
        _of_file(read_tensors, "m.safetensors"), _safetensors, (*_JSON, b'"data_offsets"', b'"shape"')
    ),
    "manifest": Parser(parse_manifest, _of_bundle(MANIFEST_FILE), (*_JSON, b'"files"', b'"path"', b"../", b"\\u0000")),
    "sums": Parser(parse_sums, _of_bundle(SUMS_FILE), (b"  ", b"\n", b"\r", b"../", b"\\")),
    "ssh signature": Parser(
        lambda raw: verify(raw, MESSAGE, NAMESPACE), lambda: (sign(MESSAGE, _key(), NAMESPACE),), (b"AAAA", b"=", b"\n")
    ),
    "public key": Parser(
        lambda raw: parse_public_key(raw.decode("latin-1")),
        lambda: (public_line(_key().public_key()).encode(),),
        (b"ssh-rsa ", b"ssh-ed25519 ", b"AAAA", b"=", b"-cert-v01@openssh.com"),
    ),
    "model signature": Parser(
        _model_signature, lambda: (model_signature("b", {"a": "0" * 64}, _key(), "model.sig"),), _JSON
    ),
    "packed bundle": Parser(_unpack, _packed, (b"ustar", b"\0" * 512, b"../", b"7777777")),
    "event stream": Parser(
        _stream, _streams, (*_JSON, b"data:", b"\n\n", b"\r", b'"choices"', b"[DONE]"), (EventTooLarge,)
    ),
    "inspect log": Parser(_eval, _evals, (*_JSON, b"PK\x03\x04", b"\xff" * 4, b'"scores"', b'"epoch"')),
    "lm-eval results": Parser(
        _harness(RESULTS.name), lambda: (RESULTS.read_bytes(),), (*_JSON, b'"results"', b'"configs"', b"../")
    ),
    "lm-eval samples": Parser(
        _harness(SAMPLES.name),
        lambda: (SAMPLES.read_bytes(),),
        (*_JSON, b"\n", b'"metrics"', b'"doc_id"', b'"filter"'),
    ),
    "feedback": Parser(
        feedback_in,
        lambda: (b'{"response_id": "000000000000000000000001", "value": -1}',),
        (*_JSON, b'"value"'),
        (Refused,),
    ),
    "canary": Parser(
        lambda raw: list(records_in(raw, "a journal")),
        lambda: (line_of(Rated(at=AT, response="1" * 24, arm=Arm.INCUMBENT, value=1)),),
        (*_JSON, b"\n", b'"kind":"asked"', b'"nth":0', b"1e999", b"NaN"),
    ),
    "journal": Parser(parse, _journal, (*_JSON, b"\n", b"\0")),
    "rollout journal": Parser(rollout_journal.parse, _rollout_journal, (*_JSON, b"\n", b"\0", b'"kind":"began"')),
    "registry": Parser(_registry, _registries, (*_JSON, b'"models"', b'"gguf_path"', b"/etc/passwd")),
    "device policy": Parser(
        _of_file(load_device_policy, "p.yaml"),
        lambda: (b"trusted_keys:\n  - " + public_line(_key().public_key()).encode() + b"\nmin_figures: {a: 0.5}\n",),
        (b"&a ", b"*a", b"!!python/object:os.system ", b"- ", b": ", b"<<", b"2026-01-01", b".inf", b"0x", b"? "),
    ),
    "questions": Parser(
        _of_file(load_dataset, "q.jsonl"),
        lambda: (b'{"question": "Who?", "answer": "Ada"}\n{"question": "How many?", "answers": ["1", "one"]}\n',),
        (*_JSON, b"\n", b'"aliases"', b"####"),
    ),
    "request head": Parser(
        lambda raw: RequestHead.read(raw).body_length,
        lambda: (b"POST /v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 3", b"GET / HTTP/1.0\r\nconnection: close"),
        (b"\r\n", b"\n", b": ", b" ", b"transfer-encoding: chunked", b"\0"),
        (BadHead,),
    ),
    "json": Parser(lambda raw: parse_json(raw, "here"), lambda: (b'{"a": [1, 2.5, "x", null, true]}',), _JSON),
}
