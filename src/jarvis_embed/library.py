"""The library: one SQLite file that holds what was ingested, and the turns and pairs made of it.

Ingesting a source again makes the library hold what the source holds now: a conversation whose messages are as
before is skipped by its digest, another one is written anew, and what is gone is deleted. A pair's id is made of
its content, so a pair that stays as it was keeps its id and an edited one is a new pair. ``revision`` grows with
every change of the pairs: by it a space can tell that it is stale.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from .conversations.pairs import pair_positions
from .conversations.turns import turns_of
from .errors import DiskFull, HomeLocked, HomeNotWritable, LibraryError
from .forgetting import SALT_BYTES, Rules, Wish, drop_wish, read_rules, store_conversation, store_wish
from .home import FILE_MODE, embeddings_folder, home_folder, locked, make_private_folder, reported
from .messages import CONTEXT_TURNS, Conversation, Message, Pair
from .records import (
    MESSAGE,
    TEXT,
    TURN,
    StoredMessage,
    about,
    digest_of,
    insert,
    marks,
    message_of,
    pair_id,
    position_of,
    stored,
    stored_turn,
    truth,
)
from .schema import migrate
from .sources.base import Changes, IncrementalSource, Source
from .splice import Splice, Stored, keyed_row
from .text import well_formed

Progress = Callable[[int, int], None]
"""Called with (done, total); total is 0 where it is not known."""


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


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What a wish to forget takes away: messages, and conversations of which nothing is left."""

    messages: int
    conversations: int


@dataclass(frozen=True, slots=True)
class LibraryCounts:
    conversations: int
    messages: int
    turns: int
    pairs: int


@dataclass(frozen=True, slots=True)
class Coverage:
    """What the library holds of one source, and from when to when."""

    kind: str
    location: str
    conversations: int
    messages: int
    first_ms: int
    last_ms: int


class Library:
    """The library of one home. Use it as a context manager, or call ``close``."""

    def __init__(self, path: Path, database: sqlite3.Connection) -> None:
        self.path = path
        self._db = database

    @classmethod
    def open(cls, home: str | PathLike[str] | None = None) -> Self:
        """Open the library of ``home``, created if it is new, its schema brought up to date.

        Raises:
            LibraryError: the file is no library, is damaged, or comes from a newer version.
            HomeNotWritable, DiskFull: as they say.
        """
        path = make_private_folder(embeddings_folder(home_folder(home))) / "library.db"
        with reported(path):
            path.touch(mode=FILE_MODE)  # before SQLite, whose -wal and -shm files take the mode of this one
            path.chmod(FILE_MODE)
        with _reported(path):
            database = sqlite3.connect(path, isolation_level=None, timeout=30)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute("PRAGMA foreign_keys = ON")
            database.execute("PRAGMA secure_delete = ON")  # a removed text is overwritten, not merely unlinked
            migrate(database)
        return cls(path, database)

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def id(self) -> str:
        """Given at birth: a space of another library is not a space of this one."""
        return str(self._one("SELECT value FROM fact WHERE name = 'id'"))

    @property
    def revision(self) -> int:
        """Grows whenever a pair is added or removed."""
        return int(str(self._one("SELECT value FROM fact WHERE name = 'revision'")))

    @property
    def forgot_revision(self) -> int:
        """The revision at which a text was last edited or removed; 0 if never.

        A generation that is older holds vectors of texts that are to be forgotten.
        """
        row = self._db.execute("SELECT value FROM fact WHERE name = 'forgot_revision'").fetchone()
        return int(row[0]) if row else 0

    @property
    def is_empty(self) -> bool:
        """Whether it holds no pair."""
        return self._db.execute("SELECT 1 FROM pair LIMIT 1").fetchone() is None

    def counts(self) -> LibraryCounts:
        tables = ("conversation", "message", "turn", "pair")
        return LibraryCounts(*(int(str(self._one(f"SELECT count(*) FROM {table}"))) for table in tables))  # noqa: S608

    def coverage(self) -> list[Coverage]:
        """What it holds of each source."""
        rows = self._db.execute(
            "SELECT s.kind, s.location, count(DISTINCT c.id), count(m.id), "
            "coalesce(min(m.sent_ms), 0), coalesce(max(m.sent_ms), 0) FROM source s "
            "LEFT JOIN conversation c ON c.source_id = s.id LEFT JOIN message m ON m.conversation_id = c.id "
            "GROUP BY s.id ORDER BY s.id"
        )
        return [Coverage(*row) for row in rows]

    def check(self) -> None:
        """Have SQLite look whether the file is whole.

        Raises:
            LibraryError: it is not.
        """
        if self._one("PRAGMA quick_check(1)") != "ok":
            raise LibraryError(
                f"{self.path} is not a whole library", "Move it away and ingest again: jarvis-embed ingest"
            )

    def senders(self) -> list[str]:
        """Everybody who wrote something, sorted."""
        return sorted(sender for (sender,) in self._db.execute("SELECT DISTINCT sender FROM message"))

    def pairs(self, ids: Sequence[int] | None = None) -> Iterator[Pair]:
        """Yield the pairs of ``ids`` in their order, leaving out any that is gone; all pairs if None."""
        if ids is None:
            yield from map(self._pair, self._db.execute(_PAIRS))
            return
        found: dict[int, Pair] = {}
        wanted = list(set(ids))
        for start in range(0, len(wanted), 500):
            block = wanted[start : start + 500]
            marks = ",".join("?" * len(block))
            found |= {
                row[0]: self._pair(row) for row in self._db.execute(f"{_PAIRS} WHERE pair.id IN ({marks})", block)
            }
        yield from (found[identity] for identity in ids if identity in found)

    def conversations(self) -> Iterator[Conversation]:
        """Yield every conversation with its messages as they were ingested; named by its row, for two sources may
        use one key."""
        conversations = self._db.execute("SELECT id, people, is_group, name FROM conversation ORDER BY id").fetchall()
        statement = f"SELECT {MESSAGE}, row FROM message WHERE conversation_id = ? ORDER BY position"  # noqa: S608
        for row, people, is_group, name in conversations:
            messages = tuple(message_of(*columns) for columns in self._db.execute(statement, (row,)))
            yield Conversation(str(row), messages, tuple(json.loads(people)), truth(is_group), name)

    def pair_ids(self) -> Iterator[int]:
        """Yield the id of every pair, ascending."""
        return (identity for (identity,) in self._db.execute("SELECT id FROM pair ORDER BY id"))

    def turn_texts(self, conversation: str) -> list[list[str]]:
        """The turn texts, in order, of each conversation of that name: none, one, or one of each source that has it."""
        rows = self._db.execute(
            "SELECT c.id, turn.text FROM turn JOIN conversation c ON c.id = conversation_id WHERE c.key = ? "
            "ORDER BY c.id, turn.position",
            (well_formed(conversation),),
        )
        found: dict[int, list[str]] = {}
        for row, text in rows:
            found.setdefault(row, []).append(text)
        return list(found.values())

    def pair_texts(self, ids: Sequence[int] | None = None) -> Iterator[tuple[int, str, str, int]]:
        """Yield (id, trigger, response, response time in ms) of every pair, or of those of ``ids``, ordered by id."""
        if ids is None:
            yield from self._db.execute(f"{_PAIR_TEXTS} ORDER BY pair.id")
            return
        wanted = sorted(ids)
        for start in range(0, len(wanted), 500):
            block = wanted[start : start + 500]
            marks = ",".join("?" * len(block))
            yield from self._db.execute(f"{_PAIR_TEXTS} WHERE pair.id IN ({marks}) ORDER BY pair.id", block)

    def ingest(self, source: Source, progress: Progress | None = None) -> IngestReport:
        """Make the library hold what ``source`` holds now, in one transaction.

        Raises:
            HomeLocked: another process is ingesting.
            DiskFull, LibraryError, SourceError: nothing was changed.
        """
        tally: Counter[str] = Counter()
        gone: set[int] = set()
        made: set[int] = set()
        with locked(self.path.with_suffix(".lock"), "the library"), _reported(self.path), self._transaction():
            rules = self.rules()
            origin = self._source_id(source)
            with _changes(source, self._state(origin)) as changes, _reported(self.path):
                take = self._take_over if changes.rows is None else self._take_changes
                take(origin, changes, rules, source, tally, gone, made, progress)
                state = changes.state()
            self._db.execute("UPDATE source SET state = ? WHERE id = ?", (state, origin))
            if gone != made:
                self._db.execute("UPDATE fact SET value = value + 1 WHERE name = 'revision'")
                if tally["lost texts"]:
                    self._db.execute(_FORGOT)
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

    def rules(self) -> Rules:
        """What is never to be stored again (see ``forgetting``)."""
        return read_rules(self._db)

    def would_forget(self, wish: Wish) -> Forgotten:
        """Count what ``forget`` would take away. Nothing is changed."""
        rules = Rules(self.rules().salt or bytes(SALT_BYTES)).with_wish(wish)
        messages = conversations = 0
        for _, _, conversation in self._stored_conversations():
            kept = len(rules.applied(conversation).messages)
            messages += len(conversation.messages) - kept
            conversations += not kept
        return Forgotten(messages, conversations)

    def forget(self, wish: Wish) -> Forgotten:
        """Take away what ``wish`` says; no later ingest brings it back. ``overwrite_free_space`` then clears the file.

        Raises:
            HomeLocked: another process is ingesting.
            DiskFull, LibraryError: nothing was changed.
        """
        gone: set[int] = set()
        made: set[int] = set()
        messages = conversations = 0
        with locked(self.path.with_suffix(".lock"), "the library"), _reported(self.path), self._transaction():
            rules = store_wish(self._db, wish)
            for row, origin, conversation in self._stored_conversations():
                kept = rules.applied(conversation)
                if kept is conversation:
                    continue
                messages += len(conversation.messages) - len(kept.messages)
                self._delete_conversation(row, gone)
                if kept.messages:
                    self._insert_conversation(origin, kept, digest_of(kept), made)
                else:
                    conversations += 1
                    if wish.contact is not None:
                        store_conversation(self._db, rules, conversation.key, wish.contact)
            self._db.execute("DELETE FROM source WHERE id NOT IN (SELECT source_id FROM conversation)")
            if messages:
                self._db.execute("UPDATE fact SET value = value + 1 WHERE name = 'revision'")
                self._db.execute(_FORGOT)
        return Forgotten(messages, conversations)

    def remember(self, wish: Wish) -> bool:
        """Take back a wish to forget: later ingests read what it kept out. Return whether there was such a rule."""
        with _reported(self.path), self._transaction():
            self._db.execute("UPDATE source SET state = NULL")  # what was left out is read again
            return drop_wish(self._db, wish)

    def overwrite_free_space(self) -> None:
        """Write the file anew without anything that was deleted from it, and empty its write-ahead log.

        Raises:
            HomeLocked: another process reads the library, and what was deleted stays in the log until it ends.
        """
        with _reported(self.path):
            self._db.execute("PRAGMA temp_store = MEMORY")  # VACUUM would put a copy into a temporary file
            self._db.execute("VACUUM")
            busy, _, _ = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise HomeLocked(
                "another process has the library open, and its log still holds what was removed",
                "End it (watch, a server, an assistant) and purge again",
            )

    def clear_log(self) -> bool:
        """Empty the write-ahead log, in which removed texts stand until then; False if a reader is in the way."""
        with _reported(self.path):
            self._db.execute("PRAGMA busy_timeout = 1000")
            busy, _, _ = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._db.execute("PRAGMA busy_timeout = 30000")
        return not busy

    def _stored_conversations(self) -> Iterator[tuple[int, int, Conversation]]:
        """Yield (row, source, conversation under its own key) of everything, in the order of ingest."""
        keys = self._db.execute("SELECT id, source_id, key FROM conversation ORDER BY id").fetchall()
        for (row, origin, key), conversation in zip(keys, self.conversations(), strict=True):
            yield row, origin, replace(conversation, key=key)

    def _state(self, origin: int) -> bytes | None:
        (state,) = self._db.execute("SELECT state FROM source WHERE id = ?", (origin,)).fetchone()
        return bytes(state) if state else None

    def _take_over(
        self,
        origin: int,
        changes: Changes,
        rules: Rules,
        source: Source,
        tally: Counter[str],
        gone: set[int],
        made: set[int],
        progress: Progress | None,
    ) -> None:
        """Take over everything that a source holds: what is as before is skipped, what does not come is deleted."""
        statement = "SELECT key, id, digest FROM conversation WHERE source_id = ?"
        known = {key: (row, digest) for key, row, digest in self._db.execute(statement, (origin,))}
        for conversation in changes.conversations:
            tally["conversations"] += 1
            tally["read"] += len(conversation.messages)
            said = len(conversation.messages)
            conversation = rules.applied(conversation)
            tally["forgotten"] += said - len(conversation.messages)
            if said and not conversation.messages:
                continue
            row, old_digest = known.pop(well_formed(conversation.key), (None, None))
            digest = digest_of(conversation)
            if digest != old_digest:
                old = {} if row is None else self._delete_conversation(row, gone)
                now = self._insert_conversation(origin, conversation, digest, made)
                tally["new"] += len(now.keys() - old.keys())
                tally["removed"] += len(old.keys() - now.keys())
                tally["changed"] += sum(stored(now[key]) != old[key] for key in now.keys() & old.keys())
                tally["lost texts"] += sum(
                    key not in now or stored(now[key])[TEXT] != columns[TEXT] for key, columns in old.items()
                )
            if progress:
                progress(tally["conversations"], len(source))
        for row, _ in known.values():
            lost = len(self._delete_conversation(row, gone))
            tally["removed"] += lost
            tally["lost texts"] += lost

    def _take_changes(
        self,
        origin: int,
        changes: Changes,
        rules: Rules,
        source: Source,
        tally: Counter[str],
        gone: set[int],
        made: set[int],
        progress: Progress | None,
    ) -> None:
        """Take over parts of conversations: their messages replace those that came from the same rows before."""
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
            tally["read"] += len(part.messages)
            said = len(part.messages)
            part = rules.applied(part)
            tally["forgotten"] += said - len(part.messages)
            found = self._db.execute(
                "SELECT id FROM conversation WHERE source_id = ? AND key = ?", (origin, key)
            ).fetchone()
            if found is None:
                if part.messages:
                    tally["new"] += len(self._insert_conversation(origin, part, digest_of(part), made))
                continue
            row = int(found[0])
            messages = {well_formed(message.key): message for message in part.messages}
            changed = Splice(self._db, origin, row, key, gone, made).apply(before[key], messages, tally)
            if part.messages:
                self._db.execute(
                    "UPDATE conversation SET people = ?, is_group = ?, name = ? WHERE id = ?", (*about(part), row)
                )
            if changed:  # it would have to be read as a whole to know its digest
                self._db.execute("UPDATE conversation SET digest = x'' WHERE id = ?", (row,))
                if not self._db.execute("SELECT 1 FROM message WHERE conversation_id = ? LIMIT 1", (row,)).fetchone():
                    self._db.execute("DELETE FROM conversation WHERE id = ?", (row,))
            if progress:
                progress(tally["conversations"], len(source))

    def _source_id(self, source: Source) -> int:
        origin = (source.kind, source.location)
        self._db.execute("INSERT INTO source (kind, location) VALUES (?, ?) ON CONFLICT DO NOTHING", origin)
        return int(self._db.execute("SELECT id FROM source WHERE kind = ? AND location = ?", origin).fetchone()[0])

    def _delete_conversation(self, row: int, gone: set[int]) -> dict[str, StoredMessage]:
        """Delete a conversation with all that hangs on it; return its messages and add its pairs to ``gone``."""
        messages = self._db.execute(f"SELECT {MESSAGE} FROM message WHERE conversation_id = ?", (row,))  # noqa: S608
        old: dict[str, StoredMessage] = {key: tuple(columns) for key, *columns in messages}
        pairs = "SELECT pair.id FROM pair JOIN turn ON turn.id = trigger_id WHERE conversation_id = ?"
        gone.update(identity for (identity,) in self._db.execute(pairs, (row,)))
        self._db.execute("DELETE FROM conversation WHERE id = ?", (row,))
        return old

    def _insert_conversation(
        self, origin: int, conversation: Conversation, digest: bytes, made: set[int]
    ) -> dict[str, Message]:
        """Write a conversation with its turns and pairs; return its messages and add its pairs to ``made``."""
        key = well_formed(conversation.key)
        row = insert(
            self._db,
            "conversation (source_id, key, digest, people, is_group, name)",
            (origin, key, digest, *about(conversation)),
        )
        indexes = {message.key: i for i, message in enumerate(conversation.messages) if message.row is None}
        messages = {well_formed(message.key): message for message in conversation.messages}

        def place(message: Message) -> int:
            return position_of(message, indexes.get(message.key, 0))

        self._db.executemany(
            f"INSERT INTO message (conversation_id, position, row, {MESSAGE}) VALUES ({marks(12)})",  # noqa: S608
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
        made.update(identity for identity, _, _ in pairs)
        return messages

    def _pair(self, row: Sequence[Any]) -> Pair:
        *pair, holdout, conversation, position = row
        before = self._db.execute(
            "SELECT text FROM turn WHERE conversation_id = ? AND position < ? ORDER BY position DESC LIMIT ?",
            (conversation, position, CONTEXT_TURNS),
        )
        return Pair(*[*pair, tuple(text for (text,) in before)[::-1], bool(holdout)])

    def _one(self, statement: str) -> object:
        with _reported(self.path):
            return self._db.execute(statement).fetchone()[0]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # a full disk has rolled back by itself
                self._db.execute("ROLLBACK")
            raise


_PAIRS: Final = (
    "SELECT pair.id, c.key, t.text, r.text, t.sender, r.sender, t.start_ms, r.start_ms, t.holdout OR r.holdout, "
    "c.id, t.position FROM pair "
    "JOIN turn t ON t.id = trigger_id JOIN turn r ON r.id = response_id JOIN conversation c ON c.id = t.conversation_id"
)

_PAIR_TEXTS: Final = (
    "SELECT pair.id, t.text, r.text, r.start_ms FROM pair "
    "JOIN turn t ON t.id = trigger_id JOIN turn r ON r.id = response_id"
)

_FORGOT: Final = "INSERT OR REPLACE INTO fact SELECT 'forgot_revision', value FROM fact WHERE name = 'revision'"


@contextmanager
def _changes(source: Source, since: bytes | None) -> Iterator[Changes]:
    """What has changed in a source, or everything of one that cannot tell."""
    if isinstance(source, IncrementalSource):
        with source.changes(since) as changes:
            yield changes
    else:
        yield Changes(source.conversations(), None, bytes)


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    """Turn SQLite's errors at ``path`` into ours. None of them quotes a row."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorname", "") or ""
        if code.startswith("SQLITE_FULL"):
            raise DiskFull(
                f"no room left on the disk while writing {path}", "Free some space; nothing changed"
            ) from error
        if code.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")):
            raise HomeNotWritable(
                f"{path} cannot be written", "Choose another home with --home or JARVIS_HOME"
            ) from error
        if code.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
            raise LibraryError(
                f"{path} is not a whole library", "Move it away and ingest again: jarvis-embed ingest SOURCE"
            ) from error
        raise LibraryError(f"{path}: {code or type(error).__name__}", "Try again; nothing was changed") from error
