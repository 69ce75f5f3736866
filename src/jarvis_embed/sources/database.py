"""Another program's SQLite database, opened to read only, while that program may be writing to it.

A live database in WAL mode has a ``-wal`` and a ``-shm`` file beside it, and the newest rows are only there. SQLite
would create missing ones even for a reader, and leave them behind. So a database without ``-wal``, which no connection
holds open, is read as it lies, and whether that stayed true is checked afterwards; one with a ``-wal`` that was left
without its ``-shm`` (a copy, a crash) is read through a private view of both. Nothing is written beside the source.
"""

from __future__ import annotations

import errno
import functools
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from ..errors import SourceDamaged, SourceError, SourceForeign, SourceLocked, SourceMissing, SourceNotPermitted
from .access import responsible_program

_MAGIC: Final = b"SQLite format 3\0"
_WAL_FORMAT: Final = 2
"""Value of the header's byte 18 for a database in WAL mode."""

_BUSY_SECONDS: Final = 5.0


def is_database(path: Path) -> bool:
    """Whether a file begins as SQLite databases do.

    Raises:
        SourceError: it cannot be read; see ``opened``.
    """
    return _header(path).startswith(_MAGIC)


def is_at_rest(path: Path) -> bool:
    """Whether a database in WAL mode is open nowhere. A reader would leave files beside it.

    Raises:
        SourceError: it cannot be read; see ``opened``.
    """
    return _in_wal_mode(_header(path)) and not _is_live(path)


def _in_wal_mode(header: bytes) -> bool:
    return len(header) > 18 and header[18] == _WAL_FORMAT


def _is_live(path: Path) -> bool:
    return all(path.with_name(path.name + ending).exists() for ending in ("-wal", "-shm"))


def tables_of(path: Path) -> frozenset[str]:
    """The tables of a database.

    Raises:
        SourceError: it cannot be read; see ``opened``.
    """
    with opened(path) as db:
        return frozenset(name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'"))


def columns_of(db: sqlite3.Connection, table: str) -> frozenset[str]:
    """The columns of a table; none if there is no such table."""
    return frozenset(name for (name,) in db.execute("SELECT name FROM pragma_table_info(?)", (table,)))


def require(path: Path, db: sqlite3.Connection, what: str, needed: Mapping[str, Iterable[str]]) -> None:
    """Check that a database has the tables and columns without which it cannot be read.

    Raises:
        SourceForeign: a table is missing (another kind of database), or a column (a schema that is not known).
    """
    for table, columns in needed.items():
        found = columns_of(db, table)
        if not found:
            raise SourceForeign(
                f"{path} is not {what} (it has no table {table!r})", "Give the file that it uses itself"
            )
        if missing := sorted(set(columns) - found):
            raise SourceForeign(
                f"{path} has a schema that is not known: {table} lacks {', '.join(missing)}", "Upgrade jarvis-embed"
            )


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database to read it in one snapshot; text that is not UTF-8 comes with U+FFFD in it.

    Raises:
        SourceMissing, SourceNotPermitted, SourceLocked, SourceDamaged: as they say, also while it is read.
    """
    header = _header(path)
    if not header.startswith(_MAGIC):
        raise SourceDamaged(f"{path} is not a database", "Give the file that the program itself uses")
    with (
        explained(path),
        _address(path.resolve(), header) as address,
        closing(sqlite3.connect(address, uri=True, isolation_level=None, timeout=_BUSY_SECONDS)) as db,
    ):
        db.text_factory = functools.partial(str, encoding="utf-8", errors="replace")
        db.execute("PRAGMA query_only = ON")
        db.execute("PRAGMA temp_store = MEMORY")  # what SQLite sorts is message text
        db.execute("BEGIN")
        yield db


def _header(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise SourceMissing(f"{path} is no file", "Give the file of the database itself")
        with path.open("rb") as file:
            return file.read(100)
    except OSError as error:
        raise _error_of(path, error) from error


@contextmanager
def _address(path: Path, header: bytes) -> Iterator[str]:
    """The URI by which to open ``path`` without leaving a trace."""
    wal = path.with_name(f"{path.name}-wal")
    uri = f"{path.as_uri()}?mode=ro"
    if not _in_wal_mode(header) or _is_live(path):
        yield uri
    elif not wal.exists():
        before = path.stat()
        try:
            yield f"{uri}&immutable=1"
        finally:
            after = path.stat()
            if wal.exists() or (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
                raise SourceLocked(f"{path} was changed while it was read", "Run the same command again")
    else:
        with tempfile.TemporaryDirectory(prefix="jarvis-embed-") as folder:
            for file in (path, wal):
                _place(file, Path(folder) / file.name)
            yield f"{(Path(folder) / path.name).as_uri()}?mode=ro"


def _place(file: Path, beside: Path) -> None:
    """The same file under another name where the disk allows it, else a copy."""
    try:
        os.link(file, beside)
    except OSError:
        shutil.copyfile(file, beside)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn errors of the system and of SQLite at ``path`` into ours. None of them quotes a row.

    Raises:
        SourceMissing, SourceNotPermitted, SourceLocked, SourceDamaged: as they say.
    """
    try:
        yield
    except OSError as error:
        raise _error_of(path, error) from error
    except UnicodeDecodeError as error:  # what SQLite says of a damaged schema quotes its bytes
        raise _damaged(path, "its schema") from error
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorname", "") or type(error).__name__
        if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL")):
            raise SourceLocked(f"{path} is locked by another program", "Wait until it is done, or close it") from error
        if code.startswith("SQLITE_READONLY_ROLLBACK"):  # to undo it is to write
            raise SourceLocked(
                f"{path} was left in the middle of a change",
                "Start the program that it belongs to once, then try again",
            ) from error
        if code.startswith(("SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH", "SQLITE_READONLY")):
            raise _not_permitted(path) from error
        raise _damaged(path, code) from error


def _damaged(path: Path, where: str) -> SourceDamaged:
    return SourceDamaged(f"{path} is damaged ({where})", "Restore it from a backup, or try a copy of it")


def _error_of(path: Path, error: OSError) -> SourceError:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return SourceMissing(f"there is no file {path}", "Check the path")
    if error.errno == errno.ELOOP:
        return SourceMissing(f"{path} is a link that leads to itself", "Give the file itself")
    if error.errno in (errno.EPERM, errno.EACCES):
        return _not_permitted(path)
    return SourceDamaged(f"{path} cannot be read ({os.strerror(error.errno or 0)})", "Check the disk")


def _not_permitted(path: Path) -> SourceNotPermitted:
    if sys.platform == "darwin":
        return SourceNotPermitted(
            f"macOS does not let this program read {path}",
            f"Allow it: System Settings → Privacy & Security → Full Disk Access → switch on {responsible_program()}, "
            "then start that program again",
        )
    return SourceNotPermitted(f"{path} may not be read by this user", "Change its permissions, or the user")
