"""Who is who in a Messages database: handles → people, chats → conversations.

Two handles are one person where the database says so: by ``person_centric_id``, or because they are the same number or
address under two services. Two chats are one conversation where it says so: chats with one and the same person, and
chats of one ``group_id``. Nothing is merged by name or by guessing.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field

from .database import columns_of

ME = "me"
"""The owner as a sender."""

UNKNOWN = "unknown"
"""Somebody else whose handle the database lacks."""

_GROUP_STYLE = 45


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation: one or more rows of ``chat``.

    Attributes:
        rows: those rows, the oldest first.
        people: every handle of everybody but the owner.
        other: who is meant by a row without a handle; known where there is only one other.
    """

    key: str
    rows: tuple[int, ...]
    people: tuple[str, ...]
    is_group: bool
    name: str | None
    other: str


@dataclass(slots=True)
class People:
    """Everybody in one database.

    Attributes:
        sender: row of ``handle`` → name of the person: the handle that was there first.
        chats: the conversations, by the oldest of their rows.
        chat_of: row of ``chat`` → its conversation.
        several: the handles of everybody who has more than one.
    """

    sender: dict[int, str] = field(default_factory=dict)
    chats: list[Chat] = field(default_factory=list)
    chat_of: dict[int, Chat] = field(default_factory=dict)
    several: list[tuple[str, ...]] = field(default_factory=list)

    def marks(self) -> dict[str, str]:
        """Handle, or chat, → a mark of what it means, which changes where messages must be read anew for it."""
        marks = {f"h{row}": sender for row, sender in self.sender.items()}
        for chat in self.chats:
            about = mark_of((chat.key, chat.people, chat.is_group, chat.name, chat.other))
            marks |= {f"c{row}": about for row in chat.rows}
        return {name: mark_of(value) for name, value in marks.items()}


def read_people(db: sqlite3.Connection) -> People:
    """Read the tables ``handle``, ``chat`` and ``chat_handle_join``."""
    handles = _handles(db)
    people = People(sender={row: handles[first] for row, first in _persons(db).items()})
    members: defaultdict[int, list[int]] = defaultdict(list)
    for chat, handle in db.execute("SELECT chat_id, handle_id FROM chat_handle_join ORDER BY 1, 2"):
        if handle in handles:
            members[chat].append(handle)
    rows = list(_chat_rows(db))
    named: defaultdict[str, list[str]] = defaultdict(list)
    for handle, sender in sorted(people.sender.items()):
        named[sender].append(handles[handle])
    people.several = [tuple(names) for names in map(dict.fromkeys, named.values()) if len(names) > 1]
    taken: set[str] = set()
    for chats in _grouped(rows, members, people.sender).values():
        chat = _conversation(chats, members, people.sender, named, taken)
        taken.add(chat.key)
        people.chats.append(chat)
        people.chat_of |= dict.fromkeys(chat.rows, chat)
    return people


@dataclass(frozen=True, slots=True)
class _Row:
    row: int
    guid: str
    identifier: str
    name: str | None
    group: str
    is_group: bool


def _handles(db: sqlite3.Connection) -> dict[int, str]:
    found = db.execute("SELECT ROWID, id FROM handle ORDER BY ROWID")
    return {row: str(name) if name not in (None, "") else f"handle {row}" for row, name in found}


def _persons(db: sqlite3.Connection) -> dict[int, int]:
    """Handle → the first handle of the same person."""
    person = "person_centric_id" if "person_centric_id" in columns_of(db, "handle") else "NULL"
    first: dict[int, int] = {}
    seen: dict[Hashable, int] = {}
    for row, name, identity in db.execute(f"SELECT ROWID, id, {person} FROM handle ORDER BY ROWID"):  # noqa: S608
        marks = [("handle", name)] * bool(name) + [("person", identity)] * bool(identity)
        known = {_first(first, seen[mark]) for mark in marks if mark in seen}
        first[row] = min(known, default=row)
        for other in known:
            first[other] = first[row]
        for mark in marks:
            seen[mark] = row
    return {row: _first(first, row) for row in first}


def _first(first: dict[int, int], row: int) -> int:
    while first[row] != row:
        row = first[row]
    return row


def _chat_rows(db: sqlite3.Connection) -> Iterator[_Row]:
    known = columns_of(db, "chat")
    names = ("guid", "chat_identifier", "display_name", "group_id", "style", "room_name")
    wanted = ", ".join(name if name in known else "NULL" for name in names)
    for row, guid, identifier, name, group, style, room in db.execute(
        f"SELECT ROWID, {wanted} FROM chat ORDER BY ROWID"  # noqa: S608
    ):
        guid = str(guid or f"chat {row}")
        is_group = style == _GROUP_STYLE or bool(room)
        yield _Row(row, guid, str(identifier or guid), str(name) if name else None, str(group or ""), is_group)


def _grouped(rows: Iterable[_Row], members: dict[int, list[int]], sender: dict[int, str]) -> dict[Hashable, list[_Row]]:
    grouped: defaultdict[Hashable, list[_Row]] = defaultdict(list)
    for row in rows:
        others = {sender[handle] for handle in members.get(row.row, ())}
        if row.is_group or len(others) > 1:
            grouped["group", row.group or row.guid].append(row)
        else:
            grouped["person", next(iter(others), row.identifier)].append(row)
    return grouped


def _conversation(
    rows: list[_Row],
    members: dict[int, list[int]],
    sender: dict[int, str],
    named: dict[str, list[str]],
    taken: set[str],
) -> Chat:
    others = {sender[handle]: None for row in rows for handle in members.get(row.row, ())}
    is_group = rows[0].is_group or len(others) > 1
    identifier = rows[0].identifier
    return Chat(
        key=identifier if identifier not in taken else f"{rows[0].guid} {rows[0].row}",
        rows=tuple(row.row for row in rows),
        people=tuple(handle for other in others for handle in named[other]) or (() if is_group else (identifier,)),
        is_group=is_group,
        name=next((row.name for row in reversed(rows) if row.name), None),
        other=UNKNOWN if is_group else next(iter(others), identifier),
    )


def mark_of(value: object) -> str:
    """A short hash: what is remembered of a source names nobody."""
    return hashlib.blake2b(repr(value).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
