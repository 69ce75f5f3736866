"""The FAISS index over trigger vectors: exact while that is fast, approximate with exact rescoring above."""

from __future__ import annotations

from typing import Any, Final, Literal, Self

import faiss
import numpy as np
import numpy.typing as npt

from ..models.engine import Vectors

IndexKind = Literal["exact", "ivf"]

EXACT_BELOW: Final = 50_000
"""Rows up to which all of them are compared; about 7 ms for a query at this size."""

# Measured on 105k chitchat triggers (docs/index.md): recall@10 and time both grow with the lists that are probed.
_PROBED: Final = 0.25
_RESCORED: Final = 4
_TRAINING_ROWS: Final = 40_000
_BLOCK: Final = 16_384


class TriggerIndex:
    """Nearest rows by cosine. Row numbers are those of the vectors that it was built over."""

    def __init__(self, index: Any, vectors: Vectors) -> None:
        self._index, self._vectors = index, vectors

    @classmethod
    def build(cls, vectors: Vectors) -> Self:
        """Index all rows of ``vectors``, (n, dim) float32 of length 1, which may be mapped from a file."""
        rows, dim = vectors.shape
        index: Any
        if rows < EXACT_BELOW:
            index = faiss.IndexFlatIP(dim)
        else:
            lists = int(4 * np.sqrt(rows))
            index = faiss.IndexIVFScalarQuantizer(
                faiss.IndexFlatIP(dim), dim, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
            )
            index.cp.seed = 1234
            index.cp.niter = 10
            index.cp.min_points_per_centroid = 8  # enough for lists of which a quarter is read; no warning
            chosen = np.sort(np.random.default_rng(0).choice(rows, min(rows, _TRAINING_ROWS), replace=False))
            index.train(np.ascontiguousarray(vectors[chosen]))
        for start in range(0, rows, _BLOCK):
            index.add(np.ascontiguousarray(vectors[start : start + _BLOCK]))
        return cls._ready(index, vectors)

    @classmethod
    def load(cls, serialised: npt.NDArray[np.uint8], vectors: Vectors) -> Self:
        """Restore an index that ``serialised`` made over these ``vectors``."""
        return cls._ready(faiss.deserialize_index(np.asarray(serialised)), vectors)

    @classmethod
    def _ready(cls, index: Any, vectors: Vectors) -> Self:
        if isinstance(index, faiss.IndexIVF):
            index.nprobe = max(1, round(_PROBED * index.nlist))
        return cls(index, vectors)

    @property
    def kind(self) -> IndexKind:
        return "ivf" if isinstance(self._index, faiss.IndexIVF) else "exact"

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def serialised(self) -> npt.NDArray[np.uint8]:
        """The index as bytes, without the vectors that it rescores with.

        faiss's own function holds it three times for a moment; here it is written twice, first only to be measured.
        """
        to: Any = faiss  # its stubs do not know writers
        size = 0

        def measured(block: bytes) -> None:
            nonlocal size
            size += len(block)

        to.write_index(self._index, to.PyCallbackIOWriter(measured))
        whole, at = np.empty(size, np.uint8), 0

        def taken(block: bytes) -> None:
            nonlocal at
            whole[at : at + len(block)] = np.frombuffer(block, np.uint8)
            at += len(block)

        to.write_index(self._index, to.PyCallbackIOWriter(taken))
        return whole

    def search(self, queries: Vectors, k: int) -> tuple[Vectors, npt.NDArray[np.int64]]:
        """Find the ``k`` nearest rows of each query.

        Args:
            queries: (q, dim) float32 of length 1.

        Returns:
            cosines and rows, each (q, min(k, n)), best first.
        """
        k = min(k, len(self))
        queries = np.ascontiguousarray(queries, np.float32)
        if self.kind == "exact":
            scores, rows = self._index.search(queries, k)
            return scores, rows
        _, candidates = self._index.search(queries, min(k * _RESCORED, len(self)))
        return _rescored(queries, candidates, self._vectors, k)


def nearest_rows(
    vectors: Vectors, query: Vectors, k: int, index: TriggerIndex | None = None
) -> list[tuple[float, int]]:
    """The ``k`` rows with the highest cosines: (cosine, row), best first, the earlier among equals.

    Args:
        vectors: (n, dim), read from a file in blocks. query: (dim,) float32 of length 1.
        index: over ``vectors``; None to compare all of them.
    """
    if index is not None:
        near, rows = index.search(query[None], k)
        return [(score, row) for score, row in zip(near[0].tolist(), rows[0].tolist(), strict=True) if row >= 0]
    scores = np.concatenate(
        [vectors[start : start + _BLOCK] @ query for start in range(0, len(vectors), _BLOCK)] or [np.empty(0)]
    )
    best = np.argsort(-scores, kind="stable")[:k]
    return list(zip(scores[best].tolist(), best.tolist(), strict=True))


def _rescored(
    queries: Vectors, candidates: npt.NDArray[np.int64], vectors: Vectors, k: int
) -> tuple[Vectors, npt.NDArray[np.int64]]:
    """Order candidates by their exact cosine; -1 stands where a probed list had no more."""
    exact = np.einsum("qd,qcd->qc", queries, vectors[candidates], dtype=np.float32)
    exact[candidates < 0] = -np.inf
    order = np.argsort(-exact, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(exact, order, 1), np.take_along_axis(candidates, order, 1)
