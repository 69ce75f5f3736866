"""How sure a figure is: its 95 % interval when conversations are drawn again, and the difference of two models.

What one conversation says is not independent of what else it says, so whole conversations are drawn, with replacement
(the cluster bootstrap; Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, percentile intervals). A figure is
kept as sums that can be added up over conversations, and the function that makes the figure out of the sums. Then a
draw is nothing but weights, a thousand draws are one product of matrices, and two models under the same seed see the
same draws: that is what makes their difference a paired one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ..errors import InputError

DRAWS: Final = 1000
LEVEL: Final = 0.95
_BLOCK: Final = 100
"""Draws that are worked on at once, so that the weights of 40,000 rows take some megabytes."""

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Statistic = Callable[[Floats], Floats]
"""Sums (…, m) → figures (…)."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Where the figure lies in ``LEVEL`` of the draws."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """How much higher one model's figure is than another's, on the same conversations."""

    value: float
    interval: Interval

    @property
    def is_gain(self) -> bool:
        """Whether the whole interval is above zero."""
        return self.interval.low > 0


@dataclass(frozen=True, slots=True)
class Contributions:
    """What each conversation contributes to a figure.

    Attributes:
        conversations: their names, in the order in which ``group`` numbers them.
        group: (n,) the conversation of each row.
        moments: (n, m) what is summed up over rows.
        statistic: makes the figure out of the sums.
        other: (n,) the second conversation of a row about two of them, -1 where there is none. Such a row counts as
            often as both were drawn.
    """

    conversations: tuple[str, ...]
    group: Rows
    moments: Floats
    statistic: Statistic
    other: Rows | None = None

    @property
    def value(self) -> float:
        """The figure itself."""
        return float(self.statistic(self.moments.sum(0)))

    @property
    def groups(self) -> int:
        """How many conversations take part."""
        used = self.group if self.other is None else np.concatenate([self.group, self.other[self.other >= 0]])
        return len(np.unique(used))


def draws(contributions: Contributions, seed: int, number: int = DRAWS) -> Floats:
    """The figure in ``number`` draws of conversations, (number,). Equal seed and conversations: equal draws."""
    many = len(contributions.conversations)
    counts = np.random.default_rng(seed).multinomial(many, np.full(many, 1 / many), size=number).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):  # a draw may hold no row at all; it says nothing
        return np.concatenate([contributions.statistic(sums) for sums in _sums(contributions, counts)])


def interval(contributions: Contributions, seed: int) -> Interval:
    """The percentile interval of the figure."""
    return _middle(draws(contributions, seed))


def difference(ours: Contributions, theirs: Contributions, seed: int) -> Difference:
    """The paired difference ``ours - theirs`` of one metric, measured for two models on the same material.

    Raises:
        InputError: they were not measured on the same conversations.
    """
    if ours.conversations != theirs.conversations:
        raise InputError("the two figures come from different conversations", "Examine both models on the same ones")
    return Difference(ours.value - theirs.value, _middle(draws(ours, seed) - draws(theirs, seed)))


def of_groups(names: list[str]) -> tuple[tuple[str, ...], Rows]:
    """Number the conversation names of rows: the different names in order of appearance, and the (n,) numbers."""
    order = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return tuple(order), np.array([order[name] for name in names], np.int64)


def _sums(contributions: Contributions, counts: Floats) -> Iterator[Floats]:
    """The sums of each draw, (draws, m), block by block."""
    first, second, moments = _merged(contributions)
    if second is None:
        yield counts[:, first] @ moments
        return
    # One row of weights a conversation, and beneath them a row of ones for "no second conversation" (-1).
    by_conversation = np.ascontiguousarray(np.vstack([counts.T, np.ones(len(counts))]))
    for start in range(0, len(counts), _BLOCK):
        block = np.ascontiguousarray(by_conversation[:, start : start + _BLOCK])
        yield (moments.T @ (block[first] * block[second])).T


def _merged(contributions: Contributions) -> tuple[Rows, Rows | None, Floats]:
    """Add up the rows that weigh the same in every draw: those of one conversation, or of the same two."""
    group, other, moments = contributions.group, contributions.other, contributions.moments
    many = len(contributions.conversations) + 1
    if other is None:
        code = group
    else:
        alone = other < 0
        low, high = np.where(alone, group, np.minimum(group, other)), np.where(alone, -1, np.maximum(group, other))
        code = low * many + high + 1
    found, place = np.unique(code, return_inverse=True)
    columns = [np.bincount(place, column, len(found)) for column in moments.T]
    sums = np.asarray(np.stack(columns, axis=1), np.float64)
    if other is None:
        return found, None, sums
    return found // many, found % many - 1, sums


def _middle(values: Floats) -> Interval:
    low, high = np.nanquantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))
