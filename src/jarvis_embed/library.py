"""The library: one SQLite file that holds what was ingested, and the turns and pairs made of it.

Ingesting a source again makes the library hold what the source holds now: a conversation whose messages are as
before is skipped by its digest, another one is written anew, and what is gone is deleted. A pair's id is made of
its content, so a pair that stays as it was keeps its id and an edited one is a new pair. ``revision`` grows with
every change of the pairs: by it a space can tell that it is stale.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from .errors import DiskFull, HomeLocked, HomeNotWritable, InputError, LibraryError
from .feedback import read_feedback, write_feedback
from .forgetting import SALT_BYTES, Rules, Wish, drop_wish, read_rules, store_conversation, store_wish
from .home import FILE_MODE, embeddings_folder, home_folder, locked, make_private_folder, reported
from .intake import IngestReport, Intake, changes_of
from .messages import CONTEXT_TURNS, EARLIER, Conversation, Pair, Turn
from .records import blocks, digest_of, flags_of
from .schema import migrate
from .sources.base import Source
from .stored import conversations_of, conversations_since, every_conversation, response_places, turn_texts
from .talks import PlacedTurn, Talk, latest_with, placed_turns, talks, turns_at

Progress = Callable[[int, int], None]
"""Called with (done, total); total is 0 where it is not known."""


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
    def home(self) -> Path:
        """The folder that holds everything."""
        return self.path.parent.parent

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
        statement = "SELECT DISTINCT sender FROM message WHERE sender <> ?"
        return sorted(sender for (sender,) in self._db.execute(statement, (EARLIER,)))

    def pairs(self, ids: Sequence[int] | None = None) -> Iterator[Pair]:
        """Yield the pairs of ``ids`` in their order, leaving out any that is gone; all pairs if None."""
        if ids is None:
            yield from map(self._pair, self._db.execute(_PAIRS))
            return
        found: dict[int, Pair] = {}
        for marked, block in blocks(list(set(ids))):
            found |= {
                row[0]: self._pair(row) for row in self._db.execute(f"{_PAIRS} WHERE pair.id IN ({marked})", block)
            }
        yield from (found[identity] for identity in ids if identity in found)

    def conversations(self) -> Iterator[Conversation]:
        """Yield every conversation with its messages as they were ingested; named by its row, for two sources may
        use one key."""
        return every_conversation(self._db)

    def conversations_of(self, ids: Sequence[int]) -> Iterator[Conversation]:
        """Yield the conversations that hold any of these pairs, named as by ``conversations``."""
        return conversations_of(self._db, ids)

    def conversations_since(self, revision: int) -> Iterator[Conversation]:
        """Yield the conversations that anything changed in after ``revision``, named as by ``conversations``."""
        return conversations_since(self._db, revision)

    def response_places(self, conversation: str) -> dict[str, int]:
        """Key of the first message of each response of a conversation, named as by ``conversations`` → its pair."""
        return response_places(self._db, conversation)

    def feedback(self, ids: Sequence[int] | None = None) -> dict[int, bool]:
        """What the owner said of these pairs, or of all: id → whether it was good. Most have no entry."""
        return read_feedback(self._db, ids)

    def give_feedback(self, pair: int, good: bool | None) -> None:
        """Keep what the owner says of a pair, in the place of what they said before; None takes it back.

        Raises:
            InputError: there is no such pair.
        """
        if next(self.pairs([pair]), None) is None:
            raise InputError(f"there is no pair {pair}", "Its number stands in: jarvis-embed suggest TEXT --json")
        with _reported(self.path), self._transaction():
            write_feedback(self._db, pair, good)

    def pair_ids(self) -> Iterator[int]:
        """Yield the id of every pair, ascending."""
        return (identity for (identity,) in self._db.execute("SELECT id FROM pair ORDER BY id"))

    def talks(self) -> Iterator[Talk]:
        """Yield every conversation without what was said in it."""
        return talks(self._db)

    def placed_turns(self, talk: Talk, last: int | None = None) -> list[PlacedTurn]:
        """The turns of a conversation with their places, in order; only the ``last`` ones if that is said."""
        return placed_turns(self._db, talk.row, last)

    def turns_at(self, talk: Talk, places: Sequence[int]) -> list[Turn]:
        """The turns of a conversation that begin at these places; fewer, if some are gone."""
        return turns_at(self._db, talk.row, places)

    def latest_with(self, contact: str) -> Talk | None:
        """The conversation with ``contact`` that somebody wrote in last (see ``talks.latest_with``)."""
        return latest_with(self._db, contact)

    def turn_texts(self, conversation: str) -> list[list[str]]:
        """The turn texts, in order, of each conversation of that name: none, one, or one of each source that has it."""
        return turn_texts(self._db, conversation)

    def pair_texts(self, ids: Sequence[int] | None = None) -> Iterator[tuple[int, str, str, int]]:
        """Yield (id, trigger, response, response time in ms) of every pair, or of those of ``ids``, ordered by id."""
        if ids is None:
            yield from self._db.execute(f"{_PAIR_TEXTS} ORDER BY pair.id")
            return
        for marked, block in blocks(sorted(ids)):
            yield from self._db.execute(f"{_PAIR_TEXTS} WHERE pair.id IN ({marked}) ORDER BY pair.id", block)

    def ingest(self, source: Source, progress: Progress | None = None) -> IngestReport:
        """Make the library hold what ``source`` holds now, in one transaction.

        Raises:
            HomeLocked: another process is ingesting.
            DiskFull, LibraryError, SourceError: nothing was changed.
        """
        with locked(self.path.with_suffix(".lock"), "the library"), _reported(self.path), self._transaction():
            origin = self._source_id(source)
            intake = Intake(self._db, self.rules())
            with changes_of(source, self._state(origin)) as changes, _reported(self.path):
                intake.take(origin, changes, lambda done: progress(done, len(source)) if progress else None)
                state = changes.state()
            self._db.execute("UPDATE source SET state = ? WHERE id = ?", (state, origin))
            intake.finish()
        return intake.report(source)

    def rules(self) -> Rules:
        """What is never to be stored again (see ``forgetting``)."""
        return read_rules(self._db)

    def would_forget(self, wish: Wish) -> Forgotten:
        """Count what ``forget`` would take away. Nothing is changed."""
        rules = Rules(self.rules().salt or bytes(SALT_BYTES)).with_wish(wish).with_aliases(self._persons())
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
        messages = conversations = 0
        with locked(self.path.with_suffix(".lock"), "the library"), _reported(self.path), self._transaction():
            rules = store_wish(self._db, wish).with_aliases(self._persons())
            intake = Intake(self._db, rules)
            for row, origin, conversation in self._stored_conversations():
                kept = rules.applied(conversation)
                if kept is conversation:
                    continue
                messages += len(conversation.messages) - len(kept.messages)
                intake.delete(row)
                if kept.messages:
                    intake.insert(origin, kept, digest_of(kept))
                else:
                    conversations += 1
                    if wish.contact is not None:
                        store_conversation(self._db, rules, conversation.key, wish.contact)
            self._db.execute("DELETE FROM source WHERE id NOT IN (SELECT source_id FROM conversation)")
            intake.finish(lost=bool(messages))
        return Forgotten(messages, conversations)

    def _persons(self) -> list[list[str]]:
        """The names of each person to whom the owner wrote alone."""
        found = self._db.execute("SELECT people FROM conversation WHERE is_group = 0")
        return [json.loads(people) for (people,) in found]

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

    def _source_id(self, source: Source) -> int:
        origin = (source.kind, source.location)
        self._db.execute("INSERT INTO source (kind, location) VALUES (?, ?) ON CONFLICT DO NOTHING", origin)
        return int(self._db.execute("SELECT id FROM source WHERE kind = ? AND location = ?", origin).fetchone()[0])

    def _pair(self, row: Sequence[Any]) -> Pair:
        *pair, holdout, quality, flags, conversation, position = row
        before = self._db.execute(
            "SELECT text FROM turn WHERE conversation_id = ? AND position < ? ORDER BY position DESC LIMIT ?",
            (conversation, position, CONTEXT_TURNS),
        )
        context = tuple(text for (text,) in before)[::-1]
        return Pair(*[*pair, context, bool(holdout), quality, flags_of(flags)])

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
    "r.quality, r.flags, c.id, t.position FROM pair "
    "JOIN turn t ON t.id = trigger_id JOIN turn r ON r.id = response_id JOIN conversation c ON c.id = t.conversation_id"
)

_PAIR_TEXTS: Final = (
    "SELECT pair.id, t.text, r.text, r.start_ms FROM pair "
    "JOIN turn t ON t.id = trigger_id JOIN turn r ON r.id = response_id"
)


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
