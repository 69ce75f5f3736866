"""What runs an encoder: tokens in, unit vectors out. There are two: onnxruntime, and the kernel (``kernel``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Tokens = Sequence[int]
"""The tokens of one text, the special ones included: never empty."""

READ: Final = 3
"""Vectors in a reading."""

Progress = Callable[[int], None]
"""Called with the number of texts that were just done."""


def of_length_1(vectors: Vectors) -> Vectors:
    """Each row of (n, dim) brought to length 1; a row of zeros stays."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), np.float32)


class Engine(Protocol):
    """Safe to call from several threads at once.

    What it gives of a text is its **reading**: ``READ`` vectors of length 1, one behind the other. First that of the
    text, by the model's pooling; then that by the other pooling (the first token, or the mean of all); then that of
    the last token. To keep the two costs nothing, and classifiers may read them.

    Attributes:
        name: ``"onnx"`` or ``"kernel"``.
        dim: length of a vector.
    """

    name: str
    dim: int

    def one(self, tokens: Tokens) -> Vectors:
        """The reading of one text by the shortest way, (1, READ · dim) float32."""
        ...

    def many(self, tokens: Sequence[Tokens], progress: Progress) -> Vectors:
        """The readings of all texts, (n, READ · dim) float32 in their order, n ≥ 1."""
        ...
