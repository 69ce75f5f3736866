"""What vector and facts of a message say about its label, learned from silver labels: one prior for each space.

A classifier as a head is, linear in the vector and in the facts of ``spaces/features.py``, learns what the teacher
thinks of many pairs (``silver.py``). Its logits are inputs of the head, which learns from gold labels how far to trust
them. That is distillation (Hinton et al., "Distilling the knowledge in a neural network", 2015); docs/classifiers.md
has what it brings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ..labels.scheme import TASKS, Task
from ..spaces.features import response_buckets, trigger_buckets
from ..spaces.heads import Floats, response_inputs
from .logistic import Numbers, cores, fact_rows, fitted
from .silver import Silver

WEIGHT: Final = 0.2
"""How much its logits count as inputs beside the vector, by macro F1 on the conversations that the teacher was not
shown. Not chosen in cross-validation on all of them: what the teacher has seen would speak for more of it."""

LONGEST: Final = 100
"""Characters of the texts whose vectors are learned from. Longer ones take half the time of embedding, and as a prior
learned from their facts alone it is as good (docs/classifiers.md)."""

_FACTS: Final = 1.5
_ROUNDS: Final = 40
_THOROUGH: Final = 60


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


def texts_read(silver: Silver, *, thorough: bool = False) -> tuple[str, ...]:
    """The texts of ``silver`` whose vectors the prior reads; all of them where it is ``thorough``."""
    return tuple(text for text in (*silver.triggers, *silver.responses) if _is_read(text, thorough))


def learn_prior(silver: Silver, vectors: Mapping[str, Floats], *, thorough: bool = False) -> Prior:
    """Learn the prior of a space.

    Args:
        vectors: text → its vector in that space, of every text that ``texts_read`` gives.
        thorough: read all texts, and fit longer: worth its time where vectors say most of what is to be learned.
    """
    nothing = np.zeros_like(next(iter(vectors.values())))
    asked, answered = (
        np.stack([vectors[text] if _is_read(text, thorough) else nothing for text in side])
        for side in (silver.triggers, silver.responses)
    )
    pairs = list(zip(silver.triggers, silver.responses, strict=True))
    facts = [(trigger_buckets(trigger), response_buckets(trigger, response)) for trigger, response in pairs]
    inputs: dict[Task, Floats] = {"trigger": asked, "response": response_inputs(asked, answered)}

    def learned(task: Task, found: Sequence[Numbers]) -> Floats:
        rounds = _THOROUGH if thorough else _ROUNDS
        return WEIGHT * fitted(inputs[task], fact_rows(found, _FACTS), silver.chances[task], rounds=rounds)

    with cores() as each:
        weights = dict(zip(TASKS, each(learned, TASKS, zip(*facts, strict=True)), strict=True))
    width = {task: inputs[task].shape[1] for task in TASKS}
    return Prior(
        {task: weights[task][: width[task]] for task in TASKS},
        {task: _FACTS * weights[task][width[task] : -1] for task in TASKS},
        {task: weights[task][-1] for task in TASKS},
    )


def _is_read(text: str, thorough: bool) -> bool:
    return thorough or len(text) <= LONGEST
