"""The two label sets. What each label means, with the cases that were settled, is in docs/labels.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

Task = Literal["trigger", "response"]
TASKS: Final[tuple[Task, ...]] = get_args(Task)

MEANINGS: Final[Mapping[Task, Mapping[str, str]]] = {
    "trigger": {
        "COMMITMENT": "wants the reader to do, join, give or decide something",
        "QUESTION": "wants information or an opinion",
        "REACTION": "shows feeling, and calls for a shared one",
        "SOCIAL": "a formula: greeting, goodbye, thanks, apology, bare acknowledgement",
        "STATEMENT": "tells something, and calls for no particular reply",
    },
    "response": {
        "AGREE": "yes, or the same view",
        "DECLINE": "no, or another view",
        "DEFER": "neither yes nor no",
        "ANSWER": "gives what an open question asked for",
        "QUESTION": "asks back, or asks something new",
        "ACKNOWLEDGE": "was heard, and nothing more",
        "REACT_POSITIVE": "warm or amused",
        "REACT_SYMPATHY": "shares or soothes a bad feeling",
        "GREETING": "greets or says goodbye, and nothing more",
        "STATEMENT": "tells something that nobody asked for",
    },
}

LABELS: Final[Mapping[Task, tuple[str, ...]]] = {task: tuple(MEANINGS[task]) for task in TASKS}
"""The labels of each task, in the order in which heads number them."""


def tasks_of(label: str) -> tuple[Task, ...]:
    """The tasks that have this label; empty for an unknown one."""
    return tuple(task for task in TASKS if label in LABELS[task])


@dataclass(frozen=True, slots=True)
class Label:
    """The class that a classifier gave a text.

    Attributes:
        name: None where it was too unsure to give one.
        confidence: how likely the name is right, 0 to 1; of the likeliest one where none was given.
        method: ``pattern`` (the form alone was plain), ``head`` (the trained classifier), or ``abstained``.
    """

    name: str | None
    confidence: float
    method: str
