"""Past conversations are found by their segments, as a part of every generation; and a message has its thread."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from typer.testing import CliRunner

import jarvis_embed as je
import tiny
from jarvis_embed.cli import app
from jarvis_embed.config import load_settings, save_settings
from jarvis_embed.conversations.running import turns_before
from jarvis_embed.conversations.turns import turns_of
from jarvis_embed.errors import InputError, SpaceDamaged, SpaceStale
from jarvis_embed.evaluation.thread_map import map_threads
from jarvis_embed.forgetting import Wish
from jarvis_embed.messages import Message, Turn
from jarvis_embed.models.encoder import Encoder
from jarvis_embed.models.store import add_model, model_home
from jarvis_embed.purge import forget
from jarvis_embed.spaces import segment_build
from jarvis_embed.spaces.generations import current_folder
from jarvis_embed.spaces.manifest import read_manifest
from jarvis_embed.spaces.segment_index import SEGMENT_INDEX_FILE, SEGMENTS_DELTA, SEGMENTS_FILE
from jarvis_embed.spaces.vector_log import segment_key
from test_forgetting import traces

DAY = 86_400
WORDS = [word for word in tiny.WORDS if word not in ("hey", "hi", "see")]
"""Nothing that opens or ends an exchange: only time does."""

Line = dict[str, object]


def lines(conversation: str, first: int, last: int, day: int = 0) -> list[Line]:
    """Messages of a talk, two minutes apart; a text depends on conversation, day and number alone."""
    made: list[Line] = []
    for number in range(first, last):
        draw = random.Random(f"{conversation} {day} {number}")
        text = " ".join(draw.choices(WORDS, k=draw.randint(3, 7)))
        sender = (conversation, "Robin")[number % 2]
        time = 1_700_000_000 + day * DAY + number * 120
        made.append(
            {"id": f"{day}.{number}", "conversation": conversation, "sender": sender, "time": time, "text": text}
        )
    return made


def days(conversation: str, number: int, turns: int = 12) -> list[Line]:
    return [line for day in range(number) for line in lines(conversation, 0, turns, 3 * day)]


def texts(some: list[Line]) -> list[str]:
    return [str(line["text"]) for line in some]


def ingest(home: Path, path: Path, messages: list[Line]) -> je.IngestReport:
    path.write_text("\n".join(map(json.dumps, messages)))
    with je.Library.open(home) as library:
        return library.ingest(je.sources.open(path, me="Robin"))


def found(home: Path, encoder: Encoder, query: str, k: int = 300) -> list[tuple[str, tuple[str, ...], float]]:
    with je.Space.open(home=home, encoder=encoder) as space:
        return [
            (m.conversation, tuple(turn.text for turn in m.turns), round(m.score, 4))
            for m in space.search_threads(query, k)
        ]


def answers(home: Path, encoder: Encoder) -> list[list[tuple[str, tuple[str, ...], float]]]:
    return [sorted(found(home, encoder, query)) for query in ("lunch tonight", "the car at work", "sorry haha")]


def segment_keys(home: Path, encoder: Encoder) -> set[bytes]:
    """The keys of all segments that any generation of the space holds, with what is held back in a delta."""
    folder = model_home(encoder.name, home) / "generations"
    return {key.tobytes() for file in folder.rglob("segments*.safetensors") for key in load_file(file).get("keys", ())}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file.jsonl"


@pytest.fixture
def encoder(home: Path, tiny_folder: Path) -> Encoder:
    return tiny.in_use(home, tiny_folder)


@pytest.fixture
def talked() -> list[Line]:
    return [line for who in ("Anna", "Ben", "Cleo") for line in days(who, 5)]


@pytest.fixture
def built(home: Path, file: Path, encoder: Encoder, talked: list[Line]) -> Path:
    ingest(home, file, talked)
    je.build(encoder, home)
    return home


SPOKEN = st.lists(st.tuples(st.sampled_from("xy"), st.integers(0, 90)), min_size=1, max_size=50)
VERSIONS = st.lists(SPOKEN, min_size=2, max_size=4)


class TestSearch:
    def test_an_exchange_finds_itself_with_its_people_its_date_and_its_turns(
        self, built: Path, encoder: Encoder
    ) -> None:
        said = lines("Ben", 0, 5, 3)
        with je.Space.open(home=built, encoder=encoder) as space:
            match = space.search_threads(texts(said), k=1)[0]
        assert match.score == pytest.approx(1, abs=1e-4)
        assert (match.conversation, match.people, match.start_ms) == ("Ben", ("Ben",), int(str(said[0]["time"])) * 1000)
        assert [turn.text for turn in match.turns] == texts(said)
        assert [turn.is_from_me for turn in match.turns] == [False, True, False, True, False]

    def test_each_exchange_comes_once_best_first(self, built: Path, encoder: Encoder) -> None:
        with je.Space.open(home=built, encoder=encoder) as space:
            matches = space.search_threads("lunch at work", k=300)
        assert len(matches) == 15
        assert len({(match.conversation, match.start_ms // (DAY * 1000)) for match in matches}) == 15
        scores = [match.score for match in matches]
        assert scores == sorted(scores, reverse=True)

    def test_the_score_is_the_cosine_of_the_texts(self, built: Path, encoder: Encoder) -> None:
        with je.Space.open(home=built, encoder=encoder) as space:
            for match in space.search_threads("dinner", k=5):
                one, other = encoder.embed(["dinner", "\n".join(turn.text for turn in match.turns)])
                assert match.score == pytest.approx(float(one @ other), abs=1e-4)

    @pytest.mark.parametrize(("said", "k"), [("", 5), ([], 5), (["", " "], 5), ("hey", 0)])
    def test_what_cannot_be_searched_is_refused(
        self, built: Path, encoder: Encoder, said: str | list[str], k: int
    ) -> None:
        with je.Space.open(home=built, encoder=encoder) as space, pytest.raises(InputError):
            space.search_threads(said, k)

    def test_a_stale_space_passes_over_what_is_gone_and_finds_the_rest(
        self, built: Path, file: Path, encoder: Encoder, talked: list[Line]
    ) -> None:
        with je.Space.open(home=built, encoder=encoder) as space:
            ingest(built, file, [line for line in talked if line["conversation"] != "Cleo"] + lines("Ben", 0, 4, 90))
            matches = space.search_threads("lunch at work", k=300)
            assert space.is_stale
        assert {match.conversation for match in matches} == {"Anna", "Ben"}
        assert len(matches) == 10

    def test_a_generation_from_before_opens_and_says_what_to_do(self, built: Path, encoder: Encoder) -> None:
        folder = current_folder(model_home(encoder.name, built))
        assert folder is not None
        tiny.as_before(folder, SEGMENTS_FILE)
        with je.Space.open(home=built, encoder=encoder) as space:
            assert space.search("lunch", k=1)
            with pytest.raises(SpaceStale, match="jarvis-embed build tiny"):
                space.search_threads("lunch")
        report = je.build(encoder, built)
        assert (report.up_to_date, report.embedded) == (False, 0)
        assert found(built, encoder, "lunch")

    def test_a_damaged_file_is_found_and_a_build_mends_it(self, built: Path, encoder: Encoder) -> None:
        folder = current_folder(model_home(encoder.name, built))
        assert folder is not None
        (folder / SEGMENTS_FILE).write_bytes(b"")
        with pytest.raises(SpaceDamaged, match="jarvis-embed build"):
            je.Space.open(home=built, encoder=encoder)
        je.build(encoder, built)
        assert len(found(built, encoder, "lunch")) == 15

    def test_many_segments_have_an_index_that_finds_the_same(
        self, built: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        exact = answers(built, encoder)
        monkeypatch.setattr(segment_build, "EXACT_BELOW", 10)
        je.build(encoder, built, force=True)
        folder = current_folder(model_home(encoder.name, built))
        assert folder is not None
        assert SEGMENT_INDEX_FILE in read_manifest(folder).files
        assert answers(built, encoder) == exact


class TestBuild:
    def test_little_news_shares_the_file_and_answers_as_a_whole_build(
        self, built: Path, file: Path, encoder: Encoder, talked: list[Line]
    ) -> None:
        before = current_folder(model_home(encoder.name, built))
        assert before is not None
        shared = (before / SEGMENTS_FILE).stat().st_ino
        for last in (2, 6):
            ingest(built, file, talked + lines("Anna", 0, last, 50))
            report = je.build(encoder, built)
            assert report.delta > 0
            after = current_folder(model_home(encoder.name, built))
            assert after is not None
            assert (after / SEGMENTS_FILE).stat().st_ino == shared
            assert len(load_file(after / SEGMENTS_DELTA)["keys"]) <= 2
        with_delta = answers(built, encoder)
        je.build(encoder, built, force=True)
        assert with_delta == answers(built, encoder)
        assert any(who == "Anna" and texts(lines("Anna", 0, 6, 50)) == list(said) for who, said, _ in with_delta[0])

    @settings(max_examples=20, deadline=None)
    @given(VERSIONS)
    def test_whatever_comes_and_goes_it_answers_as_one_built_anew(
        self, tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, versions: list[list[tuple[str, int]]]
    ) -> None:
        folder = tmp_path_factory.mktemp("home")
        encoder = je.load_encoder(tiny_folder, home=folder, precision="fp32")
        for version in versions:
            talk = [lines(who, at, at + 1, (at // 15) * 2)[0] for who, at in sorted(set(version))]
            ingest(folder, folder / "file.jsonl", talk)
            with je.Library.open(folder) as library:
                if library.is_empty:
                    continue
            if je.build(encoder, folder).up_to_date:
                continue  # what nobody has answered yet is taken in with the next answer
            kept = answers(folder, encoder)
            je.build(encoder, folder, force=True)
            assert kept == answers(folder, encoder)

    def test_a_second_whole_build_embeds_no_segment_again(
        self, built: Path, file: Path, encoder: Encoder, talked: list[Line], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        embedded: list[str] = []
        embed = Encoder.embed

        def counting(self: Encoder, some: list[str], *rest: object) -> np.ndarray:
            embedded.extend(some)
            return embed(self, some, *rest)

        ingest(built, file, talked[:-1])  # the last text of all is removed: everything is written anew
        monkeypatch.setattr(Encoder, "embed", counting)
        assert je.build(encoder, built).delta == 0
        assert len([text for text in embedded if "\n" in text or len(text.split()) > 8]) <= 1

    @pytest.mark.parametrize("call", ["write_segment_delta", "segment_changes", "Known"])
    def test_dying_in_a_delta_leaves_a_working_space(
        self, built: Path, file: Path, encoder: Encoder, talked: list[Line], call: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def die(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        ingest(built, file, talked + lines("Anna", 0, 4, 50))
        before = answers(built, encoder)
        with monkeypatch.context() as patch:
            patch.setattr(f"jarvis_embed.spaces.update.{call}", die)
            with pytest.raises(KeyboardInterrupt):
                je.build(encoder, built)
        assert answers(built, encoder) == before
        je.build(encoder, built)
        assert len(found(built, encoder, "lunch")) == 16

    @pytest.mark.parametrize("dies_after", [0, 1, 2])
    def test_dying_while_segments_are_embedded_loses_nothing(
        self,
        home: Path,
        file: Path,
        encoder: Encoder,
        talked: list[Line],
        dies_after: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        ingest(home, file, talked)
        monkeypatch.setattr(segment_build, "_BLOCK", 8)
        embed, calls = Encoder.embed, []

        def mortal(self: Encoder, some: list[str], *rest: object) -> np.ndarray:
            calls.append(some)
            if len(calls) == dies_after + 2:  # the first call is that of all turns
                raise KeyboardInterrupt
            return embed(self, some, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(Encoder, "embed", mortal)
            with pytest.raises(KeyboardInterrupt):
                je.build(encoder, home)
        report = je.build(encoder, home)
        assert (report.embedded, report.segments) == (0, 45 - 15)
        assert len(found(home, encoder, "lunch")) == 15


class TestForgetting:
    def joined(self, said: list[Line]) -> str:
        return "\n".join(texts(said))

    def test_a_contact_leaves_no_segment(self, built: Path, file: Path, encoder: Encoder, talked: list[Line]) -> None:
        ingest(built, file, talked + lines("Anna", 0, 4, 50))
        je.build(encoder, built)  # a delta, so that two generations hold what is to go
        anna = [self.joined(lines("Anna", 0, 5, 3)), self.joined(lines("Anna", 0, 4, 50))]
        assert {name for _, name in traces(built, anna, encoder)} >= {SEGMENTS_FILE, SEGMENTS_DELTA}
        forget(built, Wish(contact="Anna"))
        assert traces(built, anna, encoder) == []
        assert {who for who, _, _ in found(built, encoder, "lunch")} == {"Ben", "Cleo"}

    def test_an_old_time_leaves_no_segment(self, built: Path, encoder: Encoder) -> None:
        old = self.joined(lines("Ben", 0, 5, 0))
        assert traces(built, [old], encoder)
        forget(built, Wish(before_ms=(1_700_000_000 + DAY) * 1000))
        assert traces(built, [old], encoder) == []
        assert len(found(built, encoder, "lunch")) == 12

    @pytest.mark.parametrize("change", ["edited", "removed"])
    def test_a_message_that_nobody_answered_leaves_with_the_next_build(
        self, home: Path, file: Path, encoder: Encoder, talked: list[Line], change: str
    ) -> None:
        """It is in no pair, but in a segment."""
        secret = {**lines("Anna", 12, 13, 12)[0], "text": "xylophone under the bed"}
        ingest(home, file, [*talked, secret])
        je.build(encoder, home)
        with je.Library.open(home) as library:
            assert not any("xylophone" in pair.trigger for pair in library.pairs())
        before = segment_keys(home, encoder)
        held = "\n".join([*texts(lines("Anna", 10, 12, 12)), str(secret["text"])])
        assert segment_key(held.splitlines()) in before
        ingest(home, file, [*talked, {**secret, "text": "nothing"}] if change == "edited" else talked)
        je.build(encoder, home)
        assert segment_key(held.splitlines()) not in segment_keys(home, encoder)
        assert traces(home, [held, str(secret["text"])], encoder) == []


class TestTrainedOnThreads:
    """A model with a map of segments makes their vectors from those of their text and their turns."""

    @pytest.fixture
    def trained(self, tmp_path: Path, tiny_folder: Path, home: Path) -> Encoder:
        torch = pytest.importorskip("torch")
        from jarvis_embed.models.store import find_model
        from jarvis_embed.training.network import Network, save_network

        network = Network(find_model(tiny_folder, tmp_path), context_turns=2, width=16)
        with torch.no_grad():
            for parameter in network.segment.parameters():
                parameter += torch.randn(parameter.shape) * 0.3
        save_network(network, find_model(tiny_folder, tmp_path), tmp_path / "trained")
        home.mkdir()
        save_settings(home, load_settings(home).model_copy(update={"precision": "fp32", "model": "trained"}))
        add_model("trained", tmp_path / "trained", home)
        return je.load_encoder("trained", home=home)

    @pytest.fixture
    def space(self, trained: Encoder, home: Path, file: Path, talked: list[Line]) -> Iterator[je.Space]:
        ingest(home, file, talked)
        je.build(trained, home)
        with je.Space.open(home=home, encoder=trained) as space:
            yield space

    def test_what_a_build_stores_is_what_the_encoder_says(self, trained: Encoder, space: je.Space) -> None:
        asked = texts(lines("Anna", 0, 5, 3))
        best, *_ = space.search_threads(asked, 3)
        said = [turn.text for turn in best.turns]
        assert said == asked
        assert best.score == pytest.approx(1, abs=1e-5)
        vectors = space.segments.vectors(space.segments.rows())
        assert not np.allclose(vectors.mean(0), trained.embed(["\n".join(asked)])[0], atol=1e-3)

    def test_one_turn_is_looked_for_by_its_text_and_lines_are_turns(self, trained: Encoder, space: je.Space) -> None:
        """One turn is no segment, and the map of segments says little of it."""
        asked = texts(lines("Anna", 0, 5, 3))
        (best,) = space.search_threads(asked[0], 1)
        nearest = (trained.embed([asked[0]]) @ space.segments.vectors(space.segments.rows()).T).max()
        assert best.score == pytest.approx(float(nearest), abs=1e-5)
        done = CliRunner().invoke(app, ["search", "--threads", "\n".join(asked), "-k", "1"], catch_exceptions=False)
        assert "cosine 1.00" in done.stdout

    def test_turns_that_were_embedded_once_are_not_embedded_again(
        self, trained: Encoder, home: Path, file: Path, talked: list[Line], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ingest(home, file, talked)
        seen: list[str] = []
        embed = Encoder.embed

        def counted(self: Encoder, some: list[str], *more: object) -> object:
            seen.extend(some)
            return embed(self, some, *more)  # type: ignore[arg-type]

        monkeypatch.setattr(Encoder, "embed", counted)
        je.build(trained, home)
        turns = [text for text in seen if "\n" not in text]  # a segment's text has a line for each turn
        assert turns
        assert len(turns) <= len({str(line["text"]) for line in talked}) + 40  # what the threshold is drawn from


class TestRunningThread:
    NOW = 1_700_000_000_000

    def turns(self, *said: tuple[str, str, int]) -> list[Turn]:
        """Turns of (sender, text, minutes before now)."""
        messages = [
            Message(str(i), who, self.NOW - minutes * 60_000, text, who == "me")
            for i, (who, text, minutes) in enumerate(said)
        ]
        return list(turns_of(messages))

    def test_what_was_said_days_ago_is_not_before_it(self) -> None:
        turns = self.turns(("a", "old news", 9000), ("me", "yes", 8999), ("a", "are you there", 3), ("me", "here", 2))
        assert turns_before(turns, "lunch?", self.NOW) == ("are you there", "here")

    def test_after_a_long_silence_nothing_is_before_it(self) -> None:
        assert turns_before(self.turns(("a", "old", 9000), ("me", "yes", 8999)), "lunch?", self.NOW) == ()
        assert turns_before([], "lunch?", self.NOW) == ()

    def test_the_message_itself_may_be_the_latest_turn_or_the_end_of_it(self) -> None:
        turns = self.turns(("a", "old", 9000), ("me", "here", 8), ("a", "hungry", 2), ("a", "Lunch?", 1))
        assert turns_before(turns, "hungry\nlunch?", self.NOW) == ("here",)
        assert turns_before(turns, "lunch?", self.NOW) == ("here", "hungry")

    def test_of_turns_with_times_those_of_the_thread_are_the_context(self, built: Path, encoder: Encoder) -> None:
        turns = self.turns(("a", "old", 9000), ("me", "yes", 8999), ("a", "are you there", 3), ("me", "here", 2))
        with je.Space.open(home=built, encoder=encoder) as space:
            cut = je.suggest("lunch?", turns, sent_ms=self.NOW, space=space, home=built)
            plain = je.suggest("lunch?", [turn.text for turn in turns], space=space, home=built)
        assert cut.context == ("are you there", "here")
        assert plain.context == ("old", "yes", "are you there", "here")

    def test_a_contact_brings_the_running_thread(self, built: Path, encoder: Encoder) -> None:
        last = lines("Anna", 0, 12, 12)
        soon = (int(str(last[-1]["time"])) + 60) * 1000
        with je.Space.open(home=built, encoder=encoder) as space:
            found = je.suggest("lunch?", contact=" anna", sent_ms=soon, space=space, home=built)
            later = je.suggest("lunch?", contact="Anna", sent_ms=soon + 9 * DAY * 1000, space=space, home=built)
            assert found.context == tuple(texts(last))
            assert later.context == ()
            assert found.timings[0].stage == "thread"
            assert any("not trained to read" in note for note in found.notes)
            for options in ({"contact": "Nobody"}, {"contact": "Anna", "context": ["hey"]}):
                with pytest.raises(InputError):
                    je.suggest("lunch?", space=space, home=built, **options)

    def test_a_chat_with_the_contact_alone_goes_before_a_group(self, home: Path, file: Path) -> None:
        group = [
            {"conversation": "trip", "sender": who, "time": 1_800_000_000 + i, "text": f"who drives {who}"}
            for i, who in enumerate(["Ben", "Dan", "Robin"])
        ]
        ingest(home, file, [*days("Ben", 1), *group])
        with je.Library.open(home) as library:
            for name, expected in (("ben", "Ben"), ("Dan", "trip")):
                talk = library.latest_with(name)
                assert talk is not None
                assert talk.key == expected
            assert library.latest_with("Nobody") is None


class TestMap:
    def test_the_lines_are_threads_whose_segments_lie_where_their_vectors_are(
        self, home: Path, file: Path, encoder: Encoder
    ) -> None:
        ingest(home, file, days("Anna", 8, turns=18))
        je.build(encoder, home)
        with je.Space.open(home=home, encoder=encoder) as space:
            found = map_threads(space, seed=1)
            assert found is not None
            assert [len(thread) for thread in found.threads] == [4] * 6
            assert len(found.around) == 2 * 4
            assert map_threads(space, seed=1) == found
            spots = np.array([spot for thread in found.threads for spot in thread] + list(found.around))
            assert spots.mean(0) == pytest.approx([0, 0], abs=1e-3)
            assert 0 < found.explained < 1

    def test_short_threads_make_no_map(self, built: Path, encoder: Encoder) -> None:
        with je.Space.open(home=built, encoder=encoder) as space:
            assert map_threads(space, seed=1) is None


class TestCommands:
    def test_search_threads_shows_date_people_and_what_was_said(self, built: Path) -> None:
        said = lines("Ben", 0, 5, 3)
        done = CliRunner().invoke(
            app, ["search", "--threads", "\n".join(texts(said)), "-k", "1"], catch_exceptions=False
        )
        assert done.exit_code == 0
        assert done.stdout.startswith("2023-11-17  Ben  · cosine 1.00")
        assert f"Ben: {said[0]['text']}" in done.stdout
        assert f"you: {said[1]['text']}" in done.stdout
        told = json.loads(CliRunner().invoke(app, ["search", "--threads", "lunch", "-k", "2", "--json"]).stdout)
        assert [len(match["turns"]) > 1 for match in told["conversations"]] == [True, True]
        assert told["conversations"][0]["score"] >= told["conversations"][1]["score"]

    def test_conversations_have_no_quality_to_leave_them_out_by(self, built: Path) -> None:
        done = CliRunner().invoke(app, ["search", "--threads", "lunch", "--min-quality", "0.3"])
        assert isinstance(done.exception, InputError)
        assert "--min-quality is about replies" in str(done.exception)

    def test_suggest_for_a_contact_says_what_was_before(self, built: Path) -> None:
        last = lines("Anna", 10, 12, 12)
        done = CliRunner().invoke(
            app, ["suggest", str(last[0]["text"]), "--contact", "anna", "--json"], catch_exceptions=False
        )
        assert json.loads(done.stdout)["context"] == []
        done = CliRunner().invoke(app, ["suggest", "lunch?", "--contact", "anna"], catch_exceptions=False)
        assert "0 turns before it in the thread" in done.stdout


def test_turns_come_out_of_the_library_as_they_went_in(home: Path, file: Path, talked: list[Line]) -> None:
    ingest(home, file, [*talked, {**talked[-1], "id": "more", "text": "and more"}])
    with je.Library.open(home) as library:
        for talk, conversation in zip(library.talks(), library.conversations(), strict=True):
            assert [turn for _, turn in library.placed_turns(talk)] == list(turns_of(conversation.messages))
            assert [turn for _, turn in library.placed_turns(talk, 4)] == list(turns_of(conversation.messages))[-4:]
            assert len({talk.id for talk in library.talks()}) == 3
