"""What kind of message a text is, by the classifier heads of a space."""

from __future__ import annotations

from collections.abc import Sequence

from .errors import HeadsMissing, InputError
from .labels.scheme import Label
from .spaces.heads import Heads
from .spaces.space import Space
from .text import normalise


def classify_triggers(space: Space, texts: Sequence[str], *, force: bool = False) -> list[Label]:
    """Say of each text what kind of reply it calls for (docs/labels.md has the five labels).

    Args:
        force: give the likeliest label also where it is too unsure; else its name is None there.

    Returns:
        a label for each text, in their order.

    Raises:
        HeadsMissing: the space has no classifiers; says how to train them.
        InputError: ``texts`` is a single string, or one of them is empty.
    """
    heads = _heads(space)
    _check(texts)
    return heads.label_triggers(space.encoder.read(texts), texts, force=force) if texts else []


def classify_responses(
    space: Space, triggers: Sequence[str], responses: Sequence[str], *, force: bool = False
) -> list[Label]:
    """Say of each response what it does as an answer to its trigger (docs/labels.md has the ten labels).

    Args:
        triggers: the turn that each response answers.

    Raises:
        HeadsMissing, InputError: as ``classify_triggers``; also where there are not as many triggers as responses.
    """
    heads = _heads(space)
    _check(triggers)
    _check(responses)
    if len(triggers) != len(responses):
        raise InputError(
            f"there are {len(triggers)} triggers and {len(responses)} responses", "Give a trigger for each response"
        )
    if not responses:
        return []
    readings = space.encoder.read([*triggers, *responses])
    asked, answered = readings[: len(triggers)], readings[len(triggers) :]
    return heads.label_responses(asked, answered, triggers, responses, force=force)


def _heads(space: Space) -> Heads:
    if space.heads is None:
        raise HeadsMissing(
            f"the space of {space.encoder.name} has no classifiers",
            f"Train them: jarvis-embed train heads {space.encoder.name}",
        )
    return space.heads


def _check(texts: Sequence[str]) -> None:
    if isinstance(texts, str):
        raise InputError("a list of texts is classified, and got one text", "Put it in a list: [text]")
    if not all(isinstance(text, str) and normalise(text) for text in texts):
        raise InputError("a text to classify is empty", "Give the message")
