"""Follow a live history: what is written to it is in library and space a moment later.

A SQLite database tells with ``PRAGMA data_version`` on one connection that is kept open whether another connection has
committed something; asking it reads a few bytes and takes no lock. A file or folder tells by its times and sizes.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from .errors import DiskFull, HomeLocked, JarvisEmbedError, LibraryEmpty, SourceDamaged, SourceError, SourceLocked
from .home import embeddings_folder, locked
from .intake import IngestReport
from .library import Library
from .models.encoder import Encoder
from .purge import WATCH_LOCK
from .sources.base import Source
from .sources.database import is_at_rest, is_database
from .sources.kinds import require_access
from .spaces.build import BuildReport, build

EVERY: Final = 0.25
"""Seconds between two looks."""


@dataclass(frozen=True, slots=True)
class Update:
    """What one change of the source led to.

    Attributes:
        built: None where the library holds no pair.
        seconds: from noticing the change to a space that answers with it.
        problem: why it could not be taken over now; it is tried again.
    """

    ingested: IngestReport | None
    built: BuildReport | None
    seconds: float
    problem: JarvisEmbedError | None = None


class Follower(Protocol):
    """Says when a source has changed."""

    def state(self) -> object:
        """Something that is equal as long as nothing has changed; None while there is nothing to read."""
        ...

    def close(self) -> None: ...


@dataclass(slots=True)
class DatabaseFollower:
    """A SQLite database that another program writes to: one read-only connection, none while nobody has it open."""

    path: Path
    _database: sqlite3.Connection | None = field(default=None, init=False)
    _file: int = field(default=0, init=False)

    def state(self) -> object:
        try:
            mark = self.path.stat()
            file = mark.st_ino
            if self._database is None and is_at_rest(self.path):
                return file, mark.st_mtime_ns, mark.st_size, self._log()
            if self._database is None or file != self._file:  # another file has taken its place
                self.close()
                self._database = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True, timeout=1)
                self._file = file
            return file, self._database.execute("PRAGMA data_version").fetchone()[0]
        except (OSError, sqlite3.Error, SourceError):
            self.close()
            return None

    def _log(self) -> object:
        """Of a write-ahead log that a crash has left."""
        log = self.path.with_name(f"{self.path.name}-wal")
        return (log.stat().st_mtime_ns, log.stat().st_size) if log.exists() else None

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


@dataclass(slots=True)
class FileFollower:
    """A file or a folder of files. While it is being written it is left alone: two looks must show the same."""

    path: Path
    _settled: object = field(default=None, init=False)
    _seen: object = field(default=None, init=False)

    def state(self) -> object:
        try:
            files = sorted(self.path.iterdir()) if self.path.is_dir() else [self.path]
            marks = [(entry.name, entry.stat()) for entry in files]
        except OSError:
            return self._settled
        now = tuple((name, mark.st_mtime_ns, mark.st_size, mark.st_ino) for name, mark in marks)
        if now == self._seen:
            self._settled = now
        self._seen = now
        return self._settled

    def close(self) -> None:
        pass


def follower_of(path: Path) -> Follower:
    """The way to follow ``path``.

    Raises:
        SourceMissing, SourceNotPermitted: as they say.
    """
    with suppress(SourceLocked, SourceDamaged):  # that may pass
        require_access(path)
    return DatabaseFollower(path) if path.is_file() and is_database(path) else FileFollower(path)


def watch(
    open_source: Callable[[], Source],
    follower: Follower,
    encoder: Encoder,
    home: Path,
    *,
    every: float = EVERY,
    pause: Callable[[float], object] = time.sleep,
) -> Iterator[Update]:
    """Yield an update for every change, the first at once; between them, wait. Ends when the caller stops.

    Args:
        pause: called with ``every`` between two looks.

    Raises:
        HomeLocked: another ``watch`` runs in this home, or a purge.
    """
    with locked(embeddings_folder(home) / WATCH_LOCK, "watching"), closing(follower):
        done: object = None
        failed: object = None
        while True:
            state = follower.state()
            if state is not None and state != done:
                update = take_over(open_source, encoder, home)
                if update.problem is None:
                    done, failed = state, None
                    yield update
                elif str(update.problem) != failed:  # the same problem is told once
                    failed = str(update.problem)
                    yield update
            pause(every)


def take_over(open_source: Callable[[], Source], encoder: Encoder, home: Path) -> Update:
    """Bring library and space up to date with a source, once."""
    start = time.perf_counter()
    ingested = built = None
    try:
        with Library.open(home) as library:
            ingested = library.ingest(open_source())
        built = build(encoder, home)
    except LibraryEmpty:
        pass  # one message alone is no pair yet
    except (SourceError, HomeLocked, DiskFull) as problem:
        return Update(ingested, built, time.perf_counter() - start, problem)
    return Update(ingested, built, time.perf_counter() - start)
