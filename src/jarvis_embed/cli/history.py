"""Commands that change what is stored: ingest, build, use, rollback."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ..config import load_settings
from ..errors import SpaceError
from ..evaluation.comparison import gain_or_loss, stored_comparison
from ..home import home_folder
from ..library import Library
from ..models.encoder import load_encoder
from ..models.machine import usable_cores
from ..models.store import model_home
from ..sources import ORDERS, Source, open_source
from ..spaces.build import build as build_space
from ..spaces.generations import current_folder
from ..spaces.manifest import read_manifest
from ..spaces.switch import undo_switch, use_model
from .output import HomeOption, JsonOption, PrecisionOption, count, out, print_json, progress_bar

KindOption = Annotated[str | None, typer.Option("--as", help="Kind of the source, if its content does not tell.")]
MeOption = Annotated[str | None, typer.Option(help="Sender who is the owner: only their replies count then.")]
SplitOption = Annotated[
    str | None, typer.Option(help="Part of chitchat: train, validation, sealed or all.", show_default="train")
]
MapOption = Annotated[
    list[str] | None, typer.Option("--map", help="Column of a table: FIELD=HEADING, such as time=Date; repeat it.")
]
DatesOption = Annotated[
    str | None,
    typer.Option(help="Order of dates such as 5/6/24: dmy, mdy or ymd.", show_default="what the file proves"),
]
ZoneOption = Annotated[
    str | None, typer.Option(help="Time zone of times without one, such as Europe/Berlin.", show_default="UTC")
]


def ingest(
    source: Annotated[
        str, typer.Argument(help="A file or folder of messages, or the name chitchat (the demo corpus).")
    ],
    kind: KindOption = None,
    me: MeOption = None,
    split: SplitOption = None,
    columns: MapOption = None,
    dates: DatesOption = None,
    zone: ZoneOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read a message history into the library. Again: only what changed is written."""
    start = time.perf_counter()
    reader = open_stated(source, kind, me, split, columns, dates, zone)
    with progress_bar(hidden=as_json) as show, Library.open(home) as library:
        report = library.ingest(reader, lambda done, total: show("ingest", done, total))
        counts = library.counts()
    if as_json:
        print_json({"report": report, "library": counts})
        return
    out.print(
        f"{count(report.read, 'message')} in {count(report.conversations, 'conversation')} read "
        f"in {time.perf_counter() - start:.1f} s: "
        f"{report.new:,} new, {report.changed:,} changed, {report.removed:,} removed"
    )
    if len(report.text_from) > 1:
        told = ", ".join(f"{number:,} from {where}" for where, number in sorted(report.text_from.items()))
        out.print(f"  their text: {told}")
    for cause, number in sorted(report.unreadable.items()):
        out.print(f"  left out: {number:,} ({cause})")
    if report.forgotten:
        out.print(f"  left out: {report.forgotten:,} (purged before; jarvis-embed purge --help says how to undo that)")
    out.print(f"The library holds {count(counts.messages, 'message')} and {count(counts.pairs, 'pair')}.")
    out.print("Next: jarvis-embed build")


def open_stated(
    source: str,
    kind: str | None,
    me: str | None,
    split: str | None,
    columns: Sequence[str] | None,
    dates: str | None,
    zone: str | None,
) -> Source:
    """Open a source with the options of the command line."""
    mapped = dict(stated.partition("=")[::2] for stated in columns or ())
    if not all(mapped.values()):
        raise typer.BadParameter("a column is FIELD=HEADING, such as time=Date", param_hint="--map")
    if dates is not None and dates not in ORDERS:
        raise typer.BadParameter(f"an order of dates is {', '.join(ORDERS)}", param_hint="--dates")
    order = next((order for order in ORDERS if order == dates), None)
    return open_source(source, kind=kind, me=me, split=split, columns=mapped, dates=order, zone=zone)


def build(
    model: Annotated[
        str | None, typer.Argument(help="Model to build the space of.", show_default="the one in use")
    ] = None,
    precision: PrecisionOption = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Cores to use.", show_default="all")] = None,
    force: Annotated[bool, typer.Option(help="Build also if nothing has changed, and embed all anew.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Embed what is new, index it, check it, and switch to it. Killed, it goes on where it stopped."""
    start = time.perf_counter()
    root = home_folder(home)
    encoder = load_encoder(model, home=root, precision=precision, threads=threads or usable_cores())
    with progress_bar(hidden=as_json) as show:
        report = build_space(encoder, root, force=force, progress=show)
    if as_json:
        print_json(report)
        return
    beside = f" and {count(report.delta, 'pair')} beside it" if report.delta else ""
    if report.up_to_date:
        out.print(f"The space of {report.model} is up to date (generation {report.generation}).")
    else:
        out.print(
            f"Built generation {report.generation} of {report.model} ({encoder.precision}) "
            f"in {time.perf_counter() - start:.1f} s: {count(report.pairs, 'pair')}, "
            f"{count(report.triggers, 'trigger')} ({report.index} index"
            f"{beside}), "
            f"{report.embedded:,} texts embedded, "
            f"{report.reused:,} reused; {count(report.segments, 'segment')} of conversations."
        )
    if report.cut:
        out.print(f"  {count(report.cut, 'text')} longer than {encoder.max_length} tokens: only the beginning is read.")
    chosen = load_settings(root).model
    out.print("Next: jarvis-embed suggest TEXT" if chosen == report.model else f"Next: jarvis-embed use {report.model}")


def use(
    model: Annotated[str, typer.Argument(help="Model that shall answer from now on.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer with another model, if its space is whole and up to date."""
    root = home_folder(home)
    switch = use_model(model, root)
    weighed = "" if switch.before == switch.after else _weighed(switch.before, switch.after, root)
    if as_json:
        print_json({**asdict(switch), "comparison": weighed})
        return
    out.print(f"{switch.after} answers now; before, {switch.before} did. Undo: jarvis-embed rollback")
    if weighed:
        out.print(weighed, style="dim", markup=False, soft_wrap=True)


def _weighed(before: str, after: str, home: Path) -> str:
    """What the switch gains or loses by the last comparison, if that was made with what the spaces are made with."""
    now: dict[str, str] = {}
    for name in (before, after):
        with suppress(SpaceError):  # the model that was left may have no whole space; the switch is done all the same
            folder = current_folder(model_home(name, home))
            now |= {} if folder is None else {name: read_manifest(folder).fingerprint}
    return gain_or_loss(stored_comparison(home), before, after, now)


def rollback(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Undo the last switch: of the model (use) or of the generation (build)."""
    switch = undo_switch(home_folder(home))
    if as_json:
        print_json(switch)
    else:
        out.print(f"Back to {switch.what} {switch.after} (was {switch.before}).")
