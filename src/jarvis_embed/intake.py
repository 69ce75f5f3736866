"""How a library takes over what a source holds: conversation by conversation, or only the parts that changed.

What a person asked to be forgotten is left out on either way, before anything of it is written.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from .conversations.pairs import pair_positions
from .conversations.turns import turns_of
from .forgetting import Rules
from .messages import Conversation, Message
from .records import (
    MESSAGE,
    TEXT,
    TURN,
    StoredMessage,
    about,
    digest_of,
    insert,
    marks,
    pair_id,
    position_of,
    stored,
    stored_turn,
)
from .sources.base import Changes, IncrementalSource, Source
from .splice import Splice, Stored, keyed_row
from .text import well_formed

Done = Callable[[int], object]
"""Called with the number of conversations that are taken over."""


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What one ingest did, counted in messages.

    Attributes:
        read: how many were read: all, or those that may have changed, where the source can tell.
        unreadable: cause → count, of what was read.
        forgotten: messages that were left out because a purge said so.
        text_from: where in the source the texts were found → count, where it has several places for them.
    """

    conversations: int
    read: int
    new: int
    changed: int
    removed: int
    unreadable: dict[str, int] = field(default_factory=dict)
    forgotten: int = 0
    text_from: dict[str, int] = field(default_factory=dict)


class Intake:
    """One change of a library, within a transaction of the caller.

    Args:
        rules: what never to store.
    """

    def __init__(self, db: sqlite3.Connection, rules: Rules) -> None:
        self._db, self._rules = db, rules
        self._tally: Counter[str] = Counter()
        self._gone: set[int] = set()
        self._made: set[int] = set()
        # What is changed now is so from the next revision on, whether or not it is this change that begins it.
        (revision,) = db.execute("SELECT value FROM fact WHERE name = 'revision'").fetchone()
        self._next = int(revision) + 1

    def take(self, origin: int, changes: Changes, done: Done) -> None:
        """Make the library hold of the source ``origin`` what ``changes`` tells."""
        self._rules = self._rules.with_aliases(changes.persons)
        (self._take_over if changes.rows is None else self._take_changes)(origin, changes, done)

    def finish(self, *, lost: bool = False) -> None:
        """Note that pairs have changed, and whether a text is gone from which no vector may stay.

        Args:
            lost: texts went by ``delete``.
        """
        lost = lost or bool(self._tally["lost texts"])  # also one that is in no pair: it is in a segment
        if self._gone == self._made and not lost:
            return
        self._db.execute("DELETE FROM feedback WHERE pair_id NOT IN (SELECT id FROM pair)")
        self._db.execute("UPDATE fact SET value = value + 1 WHERE name = 'revision'")
        if lost:
            self._db.execute(_FORGOT)

    def report(self, source: Source) -> IngestReport:
        tally = self._tally
        return IngestReport(
            conversations=tally["conversations"],
            read=tally["read"],
            new=tally["new"],
            changed=tally["changed"],
            removed=tally["removed"],
            unreadable=dict(source.unreadable),
            forgotten=tally["forgotten"],
            text_from=dict(source.text_from) if isinstance(source, IncrementalSource) else {},
        )

    def _allowed(self, conversation: Conversation) -> tuple[Conversation, int]:
        """A conversation, or a part of one, without what is to be forgotten; and how many messages that is."""
        kept = self._rules.applied(conversation)
        forgotten = len(conversation.messages) - len(kept.messages)
        self._tally["read"] += len(conversation.messages)
        self._tally["forgotten"] += forgotten
        return kept, forgotten

    def _take_over(self, origin: int, changes: Changes, done: Done) -> None:
        """Take over everything that a source holds: what is as before is skipped, what does not come is deleted."""
        tally = self._tally
        statement = "SELECT key, id, digest FROM conversation WHERE source_id = ?"
        known = {key: (row, digest) for key, row, digest in self._db.execute(statement, (origin,))}
        for conversation in changes.conversations:
            tally["conversations"] += 1
            conversation, forgotten = self._allowed(conversation)
            if forgotten and not conversation.messages:
                continue
            row, old_digest = known.pop(well_formed(conversation.key), (None, None))
            digest = digest_of(conversation)
            if digest != old_digest:
                old = {} if row is None else self.delete(row)
                now = self.insert(origin, conversation, digest)
                tally["new"] += len(now.keys() - old.keys())
                tally["removed"] += len(old.keys() - now.keys())
                tally["changed"] += sum(stored(now[key]) != old[key] for key in now.keys() & old.keys())
                tally["lost texts"] += sum(
                    key not in now or stored(now[key])[TEXT] != columns[TEXT] for key, columns in old.items()
                )
            done(tally["conversations"])
        for row, _ in known.values():
            lost = len(self.delete(row))
            tally["removed"] += lost
            tally["lost texts"] += lost

    def _take_changes(self, origin: int, changes: Changes, done: Done) -> None:
        """Take over parts of conversations: their messages replace those that came from the same rows before."""
        tally = self._tally
        before: defaultdict[str, dict[str, Stored]] = defaultdict(dict)
        statement = (
            f"SELECT c.key, m.id, position, row, m.{MESSAGE} FROM message m "  # noqa: S608
            "JOIN conversation c ON c.id = conversation_id WHERE row BETWEEN ? AND ? AND source_id = ?"
        )
        for rows in changes.rows or ():
            for conversation_key, *columns in self._db.execute(statement, (rows.start, rows.stop - 1, origin)):
                key, message = keyed_row(*columns)
                before[conversation_key][key] = message
        parts = {well_formed(part.key): part for part in changes.conversations}
        for key in before.keys() | parts.keys():
            part = parts.get(key, Conversation(key, ()))
            tally["conversations"] += bool(part.messages)
            part, _ = self._allowed(part)
            found = self._db.execute(
                "SELECT id FROM conversation WHERE source_id = ? AND key = ?", (origin, key)
            ).fetchone()
            if found is None:
                if part.messages:
                    tally["new"] += len(self.insert(origin, part, digest_of(part)))
                continue
            row = int(found[0])
            messages = {well_formed(message.key): message for message in part.messages}
            changed = Splice(self._db, origin, row, key, self._gone, self._made).apply(before[key], messages, tally)
            if part.messages:
                self._db.execute(
                    "UPDATE conversation SET people = ?, is_group = ?, name = ?, rating = ? WHERE id = ?",
                    (*about(part), part.rating, row),
                )
            if changed:  # it would have to be read as a whole to know its digest
                self._db.execute("UPDATE conversation SET digest = x'', changed = ? WHERE id = ?", (self._next, row))
                if not self._db.execute("SELECT 1 FROM message WHERE conversation_id = ? LIMIT 1", (row,)).fetchone():
                    self._db.execute("DELETE FROM conversation WHERE id = ?", (row,))
            done(tally["conversations"])

    def delete(self, row: int) -> dict[str, StoredMessage]:
        """Delete a conversation with all that hangs on it; return its messages."""
        messages = self._db.execute(f"SELECT {MESSAGE} FROM message WHERE conversation_id = ?", (row,))  # noqa: S608
        old: dict[str, StoredMessage] = {key: tuple(columns) for key, *columns in messages}
        pairs = "SELECT pair.id FROM pair JOIN turn ON turn.id = trigger_id WHERE conversation_id = ?"
        self._gone.update(identity for (identity,) in self._db.execute(pairs, (row,)))
        self._db.execute("DELETE FROM conversation WHERE id = ?", (row,))
        return old

    def insert(self, origin: int, conversation: Conversation, digest: bytes) -> dict[str, Message]:
        """Write a conversation with its turns and pairs; return its messages."""
        key = well_formed(conversation.key)
        row = insert(
            self._db,
            "conversation (source_id, key, digest, people, is_group, name, changed, rating)",
            (origin, key, digest, *about(conversation), self._next, conversation.rating),
        )
        indexes = {message.key: i for i, message in enumerate(conversation.messages) if message.row is None}
        messages = {well_formed(message.key): message for message in conversation.messages}

        def place(message: Message) -> int:
            return position_of(message, indexes.get(message.key, 0))

        self._db.executemany(
            f"INSERT INTO message (conversation_id, position, row, {MESSAGE}) VALUES ({marks(14)})",  # noqa: S608
            ((row, place(message), message.row, key, *stored(message)) for key, message in messages.items()),
        )
        turns = list(turns_of(conversation.messages))
        rows = [
            insert(
                self._db,
                f"turn (conversation_id, position, {TURN})",
                (row, place(messages[well_formed(turn.message_keys[0])]), *stored_turn(turn)),
            )
            for turn in turns
        ]
        pairs = [(pair_id(origin, key, turns[t], turns[r]), rows[t], rows[r]) for t, r in pair_positions(turns)]
        self._db.executemany("INSERT INTO pair (id, trigger_id, response_id) VALUES (?, ?, ?)", pairs)
        self._made.update(identity for identity, _, _ in pairs)
        return messages


_FORGOT: Final = "INSERT OR REPLACE INTO fact SELECT 'forgot_revision', value FROM fact WHERE name = 'revision'"


@contextmanager
def changes_of(source: Source, since: bytes | None) -> Iterator[Changes]:
    """What has changed in a source, or everything of one that cannot tell."""
    if isinstance(source, IncrementalSource):
        with source.changes(since) as changes:
            yield changes
    else:
        yield Changes(source.conversations(), None, bytes)
