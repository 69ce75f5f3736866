"""Signals and judgements of a reply → one score, 0 to 1, that can be explained. The weights are fitted and readable.

The signals give the log odds that people find a reply better than another of its kind: a sum over signals of weight
times value, or of what the signal's absence is worth. (A logistic regression with an indicator for what is missing:
Little & Rubin, "Statistical Analysis with Missing Data".) Judgements are raters beside that estimate, which itself is
worth ``prior_raters`` of them: the score is the mean over all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..errors import SpaceDamaged
from ..home import embeddings_folder, reported, write_json
from .quality import SIGNALS, Exchange, Judgement, judgements, values

FORMAT: Final = 1
_SHIPPED: Final = "quality_weights.json"
_OWN: Final = "quality.json"

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SignalWeight:
    """What a signal is worth.

    Attributes:
        mean, scale: a value counts as (value - mean) / scale, within ±3.
        weight: log odds per scale; 0 for a signal that no rated reply had.
        missing: log odds where it is not available.
        rated: how many rated replies had it.
    """

    name: str
    mean: float
    scale: float
    weight: float
    missing: float
    rated: int

    def contribution(self, value: float | None) -> float:
        """Log odds."""
        if value is None:
            return self.missing
        return self.weight * min(max((value - self.mean) / self.scale, -3.0), 3.0)


@dataclass(frozen=True, slots=True)
class QualityWeights:
    """The fitted combination.

    Attributes:
        bias: log odds of a reply of which nothing is known.
        signals: one for each of ``SIGNALS``, in their order.
        prior_raters: how many raters the signals together are worth.
        facts: what it was fitted to, and how well it does.
    """

    bias: float
    signals: tuple[SignalWeight, ...]
    prior_raters: float
    facts: Mapping[str, Any] = field(default_factory=dict)

    def estimates(self, table: Floats) -> Floats:
        """What the signals say of each reply, 0 to 1: (n,).

        Args:
            table: (n, signals), NaN where a signal is not available.
        """
        mean, scale, weight, missing = (
            np.array([getattr(one, name) for one in self.signals]) for name in ("mean", "scale", "weight", "missing")
        )
        there = weight * np.clip((table - mean) / scale, -3, 3)
        logits = self.bias + np.where(np.isnan(table), missing, there).sum(1)
        return np.asarray(1 / (1 + np.exp(-np.clip(logits, -30, 30))), np.float64)

    def joined(self, estimate: float, said: Sequence[Judgement]) -> float:
        """The estimate and the judgements, as the mean over raters: 0 to 1."""
        raters = self.prior_raters + sum(one.raters for one in said)
        return (self.prior_raters * estimate + sum(one.raters * one.value for one in said)) / raters


@dataclass(frozen=True, slots=True)
class SignalPart:
    """One line of an explanation; ``value`` is None where the signal is not available."""

    name: str
    meaning: str
    value: float | None
    contribution: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """A score and what it is made of.

    Attributes:
        score: 0 to 1. estimate: what the signals alone say, worth ``raters`` raters. judgements: what was said of it.
        bias: log odds of a reply of which nothing is known; the signals' contributions come on top.
    """

    score: float
    estimate: float
    raters: float
    bias: float
    signals: tuple[SignalPart, ...]
    judgements: tuple[Judgement, ...]

    @property
    def unavailable(self) -> tuple[str, ...]:
        """The signals that this history cannot show of this reply."""
        return tuple(part.name for part in self.signals if part.value is None)


def explain(exchange: Exchange, weights: QualityWeights) -> Explanation:
    """Score one reply, and say how it came about."""
    parts = tuple(
        SignalPart(signal.name, signal.meaning, value, weight.contribution(value))
        for signal, weight, value in zip(SIGNALS, weights.signals, values(exchange), strict=True)
    )
    estimate = float(weights.estimates(signal_table([exchange]))[0])
    said = tuple(judgements(exchange, weights.prior_raters))
    return Explanation(weights.joined(estimate, said), estimate, weights.prior_raters, weights.bias, parts, said)


def signal_table(exchanges: Sequence[Exchange]) -> Floats:
    """The signals of each exchange, (n, signals), NaN where one is not available."""
    rows = [[np.nan if value is None else value for value in values(exchange)] for exchange in exchanges]
    return np.array(rows, np.float64).reshape(len(rows), len(SIGNALS))


def read_weights(home: Path) -> QualityWeights:
    """The weights of this home: fitted to the owner's feedback too if they were, else those of the package.

    Raises:
        SpaceDamaged: the file cannot be read.
    """
    path = embeddings_folder(home) / _OWN
    try:
        return weights_of(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return shipped_weights()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SpaceDamaged(f"{path} cannot be read", "Fit it again: jarvis-embed train quality") from error


def shipped_weights() -> QualityWeights:
    """The weights that the package ships: fitted to public ratings."""
    return weights_of(json.loads(resources.files(__package__).joinpath(_SHIPPED).read_text(encoding="utf-8")))


def store_weights(weights: QualityWeights, home: Path) -> Path:
    """Keep weights for this home; every build from now on uses them."""
    path = embeddings_folder(home) / _OWN
    write_json(path, stated(weights))
    return path


def forget_own_weights(home: Path) -> bool:
    """Go back to the weights of the package, for the owner's feedback is in the others; return whether there were."""
    path = embeddings_folder(home) / _OWN
    there = path.exists()
    with reported(path):
        path.unlink(missing_ok=True)
    return there


def stated(weights: QualityWeights) -> dict[str, Any]:
    """As JSON holds it."""
    return {"format": FORMAT, **asdict(weights)}


def weights_of(found: Mapping[str, Any]) -> QualityWeights:
    """The weights that ``stated`` made this of. A signal that is newer than the file is worth nothing.

    Raises:
        ValueError, KeyError, TypeError: it is of another format.
    """
    if found["format"] != FORMAT:
        raise ValueError("another format")
    known = {one["name"]: SignalWeight(**one) for one in found["signals"]}
    every = tuple(known.get(one.name, SignalWeight(one.name, 0.0, 1.0, 0.0, 0.0, 0)) for one in SIGNALS)
    numbers = [found["bias"], found["prior_raters"], *(one.scale for one in every), *(one.weight for one in every)]
    if not np.isfinite(np.array(numbers, np.float64)).all() or found["prior_raters"] <= 0:
        raise ValueError("a weight is no number")
    if min(one.scale for one in every) <= 0:
        raise ValueError("a scale is not positive")
    return QualityWeights(float(found["bias"]), every, float(found["prior_raters"]), dict(found["facts"]))
