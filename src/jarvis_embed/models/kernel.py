"""The kernel: the encoder in one C function (``kernel.c``), for short messages about twice as fast as the graph.

It computes what ``graph``'s layers compute, from the same numbers, so its vectors are theirs but for rounding (cosine
≥ 0.999 in int8, ≥ 0.999999 in fp32), and a space built by the one is open to the other. Texts are not padded. One text
is shared out among a team of threads inside the kernel, many texts among threads that each call it.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..errors import WeightsDamaged
from .engine import READ, Progress, Tokens, Vectors
from .packed import LINE, Arrays
from .quantise import GROUP, Floats, Product, joined_qkv, linear, product_names, rounded_rows
from .registry import Pooling
from .weights import BertConfig, Tensors

_PANEL: Final = 32
_LANES: Final = 16
_CHUNK: Final = 192
"""Tokens in one call: enough to use a panel of weights often, few enough that they stay in the second cache."""

TEAM: Final = 4
"""Threads that share one message, at most: more find too little to do."""

_PARTS: Final = ("weight", "scale", "shift", "bias")


def is_supported(config: BertConfig) -> bool:
    """Whether the kernel can run a model of this shape: its dimensions are multiples of what it computes at once."""
    head = config.hidden // config.heads
    return config.hidden % GROUP == 0 and config.intermediate % GROUP == 0 and head % _LANES == 0


def pack(
    config: BertConfig, tensors: Tensors, products: Mapping[str, Product] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """Arrange a model in the order in which the kernel reads it: quantised by ``products``, or in fp32."""
    words, of_types = (tensors[f"embeddings.{kind}_embeddings.weight"] for kind in ("word", "token_type"))
    rounded, scale = (words, None) if products is None else rounded_rows(words)
    packed: dict[str, npt.NDArray[Any]] = {
        "words": rounded,
        "positions": tensors["embeddings.position_embeddings.weight"] + of_types[0],
        **_packed_norm(tensors, "embeddings"),
    }
    for number in range(config.layers):
        prefix = f"encoder.layer.{number}."
        for part, name in product_names(prefix).items():
            if products is not None:
                packed |= _packed_int8(name, products[name])
            else:
                packed |= _packed_fp32(name, *(joined_qkv(tensors, prefix) if part == "qkv" else linear(tensors, name)))
            if part in ("joined", "outer"):
                packed |= _packed_norm(tensors, name.removesuffix(".dense"))
    if scale is not None:
        packed["word_scale"] = scale[:, 0]  # last: it may end within a line of the cache
    return {name: np.ascontiguousarray(array) for name, array in packed.items()}


def _packed_int8(name: str, product: Product) -> dict[str, npt.NDArray[Any]]:
    inputs, outputs = product.weight.shape
    sums = product.weight.reshape(-1, GROUP, outputs).sum(1, dtype=np.int32)
    return {
        name + ".weight": product.weight.reshape(inputs // 4, 4, outputs // _PANEL, _PANEL).transpose(2, 0, 3, 1),
        name + ".scale": _by_panel(product.scale),
        name + ".shift": _by_panel(-128 * sums),  # activations stand around 128
        name + ".bias": product.bias,
    }


def _packed_fp32(name: str, weight: Floats, bias: Floats) -> dict[str, npt.NDArray[Any]]:
    return {name + ".weight": _by_panel(weight), name + ".bias": bias}


def _packed_norm(tensors: Tensors, name: str) -> dict[str, npt.NDArray[Any]]:
    return {
        name + ".gamma": tensors[name + ".LayerNorm.weight"],
        name + ".beta": tensors[name + ".LayerNorm.bias"],
    }


def _by_panel(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(K, N) → (N / PANEL, K, PANEL)."""
    return rows.reshape(len(rows), -1, _PANEL).transpose(1, 0, 2)


def _norm_names(config: BertConfig) -> list[str]:
    of_layers = (f"encoder.layer.{n}.{part}" for n in range(config.layers) for part in ("attention.output", "output"))
    return ["embeddings", *of_layers]


class _Product(ctypes.Structure):
    _fields_ = (("inputs", ctypes.c_int32), ("outputs", ctypes.c_int32), *((part, ctypes.c_void_p) for part in _PARTS))


class _Norm(ctypes.Structure):
    _fields_ = (("gamma", ctypes.c_void_p), ("beta", ctypes.c_void_p))


class _Layer(ctypes.Structure):
    _fields_ = (("products", _Product * 4), ("norms", _Norm * 2))


class _Model(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("layers", "hidden", "heads", "intermediate", "first_token_only")),
        ("epsilon", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in ("words", "word_scale", "positions")),
        ("norm", _Norm),
        ("layer", ctypes.POINTER(_Layer)),
    )


class KernelEngine:
    """A packed model and the compiled kernel."""

    name = "kernel"

    def __init__(
        self,
        library: ctypes.CDLL,
        config: BertConfig,
        pooling: Pooling,
        packed: Arrays,
        *,
        threads: int = 1,
        team: int = 1,
    ) -> None:
        """Start ``threads`` for many texts, and a ``team`` of as many for one text (no more than ``TEAM``)."""
        self.dim = config.hidden
        self._arrays = {name: _aligned(array) for name, array in packed.items()}  # the model below points into them
        self._model = self._described(config, pooling)
        self._encode, self._needed = library.encode, library.memory_needed
        self._encode.restype, self._needed.restype = None, ctypes.c_size_t
        self._own = threading.local()
        self._threads, self._words = threads, len(packed["words"])
        self._team = _new_team(self, library, min(team, TEAM))

    def one(self, tokens: Tokens) -> Vectors:
        return self._run([tokens], self._team)

    def many(self, tokens: Sequence[Tokens], progress: Progress) -> Vectors:
        readings = np.empty((len(tokens), READ * self.dim), np.float32)
        parts = list(_chunks([len(of_text) for of_text in tokens]))
        with ExitStack() as stack:  # threads for this call alone: none is left where a process forks
            threads = min(self._threads, len(parts))
            apply = stack.enter_context(ThreadPoolExecutor(threads)).map if threads > 1 else map
            for part, computed in zip(parts, apply(self._run, [tokens[part] for part in parts]), strict=True):
                readings[part] = computed
                progress(len(computed))
        return readings

    def _run(self, tokens: Sequence[Tokens], team: ctypes.c_void_p | None = None) -> Vectors:
        lengths = [len(of_text) for of_text in tokens]
        first = np.zeros(len(tokens) + 1, np.int32)
        np.cumsum(lengths, out=first[1:])
        ids = np.array(tokens[0] if len(tokens) == 1 else [i for of_text in tokens for i in of_text], np.int32)
        if ids.max() >= self._words or ids.min() < 0:  # C would read whatever lies behind the table
            raise WeightsDamaged(
                f"the tokenizer gives token {ids.max()}, and the model has {self._words:,}",
                "Get the model again: its tokenizer is another model's",
            )
        readings = np.empty((len(tokens), READ * self.dim), np.float32)
        memory = self._memory(len(ids), max(lengths))
        self._encode(
            *(team, ctypes.byref(self._model), _address(ids), _address(first), len(tokens)),
            *(_address(memory), _address(readings)),
        )
        return readings

    def _memory(self, tokens: int, longest: int) -> npt.NDArray[np.uint8]:
        """The calling thread's own working memory, kept from call to call and grown when it must be."""
        needed = int(self._needed(ctypes.byref(self._model), tokens, longest))
        memory: npt.NDArray[np.uint8] | None = getattr(self._own, "memory", None)
        if memory is None or len(memory) < needed:
            memory = self._own.memory = _aligned(np.empty(needed, np.uint8))
        return memory

    def _described(self, config: BertConfig, pooling: Pooling) -> _Model:
        norms = iter(
            [_Norm(*(self._at(f"{name}.{part}") for part in ("gamma", "beta"))) for name in _norm_names(config)]
        )
        embeddings = next(norms)
        layers = (_Layer * config.layers)()
        for number in range(config.layers):
            names = product_names(f"encoder.layer.{number}.")
            layers[number] = _Layer(
                (_Product * 4)(*map(self._product, names.values())), (_Norm * 2)(next(norms), next(norms))
            )
        return _Model(
            config.layers,
            config.hidden,
            config.heads,
            config.intermediate,
            int(pooling == "cls"),
            config.layer_norm_epsilon,
            *(self._at(name) for name in ("words", "word_scale", "positions")),
            embeddings,
            layers,
        )

    def _product(self, name: str) -> _Product:
        outputs = self._arrays[name + ".bias"].size
        inputs = self._arrays[name + ".weight"].size // outputs
        return _Product(inputs, outputs, *(self._at(f"{name}.{part}") for part in _PARTS))

    def _at(self, name: str) -> ctypes.c_void_p | None:
        """Where an array lies; None for what only int8 has."""
        return _address(self._arrays[name]) if name in self._arrays else None


def _new_team(engine: object, library: ctypes.CDLL, threads: int) -> ctypes.c_void_p:
    """Threads for one message at a time, which end with ``engine``."""
    library.team_new.restype, library.team_free.restype = ctypes.c_void_p, None
    team = ctypes.c_void_p(library.team_new(threads))
    weakref.finalize(engine, _end_team, library, team, os.getpid())
    return team


def _end_team(library: ctypes.CDLL, team: ctypes.c_void_p, process: int) -> None:
    if os.getpid() == process:  # a fork has no threads to wait for
        library.team_free(team)


def _chunks(lengths: Sequence[int]) -> Iterator[slice]:
    """Cut texts, in their order, into pieces of about ``_CHUNK`` tokens."""
    start = tokens = 0
    for position, length in enumerate(lengths):
        if tokens and tokens + length > _CHUNK:
            yield slice(start, position)
            start, tokens = position, 0
        tokens += length
    yield slice(start, len(lengths))


def _address(array: npt.NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _aligned(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """``array``, or a copy of it, that begins where a line of the cache does."""
    if array.ctypes.data % LINE == 0 and array.flags.c_contiguous:
        return array
    buffer = np.empty(array.nbytes + LINE, np.uint8)
    offset = -buffer.ctypes.data % LINE
    copy = buffer[offset : offset + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy
