"""Made-up labelled messages that a classifier can learn in a second."""

from __future__ import annotations

import random
from itertools import product

import numpy as np

from jarvis_embed.labels.gold import Example
from jarvis_embed.labels.scheme import LABELS, TASKS, Task
from jarvis_embed.spaces.heads import Floats
from jarvis_embed.training.silver import Silver

_TRIGGERS = {
    "COMMITMENT": "wanna grab {} tonight",
    "QUESTION": "where is the {} at today?",
    "REACTION": "that {} was so great!!",
    "SOCIAL": "thanks for {}",
    "STATEMENT": "it was late at {} and work",
}
_RESPONSES = {
    "AGREE": "yes for sure {}",
    "DECLINE": "no {} tonight",
    "DEFER": "maybe, not sure about {}",
    "ANSWER": "the {} is at home",
    "QUESTION": "when is {}?",
    "ACKNOWLEDGE": "ok got {}",
    "REACT_POSITIVE": "haha nice {}!",
    "REACT_SYMPATHY": "oh no, bad {}",
    "GREETING": "hey hi {}",
    "STATEMENT": "we see the {} on it",
}
_THINGS = "lunch dinner movie car dog cat game home work play".split()


def examples(each: int = 8, seed: int = 0, name: str = "conversation") -> list[Example]:
    """``each`` examples of every label, in conversations that hold several labels."""
    draw = random.Random(seed)
    made = []
    for task, forms in (("trigger", _TRIGGERS), ("response", _RESPONSES)):
        for label, form in forms.items():
            for number in range(each):
                text = form.format(" ".join(draw.choices(_THINGS, k=2)))
                trigger = "" if task == "trigger" else _TRIGGERS["QUESTION"].format(draw.choice(_THINGS))
                made.append(Example(task, label, text, trigger, f"{name} {number}"))
    return made


def silver(each: int = 4, seed: int = 5) -> Silver:
    """``each`` pairs of every trigger label with every response label, of which a teacher is nine tenths sure."""
    draw = random.Random(seed)
    asked: list[tuple[str, str]] = []
    chances: dict[Task, list[Floats]] = {task: [] for task in TASKS}
    for labels in product(_TRIGGERS, _RESPONSES, range(each)):
        forms = (_TRIGGERS[labels[0]], _RESPONSES[labels[1]])
        trigger, response = (form.format(" ".join(draw.choices(_THINGS, k=2))) for form in forms)
        asked.append((trigger, response))
        for task, label in zip(TASKS, labels[:2], strict=True):
            many = len(LABELS[task])
            row = np.full(many, 0.1 / (many - 1), np.float32)
            row[LABELS[task].index(label)] = 0.9
            chances[task].append(row)
    triggers, responses = zip(*asked, strict=True)
    return Silver(triggers, responses, {task: np.stack(rows) for task, rows in chances.items()})
