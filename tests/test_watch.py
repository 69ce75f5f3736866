"""Following a live history: what is written is in the space at the next look, and nothing runs in between."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import apple
import jarvis_embed as je
from jarvis_embed.errors import HomeLocked, SourceError
from jarvis_embed.messages import Conversation, Message
from jarvis_embed.models.encoder import Encoder
from jarvis_embed.models.store import add_model
from jarvis_embed.sources import Source
from jarvis_embed.sources.chat_db import ChatDbSource
from jarvis_embed.sources.kinds import require_access
from jarvis_embed.watch import DatabaseFollower, FileFollower, Update, follower_of, watch


class Stop(Exception):
    """Ends a watch from its pause."""


class Database:
    """A source that reads a table, as a reader of a live database does."""

    kind = "table"

    def __init__(self, path: Path) -> None:
        self.location, self.unreadable = str(path), Counter[str]()

    def __len__(self) -> int:
        return 1

    def conversations(self) -> Iterator[Conversation]:
        database = sqlite3.connect(self.location)
        rows = database.execute("SELECT rowid, sender, text FROM message ORDER BY rowid").fetchall()
        database.close()
        yield Conversation("c", [Message(str(row), sender, row * 1000, text) for row, sender, text in rows])


@pytest.fixture
def live(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A database in WAL mode that somebody keeps open for writing."""
    database = sqlite3.connect(tmp_path / "live.db", isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE message (sender TEXT, text TEXT)")
    say(database, "a", "hey")
    say(database, "b", "hi")
    yield database
    database.close()


def say(database: sqlite3.Connection, sender: str, text: str) -> None:
    database.execute("INSERT INTO message VALUES (?, ?)", (sender, text))


def follow(
    path: Path, encoder: Encoder, home: Path, *steps: Callable[[], object], source: Callable[[Path], Source] = Database
) -> list[Update]:
    """Watch, do one step at each pause, and end after the last."""
    remaining = iter(steps)

    def pause(_seconds: float) -> None:
        step = next(remaining, None)
        if step is None:
            raise Stop
        step()

    updates: list[Update] = []
    with contextlib.suppress(Stop):
        for update in watch(lambda: source(path), follower_of(path), encoder, home, pause=pause):
            updates.append(update)  # noqa: PERF402  what came before Stop counts
    return updates


def nothing() -> None:
    pass


def test_a_new_message_is_found_at_the_next_look(
    live: sqlite3.Connection, tmp_path: Path, encoder: Encoder, home: Path
) -> None:
    found: list[list[str]] = []

    def search() -> None:
        with je.Space.open(home=home, encoder=encoder) as space:
            found.append([match.pair.response for match in space.search("lunch?", k=9)])

    updates = follow(
        tmp_path / "live.db",
        encoder,
        home,
        *(search, lambda: say(live, "a", "lunch?"), lambda: say(live, "b", "sure"), nothing, search, nothing),
    )
    assert [update.ingested.new for update in updates if update.ingested] == [2, 1, 1]
    assert found[0] == ["hi"]
    assert found[1][0] == "sure"


def test_a_new_message_in_a_live_database_of_messages_is_found(tmp_path: Path, encoder: Encoder, home: Path) -> None:
    """It stands in the write-ahead log alone, and only its part of the history is read."""
    made = apple.ChatDb(tmp_path / "chat.db")
    anna = made.handle("+15550001")
    chat = made.chat("+15550001", anna)
    for number in range(1000):
        made.say(chat, f"message {number}", (anna, None)[number % 2])
    found: list[str] = []

    def search() -> None:
        with je.Space.open(home=home, encoder=encoder) as space:
            found.append(space.search("did the quagga come home?", k=1)[0].pair.response)

    def talk() -> None:
        made.say(chat, "did the quagga come home?", anna)
        made.say(chat, None, attributedBody=apple.body("it is asleep"))

    updates = follow(tmp_path / "chat.db", encoder, home, talk, search, nothing, source=ChatDbSource)
    assert b"quagga" not in (tmp_path / "chat.db").read_bytes()
    made.close()
    first, second = (update.ingested for update in updates)
    assert first is not None
    assert second is not None
    assert (first.new, second.new, second.read < 520) == (1000, 2, True)
    assert found == ["it is asleep"]


def test_the_last_removal_takes_the_space_along(
    live: sqlite3.Connection, tmp_path: Path, encoder: Encoder, home: Path
) -> None:
    updates = follow(tmp_path / "live.db", encoder, home, lambda: live.execute("DELETE FROM message"), nothing)
    assert [update.built is None for update in updates] == [False, True]
    with pytest.raises(je.JarvisEmbedError, match="there is no space"):
        je.Space.open(home=home, encoder=encoder)


def test_a_database_that_cannot_be_read_now_is_told_once_and_tried_again(
    live: sqlite3.Connection, tmp_path: Path, encoder: Encoder, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []
    read = Database.conversations

    def refuse(self: Database) -> Iterator[Conversation]:
        tries.append(1)
        if len(tries) < 3:
            raise SourceError("it is locked")
        return read(self)

    monkeypatch.setattr(Database, "conversations", refuse)
    updates = follow(tmp_path / "live.db", encoder, home, nothing, nothing, nothing)
    assert [str(update.problem) for update in updates] == ["it is locked", "None"]


def test_only_one_watch_runs_in_a_home(live: sqlite3.Connection, tmp_path: Path, encoder: Encoder, home: Path) -> None:
    def another() -> None:
        with pytest.raises(HomeLocked, match="watching is locked"):
            next(watch(lambda: Database(tmp_path / "live.db"), follower_of(tmp_path / "live.db"), encoder, home))

    follow(tmp_path / "live.db", encoder, home, another)


class TestFollowers:
    """When a source counts as changed."""

    def test_a_database_tells_by_its_version_and_is_not_written_to(
        self, live: sqlite3.Connection, tmp_path: Path
    ) -> None:
        follower = follower_of(tmp_path / "live.db")
        assert isinstance(follower, DatabaseFollower)
        first = follower.state()
        assert follower.state() == first
        before = (tmp_path / "live.db").read_bytes()
        live.execute("BEGIN")
        say(live, "a", "not yet")
        assert follower.state() == first
        live.execute("COMMIT")
        assert follower.state() != first
        assert (tmp_path / "live.db").read_bytes() == before
        follower.close()

    def test_a_database_that_no_program_has_open_gets_no_files_beside_it(
        self, live: sqlite3.Connection, tmp_path: Path
    ) -> None:
        live.close()
        follower = follower_of(tmp_path / "live.db")
        first = follower.state()
        require_access(tmp_path / "live.db")
        assert sorted(path.name for path in tmp_path.glob("live.db*")) == ["live.db"]
        writer = sqlite3.connect(tmp_path / "live.db", isolation_level=None)
        say(writer, "a", "hey again")
        assert follower.state() not in (None, first)
        writer.close()
        follower.close()

    def test_another_database_in_its_place_is_a_change(self, tmp_path: Path) -> None:
        for name in ("live.db", "new.db"):
            sqlite3.connect(tmp_path / name).execute("CREATE TABLE message (sender TEXT, text TEXT)").connection.close()
        follower = follower_of(tmp_path / "live.db")
        first = follower.state()
        (tmp_path / "live.db").unlink()
        assert follower.state() is None
        (tmp_path / "new.db").rename(tmp_path / "live.db")
        assert follower.state() not in (None, first)
        follower.close()

    def test_a_file_that_is_being_written_is_left_alone(self, tmp_path: Path) -> None:
        file = tmp_path / "messages.jsonl"
        file.write_text("{}\n")
        follower = follower_of(file)
        assert isinstance(follower, FileFollower)
        assert follower.state() is None
        first = follower.state()
        assert first is not None
        file.write_text("{}\n{}\n")
        assert follower.state() == first
        assert follower.state() != first

    def test_a_folder_changes_with_its_files(self, tmp_path: Path) -> None:
        (tmp_path / "Anna.txt").write_text("hey")
        follower = follower_of(tmp_path)
        follower.state()
        first = follower.state()
        (tmp_path / "Ben.txt").write_text("hey")
        follower.state()
        assert follower.state() != first


def test_the_command_follows_a_file_and_ends_cleanly(tmp_path: Path, home: Path, tiny_folder: Path) -> None:
    add_model("tiny", tiny_folder, home)
    file = tmp_path / "messages.jsonl"
    lines = [{"conversation": "c", "sender": "ab"[i % 2], "time": i, "text": f"hey {i}"} for i in range(4)]
    file.write_text("\n".join(map(json.dumps, lines[:3])) + "\n")
    command = [sys.executable, "-m", "jarvis_embed", "watch", str(file), "--model", "tiny", "--every", "0.05", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["ingested"]["new"] == 3
        with file.open("a") as more:
            more.write(json.dumps(lines[3]) + "\n")
        told = json.loads(process.stdout.readline())
        assert (told["ingested"]["new"], told["built"]["delta"], told["problem"]) == (1, 1, None)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (0, "", "")
