"""Fit what the signals of a reply are worth (``conversations/quality_score.py``) to what people said of replies.

Scores of different sources mean different things (1 to 5 by one, 0 to 2 by another), so a label is a reply's place in
its own source: the share of its ratings that are below, equal ones counting half. A reply is weighed by its raters. The
rating of a whole conversation is a label of each of its replies, and weighs so little that all of them weigh one rater.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..conversations.quality import PACE_REPLIES, SIGNALS, Exchange, exchanges_of
from ..conversations.quality_score import QualityWeights, SignalWeight, signal_table
from ..errors import TrainingError
from ..evaluation.data import RatedReply
from ..evaluation.metrics import ranks
from ..messages import Conversation
from .heads import require_scikit_learn

FEWEST: Final = 20
"""Rated replies below which nothing is fitted anew."""

FEWEST_WITH: Final = 30
"""Rated replies with a signal, and as many without, below which that is worth nothing."""

STRENGTH: Final = 1.0
_FLOOR: Final = 0.05
_NEWTON_STEPS: Final = 25

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rated:
    """A reply that people rated.

    Attributes:
        score: on the scale of its source. source: whose scale that is. raters: how many, or the share of one.
        group: what must stay on one side in cross-validation: replies to one context, or one conversation.
    """

    exchange: Exchange
    score: float
    source: str
    raters: float
    group: str


def rated_replies(
    records: Sequence[RatedReply], topics: Sequence[float] | None = None, fits: Sequence[float] | None = None
) -> list[Rated]:
    """Rated replies of ``quality_train``, with what a model says of them where that is given."""
    return [
        Rated(
            Exchange(
                one.context[-1],
                one.response,
                topic=None if topics is None else float(topics[row]),
                fit=None if fits is None else float(fits[row]),
            ),
            one.score,
            one.source,
            float(one.raters or 1),
            "\0".join((one.source, *one.context)),
        )
        for row, one in enumerate(records)
    ]


def rated_conversations(conversations: Iterable[Conversation]) -> Iterator[Rated]:
    """Every reply of the conversations that were rated as a whole; the rating is the label, and no judgement here."""
    for conversation in conversations:
        if conversation.rating is None:
            continue
        found = [exchange for _, _, _, exchange in exchanges_of(conversation)]
        if len(found) < PACE_REPLIES:  # its rating speaks of its shortness
            continue
        for exchange in found:
            bare = replace(exchange, rating=None)
            yield Rated(bare, conversation.rating, "conversations", 1 / len(found), conversation.key)


def labels(rated: Sequence[Rated]) -> Floats:
    """The place of each reply in its source, 0 to 1; ties share theirs, raters weigh."""
    places = np.empty(len(rated))
    sources = np.array([one.source for one in rated])
    for source in dict.fromkeys(sources.tolist()):
        rows = np.flatnonzero(sources == source).tolist()
        score = np.array([rated[row].score for row in rows])
        weight = np.array([rated[row].raters for row in rows])
        levels, level = np.unique(score, return_inverse=True)
        mass = np.bincount(level, weight, len(levels))
        below = np.cumsum(mass) - mass
        places[rows] = (below + mass / 2)[level] / mass.sum()
    return places


def fit_weights(rated: Sequence[Rated], facts: dict[str, Any] | None = None) -> QualityWeights:
    """Fit all weights to rated replies, with scikit-learn, and find by leaving out each source how well that does.

    Raises:
        LabelError: scikit-learn is missing. TrainingError: too few replies are rated.
    """
    require_scikit_learn()
    if len(rated) < FEWEST:
        raise TrainingError(f"{len(rated)} replies are rated, and {FEWEST} are needed", "Give feedback on more of them")
    table, places = signal_table([one.exchange for one in rated]), labels(rated)
    raters = np.array([one.raters for one in rated])
    sources = np.array([one.source for one in rated])
    held_out: dict[str, float] = {}
    names = list(dict.fromkeys(sources.tolist()))
    for name in names if len(names) > 1 else ():
        out = sources == name
        left = _fitted(table[~out], places[~out], raters[~out], sources[~out])
        held_out[name] = _rank_correlation(left.estimates(table[out]), places[out])
    of_replies = [held_out[name] for name in held_out if raters[sources == name].min() >= 1]
    explained = max(float(np.mean(of_replies)) if of_replies else 0.0, 0.0) ** 2
    made = _fitted(table, places, raters, sources)
    counted = {name: int((sources == name).sum()) for name in names}
    return replace(
        made,
        prior_raters=round(max(explained / (1 - explained), _FLOOR), 3),
        facts={"replies": counted, "spearman_of_left_out_source": _rounded(held_out), "own": 0, **(facts or {})},
    )


def update_weights(weights: QualityWeights, feedback: Sequence[tuple[Exchange, bool]]) -> QualityWeights:
    """Add the owner's feedback to fitted weights: the likeliest weights where the old ones are the prior.

    A weight that many public ratings speak for moves little; one that none of them could tell, such as what it means
    that a reply was edited, is learned from the feedback alone. (Logistic regression with a normal prior, by Newton's
    method; the prior's precision is the information that so many ratings hold.)

    Raises:
        TrainingError: fewer than ``FEWEST`` replies have feedback, or all have the same.
    """
    good = np.array([float(one) for _, one in feedback])
    if len(good) < FEWEST or not 0 < good.sum() < len(good):
        raise TrainingError(
            f"replies with feedback: {len(good)}, of them good {int(good.sum())}; {FEWEST} of both kinds are needed",
            "Give more: jarvis-embed feedback PAIR good|bad",
        )
    table = signal_table([replace(exchange, feedback=None) for exchange, _ in feedback])
    weights = replace(
        weights, signals=tuple(_scaled(one, column) for one, column in zip(weights.signals, table.T, strict=True))
    )
    inputs = _inputs(table, weights)
    start = np.array(
        [weights.bias, *(one.weight for one in weights.signals), *(one.missing for one in weights.signals)]
    )
    rated = np.array([one.rated for one in weights.signals], float)
    total = float(max(rated.max(initial=0.0), 1.0))
    precision = np.array([total / 4, *(1 + rated / 4), *(1 + (total - rated) / 4)])
    found = start.copy()
    for _ in range(_NEWTON_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(inputs @ found, -30, 30)))
        slope = inputs.T @ (chance - good) + precision * (found - start)
        curve = (inputs * (chance * (1 - chance))[:, None]).T @ inputs + np.diag(precision)
        step = np.linalg.solve(curve, slope)
        found -= step
        if np.abs(step).max() < 1e-8:
            break
    number = len(SIGNALS)
    signals = tuple(
        replace(one, weight=float(found[1 + row]), missing=float(found[1 + number + row]))
        for row, one in enumerate(weights.signals)
    )
    facts = {**weights.facts, "own": len(good)}
    return replace(weights, bias=float(found[0]), signals=signals, facts=facts)


def _bare() -> QualityWeights:
    return QualityWeights(0.0, tuple(SignalWeight(one.name, 0.0, 1.0, 0.0, 0.0, 0) for one in SIGNALS), 1.0)


def _fitted(table: Floats, places: Floats, raters: Floats, sources: npt.NDArray[np.str_]) -> QualityWeights:
    """Weights from what differs within a source: labels say nothing of one source beside another, and a signal that
    one source has and another has not must not become a label of the source."""
    from sklearn.linear_model import LogisticRegression

    made = _bare()
    signals = tuple(_scaled(one, column) for one, column in zip(made.signals, table.T, strict=True))
    made = replace(made, signals=signals)
    inputs = _inputs(table, made)[:, 1:]
    within = inputs.copy()
    for source in np.unique(sources):
        rows = sources == source
        within[rows] -= np.average(inputs[rows], axis=0, weights=raters[rows])
    learned = (np.abs(within) > 1e-9).sum(0) >= FEWEST_WITH
    # A label between 0 and 1 is that share of a good reply, and the rest of a bad one.
    model = LogisticRegression(C=STRENGTH, max_iter=1000, fit_intercept=False)
    model.fit(
        np.concatenate([within[:, learned]] * 2),
        np.repeat([1, 0], len(places)),
        np.concatenate([raters * places, raters * (1 - places)]),
    )
    found = np.zeros(inputs.shape[1])
    found[learned] = model.coef_[0]
    number = len(SIGNALS)
    return replace(
        made,
        bias=0.0,  # each source's mean reply is neither good nor bad
        signals=tuple(
            replace(one, weight=round(float(found[row]), 4), missing=round(float(found[number + row]), 4))
            for row, one in enumerate(signals)
        ),
    )


def _scaled(one: SignalWeight, column: Floats) -> SignalWeight:
    """Mean and scale of a signal that has none yet, from the replies that have it."""
    there = column[~np.isnan(column)]
    if one.rated or not len(there):
        return one
    scale = float(there.std())
    return replace(
        one, mean=round(float(there.mean()), 4), scale=round(scale, 4) if scale > 1e-4 else 1.0, rated=len(there)
    )


def _inputs(table: Floats, weights: QualityWeights) -> Floats:
    """A one, the signals in their scale with 0 where one is missing, and a one for each that is: (n, 1 + 2 signals)."""
    mean, scale = (np.array([getattr(one, name) for one in weights.signals]) for name in ("mean", "scale"))
    missing = np.isnan(table)
    scaled = np.where(missing, 0.0, np.clip((table - mean) / scale, -3, 3))
    return np.concatenate([np.ones((len(table), 1)), scaled, missing.astype(np.float64)], axis=1)


def _rank_correlation(left: Floats, right: Floats) -> float:
    x, y = ranks(left), ranks(right)
    if x.std() == 0 or y.std() == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def _rounded(found: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in found.items()}
