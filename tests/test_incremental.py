"""Ingesting step by step ends where ingesting at once does, whatever happened to the database in between."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import apple
from jarvis_embed.library import Library
from jarvis_embed.sources import chat_db, chat_marks
from jarvis_embed.sources.chat_db import ChatDbSource

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
            "say say say say body reply reply tapback tapback back edit unsend delete recently late quote quote "
            "unquote twice pause system rename join person chat photo".split()
        )
        chat = some(list(self.chats))
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
            self.changed(what, chat, who, some(known)[1])

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
@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 1 << 30), steps=st.lists(st.integers(0, 12), min_size=1, max_size=5))
def test_any_steps_end_where_one_step_would(
    tmp_path_factory: pytest.TempPathFactory, seed: int, steps: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("life")
    life = Life(folder / "chat.db", seed)
    source = ChatDbSource(folder / "chat.db")
    with Library.open(folder / "stepwise") as stepwise:
        for number, step in enumerate([10, *steps]):
            for _ in range(step):
                life.step()
            stepwise.ingest(source)
            with Library.open(folder / f"at once {number}") as at_once:
                at_once.ingest(source)
                assert content(stepwise) == content(at_once)
    life.made.close()
    shutil.rmtree(folder)
