"""Train the classifier heads of one space on labelled messages.

Logistic regression over the vector and the hashed facts of ``spaces/features.py``. How strongly it is held back, how
much the facts weigh and how much rare labels count are chosen by cross-validation that keeps a conversation on one
side; so are calibration and thresholds. docs/classifiers.md has what else was tried.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..conversations.patterns import PATTERNS, matched
from ..errors import LabelError
from ..labels.gold import Example
from ..labels.scheme import LABELS, TASKS, Task
from ..models.encoder import Encoder
from ..spaces.features import response_buckets, trigger_buckets
from ..spaces.heads import Floats, Head, Heads, response_inputs
from .logistic import Numbers, cores, fact_rows, fitted
from .prior import Prior, halved, keep_prior, kept_prior, learn_prior, texts_read
from .silver import read_by_hand, read_silver

FEWEST: Final = 20
"""Labelled messages of a task below which nothing is learned."""

FOLDS: Final = 5
_COMPARED: Final = 2
"""Folds on which settings are compared; only the best one is fitted on the others too, in half the time of all."""

PATTERN_PRECISION: Final = 0.95
_PATTERN_CASES: Final = 5
_KEPT_PRECISION: Final = 0.7
_ROUNDS: Final = 40

Progress = Callable[[str, int, int], None]
Doubles = npt.NDArray[np.float64]
Fold = tuple[Numbers, Numbers]
"""Rows that are learned from, and rows that are held out."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How a head is fitted.

    Attributes:
        strength: inverse of the penalty on large weights (scikit-learn's ``C``).
        facts: how much the facts weigh against the vector.
        balance: 0 counts every message once, 1 counts every label as often as any other.
    """

    strength: float
    facts: float
    balance: float


SETTINGS: Final = tuple(Setting(*values) for values in product((1.0, 3.0), (1.5,), (0.8,)))


@dataclass(frozen=True, slots=True)
class _Inputs:
    """What a head learns from: ``dense`` (n, d), the facts of each text, label numbers, and conversations.

    ``hints`` (n, c) is what the prior says; no columns where there is no prior.
    """

    task: Task
    dense: Floats
    hints: Floats
    facts: list[Numbers]
    truth: Numbers
    groups: list[str]
    texts: list[str]


def train_heads(
    encoder: Encoder,
    examples: Sequence[Example],
    *,
    seed: int = 1,
    own: int = 0,
    settings: Sequence[Setting] | None = None,
    home: Path | None = None,
    progress: Progress | None = None,
) -> Heads:
    """Train both heads for the space of ``encoder``. Equal seed and examples: equal heads.

    Args:
        own: how many of the examples are the user's own; kept in the facts of the heads, so that what they taught can
            be forgotten.
        settings: those to choose from; ``SETTINGS`` if None.
        home: where the prior of this space is kept, so that it is learned once; None to learn it anew, for a model
            too whose prior the package has.

    Raises:
        LabelError: scikit-learn is missing, or the labels are too few, all the same, or lack a label altogether.
    """
    require_scikit_learn()
    show = progress or (lambda _stage, _done, _total: None)
    settings = SETTINGS if settings is None else settings
    for task in TASKS:
        check_examples(task, [example.label for example in examples if example.task == task])
    # What a model was taught to say beside its vectors knows the teacher's opinion; what people read adds to it.
    told = encoder.read_width > encoder.dim
    prior = None if home is None else kept_prior(encoder, home)
    silver = None if prior else read_by_hand() if told else read_silver()
    more = () if silver is None else texts_read(silver, thorough=told)
    vectors = _embedded(encoder, examples, lambda done, total: show("embed", done, total), more)
    if silver is not None:
        prior = learn_prior(silver, vectors, thorough=told)
        if home is not None:
            keep_prior(prior, encoder, home)
    heads: dict[Task, Head] = {}
    facts: dict[str, object] = {"seed": seed, "own": own, "prior": prior is not None}

    def learned(task: Task) -> tuple[Head, dict[str, object]]:
        inputs = _inputs(task, [example for example in examples if example.task == task], vectors, prior)
        score, setting, logits = _best(inputs, _folds(inputs, seed), settings)
        return _finished(inputs, setting, logits, prior), {
            "examples": len(inputs.truth),
            "conversations": len(set(inputs.groups)),
            "cross_validated_macro_f1": round(score, 4),
            "strength": setting.strength,
            "facts": setting.facts,
            "balance": setting.balance,
        }

    with cores() as each:
        show("train", 0, len(TASKS))
        for done, (task, found) in enumerate(zip(TASKS, each(learned, TASKS), strict=True), 1):
            heads[task], facts[task] = found
            show("train", done, len(TASKS))
    return Heads(encoder.fingerprint, heads["trigger"], heads["response"], facts)


def check_examples(task: Task, labels: Sequence[str]) -> None:
    """Check that something can be learned.

    Raises:
        LabelError: fewer than ``FEWEST`` labels, only one kind, or none of some kind; says what is missing.
    """
    counts = Counter(labels)
    more = "Add some: jarvis-embed labels import FILE"
    if len(labels) < FEWEST:
        raise LabelError(f"there are {len(labels)} labelled {task}s, and heads need {FEWEST}", more)
    if len(counts) == 1:
        raise LabelError(f"all {len(labels)} labelled {task}s are {labels[0]}", more)
    missing = [label for label in LABELS[task] if counts[label] < 2]
    if missing:
        raise LabelError(f"fewer than 2 of the labelled {task}s are {', '.join(missing)}", more)


def require_scikit_learn() -> None:
    """Raise the error that says what to install.

    Raises:
        LabelError: scikit-learn is not installed.
    """
    if importlib.util.find_spec("sklearn") is None:
        raise LabelError("scikit-learn is not installed, and heads are trained with it", "pip install scikit-learn")


def macro_f1(truth: Numbers, guess: Numbers, labels: int) -> float:
    """Mean F1 over labels; 0 for a label that neither side has."""
    table = np.zeros((labels, labels))
    np.add.at(table, (truth, guess), 1)
    return float(np.mean(2 * np.diag(table) / np.maximum(table.sum(0) + table.sum(1), 1)))


def _embedded(
    encoder: Encoder, examples: Iterable[Example], show: Callable[[int, int], None], more: Iterable[str] = ()
) -> dict[str, Floats]:
    """Text → its vector, of all examples and of ``more``."""
    labelled = (text for example in examples for text in (example.text, example.trigger) if text)
    texts = list(dict.fromkeys((*labelled, *more)))
    return dict(zip(texts, encoder.read(texts, show), strict=True))


def _inputs(task: Task, examples: Sequence[Example], vectors: dict[str, Floats], prior: Prior | None) -> _Inputs:
    ours = np.stack([vectors[example.text] for example in examples])
    if task == "trigger":
        dense, facts = ours, [trigger_buckets(example.text) for example in examples]
    else:
        dense = response_inputs(np.stack([vectors[example.trigger] for example in examples]), ours)
        facts = [response_buckets(example.trigger, example.text) for example in examples]
    truth = np.array([LABELS[task].index(example.label) for example in examples])
    groups = [example.group for example in examples]
    hints = prior.logits(task, dense, facts) if prior else np.empty((len(truth), 0), np.float32)
    return _Inputs(task, dense, hints, facts, truth, groups, [example.text for example in examples])


def _folds(inputs: _Inputs, seed: int) -> list[Fold]:
    """Parts of like label shares, each conversation in one of them."""
    from sklearn.model_selection import StratifiedGroupKFold

    fewest = min(Counter(inputs.truth.tolist()).values())
    parts = max(2, min(FOLDS, fewest, len(set(inputs.groups))))
    splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
    return list(splitter.split(inputs.truth, inputs.truth, inputs.groups))


def _best(inputs: _Inputs, folds: Sequence[Fold], settings: Sequence[Setting]) -> tuple[float, Setting, Doubles]:
    """The setting that is best on the first folds, and its macro F1 and held-out logits on all."""
    some = folds[:_COMPARED]
    asked = np.concatenate([outside for _, outside in some])

    def score(logits: Doubles, rows: Numbers) -> float:
        return macro_f1(inputs.truth[rows], logits[rows].argmax(1), len(LABELS[inputs.task]))

    found = {setting: _held_out_logits(inputs, some, setting) for setting in settings}
    best = max(found, key=lambda setting: score(found[setting], asked))
    logits = _held_out_logits(inputs, folds[_COMPARED:], best)
    logits[asked] = found[best][asked]
    return score(logits, np.arange(len(logits))), best, logits


def _held_out_logits(inputs: _Inputs, folds: Sequence[Fold], setting: Setting) -> Doubles:
    """Logits of each message of these folds by a head that has seen no message of its conversation, (n, c)."""
    known, table = _known(inputs), fact_rows(inputs.facts, setting.facts)
    logits = np.full((len(inputs.truth), len(LABELS[inputs.task])), -50.0)

    def judge(fold: Fold) -> None:
        inside, outside = fold
        weights = _fit(known[inside], table[inside], inputs.task, inputs.truth[inside], setting)
        met = np.unique(inputs.truth[inside])
        said = known[outside] @ weights[: known.shape[1]] + table[outside] @ weights[known.shape[1] : -1] + weights[-1]
        logits[np.ix_(outside, met)] = said[:, met]

    with cores() as each:
        list(each(judge, folds))
    return logits


def _finished(inputs: _Inputs, setting: Setting, held_out: Doubles, prior: Prior | None) -> Head:
    """The head fitted on everything, with what the held-out logits say about its confidence."""
    weights = _fit(_known(inputs), fact_rows(inputs.facts, setting.facts), inputs.task, inputs.truth, setting)
    width, hinted = inputs.dense.shape[1], inputs.hints.shape[1]
    dense, table, bias = weights[:width], weights[width + hinted : -1] * setting.facts, weights[-1]
    if prior:  # linear in what the head itself is: the two become one
        through = weights[width : width + hinted]
        dense, table = dense + prior.dense[inputs.task] @ through, table + prior.tables[inputs.task] @ through
        bias = bias + prior.biases[inputs.task] @ through
    temperature, shift = _calibrated(held_out, inputs.truth)
    chances = _softmax(held_out / temperature + shift)
    guess = held_out.argmax(1)
    sure = chances[np.arange(len(guess)), guess]
    return Head(
        labels=LABELS[inputs.task],
        dense=halved(dense),
        table=halved(table),
        bias=np.asarray(bias, np.float32),
        temperature=temperature,
        shift=shift.astype(np.float32),
        thresholds=_thresholds(sure, guess, inputs.truth, len(LABELS[inputs.task])),
        patterns=_proven_patterns(inputs),
    )


def _known(inputs: _Inputs) -> Floats:
    """What a head learns from beside the facts."""
    return np.hstack([inputs.dense, inputs.hints])


def _fit(known: Floats, table: Any, task: Task, truth: Numbers, setting: Setting) -> Floats:
    """The weights of what is ``_known``, of the facts, and the bias, one below the other."""
    labels = np.eye(len(LABELS[task]), dtype=np.float32)[truth]
    weights = (len(truth) / np.maximum(labels.sum(0), 1)) ** setting.balance
    weights *= setting.strength * len(truth) / weights[truth].sum()
    return fitted(known, table, labels * weights.astype(np.float32), rounds=_ROUNDS)


def _calibrated(logits: Doubles, truth: Numbers) -> tuple[float, Doubles]:
    """The temperature and the shift of each label under which the held-out labels are likeliest.

    The fit counts rare labels more than they occur; the shift takes that out of the confidences again.
    """
    from scipy.optimize import minimize

    def loss(values: Doubles) -> tuple[float, Doubles]:
        scale, shift = np.exp(values[0]), values[1:]
        chances = _softmax(logits * scale + shift)
        off = chances.copy()
        off[np.arange(len(truth)), truth] -= 1
        slope = np.concatenate([[scale * (off * logits).sum()], off.sum(0)]) / len(truth)
        likely = np.maximum(chances[np.arange(len(truth)), truth], 1e-12)
        return float(-np.log(likely).mean() + 1e-3 * (values**2).sum()), slope + 2e-3 * values

    found = minimize(loss, np.zeros(logits.shape[1] + 1), jac=True, method="L-BFGS-B").x
    return float(np.exp(-found[0])), np.asarray(found[1:])


def _thresholds(sure: Doubles, guess: Numbers, truth: Numbers, labels: int) -> Floats:
    """For each label the least confidence from which on at least 70 % of its guesses are right.

    Never so high that more than half of a label's guesses are withheld.
    """
    found = np.zeros(labels, np.float32)
    for label in range(labels):
        mine = guess == label
        if not mine.any():
            continue
        order = np.argsort(-sure[mine], kind="stable")
        confidence, right = sure[mine][order], (truth[mine] == label)[order]
        precise = np.cumsum(right) / np.arange(1, len(right) + 1) >= _KEPT_PRECISION
        kept = int(np.flatnonzero(precise)[-1]) if precise.any() else 0
        if kept < len(right) - 1:
            found[label] = min(confidence[kept], np.median(confidence))
    return found


def _proven_patterns(inputs: _Inputs) -> dict[str, float]:
    """The patterns that are right on at least 95 % of their cases here, and how often they are."""
    cases: dict[str, list[bool]] = {}
    for text, truth in zip(inputs.texts, inputs.truth, strict=True):
        pattern = matched(inputs.task, text)
        if pattern is not None:
            cases.setdefault(pattern.name, []).append(pattern.label == LABELS[inputs.task][truth])
    shares = {name: sum(right) / len(right) for name, right in cases.items() if len(right) >= _PATTERN_CASES}
    names = [pattern.name for pattern in PATTERNS[inputs.task]]
    return {name: round(shares[name], 4) for name in names if shares.get(name, 0) >= PATTERN_PRECISION}


def _softmax(logits: Doubles) -> Doubles:
    chances = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(chances / chances.sum(1, keepdims=True))
