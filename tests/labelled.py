"""Made-up labelled messages that a classifier can learn in a second."""

from __future__ import annotations

import random

from jarvis_embed.labels.gold import Example

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
