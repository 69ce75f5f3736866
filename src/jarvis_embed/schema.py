"""The library's tables, as a list of migrations. A library of an older version is brought up one step at a time."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable
from typing import Final

from .errors import LibraryError


def _first_tables(db: sqlite3.Connection) -> None:
    for statement in (
        "CREATE TABLE fact (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
        "CREATE TABLE source (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, location TEXT NOT NULL, "
        "UNIQUE (kind, location))",
        "CREATE TABLE conversation (id INTEGER PRIMARY KEY, "
        "source_id INTEGER NOT NULL REFERENCES source ON DELETE CASCADE, "
        "key TEXT NOT NULL, digest BLOB NOT NULL, UNIQUE (source_id, key))",
        "CREATE TABLE message (id INTEGER PRIMARY KEY, "
        "conversation_id INTEGER NOT NULL REFERENCES conversation ON DELETE CASCADE, "
        "position INTEGER NOT NULL, key TEXT NOT NULL, sender TEXT NOT NULL, sent_ms INTEGER NOT NULL, "
        "text TEXT NOT NULL, is_from_me INTEGER, reply_to TEXT, UNIQUE (conversation_id, key))",
        "CREATE TABLE turn (id INTEGER PRIMARY KEY, "
        "conversation_id INTEGER NOT NULL REFERENCES conversation ON DELETE CASCADE, "
        "position INTEGER NOT NULL, sender TEXT NOT NULL, start_ms INTEGER NOT NULL, end_ms INTEGER NOT NULL, "
        "text TEXT NOT NULL, is_from_me INTEGER, UNIQUE (conversation_id, position))",
        # The id is made of the content (see library.pair_id): an edited pair is another pair.
        "CREATE TABLE pair (id INTEGER PRIMARY KEY, "
        "trigger_id INTEGER NOT NULL UNIQUE REFERENCES turn ON DELETE CASCADE, "
        "response_id INTEGER NOT NULL UNIQUE REFERENCES turn ON DELETE CASCADE)",
    ):
        db.execute(statement)
    db.execute("INSERT INTO fact VALUES ('id', ?), ('revision', 0)", (uuid.uuid4().hex,))


MIGRATIONS: Final[tuple[Callable[[sqlite3.Connection], None], ...]] = (_first_tables,)
"""``MIGRATIONS[i]`` turns version ``i`` into version ``i + 1``; version 0 is an empty file."""

VERSION: Final = len(MIGRATIONS)


def migrate(db: sqlite3.Connection) -> None:
    """Bring the schema up to ``VERSION``, all or nothing.

    Raises:
        LibraryError: the library was written by a newer version.
    """
    if _version(db) == VERSION:
        return
    db.execute("BEGIN IMMEDIATE")  # another process may be doing the same: look again under the lock
    try:
        found = _version(db)
        if found > VERSION:
            raise LibraryError(
                f"the library has version {found}, and this program knows versions up to {VERSION}",
                "Upgrade jarvis-embed",
            )
        for step in MIGRATIONS[found:]:
            step(db)
        db.execute(f"PRAGMA user_version = {VERSION}")
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])
