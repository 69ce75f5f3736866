"""Texts as numbers: each once, and everything that is learned from says which row it means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from ..text import normalise

Tokens = Sequence[int]
Rows = npt.NDArray[np.int64]
Halves = npt.NDArray[np.float16]


class Texts:
    """Numbers texts, each once, in the order in which they come."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}

    def row(self, text: str) -> int:
        return self.rows.setdefault(normalise(text), len(self.rows))

    def of(self, texts: Iterable[str]) -> Rows:
        return np.array([self.row(text) for text in texts], np.int64)

    def padded(self, groups: Sequence[Iterable[str]], longest: int) -> Rows:
        """(groups, longest): the rows of each group's texts, -1 behind its last."""
        found = np.full((len(groups), longest), -1, np.int64)
        for row, group in enumerate(groups):
            of_group = self.of(group)
            found[row, : len(of_group)] = of_group
        return found
