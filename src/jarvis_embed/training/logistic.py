"""Multinomial logistic regression on vectors and hashed facts: prior and heads are fitted by it.

scikit-learn's takes labels only, not probabilities, and one sparse matrix of everything: ten times slower with vectors
in it. Here vectors are multiplied by BLAS and facts by scipy, in 32 bits, by L-BFGS whose steps are a few products too
(Chen et al., "Large-scale L-BFGS using MapReduce", 2014).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..models.machine import usable_cores
from ..spaces.features import BUCKETS
from ..spaces.heads import Floats

_KEPT: Final = 5
"""Steps that the next one is computed from. Reading them is half the time of a fit; 8 fit no better."""

_UNSURE: Final = 0.005
"""p · (1 − p) of a label, on average: a guess at how curved the loss is. With this one the fewest steps are needed."""

Numbers = npt.NDArray[np.int64]
Loss = Callable[[Floats], tuple[float, Floats]]


@contextmanager
def cores() -> Iterator[Callable[..., Iterator[Any]]]:
    """A ``map`` that runs as many fits at once as there are cores, each on one: products of a fit are so small that
    threads which share one wait for each other most of the time."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), ThreadPoolExecutor(usable_cores()) as pool:
        yield pool.map


def fact_rows(facts: Sequence[Numbers], weight: float) -> Any:
    """The facts of texts as a sparse matrix (n, buckets) float32: ``weight`` / √(their number) where there is one."""
    from scipy import sparse

    many = np.array([len(buckets) for buckets in facts])
    values = np.repeat(weight / np.sqrt(np.maximum(many, 1)), many).astype(np.float32)
    columns, ends = np.concatenate(facts), np.concatenate([[0], np.cumsum(many)])
    return sparse.csr_matrix((values, columns, ends), shape=(len(facts), BUCKETS))


def fitted(inputs: Floats, facts: Any, counts: Floats, *, rounds: int, enough: float = 0.0) -> Floats:
    """The weights under which ``counts`` are likeliest, with a penalty of half their squares, but not the bias's.

    Args:
        inputs: (n, d), vectors. facts: sparse (n, buckets), see ``fact_rows``.
        counts: (n, c), how often each text has each label: weighted labels, or probabilities.
        rounds: steps at most. enough: the last step is the one that lowers the loss by no more than this share of it.

    Returns:
        (d + buckets + 1, c) float32: weights of the vector, of the facts, and the bias.
    """
    used = np.flatnonzero(np.bincount(facts.indices, minlength=facts.shape[1]))  # the others' weights stay 0
    there = facts[:, used]
    back, width, totals = there.T.tocsr(), inputs.shape[1], counts.sum(1, keepdims=True)
    shape = (width + len(used) + 1, counts.shape[1])
    curved = _UNSURE * np.concatenate([totals.T @ inputs**2, totals.T @ there.power(2), [[totals.sum()]]], axis=1)[0]
    curved[:-1] += 1
    scale = (1 / np.sqrt(curved)).astype(np.float32)[:, None]  # steps are equally long in all directions

    def loss(flat: Floats) -> tuple[float, Floats]:
        weights = flat.reshape(shape) * scale
        logits = inputs @ weights[:width] + there @ weights[width:-1] + weights[-1]
        logits -= logits.max(1, keepdims=True)
        likely = np.exp(logits)
        total = likely.sum(1, keepdims=True)
        wrong = (totals * np.log(total)).sum(dtype=np.float64) - (counts * logits).sum(dtype=np.float64)
        off = likely * (totals / total) - counts
        slope = np.concatenate([inputs.T @ off, back @ off, off.sum(0, keepdims=True)])
        slope[:-1] += weights[:-1]
        return float(wrong + 0.5 * (weights[:-1] ** 2).sum(dtype=np.float64)), (slope * scale).ravel()

    found = _least(loss, np.zeros(shape[0] * shape[1], np.float32), rounds, enough).reshape(shape) * scale
    weights = np.zeros((width + facts.shape[1] + 1, shape[1]), np.float32)
    weights[:width], weights[width + used], weights[-1] = found[:width], found[width:-1], found[-1]
    return weights


def _least(loss: Loss, point: Floats, rounds: int, enough: float) -> Floats:
    """Where a convex function is least, by L-BFGS; ``loss`` gives value and slope."""
    value, slope = loss(point)
    known = np.zeros((2 * _KEPT + 1, len(point)), np.float32)  # steps, how each changed the slope, the slope
    products = np.zeros((len(known), len(known)))
    for done in range(rounds):
        known[-1] = slope
        for row in (-1, (done - 1) % _KEPT, _KEPT + (done - 1) % _KEPT):  # what is new
            products[row] = products[:, row] = known @ known[row]
        direction = np.asarray(_shares(products, done) @ known, np.float32)
        steep, size = float(direction @ slope), 1.0 if done else 1 / max(float(np.linalg.norm(slope)), 1e-6)
        while True:
            further = point + np.float32(size) * direction
            lower, changed = loss(further)
            if lower <= value + 1e-4 * size * steep:
                break
            size /= 2
            if size < 1e-6:  # as low as 32 bits can tell
                return point
        known[done % _KEPT], known[_KEPT + done % _KEPT] = further - point, changed - slope
        gained, point, value, slope = value - lower, further, lower, changed
        if gained <= enough * value:
            break
    return point


def _shares(products: npt.NDArray[np.float64], done: int) -> Floats:
    """How much of each known row is in the next direction, by the products of the rows with each other."""
    share = np.zeros(len(products))
    share[-1] = -1
    pairs = [(step % _KEPT, _KEPT + step % _KEPT) for step in range(max(0, done - _KEPT), done)]
    pairs = [(step, change) for step, change in pairs if products[step, change] > 0]
    taken = {}
    for step, change in reversed(pairs):
        taken[step] = float(products[step] @ share / products[step, change])
        share[change] -= taken[step]
    if pairs:
        step, change = pairs[-1]
        share *= products[step, change] / products[change, change]
    for step, change in pairs:
        share[step] += taken[step] - float(products[change] @ share / products[step, change])
    return np.asarray(share, np.float32)
