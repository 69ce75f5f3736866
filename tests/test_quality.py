"""How good a reply was: signals, judgements, the fitted score, its place in a space, feedback."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import jarvis_embed as je
from conftest import SHARED
from jarvis_embed.cli import app
from jarvis_embed.conversations import quality
from jarvis_embed.conversations.quality import SIGNALS, Exchange, exchanges_of, judgements
from jarvis_embed.conversations.quality_score import (
    explain,
    read_weights,
    shipped_weights,
    signal_table,
    stated,
    store_weights,
    weights_of,
)
from jarvis_embed.errors import InputError, TrainingError
from jarvis_embed.evaluation.data import RatedReply, read_rated
from jarvis_embed.evaluation.splits import assert_disjoint
from jarvis_embed.forgetting import Wish
from jarvis_embed.messages import Conversation, Message, Tapback
from jarvis_embed.models.encoder import Encoder, load_encoder
from jarvis_embed.models.store import add_model
from jarvis_embed.purge import forget
from jarvis_embed.sources.chitchat import ChitchatSource
from jarvis_embed.spaces.manifest import read_manifest, write_manifest
from jarvis_embed.spaces.quality import QUALITY_FILE
from jarvis_embed.spaces.space import Space
from jarvis_embed.training.judgements import rated_for_training
from jarvis_embed.training.quality import Rated, fit_weights, labels, rated_replies, update_weights

HOUR = 3_600_000


def message(place: int, sender: str, text: str, minute: float = 0, **more: object) -> Message:
    return Message(str(place), sender, round(minute * 60_000), text, **more)  # type: ignore[arg-type]


def talk(*said: Message) -> Conversation:
    return Conversation("c", said)


def exchanges(conversation: Conversation) -> list[Exchange]:
    return [exchange for *_, exchange in exchanges_of(conversation)]


# Signals


def test_a_history_of_two_messages_shows_only_what_its_texts_say() -> None:
    (exchange,) = exchanges(talk(message(0, "a", "lunch?"), message(1, "b", "sure, when?", 1)))
    available = {s.name for s in SIGNALS if s.read(exchange) is not None}
    assert available == {"length", "length_ratio", "copied", "no_words", "acknowledges", "asks", "shifts_topic"}


def test_the_delay_is_held_against_the_pace_of_the_conversation() -> None:
    said = [message(i, "ab"[i % 2], f"text {i}", 10 * i) for i in range(11)]
    said.append(message(11, "b", "at last", 10 * 10 + 80))
    delays = [quality.delay(one) for one in exchanges(talk(*said))]
    assert delays[0] == pytest.approx(0)
    assert delays[-1] == pytest.approx(3, abs=0.01)


def test_whether_they_went_on_is_not_known_of_the_newest_reply() -> None:
    first, second, last = exchanges(
        talk(
            message(0, "a", "dinner?"),
            message(1, "b", "yes", 1),
            message(2, "a", "great, thanks", 2),
            message(3, "b", "see you", 3),
        )
    )
    assert (quality.goes_on(first), quality.warmth(first)) == (1.0, 1.0)
    assert quality.goes_on(second) == 1.0
    assert (quality.goes_on(last), quality.warmth(last), quality.repair(last)) == (None, None, None)


def test_what_comes_after_a_night_does_not_go_on() -> None:
    first, *_ = exchanges(talk(message(0, "a", "hey"), message(1, "b", "hi", 1), message(2, "a", "hey again", 10 * 60)))
    assert quality.goes_on(first) == 0.0


@pytest.mark.parametrize("text", ["what?", "huh", "wdym", "??", "Sorry, what do you mean?", "i don't get it"])
def test_a_repair_is_seen(text: str) -> None:
    assert quality.repair(Exchange("a", "b", following=text)) == 1.0


@pytest.mark.parametrize("text", ["what a day", "sorry about that", "huge news", "cool"])
def test_what_only_looks_like_a_repair_is_none(text: str) -> None:
    assert quality.repair(Exchange("a", "b", following=text)) == 0.0


def test_links_edits_and_tapbacks_are_signals_only_where_the_conversation_has_them() -> None:
    bare = [message(0, "a", "hey"), message(1, "b", "hi", 1), message(2, "a", "so?", 2), message(3, "b", "so what", 3)]
    assert all((one.linked, one.edited, one.tapbacks) == (None, None, None) for one in exchanges(talk(*bare)))
    marked = [*bare[:3], replace(bare[3], reply_to="2", edited_ms=5, tapbacks=(Tapback("a", "loved", 9),))]
    first, _, second = exchanges(talk(*marked))
    assert (first.linked, first.edited, first.tapbacks) == (False, False, ())
    assert (second.linked, second.edited, second.tapbacks) == (True, True, ("loved",))


def test_a_copy_and_a_bare_acknowledgement_are_seen() -> None:
    assert quality.copied(Exchange("see you at eight", "See you at eight!")) == 1.0
    assert quality.acknowledges(Exchange("i moved to Oslo", "ok")) == 1.0
    assert quality.acknowledges(Exchange("i moved to Oslo", "ok, when?")) == 0.0


def test_one_s_own_tapback_says_nothing_of_one_s_reply() -> None:
    reply = message(1, "b", "hi", 1, tapbacks=(Tapback("b", "loved", 1), Tapback("a", "disliked", 2)))
    (exchange,) = exchanges(talk(message(0, "a", "hey"), reply))
    (said,) = judgements(exchange, 0.1)
    assert (said.name, said.value, said.raters) == ("tapbacks", 0.0, 1.0)


# The score

texts = st.text(max_size=40)
maybe = st.none() | st.booleans()
EXCHANGES = st.builds(
    Exchange,
    texts,
    texts,
    linked=maybe,
    delay_ms=st.none() | st.integers(-10, 10**12),
    pace_ms=st.none() | st.floats(0, 1e12),
    goes_on=maybe,
    following=st.none() | texts,
    tapbacks=st.none() | st.lists(st.sampled_from(["loved", "disliked", "🦊"])).map(tuple),
    edited=maybe,
    host_quality=st.none() | st.floats(-5, 5),
    host_flags=st.none() | st.just(("spam",)),
    rating=st.none() | st.tuples(st.floats(0, 1), st.integers(0, 100)),
    feedback=maybe,
    topic=st.none() | st.floats(-100, 100),
    fit=st.none() | st.floats(0, 1),
)


@given(EXCHANGES)
def test_any_reply_has_a_score_from_0_to_1_that_its_explanation_adds_up_to(exchange: Exchange) -> None:
    found = explain(exchange, shipped_weights())
    assert 0 <= found.score <= 1
    logit = found.bias + sum(part.contribution for part in found.signals)
    assert found.estimate == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-9)
    assert {*found.unavailable, *(part.name for part in found.signals if part.value is not None)} == {
        signal.name for signal in SIGNALS
    }


def test_the_owner_s_word_weighs_more_than_all_signals() -> None:
    weights = shipped_weights()
    good, bad = (explain(Exchange("lunch?", "sure, when?", feedback=word), weights).score for word in (True, False))
    assert good > 0.8
    assert bad < 0.2


def test_what_the_source_flags_as_no_reply_is_poor() -> None:
    assert explain(Exchange("lunch?", "sure", host_flags=("automated",)), shipped_weights()).score < 0.2


def test_the_shipped_weights_hold_numbers_and_no_text() -> None:
    found = stated(shipped_weights())
    assert weights_of(json.loads(json.dumps(found))) == shipped_weights()
    assert {one["name"] for one in found["signals"]} == {signal.name for signal in SIGNALS}


# The fit


def rated(scores: list[float], raters: float = 1.0, source: str = "s") -> list[Rated]:
    return [Rated(Exchange("a b c", "d " * (i + 1)), score, source, raters, str(i)) for i, score in enumerate(scores)]


def test_a_label_is_the_place_among_the_ratings_of_its_source_and_ties_share_theirs() -> None:
    both = [*rated([1, 3, 3, 5]), *rated([0, 2], source="other")]
    assert labels(both).tolist() == [0.125, 0.5, 0.5, 0.875, 0.25, 0.75]


def test_a_rating_by_three_counts_as_three_ratings() -> None:
    scores = [float(i * 7 % 13) for i in range(40)]
    by_many = fit_weights([one for score in scores for one in rated([score] * 1, raters=3.0)] + rated(scores))
    thrice = fit_weights([one for score in scores for one in rated([score]) * 3] + rated(scores))
    weights = [[one.weight for one in fitted.signals] for fitted in (by_many, thrice)]
    assert weights[0] == pytest.approx(weights[1], abs=0.02)


def test_what_ratings_go_with_gets_its_weight_and_what_no_reply_had_gets_none() -> None:
    weights = fit_weights(rated([float(i) for i in range(60)]))
    by_name = {one.name: one for one in weights.signals}
    assert by_name["length"].weight > 0
    assert (by_name["edited"].weight, by_name["edited"].missing, by_name["edited"].rated) == (0, 0, 0)


def test_feedback_teaches_what_public_ratings_could_not_tell() -> None:
    given_ = [(Exchange("hey you", "hi there", edited=i % 2 == 0), i % 2 == 0) for i in range(60)]
    before, after = shipped_weights(), update_weights(shipped_weights(), given_)
    old, new = ({one.name: one.weight for one in w.signals} for w in (before, after))
    assert new["edited"] > 0.3
    assert abs(new["length"] - old["length"]) < 0.05


def test_little_feedback_is_not_fitted_to() -> None:
    with pytest.raises(TrainingError, match="20 of both kinds"):
        update_weights(shipped_weights(), [(Exchange("a", "b"), True)] * 50)


def test_weights_fitted_to_feedback_are_those_of_the_home(home: Path) -> None:
    made = replace(shipped_weights(), bias=0.5)
    store_weights(made, home)
    assert read_weights(home).bias == 0.5


def test_public_ratings_become_rated_replies_with_their_raters() -> None:
    (one,) = rated_replies([RatedReply("grade", ("hey", "how are you?"), "good", 3.5, 10)])
    assert (one.exchange.trigger, one.raters, one.exchange.topic) == ("how are you?", 10.0, None)


def test_no_source_of_ratings_is_learned_from_and_reported_on() -> None:
    if not (SHARED / "data").is_dir():
        pytest.skip("needs the public data files")
    held_out = read_rated(SHARED / "data", "quality_dev") or ()
    learned = rated_for_training(SHARED / "data", [t for one in held_out for t in (*one.context, one.response)])
    assert len(learned) > 9000
    assert {one.source for one in learned}.isdisjoint(one.source for one in held_out)
    assert_disjoint(
        (text for one in learned for text in (one.context[-1], one.response)),
        (text for one in held_out for text in (*one.context, one.response)),
        common_words=3,
    )


def test_chitchat_tells_how_good_its_conversations_were() -> None:
    pytest.importorskip("chitchat_dataset")
    ratings = [one.rating for one in ChitchatSource(split="validation").conversations()]
    known = [rating for rating in ratings if rating is not None]
    assert all(0 <= rating <= 1 for rating in known)
    assert 0.5 < len(known) / len(ratings) < 1


# In a space


@pytest.fixture
def built(home: Path, encoder: Encoder, history: Path) -> Iterator[Space]:
    with je.Library.open(home) as library:
        library.ingest(je.sources.open(history))
    je.build(encoder, home)
    with Space.open(home=home, encoder=encoder) as space:
        yield space


def ids_of(space: Space) -> list[int]:
    return list(space.library.pair_ids())


def test_a_build_scores_every_pair_and_the_explanation_says_the_same(built: Space) -> None:
    ids = ids_of(built)
    found = built.pair_quality(ids)
    assert not np.isnan(found).any()
    for identity, score in list(zip(ids, found.tolist(), strict=True))[:20]:
        assert built.explain_quality(identity).score == pytest.approx(score, abs=1e-3)


def test_feedback_counts_at_once_and_can_be_taken_back(built: Space) -> None:
    first = ids_of(built)[0]
    before = built.pair_quality([first])[0]
    built.library.give_feedback(first, False)
    assert built.pair_quality([first])[0] < 0.2
    built.library.give_feedback(first, True)
    assert built.pair_quality([first])[0] > 0.8
    built.library.give_feedback(first, None)
    assert built.pair_quality([first])[0] == before


def test_a_pair_that_is_not_there_gets_no_feedback(built: Space) -> None:
    with pytest.raises(InputError, match="no pair 5"):
        built.library.give_feedback(5, True)


def test_search_leaves_out_what_was_answered_poorly(built: Space, home: Path) -> None:
    best = built.search("lunch tomorrow", k=1)[0].pair
    built.library.give_feedback(best.id, False)
    assert all(match.pair.id != best.id for match in built.search("lunch tomorrow", k=3, min_quality=0.2))
    assert all(match.quality is not None for match in built.search("lunch tomorrow", k=3))


def test_a_reply_that_the_owner_calls_bad_is_not_suggested_again(built: Space, home: Path) -> None:
    first = je.suggest("lunch tomorrow", space=built, home=home).replies[0]
    built.library.give_feedback(first.pair.id, False)
    assert all(r.pair.id != first.pair.id for r in je.suggest("lunch tomorrow", k=50, space=built, home=home).replies)


def test_where_all_that_is_near_was_answered_poorly_nothing_is_said(built: Space, home: Path) -> None:
    for identity in ids_of(built):
        built.library.give_feedback(identity, False)
    found = je.suggest("lunch tomorrow", space=built, home=home)
    assert found.replies == ()
    assert "answered poorly" in found.notes[-1]


def test_a_space_of_an_earlier_version_opens_and_the_next_build_scores_its_pairs(
    built: Space, home: Path, encoder: Encoder
) -> None:
    manifest = read_manifest(built.folder)
    write_manifest(
        built.folder, replace(manifest, files={n: m for n, m in manifest.files.items() if n != QUALITY_FILE})
    )
    with Space.open(home=home, encoder=encoder) as old:
        assert np.isnan(old.pair_quality(ids_of(old))).all()
        assert je.suggest("lunch tomorrow", space=old, home=home).replies
    assert not je.build(encoder, home).up_to_date
    with Space.open(home=home, encoder=encoder) as new:
        assert not np.isnan(new.pair_quality(ids_of(new))).any()


def test_a_build_of_little_news_scores_the_same_as_a_whole_one(
    built: Space, home: Path, encoder: Encoder, history: Path
) -> None:
    more = {"conversation": "new", "sender": "Zoe", "time": 1_800_000_000, "text": "movie tonight?"}
    answer = {**more, "sender": "Robin", "time": 1_800_000_060, "text": "sure, see you at nine"}
    with history.open("a") as file:
        file.write("\n".join(["", json.dumps(more), json.dumps(answer)]))
    built.library.ingest(je.sources.open(history))
    assert je.build(encoder, home).delta
    with Space.open(home=home, encoder=encoder) as small:
        by_delta = small.pair_quality(ids_of(small))
    je.build(encoder, home, force=True)
    with Space.open(home=home, encoder=encoder) as whole:
        np.testing.assert_allclose(whole.pair_quality(ids_of(whole)), by_delta, atol=0.02)


# What lasts, and what is forgotten


def test_feedback_survives_rebuilds_and_reading_again(
    built: Space, home: Path, encoder: Encoder, history: Path
) -> None:
    first = ids_of(built)[0]
    built.library.give_feedback(first, True)
    je.build(encoder, home, force=True)
    with history.open("a") as file:
        file.write("\n" + json.dumps({"conversation": "x", "sender": "Zoe", "time": 1, "text": "hey"}))
    built.library.ingest(je.sources.open(history))
    assert built.library.feedback() == {first: True}


class Given:
    kind, location = "given", "here"

    def __init__(self, *conversations: Conversation) -> None:
        self._conversations = conversations
        self.unreadable: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._conversations)

    def conversations(self) -> Iterable[Conversation]:
        return iter(self._conversations)


def test_a_build_of_little_news_heeds_what_people_say_of_old_replies_now(home: Path, encoder: Encoder) -> None:
    old = Conversation("old", (message(0, "Anna", "dinner?"), message(1, "me", "sure", 1, is_from_me=True)), rating=1.0)
    new = Conversation("new", (message(0, "Ben", "lunch?"), message(1, "me", "no time", 1, is_from_me=True)))
    with je.Library.open(home) as library:
        library.ingest(Given(old))  # type: ignore[arg-type]
        (pair,) = library.pair_ids()
        je.build(encoder, home)
        with Space.open(home=home, encoder=encoder) as space:
            before = space.pair_quality([pair])[0]
        library.ingest(Given(replace(old, rating=0.0), new))  # type: ignore[arg-type]
    assert je.build(encoder, home).delta == 1
    with Space.open(home=home, encoder=encoder) as space:
        assert space.pair_quality([pair])[0] < before


def test_feedback_is_forgotten_with_its_message(home: Path) -> None:
    anna = Conversation("anna", (message(0, "Anna", "dinner?"), message(1, "me", "sure", 1, is_from_me=True)))
    ben = Conversation("ben", (message(0, "Ben", "lunch?"), message(1, "me", "no time", 1, is_from_me=True)))
    with je.Library.open(home) as library:
        library.ingest(Given(anna, ben))  # type: ignore[arg-type]
        for identity in library.pair_ids():
            library.give_feedback(identity, True)
        library.forget(Wish(contact="Anna"))
        assert len(library.feedback()) == 1
        library.ingest(Given())  # type: ignore[arg-type]
        assert library.feedback() == {}


def test_forgetting_takes_back_weights_that_feedback_has_taught(built: Space, home: Path) -> None:
    store_weights(replace(shipped_weights(), bias=0.5, facts={"own": 30}), home)
    sender = built.library.senders()[0]
    built.close()
    forget(home, Wish(contact=sender))
    assert read_weights(home) == shipped_weights()


@pytest.mark.parametrize(("version", "later"), [(3, ("changed", "rating")), (4, ("rating",))])
def test_a_library_of_an_earlier_version_can_take_feedback(
    home: Path, history: Path, version: int, later: tuple[str, ...]
) -> None:
    with je.Library.open(home) as library:
        library.ingest(je.sources.open(history))
        first, path = next(library.pair_ids()), library.path
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE feedback")
        for column in later:
            db.execute(f"ALTER TABLE conversation DROP COLUMN {column}")
        db.execute(f"PRAGMA user_version = {version}")
    with je.Library.open(home) as library:
        library.give_feedback(first, True)
        assert library.feedback() == {first: True}


# Commands


def test_feedback_and_explain_as_commands(home: Path, tiny_folder: Path, history: Path) -> None:
    add_model("tiny", tiny_folder, home)
    with je.Library.open(home) as library:
        library.ingest(je.sources.open(history))
        first = str(next(library.pair_ids()))
    je.build(load_encoder("tiny", home=home, precision="fp32"), home)
    run = CliRunner().invoke
    assert run(app, ["feedback", first, "good"]).exit_code == 0
    asked = ["quality", "explain", first, "--model", "tiny", "--precision", "fp32"]
    shown = run(app, asked)
    assert "Not available here" in shown.stdout
    assert "feedback: 1.00" in shown.stdout
    found = json.loads(run(app, [*asked, "--json"]).stdout)
    assert found["judgements"]["feedback"] == {"value": 1.0, "raters": 1.0}
    assert set(found["signals"]) == {signal.name for signal in SIGNALS}
    assert found["quality"] > 0.8
    assert run(app, ["feedback", first, "none", "--json"]).exit_code == 0


def test_the_table_of_signals_has_no_number_where_one_is_missing() -> None:
    assert np.isnan(signal_table([Exchange("a", "b")])).any()
    assert signal_table([]).shape == (0, len(SIGNALS))
