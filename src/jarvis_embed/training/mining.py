"""Triplets without labels: a trigger, one that is answered alike, one that looks alike and is answered otherwise."""

from __future__ import annotations

from typing import Final

import numpy as np

from ..evaluation.metrics import nearest_rows
from ..models.engine import Vectors
from .texts import Rows

NEIGHBOURS: Final = 20
LIKE: Final = 0.6
"""Reference cosine from which two responses say about the same."""

MARGIN: Final = 0.5
"""A dissimilar trigger's response is at most so near to the anchor's, as a share of the similar one's nearness."""


def mine_triplets(triggers: Vectors, responses: Vectors, near: Rows) -> Rows:
    """Find a triplet for each trigger that has one.

    Similar is the trigger whose response is nearest, by the reference, among those that are no near-duplicates.
    Dissimilar is the nearest trigger whose response is far from the anchor's by a margin relative to the similar one's:
    the filter that sentence-transformers' ``mine_hard_negatives`` has, applied to the responses, which say whether a
    negative is a true one.

    Args:
        triggers: (n, dim) under the parent. responses: (n, dim) of their answers, under the frozen reference.
        near: (n,) equal for triggers that are near-duplicates.

    Returns:
        (t, 3) rows: anchor, similar, dissimilar; t ≤ n.
    """
    if len(triggers) < 3:
        return np.zeros((0, 3), np.int64)
    number = min(NEIGHBOURS, len(triggers) - 1)
    answered_alike, look_alike = nearest_rows(responses, number), nearest_rows(triggers, number)
    anchors = np.arange(len(triggers))
    likeness = _cosines(responses, answered_alike)
    likeness[near[answered_alike] == near[:, None]] = -1
    best = likeness.argmax(axis=1)
    similar, nearness = answered_alike[anchors, best], likeness[anchors, best]
    other = _cosines(responses, look_alike) <= MARGIN * nearness[:, None]
    other &= (near[look_alike] != near[:, None]) & (near[look_alike] != near[similar][:, None])
    kept = (nearness >= LIKE) & other.any(axis=1)
    dissimilar = look_alike[anchors, other.argmax(axis=1)]
    return np.asarray(np.stack([anchors, similar, dissimilar], axis=1)[kept], np.int64)


def _cosines(vectors: Vectors, rows: Rows) -> Vectors:
    """(n, k): each vector's cosines with those of its rows, block by block."""
    blocks = [
        np.einsum("nd,nkd->nk", vectors[start : start + 1024], vectors[rows[start : start + 1024]])
        for start in range(0, len(vectors), 1024)
    ]
    return np.concatenate(blocks)
