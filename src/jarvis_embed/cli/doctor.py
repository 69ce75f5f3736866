"""The command that says what is wrong."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from ..doctor import Verdict, examine
from ..home import home_folder
from .ask import day
from .output import HomeOption, JsonOption, count, out, print_json, progress_bar

_MARKS: Final[dict[Verdict, str]] = {"good": "[green]✓[/]", "note": "[yellow]·[/]", "broken": "[red]✗[/]"}


def doctor(
    fix: Annotated[
        bool, typer.Option("--fix", help="Make our files private again, where others can read them.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what is wrong and what to do: home, settings, library, models, spaces, sources, disk.

    Exit code 1 if something is broken.
    """
    with progress_bar(hidden=as_json) as show:
        found = examine(home_folder(home), fix=fix, progress=show)
    if as_json:
        print_json({"healthy": found.healthy, "findings": found.findings, "coverage": found.coverage})
    else:
        for finding in found.findings:
            out.print(_MARKS[finding.verdict], f"{finding.area:<9}", end="")
            out.print(finding.said, markup=False, soft_wrap=True)
            if finding.next_step:
                out.print(f"            → {finding.next_step}", markup=False, soft_wrap=True)
        if found.coverage:
            out.print("\nIn the library:")
        for known in found.coverage:
            span = f"{day(known.first_ms)} to {day(known.last_ms)}" if known.messages else "nothing"
            said = f"{count(known.messages, 'message')} in {count(known.conversations, 'conversation')}, {span}"
            out.print(f"  {known.kind} {known.location}: {said}", markup=False, soft_wrap=True)
    if not found.healthy:
        raise typer.Exit(1)
