"""Classifier heads of a space: what kind of message a text is, from its vector and its form. Numpy only.

A cascade. A structural pattern decides where the form alone is plain; else a linear layer over what the encoder reads
and the facts of ``features`` does; and where its best label is less likely than that label's threshold, none is given.
Heads are trained for one space (``training/heads.py``), and carry its fingerprint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..conversations.patterns import matched
from ..errors import FingerprintMismatch, HeadsMissing, InputError, SpaceDamaged
from ..home import write_json
from ..labels.scheme import LABELS, TASKS, Label, Task
from ..models.engine import Vectors
from .artifact import Array, open_artifact, write_artifact
from .features import FEATURES_VERSION, response_buckets, trigger_buckets

HEADS_FILE, FACTS_FILE = "heads.safetensors", "heads.json"
FILES: Final = (HEADS_FILE, FACTS_FILE)
FORMAT: Final = 1
_HALVED: Final = ("dense", "table")
"""Stored in 16 bits. Training rounds to them, so what is read is what was trained."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Head:
    """One linear classifier.

    Attributes:
        labels: (c,) names, in the order of the columns below.
        dense: (d, c) float32, weights of what the encoder reads: of triggers one reading, of responses two.
        table: (buckets, c) float32, weights of the facts; a text's rows are added and divided by √(their number).
        bias: (c,) float32.
        temperature, shift: what logits are divided by, and (c,) what is added, so that confidences are as often right
            as they say (Guo et al., "On calibration of modern neural networks", 2017). They do not change which label
            is best.
        thresholds: (c,) float32, the confidence below which a label is not given.
        patterns: name → share of labelled turns for which the pattern was right; only those that are used.
    """

    labels: tuple[str, ...]
    dense: Floats
    table: Floats
    bias: Floats
    temperature: float
    shift: Floats
    thresholds: Floats
    patterns: Mapping[str, float]

    def scores(self, inputs: Floats, facts: Sequence[npt.NDArray[np.int64]]) -> tuple[npt.NDArray[np.int64], Floats]:
        """The best label of each text and how likely it is right, both (n,).

        Args:
            inputs: (n, d). facts: the buckets of each text.
        """
        logits = inputs @ self.dense + self.bias
        for row, buckets in enumerate(facts):
            logits[row] += self.table[buckets].sum(0) / np.sqrt(max(len(buckets), 1))
        best = logits.argmax(1)
        logits = logits / self.temperature + self.shift
        chances = np.exp(logits - logits.max(1, keepdims=True))
        return best, np.asarray(chances[np.arange(len(best)), best] / chances.sum(1), np.float32)


@dataclass(frozen=True, slots=True)
class Heads:
    """The heads of one space.

    Attributes:
        facts: how they were trained: seed, number of examples, cross-validated scores.
    """

    fingerprint: str
    trigger: Head
    response: Head
    facts: Mapping[str, Any]

    def of(self, task: Task) -> Head:
        return self.trigger if task == "trigger" else self.response

    def label_triggers(self, readings: Vectors, texts: Sequence[str], *, force: bool = False) -> list[Label]:
        """Label each trigger.

        Args:
            readings: (n, width) of ``texts``, by ``read`` of the encoder of this space.
            force: give the likeliest label also below its threshold.
        """
        return _cascade("trigger", self.trigger, readings, [trigger_buckets(text) for text in texts], texts, force)

    def label_responses(
        self,
        trigger_readings: Vectors,
        response_readings: Vectors,
        triggers: Sequence[str],
        responses: Sequence[str],
        *,
        force: bool = False,
    ) -> list[Label]:
        """Label each response as an answer to its trigger; arguments as in ``label_triggers``.

        Raises:
            InputError: there are not as many triggers as responses.
        """
        if len(triggers) != len(responses):
            raise InputError(
                f"there are {len(triggers)} triggers and {len(responses)} responses", "Give a trigger for each response"
            )
        inputs = response_inputs(trigger_readings, response_readings)
        facts = [response_buckets(*pair) for pair in zip(triggers, responses, strict=True)]
        return _cascade("response", self.response, inputs, facts, responses, force)


def response_inputs(triggers: Vectors, responses: Vectors) -> Floats:
    """What the response head sees of two readings, (n, 2·width). Products and differences add nothing
    (docs/classifiers.md)."""
    return np.hstack([responses, triggers])


def write_heads(folder: Path, heads: Heads) -> None:
    """Write both files into ``folder``.

    Raises:
        DiskFull, HomeNotWritable: as they say.
    """
    tensors: dict[str, Array] = {}
    stated: dict[str, object] = {}
    for task in TASKS:
        head = heads.of(task)
        tensors |= {
            f"{task}.{name}": getattr(head, name).astype(np.float16 if name in _HALVED else np.float32)
            for name in ("dense", "table", "bias", "shift", "thresholds")
        }
        stated[task] = {
            "labels": list(head.labels),
            "temperature": head.temperature,
            "patterns": dict(head.patterns),
        }
    write_artifact(folder / HEADS_FILE, tensors, heads.fingerprint)
    versions = {"format": FORMAT, "features": FEATURES_VERSION, "fingerprint": heads.fingerprint}
    write_json(folder / FACTS_FILE, {**versions, **stated, "facts": dict(heads.facts)})


def read_heads(folder: Path, fingerprint: str) -> Heads:
    """Read the heads in ``folder``.

    Raises:
        HeadsMissing: there are none, or they read other facts than this program finds.
        FingerprintMismatch: they belong to another space; names both.
        SpaceDamaged: a file cannot be read.
    """
    again = "Train them again: jarvis-embed train heads"
    if not (folder / HEADS_FILE).exists():
        raise HeadsMissing(f"{folder} holds no classifiers", again)
    try:
        stated = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
        found = stated["fingerprint"]
        if (stated["format"], stated["features"]) != (FORMAT, FEATURES_VERSION):
            raise HeadsMissing(f"the classifiers in {folder} are of another version", again)
        if found == fingerprint:
            tensors = open_artifact(folder / HEADS_FILE, fingerprint)
            trigger, response = (_head(task, tensors, stated[task]) for task in TASKS)
            return Heads(fingerprint, trigger, response, stated["facts"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SpaceDamaged(f"the classifiers in {folder} are damaged", again) from error
    raise FingerprintMismatch(
        f"the classifiers in {folder} belong to fingerprint {found}, and the space has {fingerprint}", again
    )


def _head(task: Task, tensors: Mapping[str, Array], stated: Mapping[str, Any]) -> Head:
    dense, table, bias, shift, thresholds = (
        np.array(tensors[f"{task}.{name}"], np.float32) for name in ("dense", "table", "bias", "shift", "thresholds")
    )
    labels = tuple(stated["labels"])
    if labels != LABELS[task] or dense.shape[1] != len(labels) or table.shape[1] != len(labels):
        raise ValueError("labels and weights do not fit")
    return Head(labels, dense, table, bias, float(stated["temperature"]), shift, thresholds, dict(stated["patterns"]))


def _cascade(
    task: Task,
    head: Head,
    inputs: Floats,
    facts: Sequence[npt.NDArray[np.int64]],
    texts: Sequence[str],
    force: bool,
) -> list[Label]:
    best, sure = head.scores(inputs, facts)
    labels = []
    for text, number, confidence in zip(texts, best.tolist(), sure.tolist(), strict=True):
        pattern = matched(task, text)
        if pattern is not None and pattern.name in head.patterns:
            labels.append(Label(pattern.label, head.patterns[pattern.name], "pattern"))
        elif confidence < head.thresholds[number] and not force:
            labels.append(Label(None, confidence, "abstained"))
        else:
            labels.append(Label(head.labels[number], confidence, "head"))
    return labels
