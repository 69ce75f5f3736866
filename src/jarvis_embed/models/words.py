"""The words of a segment, beside what it means: names and rare words, by which people find a conversation again.

A mean of meanings has lost them. Each token has fixed random signs, a segment the sum of those of its tokens, each as
much as it is rare (TF-IDF, brought to few numbers by random projection: Achlioptas 2003), and that sum is laid into
the directions in which the vectors of segments differ least, which meanings leave to it. So a segment still is one
vector of as many numbers. Numpy only; a token's signs are those of its number, whatever the machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..errors import WeightsDamaged
from .engine import Vectors, of_length_1

Floats = npt.NDArray[np.float32]

SHARE: Final = 0.2
"""What the words count beside the meaning, in squared length."""

_BITS: Final = 64
_RARE: Final = 1.5


@dataclass(frozen=True, slots=True)
class Words:
    """How segments are told apart by their words.

    Attributes:
        weights: (vocabulary,) float32, what each token counts.
        room: (width, dim) float32, directions at right angles to each other, each of length √SHARE.
    """

    weights: Floats
    room: Floats

    def __call__(self, segments: Sequence[Sequence[int]]) -> Vectors:
        """(segments, dim) of length √SHARE, from the tokens of each; zeros where nothing counts."""
        found = np.zeros((len(segments), len(self.room)), np.float32)
        known = np.unique(np.concatenate([np.zeros(0, np.int64), *(np.asarray(one, np.int64) for one in segments)]))
        signs = signs_of(known, len(self.room))
        for row, tokens in enumerate(segments):
            own, counts = np.unique(np.asarray(tokens, np.int64), return_counts=True)
            counted = (1 + np.log(counts)) * self.weights[own]
            found[row] = counted.astype(np.float32) @ signs[np.searchsorted(known, own)]
        return np.asarray(of_length_1(found) @ self.room, np.float32)

    def beside(self, meanings: Vectors, segments: Sequence[Sequence[int]]) -> Vectors:
        """(segments, dim) of length 1: the vectors of segments with their words, which have the room for themselves."""
        rest = np.asarray(meanings - meanings @ self.room.T @ self.room / SHARE, np.float32)
        return of_length_1(of_length_1(rest) + self(segments))


def rarity(segments: Sequence[Sequence[int]], vocabulary: int) -> Floats:
    """(vocabulary,): what each token counts, by how few of ``segments`` hold it; what all hold (as those that begin and
    end a text), nothing."""
    holding = np.zeros(vocabulary)
    for tokens in segments:
        holding[np.unique(tokens)] += 1
    return np.asarray(np.log((len(segments) + 1) / (holding + 1)) ** _RARE, np.float32)


def quiet_directions(vectors: Vectors) -> Floats:
    """(dim // 2, dim): those in which ``vectors``, (n, dim), differ least, each of length √SHARE."""
    _, directions = np.linalg.eigh(np.cov(vectors.astype(np.float64).T))
    return np.ascontiguousarray(np.sqrt(SHARE) * directions[:, : vectors.shape[1] // 2].T, np.float32)


def signs_of(tokens: npt.NDArray[np.int64], width: int) -> Floats:
    """(n, width) of 1 and −1: bits of SplitMix64 (Steele et al. 2014) of the token's number."""
    blocks = -(-width // _BITS)
    state = (tokens[:, None] * blocks + np.arange(blocks) + 1).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    bits = (state[:, :, None] >> np.arange(_BITS, dtype=np.uint64)) & np.uint64(1)
    return bits.reshape(len(tokens), blocks * _BITS)[:, :width].astype(np.float32) * 2 - 1


def words_of(tensors: Mapping[str, npt.NDArray[Any]], dim: int) -> Words | None:
    """Take ``words.weights`` and ``words.room`` out of named arrays; None where there are none.

    Raises:
        WeightsDamaged: one is missing, has another shape, or holds what is no number.
    """
    here = [tensors[name] for name in ("words.weights", "words.room") if name in tensors]
    if not here:
        return None
    whole = len(here) == 2 and here[0].ndim == 1 and here[1].shape[1:] == (dim,)
    if not whole or not all(np.isfinite(one).all() for one in here):
        raise WeightsDamaged(f"what is known of words does not fit {dim} dimensions", "Train the model again")
    return Words(*(np.ascontiguousarray(one, np.float32) for one in here))
