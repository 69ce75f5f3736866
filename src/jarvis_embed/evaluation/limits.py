"""The machine: what it is, and the time below which it cannot embed one message.

One pass of an encoder over T tokens must read every weight once and do a known number of multiplications. The machine
has a highest rate for each; the slower of the two is a bound that no program can beat on it (a "roofline", Williams,
Waterman & Patterson 2009). Both rates are measured, not looked up: the products of large matrices through onnxruntime,
and reading a buffer as large as the weights over and over, so that it lies where the weights of a warm model lie.

A second figure is nearer to what can be had: the model's own products and nothing else, run by onnxruntime.
"""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..models.machine import usable_cores
from ..models.runtime import start_session
from ..models.weights import BertConfig

_FLAGS: Final = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimddp", "i8mm")
_PACKAGES: Final = (
    *("jarvis-embed", "onnxruntime", "tokenizers", "numpy", "onnx"),
    *("torch", "sentence-transformers", "transformers", "fastembed"),
)
_LARGE: Final = 2048
"""Rows and columns of the matrices whose product shows the highest rate."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine and what runs on it; nothing that tells whose it is.

    Attributes:
        cores: that this process may use.
        flags: those of its instructions that matter here.
        memory_gb: 10^9 bytes.
        load: processes that were running or waiting, mean of the last minute, before the benchmark began.
    """

    cpu: str
    cores: int
    flags: tuple[str, ...]
    memory_gb: float
    system: str
    python: str
    versions: dict[str, str]
    load: float


@dataclass(frozen=True, slots=True)
class Work:
    """What one pass must do.

    Attributes:
        operations: multiplications and additions.
        weight_bytes: of all products' weights.
    """

    operations: int
    weight_bytes: int


@dataclass(frozen=True, slots=True)
class Limit:
    """The bound of one model shape at one precision on this machine.

    Attributes:
        tokens: of the message, the special ones included.
        peak_gops: highest rate of products, 10^9 operations a second.
        bandwidth_gbs: highest rate of reading the weights, 10^9 bytes a second.
        bound_ms: the slower of the two for this work.
        products_ms: the model's products alone in onnxruntime, median.
    """

    tokens: int
    work: Work
    peak_gops: float
    bandwidth_gbs: float
    bound_ms: float
    products_ms: float


def describe_machine() -> Machine:
    """Look at the machine and the installed packages."""
    info = _read("/proc/cpuinfo")
    cpu = info.partition("model name")[2].partition("\n")[0].strip(" \t:") or _mac("machdep.cpu.brand_string")
    stated = f"{info.partition('flags')[2].partition(chr(10))[0]} {info.partition('Features')[2].partition(chr(10))[0]}"
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return Machine(
        cpu=cpu or platform.machine(),
        cores=usable_cores(),
        flags=tuple(flag for flag in _FLAGS if flag in stated.split()),
        memory_gb=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        system=f"{platform.system()} {'.'.join(platform.release().split('.')[:2])} {platform.machine()}",
        python=platform.python_version(),
        versions=versions,
        load=round(os.getloadavg()[0], 2),
    )


def work_of(config: BertConfig, tokens: int, precision: str) -> Work:
    """Count one pass over ``tokens``: the products with weights, and those of tokens with each other."""
    weights = config.layers * sum(k * n for k, n in _products(config))
    attention = config.layers * 2 * tokens * tokens * config.hidden
    return Work(2 * (weights * tokens + attention), weights * (1 if precision == "int8" else 4))


def limit_of(config: BertConfig, tokens: int, precision: str, threads: int, peak: float, bandwidth: float) -> Limit:
    """The bound for one pass.

    Args:
        peak: operations per second, see ``peak_rate``.
        bandwidth: bytes per second, see ``read_rate``.
    """
    work = work_of(config, tokens, precision)
    bound = max(work.operations / peak, work.weight_bytes / bandwidth)
    products = _products_seconds(config, tokens, precision, threads)
    return Limit(tokens, work, peak / 1e9, bandwidth / 1e9, bound * 1e3, products * 1e3)


def peak_rate(precision: str, threads: int, size: int = _LARGE) -> float:
    """Highest rate of multiplying two matrices of ``size`` × ``size``, operations per second."""
    run = _runner([(size, size)], size, precision, threads)
    return 2 * size**3 / min(_timed(run, 0.7))


def read_rate(size: int, threads: int) -> float:
    """Highest rate of reading a buffer of ``size`` bytes again and again, bytes per second, each core its part."""
    buffer = np.ones(max(size // 8, threads), np.int64)
    parts, repeats = np.array_split(buffer, threads), max(1, 200_000_000 // size)

    def read(part: np.ndarray[Any, Any]) -> None:
        for _ in range(repeats):
            np.bitwise_or.reduce(part)

    with ThreadPoolExecutor(threads) as pool:
        return size * repeats / min(_timed(lambda: list(pool.map(read, parts)), 0.5))


def _products(config: BertConfig) -> list[tuple[int, int]]:
    """(rows, columns) of the weights of one layer: query, key and value in one; output; the two feed-forward."""
    hidden, inner = config.hidden, config.intermediate
    return [(hidden, 3 * hidden), (hidden, hidden), (hidden, inner), (inner, hidden)]


def _products_seconds(config: BertConfig, tokens: int, precision: str, threads: int) -> float:
    return float(np.median(_timed(_runner(_products(config) * config.layers, tokens, precision, threads), 0.5)))


def _runner(shapes: list[tuple[int, int]], rows: int, precision: str, threads: int) -> Callable[[], object]:
    """A function that multiplies ``rows`` rows with a weight of each of ``shapes``, one after the other."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    int8 = precision == "int8"
    given, result = (TensorProto.UINT8, TensorProto.INT32) if int8 else (TensorProto.FLOAT, TensorProto.FLOAT)
    weights, nodes, feeds = [], [], {}
    for number, (k, n) in enumerate(shapes):
        weight = rng.integers(-127, 128, (k, n)).astype(np.int8) if int8 else rng.normal(size=(k, n)).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{number}"))
        nodes.append(helper.make_node("MatMulInteger" if int8 else "MatMul", [f"x{k}", f"w{number}"], [f"y{number}"]))
        feeds[f"x{k}"] = np.full((rows, k), 3, np.uint8 if int8 else np.float32)
    graph = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info(name, given, value.shape) for name, value in feeds.items()],
        [helper.make_tensor_value_info(f"y{i}", result, (rows, n)) for i, (_, n) in enumerate(shapes)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = start_session(model.SerializeToString(), threads)
    return lambda: session.run(None, feeds)


def _timed(run: Callable[[], object], seconds: float) -> list[float]:
    """Durations of ``run``, repeated for about ``seconds``, in seconds; at least five."""
    run()
    durations: list[float] = []
    begin = end = time.perf_counter()
    while len(durations) < 5 or end - begin < seconds:
        start = time.perf_counter()
        run()
        end = time.perf_counter()
        durations.append(end - start)
    return durations


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _mac(key: str) -> str:
    try:
        asked = subprocess.run(["/usr/sbin/sysctl", "-n", key], capture_output=True, text=True, check=False)  # noqa: S603
    except OSError:
        return ""
    return asked.stdout.strip()
