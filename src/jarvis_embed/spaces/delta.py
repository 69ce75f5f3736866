"""What has changed since the large files of a generation were made, in a small file beside them.

An index over 100,000 triggers takes seconds to train, and ten new messages change next to nothing in it. So a
generation may share the large files of the one before it (hard links; they are never written to) and add a delta:

    keys, vectors       (d, 16) uint8, (d, dim) float32: texts that the base does not hold; their rows follow its rows
    trigger_row         (t,) int64: triggers that have new pairs, by their row in base or delta, ascending
    first, pair_id, response_row, response_ms      the new pairs, laid out as in the base (``space.write_pairs``)
    gone                (g,) int64: ids of pairs of the base that the library does not hold any more

A text has one row, in the base or in the delta, so that equal rows still are equal texts.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from ..models.engine import Vectors
from .artifact import Array, open_artifact
from .index import TriggerIndex

DELTA_FILE: Final = "delta.safetensors"

StoredPair = tuple[int, int, int]
"""Of a pair: its id, the row of its response, and when that was, in ms."""


def stored_pairs(arrays: Mapping[str, Array], place: int) -> Iterator[StoredPair]:
    """The pairs of the trigger at ``place``, newest first."""
    start, end = arrays["first"][place : place + 2].tolist()
    for position in range(start, end):
        yield _pair_at(arrays, position)


def stored_pair(arrays: Mapping[str, Array], position: int) -> tuple[int, StoredPair]:
    """Which trigger, by its place, the pair at ``position`` has; and the pair."""
    place = int(np.searchsorted(arrays["first"], position, side="right")) - 1
    return place, _pair_at(arrays, position)


def _pair_at(arrays: Mapping[str, Array], position: int) -> StoredPair:
    identity, row, ms = (int(arrays[name][position]) for name in ("pair_id", "response_row", "response_ms"))
    return identity, row, ms


class Delta:
    """A delta opened over the vectors of its base. Its rows are few enough to compare all of them (docs/index.md)."""

    def __init__(self, arrays: Mapping[str, Array], base: Vectors) -> None:
        self._arrays, self._base = arrays, base
        self._gone = frozenset(arrays["gone"].tolist())
        self._rows = np.asarray(arrays["trigger_row"])
        self._place = {row: place for place, row in enumerate(self._rows.tolist())}
        self._index = TriggerIndex.build(self.vectors(self._rows))

    @classmethod
    def open(cls, folder: Path, fingerprint: str, base: Vectors) -> Delta:
        return cls(open_artifact(folder / DELTA_FILE, fingerprint), base)

    def __len__(self) -> int:
        """How many triggers have new pairs."""
        return len(self._rows)

    def vectors(self, rows: npt.NDArray[np.int64]) -> Vectors:
        """The vectors of text rows of base and delta: (len(rows), dim) float32."""
        found = np.empty((len(rows), self._base.shape[1]), np.float32)
        in_base = rows < len(self._base)
        found[in_base] = self._base[rows[in_base]]
        found[~in_base] = self._arrays["vectors"][rows[~in_base] - len(self._base)]
        return found

    def nearest(self, found: Iterable[tuple[float, int]], vector: Vectors, k: int) -> list[tuple[float, int]]:
        """Add the triggers of the delta to those that the base found: (cosine, row), best first, at most ``k``."""
        if not len(self):
            return list(found)
        scores, places = self._index.search(vector[None], k)
        own = dict(zip(self._rows[places[0]].tolist(), scores[0].tolist(), strict=True))
        merged = own | {row: score for score, row in found if row >= 0}
        return sorted(((score, row) for row, score in merged.items()), key=lambda pair: -pair[0])[:k]

    @property
    def gone(self) -> int:
        """How many pairs of the base are no more."""
        return len(self._gone)

    def is_gone(self, identity: int) -> bool:
        """Whether this pair of the base is no more."""
        return identity in self._gone

    def responses(self) -> Vectors:
        """The vectors of the new pairs' responses, (pairs, dim) float32, in the order of ``pair``."""
        return self.vectors(np.asarray(self._arrays["response_row"]))

    def pair(self, position: int) -> tuple[int, StoredPair]:
        """The row of the trigger of a new pair, and the pair."""
        place, pair = stored_pair(self._arrays, position)
        return int(self._rows[place]), pair

    def pairs_of(self, row: int, in_base: Iterable[StoredPair]) -> Iterator[StoredPair]:
        """The pairs of a trigger row, newest first: those of the base that still are, and the new ones."""
        place = self._place.get(row)
        new = () if place is None else stored_pairs(self._arrays, place)
        old = (pair for pair in in_base if pair[0] not in self._gone)
        return heapq.merge(old, new, key=lambda pair: (-pair[2], pair[0]))
