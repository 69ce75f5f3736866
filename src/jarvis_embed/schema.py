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


def _structure(db: sqlite3.Connection) -> None:
    """What messages are beside their text; replies that reach over other turns; and what a source has told already."""
    for statement in (
        "ALTER TABLE source ADD COLUMN state BLOB",
        "ALTER TABLE conversation ADD COLUMN people TEXT NOT NULL DEFAULT '[]'",  # JSON
        "ALTER TABLE conversation ADD COLUMN is_group INTEGER",
        "ALTER TABLE conversation ADD COLUMN name TEXT",
        "ALTER TABLE message ADD COLUMN edited_ms INTEGER",
        "ALTER TABLE message ADD COLUMN tapbacks TEXT",  # JSON: [[sender, kind, sent_ms], …]
        "ALTER TABLE message ADD COLUMN holdout INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE message ADD COLUMN row INTEGER",
        "CREATE INDEX message_order ON message (conversation_id, position)",
        "CREATE INDEX message_row ON message (row) WHERE row IS NOT NULL",
        # One trigger may have several responses now, and ``position`` is an order with gaps.
        "CREATE TABLE new_turn (id INTEGER PRIMARY KEY, "
        "conversation_id INTEGER NOT NULL REFERENCES conversation ON DELETE CASCADE, "
        "position INTEGER NOT NULL, sender TEXT NOT NULL, start_ms INTEGER NOT NULL, end_ms INTEGER NOT NULL, "
        "text TEXT NOT NULL, is_from_me INTEGER, reply_to TEXT, holdout INTEGER NOT NULL DEFAULT 0)",
        "INSERT INTO new_turn "
        "SELECT id, conversation_id, position, sender, start_ms, end_ms, text, is_from_me, NULL, 0 FROM turn",
        "CREATE TEMP TABLE old_pair AS SELECT id, trigger_id, response_id FROM pair",
        "DROP TABLE pair",
        "DROP TABLE turn",
        "ALTER TABLE new_turn RENAME TO turn",
        "CREATE INDEX turn_order ON turn (conversation_id, position)",
        "CREATE INDEX turn_reply ON turn (conversation_id, reply_to) WHERE reply_to IS NOT NULL",
        "CREATE TABLE pair (id INTEGER PRIMARY KEY, "
        "trigger_id INTEGER NOT NULL REFERENCES turn ON DELETE CASCADE, "
        "response_id INTEGER NOT NULL UNIQUE REFERENCES turn ON DELETE CASCADE)",
        "INSERT INTO pair SELECT id, trigger_id, response_id FROM old_pair",
        "DROP TABLE old_pair",
        "CREATE INDEX pair_trigger ON pair (trigger_id)",
    ):
        db.execute(statement)


def _judgements(db: sqlite3.Connection) -> None:
    """What a source says of a reply: how good it is, and in words."""
    for table in ("message", "turn"):
        db.execute(f"ALTER TABLE {table} ADD COLUMN quality REAL")
        db.execute(f"ALTER TABLE {table} ADD COLUMN flags TEXT")  # JSON


def _last_changes(db: sqlite3.Connection) -> None:
    """The revision with which a conversation last changed: its threads are found and its replies judged anew then."""
    db.execute("ALTER TABLE conversation ADD COLUMN changed INTEGER NOT NULL DEFAULT 0")


def _feedback(db: sqlite3.Connection) -> None:
    """What the owner says of a reply, and what those who took part say of a conversation.

    A pair is written anew whenever its conversation is, so feedback does not refer to its row: it is taken out when a
    change of the library leaves no pair of that id (``intake.Intake.finish``).
    """
    for statement in (
        "ALTER TABLE conversation ADD COLUMN rating REAL",
        "CREATE TABLE feedback (pair_id INTEGER PRIMARY KEY, good INTEGER NOT NULL, given_ms INTEGER NOT NULL)",
    ):
        db.execute(statement)


MIGRATIONS: Final[tuple[Callable[[sqlite3.Connection], None], ...]] = (
    _first_tables,
    _structure,
    _judgements,
    _last_changes,
    _feedback,
)
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
