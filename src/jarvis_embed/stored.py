"""Whole conversations as the library holds them, with their messages; named by their rows, for two sources may use one
key."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, Final

from .messages import Conversation
from .records import MESSAGE, blocks, message_of, truth
from .text import well_formed

_CONVERSATIONS: Final = "SELECT id, people, is_group, name, rating FROM conversation"


def every_conversation(db: sqlite3.Connection) -> Iterator[Conversation]:
    """Yield every conversation, in the order of ingest."""
    return _read(db, db.execute(f"{_CONVERSATIONS} ORDER BY id").fetchall())


def conversations_since(db: sqlite3.Connection, revision: int) -> Iterator[Conversation]:
    """Yield the conversations that anything changed in after ``revision``."""
    return _read(db, db.execute(f"{_CONVERSATIONS} WHERE changed > ? ORDER BY id", (revision,)).fetchall())


def conversations_of(db: sqlite3.Connection, ids: Sequence[int]) -> Iterator[Conversation]:
    """Yield the conversations that hold any of these pairs."""
    rows: set[int] = set()
    for marked, block in blocks(ids):
        statement = (
            "SELECT DISTINCT conversation_id FROM pair JOIN turn ON turn.id = trigger_id "  # noqa: S608
            f"WHERE pair.id IN ({marked})"
        )
        rows.update(row for (row,) in db.execute(statement, block))
    for row in sorted(rows):
        yield from _read(db, db.execute(f"{_CONVERSATIONS} WHERE id = ?", (row,)).fetchall())


def response_places(db: sqlite3.Connection, conversation: str) -> dict[str, int]:
    """Key of the first message of each response of a conversation → its pair."""
    statement = (
        "SELECT m.key, pair.id FROM pair JOIN turn r ON r.id = response_id "
        "JOIN message m ON m.conversation_id = r.conversation_id AND m.position = r.position "
        "WHERE r.conversation_id = ?"
    )
    return dict(db.execute(statement, (int(conversation),)))


def turn_texts(db: sqlite3.Connection, key: str) -> list[list[str]]:
    """The turn texts, in order, of each conversation that its source names so: none, one, or one of each source."""
    rows = db.execute(
        "SELECT c.id, turn.text FROM turn JOIN conversation c ON c.id = conversation_id WHERE c.key = ? "
        "ORDER BY c.id, turn.position",
        (well_formed(key),),
    )
    found: dict[int, list[str]] = {}
    for row, text in rows:
        found.setdefault(row, []).append(text)
    return list(found.values())


def _read(db: sqlite3.Connection, found: Sequence[Sequence[Any]]) -> Iterator[Conversation]:
    statement = f"SELECT {MESSAGE}, row FROM message WHERE conversation_id = ? ORDER BY position"  # noqa: S608
    for row, people, is_group, name, rating in found:
        messages = tuple(message_of(*message) for message in db.execute(statement, (row,)))
        yield Conversation(str(row), messages, tuple(json.loads(people)), truth(is_group), name, rating)
