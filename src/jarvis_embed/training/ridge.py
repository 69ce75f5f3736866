"""Ridge regression: the best linear map from vectors to what shall be read off them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]


def ridge(vectors: Floats, wanted: Floats, counts: Floats, penalty: float) -> tuple[Floats, Floats]:
    """The weights and the bias that read ``wanted`` off ``vectors`` best, by least squares.

    Args:
        vectors: (n, dim) float64. wanted: (n,) or (n, k). counts: (n,), how much each row counts.

    Returns:
        (dim,) or (dim, k), and () or (k,).
    """
    middle, centre = np.average(vectors, axis=0, weights=counts), np.average(wanted, axis=0, weights=counts)
    spread = (vectors - middle) * counts[:, None]
    inner = spread.T @ (vectors - middle) + penalty * np.eye(vectors.shape[1])
    weight = np.linalg.solve(inner, spread.T @ (wanted - centre))
    return weight, centre - middle @ weight
