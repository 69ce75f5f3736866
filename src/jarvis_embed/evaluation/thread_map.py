"""The threads of a space in the plane: what was said in one exchange, joined by lines, among everything else."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Final

import numpy as np

from ..spaces.space import Space
from .trigger_map import in_the_plane

SHOWN: Final = 6
"""Threads that are drawn with their lines."""

_SEGMENTS: Final = (3, 8)
_AROUND: Final = 400

Spot = tuple[float, float]


@dataclass(frozen=True, slots=True)
class ThreadMap:
    """Segments of a space on two principal components, which hold ``explained`` of the variance.

    Attributes:
        threads: of each thread that is shown, its segments in their order.
        around: other segments, so that one sees where threads could lie.
    """

    explained: float
    threads: tuple[tuple[Spot, ...], ...]
    around: tuple[Spot, ...]


def map_threads(space: Space, seed: int) -> ThreadMap | None:
    """Draw threads of 3 to 8 segments, and segments of any; None where no two threads are so long."""
    stored = [(space.segments.segment(int(row)), int(row)) for row in space.segments.rows()]
    stored.sort(key=lambda one: (one[0].conversation, one[0].thread, one[0].places))
    threads = [
        [row for _, row in group] for _, group in groupby(stored, key=lambda one: (one[0].conversation, one[0].thread))
    ]
    rng = np.random.default_rng(seed)
    long = [rows for rows in threads if _SEGMENTS[0] <= len(rows) <= _SEGMENTS[1]]
    if len(long) < 2:
        return None
    chosen = [long[place] for place in rng.permutation(len(long))[:SHOWN]]
    shown = [row for rows in chosen for row in rows]
    others = np.setdiff1d([row for _, row in stored], shown)
    around = np.sort(rng.choice(others, min(_AROUND, len(others)), replace=False))
    explained, places = in_the_plane(space.segments.vectors(np.concatenate([np.array(shown, np.int64), around])))
    spots = [(round(x, 4), round(y, 4)) for x, y in places.tolist()]
    ends = np.cumsum([0, *map(len, chosen)]).tolist()
    return ThreadMap(
        explained=explained,
        threads=tuple(tuple(spots[start:stop]) for start, stop in pairwise(ends)),
        around=tuple(spots[ends[-1] :]),
    )
