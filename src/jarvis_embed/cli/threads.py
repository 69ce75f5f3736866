"""``jarvis-embed threads``: which turns of the history belong to one exchange, and how well that is found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.table import Table

from ..config import load_settings
from ..conversations.links import shipped_scorer
from ..conversations.threads import threads_in
from ..conversations.turns import turns_of
from ..errors import InputError
from ..evaluation.thread_trial import LogResult, StreamResult, Trial, run_trial
from ..home import home_folder
from ..library import Library
from ..messages import Conversation, Thread
from ..models.encoder import Encoder, load_encoder
from .ask import day
from .output import HomeOption, JsonOption, PrecisionOption, count, err, one_line, out, print_json, progress_bar

app = typer.Typer(
    help="Show the threads of your history, and measure how well threads are found.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_PREVIEW: Final = 120


@dataclass(frozen=True, slots=True)
class Shown:
    """A thread in a line. ``preview`` is how it begins."""

    conversation: str
    people: tuple[str, ...]
    start_ms: int
    end_ms: int
    turns: int
    preview: str


@app.command()
def show(
    contact: Annotated[
        str | None,
        typer.Option(
            help="Only conversations with this person, or with this name; a part of it is enough.", show_default="all"
        ),
    ] = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="Threads at most, the latest first.")] = 20,
    turns: Annotated[int, typer.Option(min=1, help="Only threads of so many turns or more.")] = 2,
    semantic: Annotated[
        bool, typer.Option("--semantic", help="Also by closeness in meaning: embeds every turn, which takes a while.")
    ] = False,
    precision: PrecisionOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the threads of your history: when, with whom, how many turns, and how each begins."""
    root = home_folder(home)
    encoder = load_encoder(home=root, precision=precision) if semantic else None
    found: list[Shown] = []
    with Library.open(root) as library, progress_bar(hidden=as_json) as draw:
        total = library.counts().conversations
        if not total:
            raise InputError("the library holds no message", "Ingest some first: jarvis-embed ingest SOURCE")
        matched = 0
        for done, conversation in enumerate(library.conversations(), 1):
            draw("threads", done, total)
            if contact is None or _is_with(conversation, contact):
                matched += 1
                found += _threads_of(conversation, encoder)
    if not matched:
        raise InputError(
            f"there is no conversation with {contact}", "Give a part of a name or handle as the source writes it"
        )
    all_threads = len(found)
    found = sorted((one for one in found if one.turns >= turns), key=lambda one: (-one.end_ms, one.conversation))
    if as_json:
        print_json({"conversations": matched, "threads": all_threads, "shown": found[:limit]})
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("when", no_wrap=True)
    table.add_column("who", overflow="ellipsis", max_width=28, no_wrap=True)
    table.add_column("turns", justify="right")
    table.add_column("how it begins", overflow="fold", ratio=1)
    for one in found[:limit]:
        until = "" if day(one.end_ms) == day(one.start_ms) else f" to {day(one.end_ms)}"
        table.add_row(f"{day(one.start_ms)}{until}", ", ".join(one.people), f"{one.turns:,}", one.preview)
    out.print(table, markup=False)
    shown = min(len(found), limit)
    out.print(
        f"\n{count(all_threads, 'thread')} in {count(matched, 'conversation')}; shown: the latest {shown} of "
        f"{len(found):,} that have {count(turns, 'turn')} or more.",
        style="dim",
        soft_wrap=True,
    )


def _is_with(conversation: Conversation, contact: str) -> bool:
    wanted = contact.casefold()
    names = {conversation.name or "", *conversation.people}
    names |= {message.sender for message in conversation.messages if not message.is_from_me}
    return any(wanted in name.casefold() for name in names)


def _threads_of(conversation: Conversation, encoder: Encoder | None) -> Iterator[Shown]:
    turns = list(turns_of(conversation.messages))
    vectors = encoder.embed([turn.text for turn in turns]) if encoder is not None else None
    found = threads_in(
        conversation.key, turns, vectors=vectors, scorer=shipped_scorer(), is_group=conversation.is_group
    )
    for thread in found:
        yield _shown(conversation, thread)


def _shown(conversation: Conversation, thread: Thread) -> Shown:
    people = dict.fromkeys("you" if turn.is_from_me else turn.sender for turn in thread.turns)
    senders = dict.fromkeys(message.sender for message in conversation.messages if not message.is_from_me)
    return Shown(
        conversation.name or ", ".join(conversation.people or senders),
        tuple(people),
        thread.turns[0].start_ms,
        max(turn.end_ms for turn in thread.turns),
        len(thread.turns),
        one_line(thread.turns[0].text, _PREVIEW),
    )


@app.command()
def measure(
    data: Annotated[Path, typer.Option("--data", help="Folder with public data files; see docs/threads.md.")],
    model: Annotated[
        str | None, typer.Option(help="Model whose vectors are used.", show_default="the one in use")
    ] = None,
    vectors: Annotated[bool, typer.Option(help="Also with closeness in meaning, which embeds 18,000 texts.")] = True,
    precision: PrecisionOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how well threads are found, on logs that people annotated and on conversations run together."""
    root = home_folder(home)
    name = (model or load_settings(root).model) if vectors else None
    encoder = load_encoder(name, home=root, precision=precision) if vectors else None
    with progress_bar(hidden=as_json) as draw:
        trial = run_trial(data, model=name, embed=encoder.embed if encoder is not None else None, progress=draw)
    if as_json:
        print_json(trial.as_dict())
        return
    _print(trial)


def _print(trial: Trial) -> None:
    if trial.logs:
        out.print(f"[bold]irc_threads_dev[/]: {trial.message_count:,} messages of {count(trial.log_count, 'log')}")
        table = _table("", "links F1", "95 %", "P", "R", "VI", "1-1", "Shen F", "exact F1", "P", "R")
        for result in trial.logs:
            table.add_row(*_log_row(result))
        out.print(table)
    kinds = dict.fromkeys((result.corpus, result.kind) for result in trial.streams)
    for corpus, kind in kinds:
        here = [result for result in trial.streams if (result.corpus, result.kind) == (corpus, kind)]
        out.print(f"\n[bold]{corpus}, {kind}[/]: {count(here[0].turns, 'turn')} in {count(here[0].streams, 'stream')}")
        table = _table("", "P_k ↓", "WindowDiff ↓", "VI", "1-1", "Shen F", "exact F1")
        for row in here:
            table.add_row(*_stream_row(row))
        out.print(table)
    if trial.speed:
        speeds = " · ".join(f"{name} {speed:,.0f}" for name, speed in trial.speed.items())
        out.print(f"\nmessages a second without the encoder, one core: {speeds}", style="dim", soft_wrap=True)
    for missing in trial.missing:
        err.print(f"not measured: {missing} is not there", style="yellow")


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in headings:
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    return table


def _log_row(result: LogResult) -> list[str]:
    links, threads, sure = result.links, result.threads, result.interval
    figures = (threads.variation, threads.one_to_one, threads.shen)
    return [
        result.system,
        f"{links.f1:.1f}",
        f"{sure.low:.1f} to {sure.high:.1f}",
        *(f"{figure:.1f}" for figure in (links.precision, links.recall, *figures)),
        *(f"{figure:.1f}" for figure in (threads.exact.f1, threads.exact.precision, threads.exact.recall)),
    ]


def _stream_row(result: StreamResult) -> list[str]:
    bounds, threads = result.boundaries, result.threads
    edges = ["", ""] if bounds is None else [f"{bounds.p_k:.1f}", f"{bounds.window_diff:.1f}"]
    figures = (threads.variation, threads.one_to_one, threads.shen, threads.exact.f1)
    return [result.system, *edges, *(f"{figure:.1f}" for figure in figures)]
