"""Other ways to make the classifier heads, each by macro F1 in cross-validation on the gold training labels.

    python benchmarks/heads_tried.py [--model minilm-l6] [--curve] [--home HOME]

With --curve instead: how good heads without a prior are that learned from a part of the labelled conversations.
A conversation is on one side. The validation labels are not read: nothing may be chosen by them.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC, LinearSVC

import jarvis_embed as je
from jarvis_embed.labels.gold import gold_examples
from jarvis_embed.labels.scheme import LABELS, TASKS
from jarvis_embed.training import heads
from jarvis_embed.training.heads import Setting, macro_f1
from jarvis_embed.training.logistic import fact_rows
from jarvis_embed.training.prior import learn_prior, texts_read
from jarvis_embed.training.silver import read_silver

SETTING = Setting(1.0, 1.5, 0.8)
Maker = Callable[[], Any]


def score(inputs: Any, matrix: Any, make: Maker) -> float:
    """Macro F1 of the guesses for held-out conversations."""
    guess = np.zeros(len(inputs.truth), np.int64)
    for inside, outside in heads._folds(inputs, seed=1):
        guess[outside] = make().fit(matrix[inside], inputs.truth[inside]).predict(matrix[outside])
    return macro_f1(inputs.truth, guess, len(LABELS[inputs.task]))


def matrix_of(inputs: Any) -> Any:
    """Vectors and facts in one sparse matrix, for scikit-learn."""
    return sparse.hstack([sparse.csr_matrix(inputs.dense), fact_rows(inputs.facts, SETTING.facts)], format="csr")


def ours(inputs: Any, setting: Setting = SETTING) -> float:
    logits = heads._held_out_logits(inputs, heads._folds(inputs, seed=1), setting)
    return macro_f1(inputs.truth, logits.argmax(1), len(LABELS[inputs.task]))


def shifted(inputs: Any) -> float:
    """Each label's logit moved to where macro F1 is best on the guesses for the other folds."""
    folds, labels = heads._folds(inputs, seed=1), len(LABELS[inputs.task])
    logits = heads._held_out_logits(inputs, folds, SETTING)
    moved = logits.copy()
    for inside, outside in folds:
        moved[outside] += best_shift(logits[inside], inputs.truth[inside], labels)
    return macro_f1(inputs.truth, moved.argmax(1), labels)


def best_shift(logits: np.ndarray, truth: np.ndarray, labels: int) -> np.ndarray:
    """The best shift of each label, one after the other, three times over; scores are smoothed along it."""
    shift, steps = np.zeros(labels), np.linspace(-1, 1, 21)
    for label in [*range(labels)] * 3:
        tried = [
            macro_f1(truth, (logits + np.where(np.arange(labels) == label, step, shift)).argmax(1), labels)
            for step in steps
        ]
        smooth = np.convolve(np.pad(tried, 2, mode="edge"), np.full(5, 0.2), "valid")
        shift[label] = steps[int(smooth.argmax())]
    return shift


def ways(inputs: Any) -> dict[str, Callable[[], float]]:
    """Name → what computes its score."""
    none = np.empty((len(inputs.truth), 0), np.float32)
    bare = replace(inputs, hints=none)
    facts = matrix_of(replace(bare, dense=none))
    both = matrix_of(bare)
    vector = inputs.dense
    found: dict[str, Callable[[], float]] = {
        "vector alone": lambda: score(inputs, vector, lambda: _logistic(10)),
        "vector alone, RBF support vectors": lambda: score(
            inputs, vector, lambda: SVC(C=5, gamma=1.5, class_weight="balanced")
        ),
        "facts alone": lambda: score(inputs, facts, lambda: _logistic(1)),
        "vector and facts": lambda: ours(bare),
        "the same, linear support vectors": lambda: score(
            inputs, both, lambda: LinearSVC(C=0.3, class_weight="balanced")
        ),
        "the same, a hidden layer of 64": lambda: score(
            inputs, both, lambda: MLPClassifier((64,), alpha=0.01, max_iter=12, batch_size=64, random_state=0)
        ),
        "the same, every message once": lambda: ours(bare, replace(SETTING, balance=0.0)),
        "the same, every label alike": lambda: ours(bare, replace(SETTING, balance=1.0)),
        "the same, labels shifted": lambda: shifted(bare),
    }
    if inputs.task == "response":
        half = vector.shape[1] // 2
        answer, asked = vector[:, :half], vector[:, half:]
        more = np.hstack([vector, answer * asked * np.float32(np.sqrt(half)), np.abs(answer - asked)])
        found["vector of the response alone"] = lambda: score(inputs, answer, lambda: _logistic(10))
        found["vectors, products and differences"] = lambda: score(inputs, more, lambda: _logistic(1))
    if inputs.hints.shape[1]:
        found["vector, facts, prior (teacher read most)"] = lambda: ours(inputs)
    return found


def curve(inputs: Any, share: float, seed: int) -> float:
    """Macro F1 in cross-validation where only a share of the conversations of the other folds is learned from."""
    groups, rng = np.array(inputs.groups), np.random.default_rng(seed)
    folds = []
    for inside, outside in heads._folds(inputs, seed=1):
        names = rng.permutation(np.unique(groups[inside]))
        folds.append((inside[np.isin(groups[inside], names[: round(share * len(names))])], outside))
    logits = heads._held_out_logits(inputs, folds, SETTING)
    return macro_f1(inputs.truth, logits.argmax(1), len(LABELS[inputs.task]))


def _logistic(strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, class_weight="balanced", max_iter=300, tol=1e-3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="minilm-l6")
    parser.add_argument("--curve", action="store_true")
    parser.add_argument("--home")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # the hidden layer is stopped early on purpose
    encoder = je.load_encoder(arguments.model, home=arguments.home, cache=0)
    examples = gold_examples("train")
    silver = None if arguments.curve else read_silver()
    more = () if silver is None else texts_read(silver)
    vectors = heads._embedded(encoder, examples, lambda _done, _total: None, more)
    prior = None if silver is None else learn_prior(silver, vectors)
    for task in TASKS:
        of_task = [example for example in examples if example.task == task]
        inputs = heads._inputs(task, of_task, vectors, prior)
        if arguments.curve:
            for share in (0.125, 0.25, 0.5, 0.75, 1.0):
                found = [curve(inputs, share, seed) for seed in range(2 if share < 1 else 1)]
                print(f"{task:<9} {share:6.1%} of the conversations {np.mean(found):.3f}", flush=True)
            continue
        for name, measure in ways(inputs).items():
            start = time.perf_counter()
            print(f"{task:<9} {name:<36} {measure():.3f}   {time.perf_counter() - start:5.1f} s", flush=True)


if __name__ == "__main__":
    main()
