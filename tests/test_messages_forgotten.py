"""A ``chat.db`` that is read again and again: what was purged stays away, and what is gone there is gone here."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import jarvis_embed as je
import tiny
from apple import ChatDb, body
from jarvis_embed.forgetting import Wish
from jarvis_embed.models.encoder import Encoder
from jarvis_embed.purge import forget
from jarvis_embed.sources import chat_db, chat_marks
from jarvis_embed.sources.chat_db import ChatDbSource
from test_forgetting import traces
from test_incremental import content

ANNA, ANNA_MAIL, BEN = "+15550001", "anna@example.org", "+15550002"
SECRET = "the ocelot sleeps in the attic"


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of two rows: a small history is read in parts, as a large one is."""
    monkeypatch.setattr(chat_marks, "_BLOCK_BITS", 1)
    monkeypatch.setattr(chat_db, "_TOO_MANY", 2.0)


class History(ChatDb):
    """Anna by number and by mail, Ben, and a group of both; forty messages."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.anna, self.ben = self.handle(ANNA, person="anna"), self.handle(BEN)
        self.mail = self.handle(ANNA_MAIL, person="anna")
        self.with_anna = self.chat(ANNA, self.anna)
        self.with_mail = self.chat(ANNA_MAIL, self.mail)
        self.with_ben = self.chat(BEN, self.ben)
        self.group = self.chat("chat1", self.mail, self.ben, group_id="g1", display_name="trip")
        for number in range(10):
            for chat, sender in ((self.with_anna, self.anna), (self.with_ben, self.ben), (self.group, self.mail)):
                self.say(chat, f"{chat} said {number}", sender if number % 2 else None)
            self.say(self.group, f"ben says {number}", self.ben)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[History]:
    made = History(tmp_path / "chat.db")
    yield made
    made.close()


@pytest.fixture
def encoder(home: Path, tiny_folder: Path) -> Encoder:
    return tiny.in_use(home, tiny_folder)


def ingest(home: Path, path: Path) -> je.IngestReport:
    with je.Library.open(home) as library:
        return library.ingest(ChatDbSource(path))


def senders(home: Path) -> set[str]:
    with je.Library.open(home) as library:
        return {message.sender for conversation in library.conversations() for message in conversation.messages}


def keys(home: Path) -> set[str]:
    with je.Library.open(home) as library:
        return {key for (key,) in library._db.execute("SELECT key FROM conversation")}


@pytest.mark.parametrize("name", [ANNA, ANNA_MAIL])
def test_a_purged_contact_stays_away_through_an_incremental_ingest(
    made: History, home: Path, encoder: Encoder, name: str
) -> None:
    """By whichever of their handles they were purged, and write again."""
    ingest(home, made.path)
    je.build(encoder, home)
    forget(home, Wish(contact=name))
    assert (senders(home), keys(home)) == ({"me", BEN}, {BEN, "chat1"})
    made.say(made.with_anna, SECRET, made.anna)
    made.say(made.with_anna, SECRET)  # by the owner, to the contact
    made.say(made.with_mail, SECRET, made.mail)
    made.say(made.group, SECRET, made.anna)
    made.say(made.group, "still here", made.ben)
    report = ingest(home, made.path)
    assert (report.read < 25, report.new, report.forgotten >= 4) == (True, 1, True)
    assert (senders(home), keys(home)) == ({"me", BEN}, {BEN, "chat1"})
    je.build(encoder, home)
    assert traces(home, [SECRET, ANNA, ANNA_MAIL], encoder) == []


def test_what_is_remembered_of_a_source_names_nobody(made: History, home: Path) -> None:
    made.say(made.with_anna, f"Liked “{made.with_anna} said 3”")  # a conversation that is kept in mind by its key
    made.say(made.with_anna, "ok", made.anna)
    ingest(home, made.path)
    with je.Library.open(home) as library:
        (state,) = library._db.execute("SELECT state FROM source").fetchone()
    assert not any(name.encode() in zlib.decompress(state) for name in (ANNA, ANNA_MAIL, BEN, "chat1"))


def test_a_purged_contact_stays_away_when_a_handle_is_found_to_be_theirs(made: History, home: Path) -> None:
    stranger = made.handle("+15550003")
    chat = made.chat("+15550003", stranger)
    made.say(chat, "it is me", stranger)
    ingest(home, made.path)
    with je.Library.open(home) as library:
        library.forget(Wish(contact=ANNA))
    assert "+15550003" in senders(home)
    made.db.execute("UPDATE handle SET person_centric_id = 'anna' WHERE ROWID = ?", (stranger,))
    ingest(home, made.path)
    assert (senders(home), keys(home)) == ({"me", BEN}, {BEN, "chat1"})


def test_a_purged_time_stays_away_through_an_incremental_ingest(made: History, home: Path) -> None:
    ingest(home, made.path)
    with je.Library.open(home) as library:
        middle = made.clock - 20_000
        removed = library.forget(Wish(before_ms=middle)).messages
        assert 0 < removed < 40
    made.tapback(made.with_ben, 2, 2000, made.ben)  # so that rows from before are read again
    made.say(made.with_ben, "new")
    report = ingest(home, made.path)
    assert (report.new, report.forgotten > 0) == (1, True)
    with je.Library.open(home) as library:
        assert all(m.sent_ms >= middle for c in library.conversations() for m in c.messages)


@pytest.mark.parametrize("name", [ANNA, ANNA_MAIL, BEN])
def test_read_in_parts_or_at_once_the_same_is_left_out(made: History, home: Path, tmp_path: Path, name: str) -> None:
    ingest(home, made.path)
    with je.Library.open(home) as library, je.Library.open(tmp_path / "other") as other:
        library.forget(Wish(contact=name))
        other.ingest(ChatDbSource(made.path))
        other.forget(Wish(contact=name))
        other.remember(Wish(before_ms=0))  # so that all of it is read again
        for chat, sender in ((made.with_anna, made.anna), (made.group, made.mail), (made.group, made.ben)):
            made.say(chat, "hey", sender)
            made.say(chat, "hi")
            made.reply(chat, "yes", 4, sender)
            library.ingest(ChatDbSource(made.path))
        other.ingest(ChatDbSource(made.path))
        assert content(library)[:2] == content(other)[:2]


def test_a_purge_that_is_taken_back_reads_everything_again(made: History, home: Path) -> None:
    before = ingest(home, made.path).new
    with je.Library.open(home) as library:
        library.forget(Wish(contact=ANNA))
        assert library.remember(Wish(contact=ANNA))
    ingest(home, made.path)
    with je.Library.open(home) as library:
        assert library.counts().messages == before


def edit(made: History, row: int) -> None:
    made.edit(row, "nothing")


def edit_text(made: History, row: int) -> None:
    made.update(row, text="nothing", attributedBody=body("nothing"), date_edited=1)


def unsend(made: History, row: int) -> None:
    made.unsend(row)


def delete(made: History, row: int) -> None:
    made.delete(row)


def recently_delete(made: History, row: int) -> None:
    made.recently_delete(made.with_ben, row)


@pytest.mark.parametrize("from_body", [False, True])
@pytest.mark.parametrize("change", [edit, edit_text, unsend, delete, recently_delete])
def test_what_is_changed_or_gone_there_leaves_no_trace_here(
    made: History, home: Path, encoder: Encoder, change: Callable[[History, int], None], from_body: bool
) -> None:
    made.say(made.with_ben, "tell me")
    row = made.say(
        made.with_ben, None if from_body else SECRET, made.ben, attributedBody=body(SECRET) if from_body else None
    )
    made.say(made.with_ben, "really?")
    ingest(home, made.path)
    je.build(encoder, home)
    made.say(made.with_ben, "and more", made.ben)
    made.say(made.with_ben, "oh")
    ingest(home, made.path)
    je.build(encoder, home)  # a delta, so that two generations hold it
    assert {name for _, name in traces(home, [SECRET], encoder)} >= {"library.db", "vectors.safetensors"}
    change(made, row)
    report = ingest(home, made.path)
    assert (report.changed + report.removed, report.read < 20) == (1, True)
    je.build(encoder, home)
    assert traces(home, [SECRET], encoder) == []


def test_a_tapback_costs_no_build_of_everything(made: History, home: Path, encoder: Encoder) -> None:
    ingest(home, made.path)
    je.build(encoder, home)
    made.tapback(made.with_ben, 2, 2000, made.ben)
    made.say(made.with_ben, "are you home?", made.ben)
    made.say(made.with_ben, "not yet")
    report = ingest(home, made.path)
    assert (report.changed, report.new) == (1, 2)
    assert je.build(encoder, home).delta > 0
