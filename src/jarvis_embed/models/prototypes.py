"""Exchanges that are known, towards which the vectors of segments are drawn: what is said in passing falls away.

A segment is a sample of its exchange. Where many exchanges are known, the ones that it is near to tell what such
exchanges have in common, and a step towards them brings segments of one exchange together and those of others apart:
one step of a modern Hopfield network (Ramsauer et al. 2021). What is near to everything is near for no reason, so each
prototype counts less by the root of how many segments it attracts. Numpy only.

Prototypes are made of public conversations alone (``training.recipe``): they are nearly those of single exchanges, and
nobody's own shall be in a file of weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..errors import WeightsDamaged
from .engine import Vectors, of_length_1

Floats = npt.NDArray[np.float32]

TEMPERATURE: Final = 0.05

_BLOCK: Final = 1024
_LEAST: Final = 1e-3
_DISCOUNT: Final = 0.5


@dataclass(frozen=True, slots=True)
class Prototypes:
    """What segments are drawn towards.

    Attributes:
        places: (k, dim) float32 of length 1.
        crowding: (k,) float32, by how much each counts less for what it attracts; see ``crowding_of``.
        pull: how far a segment is drawn, beside its own length of 1.
    """

    places: Floats
    crowding: Floats
    pull: float

    def __call__(self, segments: Vectors) -> Vectors:
        """(n, dim) of length 1, from such."""
        found = np.zeros_like(segments)
        for start in range(0, len(segments), _BLOCK):
            rows = slice(start, start + _BLOCK)
            near = attraction(segments[rows], self.places, self.crowding) @ self.places
            found[rows] = of_length_1(segments[rows] + self.pull * of_length_1(near))
        return found


def attraction(segments: Vectors, places: Floats, crowding: Floats | float = 0.0) -> Vectors:
    """(n, k), rows that add up to 1: how much of each of (n, dim) segments each prototype has."""
    scores = segments @ places.T / TEMPERATURE - crowding
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(scores / scores.sum(axis=1, keepdims=True), np.float32)


def crowding_of(places: Floats, segments: Vectors) -> Floats:
    """(k,): half the logarithm of what each of (k, dim) prototypes has of (n, dim) segments, beside an equal share."""
    every = np.zeros(len(places))
    for start in range(0, len(segments), _BLOCK):
        every += attraction(segments[start : start + _BLOCK], places).sum(axis=0)
    return np.asarray(_DISCOUNT * np.log(every * len(places) / len(segments) + _LEAST), np.float32)


def means_of(segments: Vectors, exchanges: npt.NDArray[np.int64]) -> Floats:
    """(k, dim) of length 1: the mean of each exchange's segments, (n, dim), by the (n,) numbers of exchanges."""
    _, places = np.unique(exchanges, return_inverse=True)
    sums = np.zeros((int(places.max(initial=-1)) + 1, segments.shape[1]), np.float32)
    np.add.at(sums, places, segments)
    return of_length_1(sums)


def prototypes_of(tensors: Mapping[str, npt.NDArray[Any]], dim: int) -> Prototypes | None:
    """Take ``prototypes.places``, ``.crowding`` and ``.pull`` out of named arrays; None where there are none.

    Raises:
        WeightsDamaged: one is missing, has another shape, or holds what is no number.
    """
    names = ("prototypes.places", "prototypes.crowding", "prototypes.pull")
    here = [np.ascontiguousarray(tensors[name], np.float32) for name in names if name in tensors]
    if not here:
        return None
    shapes = [one.shape for one in here]
    if shapes != [(len(here[0]), dim), (len(here[0]),), (1,)] or not all(np.isfinite(one).all() for one in here):
        raise WeightsDamaged(f"the prototypes do not fit {dim} dimensions", "Train the model again")
    return Prototypes(here[0], here[1], float(here[2][0]))
