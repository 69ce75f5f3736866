"""Rewrite only that part of a stored conversation which has changed.

A turn depends on the messages in it and on the turn before; a pair on its two turns. So around each message that came,
changed or went, turns are made anew from a little before it until they are again as they were, and then the pairs of
those turns, of the turn after them, and of the turns that reply to a message of theirs. The result is that of writing
the whole conversation anew (a test compares them for arbitrary histories).
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .conversations.pairs import pair_positions
from .conversations.turns import turns_of
from .messages import Message, Turn
from .records import (
    MESSAGE,
    TEXT,
    TURN,
    StoredMessage,
    flags_of,
    insert,
    marks,
    message_of,
    pair_id,
    position_of,
    stored,
    stored_turn,
    truth,
)


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as the library holds it."""

    id: int
    position: int
    row: int
    content: StoredMessage


class Splice:
    """One stored conversation, to be changed in place.

    Args:
        origin, row, key: its source, its row in ``conversation``, and its key.
        gone, made: ids of pairs are added to them as pairs are removed and made.
    """

    def __init__(self, db: sqlite3.Connection, origin: int, row: int, key: str, gone: set[int], made: set[int]) -> None:
        self._db, self._origin, self._row, self._key = db, origin, row, key
        self._gone, self._made = gone, made

    def apply(self, old: dict[str, Stored], new: dict[str, Message], tally: Counter[str]) -> bool:
        """Put the messages ``new`` in the place of ``old``; return whether anything changed. Counts into ``tally``."""
        touched: set[int] = set()
        named: set[str] = set()
        inserts = []
        old = self._known(new.keys() - old.keys()) | old
        for key, known in old.items():
            if key not in new:
                tally["removed"] += 1
                tally["lost texts"] += 1
                touched.add(known.position)
                named.add(key)
                self._db.execute("DELETE FROM message WHERE id = ?", (known.id,))
        for key, message in new.items():
            position, content, before = position_of(message, 0), stored(message), old.get(key)
            if before is not None:
                if (before.position, before.row, before.content) == (position, message.row, content):
                    continue
                tally["changed"] += before.content != content
                tally["lost texts"] += before.content[TEXT] != content[TEXT]
                touched.add(before.position)
                self._db.execute("DELETE FROM message WHERE id = ?", (before.id,))
            else:
                tally["new"] += 1
            touched.add(position)
            named.add(key)
            inserts.append((self._row, position, message.row, key, *content))
        if not touched:
            return False
        self._db.executemany(
            f"INSERT INTO message (conversation_id, position, row, {MESSAGE}) VALUES ({marks(14)})",  # noqa: S608
            inserts,
        )
        self._rewrite(sorted(touched), named)
        return True

    def _known(self, keys: Iterable[str]) -> dict[str, Stored]:
        """Messages that are there already under another row: the source has numbered them anew."""
        statement = f"SELECT id, position, row, {MESSAGE} FROM message WHERE conversation_id = ? AND key = ?"  # noqa: S608
        found = (self._db.execute(statement, (self._row, key)).fetchone() for key in keys)
        return dict(keyed_row(*row) for row in found if row)

    def _rewrite(self, touched: list[int], named: set[str]) -> None:
        """Make the turns and pairs around ``touched`` positions anew."""
        starts = [self._start_before(position) for position in touched]
        windows: list[tuple[int, int | None, list[tuple[int, Turn]]]] = []
        done = 0
        while done < len(touched):
            start, begun = starts[done], done
            turns: list[tuple[int, Turn]] = []
            stop = None
            for position, turn in self._new_turns(start):
                while done < len(touched) and touched[done] < position:
                    done += 1
                if done > begun and (done == len(touched) or starts[done] >= position) and self._is_old_start(position):
                    stop = position
                    break
                turns.append((position, turn))
            windows.append((start, stop, turns))
            if stop is None:
                break
        to_pair: set[int] = set()
        for start, stop, turns in windows:
            named |= {key for _, turn in turns for key in turn.message_keys}
            self._remove_turns(start, stop)
            table = f"turn (conversation_id, position, {TURN})"
            to_pair |= {insert(self._db, table, (self._row, at, *stored_turn(turn))) for at, turn in turns}
        for _, stop, _ in windows:
            if stop is not None:
                to_pair.add(self._turn_id(stop))
        self._pair(to_pair | self._replying_to(named))

    def _start_before(self, position: int) -> int:
        """Where the turn before the one at ``position`` begins: what comes before cannot have changed."""
        found = self._db.execute(
            "SELECT position FROM turn WHERE conversation_id = ? AND position <= ? ORDER BY position DESC LIMIT 2",
            (self._row, position),
        ).fetchall()
        return int(found[1][0]) if len(found) == 2 else -(1 << 63)

    def _new_turns(self, start: int) -> Iterator[tuple[int, Turn]]:
        """Position and turn of all messages from ``start`` on, as they are now."""
        rows = self._db.execute(
            f"SELECT position, {MESSAGE}, row FROM message "  # noqa: S608
            "WHERE conversation_id = ? AND position >= ? ORDER BY position",
            (self._row, start),
        )
        places: dict[str, int] = {}

        def messages() -> Iterator[Message]:
            for position, *columns in rows:
                message = message_of(*columns)
                places[message.key] = position
                yield message

        for turn in turns_of(messages()):
            yield places[turn.message_keys[0]], turn
        rows.close()

    def _is_old_start(self, position: int) -> bool:
        statement = "SELECT 1 FROM turn WHERE conversation_id = ? AND position = ?"
        return self._db.execute(statement, (self._row, position)).fetchone() is not None

    def _turn_id(self, position: int) -> int:
        statement = "SELECT id FROM turn WHERE conversation_id = ? AND position = ?"
        return int(self._db.execute(statement, (self._row, position)).fetchone()[0])

    def _remove_turns(self, start: int, stop: int | None) -> None:
        span = (self._row, start, (1 << 63) - 1 if stop is None else stop - 1)
        within = "SELECT id FROM turn WHERE conversation_id = ? AND position BETWEEN ? AND ?"
        statement = f"SELECT id FROM pair WHERE trigger_id IN ({within}) OR response_id IN ({within})"  # noqa: S608
        self._gone.update(identity for (identity,) in self._db.execute(statement, span * 2))
        self._db.execute("DELETE FROM turn WHERE conversation_id = ? AND position BETWEEN ? AND ?", span)

    def _replying_to(self, keys: set[str]) -> set[int]:
        """Turns that reply to one of these messages."""
        statement = "SELECT id, reply_to FROM turn WHERE conversation_id = ? AND reply_to IS NOT NULL"
        return {turn for turn, key in self._db.execute(statement, (self._row,)) if key in keys}

    def _pair(self, responses: set[int]) -> None:
        """Find anew what each of these turns answers."""
        for identity in responses:
            old = self._db.execute("SELECT id FROM pair WHERE response_id = ?", (identity,)).fetchone()
            if old:
                self._gone.add(old[0])
                self._db.execute("DELETE FROM pair WHERE id = ?", old)
            response_at, response = self._turn("id = ?", identity)
            if response.reply_to is None:
                candidate = self._turn_at("<", response_at)
            else:
                named = self._db.execute(
                    "SELECT position FROM message WHERE conversation_id = ? AND key = ?", (self._row, response.reply_to)
                ).fetchone()
                candidate = self._turn_at("<=", named[0], response.reply_to) if named else None
            if candidate is None or candidate[0] >= response_at:
                continue
            _, trigger = candidate
            if list(pair_positions([trigger, response])):
                pair = pair_id(self._origin, self._key, trigger, response)
                trigger_id = self._turn_id(candidate[0])
                self._db.execute("INSERT INTO pair VALUES (?, ?, ?)", (pair, trigger_id, identity))
                self._made.add(pair)

    def _turn_at(self, comparison: str, position: int, key: str | None = None) -> tuple[int, Turn] | None:
        found = self._db.execute(
            f"SELECT max(position) FROM turn WHERE conversation_id = ? AND position {comparison} ?",  # noqa: S608
            (self._row, position),
        ).fetchone()[0]
        return None if found is None else self._turn("position = ?", found, key)

    def _turn(self, condition: str, value: int, key: str | None = None) -> tuple[int, Turn]:
        """Position and turn, with its first message's key, and ``key`` for another message known to be in it."""
        position, sender, start_ms, end_ms, text, mine, reply_to, holdout, quality, flags = self._db.execute(
            f"SELECT position, {TURN} FROM turn WHERE conversation_id = ? AND {condition}",  # noqa: S608
            (self._row, value),
        ).fetchone()
        (first,) = self._db.execute(
            "SELECT key FROM message WHERE conversation_id = ? AND position = ?", (self._row, position)
        ).fetchone()
        keys = (first,) if key in (None, first) else (first, key)
        judged = (quality, flags_of(flags))
        return position, Turn(sender, start_ms, end_ms, text, truth(mine), keys, reply_to, bool(holdout), *judged)


def keyed_row(identity: int, position: int, row: int, key: str, *content: object) -> tuple[str, Stored]:
    """Key and message of the columns id, position, row and ``MESSAGE``."""
    return key, Stored(identity, position, row, content)
