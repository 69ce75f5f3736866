"""The kinds of sources, and how a path or a name becomes one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ..errors import SourceError, SourceForeign
from .base import Source
from .chat_db import TABLES as CHAT_TABLES
from .chat_db import ChatDbSource
from .chitchat import ChitchatSource
from .database import is_database, tables_of
from .jarvis_db import JarvisDbSource
from .jsonl import JsonlSource


def _chitchat(_location: str, me: str | None, split: str | None) -> Source:
    return ChitchatSource(me=me, split=split or "train")


def _jsonl(location: str, me: str | None, split: str | None) -> Source:
    if split is not None:
        raise SourceError("a jsonl file has no parts", "Leave --split out")
    return JsonlSource(Path(location), me=me)


def _chat_db(location: str, me: str | None, split: str | None) -> Source:
    _refuse("chat.db", me, split)
    return ChatDbSource(Path(location))


def _jarvis_db(location: str, me: str | None, split: str | None) -> Source:
    _refuse("jarvis.db", me, split)
    return JarvisDbSource(Path(location))


def _refuse(kind: str, me: str | None, split: str | None) -> None:
    """A database of messages knows its owner, and has no parts."""
    for option, given in (("--me", me), ("--split", split)):
        if given is not None:
            raise SourceError(f"{option} means nothing for a {kind} source", f"Leave {option} out")


READERS: Final[dict[str, Callable[[str, str | None, str | None], Source]]] = {
    "chitchat": _chitchat,
    "jsonl": _jsonl,
    "chat.db": _chat_db,
    "jarvis.db": _jarvis_db,
}
_ENDINGS: Final = {".jsonl": "jsonl", ".jsonl.gz": "jsonl", ".ndjson": "jsonl"}


def open_source(
    location: str | os.PathLike[str], *, kind: str | None = None, me: str | None = None, split: str | None = None
) -> Source:
    """Open ``location``: ``"chitchat"``, or the path of a file whose kind its name tells.

    Args:
        kind: overrides what the name tells.
        me: the sender who is the owner of the history.
        split: for ``chitchat``: ``train`` (default), ``validation``, ``sealed`` or ``all``.

    Raises:
        SourceError: nothing there, or of no kind that can be read.
    """
    location = os.fspath(location)
    known = ", ".join(READERS)
    if kind is None:
        kind = "chitchat" if location == "chitchat" else _kind_of(Path(location), known)
    if kind not in READERS:
        raise SourceError(f"no reader is called {kind!r}", f"Known readers: {known}")
    return READERS[kind](location, me, split)


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


def _kind_of(path: Path, known: str) -> str:
    if not path.is_dir() and (kind := kind_of_database(path)) is not None:
        return kind
    kind = next((kind for ending, kind in _ENDINGS.items() if path.name.lower().endswith(ending)), None)
    if kind is None or path.is_dir():
        raise SourceError(f"{path} is of no kind that its name tells", f"Say which with --as; known readers: {known}")
    return kind
