"""The home folder: where everything lies, who may read it, and how a file is replaced.

Files are 0600 and folders 0700 whatever the umask. A file is replaced by writing beside it and renaming, so a
reader sees the old one or the new one, never half of one. Nothing here knows what the files mean.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from .errors import DiskFull, HomeError, HomeLocked, HomeNotWritable

FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700


def home_folder(home: str | os.PathLike[str] | None = None) -> Path:
    """Resolve the home: the argument, else ``JARVIS_HOME``, else ``~/.jarvis``. Nothing is created."""
    chosen = home if home is not None else os.environ.get("JARVIS_HOME") or "~/.jarvis"
    return Path(chosen).expanduser().absolute()


def embeddings_folder(home: Path) -> Path:
    """The one folder of the home that is ours; the rest belongs to the host assistant."""
    return home / "embeddings"


def make_private_folder(folder: Path) -> Path:
    """Create ``folder`` and its parents, each new one 0700. Existing parents keep their mode.

    Raises:
        HomeNotWritable: the folder cannot be created here.
    """
    missing = [folder, *folder.parents]
    with reported(folder):
        for part in reversed([p for p in missing if not p.exists()]):
            part.mkdir(mode=FOLDER_MODE, exist_ok=True)
            part.chmod(FOLDER_MODE)
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    return folder


def open_private(path: Path, flags: int) -> int:
    """Open ``path`` as a file descriptor, created 0600 if it is new."""
    descriptor = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    os.fchmod(descriptor, FILE_MODE)
    return descriptor


def write_private(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content``: written beside it, synced, and renamed in one step.

    Raises:
        DiskFull: no room; the old file is untouched and nothing is left beside it.
        HomeNotWritable: not allowed.
    """
    make_private_folder(path.parent)
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    with reported(path):
        try:
            with os.fdopen(open_private(beside, os.O_WRONLY | os.O_TRUNC), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Replace ``path`` by ``value`` as readable JSON; same promises as ``write_private``."""
    write_private(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8"))


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Checksum of a file, hexadecimal, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_folder(folder: Path) -> None:
    """Remove ``folder`` with all it holds, if it is there."""
    with reported(folder):
        if folder.exists():
            shutil.rmtree(folder)


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """Turn the operating system's errors at ``path`` into ours, which say what to do next."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFull(
                f"no room left on the disk while writing {path}",
                "Free some space and run the same command again; what was there before is untouched",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
            raise HomeNotWritable(
                f"{path} cannot be written ({error.strerror})", "Choose another home with --home or JARVIS_HOME"
            ) from error
        raise HomeError(f"{path}: {error.strerror or type(error).__name__}") from error


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file ``path``, which the kernel lets go when the process ends, however it ends.

    Raises:
        HomeLocked: another process holds it; the message names its pid.
    """
    make_private_folder(path.parent)
    with reported(path):
        descriptor = open_private(path, os.O_RDWR)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise HomeLocked(
                f"{what} is locked by process {holder}", "Wait until it is done, or stop it, and try again"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode("ascii"), 0)
        yield
    finally:
        os.close(descriptor)
