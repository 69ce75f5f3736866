"""What vector and facts of a message say about its label, learned from silver labels: one prior for each space.

A classifier as a head is, linear in the vector and in the facts of ``spaces/features.py``, learns what the teacher
thinks of many pairs (``silver.py``). Its logits are inputs of the head, which learns from gold labels how far to trust
them. That is distillation (Hinton et al., "Distilling the knowledge in a neural network", 2015); docs/classifiers.md
has what it brings. It depends on the space alone, and most of the time of training heads is spent on it, so it is kept
beside the compiled model; for the models that come with heads the package has it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..errors import HomeError
from ..home import write_private
from ..labels.scheme import TASKS, Task
from ..models.compiled import compiled_folder
from ..models.encoder import Encoder
from ..spaces.features import BUCKETS, FEATURES_VERSION, response_buckets, trigger_buckets
from ..spaces.heads import Floats, response_inputs
from .logistic import Numbers, cores, fact_rows, fitted
from .silver import Silver

PRIOR_VERSION: Final = 1
"""Raise this when the silver labels, or how they are learned, give another prior: those that are kept are forgotten,
and those of the package made again (``benchmarks/classifiers.py --ship``)."""

WEIGHT: Final = 0.2
"""How much its logits count as inputs beside the vector, by macro F1 on the conversations that the teacher was not
shown. Not chosen in cross-validation on all of them: what the teacher has seen would speak for more of it."""

LONGEST: Final = 90
"""Characters of the texts whose vectors are learned from. Longer ones take half the time of embedding, and as a prior
learned from their facts alone it is as good (docs/classifiers.md)."""

_SHIPPED: Final = "priors"
_PARTS: Final = ("dense", "tables", "biases")
_FACTS: Final = 1.5
_ROUNDS: Final = 40
_THOROUGH: Final = 60

_log = logging.getLogger(__name__)


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
        {task: halved(weights[task][: width[task]]) for task in TASKS},
        {task: halved(_FACTS * weights[task][width[task] : -1]) for task in TASKS},
        {task: halved(weights[task][-1]) for task in TASKS},
    )


def keep_prior(prior: Prior, encoder: Encoder, home: Path) -> None:
    """Put the prior of the space of ``encoder`` where ``kept_prior`` finds it. A home that cannot be written costs the
    time of learning it again, not the heads."""
    try:
        write_private(_place(encoder, home), _written(prior, encoder))
    except HomeError as error:
        _log.warning("what was learned from silver labels is not kept: %s", error)


def ship_prior(prior: Prior, encoder: Encoder, folder: Path) -> None:
    """Write the prior where ``kept_prior`` finds it in every home; ``folder`` is that of this package in a checkout."""
    place = folder / _SHIPPED / f"{encoder.fingerprint}.safetensors"
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(_written(prior, encoder))


def kept_prior(encoder: Encoder, home: Path) -> Prior | None:
    """The prior of this space: that of the package, or one learned before, if it is of this version and whole."""
    shipped = resources.files(__package__).joinpath(_SHIPPED, f"{encoder.fingerprint}.safetensors")
    with resources.as_file(shipped) as place:
        return _read(place, encoder) or _read(_place(encoder, home), encoder)


def _written(prior: Prior, encoder: Encoder) -> bytes:
    from safetensors.numpy import save

    tensors = {f"{task}.{part}": getattr(prior, part)[task].astype(np.float16) for part in _PARTS for task in TASKS}
    return save(tensors, {"made_for": _made_for(encoder)})


def _read(place: Path, encoder: Encoder) -> Prior | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(place, "np") as file:
            if file.metadata() != {"made_for": _made_for(encoder)}:
                return None
            parts = [{task: halved(file.get_tensor(f"{task}.{part}")) for task in TASKS} for part in _PARTS]
    except (OSError, SafetensorError):
        return None
    return Prior(*parts)


def halved(weights: npt.NDArray[np.floating[Any]]) -> Floats:
    """Rounded to the 16 bits that are stored, so that what is read is what was made."""
    return weights.astype(np.float16).astype(np.float32)


def _place(encoder: Encoder, home: Path) -> Path:
    return compiled_folder(encoder.name, encoder.precision, home) / "prior.safetensors"


def _made_for(encoder: Encoder) -> str:
    return json.dumps([encoder.fingerprint, PRIOR_VERSION, FEATURES_VERSION, BUCKETS])


def _is_read(text: str, thorough: bool) -> bool:
    return thorough or len(text) <= LONGEST
