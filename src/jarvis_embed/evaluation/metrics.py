"""What the exam measures, as pure functions on arrays. Each returns what every conversation contributes.

Vectors are rows of length 1, dense (n, dim) or scipy's sparse ones; ``groups`` names the conversation of each row.
How a definition is read where it leaves room stands in docs/exam.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ..errors import InputError
from .bootstrap import Contributions, Floats, Rows, of_groups

Vectors = Any
"""(n, dim) rows of length 1: a numpy array of float32, or a sparse matrix where the rows count words."""

CANDIDATES: Final = 100
NEIGHBOURS: Final = 20
DRAWN_PAIRS: Final = 20_000
AGREEING: Final = 0.9

_BLOCK: Final = 1024
_EQUAL: Final = 1e-6
"""Equal vectors give cosines that differ in the last bits, by their place in the product."""


def cosines(left: Vectors, right: Vectors) -> Floats:
    """Cosine of each row of ``left`` with the same row of ``right``: (n,)."""
    if isinstance(left, np.ndarray):
        return np.asarray(np.einsum("nd,nd->n", left, right, dtype=np.float64))
    return np.asarray(left.multiply(right).sum(axis=1), np.float64).ravel()


def cosine_matrix(left: Vectors, right: Vectors) -> Any:
    """Cosine of each row of ``left`` with each of ``right``: (n, m), dense."""
    product = left @ right.T
    return product if isinstance(product, np.ndarray) else product.toarray()


def ranks(values: Any) -> Floats:
    """Rank of each value from 1, equal values sharing the mean of their places."""
    _, place, many = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(many) - (many - 1) / 2)[place], np.float64)


def response_accuracy(
    triggers: Vectors, responses: Vectors, groups: Sequence[str], *, seed: int, candidates: int = CANDIDATES
) -> Contributions:
    """1-of-100: how often the true response ranks first among itself and the responses of 99 other pairs.

    Pairs are drawn into batches of ``candidates``, and each is asked in its batch; what fills no batch is left out
    (Henderson et al., "A Repository of Conversational Datasets", 2019). Where ``t`` candidates tie for the first
    place, each has it with a chance of 1/t.

    Raises:
        InputError: there are fewer pairs than candidates.
    """
    rows = len(groups)
    if rows < candidates:
        raise InputError(f"1-of-{candidates} needs {candidates} pairs, and there are {rows}", "Give a longer history")
    order = np.random.default_rng(seed).permutation(rows)[: rows // candidates * candidates]
    hits = np.empty(len(order))
    for start in range(0, len(order), candidates):
        batch = order[start : start + candidates]
        hits[start : start + candidates] = _first_places(triggers[batch], responses[batch], candidates)
    return mean_of(hits, [groups[i] for i in order])


@dataclass(frozen=True, slots=True)
class DrawnPairs:
    """Pairs of triggers that ``trigger_correlation`` looks at, (n,) rows each; drawn once, the same for every model."""

    left: Rows
    right: Rows


def draw_trigger_pairs(responses: Vectors, *, seed: int, drawn: int = DRAWN_PAIRS) -> DrawnPairs:
    """Draw ``drawn`` random pairs, and as many of a trigger and one of its 20 nearest by their responses.

    Args:
        responses: (n, dim) mean response vector of each trigger under the reference.

    Raises:
        InputError: fewer than three triggers.
    """
    rows = len(responses)
    if rows < 3:
        raise InputError(f"a correlation needs 3 triggers, and there are {rows}", "Give a longer history")
    rng = np.random.default_rng(seed)
    left = rng.integers(rows, size=drawn)
    right = (left + rng.integers(1, rows, size=drawn)) % rows
    near = nearest_rows(responses, min(NEIGHBOURS, rows - 1))
    seed_rows = rng.integers(rows, size=drawn)
    chosen = near[seed_rows, rng.integers(near.shape[1], size=drawn)]
    return DrawnPairs(np.concatenate([left, seed_rows]), np.concatenate([right, chosen]))


def trigger_correlation(
    triggers: Vectors, responses: Vectors, groups: Sequence[str], pairs: DrawnPairs
) -> Contributions:
    """Spearman ρ between the cosine of two triggers and that of their mean response vectors under the reference."""
    ours = cosines(triggers[pairs.left], triggers[pairs.right])
    wanted = cosines(responses[pairs.left], responses[pairs.right])
    names, of_row = of_groups(list(groups))
    left, right = of_row[pairs.left], of_row[pairs.right]
    other = np.where(left == right, -1, right)
    return Contributions(names, left, _rank_moments(ours, wanted), _pearson, other)


def spearman(predicted: Any, wanted: Any, groups: Sequence[str]) -> Contributions:
    """Spearman ρ. In the draws the ranks stay those of the whole sample, so that a draw is a weighted sum."""
    names, of_row = of_groups(list(groups))
    return Contributions(names, of_row, _rank_moments(predicted, wanted), _pearson)


def quality_correlation(
    predicted: Any, ratings: Any, sources: Sequence[str], groups: Sequence[str]
) -> dict[str, Contributions]:
    """Spearman ρ with human ratings: of each source by its name, and under ``""`` the mean over sources."""
    predicted, ratings = np.asarray(predicted), np.asarray(ratings)
    names, of_row = of_groups(list(groups))
    each: dict[str, Contributions] = {}
    blocks = []
    for source in sorted(set(sources)):
        here = np.array([one == source for one in sources])
        block = np.zeros((len(here), 6))
        block[here] = _rank_moments(predicted[here], ratings[here])
        blocks.append(block)
        each[source] = Contributions(names, of_row, block, _pearson)

    def mean(sums: Floats) -> Floats:
        each_source = [_pearson(part) for part in np.split(sums, len(blocks), axis=-1)]
        return np.asarray(np.mean(each_source, axis=0))

    return {"": Contributions(names, of_row, np.concatenate(blocks, axis=1), mean), **each}


def auc(above: Any, below: Any, above_groups: Sequence[str], below_groups: Sequence[str]) -> Contributions:
    """How often a value of ``above`` is higher than one of ``below``, ties counting half, over all pairs of the two.

    The draws are those of its linear part: each value's own mean share of pairs in the right order.
    """
    above, below = np.asarray(above, np.float64), np.asarray(below, np.float64)
    names, of_row = of_groups([*above_groups, *below_groups])
    right = _share_below(above, below)
    moments = np.zeros((len(of_row), 4))
    moments[: len(above), 0], moments[: len(above), 1] = right, 1
    moments[len(above) :, 2], moments[len(above) :, 3] = 1 - _share_below(below, above) - right.mean(), 1
    return Contributions(names, of_row, moments, _two_means)


@dataclass(frozen=True, slots=True)
class ReplySimilarity:
    """Reference similarity of the true response with the one that was found: the figure, and between what it lies.

    Attributes:
        floor: with a random response of the index. ceiling: with the best one.
        share: how far of the way from floor to ceiling the value is.
    """

    value: Contributions
    floor: Contributions
    ceiling: Contributions
    share: Contributions


def reply_similarity(
    triggers: Vectors,
    responses: Vectors,
    groups: Sequence[str],
    index_triggers: Vectors | None = None,
    index_responses: Vectors | None = None,
) -> ReplySimilarity:
    """Look each trigger up in an index, and compare the response found there with the true one.

    Args:
        triggers: (n, dim) under the model; responses: (n, dim) under the reference.
        index_triggers, index_responses: (m, dim) of other triggers; None to look each row up among all the others.
    """
    alone = index_triggers is None or index_responses is None
    looked_in, answers = (triggers, responses) if alone else (index_triggers, index_responses)
    moments = np.ones((len(groups), 4))
    for start, scores in _scores(triggers, looked_in, hide_self=alone):
        here = slice(start, start + len(scores))
        like = cosine_matrix(responses[here], answers)
        if alone:
            own = np.arange(len(scores)), np.arange(start, start + len(scores))
            moments[here, 0] = (like.sum(1) - like[own]) / (like.shape[1] - 1)
            like[own] = -np.inf
        else:
            moments[here, 0] = like.mean(1)
        moments[here, 1] = _at_best(scores, like)
        moments[here, 2] = like.max(1)
    names, of_row = of_groups(list(groups))
    return ReplySimilarity(
        value=Contributions(names, of_row, moments, _column(1, 3)),
        floor=Contributions(names, of_row, moments, _column(0, 3)),
        ceiling=Contributions(names, of_row, moments, _column(2, 3)),
        share=Contributions(names, of_row, moments, _share),
    )


@dataclass(frozen=True, slots=True)
class MatchAgreement:
    """Mean cosine of the two responses, in the model's own space.

    Attributes:
        near: of triggers whose nearest indexed trigger is another text with cosine ≥ 0.9; None if there is none.
        random: of random response pairs.
        agreeing: how many held-out triggers ``near`` is about, and ``share`` of all of them.
    """

    near: Contributions | None
    random: Contributions
    agreeing: int
    share: float


def match_agreement(
    triggers: Vectors,
    responses: Vectors,
    groups: Sequence[str],
    same_text: Sequence[Any],
    index_triggers: Vectors,
    index_responses: Vectors,
    index_text: Sequence[Any],
    *,
    seed: int,
) -> MatchAgreement:
    """The figure that the brief calls trigger similarity, with what it is worth: that of random pairs.

    Args:
        same_text, index_text: equal where two triggers are the same text.
    """
    nearest = np.empty(len(groups), np.int64)
    cosine = np.empty(len(groups))
    for start, scores in _scores(triggers, index_triggers, hide_self=False):
        here = slice(start, start + len(scores))
        nearest[here] = scores.argmax(1)
        cosine[here] = scores.max(1)
    other_text = np.array([index_text[row] != same_text[i] for i, row in enumerate(nearest.tolist())])
    chosen = np.flatnonzero(other_text & (cosine >= AGREEING))
    rng = np.random.default_rng(seed)
    by_chance = rng.integers(index_responses.shape[0], size=len(groups))
    near = None
    if len(chosen):  # the other rows weigh nothing, so that two models have the same conversations
        names, of_row = of_groups(list(groups))
        moments = np.zeros((len(of_row), 2))
        moments[chosen, 0] = cosines(responses[chosen], index_responses[nearest[chosen]])
        moments[chosen, 1] = 1
        near = Contributions(names, of_row, moments, _column(0, 1))
    return MatchAgreement(
        near=near,
        random=mean_of(cosines(responses, index_responses[by_chance]), groups),
        agreeing=len(chosen),
        share=len(chosen) / max(len(groups), 1),
    )


@dataclass(frozen=True, slots=True)
class ThreadSimilarity:
    """Mean cosine of two segments of one thread, of two threads, and how well the one tells the other apart (AUC)."""

    same: Contributions
    other: Contributions
    auc: Contributions


def thread_similarity(
    segments: Vectors, threads: Sequence[str], *, seed: int, drawn: int = 100_000
) -> ThreadSimilarity:
    """Compare every two segments of a thread, and ``drawn`` random pairs of segments of different threads.

    The draws of the AUC are those of its linear part (each conversation's own mean share of pairs in the right order).

    Args:
        threads: the thread of each segment; equal names lie side by side.

    Raises:
        InputError: no thread has two segments, or there is one thread only.
    """
    names, of_row = of_groups(list(threads))
    left, right = _pairs_within(of_row)
    rng = np.random.default_rng(seed)
    one, two = rng.integers(len(of_row), size=(2, drawn))
    apart = of_row[one] != of_row[two]
    one, two = one[apart], two[apart]
    if not len(left) or not len(one):
        raise InputError("no two threads have two segments each", "Give a longer history")
    same, other = cosines(segments[left], segments[right]), cosines(segments[one], segments[two])
    above = _share_below(same, other)  # of each same pair: the share of other pairs below it
    below = 1 - _share_below(other, same)
    auc = above.mean()
    group = np.concatenate([of_row[left], of_row[one]])
    partner = np.concatenate([np.full(len(left), -1), of_row[two]])
    moments = np.zeros((len(group), 4))
    moments[: len(left), 0], moments[: len(left), 1] = same, 1
    moments[len(left) :, 2], moments[len(left) :, 3] = other, 1
    parts = moments.copy()
    parts[: len(left), 0], parts[len(left) :, 2] = above, below - auc
    return ThreadSimilarity(
        same=Contributions(names, group, moments, _column(0, 1), partner),
        other=Contributions(names, group, moments, _column(2, 3), partner),
        auc=Contributions(names, group, parts, _two_means, partner),
    )


def thread_retrieval(first: Vectors, second: Vectors, threads: Sequence[str]) -> Contributions:
    """How often the other half of a thread is the nearest of all halves that it could be: recall@1, both ways.

    The first half is looked up among all second halves, and the second among all first ones; a thread contributes the
    mean of the two. Where ``t`` halves tie for the first place, each has it with a chance of 1/t.

    Args:
        first, second: (p, dim) of each thread's halves. The first ``len(threads)`` rows are asked; the others are only
            there to be found.
    """
    asked = len(threads)
    hits = (_first_places(first, second, asked) + _first_places(second, first, asked)) / 2
    return mean_of(hits, threads)


def mean_of(values: Any, groups: Sequence[str]) -> Contributions:
    """The mean of one value a row."""
    names, of_row = of_groups(list(groups))
    moments = np.stack([np.asarray(values, np.float64), np.ones(len(of_row))], axis=1)
    return Contributions(names, of_row, moments, _column(0, 1))


def nearest_rows(vectors: Vectors, k: int) -> Rows:
    """The ``k`` rows nearest to each row, itself left out, in no order: (n, k)."""
    near = np.empty((vectors.shape[0], k), np.int64)
    for start, scores in _scores(vectors, vectors, hide_self=True):
        near[start : start + len(scores)] = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    return near


def recall(found: Rows, queries: Vectors, vectors: Vectors) -> float:
    """Share of the ``k`` nearest rows of each query that are among ``found`` (q, k), by comparing with all rows.

    Rows with one cosine are one to a searcher: what is found counts if it is as near as the ``k``-th nearest.
    """
    k = found.shape[1]
    hits = 0
    for start, scores in _scores(queries, vectors, hide_self=False):
        here = found[start : start + len(scores)]
        needed = np.partition(scores, -k, axis=1)[:, -k:].min(1, keepdims=True) - _EQUAL
        hits += int(np.sum((np.take_along_axis(scores, np.maximum(here, 0), 1) >= needed) & (here >= 0)))
    return hits / max(found.size, 1)


def _scores(left: Vectors, right: Vectors, *, hide_self: bool) -> Iterator[tuple[int, Any]]:
    """Cosines of ``left`` with ``right`` by blocks of rows: (first row, (b, m)); a row's own place -inf if asked."""
    for start in range(0, left.shape[0], _BLOCK):
        scores = cosine_matrix(left[start : start + _BLOCK], right)
        if hide_self:
            scores[np.arange(len(scores)), np.arange(start, start + len(scores))] = -np.inf
        yield start, scores


def _first_places(queries: Vectors, candidates: Vectors, asked: int) -> Floats:
    """Of the first ``asked`` rows: how much of the first place the same row of ``candidates`` has, 0 to 1."""
    shares = np.empty(asked)
    for start, scores in _scores(queries[:asked], candidates, hide_self=False):
        own = scores[np.arange(len(scores)), np.arange(start, start + len(scores))][:, None]
        tied = np.sum(scores >= own - _EQUAL, axis=1)
        beaten = np.any(scores > own + _EQUAL, axis=1)
        shares[start : start + len(scores)] = np.where(beaten, 0.0, 1 / tied)
    return shares


def _at_best(scores: Any, values: Any) -> Floats:
    """The mean of each row's ``values`` over the places where its score is highest (ties are drawn by lot)."""
    best = scores >= scores.max(1, keepdims=True) - _EQUAL
    return np.asarray(np.where(best, values, 0).sum(1) / best.sum(1), np.float64)


def _pairs_within(of_row: Rows) -> tuple[Rows, Rows]:
    """Every two rows of one group, whose rows lie side by side."""
    many = np.bincount(of_row)
    first = np.cumsum(many) - many
    pairs = [start + np.stack(np.triu_indices(size, 1)) for start, size in zip(first, many, strict=True) if size > 1]
    left, right = np.concatenate(pairs, axis=1) if pairs else np.empty((2, 0), np.int64)
    return left, right


def _share_below(values: Floats, others: Floats) -> Floats:
    """For each value: the share of ``others`` that is below it, equal ones counting half."""
    ordered = np.sort(others)
    low, high = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    return (low + high) / (2 * len(ordered))


def _rank_moments(left: Any, right: Any) -> Floats:
    """(n, 6): 1, x, y, xy, x², y² of the ranks, centred and scaled so that the sums stay exact."""
    x, y = ((ranks(side) - (len(side) + 1) / 2) / len(side) for side in (left, right))
    return np.stack([np.ones(len(x)), x, y, x * y, x * x, y * y], axis=1)


def _pearson(sums: Floats) -> Floats:
    n, x, y, xy, xx, yy = np.moveaxis(sums, -1, 0)
    spread = (n * xx - x * x) * (n * yy - y * y)
    # A side without any spread predicts nothing.
    return np.asarray(np.where(spread > 0, (n * xy - x * y) / np.sqrt(np.where(spread > 0, spread, 1)), 0.0))


def _column(sum_at: int, count_at: int) -> Any:
    def mean(sums: Floats) -> Floats:
        return np.asarray(sums[..., sum_at] / sums[..., count_at])

    return mean


def _share(sums: Floats) -> Floats:
    floor, value, ceiling = sums[..., 0], sums[..., 1], sums[..., 2]
    return np.asarray((value - floor) / (ceiling - floor))


def _two_means(sums: Floats) -> Floats:
    return np.asarray(sums[..., 0] / sums[..., 1] + sums[..., 2] / sums[..., 3])
