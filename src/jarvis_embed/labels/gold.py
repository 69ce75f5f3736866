"""The gold labels that the package ships: turns of chitchat, named by conversation and position, never by text.

Every label was given by reading the turn and the one before it (docs/labels.md). ``labels.csv`` has a row for each
judgement: ``pass`` 1 is the gold label, 2 a second judgement of some of the turns by somebody who did not know the
first. The text comes from the installed corpus.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final

from ..conversations.turns import turns_of
from ..errors import LabelError
from ..sources.chitchat import ChitchatSource, Split, split_of
from .scheme import LABELS, TASKS, Task

COLUMNS: Final = ("conversation", "turn", "task", "label", "pass")


@dataclass(frozen=True, slots=True)
class TurnLabel:
    """One judgement. ``turn`` is the position of the judged turn among the turns of its conversation, from 0."""

    conversation: str
    turn: int
    task: Task
    label: str
    reading: int = 1


@dataclass(frozen=True, slots=True)
class Example:
    """A labelled text.

    Attributes:
        group: what may not be on two sides of a split: the conversation.
        trigger: the turn that ``text`` answers; empty for a trigger.
    """

    task: Task
    label: str
    text: str
    trigger: str
    group: str


def read_gold() -> list[TurnLabel]:
    """Read every judgement that the package ships.

    Raises:
        LabelError: a row has an unknown task or label, or names a sealed conversation.
    """
    return read_labels(resources.files(__package__).joinpath("labels.csv").read_text(encoding="utf-8"), "labels.csv")


def read_labels(table: str, name: str) -> list[TurnLabel]:
    """Read judgements from the text of a table with the columns ``COLUMNS``.

    Args:
        name: of the file, for errors.

    Raises:
        LabelError: a row has an unknown task or label.
    """
    return [_checked(name, number, row) for number, row in enumerate(csv.DictReader(table.splitlines()), 2)]


def gold_examples(split: Split, labels: Iterable[TurnLabel] | None = None) -> list[Example]:
    """The gold labels of one part of the corpus, with their texts, ordered as in the file.

    Raises:
        SourceError: the corpus is not installed.
        LabelError: it has not the turns that the labels name.
    """
    every = read_gold() if labels is None else list(labels)
    assert_grouped(every)
    wanted = [label for label in every if label.reading == 1 and split_of(label.conversation) == split]
    names = {label.conversation for label in wanted}
    texts = {
        conversation.key: [turn.text for turn in turns_of(conversation.messages)]
        for conversation in ChitchatSource(split=split).conversations()
        if conversation.key in names
    }
    try:
        return [
            Example(
                label.task,
                label.label,
                texts[label.conversation][label.turn],
                texts[label.conversation][label.turn - 1] if label.task == "response" else "",
                label.conversation,
            )
            for label in wanted
        ]
    except (KeyError, IndexError) as error:
        raise LabelError(
            "the installed chitchat corpus has not the turns that the gold labels name",
            "Install the release they were made on: pip install chitchat-dataset==0.9.0",
        ) from error


def assert_grouped(labels: Iterable[TurnLabel]) -> None:
    """Check that no turn is labelled twice in one reading, and none of a sealed conversation at all.

    A conversation's part follows from its id, so none can be on both sides of the split.

    Raises:
        LabelError: names the conversation.
    """
    seen: Counter[tuple[str, int, Task, int]] = Counter()
    for label in labels:
        key = (label.conversation, label.turn, label.task, label.reading)
        seen[key] += 1
        if split_of(label.conversation) == "sealed":
            raise LabelError(f"conversation {label.conversation} is sealed, and has labels", "Remove them")
        if seen[key] > 1:
            raise LabelError(f"turn {label.turn} of {label.conversation} has two {label.task} labels", "Keep one")


def kappa(first: Sequence[str], second: Sequence[str]) -> float:
    """Cohen's κ: how far two judges agree beyond what their label frequencies alone would give.

    Source: Cohen, "A coefficient of agreement for nominal scales", 1960. 1 where both are equal throughout.
    """
    n = len(first)
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / n
    ours, theirs = Counter(first), Counter(second)
    chance = sum(ours[label] * theirs[label] for label in ours) / n**2
    return 1.0 if chance == 1 else (observed - chance) / (1 - chance)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two readings of the same turns.

    Attributes:
        n: turns that were read twice. observed: share of equal labels. kappa: Cohen's.
        disagreements: (first label, second label, how often), the most frequent first.
    """

    task: Task
    n: int
    observed: float
    kappa: float
    disagreements: tuple[tuple[str, str, int], ...]


def agreement(labels: Iterable[TurnLabel]) -> list[Agreement]:
    """How far the two readings agree, for each task that was read twice."""
    readings: dict[tuple[Task, str, int], dict[int, str]] = {}
    for label in labels:
        readings.setdefault((label.task, label.conversation, label.turn), {})[label.reading] = label.label
    found = []
    for task in TASKS:
        both = [(read[1], read[2]) for (of, *_), read in readings.items() if of == task and {1, 2} <= set(read)]
        if both:
            first, second = zip(*both, strict=True)
            differing = Counter((a, b) for a, b in both if a != b).most_common()
            observed = sum(a == b for a, b in both) / len(both)
            rows = tuple((a, b, n) for (a, b), n in differing)
            found.append(Agreement(task, len(both), observed, kappa(first, second), rows))
    return found


def _checked(name: str, number: int, row: dict[str, str]) -> TurnLabel:
    task = next((task for task in TASKS if task == row["task"]), None)
    if task is None or row["label"] not in LABELS[task]:
        raise LabelError(f"{name}, line {number}: no such label", "Reinstall jarvis-embed")
    return TurnLabel(row["conversation"], int(row["turn"]), task, row["label"], int(row["pass"]))
