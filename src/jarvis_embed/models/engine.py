"""What runs an encoder: tokens in, unit vectors out. There are two: onnxruntime, and the kernel (``kernel``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Tokens = Sequence[int]
"""The tokens of one text, the special ones included: never empty."""

Progress = Callable[[int], None]
"""Called with the number of texts that were just done."""


class Engine(Protocol):
    """Safe to call from several threads at once.

    Attributes:
        name: ``"onnx"`` or ``"kernel"``.
        dim: length of a vector.
    """

    name: str
    dim: int

    def one(self, tokens: Tokens) -> Vectors:
        """The vector of one text by the shortest way, (1, dim) float32."""
        ...

    def many(self, tokens: Sequence[Tokens], progress: Progress) -> Vectors:
        """The vectors of all texts, (n, dim) float32 in their order, n ≥ 1."""
        ...
