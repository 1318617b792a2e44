"""llama.cpp's own reader of GGUF headers, asked in a process that may abort.

What belongs here: `LlamaCppReader`, and the other process, which finds the reader's functions in the library that the
embedded server is made of. What does not: our parser, and comparing them.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any


class _Params(ctypes.Structure):
    _fields_ = [("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p)]


_SCALAR_TYPES = {
    0: ("u8", ctypes.c_uint8),
    1: ("i8", ctypes.c_int8),
    2: ("u16", ctypes.c_uint16),
    3: ("i16", ctypes.c_int16),
    4: ("u32", ctypes.c_uint32),
    5: ("i32", ctypes.c_int32),
    6: ("f32", ctypes.c_float),
    7: ("bool", ctypes.c_bool),
    8: ("str", ctypes.c_char_p),
    10: ("u64", ctypes.c_uint64),
    11: ("i64", ctypes.c_int64),
    12: ("f64", ctypes.c_double),
}
_ARRAY = 9
_MAX_DIMENSIONS = 4


class LlamaCppReader:
    """Asks the other process; use as a context manager."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> LlamaCppReader:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.communicate()
            self._process = None

    def read(self, path: Path) -> dict[str, Any] | None:
        """What llama.cpp reads in the file, None where it refuses it or aborts.

        `metadata` has a value for each key, of an array `[element type, length]`; `tensors` are `[name, dimensions with
        ones at the end, type, offset, size]`.
        """
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        if not (line := self._process.stdout.readline()):
            self._process.communicate()
            self._process = None
            return None
        answer: dict[str, Any] | None = json.loads(line)
        return answer


def _library() -> ctypes.CDLL:
    spec = importlib.util.find_spec("xllamacpp.xllamacpp")
    assert spec and spec.origin
    library = ctypes.CDLL(spec.origin)
    library.gguf_init_from_file.argtypes = [ctypes.c_char_p, _Params]
    library.gguf_init_from_file.restype = ctypes.c_void_p
    of_file = [ctypes.c_void_p]
    for name, result in (
        ("gguf_get_n_kv", ctypes.c_int64),
        ("gguf_get_n_tensors", ctypes.c_int64),
        ("gguf_get_version", ctypes.c_uint32),
        ("gguf_get_alignment", ctypes.c_size_t),
        ("gguf_get_data_offset", ctypes.c_size_t),
        ("gguf_free", None),
    ):
        getattr(library, name).argtypes, getattr(library, name).restype = of_file, result
    of_item = [ctypes.c_void_p, ctypes.c_int64]
    for name, result in (
        ("gguf_get_key", ctypes.c_char_p),
        ("gguf_get_kv_type", ctypes.c_int),
        ("gguf_get_arr_type", ctypes.c_int),
        ("gguf_get_arr_n", ctypes.c_size_t),
        ("gguf_get_tensor_name", ctypes.c_char_p),
        ("gguf_get_tensor_type", ctypes.c_int),
        ("gguf_get_tensor_ne", ctypes.POINTER(ctypes.c_int64)),
        ("gguf_get_tensor_offset", ctypes.c_size_t),
        ("gguf_get_tensor_size", ctypes.c_size_t),
        *((f"gguf_get_val_{short}", kind) for short, kind in _SCALAR_TYPES.values()),
    ):
        getattr(library, name).argtypes, getattr(library, name).restype = of_item, result
    return library


def _read(library: ctypes.CDLL, path: str) -> dict[str, Any] | None:
    file = library.gguf_init_from_file(path.encode(), _Params(True, None))
    if not file:
        return None
    metadata: dict[str, Any] = {}
    for at in range(library.gguf_get_n_kv(file)):
        kind = library.gguf_get_kv_type(file, at)
        if kind == _ARRAY:
            value: Any = [library.gguf_get_arr_type(file, at), library.gguf_get_arr_n(file, at)]
        else:
            value = getattr(library, f"gguf_get_val_{_SCALAR_TYPES[kind][0]}")(file, at)
        metadata[_text(library.gguf_get_key(file, at))] = _text(value) if isinstance(value, bytes) else value
    tensors = [
        [
            _text(library.gguf_get_tensor_name(file, at)),
            library.gguf_get_tensor_ne(file, at)[:_MAX_DIMENSIONS],
            library.gguf_get_tensor_type(file, at),
            library.gguf_get_tensor_offset(file, at),
            library.gguf_get_tensor_size(file, at),
        ]
        for at in range(library.gguf_get_n_tensors(file))
    ]
    read = {
        "version": library.gguf_get_version(file),
        "alignment": library.gguf_get_alignment(file),
        "data_start": library.gguf_get_data_offset(file),
        "metadata": metadata,
        "tensors": tensors,
    }
    library.gguf_free(file)
    return read


def _text(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")


def _main() -> None:
    library = _library()
    for line in sys.stdin:
        print(json.dumps(_read(library, line.rstrip("\n"))), flush=True)


if __name__ == "__main__":
    _main()
