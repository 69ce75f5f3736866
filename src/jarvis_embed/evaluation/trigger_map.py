"""The triggers of a space in the plane, so that one can look at it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ..models.engine import Vectors
from ..spaces.space import Space

MAPPED: Final = 600
"""Triggers that are drawn from a space."""


@dataclass(frozen=True, slots=True)
class Point:
    """A trigger. ``pair``: the id of the newest pair that it began, for the text stays out.

    Attributes:
        label: the likeliest kind of message; None where the space has no classifiers.
    """

    pair: int
    x: float
    y: float
    label: str | None = None


@dataclass(frozen=True, slots=True)
class TriggerMap:
    """Triggers drawn from a space, on its two first principal components, which hold ``explained`` of the variance."""

    explained: float
    points: tuple[Point, ...]


def map_triggers(space: Space, seed: int) -> TriggerMap | None:
    """Draw triggers of a space and lay them in the plane by principal components (Pearson 1901)."""
    many = space.manifest.triggers
    if many < 3:
        return None
    rows = np.sort(np.random.default_rng(seed).choice(many, min(MAPPED, many), replace=False))
    vectors = space.vectors(rows.tolist())
    explained, places = in_the_plane(vectors)
    pairs = [space.neighbours(vector, triggers=1, per_trigger=1)[0].pair_id for vector in vectors]
    labels = _labels(space, vectors, pairs)
    return TriggerMap(
        explained=explained,
        points=tuple(
            Point(pair, round(x, 4), round(y, 4), labels.get(pair))
            for pair, (x, y) in zip(pairs, places.tolist(), strict=True)
        ),
    )


def in_the_plane(vectors: Vectors) -> tuple[float, npt.NDArray[np.float64]]:
    """Places on the two first principal components, (n, 2), and the share of the variance that they hold.

    Args:
        vectors: (n, dim), of three rows at least.
    """
    centred = vectors.astype(np.float64) - vectors.mean(0, dtype=np.float64)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:2] * np.sign(axes[:2, np.abs(axes[:2]).argmax(1)].diagonal())[:, None]  # svd leaves the sign open
    return float((sizes[:2] ** 2).sum() / (sizes**2).sum()), np.asarray(centred @ axes.T)


def _labels(space: Space, vectors: Vectors, pairs: list[int]) -> dict[int, str]:
    """Pair → the label of its trigger."""
    if space.heads is None:
        return {}
    texts = {pair.id: pair.trigger for pair in space.library.pairs(pairs)}
    here = [place for place, pair in enumerate(pairs) if pair in texts]
    asked = [texts[pairs[place]] for place in here]
    readings = vectors[here]
    if space.encoder.read_width > space.encoder.dim:  # the space keeps vectors alone
        readings = space.encoder.read(asked)
    found = space.heads.label_triggers(readings, asked, force=True)
    return {pairs[place]: label.name for place, label in zip(here, found, strict=True) if label.name is not None}
