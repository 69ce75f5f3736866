"""How well links, threads and boundaries are found. Everything in percent, higher better, but P_k and WindowDiff.

Links and threads as the evaluation scripts of Kummerfeld et al., "A Large-Scale Corpus for Conversation
Disentanglement" (ACL 2019) count them: over the messages of all logs together.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .bootstrap import Contributions

Link = tuple[int, int]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Found:
    """How many were there, how many were said to be, and how many of them rightly."""

    there: int
    said: int
    right: int

    @property
    def precision(self) -> float:
        return 100 * self.right / self.said if self.said else 0.0

    @property
    def recall(self) -> float:
        return 100 * self.right / self.there if self.there else 0.0

    @property
    def f1(self) -> float:
        return 200 * self.right / (self.there + self.said) if self.right else 0.0


@dataclass(frozen=True, slots=True)
class ThreadScores:
    """How alike two clusterings of the same messages are.

    Attributes:
        variation: 1 - VI / log n. VI, the variation of information, is what one clustering leaves unknown of the
            other, both ways; n messages bound it by log n.
        one_to_one: messages in common when the threads of both sides are paired for the most of them.
        shen: of each true thread the best F1 with a found one, weighted by its size (Shen et al., SIGIR 2006).
        exact: threads of two messages or more that are the same on both sides.
    """

    variation: float
    one_to_one: float
    shen: float
    exact: Found


def link_counts(gold: Sequence[set[Link]], said: Sequence[set[Link]]) -> list[Found]:
    """Links found in each log. (message, message) says that it begins a thread, and counts as a link."""
    return [Found(len(true), len(claimed), len(true & claimed)) for true, claimed in zip(gold, said, strict=True)]


def added(counts: Sequence[Found]) -> Found:
    return Found(sum(c.there for c in counts), sum(c.said for c in counts), sum(c.right for c in counts))


def link_f1(names: Sequence[str], counts: Sequence[Found]) -> Contributions:
    """F1 over links as sums over logs, for its interval."""
    moments = np.array([(count.there, count.said, count.right) for count in counts], np.float64)
    return Contributions(
        tuple(names),
        np.arange(len(counts)),
        moments,
        lambda sums: 200 * sums[..., 2] / np.maximum(sums[..., 0] + sums[..., 1], 1),
    )


def thread_scores(gold: Sequence[Sequence[Hashable]], said: Sequence[Sequence[Hashable]]) -> ThreadScores:
    """Compare clusterings.

    Args:
        gold, said: for each log the true, and the found, thread of every message.
    """
    tables = [_contingency(true, claimed) for true, claimed in zip(gold, said, strict=True)]
    n = sum(int(table.sum()) for table in tables)
    if not n:
        raise ValueError("no messages")
    variation = sum(_unknown(table, n) for table in tables)
    return ThreadScores(
        variation=100 - 100 * variation / math.log2(n) if n > 1 else 100.0,
        one_to_one=100 * sum(_paired(table) for table in tables) / n,
        shen=100 * sum(_best_f1(table) for table in tables) / n,
        exact=added([_exact(table) for table in tables]),
    )


def _contingency(gold: Sequence[Hashable], said: Sequence[Hashable]) -> Counts:
    """How many messages each true thread (row) shares with each found one (column)."""
    rows: dict[Hashable, int] = {}
    columns: dict[Hashable, int] = {}
    places = [
        (rows.setdefault(true, len(rows)), columns.setdefault(claimed, len(columns)))
        for true, claimed in zip(gold, said, strict=True)
    ]
    table = np.zeros((len(rows), len(columns)), np.int64)
    for row, column in places:
        table[row, column] += 1
    return table


def _unknown(table: Counts, n: int) -> float:
    """This table's part of H(gold | said) + H(said | gold), in bits, for tables that add up to n."""
    row, column = np.nonzero(table)
    shared = table[row, column]
    sizes = table.sum(1)[row] * table.sum(0)[column]
    return float(-(shared / n * np.log2(shared.astype(np.float64) ** 2 / sizes)).sum())


def _paired(table: Counts) -> int:
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(table, maximize=True)
    return int(table[rows, columns].sum())


def _best_f1(table: Counts) -> float:
    sizes = table.sum(1, keepdims=True)
    f1 = 2 * table / (sizes + table.sum(0, keepdims=True))
    return float((sizes[:, 0] * f1.max(1, initial=0)).sum())


def _exact(table: Counts) -> Found:
    rows, columns = table.sum(1), table.sum(0)
    same = (table == rows[:, None]) & (table == columns[None, :]) & (table > 1)
    return Found(int((rows > 1).sum()), int((columns > 1).sum()), int(same.sum()))


@dataclass(frozen=True, slots=True)
class BoundaryScores:
    """How wrong boundaries are between 0 and 100 (lower is better), over streams of turns.

    Attributes:
        p_k: windows whose ends are wrongly held to be of one thread, or of two (Beeferman et al., "Statistical models
            for text segmentation", 1999).
        window_diff: windows with another number of boundaries than there are (Pevzner and Hearst, "A critique and
            improvement of an evaluation metric for text segmentation", 2002).
    """

    p_k: float
    window_diff: float


def boundary_scores(gold: Sequence[Sequence[int]], said: Sequence[Sequence[int]]) -> BoundaryScores:
    """Compare where one thread ends and another begins; windows are half as long as the mean thread of a stream.

    Args:
        gold, said: for each stream the true, and the found, thread of every turn.
    """
    windows = wrong = differing = 0
    for true, claimed in zip(gold, said, strict=True):
        there, found = _boundaries(true), _boundaries(claimed)
        k = max(2, round(len(true) / (2 * (there[-1] + 1))))
        if len(true) <= k:
            continue
        between, held = there[k:] - there[:-k], found[k:] - found[:-k]
        windows += len(between)
        wrong += int(((between == 0) != (held == 0)).sum())
        differing += int((between != held).sum())
    return BoundaryScores(100 * wrong / max(windows, 1), 100 * differing / max(windows, 1))


def _boundaries(threads: Sequence[int]) -> Counts:
    """How many boundaries lie before each turn."""
    numbers = np.asarray(threads, np.int64)
    return np.concatenate([[0], np.cumsum(numbers[1:] != numbers[:-1])])
