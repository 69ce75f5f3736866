"""What commands share: their common options, and how results, progress and errors are shown."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from ..config import Precision
from ..pipeline import Timing

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", help="Folder that holds everything.", envvar="JARVIS_HOME", show_default="~/.jarvis"),
]
PrecisionOption = Annotated[Precision | None, typer.Option(help="Arithmetic of the encoder.", show_default="settings")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")]

SAID_EVERY_S: Final = 30.0
"""Seconds between two lines about one stage where nobody watches a bar."""

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def print_json(result: Any) -> None:
    """Print a dataclass, or what is made of them, as one JSON object."""
    typer.echo(json.dumps(result, default=_plain, ensure_ascii=False))


def _plain(value: Any) -> Any:
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else str(value)


def count(number: int, noun: str) -> str:
    """``1 pair``, ``1,234 pairs``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


@contextmanager
def progress_bar(*, hidden: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function (stage, done, total) that draws a bar for each stage, with rate and time left.

    Where the standard error is not a terminal but a log file, it writes a line now and then instead. A stage that falls
    back begins anew, with a bar and times of its own: training embeds several times.
    """
    if hidden:
        yield lambda _stage, _done, _total: None
        return
    if not err.is_terminal:
        yield progress_lines(lambda line: typer.echo(line, err=True))
        return
    columns = (
        TextColumn("{task.description:<8}"),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )
    with Progress(*columns, console=err) as bars:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks or done < bars.tasks[tasks[stage]].completed:
                tasks[stage] = bars.add_task(stage, total=total or None, rate="")
            speed = bars.tasks[tasks[stage]].finished_speed or bars.tasks[tasks[stage]].speed
            bars.update(
                tasks[stage],
                completed=done,
                total=total or None,
                rate=f"{speed:,.0f}/s" if speed and total > 10 else "",
            )

        yield show


def progress_lines(
    write: Callable[[str], object], clock: Callable[[], float] = time.monotonic
) -> Callable[[str, int, int], None]:
    """A function (stage, done, total) that writes a line when a stage begins, and one every ``SAID_EVERY_S`` after.

    A stage that falls back begins anew.

    Args:
        write: takes a line without its end. clock: seconds, from any start.
    """
    began: dict[str, tuple[float, int]] = {}
    said: dict[str, float] = {}
    last: dict[str, int] = {}

    def show(stage: str, done: int, total: int) -> None:
        now = clock()
        if stage not in began or done < last[stage]:
            began[stage], said[stage] = (now, done), now
            write(f"{stage}: {f'{done:,} of {total:,}' if total else 'begun'}")
        elif now - said[stage] >= SAID_EVERY_S:
            said[stage] = now
            start, first = began[stage]
            speed = (done - first) / (now - start)
            left = f", {_duration((total - done) / speed)} left" if speed > 0 and done <= total else ""
            write(f"{stage}: {done:,}{f' of {total:,}' if total else ''}{left}")
        last[stage] = done

    return show


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def waterfall(timings: Sequence[Timing], width: int = 36) -> Text:
    """Draw stages one below the other, each beginning where the one before it ended."""
    total = sum(timing.ms for timing in timings) or 1.0
    picture = Text()
    start = 0.0
    for timing in timings:
        before = round(start / total * width)
        length = max(1, round((start + timing.ms) / total * width) - before)
        picture.append(f"  {timing.stage:<9}", style="dim")
        picture.append(" " * before + "█" * length + " " * max(0, width - before - length), style="cyan")
        picture.append(f" {timing.ms:7.2f} ms\n")
        start += timing.ms
    picture.append(f"  {'total':<9}", style="dim")
    picture.append(" " * width + f" {total:7.2f} ms")
    return picture


def one_line(text: str, width: int) -> str:
    """``text`` on one line of at most ``width`` characters."""
    line = " / ".join(part.strip() for part in text.splitlines() if part.strip())
    return line if len(line) <= width else line[: width - 1] + "…"
