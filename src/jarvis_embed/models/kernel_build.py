"""Building the kernel: ``kernel.c`` is compiled once, on the machine that it shall run on, and kept in the home.

Where there is no C compiler, or the processor has no instruction for what the kernel does, there is no kernel, and
onnxruntime does all the work. ``pip install jarvis-embed[kernel]`` brings a compiler where there is none.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import json
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..errors import HomeError
from ..home import embeddings_folder, sha256_of, write_json, write_private
from .engine import READ
from .kernel import KernelEngine, pack
from .machine import processor
from .quantise import quantise
from .runtime import OnnxEngine
from .weights import BertConfig, tensor_shapes

_SOURCES: Final = Path(__file__).parent
_NATIVE: Final = "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native"
_FLAGS: Final = ("-std=c11", "-O3", _NATIVE, "-ffp-contract=fast", "-fno-math-errno", "-shared", "-fPIC", "-pthread")
_TIMEOUT_S: Final = 300
_AGREEMENT: Final = {"int8": 0.99, "fp32": 0.99999}

_log = logging.getLogger(__name__)


def kernel_library(home: Path) -> ctypes.CDLL | None:
    """The compiled kernel, built if it is not there yet (some seconds); None where it cannot be had.

    A build that failed is remembered, and tried again with another compiler, processor or version.
    """
    compiler = find_compiler()
    folder, stated = _folder(home), _stated(compiler)
    note = _read_note(folder)
    if all(note.get(key) == value for key, value in stated.items()):
        if "failed" in note:
            return None
        path = folder / "kernel.so"
        if path.is_file() and sha256_of(path) == note.get("sha256"):
            return _opened(path)
    if compiler is None or not sys.platform.startswith(("linux", "darwin")):
        return None  # nothing to remember: looking for a compiler costs nothing, and one may come
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "kernel.so"
        problem, library = _compile(compiler, made), None
        if not problem:
            library = _opened(made)
            if library is None or not _agrees_with_onnx(library):
                problem, library = "it does not compute what it should", None
        try:
            if library is not None:
                write_private(folder / "kernel.so", made.read_bytes())
            outcome = {"sha256": sha256_of(made)} if library is not None else {"failed": problem}
            write_json(folder / "kernel.json", {**stated, **outcome})
        except HomeError as error:
            _log.warning("the compiled kernel is not kept: %s", error)
        return library


def kernel_state(home: Path) -> str:
    """``built``, ``not built yet``, or why there is none, in a few words. Nothing is built."""
    note = _read_note(_folder(home))
    if "failed" in note or "sha256" in note:
        return str(note.get("failed", "built"))
    return "not built yet" if find_compiler() else "there is no C compiler (pip install jarvis-embed[kernel])"


def find_compiler() -> list[str] | None:
    """The command of a C compiler: ``$CC``, the system's, or the one that the package ziglang brings."""
    for name in (os.environ.get("CC"), "cc", "clang", "gcc"):
        if name and (path := shutil.which(name)):
            return [path]
    return [sys.executable, "-m", "ziglang", "cc"] if importlib.util.find_spec("ziglang") else None


def _compile(compiler: list[str], made: Path) -> str:
    """Compile to ``made``; an empty string, or what went wrong."""
    command = [*compiler, *_FLAGS, "-o", str(made), str(_SOURCES / "kernel.c"), "-lm"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{compiler[0]} did not run ({type(error).__name__})"
    if done.returncode == 0 and made.is_file():
        return ""
    errors = [line.partition("error: ")[2] for line in done.stderr.splitlines() if "error: " in line]
    return errors[0] if errors else f"{compiler[0]} ended with exit code {done.returncode}"


def _agrees_with_onnx(library: ctypes.CDLL) -> bool:
    """Whether kernel and graph give the same vectors of a small random model: no compiler is trusted unseen."""
    from .graph import bert_graph  # onnx is slow to import, and needed here only when a kernel was just built

    config = BertConfig(2, 64, 4, 128, 50, 64, 2, 1e-12, "gelu")
    draw = np.random.default_rng(0)
    tensors = {
        name: (draw.normal(size=shape) * 0.2 + ("Norm.weight" in name)).astype(np.float32)
        for name, shape in tensor_shapes(config).items()
    }
    texts = [draw.integers(0, 50, length).tolist() for length in (1, 2, 7, 16, 17, 33, 64, 5, 6, 11, 12)]
    for precision, products in {"int8": quantise(config, tensors), "fp32": None}.items():
        kernel = KernelEngine(library, config, "mean", pack(config, tensors, products), team=2)
        readings = kernel.many(texts, lambda _: None)
        graph = OnnxEngine(bert_graph(config, tensors, "mean", products=products), threads=1)
        both = readings * np.concatenate([graph.one(text) for text in texts])
        cosines = both.reshape(len(texts), READ, -1).sum(-1)
        if cosines.min() < _AGREEMENT[precision] or not np.array_equal(readings[3:4], kernel.one(texts[3])):
            return False
    return True


def _stated(compiler: list[str] | None) -> dict[str, Any]:
    """What a build depends on."""
    files = sorted(_SOURCES.glob("kernel*.[ch]"))
    source = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    return {"source": source, "flags": list(_FLAGS), "compiler": compiler, "processor": processor()}


def _folder(home: Path) -> Path:
    return embeddings_folder(home) / "kernel"


def _read_note(folder: Path) -> dict[str, Any]:
    try:
        note = json.loads((folder / "kernel.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return note if isinstance(note, dict) else {}


def _opened(path: Path) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:  # a home on a disk that runs no programs
        _log.info("the kernel cannot be loaded: %s", error)
        return None
