"""What the exam asks about quality: does a model know a good reply? By its quality head, or, without one, by cosine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np

from . import metrics
from .bootstrap import Contributions, Floats
from .competitors import Competitor, EncoderCompetitor
from .data import RatedReply, Replies
from .metrics import Vectors

_BINS: Final = 10


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Of the replies with about this predicted quality: what was predicted, and where people placed them.

    Attributes:
        predicted: mean quality that the head gave.
        rated: mean place in their source, 0 for the worst and 1 for the best.
        n: how many they are.
    """

    predicted: float
    rated: float
    n: int


def predicted_quality(who: Competitor, contexts: Sequence[Sequence[str]], responses: Sequence[str]) -> Floats:
    """How good a competitor finds each response: (n,); only the order counts."""
    if isinstance(who, EncoderCompetitor) and (head := who.encoder.quality_head) is not None:
        turns = _turns(who, contexts, head.turns)
        return np.asarray(head.logits(turns, who.messages(responses), who.encoder.projections), np.float64)
    triggers = who.triggers([context[-1] for context in contexts])
    return np.asarray(metrics.cosines(triggers, who.responses(responses)), np.float64)


def correlation(who: Competitor, rated: Sequence[RatedReply]) -> tuple[Contributions, dict[str, float]]:
    """Spearman ρ with human ratings, the mean over sources; and that of each source, and of all pooled."""
    predicted = predicted_quality(who, [one.context for one in rated], [one.response for one in rated])
    scores, groups = [one.score for one in rated], ["\0".join([one.source, *one.context]) for one in rated]
    found = metrics.quality_correlation(predicted, scores, [one.source for one in rated], groups)
    each = {source: figure.value for source, figure in found.items() if source}
    return found[""], {**each, "pooled": metrics.spearman(predicted, scores, groups).value}


def ranking(who: Competitor, rated: Sequence[RatedReply]) -> Contributions | None:
    """Of two responses to one context with different ratings: how often the better-rated comes first.

    None where no context has two.
    """
    predicted = predicted_quality(who, [one.context for one in rated], [one.response for one in rated])
    by_context: dict[str, list[int]] = {}
    for row, one in enumerate(rated):
        by_context.setdefault("\0".join([one.source, *one.context]), []).append(row)
    right: list[float] = []
    groups: list[str] = []
    for name, rows in by_context.items():
        for left, other in combinations(rows, 2):
            wanted, got = rated[left].score - rated[other].score, predicted[left] - predicted[other]
            if wanted:
                right.append(0.5 if got == 0 else float((wanted > 0) == (got > 0)))
                groups.append(name)
    return metrics.mean_of(right, groups) if right else None


def told_apart(who: Competitor, records: Sequence[Replies]) -> dict[str, Contributions]:
    """AUC of good replies against random and against adversarial ones, over all contexts together."""
    full = [record for record in records if record.adversarial and record.random]
    kinds = {
        kind: [(r, text) for r in full for text in getattr(r, kind)] for kind in ("positives", "random", "adversarial")
    }
    scores = {
        kind: predicted_quality(who, [record.context for record, _ in given], [text for _, text in given])
        for kind, given in kinds.items()
    }
    groups = {kind: [record.id for record, _ in given] for kind, given in kinds.items()}
    return {
        kind: metrics.auc(scores["positives"], scores[kind], groups["positives"], groups[kind])
        for kind in ("random", "adversarial")
    }


def calibration(who: EncoderCompetitor, rated: Sequence[RatedReply]) -> tuple[CalibrationBin, ...]:
    """Predicted quality beside human ratings, in ten parts of equal size; nothing for a model without a head."""
    if not rated or who.encoder.quality_head is None:
        return ()
    logits = predicted_quality(who, [one.context for one in rated], [one.response for one in rated])
    predicted = 1 / (1 + np.exp(-np.clip(logits, -30, 30)))
    places = np.empty(len(rated))
    sources = np.array([one.source for one in rated])
    scores = np.array([one.score for one in rated])
    for source in np.unique(sources):
        here = sources == source
        places[here] = (metrics.ranks(scores[here]) - 0.5) / here.sum()
    parts = np.array_split(np.argsort(predicted, kind="stable"), min(_BINS, len(rated)))
    return tuple(CalibrationBin(float(predicted[p].mean()), float(places[p].mean()), len(p)) for p in parts)


def texts_of(rated: Sequence[RatedReply], records: Sequence[Replies], turns: int) -> list[str]:
    """Every text that these questions ask about, with ``turns`` of each context."""
    texts = [text for one in rated for text in (*one.context[-turns:], one.response)]
    for record in records:
        if record.adversarial and record.random:
            texts += [*record.context[-turns:], *record.positives, *record.adversarial, *record.random]
    return texts


def _turns(who: EncoderCompetitor, contexts: Sequence[Sequence[str]], number: int) -> list[Vectors]:
    """The bare vectors of the last turns, the latest first, zeros where there is none."""
    latest = who.messages([context[-1] for context in contexts])
    found = [latest]
    for back in range(2, number + 1):
        there = [row for row, context in enumerate(contexts) if len(context) >= back]
        earlier = np.zeros_like(latest)
        if there:
            earlier[there] = who.messages([contexts[row][-back] for row in there])
        found.append(earlier)
    return found
