"""Whether a source can be read, and why not: what a user must do differs for each reason."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

State = Literal["readable", "missing", "not permitted", "locked", "not a database", "damaged"]

_SQLITE: Final = b"SQLite format 3\0"
_TERMINALS: Final[Mapping[str, str]] = {
    "Apple_Terminal": "Terminal",
    "iTerm.app": "iTerm",
    "vscode": "Visual Studio Code",
    "WezTerm": "WezTerm",
    "ghostty": "Ghostty",
    "WarpTerminal": "Warp",
    "Hyper": "Hyper",
}
"""``TERM_PROGRAM`` → the application as the system settings list it."""


@dataclass(frozen=True, slots=True)
class Access:
    """What stands in the way of reading a source, and what to do; ``readable`` where nothing does."""

    state: State
    problem: str = ""
    next_step: str = ""


def access_to(path: Path) -> Access:
    """Try to read a file or folder, and if it is a database, ask it something. Nothing is written."""
    try:
        if path.is_dir():
            os.listdir(path)  # noqa: PTH208  only the permission is asked for
            return Access("readable")
        database = is_database(path)
    except OSError as error:
        return _refused(path, error)
    if database:
        return _asked(path)
    if path.suffix in (".db", ".sqlite", ".sqlite3"):
        return Access("not a database", f"{path} is not a database", "Give the file that the program itself uses")
    return Access("readable")


def is_database(path: Path) -> bool:
    """Whether a file or folder is a SQLite database.

    Raises:
        OSError: it cannot be read.
    """
    if path.is_dir():
        return False
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def _refused(path: Path, error: OSError) -> Access:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return Access("missing", f"there is no file {path}", "Check the path; was the history moved or deleted?")
    if error.errno == errno.ELOOP:
        return Access("missing", f"{path} is a link that leads to itself", "Give the file itself")
    if error.errno in (errno.EPERM, errno.EACCES):
        if sys.platform == "darwin":
            return Access(
                "not permitted",
                f"macOS does not let this program read {path}",
                f"Allow it: System Settings → Privacy & Security → Full Disk Access → switch on "
                f"{responsible_program()}, then restart that program",
            )
        return Access("not permitted", f"{path} may not be read by this user", "Change its permissions, or the user")
    return Access("damaged", f"{path} cannot be read ({os.strerror(error.errno or 0)})", "Check the disk")


def is_at_rest(path: Path) -> bool:
    """Whether a database in WAL mode is open nowhere: it has no log. A reader would leave a log beside it.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        header = file.read(20)  # byte 18 is 2 in WAL mode: https://www.sqlite.org/fileformat.html#the_database_header
    return len(header) == 20 and header[18] == 2 and not path.with_name(f"{path.name}-wal").exists()


def _asked(path: Path) -> Access:
    rest = "&immutable=1" if is_at_rest(path) else ""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro{rest}", uri=True, timeout=0.2)) as database:
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorname", "") or ""
        if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return Access("locked", f"{path} is locked by another program", "Wait until it has finished, or close it")
        if code.startswith(("SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_READONLY", "SQLITE_AUTH")):
            return Access(
                "not permitted", f"the folder of {path} may not be read", "Allow reading all of it, with -wal and -shm"
            )
        return Access("damaged", f"{path} is damaged ({code or type(error).__name__})", "Restore it from a backup")
    return Access("readable")


def responsible_program(environment: Mapping[str, str] | None = None) -> str:
    """The application that macOS asks about: the one in which this process was started, such as the terminal."""
    found = application_of(os.getpid(), running_processes())
    if found is not None:
        return found
    named = (os.environ if environment is None else environment).get("TERM_PROGRAM", "")
    return _TERMINALS.get(named, named.removesuffix(".app") or "the program that you started this in (your terminal)")


def running_processes() -> dict[int, tuple[int, str]]:
    """Process → (its parent, its program), of all processes; empty where that cannot be asked."""
    try:
        listed = subprocess.run(
            ["/bin/ps", "-axo", "pid=,ppid=,comm="], capture_output=True, text=True, check=True, timeout=5
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    fields = (line.split(None, 2) for line in listed.splitlines())
    return {int(found[0]): (int(found[1]), found[2].strip()) for found in fields if len(found) == 3}


def application_of(process: int, processes: Mapping[int, tuple[int, str]]) -> str | None:
    """The outermost application bundle among a process and those that it was started by."""
    application = None
    seen: set[int] = set()
    while process in processes and process not in seen:
        seen.add(process)
        parent, program = processes[process]
        bundle = next((part for part in Path(program).parts if part.endswith(".app")), None)
        application = bundle.removesuffix(".app") if bundle else application
        process = parent
    return application
