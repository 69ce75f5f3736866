"""The conversations of a library as turns in their places: what threads are found in, and read again for an answer."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .forgetting import plain
from .messages import EARLIER, Turn
from .records import TURN, conversation_id, flags_of, marks, truth


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation of the library, without what was said in it.

    Attributes:
        id: the same at every ingest, as far as source and key are; ``row`` is its row now.
        changed: the revision with which anything in it last changed.
        key: its key in its source. people, name: as ``messages.Conversation`` has them.
    """

    id: int
    row: int
    key: str
    changed: int
    people: tuple[str, ...] = ()
    is_group: bool | None = None
    name: str | None = None


PlacedTurn = tuple[int, Turn]
"""A turn with its place in the order of its conversation; places may have gaps."""


def talks(db: sqlite3.Connection) -> Iterator[Talk]:
    """Yield every conversation, in the order of ingest."""
    statement = "SELECT id, source_id, key, changed, people, is_group, name FROM conversation ORDER BY id"
    for row, origin, key, changed, people, is_group, name in db.execute(statement):
        yield Talk(conversation_id(origin, key), row, key, changed, tuple(json.loads(people)), truth(is_group), name)


def placed_turns(db: sqlite3.Connection, row: int, last: int | None = None) -> list[PlacedTurn]:
    """The turns of a conversation in their order, each with the keys of all its messages.

    Args:
        last: only so many, the latest.
    """
    statement = f"SELECT position, {TURN} FROM turn WHERE conversation_id = ? ORDER BY position DESC LIMIT ?"  # noqa: S608
    found = db.execute(statement, (row, -1 if last is None else last)).fetchall()[::-1]
    if not found:
        return []
    keys: list[list[str]] = [[] for _ in found]
    at = 0
    messages = "SELECT position, key FROM message WHERE conversation_id = ? AND position >= ? ORDER BY position"
    for position, key in db.execute(messages, (row, found[0][0])):
        while at + 1 < len(found) and found[at + 1][0] <= position:
            at += 1
        keys[at].append(key)
    return [_placed(columns, tuple(own)) for columns, own in zip(found, keys, strict=True)]


def turns_at(db: sqlite3.Connection, row: int, places: Sequence[int]) -> list[Turn]:
    """The turns of a conversation that begin at ``places``, in their order; fewer, if some are gone.

    They come without the keys of their messages: they are to be shown.
    """
    statement = f"SELECT position, {TURN} FROM turn WHERE conversation_id = ? AND position IN ({marks(len(places))}) "  # noqa: S608
    return [_placed(columns, ())[1] for columns in db.execute(f"{statement} ORDER BY position", (row, *places))]


def latest_with(db: sqlite3.Connection, contact: str) -> Talk | None:
    """The conversation with ``contact`` that somebody wrote in last; None if there is none.

    A contact is known by the name of a conversation, by its key, as one of its people, and else by what they wrote;
    letter case and the way in which a number is written do not matter. One with the contact alone goes before groups.
    """
    wanted = plain(contact)
    every = list(talks(db))
    own = {talk.row for talk in every if wanted in {plain(name) for name in (talk.key, talk.name) if name is not None}}
    people = {talk.row: {plain(person) for person in talk.people} for talk in every}
    others = {row: len(named) for row, named in people.items() if wanted in named} | dict.fromkeys(own, 1)
    others = others or _written_in(db, wanted)
    found: list[tuple[bool, int, Talk]] = []
    for talk in every:
        if talk.row in others:
            (end_ms,) = db.execute("SELECT max(end_ms) FROM turn WHERE conversation_id = ?", (talk.row,)).fetchone()
            if end_ms is not None:
                found.append((others[talk.row] == 1 and not talk.is_group, end_ms, talk))
    return max(found, key=lambda one: one[:2])[2] if found else None


def _written_in(db: sqlite3.Connection, wanted: str) -> dict[int, int]:
    """Conversations that ``wanted`` wrote in → how many wrote there, the owner left out."""
    named = [name for (name,) in db.execute("SELECT DISTINCT sender FROM turn") if plain(name) == wanted]
    counted = (
        "SELECT conversation_id, count(DISTINCT sender) - max(is_from_me IS 1) FROM turn WHERE sender <> ? "
        "GROUP BY conversation_id HAVING max(sender = ?)"
    )
    return dict(found for name in named for found in db.execute(counted, (EARLIER, name)))


def _placed(columns: Sequence[Any], keys: tuple[str, ...]) -> PlacedTurn:
    position, sender, start_ms, end_ms, text, mine, reply_to, holdout, quality, flags = columns
    judged = (quality, flags_of(flags))
    return position, Turn(sender, start_ms, end_ms, text, truth(mine), keys, reply_to, bool(holdout), *judged)
