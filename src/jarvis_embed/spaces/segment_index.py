"""The segments of a generation, opened for search: which past moments of conversations are like a given one.

Two files hold them, laid out alike: those of the last whole build, and what has changed since (see ``delta``).

    vectors, keys       (s, dim) float32 and (s, 16) uint8, of the segments, by their turns
    conversation        (s,) int64: ``records.conversation_id``
    thread              (s,) int64: where in its conversation the segment's thread begins
    first, places       (s + 1,) and (p,) int64: where its turns begin, ``places[first[i] : first[i + 1]]``
    revision            (1,) int64, in the whole one: of the library, when it was read
    gone                (g,) int64, in the changes: segments of the whole one that are no more

A third file has an index over the whole one's vectors, where comparing all of them would be slow.
The texts are read from the library, and compared with the key: a segment that has changed since the build is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from ..models.engine import Vectors
from .artifact import Array, open_artifact
from .index import TriggerIndex, nearest_rows
from .manifest import Manifest

SEGMENTS_FILE: Final = "segments.safetensors"
SEGMENTS_DELTA: Final = "segments-delta.safetensors"
SEGMENT_INDEX_FILE: Final = "segments-index.safetensors"


@dataclass(frozen=True, slots=True)
class StoredSegment:
    """A segment as numbers: ``places`` are those of its turns in its conversation; ``key`` is that of its turns."""

    conversation: int
    thread: int
    places: tuple[int, ...]
    key: bytes


class SegmentIndex:
    """The segments of a generation. Rows of the changes follow those of the whole build."""

    def __init__(
        self, whole: Mapping[str, Array], changes: Mapping[str, Array] | None = None, index: TriggerIndex | None = None
    ) -> None:
        self._parts = [whole] if changes is None else [whole, changes]
        self._rows = len(whole["keys"])
        self._gone = frozenset() if changes is None else frozenset(changes["gone"].tolist())
        self._index = index

    @classmethod
    def open(cls, folder: Path, manifest: Manifest) -> SegmentIndex | None:
        """Open those of the generation in ``folder``; None if it was built when there were none."""
        if SEGMENTS_FILE not in manifest.files:
            return None
        opened = {
            name: open_artifact(folder / name, manifest.fingerprint)
            for name in (SEGMENTS_FILE, SEGMENTS_DELTA, SEGMENT_INDEX_FILE)
            if name in manifest.files
        }
        whole, index = opened[SEGMENTS_FILE], opened.get(SEGMENT_INDEX_FILE)
        loaded = None if index is None else TriggerIndex.load(index["faiss"], whole["vectors"])
        return cls(whole, opened.get(SEGMENTS_DELTA), loaded)

    def __len__(self) -> int:
        return sum(len(part["keys"]) for part in self._parts) - len(self._gone)

    def nearest(self, vector: Vectors, k: int) -> list[tuple[float, int]]:
        """The ``k`` nearest segments: (cosine, row), best first, the earlier row among equals.

        Args:
            vector: (dim,) float32 of length 1.
        """
        in_whole = nearest_rows(self._parts[0]["vectors"], vector, k + len(self._gone), self._index)
        found = [(score, row) for score, row in in_whole if row not in self._gone]
        for part in self._parts[1:]:
            found += [(score, self._rows + row) for score, row in nearest_rows(part["vectors"], vector, k)]
        return sorted(found, key=lambda one: (-one[0], one[1]))[:k]

    def segment(self, row: int) -> StoredSegment:
        """What is stored of the segment at ``row``."""
        part, at = (self._parts[0], row) if row < self._rows else (self._parts[1], row - self._rows)
        start, stop = part["first"][at : at + 2].tolist()
        return StoredSegment(
            conversation=int(part["conversation"][at]),
            thread=int(part["thread"][at]),
            places=tuple(part["places"][start:stop].tolist()),
            key=part["keys"][at].tobytes(),
        )

    def rows(self) -> npt.NDArray[np.int64]:
        """The rows of all segments that still are."""
        every = np.arange(sum(len(part["keys"]) for part in self._parts))
        return np.setdiff1d(every, np.fromiter(self._gone, np.int64, len(self._gone)), assume_unique=True)

    def vectors(self, rows: npt.NDArray[np.int64]) -> Vectors:
        """The vectors of some rows: (len(rows), dim) float32."""
        whole = self._parts[0]["vectors"]
        found = np.empty((len(rows), whole.shape[1]), np.float32)
        old = rows < self._rows
        found[old] = whole[rows[old]]
        if not old.all():
            found[~old] = self._parts[1]["vectors"][rows[~old] - self._rows]
        return found
