"""``jarvis-embed classify``: what kind of message a text is."""

from __future__ import annotations

from typing import Annotated

import typer

from ..classify import classify_responses, classify_triggers
from ..home import home_folder
from ..labels.scheme import MEANINGS, Label, Task
from ..spaces.space import Space
from .ask import ModelOption, given_text
from .output import HomeOption, JsonOption, PrecisionOption, out, print_json


def classify(
    text: Annotated[str, typer.Argument(help="The message; - reads it from standard input.")],
    response_to: Annotated[
        str | None, typer.Option("--response-to", metavar="TRIGGER", help="Label TEXT as an answer to this message.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Give the likeliest label also where it is unsure.")] = False,
    model: ModelOption = None,
    precision: PrecisionOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what kind of message this is: what reply it calls for, or what it does as a reply."""
    task: Task = "trigger" if response_to is None else "response"
    message = given_text(text)
    with Space.open(model, home=home_folder(home), precision=precision) as space:
        if response_to is None:
            (label,) = classify_triggers(space, [message], force=force)
        else:
            (label,) = classify_responses(space, [response_to], [message], force=force)
    if as_json:
        print_json({"task": task, "label": label})
    else:
        out.print(described(task, label), markup=False)


def described(task: Task, label: Label) -> str:
    """A label in words."""
    if label.name is None:
        return f"no label: the likeliest one has only {label.confidence:.0%}"
    how = "by its form" if label.method == "pattern" else "by the head"
    return f"{label.name} ({label.confidence:.0%}, {how}): {MEANINGS[task][label.name]}"
