"""The command that forgets."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from ..forgetting import Wish
from ..home import home_folder
from ..library import Library
from ..purge import forget, purge_all, would_forget
from .output import HomeOption, JsonOption, count, out, print_json, progress_bar


def purge(
    contact: Annotated[str | None, typer.Option(help="Forget everything with this person or number.")] = None,
    before: Annotated[
        str | None, typer.Option(metavar="DATE", help="Forget everything sent before this day (2024-01-31, UTC).")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Delete everything that jarvis-embed stored.")] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Let the next ingest read again what --contact or --before keeps out.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forget a contact, an old time, or everything that was stored; nothing of it is left in any file of ours.

    With --contact and --before, the messages leave the library, the spaces are built anew without them, no earlier
    generation is kept, and later ingests leave them out. With --json, nothing is removed unless --yes is given too.
    """
    if (contact is not None) + (before is not None) + everything != 1 or (undo and everything):
        raise typer.BadParameter("say what to delete: --contact NAME, --before DATE, or --all")
    root = home_folder(home)
    if everything:
        _purge_everything(root, yes, as_json)
        return
    wish = Wish(contact, None if before is None else _day(before))
    if undo:
        _undo(root, wish, as_json)
        return
    counted = would_forget(root, wish)
    if as_json and not yes:
        print_json({"removed": None, "would_remove": counted})
        return
    said = f"{count(counted.messages, 'message')} and {count(counted.conversations, 'whole conversation')}"
    if not yes:
        out.print(f"This would remove {said} from library and spaces, for good. Sources stay as they are.")
        typer.confirm("Remove them?", abort=True)
    with progress_bar(hidden=as_json) as show:
        report = forget(root, wish, show)
    if as_json:
        print_json({"removed": report, "would_remove": None})
        return
    out.print(f"Removed {said}; later ingests leave them out.")
    if report.rebuilt:
        out.print(f"Built anew without them: {', '.join(report.rebuilt)}.")
    if report.removed:
        out.print(f"Removed, as it could not be built anew: the space of {', '.join(report.removed)}.")


def _purge_everything(root: Path, yes: bool, as_json: bool) -> None:
    if as_json and not yes:
        print_json({"removed": None, "would_remove": "everything"})
        return
    if not yes:
        typer.confirm(f"Delete all messages, spaces and settings of jarvis-embed under {root}?", abort=True)
    removed = purge_all(root)
    if as_json:
        print_json({"removed": removed})
    else:
        out.print(f"Removed {', '.join(removed)}" if removed else f"There was nothing under {root}.", soft_wrap=True)


def _undo(root: Path, wish: Wish, as_json: bool) -> None:
    with Library.open(root) as library:
        undone = library.remember(wish)
    if as_json:
        print_json({"undone": undone})
    else:
        out.print("The next ingest reads them again." if undone else "There is no such rule; nothing was changed.")


def _day(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("a day is written 2024-01-31", param_hint="--before") from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
