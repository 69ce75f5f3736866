"""Messages → turns → pairs, as the definitions say."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from jarvis_embed.conversations.pairs import pairs_of
from jarvis_embed.conversations.turns import turns_of
from jarvis_embed.messages import CONTEXT_TURNS, TURN_GAP_MS, Message

MINUTE = 60_000


def said(*texts: str, gap: int = 1000) -> list[Message]:
    """``"a: hey"`` → a message by ``a``; each ``gap`` milliseconds after the one before."""
    return [
        Message(str(i), sender, i * gap, text) for i, (sender, text) in enumerate(text.split(": ", 1) for text in texts)
    ]


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    owner_known = draw(st.booleans())
    messages = []
    time = 0
    for number in range(draw(st.integers(0, 30))):
        sender = draw(st.sampled_from("abc"))
        time += draw(st.sampled_from([0, 1000, TURN_GAP_MS, TURN_GAP_MS + 1]))
        text = draw(st.sampled_from(["hey", "ok", " ", "lunch?\nnow"]))
        messages.append(Message(str(number), sender, time, text, (sender == "a") if owner_known else None))
    return messages


def test_consecutive_messages_of_one_sender_are_one_turn() -> None:
    turns = list(turns_of(said("a: hey", "a: lunch?", "b: sure", "a: when?")))
    assert [(turn.sender, turn.text) for turn in turns] == [("a", "hey\nlunch?"), ("b", "sure"), ("a", "when?")]
    assert turns[0].message_keys == ("0", "1")
    assert (turns[0].start_ms, turns[0].end_ms) == (0, 1000)


def test_a_silence_of_more_than_five_minutes_begins_a_new_turn() -> None:
    assert len(list(turns_of(said("a: hey", "a: there?", gap=5 * MINUTE)))) == 1
    assert len(list(turns_of(said("a: hey", "a: there?", gap=5 * MINUTE + 1)))) == 2


def test_a_message_of_white_space_neither_makes_nor_splits_a_turn() -> None:
    (turn,) = turns_of(said("a: hey", "b:   ", "a: lunch?"))
    assert turn.text == "hey\nlunch?"


def test_a_pair_has_the_turns_before_it_as_context() -> None:
    turns = list(turns_of(said("a: 1", "b: 2", "a: 3", "b: 4", "a: 5", "b: 6")))
    pairs = list(pairs_of("c", turns))
    assert [(pair.context, pair.trigger, pair.response) for pair in pairs] == [
        ((), "1", "2"),
        (("1",), "2", "3"),
        (("1", "2"), "3", "4"),
        (("1", "2", "3"), "4", "5"),
        (("2", "3", "4"), "5", "6"),
    ]


def test_with_an_owner_only_the_owner_responds() -> None:
    messages = [Message(str(i), s, i, s * 2, s == "a") for i, s in enumerate("babcab")]
    pairs = list(pairs_of("c", list(turns_of(messages))))
    assert [(pair.trigger, pair.response) for pair in pairs] == [("bb", "aa"), ("cc", "aa")]


def test_a_sender_who_follows_up_after_a_silence_is_answered_at_the_follow_up() -> None:
    messages = [*said("a: hey"), Message("1", "a", 10 * MINUTE, "lunch?"), Message("2", "b", 11 * MINUTE, "sure")]
    (pair,) = pairs_of("c", list(turns_of(messages)))
    assert (pair.context, pair.trigger, pair.response) == (("hey",), "lunch?", "sure")


def test_a_reply_pairs_with_the_message_that_it_names_whatever_stands_between() -> None:
    a, b, c = said("a: lunch?", "c: who saw the game?", "a: me!")
    turns = list(turns_of([a, b, c, Message("3", "b", 3000, "sure", reply_to="0"), Message("4", "b", 4000, "12?")]))
    pairs = [(pair.trigger, pair.response) for pair in pairs_of("c", turns)]
    assert pairs == [("lunch?", "who saw the game?"), ("who saw the game?", "me!"), ("lunch?", "sure\n12?")]


def test_replies_to_two_messages_are_two_turns_and_one_message_may_have_two_answers() -> None:
    a, b, *_ = said("a: lunch?", "c: the game?")
    replies = [
        Message(str(i), "b", i * 1000, text, reply_to=to) for i, text, to in ((2, "yes!", "1"), (3, "sure", "0"))
    ]
    pairs = [(pair.trigger, pair.response) for pair in pairs_of("c", list(turns_of([a, b, *replies])))]
    assert pairs == [("lunch?", "the game?"), ("the game?", "yes!"), ("lunch?", "sure")]


def test_a_reply_to_what_is_not_there_or_to_oneself_is_in_no_pair() -> None:
    a, *_ = said("a: lunch?")
    photo = Message("1", "b", 1000, "wow", reply_to="a photo")
    own = Message("3", "a", 3000, "I mean today", reply_to="0")
    assert [pair.response for pair in pairs_of("c", list(turns_of([a, photo, own])))] == []


def test_a_pair_is_judged_as_the_worst_of_its_response() -> None:
    a, *_ = said("a: hey", "b: hi")
    replies = [
        Message("1", "b", 1000, "hi", flags=("short",)),
        Message("2", "b", 2000, "all well?", quality=0.9, flags=("late", "short")),
        Message("3", "b", 3000, "so so", quality=0.3),
    ]
    (pair,) = pairs_of("c", list(turns_of([replace(a, quality=0.1, flags=("spam",)), *replies])))
    assert (pair.quality, pair.flags) == (0.3, ("late", "short"))


def test_what_is_held_out_shares_no_turn_with_the_rest_and_marks_its_pairs() -> None:
    a, b = said("a: hey", "b: hi")
    turns = list(turns_of([a, b, Message("2", "b", 2000, "lunch?", holdout=True), Message("3", "a", 3000, "sure")]))
    assert [(pair.response, pair.holdout) for pair in pairs_of("c", turns)] == [("hi", False), ("sure", True)]


@given(conversations())
def test_every_message_with_text_is_in_exactly_one_turn_in_order(messages: list[Message]) -> None:
    keys = [key for turn in turns_of(messages) for key in turn.message_keys]
    assert keys == [m.key for m in messages if m.text.strip()]


@given(conversations())
def test_every_pair_is_two_turns_by_different_people(messages: list[Message]) -> None:
    turns = list(turns_of(messages))
    texts = [turn.text for turn in turns]
    for pair in pairs_of("c", turns):
        assert pair.trigger_sender != pair.response_sender
        assert len(pair.context) <= CONTEXT_TURNS
        together = [*pair.context, pair.trigger, pair.response]
        assert any(texts[i : i + len(together)] == together for i in range(len(texts)))
