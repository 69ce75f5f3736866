"""The home folder: private, replaced in one step, and locked by one process at a time."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jarvis_embed.errors import DiskFull, HomeLocked, HomeNotWritable
from jarvis_embed.home import home_folder, locked, make_private_folder, reported, write_private


@pytest.fixture
def loose_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("loose_umask")
def test_files_and_folders_are_private_whatever_the_umask(home: Path) -> None:
    write_private(home / "a" / "b" / "file", b"x")
    assert [mode(home), mode(home / "a"), mode(home / "a" / "b")] == [0o700] * 3
    assert mode(home / "a" / "b" / "file") == 0o600


def test_the_home_is_the_argument_or_the_variable_or_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JARVIS_HOME", str(tmp_path / "variable"))
    assert home_folder(tmp_path / "argument") == tmp_path / "argument"
    assert home_folder() == tmp_path / "variable"
    monkeypatch.delenv("JARVIS_HOME")
    assert home_folder() == Path("~/.jarvis").expanduser()


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_private(home / "file", b"old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(DiskFull):
        write_private(home / "file", b"new")
    assert [(p.name, p.read_bytes()) for p in home.iterdir()] == [("file", b"old")]


def test_a_home_that_cannot_be_a_folder_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeNotWritable, match="--home"):
        make_private_folder(tmp_path / "file" / "home")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_a_read_only_home_is_explained(tmp_path: Path, number: int) -> None:
    with pytest.raises(HomeNotWritable, match="--home"), reported(tmp_path):
        raise OSError(number, os.strerror(number))


def test_a_lock_names_the_process_that_holds_it_and_ends_with_it(home: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from jarvis_embed.home import locked\n"
        "with locked(Path(sys.argv[1]), 'x'): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(home / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == b"held\n"
    with (
        pytest.raises(HomeLocked, match=f"the thing is locked by process {holder.pid}"),
        locked(home / "lock", "the thing"),
    ):
        pass
    holder.kill()
    holder.wait()
    holder.stdin.close()
    holder.stdout.close()
    with locked(home / "lock", "the thing"):
        pass
