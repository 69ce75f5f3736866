"""Forgetting: what was removed is in no file of the home, and does not come back."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import jarvis_embed as je
import tiny
from jarvis_embed.cli import app
from jarvis_embed.config import load_settings, save_settings
from jarvis_embed.errors import HomeLocked
from jarvis_embed.forgetting import Rules, Wish, plain
from jarvis_embed.home import locked
from jarvis_embed.messages import Conversation, Message
from jarvis_embed.models.encoder import Encoder
from jarvis_embed.purge import forget, purge_all, would_forget
from jarvis_embed.spaces.vector_log import segment_key, text_key
from jarvis_embed.text import normalise

ANNA = ["xylophone dinner tonight", "xylophone at nine", "the zither is late"]
TRIP = ["who drives the quagga home", "quagga snacks for me"]
OLD = ["an ocelot at the movie", "ocelot sorry"]


def line(conversation: str, sender: str, time: int, text: str) -> dict[str, object]:
    return {"conversation": conversation, "sender": sender, "time": time, "text": text}


def talk() -> list[dict[str, object]]:
    """A chat with Anna, a group with her, and a chat with Ben that began long ago; 30 messages of small talk beside."""
    said = [
        line("anna", "Anna", 1_700_000_000, ANNA[0]),
        line("anna", "Robin", 1_700_000_060, ANNA[1]),
        line("anna", "Anna", 1_700_000_120, ANNA[2]),
        line("trip", "Ben", 1_700_001_000, "where are you"),
        line("trip", "Anna", 1_700_001_060, TRIP[0]),
        line("trip", "Robin", 1_700_001_120, "me"),
        line("trip", "Anna", 1_700_001_180, TRIP[1]),
        line("ben", "Ben", 1_500_000_000, OLD[0]),
        line("ben", "Robin", 1_500_000_060, OLD[1]),
    ]
    small = [line("ben", ("Ben", "Robin")[i % 2], 1_700_002_000 + i * 600, f"ok {i} work {i * i}") for i in range(30)]
    return said + small


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "messages.jsonl"
    path.write_text("\n".join(map(json.dumps, talk())))
    return path


def ingest(home: Path, file: Path) -> je.IngestReport:
    with je.Library.open(home) as library:
        return library.ingest(je.sources.open(file, me="Robin"))


@pytest.fixture
def encoder(home: Path, tiny_folder: Path) -> Encoder:
    return tiny.in_use(home, tiny_folder)


@pytest.fixture
def built(home: Path, file: Path, encoder: Encoder) -> Path:
    """A home with two generations, the second of which is a delta."""
    whole = file.read_text()
    file.write_text("\n".join(whole.splitlines()[:-2]))
    ingest(home, file)
    je.build(encoder, home)
    file.write_text(whole)
    ingest(home, file)
    assert je.build(encoder, home).delta > 0
    return home


def turns_of(texts: Iterable[str]) -> list[str]:
    return [*texts, "\n".join(texts)]


def traces(home: Path, texts: Iterable[str], encoder: Encoder) -> list[tuple[str, str]]:
    """Every file of the home that holds one of ``texts`` in any form: bytes, key, or vector."""
    found = []
    for text in texts:
        forms = [text.encode(), text.encode("utf-16-le"), text.encode("utf-16-be"), text_key(normalise(text))]
        forms += [encoder.embed([text])[0].tobytes(), segment_key(text.splitlines())]
        for path in home.rglob("*"):
            content = path.read_bytes() if path.is_file() else b""
            found += [(text, path.name) for form in forms if form in content]
    return found


def test_the_search_for_traces_finds_them(built: Path, encoder: Encoder) -> None:
    kinds = {name for _, name in traces(built, [*ANNA, *TRIP, *OLD], encoder)}
    assert kinds >= {"library.db", "vectors.safetensors"}


def test_a_contact_leaves_no_trace_and_does_not_come_back(built: Path, file: Path, encoder: Encoder) -> None:
    assert would_forget(built, Wish(contact="anna")).messages == 5
    report = forget(built, Wish(contact=" ANNA "))
    assert (report.messages, report.conversations, report.rebuilt) == (5, 1, ("tiny",))
    assert traces(built, [*ANNA, *TRIP], encoder) == []
    assert not any(b"Anna" in path.read_bytes() for path in built.rglob("*") if path.is_file())
    again = ingest(built, file)
    assert (again.new, again.forgotten) == (0, 5)
    je.build(encoder, built)
    assert traces(built, [*ANNA, *TRIP], encoder) == []
    with je.Space.open(home=built, encoder=encoder) as space:
        assert not space.is_stale
        assert {match.pair.conversation for match in space.search("work", k=100)} == {"ben", "trip"}


def test_what_others_wrote_in_a_group_stays(built: Path) -> None:
    forget(built, Wish(contact="Anna"))
    with je.Library.open(built) as library:
        assert [(p.trigger, p.response) for p in library.pairs() if p.conversation == "trip"] == [
            ("where are you", "me")
        ]


def test_a_new_message_of_a_forgotten_contact_is_left_out_too(built: Path, file: Path) -> None:
    forget(built, Wish(contact="Anna"))
    with file.open("a") as more:
        more.write("\n" + json.dumps(line("anna", "Robin", 1_800_000_000, "are you there")))
        more.write("\n" + json.dumps(line("other", "Anna", 1_800_000_000, "yes")))
    report = ingest(built, file)
    assert (report.new, report.forgotten) == (0, 7)


def test_an_old_time_leaves_no_trace_and_does_not_come_back(built: Path, file: Path, encoder: Encoder) -> None:
    assert forget(built, Wish(before_ms=1_600_000_000_000)).messages == 2
    assert traces(built, OLD, encoder) == []
    again = ingest(built, file)
    assert (again.new, again.forgotten) == (0, 2)
    je.build(encoder, built)
    assert traces(built, OLD, encoder) == []


def test_a_rule_can_be_undone(built: Path, file: Path) -> None:
    forget(built, Wish(contact="Anna"))
    with je.Library.open(built) as library:
        assert not library.remember(Wish(contact="Ben"))
        assert library.remember(Wish(contact="anna"))
    assert ingest(built, file).new == 5


def test_what_cannot_be_built_anew_is_removed(built: Path, encoder: Encoder) -> None:
    settings = load_settings(built)
    save_settings(built, settings.model_copy(update={"folders": {}}))
    report = forget(built, Wish(contact="Anna"))
    assert (report.rebuilt, report.removed) == ((), ("tiny",))
    assert traces(built, [*ANNA, *TRIP], encoder) == []


def test_forgetting_everything_that_makes_a_pair_removes_the_space(built: Path, encoder: Encoder) -> None:
    report = forget(built, Wish(before_ms=2_000_000_000_000))
    assert report.removed == ("tiny",)
    assert traces(built, [str(said["text"]) for said in talk() if len(str(said["text"])) > 5], encoder) == []


def test_a_purge_that_was_killed_is_finished_by_the_same_purge(
    built: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("jarvis_embed.purge.build", die)
        with pytest.raises(KeyboardInterrupt):
            forget(built, Wish(contact="Anna"))
    assert would_forget(built, Wish(contact="Anna")).messages == 0
    forget(built, Wish(contact="Anna"))
    assert traces(built, [*ANNA, *TRIP], encoder) == []


def test_a_log_of_a_build_that_was_killed_is_removed(
    built: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("jarvis_embed.spaces.build.write_artifact", die)
        with pytest.raises(KeyboardInterrupt):
            je.build(encoder, built, force=True)
    assert any(name.endswith(".log") for _, name in traces(built, ANNA, encoder))
    forget(built, Wish(contact="Anna"))
    assert traces(built, ANNA, encoder) == []


def test_a_reader_that_holds_the_log_is_named_as_the_reason(built: Path, encoder: Encoder) -> None:
    reader = sqlite3.connect(built / "embeddings" / "library.db")
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM message").fetchone()
    opened = je.Library.open

    def impatient(home: Path) -> je.Library:
        library = opened(home)
        library._db.execute("PRAGMA busy_timeout = 50")
        return library

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(je.Library, "open", impatient)
        with pytest.raises(HomeLocked, match="purge again"):
            forget(built, Wish(contact="Anna"))
    reader.close()
    assert would_forget(built, Wish(contact="Anna")).messages == 0
    forget(built, Wish(contact="Anna"))
    assert traces(built, [*ANNA, *TRIP], encoder) == []


@pytest.mark.parametrize("how", ["edited", "removed"])
def test_what_the_source_does_not_have_any_more_leaves_with_the_next_ingest_and_build(
    built: Path, file: Path, encoder: Encoder, how: str
) -> None:
    whole = file.read_text()
    file.write_text(
        whole.replace(TRIP[0], "never mind") if how == "edited" else whole.replace(json.dumps(talk()[4]), "")
    )
    ingest(built, file)
    je.build(encoder, built)
    assert traces(built, [TRIP[0]], encoder) == []


def test_nothing_is_purged_while_another_process_is_at_it(built: Path) -> None:
    for name in ("embeddings/watch.lock", "embeddings/tiny/build.lock"):
        with locked(built / name, "it"), pytest.raises(HomeLocked):
            purge_all(built)
    assert (built / "embeddings" / "library.db").exists()


SENDERS = st.sampled_from(["Anna", "Ben", "Robin"])
TALKS = st.lists(
    st.tuples(st.sampled_from("xyz"), SENDERS, st.integers(0, 9), st.sampled_from(["hey", "ok", "lunch?"])), max_size=25
)
WISHES = st.builds(lambda name: Wish(contact=name), SENDERS) | st.builds(
    lambda ms: Wish(before_ms=ms), st.integers(0, 10)
)


class Memory:
    """A source of what it is given: (conversation, sender, time in ms, text)."""

    kind, location = "memory", "test"

    def __init__(self, said: list[tuple[str, str, int, str]]) -> None:
        self.said, self.unreadable = said, Counter[str]()

    def __len__(self) -> int:
        return 0

    def conversations(self) -> Iterator[Conversation]:
        for key in dict.fromkeys(said[0] for said in self.said):
            own = sorted((said for said in enumerate(self.said) if said[1][0] == key), key=lambda s: s[1][2])
            yield Conversation(key, [Message(str(i), who, ms, text, who == "Robin") for i, (_, who, ms, text) in own])


@settings(max_examples=60, deadline=None)
@example([("x", "Anna", 0, "hey"), ("x", "Robin", 1, "hey")], [Wish(before_ms=1), Wish(contact="Anna")])
@given(TALKS, st.lists(WISHES, max_size=3))
def test_to_forget_is_to_have_never_read(
    tmp_path_factory: pytest.TempPathFactory, said: list[tuple[str, str, int, str]], wishes: list[Wish]
) -> None:
    contents = []
    for late in (True, False):
        with je.Library.open(tmp_path_factory.mktemp("home")) as library:
            if late:
                library.ingest(Memory(said))
            for wish in wishes:
                library.forget(wish)
            report = library.ingest(Memory(said))
            assert not (late and (report.new or report.changed or report.removed))
            contents.append(sorted((p.conversation, p.trigger, p.response, p.context) for p in library.pairs()))
            assert library.would_forget(Wish(before_ms=0)).messages == 0
    assert contents[0] == contents[1]


@pytest.mark.parametrize("is_from_me", [True, None])
def test_a_contact_whose_part_a_date_took_first_can_still_be_forgotten(home: Path, is_from_me: bool | None) -> None:
    anna = Message("1", "Anna", 0, "hey", None if is_from_me is None else False)
    own = [Message("2", "Robin", 5, "hey there", is_from_me), Message("3", "Robin", 9, "still here?", is_from_me)]
    source = Memory([])
    source.conversations = lambda: iter([Conversation("x", [anna, *own])])  # type: ignore[method-assign]
    with je.Library.open(home) as library:
        library.ingest(source)
        library.forget(Wish(before_ms=3))
        assert library.counts().messages == 2
        assert library.forget(Wish(contact="Anna")).messages == 2
        library.ingest(source)
        assert library.counts().messages == 0


class TestCommand:
    """``purge`` as a person and as a program use it."""

    def test_it_asks_and_says_what_would_go(self, built: Path) -> None:
        result = CliRunner().invoke(app, ["purge", "--contact", "Anna"], input="n\n")
        assert result.exit_code == 1
        assert "5 messages and 1 whole conversation" in result.output
        assert would_forget(built, Wish(contact="Anna")).messages == 5

    def test_a_program_is_told_and_must_say_yes(self, built: Path) -> None:
        for options in (["--contact", "Anna"], ["--before", "2020-01-01"], ["--all"]):
            told = json.loads(CliRunner().invoke(app, ["purge", *options, "--json"]).stdout)
            assert told["removed"] is None
            assert told["would_remove"]
        told = json.loads(CliRunner().invoke(app, ["purge", "--before", "2020-01-01", "--json", "--yes"]).stdout)
        assert told["removed"]["messages"] == 2
        told = json.loads(CliRunner().invoke(app, ["purge", "--before", "2020-01-01", "--undo", "--json"]).stdout)
        assert told == {"undone": True}

    def test_a_misspelt_contact_makes_no_rule(self, built: Path) -> None:
        with pytest.raises(je.JarvisEmbedError, match="Did you mean anna"):
            would_forget(built, Wish(contact="Ana"))
        with je.Library.open(built) as library:
            assert not library.rules()

    @pytest.mark.parametrize(
        "options", [[], ["--contact", "a", "--all"], ["--before", "soon"], ["--all", "--undo"], ["--undo"]]
    )
    def test_what_is_not_clear_is_refused(self, options: list[str]) -> None:
        assert CliRunner().invoke(app, ["purge", *options]).exit_code == 2


def test_a_number_is_the_same_however_it_is_written() -> None:
    assert plain("+49 (151) 234-567") == plain("+49151234567")
    assert plain("Anna  B") == plain(" anna b")


def test_without_a_known_owner_a_talk_of_two_goes_whole() -> None:
    talk_of_two = Conversation("x", (Message("1", "Anna", 1, "hey"), Message("2", "Ben", 2, "hi")))
    assert Rules(b"salt").with_wish(Wish(contact="Anna")).applied(talk_of_two).messages == ()


def test_a_contact_leaves_the_people_and_the_reactions_of_a_group() -> None:
    said = Message("1", "Ben", 1, "hey", tapbacks=(je.Tapback("Anna", "loved", 2), je.Tapback("Robin", "liked", 3)))
    group = Conversation("x", (said,), people=("Anna", "Ben"), is_group=True, name="Anna")
    kept = Rules(b"salt").with_wish(Wish(contact="Anna")).applied(group)
    assert kept.people == ("Ben",)
    assert [tapback.sender for tapback in kept.messages[0].tapbacks] == ["Robin"]


@pytest.mark.parametrize("known", [{"people": ("Anna",)}, {"name": "Anna", "people": ("+49151",)}])
def test_a_talk_in_which_only_the_owner_wrote_goes_with_the_contact_it_is_with(known: dict[str, object]) -> None:
    alone = Conversation("x", (Message("1", "me", 1, "are you there", True),), **known)  # type: ignore[arg-type]
    rules = Rules(b"salt").with_wish(Wish(contact="Anna"))
    assert rules.applied(alone).messages == ()
    assert Rules(b"salt").with_wish(Wish(contact="Ben")).applied(alone) is alone
