"""Commands that ask the space: suggest and search."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

import typer
from rich.table import Table

from ..errors import InputError
from ..home import home_folder
from ..labels.scheme import MEANINGS
from ..models.encoder import load_encoder
from ..pipeline import Suggestion, Timing
from ..pipeline import suggest as suggest_replies
from ..spaces.space import Space, ThreadMatch
from .output import HomeOption, JsonOption, PrecisionOption, count, err, one_line, out, print_json, waterfall

ModelOption = Annotated[str | None, typer.Option("--model", help="Model whose space is asked.", show_default="in use")]

_WARM_RUNS: Final = 15


def suggest(
    text: Annotated[str, typer.Argument(help="The message to answer; - reads it from standard input.")],
    context: Annotated[
        list[str] | None, typer.Option("--context", help="A turn before the message; repeat it, oldest first.")
    ] = None,
    contact: Annotated[
        str | None,
        typer.Option("--contact", help="Take what was said before from the running thread with them."),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many replies at most.")] = 3,
    model: ModelOption = None,
    precision: PrecisionOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Suggest replies: what was answered to messages like this one, best first."""
    root = home_folder(home)
    text = given_text(text)
    encoder = load_encoder(model, home=root, precision=precision, cache=0)  # so that the repeats below are real
    with Space.open(home=root, encoder=encoder) as space:
        now = time.time_ns() // 1_000_000

        def asked() -> Suggestion:
            return suggest_replies(text, context or (), contact=contact, sent_ms=now, k=k, space=space, home=root)

        suggestion = asked()
        if as_json:
            print_json(suggestion)
            return
        # The first call of a process pays for what is read and allocated once; an assistant pays for the later ones.
        again = [asked() for _ in range(_WARM_RUNS)]
    if contact is not None:
        begins = f", since “{one_line(suggestion.context[0], 60)}”" if suggestion.context else ""
        out.print(
            f"{count(len(suggestion.context), 'turn')} before it in the thread{begins}\n", style="dim", markup=False
        )
    show_replies(suggestion)
    first = sum(timing.ms for timing in suggestion.timings)
    out.print(f"\nIn a running assistant (median of {_WARM_RUNS}; this first call took {first:.0f} ms):\n", style="dim")
    out.print(waterfall(median_timings(again)))


def search(
    text: Annotated[str, typer.Argument(help="What to look for; - reads it from standard input.")],
    threads: Annotated[
        bool, typer.Option("--threads", help="Find past conversations like this text, which may have several lines.")
    ] = False,
    k: Annotated[int, typer.Option("-k", min=1, help="How many matches at most.")] = 5,
    min_quality: Annotated[
        float, typer.Option("--min-quality", min=0, max=1, help="Leave out pairs whose reply was worse, 0 to 1.")
    ] = 0.0,
    model: ModelOption = None,
    precision: PrecisionOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the moments of the history that began like this, or whole conversations like it."""
    root = home_folder(home)
    if threads and min_quality:
        raise InputError("--min-quality is about replies, and --threads finds conversations", "Give one of the two")
    with Space.open(model, home=root, precision=precision) as space:
        if threads:
            conversations = space.search_threads([line for line in given_text(text).splitlines() if line.strip()], k)
            if as_json:
                print_json({"conversations": conversations})
            else:
                show_conversations(conversations)
            return
        matches = space.search(given_text(text), k, min_quality)
    if as_json:
        print_json({"matches": matches})
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    narrow = ("cosine", "quality", "when", "pair")
    for heading in ("cosine", "quality", "when", "message", "answer", "pair"):
        table.add_column(heading, overflow="fold", ratio=None if heading in narrow else 1, no_wrap=heading in narrow)
    for match in matches:
        pair = match.pair
        quality = "–" if match.quality is None else f"{match.quality:.2f}"
        said = one_line(pair.trigger, 160), one_line(pair.response, 160)
        table.add_row(f"{match.score:.2f}", quality, day(pair.trigger_ms), *said, str(pair.id))
    out.print(table)


def show_conversations(matches: Sequence[ThreadMatch]) -> None:
    """Print each conversation: when it was, with whom, and how the part of it went that is nearest."""
    if not matches:
        out.print("There is no conversation of two turns or more in this history.")
    for match in matches:
        people = ", ".join(match.people[:4]) or match.name or match.conversation
        named = f"{match.name} ({people})" if match.name and match.people and match.people != (match.name,) else people
        out.print(f"{day(match.start_ms)}  {one_line(named, 80)}", style="bold", markup=False, end="", soft_wrap=True)
        out.print(f"  · cosine {match.score:.2f}", style="dim", markup=False)
        for turn in match.turns:
            who = "you" if turn.is_from_me else turn.sender
            out.print(f"  {one_line(who, 20)}: ", style="dim", markup=False, end="")
            out.print(one_line(turn.text, 160), markup=False, soft_wrap=True)
        out.print()


def show_replies(suggestion: Suggestion) -> None:
    """Print what kind of message it is, and replies with where each comes from, or that there is none."""
    label = suggestion.trigger_label
    if label is not None and label.name is not None:
        out.print(
            f"{label.name}: {MEANINGS['trigger'][label.name]} ({label.confidence:.0%})\n", style="dim", markup=False
        )
    if not suggestion.replies:
        out.print(
            f"Nothing good: the nearest message of the history has cosine {suggestion.nearest:.2f}, below "
            f"{suggestion.threshold:.2f} nothing is suggested, and poor replies never are."
        )
    for place, reply in enumerate(suggestion.replies, 1):
        others = f", given {reply.support} times" if reply.support > 1 else ""
        out.print(f"{place}. ", one_line(reply.text, 300), style="bold", sep="", markup=False)
        quality = "not known" if reply.quality is None else f"{reply.quality:.2f}"
        origin = f"   to “{one_line(reply.pair.trigger, 100)}” on {day(reply.pair.response_ms)}, pair {reply.pair.id}"
        out.print(
            origin,
            f" · cosine {reply.similarity:.2f}, match {reply.match:.2f}, quality {quality}{others}",
            style="dim",
            sep="",
            markup=False,
        )
    for note in suggestion.notes:
        err.print(f"note: {note}", style="yellow", markup=False)


def median_timings(suggestions: Sequence[Suggestion]) -> list[Timing]:
    """The median time of each stage over several suggestions."""
    by_stage = zip(*(suggestion.timings for suggestion in suggestions), strict=True)
    return [Timing(timings[0].stage, statistics.median(timing.ms for timing in timings)) for timings in by_stage]


def day(ms: int) -> str:
    """The day of a time in milliseconds, UTC."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d}"


def given_text(argument: str) -> str:
    """A text argument, or standard input for ``-``."""
    text = sys.stdin.read() if argument == "-" else argument
    if not text.strip():
        raise InputError("the text is empty", "Give a message, or - to read it from standard input")
    return text
