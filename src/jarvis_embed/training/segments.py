"""Which turns make a segment while a model is trained: two windows of one conversation that do not overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from .material import PairSet, Rows

LEAST_TURNS: Final = 2
MOST_TURNS: Final = 6


def turn_sequences(pairs: PairSet) -> list[Rows]:
    """The turns of each conversation, as rows of texts in their order; each once."""
    edges = np.flatnonzero(np.diff(pairs.conversations)) + 1
    return [turns_of_run(pairs, rows) for rows in np.split(np.arange(len(pairs.triggers)), edges) if len(rows)]


def turns_of_run(pairs: PairSet, run: Rows) -> Rows:
    """The turns of consecutive pairs: what one pair answers with is mostly what the next one asks."""
    turns: list[int] = []
    for trigger, response in zip(pairs.triggers[run].tolist(), pairs.responses[run].tolist(), strict=True):
        turns += [trigger, response] if not turns or turns[-1] != trigger else [response]
    return np.array(turns, np.int64)


def two_segments(turns: Rows, rng: np.random.Generator) -> Rows | None:
    """Two windows that do not overlap, of different sizes: (2, ``MOST_TURNS``) rows, -1 behind the last turn of each.

    None where there are too few turns, or where both would hold one text: that would say nothing about a thread.
    """
    if len(turns) < 2 * LEAST_TURNS:
        return None
    sizes = rng.integers(LEAST_TURNS, MOST_TURNS + 1, size=2)
    if sizes.sum() > len(turns):
        sizes[:] = min(len(turns) // 2, MOST_TURNS)
    free = len(turns) - int(sizes.sum())
    first = int(rng.integers(free + 1))
    second = first + int(sizes[0]) + int(rng.integers(free - first + 1))
    windows = turns[first : first + sizes[0]], turns[second : second + sizes[1]]
    if np.intersect1d(*windows).size:
        return None
    found = np.full((2, MOST_TURNS), -1, np.int64)
    for row, window in enumerate(windows):
        found[row, : len(window)] = window
    return found


def drawn_segments(sequences: Sequence[Rows], rng: np.random.Generator) -> Rows:
    """(n, 2, ``MOST_TURNS``): two segments of each of the sequences that are long enough."""
    found = [pair for turns in sequences if (pair := two_segments(turns, rng)) is not None]
    return np.stack(found) if found else np.zeros((0, 2, MOST_TURNS), np.int64)
