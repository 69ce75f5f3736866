"""What training may add to an encoder: light maps for replies, for a trigger with the turns before it, and for threads.

One space stays the shared one, in which messages are compared with their like. A reply is not like its trigger, so it
gets a map of its own into the place where triggers look for it (two projections on one encoder: Henderson et al. 2020,
ConveRT); and the turns before a trigger, each embedded alone, are mixed into its vector. Both are applied with numpy,
after the encoder: a turn that was embedded once need not be read again for the message that follows it.

A segment of a thread is read twice: as one text, and by a mean of the vectors of its turns, in which each weighs as
much as a learned direction says ("ok" says nothing about what it is about). A map of its own makes one vector of both,
which may be drawn towards known exchanges (``prototypes``) and have its words beside it (``words``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..errors import WeightsDamaged
from ..home import sha256_of
from .engine import Vectors, of_length_1
from .prototypes import Prototypes, prototypes_of
from .words import Words, words_of

PROJECTIONS_FILE: Final = "projections.safetensors"
_AGAIN: Final = "Train the model again"


@dataclass(frozen=True, slots=True)
class Projection:
    """v₀ + B·gelu(A·[v₀ v₁ …] + a) + b, brought to length 1.

    Attributes:
        inner: A, (width, inputs · dim). inner_bias: a. outer: B, (dim, width). outer_bias: b. All float32.
    """

    inner: npt.NDArray[np.float32]
    inner_bias: npt.NDArray[np.float32]
    outer: npt.NDArray[np.float32]
    outer_bias: npt.NDArray[np.float32]

    @property
    def inputs(self) -> int:
        return int(self.inner.shape[1] // self.outer.shape[0])

    def __call__(self, *vectors: Vectors) -> Vectors:
        """Apply it to (n, dim) arrays, one for each input; the first is what is changed."""
        mixed = gelu(np.concatenate(vectors, axis=1) @ self.inner.T + self.inner_bias) @ self.outer.T
        moved = vectors[0] + mixed + self.outer_bias
        return of_length_1(moved)


@dataclass(frozen=True, slots=True)
class SegmentProjection:
    """From the vectors of a segment and of its turns to one: attention with one query, beside the plain mean, mapped.

    Attributes:
        attention: (dim,) float32; a turn weighs e to its product with it, beside the segment's others.
        projection: of the text's vector, the weighted mean and the plain mean, all of length 1.
        prototypes: towards which what it gives is drawn; None for a model without.
    """

    attention: npt.NDArray[np.float32]
    projection: Projection
    prototypes: Prototypes | None = None

    def __call__(self, whole: Vectors, turns: Vectors, sizes: Sequence[int]) -> Vectors:
        """(segments, dim), from that of their texts and the (turns, dim) of all one behind the other; none is empty."""
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        logits = turns @ self.attention
        weights = np.exp(logits - np.repeat(np.maximum.reduceat(logits, starts), sizes))
        weighted = np.add.reduceat(turns * weights[:, None], starts)
        found = self.projection(whole, of_length_1(weighted), of_length_1(np.add.reduceat(turns, starts)))
        return found if self.prototypes is None else self.prototypes(found)


@dataclass(frozen=True, slots=True)
class Projections:
    """The maps of one model, and what it knows of the words of segments; None for one that it lacks."""

    response: Projection | None = None
    context: Projection | None = None
    segment: SegmentProjection | None = None
    words: Words | None = None

    @property
    def context_turns(self) -> int:
        """How many turns before the trigger are read."""
        return 0 if self.context is None else self.context.inputs - 1


def projections_of(tensors: Mapping[str, npt.NDArray[Any]], dim: int) -> Projections:
    """Take the maps out of named arrays: ``response.inner``, ``response.inner_bias``, …, ``context.…``, ``segment.…``,
    ``prototypes.…``, ``words.…``.

    Raises:
        WeightsDamaged: an array is missing, or has another shape than the others ask for.
    """
    segment = _projection(tensors, "segment", dim)
    return Projections(
        _projection(tensors, "response", dim),
        _projection(tensors, "context", dim),
        None if segment is None else SegmentProjection(_attention(tensors, dim), segment, prototypes_of(tensors, dim)),
        words_of(tensors, dim),
    )


def read_projections(folder: Path, dim: int, vocabulary: int = 0) -> Projections:
    """The maps in the folder of a model; none where there is no file of them.

    Args:
        vocabulary: so many tokens must be known, where words are.

    Raises:
        WeightsDamaged: there is a file and it is not whole.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = folder / PROJECTIONS_FILE
    try:
        found = projections_of(load(path.read_bytes()), dim)
    except FileNotFoundError:
        return Projections()
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsDamaged(f"{path} is not a whole safetensors file", _AGAIN) from error
    if found.words is not None and len(found.words.weights) < vocabulary:
        raise WeightsDamaged(f"{path} does not know all tokens of the model", _AGAIN)
    return found


def projections_checksum(folder: Path) -> str:
    """sha256 of the file of maps, hexadecimal; empty where there is none."""
    path = folder / PROJECTIONS_FILE
    return sha256_of(path) if path.is_file() else ""


def _projection(tensors: Mapping[str, npt.NDArray[Any]], name: str, dim: int) -> Projection | None:
    parts = ("inner", "inner_bias", "outer", "outer_bias")
    here = [part for part in parts if f"{name}.{part}" in tensors]
    if not here:
        return None
    if len(here) < len(parts):
        raise WeightsDamaged(f"the projection {name} lacks a part", _AGAIN)
    made = Projection(*(np.ascontiguousarray(tensors[f"{name}.{part}"], np.float32) for part in parts))
    width = len(made.inner)
    shapes = (made.inner.shape[1:], made.inner_bias.shape, made.outer.shape, made.outer_bias.shape)
    inputs = {"response": 1, "segment": 3}.get(name, max(made.inner.shape[-1] // dim, 2))
    if shapes != ((inputs * dim,), (width,), (dim, width), (dim,)):
        raise WeightsDamaged(f"the projection {name} does not fit {dim} dimensions", _AGAIN)
    if not all(np.isfinite(getattr(made, part)).all() for part in parts):
        raise WeightsDamaged(f"the projection {name} holds NaN or infinity", _AGAIN)
    return made


def _attention(tensors: Mapping[str, npt.NDArray[Any]], dim: int) -> npt.NDArray[np.float32]:
    attention = np.ascontiguousarray(tensors.get("segment.attention", np.zeros(0)), np.float32)
    if attention.shape != (dim,) or not np.isfinite(attention).all():
        raise WeightsDamaged(f"the attention over turns does not fit {dim} dimensions", _AGAIN)
    return attention


def gelu(x: Vectors) -> Vectors:
    """By tanh (Hendrycks and Gimpel 2016), for numpy has no erf; training uses the same form."""
    return np.asarray(0.5 * x * (1 + np.tanh(0.7978845608 * (x + 0.044715 * x**3))), np.float32)
