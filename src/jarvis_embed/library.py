"""The library: one SQLite file that holds what was ingested, and the turns and pairs made of it.

Ingesting a source again makes the library hold what the source holds now: a conversation whose messages are as
before is skipped by its digest, another one is written anew, and what is gone is deleted. A pair's id is made of
its content, so a pair that stays as it was keeps its id and an edited one is a new pair. ``revision`` grows with
every change of the pairs: by it a space can tell that it is stale.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from .conversations.pairs import pair_positions
from .conversations.turns import turns_of
from .errors import DiskFull, HomeNotWritable, LibraryError
from .home import FILE_MODE, embeddings_folder, home_folder, locked, make_private_folder, reported
from .messages import CONTEXT_TURNS, Conversation, Message, Pair, Turn
from .schema import migrate
from .sources.base import Source
from .text import well_formed

Progress = Callable[[int, int], None]
"""Called with (done, total); total is 0 where it is not known."""


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What one ingest did, counted in messages. ``unreadable`` is cause → count."""

    conversations: int
    read: int
    new: int
    changed: int
    removed: int
    unreadable: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LibraryCounts:
    conversations: int
    messages: int
    turns: int
    pairs: int


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

    def counts(self) -> LibraryCounts:
        tables = ("conversation", "message", "turn", "pair")
        return LibraryCounts(*(int(str(self._one(f"SELECT count(*) FROM {table}"))) for table in tables))  # noqa: S608

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
        statement = "SELECT key, sender, sent_ms, text, is_from_me, reply_to FROM message WHERE conversation_id = ?"
        for (row,) in self._db.execute("SELECT id FROM conversation ORDER BY id").fetchall():
            messages = (
                Message(key, sender, sent_ms, text, None if mine is None else bool(mine), reply_to)
                for key, sender, sent_ms, text, mine, reply_to in self._db.execute(
                    f"{statement} ORDER BY position", (row,)
                )
            )
            yield Conversation(str(row), tuple(messages))

    def pair_texts(self) -> Iterator[tuple[int, str, str, int]]:
        """Yield (id, trigger, response, response time in ms) of every pair, ordered by id."""
        return self._db.execute(
            "SELECT pair.id, t.text, r.text, r.start_ms FROM pair "
            "JOIN turn t ON t.id = trigger_id JOIN turn r ON r.id = response_id ORDER BY pair.id"
        )

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
            origin = self._source_id(source)
            statement = "SELECT key, id, digest FROM conversation WHERE source_id = ?"
            known = {key: (row, digest) for key, row, digest in self._db.execute(statement, (origin,))}
            for conversation in source.conversations():
                tally["conversations"] += 1
                tally["read"] += len(conversation.messages)
                row, old_digest = known.pop(well_formed(conversation.key), (None, None))
                digest = _digest(conversation)
                if digest != old_digest:
                    old = {} if row is None else self._delete_conversation(row, gone)
                    now = self._insert_conversation(origin, conversation, digest, made)
                    tally["new"] += len(now.keys() - old.keys())
                    tally["removed"] += len(old.keys() - now.keys())
                    tally["changed"] += sum(now[key] != old[key] for key in now.keys() & old.keys())
                if progress:
                    progress(tally["conversations"], len(source))
            for row, _ in known.values():
                tally["removed"] += len(self._delete_conversation(row, gone))
            if gone != made:
                self._db.execute("UPDATE fact SET value = value + 1 WHERE name = 'revision'")
        return IngestReport(
            conversations=tally["conversations"],
            read=tally["read"],
            new=tally["new"],
            changed=tally["changed"],
            removed=tally["removed"],
            unreadable=dict(source.unreadable),
        )

    def _source_id(self, source: Source) -> int:
        origin = (source.kind, source.location)
        self._db.execute("INSERT INTO source (kind, location) VALUES (?, ?) ON CONFLICT DO NOTHING", origin)
        return int(self._db.execute("SELECT id FROM source WHERE kind = ? AND location = ?", origin).fetchone()[0])

    def _delete_conversation(self, row: int, gone: set[int]) -> dict[str, StoredMessage]:
        """Delete a conversation with all that hangs on it; return its messages and add its pairs to ``gone``."""
        messages = self._db.execute(
            "SELECT key, sender, sent_ms, text, is_from_me, reply_to FROM message WHERE conversation_id = ?", (row,)
        ).fetchall()
        pairs = "SELECT pair.id FROM pair JOIN turn ON turn.id = trigger_id WHERE conversation_id = ?"
        gone.update(identity for (identity,) in self._db.execute(pairs, (row,)))
        self._db.execute("DELETE FROM conversation WHERE id = ?", (row,))
        return {key: tuple(stored) for key, *stored in messages}

    def _insert_conversation(
        self, origin: int, conversation: Conversation, digest: bytes, made: set[int]
    ) -> dict[str, StoredMessage]:
        """Write a conversation with its turns and pairs; return its messages and add its pairs to ``made``."""
        key = well_formed(conversation.key)
        row = self._insert("conversation (source_id, key, digest)", (origin, key, digest))
        messages = {well_formed(message.key): _stored(message) for message in conversation.messages}
        self._db.executemany(
            "INSERT INTO message (conversation_id, position, key, sender, sent_ms, text, is_from_me, reply_to) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            ((row, position, key, *stored) for position, (key, stored) in enumerate(messages.items())),
        )
        turns = list(turns_of(conversation.messages))
        rows = [
            self._insert(
                "turn (conversation_id, position, sender, start_ms, end_ms, text, is_from_me)",
                (row, i, well_formed(t.sender), t.start_ms, t.end_ms, well_formed(t.text), t.is_from_me),
            )
            for i, t in enumerate(turns)
        ]
        pairs = [(_pair_id(origin, key, *turns[i : i + 2]), rows[i], rows[i + 1]) for i in pair_positions(turns)]
        self._db.executemany("INSERT INTO pair (id, trigger_id, response_id) VALUES (?, ?, ?)", pairs)
        made.update(identity for identity, _, _ in pairs)
        return messages

    def _insert(self, table: str, values: tuple[object, ...]) -> int:
        marks = ",".join("?" * len(values))
        return int(self._db.execute(f"INSERT INTO {table} VALUES ({marks})", values).lastrowid or 0)  # noqa: S608

    def _pair(self, row: Sequence[Any]) -> Pair:
        *pair, conversation, position = row
        before = self._db.execute(
            "SELECT text FROM turn WHERE conversation_id = ? AND position < ? ORDER BY position DESC LIMIT ?",
            (conversation, position, CONTEXT_TURNS),
        )
        return Pair(*[*pair, tuple(text for (text,) in before)[::-1]])

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


StoredMessage = tuple[str, int, str, bool | None, str | None]
"""A message without its key, as the columns hold it: sender, sent_ms, text, is_from_me, reply_to."""

_PAIRS: Final = (
    "SELECT pair.id, c.key, t.text, r.text, t.sender, r.sender, t.start_ms, r.start_ms, c.id, t.position FROM pair "
    "JOIN turn t ON t.id = trigger_id JOIN turn r ON r.id = response_id JOIN conversation c ON c.id = t.conversation_id"
)


def _stored(message: Message) -> StoredMessage:
    reply_to = None if message.reply_to is None else well_formed(message.reply_to)
    return well_formed(message.sender), message.sent_ms, well_formed(message.text), message.is_from_me, reply_to


def _digest(conversation: Conversation) -> bytes:
    """A hash over all that would be stored of a conversation."""
    digest = hashlib.blake2b(digest_size=16)
    for message in conversation.messages:
        digest.update(repr((message.key, *_stored(message))).encode("utf-8", "surrogatepass"))
    return digest.digest()


def _pair_id(origin: int, conversation: str, trigger: Turn, response: Turn) -> int:
    """63 bits of a hash over the pair's content; a message key is unique in its conversation, so the id is too."""
    content = (origin, conversation, trigger.message_keys[0], trigger.text, response.text, response.start_ms)
    digest = hashlib.blake2b(repr(content).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


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
