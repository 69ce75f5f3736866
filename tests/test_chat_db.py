"""What Messages keeps in ``chat.db``, fact by fact."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import apple
import jarvis_embed as je
from apple import ChatDb, Generation, body, nanoseconds
from jarvis_embed.errors import (
    DiskFull,
    SourceDamaged,
    SourceError,
    SourceForeign,
    SourceLocked,
    SourceMissing,
    SourceNotPermitted,
)
from jarvis_embed.messages import Conversation, Message, Tapback
from jarvis_embed.sources import database
from jarvis_embed.sources.chat_db import ChatDbSource


@pytest.fixture
def made(tmp_path: Path) -> Iterator[ChatDb]:
    made = ChatDb(tmp_path / "chat.db")
    yield made
    made.close()


@pytest.fixture
def anna(made: ChatDb) -> int:
    return made.handle("+1555")


@pytest.fixture
def chat(made: ChatDb, anna: int) -> int:
    return made.chat("+1555", anna)


def read(made: ChatDb) -> tuple[list[Conversation], Counter[str]]:
    source = ChatDbSource(made.path)
    return list(source.conversations()), source.unreadable


def messages(made: ChatDb) -> list[Message]:
    """The messages of the only conversation."""
    (conversation,), _ = read(made)
    return list(conversation.messages)


def texts(made: ChatDb) -> list[str]:
    return [message.text for message in messages(made)]


class TestGenerations:
    """Three schemas, real conversations."""

    @pytest.mark.parametrize("generation", apple.GENERATIONS)
    @pytest.mark.parametrize("bodies", [False, True], ids=["text", "attributedBody"])
    def test_conversations_come_out_as_they_were_said(
        self, tmp_path: Path, generation: Generation, bodies: bool
    ) -> None:
        pytest.importorskip("chitchat_dataset")
        said = [c for c, _ in zip(je.sources.open("chitchat").conversations(), range(20), strict=False)]
        made = ChatDb(tmp_path / "chat.db", generation)
        for number, conversation in enumerate(said):
            handle = made.handle(f"+1555{number}")
            chat = made.chat(f"+1555{number}", handle)
            me = conversation.messages[0].sender
            for message in conversation.messages:
                sender = None if message.sender == me else handle
                made.say(chat, None if bodies else message.text, sender, attributedBody=body(message.text))
        source = ChatDbSource(made.path)
        found = list(source.conversations())
        made.close()
        assert [[m.text for m in c.messages] for c in found] == [[m.text for m in c.messages] for c in said]
        assert [[m.is_from_me for m in c.messages] for c in found] == [
            [m.sender == c.messages[0].sender for m in c.messages] for c in said
        ]
        assert source.unreadable == {}
        column = "attributedBody" if bodies else "text"
        assert source.text_from == {column: sum(len(c.messages) for c in said)}

    @pytest.mark.parametrize("generation", apple.GENERATIONS)
    def test_the_kind_is_told_by_the_tables_whatever_the_name(self, tmp_path: Path, generation: Generation) -> None:
        made = ChatDb(tmp_path / "backup.bin", generation)
        assert je.sources.open(made.path).kind == "chat.db"
        made.close()


class TestTexts:
    """Where the text is, and whether it is one."""

    def test_placeholders_of_attachments_are_removed(self, made: ChatDb, chat: int) -> None:
        made.say(chat, "\ufffc look at\ufffd this")
        made.say(chat, None, attributedBody=body("so \ufffccute", [(3, {apple.PART: 0}), (5, {apple.PART: 1})]))
        assert texts(made) == ["look at this", "so cute"]

    def test_after_an_edit_the_body_is_right_and_the_column_may_be_stale(self, made: ChatDb, chat: int) -> None:
        row = made.say(chat, "luhcn?")
        made.edit(row, "lunch?")
        (message,) = messages(made)
        assert (message.text, message.edited_ms) == ("lunch?", made.clock)

    def test_an_edit_without_a_body_has_its_text_in_the_column(self, made: ChatDb, chat: int) -> None:
        made.say(chat, "lunch?", date_edited=nanoseconds(made.clock))
        assert texts(made) == ["lunch?"]

    def test_unsent_messages_are_left_out_even_where_the_column_still_has_them(self, made: ChatDb, chat: int) -> None:
        made.unsend(made.say(chat, "oops"))
        made.say(chat, "oops", date_retracted=nanoseconds(made.clock))
        made.say(chat, "oops", attributedBody=body(""), date_edited=nanoseconds(made.clock))
        assert read(made) == ([], {"unsent": 3})

    def test_of_a_message_partly_unsent_the_rest_stays(self, made: ChatDb, chat: int) -> None:
        when = nanoseconds(made.clock)
        made.say(chat, "two parts", attributedBody=body("parts"), date_retracted=when, part_count=2)
        assert texts(made) == ["parts"]

    def test_a_link_preview_is_a_message_and_other_balloons_are_not(self, made: ChatDb, chat: int) -> None:
        made.say(chat, "https://example.org", balloon_bundle_id=apple.URL_PREVIEW)
        made.say(chat, "\ufffd", balloon_bundle_id="com.apple.messages.MSMessageExtensionBalloonPlugin:0:game")
        (conversation,), unreadable = read(made)
        assert [m.text for m in conversation.messages] == ["https://example.org"]
        assert unreadable == {"app message": 1}

    def test_what_is_no_message_is_counted_by_its_cause(self, made: ChatDb, chat: int, anna: int) -> None:
        made.say(chat, "\ufffc", anna, cache_has_attachments=1)
        made.say(chat, None, anna, cache_has_attachments=1)
        made.say(chat, None, item_type=2, group_title="we")
        made.say(chat, None, item_type=1, group_action_type=1)
        made.say(chat, "\ufffc", anna, associated_message_type=1000, associated_message_guid="GUID-1")
        made.say(chat, None)
        made.say(chat, None, attributedBody=b"\x04\x0bstreamtyped garbage")
        made.say(chat, "when?", date=None)
        made.say(None, "in no chat at all")
        made.recently_delete(chat, made.say(chat, "deleted"))
        conversations, unreadable = read(made)
        assert conversations == []
        assert unreadable == {
            "attachment only": 2,
            "system row": 2,
            "sticker": 1,
            "no text": 1,
            "attributedBody not readable": 1,
            "no usable time": 1,
            "in no chat": 1,
            "recently deleted": 1,
        }

    def test_a_deleted_message_that_still_stands_in_its_chat_is_left_out(self, made: ChatDb, chat: int) -> None:
        row = made.say(chat, "deleted")
        made.recently_delete(chat, row)
        made.join(chat, row)
        assert read(made) == ([], {"recently deleted": 1})

    def test_a_message_of_fifty_megabytes_is_counted(self, made: ChatDb, chat: int) -> None:
        made.say(chat, "x" * 50_000_000)
        made.say(chat, None, attributedBody=body("é" * 25_000_000))
        assert read(made) == ([], {"longer than 1,000,000 characters": 2})

    def test_a_row_of_nothing_but_null_and_columns_of_the_wrong_type_are_counted(self, tmp_path: Path) -> None:
        path = tmp_path / "chat.db"
        made = ChatDb(path)
        anna = made.handle("+1555")
        chat = made.chat("+1555", anna)
        made.say(chat, "whole")
        made.db.execute("DROP TABLE message")
        made.db.execute(f"CREATE TABLE message ({apple._MESSAGE_15.replace(' NOT NULL', '')})")
        made.db.execute("INSERT INTO message (ROWID) VALUES (1)")
        made.db.execute("INSERT INTO chat_message_join VALUES (NULL, NULL, NULL), (1, NULL, 0), (7, 1, 0), (1, 99, 0)")
        made.say(chat, "wrong", date="yesterday")
        made.say(chat, "wrong", handle_id="x'", associated_message_type="many")
        made.say(chat, "whole too", handle_id=b"\x00", part_count="two")
        made.close()
        source = ChatDbSource(path)
        (conversation,) = source.conversations()
        assert [m.text for m in conversation.messages] == ["whole too"]
        assert sum(source.unreadable.values()) == 3

    def test_text_that_is_not_utf8_loses_only_the_bad_bytes(self, made: ChatDb, chat: int) -> None:
        row = made.say(chat, "x")
        made.db.execute("UPDATE message SET text = CAST(x'6f6bff' AS TEXT) WHERE ROWID = ?", (row,))
        assert texts(made) == ["ok"]


class TestTimes:
    """Apple's epoch, in two units."""

    def test_seconds_and_nanoseconds_mix_within_one_file(self, made: ChatDb, chat: int) -> None:
        made.say(chat, "2016", date=500_000_000)
        made.say(chat, "2023", date=700_000_000_123_456_789)
        assert [m.sent_ms for m in messages(made)] == [1_478_307_200_000, 1_678_307_200_123]

    def test_messages_are_ordered_by_time_and_equal_times_by_rowid(self, made: ChatDb, chat: int) -> None:
        for text, date in (("c", 2), ("a", 1), ("d", 2), ("b", 1)):
            made.say(chat, text, date=date)
        assert texts(made) == ["a", "b", "c", "d"]

    @pytest.mark.parametrize("date", [0, -5, 1 << 62, 1e300, float("inf")])
    def test_an_impossible_time_is_counted(self, made: ChatDb, chat: int, date: float) -> None:
        made.say(chat, "when?", date=date)
        assert read(made) == ([], {"no usable time": 1})


class TestPeople:
    """Who is who, by what the database says and nothing else."""

    def test_the_owner_and_the_other(self, made: ChatDb, chat: int, anna: int) -> None:
        made.say(chat, "lunch?", anna)
        made.say(chat, "sure")
        (conversation,), _ = read(made)
        assert [(m.sender, m.is_from_me) for m in conversation.messages] == [("+1555", False), ("me", True)]
        assert (conversation.key, conversation.people, conversation.is_group) == ("+1555", ("+1555",), False)

    def test_a_phone_and_a_mail_address_are_one_person_if_the_database_says_so(self, made: ChatDb) -> None:
        phone, mail = made.handle("+1555", person="anna"), made.handle("anna@x.org", person="anna")
        made.say(made.chat("+1555", phone), "lunch?", phone)
        made.say(made.chat("anna@x.org", mail), "today?", mail)
        (conversation,), _ = read(made)
        assert [(m.sender, m.text) for m in conversation.messages] == [("+1555", "lunch?"), ("+1555", "today?")]
        assert conversation.people == ("+1555", "anna@x.org")

    def test_without_that_they_are_two(self, made: ChatDb) -> None:
        for name in ("+1555", "anna@x.org"):
            handle = made.handle(name)
            made.say(made.chat(name, handle, display_name="Anna"), "lunch?", handle)
        conversations, _ = read(made)
        assert [c.key for c in conversations] == ["+1555", "anna@x.org"]

    def test_one_number_under_sms_and_imessage_is_one_person(self, made: ChatDb) -> None:
        for service in ("iMessage", "SMS"):
            handle = made.handle("+1555", service)
            made.say(made.chat("+1555", handle, service=service), service, handle)
        assert texts(made) == ["iMessage", "SMS"]

    def test_a_group_has_its_name_and_people(self, made: ChatDb, anna: int) -> None:
        ben = made.handle("ben@x.org")
        group = made.chat("chat123", anna, ben, display_name="'); DROP TABLE message; --")
        made.say(group, "who's in?", anna)
        made.say(group, "me", ben)
        (conversation,), _ = read(made)
        assert (conversation.key, conversation.is_group) == ("chat123", True)
        assert conversation.people == ("+1555", "ben@x.org")
        assert conversation.name == "'); DROP TABLE message; --"
        assert [m.sender for m in conversation.messages] == ["+1555", "ben@x.org"]

    def test_groups_are_merged_by_their_group_id_not_by_who_is_in_them(self, made: ChatDb, anna: int) -> None:
        ben = made.handle("ben@x.org")
        for number, group_id in enumerate(("g1", "g1", "g2", None)):
            chat = made.chat(f"chat{number}", anna, ben, group_id=group_id)
            made.say(chat, f"in {number}", anna)
        conversations, _ = read(made)
        assert [[m.text for m in c.messages] for c in conversations] == [["in 0", "in 1"], ["in 2"], ["in 3"]]

    def test_a_missing_handle_is_the_other_or_unknown(self, made: ChatDb, chat: int, anna: int) -> None:
        made.say(chat, "hey", is_from_me=0)
        group = made.chat("chat123", anna, made.handle("ben@x.org"))
        made.say(group, "hi", handle_id=99, is_from_me=0)
        conversations, _ = read(made)
        assert [c.messages[0].sender for c in conversations] == ["+1555", "unknown"]

    def test_a_message_in_two_chats_is_read_once(self, made: ChatDb, chat: int, anna: int) -> None:
        row = made.say(chat, "hey", anna)
        made.join(made.chat("+1777", made.handle("+1777")), row)
        made.join(made.chat("+1555", anna, service="SMS"), row)
        assert texts(made) == ["hey"]

    def test_a_message_twice_in_a_join_is_read_once(self, made: ChatDb, chat: int) -> None:
        made.db.execute("DROP TABLE chat_message_join")
        made.db.execute("CREATE TABLE chat_message_join (chat_id INTEGER, message_id INTEGER)")
        made.join(chat, made.say(chat, "hey"))
        assert texts(made) == ["hey"]


class TestTapbacks:
    """Signals about a message, not messages."""

    def kinds(self, made: ChatDb) -> list[str]:
        return [tapback.kind for message in messages(made) for tapback in message.tapbacks]

    def test_they_are_attached_to_their_message(self, made: ChatDb, chat: int, anna: int) -> None:
        lunch = made.say(chat, "lunch?")
        made.say(chat, "or tea?")
        made.tapback(chat, lunch, 2001, anna)
        first, second = messages(made)
        assert first.tapbacks == (Tapback("+1555", "liked", made.clock),)
        assert second.tapbacks == ()

    @pytest.mark.parametrize("prefix", ["p:0/", "p:3/", "bp:", ""])
    def test_a_target_is_named_in_three_ways(self, made: ChatDb, chat: int, anna: int, prefix: str) -> None:
        made.tapback(chat, made.say(chat, "lunch?"), 2000, anna, prefix)
        assert self.kinds(made) == ["loved"]

    def test_every_kind_and_any_emoji(self, made: ChatDb, chat: int, anna: int) -> None:
        for number in range(6):
            made.tapback(chat, made.say(chat, "lunch?"), 2000 + number, anna)
        made.tapback(chat, made.say(chat, "lunch?"), 2006, anna, associated_message_emoji="🍜")
        kinds = ["loved", "liked", "disliked", "laughed", "emphasised", "questioned", "🍜"]
        assert self.kinds(made) == kinds

    def test_what_is_taken_back_is_gone_and_a_new_one_replaces_the_old(
        self, made: ChatDb, chat: int, anna: int
    ) -> None:
        lunch = made.say(chat, "lunch?")
        made.tapback(chat, lunch, 2000, anna)
        made.tapback(chat, lunch, 2003, anna)
        made.tapback(chat, lunch, 2001)
        assert self.kinds(made) == ["laughed", "liked"]
        made.tapback(chat, lunch, 3003, anna)
        assert self.kinds(made) == ["liked"]
        made.tapback(chat, lunch, 2006, anna, associated_message_emoji="🍜")
        made.tapback(chat, lunch, 3006, anna, associated_message_emoji="🍜")
        assert self.kinds(made) == ["liked"]

    def test_one_about_a_photo_is_counted(self, made: ChatDb, chat: int, anna: int) -> None:
        photo = made.say(chat, "\ufffc", cache_has_attachments=1)
        made.tapback(chat, photo, 2000, anna)
        assert read(made)[1] == {"attachment only": 1, "tapback to what was left out": 1}

    def test_a_text_that_quotes_an_earlier_message_is_one(self, made: ChatDb, chat: int, anna: int) -> None:
        made.say(chat, "lunch?")
        made.say(chat, "Liked “lunch?”", anna)
        made.say(chat, "Laughed at “what nobody said”", anna)
        first, second = messages(made)
        assert [t.kind for t in first.tapbacks] == ["liked"]
        assert second.text == "Laughed at “what nobody said”"

    def test_a_text_can_take_one_back(self, made: ChatDb, chat: int, anna: int) -> None:
        made.say(chat, "lunch?")
        made.say(chat, "Loved “lunch?”", anna)
        made.say(chat, "Removed a heart from “lunch?”", anna)
        assert [(m.text, m.tapbacks) for m in messages(made)] == [("lunch?", ())]

    def test_a_later_message_is_not_what_it_quotes(self, made: ChatDb, chat: int, anna: int) -> None:
        made.say(chat, "Liked “lunch?”", anna)
        made.say(chat, "lunch?")
        assert len(texts(made)) == 2


class TestReplies:
    """Exact links."""

    def test_a_reply_names_what_it_answers(self, made: ChatDb, chat: int, anna: int) -> None:
        lunch = made.say(chat, "lunch?", anna)
        made.say(chat, "did you see the game?", anna)
        made.reply(chat, "sure", lunch)
        assert [m.reply_to for m in messages(made)] == [None, None, "GUID-1"]
        with je.Library.open() as library:
            library.ingest(ChatDbSource(made.path))
            (pair,) = library.pairs()
            assert (pair.trigger, pair.response) == ("lunch?\ndid you see the game?", "sure")

    def test_reply_to_guid_is_the_row_before_and_no_reply(self, made: ChatDb, chat: int) -> None:
        made.say(chat, "hey")
        made.say(chat, "hi", reply_to_guid="GUID-1")
        assert [m.reply_to for m in messages(made)] == [None, None]

    def test_within_a_thread_an_answer_goes_to_what_was_said_since(self, made: ChatDb, chat: int, anna: int) -> None:
        lunch = made.say(chat, "lunch?", anna)
        for text, sender in (("sure", None), ("when?", None), ("12?", anna), ("ok", None)):
            made.reply(chat, text, lunch, sender)
        answers = {m.text: m.reply_to for m in messages(made)}
        assert answers == {"lunch?": None, "sure": "GUID-1", "when?": "GUID-1", "12?": "GUID-3", "ok": "GUID-4"}

    def test_a_reply_to_what_was_left_out_is_in_no_pair(self, made: ChatDb, chat: int, anna: int) -> None:
        made.say(chat, "what a day", anna)
        made.reply(chat, "nice photo", made.say(chat, "\ufffc", anna, cache_has_attachments=1))
        with je.Library.open() as library:
            library.ingest(ChatDbSource(made.path))
            assert list(library.pairs()) == []


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.suffix != ".lock"}


class TestReadingOnly:
    """Nothing is written, whatever state the file is in."""

    def test_the_newest_rows_are_only_in_the_log_of_a_live_database(self, made: ChatDb, chat: int) -> None:
        made.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        made.say(chat, "new")
        assert b"new" not in made.path.read_bytes()
        before = set(files(made.path.parent))
        assert texts(made) == ["new"]
        assert set(files(made.path.parent)) == before

    def test_a_database_at_rest_stays_alone(self, made: ChatDb, chat: int) -> None:
        made.say(chat, "hey")
        made.close()
        before = files(made.path.parent)
        assert set(before) == {"chat.db"}
        assert texts(made) == ["hey"]
        assert files(made.path.parent) == before

    def test_a_copy_with_its_log_but_without_the_rest(self, made: ChatDb, chat: int, tmp_path: Path) -> None:
        made.say(chat, "hey")
        copy = tmp_path / "copy"
        copy.mkdir()
        for name in ("chat.db", "chat.db-wal"):
            (copy / name).write_bytes((tmp_path / name).read_bytes())
        before = files(copy)
        (conversation,) = ChatDbSource(copy / "chat.db").conversations()
        assert [m.text for m in conversation.messages] == ["hey"]
        assert files(copy) == before

    def test_a_file_that_may_not_be_written_is_read(self, made: ChatDb, chat: int) -> None:
        made.say(chat, "hey")
        made.close()
        made.path.chmod(0o400)
        assert texts(made) == ["hey"]

    def test_a_change_under_a_database_at_rest_is_noticed(self, made: ChatDb, chat: int) -> None:
        made.say(chat, "hey")
        made.close()
        source = ChatDbSource(made.path)
        conversations = source.conversations()
        next(conversations)
        writer = ChatDb(made.path, exists=True)
        writer.say(chat, "new")
        with pytest.raises(SourceLocked, match="Run the same command again"):
            next(conversations)
        assert texts(made) == ["hey", "new"]
        writer.close()

    def test_it_is_read_while_somebody_writes(self, made: ChatDb, chat: int, home: Path) -> None:
        done = threading.Event()
        begun = threading.Event()

        def write() -> None:
            writer = ChatDb(made.path, exists=True)
            while not done.is_set():
                writer.say(chat, "hey")
                begun.set()
            writer.close()

        thread = threading.Thread(target=write)
        thread.start()
        begun.wait(10)
        with je.Library.open(home) as library:
            source = ChatDbSource(made.path)
            for _ in range(10):
                library.ingest(source)
            done.set()
            thread.join()
            library.ingest(source)
            (total,) = made.db.execute("SELECT count(*) FROM message").fetchone()
            assert library.counts().messages == total > 0


class TestWhatIsInTheWay:
    """Each reason is an error of its own, with what to do."""

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(SourceMissing, match="there is no file"):
            je.sources.open(tmp_path / "chat.db")

    def test_a_link_to_itself(self, tmp_path: Path) -> None:
        (tmp_path / "chat.db").symlink_to(tmp_path / "chat.db")
        with pytest.raises(SourceMissing, match="leads to itself"):
            je.sources.open(tmp_path / "chat.db")

    @pytest.mark.parametrize(("system", "said"), [("darwin", "Full Disk Access"), ("linux", "Change its permissions")])
    def test_not_permitted(self, made: ChatDb, monkeypatch: pytest.MonkeyPatch, system: str, said: str) -> None:
        def refused(*_: object, **__: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(database.sys, "platform", system)
        monkeypatch.setattr(Path, "open", refused)
        with pytest.raises(SourceNotPermitted, match=said):
            ChatDbSource(made.path)

    def test_locked(self, made: ChatDb, monkeypatch: pytest.MonkeyPatch) -> None:
        made.db.execute("PRAGMA journal_mode = DELETE")
        made.db.execute("BEGIN EXCLUSIVE")
        monkeypatch.setattr(database, "_BUSY_SECONDS", 0.05)
        with pytest.raises(SourceLocked, match="locked by another program"):
            ChatDbSource(made.path)
        made.db.execute("ROLLBACK")

    def test_left_in_the_middle_of_a_change(self, made: ChatDb, chat: int, tmp_path: Path) -> None:
        made.db.execute("PRAGMA journal_mode = DELETE")
        made.db.execute("PRAGMA cache_size = 1")
        made.db.execute("BEGIN")
        for _ in range(100):
            made.say(chat, "x" * 1000)
        (tmp_path / "copy").mkdir()
        for name in ("chat.db", "chat.db-journal"):
            (tmp_path / "copy" / name).write_bytes((tmp_path / name).read_bytes())
        made.db.execute("ROLLBACK")
        with pytest.raises(SourceLocked, match="in the middle of a change"):
            ChatDbSource(tmp_path / "copy" / "chat.db")

    def test_a_text_file_that_is_called_so(self, tmp_path: Path) -> None:
        (tmp_path / "chat.db").write_text("my secret diary\n")
        with pytest.raises(SourceDamaged, match="is not a database") as caught:
            ChatDbSource(tmp_path / "chat.db")
        assert "diary" not in str(caught.value)

    def test_another_database(self, tmp_path: Path) -> None:
        with sqlite3.connect(tmp_path / "other.db") as other:
            other.execute("CREATE TABLE recipe (name)")
        other.close()
        with pytest.raises(SourceForeign, match="not a database of Messages"):
            ChatDbSource(tmp_path / "other.db")
        with pytest.raises(SourceForeign, match="neither of Messages nor of Jarvis"):
            je.sources.open(tmp_path / "other.db")

    def test_a_schema_that_is_not_known(self, made: ChatDb) -> None:
        made.db.execute("ALTER TABLE message RENAME COLUMN date TO moment")
        with pytest.raises(SourceForeign, match="message lacks date"):
            ChatDbSource(made.path)

    @pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
    def test_a_truncated_database_changes_nothing(self, made: ChatDb, chat: int, home: Path, share: float) -> None:
        for number in range(300):
            made.say(chat, f"message {number} " * 10, attributedBody=body("x" * 500))
        made.close()
        with je.Library.open(home) as library:
            library.ingest(ChatDbSource(made.path))
            before = library.counts()
            os.truncate(made.path, int(made.path.stat().st_size * share))
            with pytest.raises(SourceError, match="is damaged") as caught:
                library.ingest(ChatDbSource(made.path))
            assert "message 1" not in str(caught.value)
            assert library.counts() == before

    def test_no_flipped_bytes_raise_anything_else(self, made: ChatDb, chat: int, anna: int) -> None:
        for number in range(60):
            row = made.say(chat, None if number % 2 else f"text {number}", anna, attributedBody=body("long text " * 5))
            if number % 5 == 0:
                made.tapback(chat, row, 2000, anna)
                made.reply(chat, "yes", row)
        with ChatDbSource(made.path).changes(None) as changes:
            whole = len([m for c in changes.conversations for m in c.messages])
            state = changes.state()
        made.close()
        good = made.path.read_bytes()
        choose = random.Random(0)
        ends: Counter[str] = Counter()
        for _ in range(500):
            bad = bytearray(good)
            for _ in range(choose.choice((1, 3, 10, 50, 300))):
                bad[choose.randrange(100, len(bad))] = choose.randrange(256)
            made.path.write_bytes(bad)
            try:
                with ChatDbSource(made.path).changes(choose.choice((None, state))) as changes:
                    assert len([m for c in changes.conversations for m in c.messages]) <= whole
                ends["read"] += 1
            except SourceError as error:
                assert "text" not in str(error).replace("lacks text", "")
                ends["refused"] += 1
        assert min(ends["read"], ends["refused"]) > 50

    def test_a_full_disk_is_not_blamed_on_the_source(self, made: ChatDb, chat: int, home: Path) -> None:
        for _ in range(300):
            made.say(chat, "a long message " * 50)
        with je.Library.open(home) as library:
            library._db.execute("PRAGMA max_page_count = 30")  # SQLite reports a full disk beyond it
            with pytest.raises(DiskFull, match="library.db"):
                library.ingest(ChatDbSource(made.path))

    def test_options_that_mean_nothing_are_refused(self, made: ChatDb) -> None:
        with pytest.raises(SourceError, match="--me means nothing"):
            je.sources.open(made.path, me="anna")
