"""What a trained space is asked for, as functions of vectors with gradients. All return a number that is to fall.

Near-duplicates ("ok", "lol") are no negatives of each other: wherever texts of a batch are set against one another, a
mask takes them out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  its usual name


def contrast(queries: Tensor, candidates: Tensor, masked: Tensor, temperature: float) -> Tensor:
    """In-batch contrast: of all candidates, a query's own (the same row) shall be the nearest.

    Multiple negatives ranking (Henderson et al. 2017, "Efficient Natural Language Response Suggestion"), which is
    InfoNCE with one positive.

    Args:
        queries: (n, dim), rows of length 1. candidates: (m, dim), m ≥ n; row i belongs to query i.
        masked: (n, m) bool, True where a candidate is no fair negative; never at (i, i).
    """
    scores = (queries @ candidates.T / temperature).masked_fill(masked, float("-inf"))
    return F.cross_entropy(scores, torch.arange(len(queries), device=queries.device))


def segment_contrast(vectors: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """NT-Xent (Chen et al. 2020, SimCLR): of all segments of the batch, the nearest is the other one of the thread.

    Args:
        vectors: (2n, dim), rows of length 1; rows i and n + i are of one thread.
        negatives: (2n, 2n) bool, which may stand against which.
    """
    own = torch.arange(len(vectors), device=vectors.device).roll(len(vectors) // 2)
    scores = (vectors @ vectors.T / temperature).masked_fill(_left_out(negatives, own), float("-inf"))
    return F.cross_entropy(scores, own)


def following(vectors: Tensor, taught: Tensor, negatives: Tensor, temperature: float, sharpness: float) -> Tensor:
    """Each segment shall be as near to the others of the batch as it is for its teachers: cross-entropy of the softmax
    of its cosines with that of theirs (relations are distilled: Hinton et al. 2015, Park et al. 2019). A temperature
    above that of the teachers asks for cosines that lie further apart than theirs.

    Args:
        vectors: (2n, dim), rows of length 1; rows i and n + i are of one thread.
        taught: (2n, any), of length 1, under the teachers.
        negatives: (2n, 2n) bool, which may stand against which; the other one of the thread always does.
        temperature, sharpness: of the softmax of these, and of the teachers'.
    """
    own = torch.arange(len(vectors), device=vectors.device).roll(len(vectors) // 2)
    left_out = _left_out(negatives, own)
    wanted = (taught @ taught.T / sharpness).masked_fill(left_out, float("-inf")).softmax(1)
    scores = (vectors @ vectors.T / temperature).masked_fill(left_out, float("-inf")).log_softmax(1)
    return -(wanted * scores.masked_fill(left_out, 0.0)).sum(1).mean()


def _left_out(negatives: Tensor, own: Tensor) -> Tensor:
    """(2n, 2n) bool, what a segment is not set against: what may not be its negative, but for its own thread's."""
    left_out = ~negatives
    left_out[torch.arange(len(own), device=own.device), own] = False
    return left_out


def told_apart(good: Tensor, bad: Sequence[Tensor]) -> Tensor:
    """Log odds of good replies shall be high, those of each kind of bad ones low; both sides weigh the same."""
    wrong = sum((F.softplus(one).mean() for one in bad), good.new_zeros(()))
    return F.softplus(-good).mean() + wrong / len(bad)


def rating_order(logits: Tensor, scores: Tensor, sources: Tensor, raters: Tensor, least: float = 0.3) -> Tensor:
    """Of two replies of one source, the better-rated has the higher log odds (RankNet, Burges et al. 2005).

    A pair weighs as its scores differ, which are in standard deviations of their source, and as its raters (their
    harmonic mean). Ties, and differences below ``least``, say nothing.
    """
    apart = scores[:, None] - scores[None, :]
    said = 2 / (1 / raters[:, None] + 1 / raters[None, :])
    weight = ((sources[:, None] == sources[None, :]) & (apart > least)) * apart * said
    return (F.softplus(-(logits[:, None] - logits[None, :])) * weight).sum() / weight.sum().clamp(min=1e-9)


def relation(vectors: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    """1 − weighted Pearson correlation of the cosines of pairs with the cosines that they should follow.

    Only the order and spacing count, not the scale: a space need not be squeezed or stretched for it.

    Args:
        vectors: (n, dim), rows of length 1. wanted: (n, n) cosines. weights: (n, n); pairs above the diagonal count.
    """
    rows, columns = torch.triu_indices(len(vectors), len(vectors), 1, device=vectors.device)
    ours, theirs = (vectors @ vectors.T)[rows, columns], wanted[rows, columns]
    weight = weights[rows, columns] / weights[rows, columns].sum().clamp(min=1e-9)
    ours, theirs = ours - (weight * ours).sum(), theirs - (weight * theirs).sum()
    spread = ((weight * ours**2).sum() * (weight * theirs**2).sum()).sqrt()
    return 1 - (weight * ours * theirs).sum() / (spread + 1e-9)


def expectation(expected: Tensor, answers: Tensor, counts: Tensor) -> Tensor:
    """How far expected answers lie from those that were given: the mean squared distance, each weighed by its count.

    Least squares has the mean of all answers that a trigger might get as its best guess, so what is learned is what is
    to be expected, although each trigger shows one of them only.

    Args:
        expected, answers: (n, dim). counts: (n,).
    """
    return (counts * (expected - answers).square().sum(-1)).sum() / counts.sum()


def relation_weights(wanted: Tensor, masked: Tensor, share: float) -> Tensor:
    """(n, n) weights under which the nearest ``share`` of all pairs counts as much as all others together.

    In a random batch hardly any two responses are alike; without this, a space learns about unlike ones only.
    """
    upper = torch.triu(~masked, 1)
    number = max(int(upper.sum() * share), 1)
    least = wanted[upper].topk(number).values[-1]
    return upper * (1.0 + (wanted >= least) * (upper.sum() / number))


def labelling(logits: Tensor, chances: Tensor, balance: Tensor) -> Tensor:
    """How far the labels that are read off lie from those that were given: cross-entropy with their probabilities.

    That is distillation (Hinton et al. 2015) at temperature 1.

    Args:
        logits, chances: (n, labels). balance: (labels,), what a label counts; a message counts as its labels do.
    """
    counts = chances @ balance
    return -(counts * (chances * F.log_softmax(logits, 1)).sum(1)).sum() / counts.sum()


def hold(vectors: Tensor, before: Tensor) -> Tensor:
    """How far vectors have turned away from the parent's: 1 − mean cosine. Against forgetting, and collapse."""
    return 1 - (vectors * before).sum(-1).mean()


def order(left: Tensor, right: Tensor, scores: Tensor, scale: float = 20.0) -> Tensor:
    """Pairs of sentences shall be ordered by cosine as people ordered them (CoSENT, Su 2022, by its log-sum-exp)."""
    cosines = (left * right).sum(-1) * scale
    wrong = (cosines[:, None] - cosines[None, :])[scores[:, None] < scores[None, :]]
    return torch.logsumexp(torch.cat([wrong.new_zeros(1), wrong]), 0) / scale
