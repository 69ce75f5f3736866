"""Commands that ask the space: suggest and search."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table

from ..config import Precision
from ..errors import InputError
from ..home import home_folder
from ..pipeline import Suggestion
from ..pipeline import suggest as suggest_replies
from ..spaces.space import Space
from .output import HomeOption, JsonOption, err, one_line, out, print_json, waterfall

ModelOption = Annotated[str | None, typer.Option("--model", help="Model whose space is asked.", show_default="in use")]
PrecisionOption = Annotated[Precision | None, typer.Option(help="Arithmetic of the encoder.", show_default="settings")]


def suggest(
    text: Annotated[str, typer.Argument(help="The message to answer; - reads it from standard input.")],
    context: Annotated[
        list[str] | None, typer.Option("--context", help="A turn before the message; repeat it, oldest first.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many replies at most.")] = 3,
    model: ModelOption = None,
    precision: PrecisionOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Suggest replies: what was answered to messages like this one, best first."""
    root = home_folder(home)
    text = _text(text)
    with Space.open(model, home=root, precision=precision) as space:
        suggest_replies("warm up", space=space, home=root)  # the first run of a process pays for its start
        suggestion = suggest_replies(text, context or (), k=k, space=space, home=root)
    if as_json:
        print_json(suggestion)
        return
    show_suggestion(suggestion)


def search(
    text: Annotated[str, typer.Argument(help="What to look for; - reads it from standard input.")],
    k: Annotated[int, typer.Option("-k", min=1, help="How many matches at most.")] = 5,
    model: ModelOption = None,
    precision: PrecisionOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the moments of the history that began like this."""
    root = home_folder(home)
    with Space.open(model, home=root, precision=precision) as space:
        matches = space.search(_text(text), k)
    if as_json:
        print_json({"matches": matches})
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("cosine", "when", "message", "answer"):
        table.add_column(heading, overflow="fold", ratio=None if heading in ("cosine", "when") else 1)
    for match in matches:
        pair = match.pair
        table.add_row(
            f"{match.score:.2f}", day(pair.trigger_ms), one_line(pair.trigger, 160), one_line(pair.response, 160)
        )
    out.print(table)


def show_suggestion(suggestion: Suggestion) -> None:
    """Print replies with where each comes from, then the time of each stage."""
    if not suggestion.replies:
        out.print(
            f"Nothing good: the nearest message of the history has cosine {suggestion.nearest:.2f}, "
            f"and below {suggestion.threshold:.2f} nothing is suggested."
        )
    for place, reply in enumerate(suggestion.replies, 1):
        others = f", given {reply.support} times" if reply.support > 1 else ""
        out.print(f"{place}. ", one_line(reply.text, 300), style="bold", sep="", markup=False)
        origin = f"   to “{one_line(reply.pair.trigger, 100)}” on {day(reply.pair.response_ms)}"
        out.print(
            origin,
            f" · cosine {reply.similarity:.2f}, score {reply.score:.2f}{others}",
            style="dim",
            sep="",
            markup=False,
        )
    for note in suggestion.notes:
        err.print(f"note: {note}", style="yellow", markup=False)
    out.print()
    out.print(waterfall(suggestion.timings))


def day(ms: int) -> str:
    """The day of a time in milliseconds, UTC."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d}"


def _text(argument: str) -> str:
    text = sys.stdin.read() if argument == "-" else argument
    if not text.strip():
        raise InputError("the text is empty", "Give a message, or - to read it from standard input")
    return text
