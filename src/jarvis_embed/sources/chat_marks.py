"""What has changed in a Messages database since the last time, without reading its messages.

Rows are taken in blocks of 256 by ROWID. A mark of a block is a sum over numbers of its rows that change with whatever
matters of them: dates of sending, editing and unsending, lengths of the texts, sender, kind, chat. SQLite adds them up
in one pass over the table, half a second for 400,000 rows. A tapback or a reply counts in the block of the message that
it hangs on, too, so that this one is read again when it comes or goes.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Self

from .chat_people import People
from .tapbacks import TARGET_SQL

FORMAT: Final = 1
"""Part of every state: one of another format is of no use."""

_BLOCK_BITS: Final = 8
_PRIME: Final = 2_147_483_647

_NUMBERS: Final = {
    "date": 3,
    "date_edited": 5,
    "date_retracted": 7,
    "handle_id": 11,
    "is_from_me": 13,
    "item_type": 17,
    "group_action_type": 19,
    "is_system_message": 23,
    "associated_message_type": 31,
    "cache_has_attachments": 37,
    "part_count": 41,
}
"""Column → factor, so that two changes hardly cancel each other out."""

_LENGTHS: Final = {
    "text": 43,
    "attributedBody": 47,
    "balloon_bundle_id": 53,
    "associated_message_guid": 59,
    "thread_originator_guid": 61,
    "associated_message_emoji": 67,
}


@dataclass(slots=True)
class Marks:
    """The state of a database.

    Attributes:
        blocks: block → mark.
        people: handle or chat → mark (see ``People.marks``).
        quoting: mark of the key of a conversation with texts that may be tapbacks by quoting → mark of its rows. What
            such a text is depends on all that was said before, so these conversations are read as a whole.
    """

    blocks: dict[int, int] = field(default_factory=dict)
    people: dict[str, str] = field(default_factory=dict)
    quoting: dict[str, int] = field(default_factory=dict)

    def packed(self) -> bytes:
        """As bytes that ``unpacked`` reads."""
        told = [FORMAT, list(self.blocks.items()), self.people, self.quoting]
        return zlib.compress(json.dumps(told, separators=(",", ":")).encode(), 1)

    @classmethod
    def unpacked(cls, state: bytes) -> Self | None:
        """What ``packed`` gave; None if it is of another format, or no state at all."""
        try:
            version, blocks, people, quoting = json.loads(zlib.decompress(state))
            return cls(dict(blocks), people, quoting) if version == FORMAT else None
        except (ValueError, TypeError, zlib.error):
            return None


@dataclass(frozen=True, slots=True)
class Hanging:
    """Rows that hang on another: row → the row of its target; 0 where that is gone."""

    tapbacks: dict[int, int] = field(default_factory=dict)
    replies: dict[int, int] = field(default_factory=dict)


def read_marks(
    db: sqlite3.Connection, known: frozenset[str], people: People, recoverable: bool
) -> tuple[Marks, Hanging]:
    """The marks as they are now, ``quoting`` left empty; and what hangs on what.

    Args:
        known: columns of ``message``.
        recoverable: whether there is a table of recently deleted messages.
    """
    blocks: defaultdict[int, int] = defaultdict(int)
    for block, count, mark in _block_sums(db, _mix(known, "m")):
        blocks[block] += _mixed(count, mark)
    joins = [("chat_message_join", 1)] + [("chat_recoverable_message_join", 2)] * recoverable
    for table, kind in joins:
        for block, mark in db.execute(
            f"SELECT message_id >> {_BLOCK_BITS}, sum((message_id * 101 + chat_id) % {_PRIME}) FROM {table} GROUP BY 1"  # noqa: S608
        ):
            if block is not None:
                blocks[block] += _mixed(kind, mark or 0)
    hanging = _read_hanging(db, known, blocks)
    return Marks({block: mark % (1 << 60) for block, mark in blocks.items()}, people.marks()), hanging


def block_of(row: int) -> int:
    return row >> _BLOCK_BITS


def rows_of(blocks: Iterable[int]) -> list[range]:
    """The rows of blocks, as few ranges."""
    ranges: list[range] = []
    for block in sorted(blocks):
        start, stop = block << _BLOCK_BITS, (block + 1) << _BLOCK_BITS
        if ranges and ranges[-1].stop == start:
            ranges[-1] = range(ranges[-1].start, stop)
        else:
            ranges.append(range(start, stop))
    return ranges


def _block_sums(db: sqlite3.Connection, mix: str) -> Iterator[tuple[int, int, int]]:
    """Block, number of rows, and sum of their marks. Block by block, for GROUP BY would sort all rows first."""
    statement = f"SELECT count(*), sum({mix}) FROM message m WHERE ROWID BETWEEN ? AND ?"  # noqa: S608
    (row,) = db.execute("SELECT min(ROWID) FROM message").fetchone()
    while row is not None:
        block = block_of(row)
        last = ((block + 1) << _BLOCK_BITS) - 1
        yield block, *db.execute(statement, (row, last)).fetchone()
        (row,) = db.execute("SELECT min(ROWID) FROM message WHERE ROWID > ?", (last,)).fetchone()


def _mix(known: frozenset[str], row: str) -> str:
    """A number in SQL that depends on what matters of a row."""
    terms = [f"{row}.ROWID % {_PRIME}"]
    for column, factor in _NUMBERS.items():
        if column in known:
            terms.append(f"ifnull({row}.{column} % {_PRIME} * {factor}, {factor * 1009})")
    for column, factor in _LENGTHS.items():
        if column in known:
            terms.append(f"ifnull(length({row}.{column}) * {factor}, {factor * 2003})")
    return " + ".join(terms)


def _read_hanging(db: sqlite3.Connection, known: frozenset[str], blocks: defaultdict[int, int]) -> Hanging:
    """Find what hangs on what, and let it count in the blocks of both."""
    hanging = Hanging()
    for found, column, target in (
        (hanging.tapbacks, "associated_message_guid", TARGET_SQL),
        (hanging.replies, "thread_originator_guid", "h.thread_originator_guid"),
    ):
        if column not in known:
            continue
        for row, target_row, chat, mark in db.execute(
            f"SELECT h.ROWID, t.ROWID, j.chat_id, {_mix(known, 'h')} "  # noqa: S608
            f"FROM message h LEFT JOIN message t ON t.guid = {target} "
            "LEFT JOIN chat_message_join j ON j.message_id = h.ROWID "
            f"WHERE h.{column} > ''"
        ):
            found[row] = target_row or 0
            blocks[block_of(row)] += _mixed(row, target_row or 0)
            if target_row is not None:
                blocks[block_of(target_row)] += _mixed(row, int(mark) + 103 * (chat or 0))
    return hanging


def _mixed(one: int, other: float) -> int:
    """A number that depends on both, spread so that sums of it hardly agree by chance."""
    return zlib.crc32(f"{one} {int(other)}".encode()) * 4_294_967_291 + (one * 7 + int(other)) % 1_000_003
