"""What vector and facts of a message say about its label, learned from silver labels: one prior for each space.

A classifier as a head is, linear in the vector and in the facts of ``spaces/features.py``, learns what the teacher
thinks of many pairs (``silver.py``). Its logits are inputs of the head, which learns from gold labels how far to trust
them. That is distillation (Hinton et al., "Distilling the knowledge in a neural network", 2015); docs/classifiers.md
has what it brings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..labels.scheme import TASKS, Task
from ..spaces.features import BUCKETS, response_buckets, trigger_buckets
from ..spaces.heads import Floats, response_inputs
from .silver import Silver

WEIGHT: Final = 0.2
"""How much its logits count as inputs beside the vector, by macro F1 on the conversations that the teacher was not
shown. Not chosen in cross-validation on all of them: what the teacher has seen would speak for more of it."""

_FACTS: Final = 1.5
_ROUNDS: Final = 60

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Prior:
    """For each task ``dense`` (d, c), a table (buckets, c) and a bias (c,), float32, times ``WEIGHT``."""

    dense: Mapping[Task, Floats]
    tables: Mapping[Task, Floats]
    biases: Mapping[Task, Floats]

    def logits(self, task: Task, inputs: Floats, facts: Sequence[Numbers]) -> Floats:
        """What vectors (n, d) and facts of n texts say, (n, c)."""
        said = inputs @ self.dense[task] + self.biases[task]
        for row, buckets in enumerate(facts):
            said[row] += self.tables[task][buckets].sum(0) / np.sqrt(max(len(buckets), 1))
        return np.asarray(said, np.float32)


def learn_prior(silver: Silver, vectors: Mapping[str, Floats]) -> Prior:
    """Learn the prior of a space.

    Args:
        vectors: text → its vector in that space, of every text of ``silver``.
    """
    asked, answered = (np.stack([vectors[text] for text in side]) for side in (silver.triggers, silver.responses))
    dense: dict[Task, Floats] = {}
    tables: dict[Task, Floats] = {}
    biases: dict[Task, Floats] = {}
    for task in TASKS:
        if task == "trigger":
            inputs, facts = asked, [trigger_buckets(text) for text in silver.triggers]
        else:
            inputs = response_inputs(asked, answered)
            facts = [response_buckets(*pair) for pair in zip(silver.triggers, silver.responses, strict=True)]
        weights = WEIGHT * _fitted(inputs, fact_rows(facts, _FACTS), silver.chances[task])
        width = inputs.shape[1]
        dense[task], biases[task] = weights[:width], weights[-1]
        tables[task] = _FACTS * weights[width:-1]
    return Prior(dense, tables, biases)


def fact_rows(facts: Sequence[Numbers], weight: float) -> Any:
    """The facts of texts as a sparse matrix (n, buckets) float32: ``weight`` / √(their number) where there is one."""
    from scipy import sparse

    many = np.array([len(buckets) for buckets in facts])
    values = np.repeat(weight / np.sqrt(np.maximum(many, 1)), many).astype(np.float32)
    columns, ends = np.concatenate(facts), np.concatenate([[0], np.cumsum(many)])
    return sparse.csr_matrix((values, columns, ends), shape=(len(facts), BUCKETS))


def _fitted(inputs: Floats, facts: Any, chances: Floats) -> Floats:
    """Multinomial logistic regression on probabilities instead of labels, with a penalty of half the squared weights.

    scikit-learn's takes labels only, and a matrix that is sparse as a whole: ten times slower with vectors in it.

    Returns:
        (d + buckets + 1, c) float32: weights of the vector, of the facts, and the bias.
    """
    from scipy.optimize import minimize

    back, width, labels = facts.T.tocsr(), inputs.shape[1], chances.shape[1]
    shape = (width + facts.shape[1] + 1, labels)

    def loss(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        weights = flat.reshape(shape).astype(np.float32)
        logits = inputs @ weights[:width] + facts @ weights[width:-1] + weights[-1]
        logits -= logits.max(1, keepdims=True)
        likely = np.exp(logits)
        total = likely.sum(1, keepdims=True)
        off = likely / total - chances
        slope = np.concatenate([inputs.T @ off, back @ off, off.sum(0, keepdims=True)]).astype(np.float64)
        slope[:-1] += weights[:-1]
        wrong = float((chances * (np.log(total) - logits)).sum(dtype=np.float64))
        return wrong + 0.5 * float((weights[:-1].astype(np.float64) ** 2).sum()), slope.ravel()

    start = np.zeros(shape[0] * labels)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _ROUNDS}).x
    return np.asarray(found.reshape(shape), np.float32)
