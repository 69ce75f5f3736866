"""The command that follows a live history."""

from __future__ import annotations

import signal
import threading
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from ..doctor import MESSAGES
from ..home import home_folder
from ..models.encoder import load_encoder
from ..models.machine import usable_cores
from ..sources import Source
from ..watch import EVERY, Update, follower_of
from ..watch import watch as updates_of
from .history import DatesOption, KindOption, MapOption, MeOption, ZoneOption, open_stated
from .output import HomeOption, JsonOption, count, err, out, print_json


def watch(
    source: Annotated[
        str | None, typer.Argument(help="Database, file or folder to follow.", show_default=str(MESSAGES))
    ] = None,
    kind: KindOption = None,
    me: MeOption = None,
    columns: MapOption = None,
    dates: DatesOption = None,
    zone: ZoneOption = None,
    model: Annotated[str | None, typer.Option(help="Model whose space is kept current.", show_default="in use")] = None,
    every: Annotated[float, typer.Option(min=0.05, max=3600, help="Seconds between two looks.")] = EVERY,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Follow a live history: what is written to it can be searched a moment later. Ctrl-C ends it.

    With --json, one object a line for each change.
    """
    root = home_folder(home)
    path = Path(source) if source is not None else MESSAGES.expanduser()
    follower = follower_of(path)
    encoder = load_encoder(model, home=root, threads=usable_cores())
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()
        signal.default_int_handler(number, frame)

    def pause(seconds: float) -> None:
        if stopped.wait(seconds):  # an interrupt that falls into a finaliser is lost; this one is not
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    if not as_json:
        out.print(f"Following {path} for {encoder.name}. Ctrl-C ends it.", soft_wrap=True)

    def opened() -> Source:
        return open_stated(str(path), kind, me, None, columns, dates, zone)

    try:
        for update in updates_of(opened, follower, encoder, root, every=every, pause=pause):
            print_json(_described(update)) if as_json else _show(update)
    except KeyboardInterrupt:
        if not as_json:
            out.print("Stopped.")


def _described(update: Update) -> dict[str, object]:
    problem = update.problem
    return {
        "ingested": update.ingested,
        "built": update.built,
        "seconds": round(update.seconds, 3),
        "problem": None if problem is None else {"problem": problem.problem, "next_step": problem.next_step},
    }


def _show(update: Update) -> None:
    now = f"{datetime.now():%H:%M:%S}"
    if update.problem is not None:
        err.print(f"{now}  [yellow]waiting:[/] {update.problem}", soft_wrap=True)
    elif update.ingested is not None:
        report = update.ingested
        said = f"{count(report.new, 'new message')}, {report.changed:,} changed, {report.removed:,} removed"
        out.print(f"{now}  {said}; searchable after {update.seconds:.2f} s")
