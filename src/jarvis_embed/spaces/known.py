"""What was embedded before: the vectors of an earlier generation, by the keys of their texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, Self

import numpy as np

from ..errors import SpaceDamaged
from ..models.engine import Vectors
from .artifact import Array, open_artifact
from .delta import DELTA_FILE
from .manifest import check_files, read_manifest
from .segment_index import SEGMENTS_DELTA, SEGMENTS_FILE
from .space import VECTORS_FILE
from .vector_log import VectorLog, split_keys

_WITH_VECTORS: Final = (VECTORS_FILE, DELTA_FILE, SEGMENTS_FILE, SEGMENTS_DELTA)


class Known:
    """Vectors by key.

    Args:
        parts: of each artifact, its ``keys`` and its ``vectors``.
    """

    def __init__(self, parts: Iterable[Mapping[str, Array]] = ()) -> None:
        self._rows: dict[bytes, int] = {}
        self._parts: list[Vectors] = []
        for arrays in parts:
            first = sum(map(len, self._parts))
            self._rows |= {key: first + row for row, key in enumerate(split_keys(arrays["keys"]))}
            self._parts.append(arrays["vectors"])

    @classmethod
    def of_generation(cls, folder: Path | None, fingerprint: str) -> Self:
        """Those of the generation in ``folder``; none if it has another fingerprint or is not whole."""
        try:
            manifest = read_manifest(folder) if folder is not None else None
            if folder is None or manifest is None or manifest.fingerprint != fingerprint:
                return cls()
            check_files(folder, manifest, checksums=True)
            return cls(open_artifact(folder / name, fingerprint) for name in _WITH_VECTORS if name in manifest.files)
        except SpaceDamaged:
            return cls()  # a reason to build, not to fail: everything is embedded anew

    def __contains__(self, key: bytes) -> bool:
        return key in self._rows

    def vector(self, key: bytes) -> Vectors:
        """(dim,) float32."""
        row = self._rows[key]
        for part in self._parts:
            if row < len(part):
                return np.asarray(part[row])
            row -= len(part)
        raise KeyError(key)


def gathered(keys: list[bytes], log: VectorLog, old: Known, block: int) -> Iterator[Vectors]:
    """The vector of each key in turn, ``block`` at a time, from the log or from the earlier generation."""
    logged = log.vectors()
    for start in range(0, len(keys), block):
        here = keys[start : start + block]
        yield np.stack([logged[log.rows[key]] if key in log.rows else old.vector(key) for key in here])
