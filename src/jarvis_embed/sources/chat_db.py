"""Apple's Messages: ``~/Library/Messages/chat.db``, from OS X 10.11 to today, also while Messages writes to it.

What is read is what people wrote. Tapbacks, edits and replies are kept as what they are (see ``Message``); what is no
message, or not one any more, is left out and counted by its cause. The columns that a database has are looked up once.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Final

from ..messages import Conversation
from .base import Changes, Unreadable
from .chat_marks import Hanging, Marks, block_of, read_marks, rows_of
from .chat_people import Chat, People, mark_of, read_people
from .chat_rows import COLUMNS, Reading
from .database import columns_of, explained, opened, require

TABLES: Final = {
    "message": ("guid", "text", "handle_id", "date", "is_from_me"),
    "handle": ("id",),
    "chat": ("guid",),
    "chat_message_join": ("chat_id", "message_id"),
    "chat_handle_join": ("chat_id", "handle_id"),
}
"""Without these a database is not one of Messages."""

_RECOVERABLE: Final = "chat_recoverable_message_join"
_AT_ONCE: Final = 500
_TOO_MANY: Final = 0.5
"""Share of changed blocks from which on it is cheaper to read everything."""


class ChatDbSource:
    """A Messages database; opened to read only, each time it is read.

    Attributes:
        text_from: how many texts came from which column, ``text`` or ``attributedBody``; filled while it is read.

    Raises:
        SourceMissing, SourceNotPermitted, SourceLocked, SourceDamaged: as they say; also while it is read.
        SourceForeign: not a database of Messages, or in a schema that is not known.
    """

    kind = "chat.db"

    def __init__(self, path: Path) -> None:
        self.location = str(path.absolute())
        self.unreadable: Unreadable = Counter()
        self.text_from: Counter[str] = Counter()
        self._path = path
        self._conversations = 0
        with opened(path) as db:
            require(path, db, "a database of Messages", TABLES)

    def __len__(self) -> int:
        return self._conversations

    def conversations(self) -> Iterator[Conversation]:
        """Yield every conversation in which anything was written, its messages by time and ROWID."""
        with self.changes(None) as changes:
            yield from changes.conversations

    @contextmanager
    def changes(self, since: bytes | None) -> Iterator[Changes]:
        """What has changed since an earlier state, in one snapshot of the database; everything if None."""
        self.unreadable.clear()
        self.text_from.clear()
        with opened(self._path) as db:
            require(self._path, db, "a database of Messages", TABLES)
            snapshot = _Snapshot(db, self.unreadable, self.text_from)
            self._conversations = len(snapshot.people.chats)
            before = Marks.unpacked(since) if since else None
            parts = None if before is None else snapshot.changed(before)
            if parts is None:
                yield Changes(self._explaining(snapshot.all()), None, snapshot.state, snapshot.people.several)
            else:
                self._conversations = len(parts[0])
                yield Changes(iter(parts[0]), parts[1], snapshot.state, snapshot.people.several)

    def _explaining(self, conversations: Iterator[Conversation]) -> Iterator[Conversation]:
        """The same, with errors of this file told from those of whoever reads it."""
        with explained(self._path):
            yield from conversations


class _Snapshot:
    """One reading of a database: what is in it at one moment."""

    def __init__(self, db: sqlite3.Connection, unreadable: Unreadable, text_from: Counter[str]) -> None:
        self._db = db
        self._unreadable, self._text_from = unreadable, text_from
        known = columns_of(db, "message")
        self._columns = ", ".join(expression if column in known else "NULL" for column, expression in COLUMNS.items())
        edited = " OR ".join(f"m.{column} > 0" for column in ("date_edited", "date_retracted") if column in known)
        self._columns = self._columns.replace("{edited}", edited or "0")
        self.people: People = read_people(db)
        self._has_recoverable = bool(columns_of(db, _RECOVERABLE))
        self._recoverable: frozenset[int] = frozenset()
        if self._has_recoverable:
            self._recoverable = frozenset(row for (row,) in db.execute(f"SELECT message_id FROM {_RECOVERABLE}"))  # noqa: S608
        self._marks, self._hanging = read_marks(db, known, self.people, self._has_recoverable)

    def state(self) -> bytes:
        return self._marks.packed()

    def all(self) -> Iterator[Conversation]:
        """Every conversation; and count the rows that are in none."""
        elsewhere = dict(
            self._db.execute("SELECT message_id, min(chat_id) FROM chat_message_join GROUP BY 1 HAVING count(*) > 1")
        )
        statement = (
            f"SELECT {self._columns} FROM chat_message_join j JOIN message m ON m.ROWID = j.message_id "  # noqa: S608
            "WHERE j.chat_id = ?"
        )
        for chat in self.people.chats:
            rows = (
                row
                for chat_row in chat.rows
                for row in self._db.execute(statement, (chat_row,))
                if elsewhere.get(row[0], chat_row) == chat_row
            )
            reading = self._reading(chat, rows)
            if reading.quotes:
                self._note_quoting(chat)
            if conversation := reading.conversation():
                yield conversation
        self._count_homeless()

    def changed(self, before: Marks) -> tuple[list[Conversation], list[range]] | None:
        """What differs from ``before``: parts of conversations, and the rows they were made of; None if too much."""
        now = self._marks
        blocks = {b for b in now.blocks.keys() | before.blocks.keys() if now.blocks.get(b) != before.blocks.get(b)}
        if len(blocks) > _TOO_MANY * len(now.blocks) + 1 or self._somebody_changed(before):
            return None
        for chat in self.people.chats:
            if mark_of(chat.key) in before.quoting:
                self._note_quoting(chat)
        whole = {
            self.people.chat_of[int(name[1:])].key
            for name, mark in before.people.items()
            if name[0] == "c" and now.people.get(name, mark) != mark
        } | {chat.key for chat in self.people.chats if _differs(mark_of(chat.key), before.quoting, now.quoting)}
        while True:
            parts, rows, more = self._parts(blocks, whole)
            if not more:
                return parts, rows
            whole |= more

    def _somebody_changed(self, before: Marks) -> bool:
        """Whether a handle means somebody else now; then any message may have another sender."""
        return any(name[0] == "h" and self._marks.people.get(name) != mark for name, mark in before.people.items())

    def _parts(self, blocks: set[int], whole: set[str]) -> tuple[list[Conversation], list[range], set[str]]:
        """Read changed blocks and whole conversations; or tell which conversations must be read as a whole, too."""
        self._unreadable.clear()
        self._text_from.clear()
        chosen = _Chosen(blocks)
        for chat in self.people.chats:
            if chat.key in whole:
                for chat_row in chat.rows:
                    joined = self._db.execute("SELECT message_id FROM chat_message_join WHERE chat_id = ?", (chat_row,))
                    chosen.add(message for (message,) in joined if message is not None)
        chosen.add_threads(self._hanging)
        homes = self._homes(chosen)
        if touched := self._quoting_among(chosen) - whole:
            return [], [], touched
        signals = [row for row, target in self._hanging.tapbacks.items() if target in chosen and row not in chosen]
        homes |= self._homes_of(signals)
        rows: defaultdict[str, list[Sequence[Any]]] = defaultdict(list)
        for found in chain(self._in_ranges(chosen.ranges()), self._in(signals)):
            if found[0] in homes:
                rows[homes[found[0]].key].append(found)
        parts = []
        more = set()
        for chat in self.people.chats:
            if chat.key in rows:
                reading = self._reading(chat, rows[chat.key], chosen)
                if reading.quotes:
                    self._note_quoting(chat)
                    more |= {chat.key} - whole
                parts.append(reading.conversation() or Conversation(chat.key, ()))
        return parts, chosen.ranges(), more

    def _reading(self, chat: Chat, rows: Iterable[Sequence[Any]], chosen: Collection[int] | None = None) -> Reading:
        reading = Reading(chat, self.people.sender, self._recoverable, self._unreadable, self._text_from)
        reading.read(rows)
        reading.attach(chosen, self._hanging.tapbacks)
        return reading

    def _homes(self, chosen: _Chosen) -> dict[int, Chat]:
        """Row → its conversation, of the rows chosen."""
        statement = "SELECT message_id, min(chat_id) FROM chat_message_join WHERE message_id BETWEEN ? AND ? GROUP BY 1"
        found = (self._db.execute(statement, (rows.start, rows.stop - 1)) for rows in chosen.ranges())
        return self._known_homes(chain.from_iterable(found))

    def _quoting_among(self, chosen: _Chosen) -> set[str]:
        """Conversations in which texts quote, and to which one of these rows is joined, if only besides another."""
        if not self._marks.quoting:
            return set()
        statement = "SELECT DISTINCT chat_id FROM chat_message_join WHERE message_id BETWEEN ? AND ?"
        found = (self._db.execute(statement, (rows.start, rows.stop - 1)) for rows in chosen.ranges())
        chats = {self.people.chat_of[chat].key for (chat,) in chain.from_iterable(found) if chat in self.people.chat_of}
        return {key for key in chats if mark_of(key) in self._marks.quoting}

    def _homes_of(self, rows: Sequence[int]) -> dict[int, Chat]:
        statement = "SELECT message_id, min(chat_id) FROM chat_message_join WHERE message_id IN ({}) GROUP BY 1"
        return self._known_homes(_in_blocks(self._db, statement, rows))

    def _known_homes(self, found: Iterable[tuple[int, int]]) -> dict[int, Chat]:
        return {row: self.people.chat_of[chat] for row, chat in found if chat in self.people.chat_of}

    def _in_ranges(self, ranges: Iterable[range]) -> Iterator[Sequence[Any]]:
        statement = f"SELECT {self._columns} FROM message m WHERE m.ROWID BETWEEN ? AND ?"  # noqa: S608
        for rows in ranges:
            yield from self._db.execute(statement, (rows.start, rows.stop - 1))

    def _in(self, rows: Sequence[int]) -> Iterator[Sequence[Any]]:
        return _in_blocks(self._db, f"SELECT {self._columns} FROM message m WHERE m.ROWID IN ({{}})", rows)  # noqa: S608

    def _note_quoting(self, chat: Chat) -> None:
        """Remember that what its texts are depends on all of its rows; with a mark of which those are."""
        mark = 0
        for row in chat.rows:
            count, total = self._db.execute(
                "SELECT count(*), total(message_id) FROM chat_message_join WHERE chat_id = ?", (row,)
            ).fetchone()
            mark += count * 1_000_003 + int(total)
        self._marks.quoting[mark_of(chat.key)] = mark

    def _count_homeless(self) -> None:
        joined = "SELECT message_id FROM chat_message_join WHERE chat_id IN (SELECT ROWID FROM chat)"
        (homeless,) = self._db.execute(f"SELECT count(*) FROM message WHERE ROWID NOT IN ({joined})").fetchone()  # noqa: S608
        deleted = 0
        if self._has_recoverable:
            (deleted,) = self._db.execute(
                f"SELECT count(DISTINCT message_id) FROM {_RECOVERABLE} WHERE message_id NOT IN ({joined}) "  # noqa: S608
                "AND message_id IN (SELECT ROWID FROM message)"
            ).fetchone()
        self._unreadable += Counter({"in no chat": homeless - deleted, "recently deleted": deleted})


class _Chosen(Collection[int]):
    """The rows that are read again: whole blocks, and single ones."""

    def __init__(self, blocks: set[int]) -> None:
        self._blocks = blocks
        self._single: set[int] = set()

    def __contains__(self, row: object) -> bool:
        return isinstance(row, int) and (block_of(row) in self._blocks or row in self._single)

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self.ranges())

    def __len__(self) -> int:
        return sum(map(len, self.ranges()))

    def add(self, rows: Iterable[int]) -> None:
        self._single |= {row for row in rows if block_of(row) not in self._blocks}

    def add_threads(self, hanging: Hanging) -> None:
        """Add every reply to a row that was chosen, and what a chosen reply replies to, until nothing comes of it."""
        links = [(row, target) for row, target in hanging.replies.items() if target]
        while half := [link for link in links if (link[0] in self) != (link[1] in self)]:
            self.add(chain.from_iterable(half))

    def ranges(self) -> list[range]:
        """In order, and as few as there can be."""
        ranges: list[range] = []
        for rows in sorted([*rows_of(self._blocks), *(range(row, row + 1) for row in self._single)], key=_start):
            if ranges and ranges[-1].stop == rows.start:
                ranges[-1] = range(ranges[-1].start, rows.stop)
            else:
                ranges.append(rows)
        return ranges


def _differs(name: str, before: Mapping[str, int], now: Mapping[str, int]) -> bool:
    return name in before and before[name] != now.get(name)


def _start(rows: range) -> int:
    return rows.start


def _in_blocks(db: sqlite3.Connection, statement: str, rows: Sequence[int]) -> Iterator[Any]:
    for start in range(0, len(rows), _AT_ONCE):
        block = rows[start : start + _AT_ONCE]
        yield from db.execute(statement.format(",".join("?" * len(block))), block)
