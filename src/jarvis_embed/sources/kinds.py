"""The kinds of sources, and how a path or a name becomes one: by what the file holds, not by what it is called."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..errors import SourceError, SourceForeign
from . import csv_table, imessage_export, whatsapp
from .base import DateOrder, ReadOptions, Source
from .chat_db import TABLES as CHAT_TABLES
from .chat_db import ChatDbSource
from .chitchat import ChitchatSource
from .database import explained, is_database, tables_of
from .jarvis_db import JarvisDbSource
from .jsonl import JsonlSource
from .textfile import encoding_of

_HEAD: Final = 65_536
_LINES: Final = 30


@dataclass(frozen=True, slots=True)
class Reader:
    """How a kind is opened, and which of the ``ReadOptions`` it uses."""

    open: Callable[[str, ReadOptions], Source]
    uses: frozenset[str]


READERS: Final[Mapping[str, Reader]] = {
    "chitchat": Reader(
        lambda _, options: ChitchatSource(me=options.me, split=options.split or "train"), frozenset(("me", "split"))
    ),
    "jsonl": Reader(lambda location, options: JsonlSource(Path(location), me=options.me), frozenset(("me",))),
    "csv": Reader(
        lambda location, options: csv_table.CsvSource(Path(location), options),
        frozenset(("me", "columns", "dates", "zone")),
    ),
    "whatsapp": Reader(
        lambda location, options: whatsapp.WhatsAppSource(Path(location), options), frozenset(("me", "dates", "zone"))
    ),
    "imessage-exporter": Reader(
        lambda location, options: imessage_export.IMessageExportSource(Path(location), options),
        frozenset(("me", "zone")),
    ),
    "chat.db": Reader(lambda location, _: ChatDbSource(Path(location)), frozenset()),
    "jarvis.db": Reader(lambda location, _: JarvisDbSource(Path(location)), frozenset()),
}

_OPTIONS: Final = {"me": "--me", "split": "--split", "columns": "--map", "dates": "--dates", "zone": "--zone"}


def open_source(
    location: str | os.PathLike[str],
    *,
    kind: str | None = None,
    me: str | None = None,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    dates: DateOrder | None = None,
    zone: str | None = None,
) -> Source:
    """Open ``location``: ``"chitchat"``, or the path of a file or folder whose kind is told by what is in it.

    Args:
        kind: overrides what the content tells.
        me: the sender who is the owner of the history.
        split: for ``chitchat``: ``train`` (default), ``validation``, ``sealed`` or ``all``.
        columns: for a table: field of a message → heading.
        dates: order of day, month and year, where the file does not prove it.
        zone: time zone of times without one; UTC if None.

    Raises:
        SourceError: nothing there, of no kind that can be read, or an option that its kind has no use for.
    """
    location = os.fspath(location)
    options = ReadOptions(me, split, dict(columns or {}), dates, zone)
    if kind is None and location == "chitchat":
        kind = "chitchat"
    if kind != "chitchat":
        require_access(Path(location))
    if kind is None:
        kind = kind_of(Path(location))
    if kind not in READERS:
        raise SourceError(f"no reader is called {kind!r}", f"Known readers: {', '.join(READERS)}")
    for name, option in _OPTIONS.items():
        if getattr(options, name) and name not in READERS[kind].uses:
            raise SourceError(f"{option} means nothing for a {kind} source", f"Leave {option} out")
    return READERS[kind].open(location, options)


def kind_of(path: Path) -> str:
    """The kind of a file or folder, by its tables or its first lines.

    Raises:
        SourceError: nothing there, not to be read, or of no kind that is known.
    """
    require_access(path)
    kind = _kind_of_folder(path) if path.is_dir() else _kind_of_file(path)
    if kind is None:
        raise SourceError(
            f"{path} is of no kind that its content tells", f"Say which with --as; known readers: {', '.join(READERS)}"
        )
    return kind


def kind_of_database(path: Path) -> str | None:
    """The kind of a SQLite database, by its tables; None if the file is no database.

    Raises:
        SourceError: it cannot be read (see ``database.opened``), or it is a database of something else.
    """
    if not is_database(path):
        return None
    tables = tables_of(path)
    if CHAT_TABLES.keys() <= tables:
        return "chat.db"
    if "pairs" in tables:
        return "jarvis.db"
    raise SourceForeign(
        f"{path} is a database, but neither of Messages nor of Jarvis", "Give ~/Library/Messages/chat.db or jarvis.db"
    )


def require_access(path: Path) -> None:
    """Try to read a file or folder, and if it is a database, ask it something. Nothing is written.

    Raises:
        SourceMissing, SourceNotPermitted, SourceLocked, SourceDamaged: as they say.
    """
    with explained(path):
        if path.is_dir():
            os.listdir(path)  # noqa: PTH208  only the permission is asked for
        elif is_database(path):
            tables_of(path)


def _kind_of_folder(folder: Path) -> str | None:
    if (folder / whatsapp.CHAT_FILE).is_file():
        return "whatsapp"
    texts = (file for file in sorted(folder.glob("*.txt"))[:_LINES] if file.is_file())
    return "imessage-exporter" if any(_kind_of_file(file) == "imessage-exporter" for file in texts) else None


def _kind_of_file(path: Path) -> str | None:
    if (kind := kind_of_database(path)) is not None:
        return kind
    head = _head(path)
    if head.startswith(b"PK\x03\x04"):
        raise SourceError(f"{path} is a zip archive", "Unpack it, and give the file or folder in it")
    if head.startswith(b"\x1f\x8b"):
        return "jsonl"
    lines = head.decode(encoding_of(head), "replace").removeprefix("\ufeff").splitlines(keepends=True)
    shown = [line for line in lines if line.strip()][:_LINES]
    if any(map(_is_object, shown)):
        return "jsonl"
    if any(map(whatsapp.begins_message, shown)):
        return "whatsapp"
    if any(map(imessage_export.begins_message, shown)):
        return "imessage-exporter"
    return "csv" if shown and _is_table(shown[0], path) else None


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)


def _is_object(line: str) -> bool:
    """Whether a line is a JSON object, or the beginning of one that is longer than what was read."""
    if not line.startswith("{"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except RecursionError:
        return False
    except ValueError:
        return len(line) > _HEAD // 2


def _is_table(heading: str, path: Path) -> bool:
    """Whether a line has headings that tell a message's columns."""
    delimiter = csv_table.delimiter_of(heading)
    headings = [cell.strip().strip('"') for cell in heading.split(delimiter)]
    try:
        csv_table.find_columns(headings, {}, path)
    except SourceError:
        return path.suffix.lower() in (".csv", ".tsv") and len(headings) > 1
    return len(headings) > 1
