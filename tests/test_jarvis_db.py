"""The pairs of the host assistant come out as the pairs they are."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

import jarvis_embed as je
from jarvis_embed.conversations.pairs import pair_positions, pairs_of
from jarvis_embed.conversations.selection import select_pairs
from jarvis_embed.conversations.turns import turns_of
from jarvis_embed.errors import SourceForeign
from jarvis_embed.forgetting import Wish
from jarvis_embed.library import Library
from jarvis_embed.messages import EARLIER
from jarvis_embed.purge import forget, would_forget
from jarvis_embed.sources.jarvis_db import JarvisDbSource

CONTACTS = (
    "CREATE TABLE contacts (id INTEGER PRIMARY KEY, chat_id TEXT UNIQUE, display_name TEXT NOT NULL, "
    "phone_or_email TEXT, handles_json TEXT, relationship TEXT, style_notes TEXT, created_at TIMESTAMP)"
)
OLD_PAIRS = (
    "CREATE TABLE pairs (id INTEGER PRIMARY KEY, contact_id INTEGER REFERENCES contacts(id), "
    "trigger_text TEXT NOT NULL, response_text TEXT NOT NULL, trigger_timestamp TIMESTAMP, "
    "response_timestamp TIMESTAMP, chat_id TEXT, "
    "trigger_msg_id INTEGER, response_msg_id INTEGER, quality_score REAL DEFAULT 1.0, flags_json TEXT"
)
PAIRS = OLD_PAIRS + (
    ", context_text TEXT, is_group BOOLEAN DEFAULT FALSE, is_holdout BOOLEAN DEFAULT FALSE, "
    "gate_a_passed BOOLEAN, UNIQUE(trigger_msg_id, response_msg_id))"
)


class Host:
    """The host's database, filled by a test."""

    def __init__(self, path: Path, pairs: str = PAIRS) -> None:
        self.path = path
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute(CONTACTS)
        self.db.execute(pairs)
        handles = json.dumps(["+1555", "anna@x.org"])
        self.db.execute(
            "INSERT INTO contacts VALUES (1, 'chat1', 'Anna', '+1555', ?, 'friend', NULL, NULL)", (handles,)
        )
        self.count = 0

    def pair(self, trigger: object, response: object, **values: object) -> None:
        self.count += 1
        columns: dict[str, object] = {
            "contact_id": 1,
            "chat_id": "chat1",
            "trigger_text": trigger,
            "response_text": response,
            "trigger_timestamp": f"2026-03-01 12:{self.count:02}:00",
            "response_timestamp": f"2026-03-01 12:{self.count:02}:30",
            "trigger_msg_id": 2 * self.count,
            "response_msg_id": 2 * self.count + 1,
        } | values
        marks = ",".join("?" * len(columns))
        self.db.execute(f"INSERT INTO pairs ({','.join(columns)}) VALUES ({marks})", list(columns.values()))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "jarvis.db")


def pairs(path: Path, home: Path) -> list[je.Pair]:
    with Library.open(home) as library:
        library.ingest(JarvisDbSource(path))
        return sorted(library.pairs(), key=lambda pair: pair.trigger_ms)


def test_pairs_come_out_as_pairs(host: Host, home: Path) -> None:
    host.pair("lunch?\ntoday", "sure")
    host.pair("where?", "at Rosa's")
    first, second = pairs(host.path, home)
    assert (first.trigger, first.response, first.holdout) == ("lunch?\ntoday", "sure", False)
    assert (second.context, second.trigger, second.response) == (("lunch?\ntoday", "sure"), "where?", "at Rosa's")
    assert (first.trigger_sender, first.response_sender) == ("+1555", "me")
    assert first.trigger_ms == 1_772_366_460_000


def test_what_is_held_out_is_marked_and_the_rest_is_not(host: Host, home: Path) -> None:
    host.pair("lunch?", "sure")
    host.pair("where?", "at Rosa's", is_holdout=True)
    assert [(pair.trigger, pair.holdout) for pair in pairs(host.path, home)] == [("lunch?", False), ("where?", True)]


def test_the_contact_gives_name_and_people(host: Host) -> None:
    host.pair("lunch?", "sure", is_group=True)
    (conversation,) = JarvisDbSource(host.path).conversations()
    assert (conversation.key, conversation.name, conversation.is_group) == ("chat1", "Anna", True)
    assert conversation.people == ("+1555", "anna@x.org")


def test_newer_columns_may_be_missing(tmp_path: Path, home: Path) -> None:
    host = Host(tmp_path / "old.db", OLD_PAIRS + ")")
    host.pair("lunch?", "sure")
    (pair,) = pairs(host.path, home)
    assert (pair.trigger, pair.holdout) == ("lunch?", False)


def test_only_the_texts_are_needed(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "small.db") as small:
        small.execute("CREATE TABLE pairs (trigger_text TEXT, response_text TEXT, trigger_timestamp TEXT)")
        small.execute(
            "INSERT INTO pairs VALUES ('hey', 'hi', '2026-03-01T12:00:00Z'), ('ok', 'bye', '2026-03-01T13:00:00Z')"
        )
    small.close()
    (conversation,) = JarvisDbSource(tmp_path / "small.db").conversations()
    assert [m.text for m in conversation.messages] == ["hey", "hi", "ok", "bye"]


def test_a_pair_that_shares_a_message_with_another_stays_a_pair(host: Host, home: Path) -> None:
    host.pair("lunch?", "sure", trigger_msg_id=1, response_msg_id=2)
    host.pair("lunch?", "or tea?", trigger_msg_id=1, response_msg_id=3)
    assert [(p.trigger, p.response) for p in pairs(host.path, home)] == [("lunch?", "sure"), ("lunch?", "or tea?")]


@pytest.mark.parametrize(
    ("stated", "kept"),
    [(0.4, 0.4), (0, 0.0), (1.7, 1.0), (-3, 0.0), (None, None), ("good", None), (float("inf"), None)],
)
def test_how_good_a_reply_is_stands_with_the_response(host: Host, home: Path, stated: object, kept: object) -> None:
    host.pair("lunch?", "sure", quality_score=stated)
    (conversation,) = JarvisDbSource(host.path).conversations()
    assert [message.quality for message in conversation.messages] == [None, kept]
    assert [pair.quality for pair in pairs(host.path, home)] == [kept]


@pytest.mark.parametrize(
    ("stated", "kept"),
    [
        ('{"topic_shift": true, "group_chat": true, "emoji_only": false}', ("group_chat", "topic_shift")),
        ('{"semantic_similarity": 0.4, "unrelated_proper_nouns": ["anna"]}', ()),
        ('["spam", "automated", "spam", 3]', ("automated", "spam")),
        ('["\\ud800"]', ("?",)),
        ("not JSON", ()),
        (None, ()),
    ],
)
def test_flags_are_what_is_true_of_the_response(host: Host, home: Path, stated: object, kept: object) -> None:
    host.pair("lunch?", "sure", flags_json=stated)
    assert [pair.flags for pair in pairs(host.path, home)] == [kept]


def test_a_pair_is_judged_the_same_with_and_without_a_library(host: Host, home: Path) -> None:
    host.pair("lunch?", "sure", quality_score=0.4, flags_json='["spam"]', context_text="[Them]: hungry")
    (conversation,) = JarvisDbSource(host.path).conversations()
    (pair,) = pairs_of("chat1", list(turns_of(conversation.messages)))
    (stored,) = pairs(host.path, home)
    assert (pair.quality, pair.flags, pair.context) == (0.4, ("spam",), ("hungry",))
    assert (stored.quality, stored.flags, stored.context) == (pair.quality, pair.flags, pair.context)


def test_another_judgement_is_an_edit_that_costs_no_vector(host: Host, home: Path) -> None:
    host.pair("lunch?", "sure")
    with Library.open(home) as library:
        library.ingest(JarvisDbSource(host.path))
        before = (library.revision, library.forgot_revision, list(library.pair_ids()))
        for column, value in (("quality_score", 0.1), ("flags_json", '["spam"]')):
            host.db.execute(f"UPDATE pairs SET {column} = ?", (value,))
            report = library.ingest(JarvisDbSource(host.path))
            assert (report.new, report.changed, report.removed) == (0, 1, 0)
        assert [(pair.quality, pair.flags) for pair in library.pairs()] == [(0.1, ("spam",))]
        assert (library.revision, library.forgot_revision, list(library.pair_ids())) == before


def test_what_the_host_finds_to_be_no_reply_is_not_learnt_from(host: Host, home: Path) -> None:
    host.pair("lunch?", "sure, when?")
    host.pair("where to?", "my car broke down", quality_score=0.1)
    host.pair("and who comes?", "your code is 1234", flags_json='{"automated": true}')
    found = select_pairs(pairs(host.path, home))
    assert [pair.trigger for pair in found.pairs] == ["lunch?"]
    assert found.report.dropped == {"low quality": 1, "flagged by the source": 1}


def test_what_was_said_before_a_pair_is_its_context(host: Host, home: Path) -> None:
    host.pair("lunch?", "sure", context_text="[Them]: hey\nlong day\n[You]: same here")
    (pair,) = pairs(host.path, home)
    assert (pair.context, pair.trigger, pair.response) == (("hey\nlong day\nsame here",), "lunch?", "sure")
    (conversation,) = JarvisDbSource(host.path).conversations()
    earlier, trigger, _ = conversation.messages
    assert (earlier.key, earlier.sender, earlier.is_from_me) == ("pair 1 context", EARLIER, False)
    assert earlier.sent_ms == trigger.sent_ms - 1


def test_what_is_a_message_already_is_not_said_again_in_a_context(host: Host, home: Path) -> None:
    host.pair("lunch?\ntoday", "sure", context_text="[Them]: hey")
    host.pair("where?", "at Rosa's", context_text="[Them]: hey\n[Them]: Lunch?\ntoday\n[You]: sure\n\n[Them]: great")
    host.pair("when?", "at 8", context_text="[Them]: great\n[Them]: where?\n[You]: at  Rosa's")
    first, second, third = pairs(host.path, home)
    assert first.context == ("hey",)
    assert second.context == ("lunch?\ntoday", "sure", "great")
    assert third.context == ("great", "where?", "at Rosa's")


def test_a_context_is_no_side_of_any_pair_and_nobody_to_talk_with(host: Host, home: Path) -> None:
    host.pair("lunch?", "sure", context_text="hungry")
    host.pair("where?", "at Rosa's", context_text="the usual", trigger_timestamp=None, is_holdout=True)
    host.pair("lunch?", "or tea?", context_text="thirsty", trigger_msg_id=2)
    (conversation,) = JarvisDbSource(host.path).conversations()
    turns = list(turns_of(conversation.messages))
    sides = [(turns[trigger].text, turns[response].text) for trigger, response in pair_positions(turns)]
    assert sides == [("lunch?", "sure"), ("where?", "at Rosa's"), ("lunch?", "or tea?")]
    assert [(turn.text, turn.holdout) for turn in turns if turn.sender == EARLIER] == [
        ("hungry", False),
        ("the usual", True),
        ("thirsty", False),
    ]
    pairs(host.path, home)
    with Library.open(home) as library:
        assert library.senders() == ["+1555", "me"]


def held(home: Path, text: str) -> bool:
    return any(text.encode() in path.read_bytes() for path in home.rglob("*") if path.is_file())


@pytest.mark.parametrize("wish", [Wish(contact="Anna"), Wish(contact="+1555"), Wish(before_ms=1_772_366_500_000)])
@pytest.mark.parametrize("contact", [1, None])
def test_a_context_is_forgotten_with_its_contact_and_by_date(
    host: Host, home: Path, wish: Wish, contact: int | None
) -> None:
    chat = "chat1" if contact else "+1555" if wish.contact == "+1555" else "Anna"
    host.pair("lunch?", "sure", context_text="the xylophone", contact_id=contact, chat_id=chat)
    pairs(host.path, home)
    assert held(home, "the xylophone")
    assert would_forget(home, wish).messages == 3
    assert forget(home, wish).messages == 3
    assert not held(home, "the xylophone")
    assert pairs(host.path, home) == []
    assert not held(home, "the xylophone")


def test_in_a_group_a_context_may_be_of_the_contact_and_goes_with_what_they_wrote(host: Host, home: Path) -> None:
    host.pair("lunch?", "sure", context_text="the xylophone", is_group=True)
    pairs(host.path, home)
    assert forget(home, Wish(contact="+1555")).messages == 2
    assert not held(home, "the xylophone")
    with Library.open(home) as library:
        library.ingest(JarvisDbSource(host.path))
        assert [message.text for message in next(library.conversations()).messages] == ["sure"]
    assert not held(home, "the xylophone")


def test_what_cannot_be_read_is_counted(host: Host) -> None:
    host.pair("lunch?", "sure")
    host.pair(b"\x00", "sure")
    host.pair(" ", "sure")
    host.pair("photo", "sure", flags_json='{"attachment_only": true}')
    host.pair("when?", "12", trigger_timestamp="soon", response_timestamp=None)
    source = JarvisDbSource(host.path)
    (conversation,) = source.conversations()
    assert [m.text for m in conversation.messages] == ["lunch?", "sure"]
    assert source.unreadable == {"no text": 1, "empty text": 1, "attachment only": 1, "no usable time": 1}


def test_it_is_known_by_its_tables_and_only_read(host: Host) -> None:
    host.pair("lunch?", "sure")
    host.db.close()
    before = host.path.read_bytes()
    assert list(je.sources.open(host.path).conversations())
    assert je.sources.open(host.path).kind == "jarvis.db"
    assert host.path.read_bytes() == before
    assert [path.name for path in host.path.parent.iterdir() if path.is_file()] == ["jarvis.db"]


def test_another_database_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE pairs (left_shoe, right_shoe)")
    other.close()
    with pytest.raises(SourceForeign, match="pairs lacks response_text, trigger_text"):
        JarvisDbSource(tmp_path / "other.db")
