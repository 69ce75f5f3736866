"""The library holds what its sources hold now, however often and in whatever steps they were read."""

from __future__ import annotations

import sqlite3
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jarvis_embed as je
import tiny
from jarvis_embed.errors import DiskFull, HomeLocked, LibraryError, SourceError
from jarvis_embed.home import locked
from jarvis_embed.library import Library
from jarvis_embed.messages import Conversation, Message, Tapback
from jarvis_embed.schema import MIGRATIONS, VERSION


class Memory:
    """A source that holds what it is given."""

    kind = "memory"
    location = "test"

    def __init__(self, *conversations: Conversation, fails: bool = False) -> None:
        self.unreadable: Counter[str] = Counter()
        self._conversations, self._fails = conversations, fails

    def __len__(self) -> int:
        return len(self._conversations)

    def conversations(self) -> Iterator[Conversation]:
        yield from self._conversations
        if self._fails:
            raise SourceError("the disk was pulled out")


def talk(key: str, *texts: str) -> Conversation:
    return Conversation(key, tuple(Message(str(i), "ab"[i % 2], i * 1000, text) for i, text in enumerate(texts)))


def content(library: Library) -> list[tuple[object, ...]]:
    return sorted((p.id, p.conversation, p.trigger, p.response, p.context) for p in library.pairs())


@pytest.fixture
def library(home: Path) -> Iterator[Library]:
    with Library.open(home) as library:
        yield library


def test_pairs_come_out_as_they_were_said(library: Library) -> None:
    report = library.ingest(Memory(talk("x", "hey", "hi", "lunch?", "sure")))
    assert (report.conversations, report.read, report.new) == (1, 4, 4)
    triggers = {pair.trigger: pair for pair in library.pairs()}
    assert set(triggers) == {"hey", "hi", "lunch?"}
    assert triggers["lunch?"].context == ("hey", "hi")
    assert list(library.pairs([triggers["hi"].id, 1, triggers["hey"].id])) == [triggers["hi"], triggers["hey"]]


def test_conversations_come_out_as_they_went_in(library: Library) -> None:
    said = (Message("1", "b", 5, "lunch?", False), Message("0", "a", 5, "sure", True, "1"), Message("2", "b", 9, "ok"))
    library.ingest(Memory(Conversation("c", said), talk("d", "hey", "hi")))
    assert [one.messages for one in library.conversations()] == [said, talk("d", "hey", "hi").messages]


def test_reading_the_same_again_changes_nothing(library: Library) -> None:
    source = Memory(talk("x", "hey", "hi"), talk("y", "ok", "bye"))
    library.ingest(source)
    before, revision = content(library), library.revision
    report = library.ingest(source)
    assert (report.new, report.changed, report.removed) == (0, 0, 0)
    assert (content(library), library.revision) == (before, revision)


def test_edits_and_deletions_leave_nothing_behind(library: Library) -> None:
    library.ingest(Memory(talk("x", "hey", "a very private thing", "oh"), talk("y", "ok", "bye")))
    kept = {pair.id for pair in library.pairs() if pair.conversation == "y"}
    revision = library.revision
    report = library.ingest(Memory(talk("x", "hey", "nothing"), talk("y", "ok", "bye")))
    assert (report.new, report.changed, report.removed) == (0, 1, 1)
    assert library.revision > revision
    assert {pair.id for pair in library.pairs() if pair.conversation == "y"} == kept
    library.ingest(Memory(talk("y", "ok", "bye")))
    assert {pair.conversation for pair in library.pairs()} == {"y"}
    library.close()
    assert not any(b"private" in path.read_bytes() for path in library.path.parent.iterdir())


def test_a_pair_keeps_its_id_while_the_conversation_goes_on(library: Library) -> None:
    library.ingest(Memory(talk("x", "hey", "hi")))
    (before,) = library.pairs()
    library.ingest(Memory(talk("x", "hey", "hi", "lunch?")))
    assert before in list(library.pairs())


def test_two_sources_stand_side_by_side(library: Library, history: Path) -> None:
    library.ingest(Memory(talk("x", "hey", "hi")))
    library.ingest(je.sources.open(history))
    library.ingest(Memory())
    assert library.counts().conversations == 3
    assert all(pair.conversation != "x" for pair in library.pairs())


def test_a_source_that_breaks_off_changes_nothing(library: Library) -> None:
    library.ingest(Memory(talk("x", "hey", "hi")))
    before = content(library)
    with pytest.raises(SourceError):
        library.ingest(Memory(talk("y", "new", "text"), fails=True))
    assert content(library) == before


texts = st.sampled_from(["hey", "ok", "lunch?", "a\x00b", "\ud800", "😂"])
histories = st.dictionaries(st.sampled_from("xyz"), st.lists(texts, max_size=6))


@settings(deadline=None, max_examples=40)
@given(st.lists(histories, min_size=1, max_size=4))
def test_any_steps_end_where_one_step_would(
    tmp_path_factory: pytest.TempPathFactory, steps: list[dict[str, list[str]]]
) -> None:
    sources = [Memory(*(talk(key, *said) for key, said in step.items())) for step in steps]
    with Library.open(tmp_path_factory.mktemp("a")) as stepwise, Library.open(tmp_path_factory.mktemp("b")) as at_once:
        for source in sources:
            stepwise.ingest(source)
        at_once.ingest(sources[-1])
        assert content(stepwise) == content(at_once)
        assert stepwise.counts() == at_once.counts()


def test_two_at_once_are_refused_with_the_holder_s_pid(library: Library) -> None:
    with locked(library.path.with_suffix(".lock"), "x"), pytest.raises(HomeLocked, match="process"):
        library.ingest(Memory(talk("x", "hey", "hi")))


@pytest.mark.parametrize(
    "garbage",
    [b"not a database at all, but long enough to look like one" * 100, b"SQLite format 3\x00" + b"\xff" * 4000],
)
def test_a_file_that_is_no_library_is_refused(home: Path, garbage: bytes) -> None:
    (home / "embeddings").mkdir(parents=True)
    (home / "embeddings" / "library.db").write_bytes(garbage)
    with pytest.raises(LibraryError, match="not a whole library"):
        Library.open(home)
    assert (home / "embeddings" / "library.db").read_bytes() == garbage


def test_a_library_of_a_newer_version_is_refused(home: Path) -> None:
    with Library.open(home) as library:
        path = library.path
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version = {VERSION + 1}")
    database.close()
    with pytest.raises(LibraryError, match="Upgrade"):
        Library.open(home)


def test_a_library_of_the_first_version_keeps_its_pairs(home: Path) -> None:
    (home / "embeddings").mkdir(parents=True)
    with sqlite3.connect(home / "embeddings" / "library.db") as old:
        MIGRATIONS[0](old)
        old.execute("INSERT INTO source VALUES (1, 'memory', 'test')")
        old.execute("INSERT INTO conversation VALUES (1, 1, 'x', x'00')")
        for row, (sender, text) in enumerate((("a", "hey"), ("b", "hi"))):
            old.execute("INSERT INTO message VALUES (?, 1, ?, ?, ?, 0, ?, NULL, NULL)", (row, row, row, sender, text))
            old.execute("INSERT INTO turn VALUES (?, 1, ?, ?, 0, 0, ?, NULL)", (row, row, sender, text))
        old.execute("INSERT INTO pair VALUES (42, 0, 1)")
        old.execute("PRAGMA user_version = 1")
    old.close()
    with Library.open(home) as library:
        (pair,) = library.pairs()
        assert (pair.id, pair.trigger, pair.response, pair.holdout) == (42, "hey", "hi", False)
        assert [m.text for m in next(library.conversations()).messages] == ["hey", "hi"]
        assert library.ingest(Memory(talk("x", "hey", "hi"))).removed == 0


def test_a_library_of_the_second_version_learns_what_is_said_of_its_messages(home: Path) -> None:
    (home / "embeddings").mkdir(parents=True)
    said = [Message("0", "a", 0, "hey"), Message("1", "b", 1, "hi")]
    with sqlite3.connect(home / "embeddings" / "library.db") as old:
        MIGRATIONS[0](old)
        MIGRATIONS[1](old)
        old.execute("INSERT INTO source VALUES (1, 'memory', 'test', NULL)")
        old.execute("INSERT INTO conversation (id, source_id, key, digest) VALUES (1, 1, 'x', x'00')")
        for row, m in enumerate(said):
            old.execute(
                "INSERT INTO message (id, conversation_id, position, key, sender, sent_ms, text) "
                "VALUES (?, 1, ?, ?, ?, ?, ?)",
                (row, row, m.key, m.sender, m.sent_ms, m.text),
            )
            old.execute(
                "INSERT INTO turn VALUES (?, 1, ?, ?, ?, ?, ?, NULL, NULL, 0)", (row, row, m.sender, row, row, m.text)
            )
        old.execute("INSERT INTO pair VALUES (42, 0, 1)")
        old.execute("PRAGMA user_version = 2")
    old.close()
    with Library.open(home) as library:
        assert [(p.id, p.response, p.quality, p.flags) for p in library.pairs()] == [(42, "hi", None, ())]
        assert library.ingest(Memory(Conversation("x", said))).changed == 0
        judged = Conversation("x", [said[0], replace(said[1], quality=0.5, flags=("spam",))])
        assert library.ingest(Memory(judged)).changed == 1
        assert [(p.response, p.quality, p.flags) for p in library.pairs()] == [("hi", 0.5, ("spam",))]


def test_what_a_message_is_beside_its_text_is_kept(library: Library) -> None:
    messages = (
        Message("a", "anna", 1000, "lunch?", False, None, 2000, (Tapback("me", "loved", 1500),), row=7),
        Message("b", "me", 3000, "sure", True, "a", holdout=True, row=8, quality=0.7, flags=("ö", "ä")),
    )
    conversation = Conversation("x", messages, ("anna", "Anna"), False, "Anna")
    library.ingest(Memory(conversation))
    (kept,) = library.conversations()
    assert (kept.messages, kept.people, kept.is_group, kept.name) == (messages, ("anna", "Anna"), False, "Anna")
    (pair,) = library.pairs()
    assert (pair.holdout, pair.quality, set(pair.flags)) == (True, 0.7, {"ö", "ä"})


def test_a_tapback_changes_a_message_but_not_the_pairs(library: Library) -> None:
    plain = Message("a", "anna", 1000, "lunch?")
    answer = Message("b", "ben", 2000, "sure")
    library.ingest(Memory(Conversation("x", (plain, answer))))
    before, revision = content(library), library.revision
    loved = Message("a", "anna", 1000, "lunch?", tapbacks=(Tapback("ben", "loved", 1500),))
    assert library.ingest(Memory(Conversation("x", (loved, answer)))).changed == 1
    assert (content(library), library.revision) == (before, revision)


def test_two_people_who_reply_alike_at_once_are_two_pairs(library: Library) -> None:
    question = Message("a", "anna", 0, "lunch?")
    replies = [Message(key, key, 1000, "ok", reply_to="a") for key in ("ben", "cleo")]
    library.ingest(Memory(Conversation("x", (question, *replies))))
    assert {pair.response_sender for pair in library.pairs()} == {"ben", "cleo"}


def test_a_full_disk_changes_nothing(library: Library, history: Path) -> None:
    library.ingest(Memory(talk("x", "hey", "hi")))
    before = content(library)
    pages = library._db.execute("PRAGMA page_count").fetchone()[0]
    library._db.execute(f"PRAGMA max_page_count = {pages}")  # SQLite reports a full disk beyond it
    with pytest.raises(DiskFull, match="nothing changed"):
        library.ingest(je.sources.open(history))
    assert content(library) == before


def test_its_files_are_private_while_it_is_open(library: Library) -> None:
    library.ingest(Memory(talk("x", "hey", "hi")))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in library.path.parent.iterdir()}
    assert "library.db-wal" in modes
    assert set(modes.values()) == {0o600}


def test_the_whole_corpus_is_read() -> None:
    pytest.importorskip("chitchat_dataset")
    with Library.open() as library:
        report = library.ingest(je.sources.open("chitchat", split="all"))
        assert (report.conversations, report.read) == (7168, 258_112)
        assert report.unreadable == {"empty text": 33}
        assert library.counts().pairs > 130_000
        assert library.ingest(je.sources.open("chitchat", split="all")).new == 0


def test_a_made_up_history_is_read(library: Library, history: Path) -> None:
    report = library.ingest(je.sources.open(history, me="me"))
    assert report.read == 200
    assert {pair.response_sender for pair in library.pairs()} == {"me"}
    assert library.ingest(je.sources.open(tiny.write_history(history, 203), me="me")).new == 3
