"""Ingesting step by step ends where ingesting at once does, whatever happened to the database in between."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import apple
from jarvis_embed.library import Library
from jarvis_embed.sources import chat_db, chat_marks
from jarvis_embed.sources.chat_db import ChatDbSource
from jarvis_embed.sources.chat_marks import Marks

TEXTS = ("hey", "lunch?", "ok", "see you at 8", "😂")


@pytest.fixture
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of two rows, and never everything at once: small histories go the way of large ones."""
    monkeypatch.setattr(chat_marks, "_BLOCK_BITS", 1)
    monkeypatch.setattr(chat_db, "_TOO_MANY", 2.0)


class Life:
    """A history to which things happen, chosen by a seed."""

    def __init__(self, path: Path, seed: int) -> None:
        self.choose = random.Random(seed)
        self.made = apple.ChatDb(path)
        anna, ben, old_ben = self.made.handle("+1555"), self.made.handle("ben@x.org"), self.made.handle("+1777", "SMS")
        self.handles = [anna, ben, old_ben]
        self.chats = {
            self.made.chat("+1555", anna): (anna,),
            self.made.chat("ben@x.org", ben): (ben,),
            self.made.chat("+1777", old_ben, service="SMS"): (old_ben,),
            self.made.chat("chat1", anna, ben, group_id="g1", display_name="us"): (anna, ben),
        }
        self.rows: list[tuple[int, int]] = []
        self.merged = False

    def step(self) -> None:
        some = self.choose.choice
        what = some(
            "say say say say say say body body reply reply reply reply tapback tapback back edit unsend delete delete "
            "recently late late quote unquote twice pause pause system rename join person chat photo".split()
        )
        chat = some([1, 1, 1, 4, *self.chats])
        who = some((None, *self.chats[chat]))
        known = [(c, row) for c, row in self.rows if c == chat]
        if what in ("say", "body", "late", "photo") or not known:
            self.said(what, chat, who)
        elif what == "quote":
            self.add(chat, self.made.say(chat, f"Liked “{some(TEXTS)}”", who))
        elif what == "unquote":
            self.add(chat, self.made.say(chat, f"Removed a like from “{some(TEXTS)}”", who))
        elif what in ("rename", "join", "person", "chat", "pause", "system"):
            self.around(what, chat, who)
        else:
            self.changed(what, chat, who, some(known[-8:] if what in ("reply", "tapback", "back") else known)[1])

    def said(self, what: str, chat: int, who: int | None) -> None:
        text = self.choose.choice(TEXTS)
        if what == "body":
            self.add(chat, self.made.say(chat, None, who, attributedBody=apple.body(text)))
        elif what == "photo":
            self.add(chat, self.made.say(chat, "\ufffc", who, cache_has_attachments=1))
        elif what == "late":
            sent_ms = self.made.clock - self.choose.randrange(600_000)
            self.add(chat, self.made.say(chat, text, who, date=apple.nanoseconds(sent_ms)))
        else:
            self.add(chat, self.made.say(chat, text, who))

    def around(self, what: str, chat: int, who: int | None) -> None:
        if what == "pause":
            self.made.clock += 600_000
        elif what == "system":
            self.made.say(chat, None, who, item_type=2, group_title="x")
        elif what == "rename":
            self.made.db.execute("UPDATE chat SET display_name = 'we' WHERE chat_identifier = 'chat1'")
        elif what == "join":
            self.made.db.execute("INSERT OR IGNORE INTO chat_handle_join VALUES (4, 3)")
        elif what == "person" and not self.merged:
            self.merged = True
            self.made.db.execute("UPDATE handle SET person_centric_id = 'ben' WHERE ROWID IN (2, 3)")
        elif what == "chat":
            handle = self.made.handle(f"+19{len(self.chats)}")
            self.chats[self.made.chat(f"+19{len(self.chats)}", handle)] = (handle,)

    def changed(self, what: str, chat: int, who: int | None, row: int) -> None:
        if what == "reply":
            self.add(chat, self.made.reply(chat, self.choose.choice(TEXTS), row, who))
        elif what == "tapback":
            self.add(chat, self.made.tapback(chat, row, 2000 + self.choose.randrange(3), who))
        elif what == "back":
            self.made.tapback(chat, row, 3000 + self.choose.randrange(3), who)
        elif what == "edit":
            self.made.edit(row, self.choose.choice(TEXTS))
        elif what == "unsend":
            self.made.unsend(row)
        elif what == "twice":
            self.made.db.execute(
                "INSERT OR IGNORE INTO chat_message_join (chat_id, message_id) VALUES (?, ?)",
                (self.choose.choice(list(self.chats)), row),
            )
        else:
            self.rows.remove((chat, row))
            self.made.delete(row) if what == "delete" else self.made.recently_delete(chat, row)

    def add(self, chat: int, row: int) -> None:
        self.rows.append((chat, row))


def content(library: Library) -> list[object]:
    """All that a library holds of its source, without the numbers of its own rows."""
    names = dict(library._db.execute("SELECT id, key FROM conversation"))
    conversations = [(names[int(c.key)], c.people, c.is_group, c.name, c.messages) for c in library.conversations()]
    turns = library._db.execute(
        "SELECT c.key, position, sender, start_ms, end_ms, text, is_from_me, reply_to, holdout "
        "FROM turn JOIN conversation c ON c.id = conversation_id"
    )
    pairs = ((p.id, p.conversation, p.trigger, p.response, p.context, p.holdout) for p in library.pairs())
    return [sorted(conversations), sorted(turns), sorted(pairs)]


@pytest.mark.usefixtures("_small_blocks")
@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 1 << 30), steps=st.lists(st.integers(0, 12), min_size=1, max_size=5))
def test_any_steps_end_where_one_step_would(
    tmp_path_factory: pytest.TempPathFactory, seed: int, steps: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("life")
    life = Life(folder / "chat.db", seed)
    source = ChatDbSource(folder / "chat.db")
    with Library.open(folder / "stepwise") as stepwise:
        for number, step in enumerate([40, *steps]):
            for _ in range(step):
                life.step()
            stepwise.ingest(source)
            with Library.open(folder / f"at once {number}") as at_once:
                at_once.ingest(source)
                assert content(stepwise) == content(at_once)
    life.made.close()
    shutil.rmtree(folder)


class TestOnlyWhatChanged:
    """A long history, of which only a little is read again."""

    @pytest.fixture
    def made(self, tmp_path: Path) -> Iterator[apple.ChatDb]:
        made = apple.ChatDb(tmp_path / "chat.db")
        made.db.execute("BEGIN")
        anna, ben = made.handle("+1555"), made.handle("ben@x.org")
        self.chat = made.chat("+1555", anna)
        made.chat("ben@x.org", ben)
        for number in range(3000):
            made.say(1 + number // 5 % 2, f"message number {number}", (None, 1 + number // 5 % 2)[number % 2])
        made.db.execute("COMMIT")
        yield made
        made.close()

    @pytest.fixture
    def library(self, made: apple.ChatDb, home: Path) -> Iterator[Library]:
        with Library.open(home) as library:
            assert library.ingest(ChatDbSource(made.path)).read == 3000
            yield library

    def test_nothing_new_reads_nothing(self, made: apple.ChatDb, library: Library) -> None:
        revision = library.revision
        report = library.ingest(ChatDbSource(made.path))
        assert (report.read, report.new, report.changed, report.removed) == (0, 0, 0, 0)
        assert library.revision == revision

    def test_a_new_message_reads_its_block(self, made: apple.ChatDb, library: Library) -> None:
        revision = library.revision
        made.say(1, "lunch?", 1)
        made.say(1, "sure")
        report = library.ingest(ChatDbSource(made.path))
        assert (report.new, report.changed, report.removed) == (2, 0, 0)
        assert report.read <= 256
        assert library.revision == revision + 1
        assert any((pair.trigger, pair.response) == ("lunch?", "sure") for pair in library.pairs())

    @pytest.mark.parametrize("change", ["edit", "unsend", "delete", "recently_delete"])
    def test_what_is_gone_from_the_source_is_gone_from_every_file(
        self, made: apple.ChatDb, library: Library, change: str
    ) -> None:
        def held() -> bool:
            return any(b"message number 1234" in path.read_bytes() for path in library.path.parent.iterdir())

        assert held()
        arguments = {"edit": (1235, "else"), "recently_delete": (1, 1235)}.get(change, (1235,))
        getattr(made, change)(*arguments)
        report = library.ingest(ChatDbSource(made.path))
        assert report.changed + report.removed == 1
        assert report.read <= 256
        library.close()
        assert not held()

    def test_a_tapback_on_an_old_message_reads_that_one_too(self, made: apple.ChatDb, library: Library) -> None:
        made.tapback(1, 2, 2000, 1)
        assert library.ingest(ChatDbSource(made.path)).changed == 1
        message = next(m for c in library.conversations() for m in c.messages if m.row == 2)
        assert [tapback.kind for tapback in message.tapbacks] == ["loved"]

    def test_a_database_with_new_row_numbers_is_the_same_history(self, made: apple.ChatDb, library: Library) -> None:
        before, revision = {pair.id for pair in library.pairs()}, library.revision
        made.db.execute("UPDATE message SET ROWID = ROWID + 100000")
        made.db.execute("UPDATE chat_message_join SET message_id = message_id + 100000")
        report = library.ingest(ChatDbSource(made.path))
        assert (report.new, report.changed, report.removed) == (0, 0, 0)
        assert ({pair.id for pair in library.pairs()}, library.revision) == (before, revision)

    def test_a_state_of_no_use_reads_everything(self, made: apple.ChatDb, library: Library) -> None:
        library._db.execute("UPDATE source SET state = x'00'")
        report = library.ingest(ChatDbSource(made.path))
        assert (report.read, report.new) == (3000, 0)
        assert Marks.unpacked(b"") is None

    def test_two_databases_with_the_same_rows_stay_apart(
        self, made: apple.ChatDb, library: Library, tmp_path: Path
    ) -> None:
        other = apple.ChatDb(tmp_path / "other.db")
        other.say(other.chat("+1555", other.handle("+1555")), "in the other", 1)
        library.ingest(ChatDbSource(other.path))
        made.say(1, "new")
        other.delete(1)
        library.ingest(ChatDbSource(made.path))
        assert library.counts().messages == 3002
        assert library.ingest(ChatDbSource(other.path)).removed == 1
        assert library.counts().messages == 3001
        other.close()

    def test_a_reading_that_breaks_off_changes_nothing(
        self, made: apple.ChatDb, library: Library, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made.say(1, "new")
        before = library.counts()
        with monkeypatch.context() as patch:
            patch.setattr(Marks, "packed", lambda _: 1 // 0)
            with pytest.raises(ZeroDivisionError):
                library.ingest(ChatDbSource(made.path))
        assert library.counts() == before
        assert library.ingest(ChatDbSource(made.path)).new == 1
