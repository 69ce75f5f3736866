"""What the facts of a message say about its label, before any vector is looked at: learned once, for all spaces.

5,080 labelled pairs are few for the many words that chat has. So a BERT was fine-tuned on them, it labelled other
pairs of the same training conversations' corpus, and a linear classifier over the facts of ``spaces/features.py``
learned from those. Its logits are an input of every head (docs/classifiers.md has what that brings). It holds numbers
of hashed facts, no text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final

import numpy as np
import numpy.typing as npt

from ..labels.scheme import LABELS, TASKS, Task
from ..spaces.features import BUCKETS, FEATURES_VERSION
from ..spaces.heads import Floats

_FILE: Final = "prior.safetensors"

WEIGHT: Final[Mapping[Task, float]] = {"trigger": 0.1, "response": 0.2}
"""How much its logits count as inputs beside the vector, by macro F1 on the conversations that the teacher was not
shown. Not chosen in cross-validation on all of them: what the teacher has seen would speak for more of it."""


@dataclass(frozen=True, slots=True)
class Prior:
    """For each task a table (buckets, c) and a bias (c,), float32, times ``WEIGHT``."""

    tables: Mapping[Task, Floats]
    biases: Mapping[Task, Floats]

    def logits(self, task: Task, facts: Sequence[npt.NDArray[np.int64]]) -> Floats:
        """What the facts of each text say, (n, c)."""
        table, bias = self.tables[task], self.biases[task]
        return np.stack([table[buckets].sum(0) / np.sqrt(max(len(buckets), 1)) + bias for buckets in facts])


def read_prior() -> Prior | None:
    """The prior that the package ships; None where it was learned from other features than this program finds."""
    from safetensors import safe_open

    with resources.as_file(resources.files(__package__).joinpath(_FILE)) as path:
        if not path.is_file():
            return None
        with safe_open(path, "np") as file:
            if (file.metadata() or {}).get("features") != str(FEATURES_VERSION):
                return None
            tables, biases = (
                {task: WEIGHT[task] * file.get_tensor(f"{task}.{part}").astype(np.float32) for task in TASKS}
                for part in ("table", "bias")
            )
    if any(tables[task].shape != (BUCKETS, len(LABELS[task])) for task in TASKS):
        return None
    return Prior(tables, biases)
