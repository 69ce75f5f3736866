"""No number may lie: what is on which side, and the check that training never saw the exam."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jarvis_embed.errors import TextLeak
from jarvis_embed.evaluation import splits
from jarvis_embed.evaluation.histories import chitchat_history
from jarvis_embed.messages import Conversation, Message, Pair

HOUR = 3_600_000


def pair(trigger: str, response: str, conversation: str = "c", context: tuple[str, ...] = ()) -> Pair:
    return Pair(0, conversation, trigger, response, "a", "b", 0, 1000, context)


@st.composite
def histories(draw: st.DrawFn) -> list[Conversation]:
    made = []
    for number in range(draw(st.integers(1, 5))):
        time = draw(st.integers(0, 100)) * HOUR
        messages: list[Message] = []
        for position in range(draw(st.integers(1, 25))):
            time += draw(st.sampled_from([0, 1000, HOUR, 9 * HOUR, 100 * HOUR]))
            answered = draw(st.none() | st.sampled_from([m.key for m in messages])) if messages else None
            messages.append(Message(str(position), draw(st.sampled_from("ab")), time, f"t{position}", None, answered))
        made.append(Conversation(f"friend{number}", tuple(messages)))
    return made


@given(histories())
def test_every_message_is_on_exactly_one_side(history: list[Conversation]) -> None:
    sides = splits.split_history(history)
    found = sorted(
        (one.key.rpartition("#")[0], message.key)
        for side in (sides.train, sides.validation, sides.test)
        for one in side
        for message in one.messages
    )
    assert found == sorted((one.key, message.key) for one in history for message in one.messages)


@given(histories())
def test_no_exchange_and_no_reply_link_is_on_two_sides(history: list[Conversation]) -> None:
    sides = splits.split_history(history)
    every = (sides.train, sides.validation, sides.test)
    where = {
        (one.key.rpartition("#")[0], message.key): number
        for number, side in enumerate(every)
        for one in side
        for message in one.messages
    }
    for conversation in history:
        for message in conversation.messages:
            if message.reply_to is not None:
                assert where[conversation.key, message.key] == where[conversation.key, message.reply_to]
    names = [{one.key for one in side} for side in every]
    assert len(set.union(*names)) == sum(map(len, names))


@given(histories(), st.randoms(use_true_random=False))
def test_what_is_trained_on_had_ended_before_what_is_examined_ended(
    history: list[Conversation], shuffle: random.Random
) -> None:
    shuffled = list(history)
    shuffle.shuffle(shuffled)
    sides = splits.split_history(shuffled)
    ends = [[one.messages[-1].sent_ms for one in side] for side in (sides.train, sides.validation, sides.test)]
    assert sorted(ends[0] + ends[1] + ends[2]) == [*sorted(ends[0]), *sorted(ends[1]), *sorted(ends[2])]
    assert sides == splits.split_history(history), "the order of conversations does not matter"


def test_the_oldest_eight_of_ten_exchanges_train() -> None:
    history = [Conversation("anna", tuple(Message(str(i), "ab"[i % 2], i // 2 * 10 * HOUR, "hey") for i in range(20)))]
    sides = splits.split_history(history)
    assert [len(side) for side in (sides.train, sides.validation, sides.test)] == [8, 1, 1]
    assert sides.test[0].messages[-1].key == "19"


def test_a_silence_of_a_night_ends_an_exchange_unless_a_reply_reaches_over_it() -> None:
    messages = (
        Message("1", "a", 0, "lunch?"),
        Message("2", "b", 9 * HOUR, "late, sorry. yes!"),
    )
    assert len(list(splits.exchanges(Conversation("c", messages)))) == 2
    linked = (messages[0], replace(messages[1], reply_to="1"))
    assert len(list(splits.exchanges(Conversation("c", linked)))) == 1


def test_chitchat_is_split_by_the_first_digit_and_the_sealed_part_stays_unread() -> None:
    pytest.importorskip("chitchat_dataset")
    sides = chitchat_history()
    assert {one.key[0] for one in sides.train} == set("0123456789abcd")
    assert {one.key[0] for one in sides.validation} == {"e"}
    assert sides.test == ()
    assert {one.key[0] for one in chitchat_history(sealed=True).test} == {"f"}


def test_a_record_is_evaluation_if_the_sha1_of_its_id_begins_with_0_1_or_2() -> None:
    names = [f"ddpp-{number}" for number in range(500)]
    for name in names:
        assert splits.in_evaluation(name) == (hashlib.sha1(name.encode()).hexdigest()[0] in "012")
    assert 0.1 < sum(map(splits.in_evaluation, names)) / 500 < 0.3


def test_a_dialogue_that_shares_two_adjacent_turns_with_an_examined_record_stays_out() -> None:
    dialogues = [["Hi!", "hello", "bye"], ["hello", "Bye ", "ok"], ["bye", "hello"], ["hello"]]
    assert list(splits.free_of(dialogues, [["hello", "bye"]])) == [["bye", "hello"], ["hello"]]


@given(st.lists(st.text(max_size=8), max_size=12), st.lists(st.text(max_size=8), max_size=12))
def test_the_check_passes_exactly_when_nothing_is_shared(training: list[str], examined: list[str]) -> None:
    shared = {splits.folded(text) for text in examined} & {splits.folded(text) for text in training} - {""}
    if shared:
        with pytest.raises(TextLeak):
            splits.assert_disjoint(training, examined)
    else:
        splits.assert_disjoint(training, examined)


def test_letter_case_and_spaces_do_not_hide_a_leak_and_the_error_tells_no_text() -> None:
    with pytest.raises(TextLeak) as caught:
        splits.assert_disjoint(["Shall we  meet at NINE?"], ["shall we meet at nine?", "other"])
    assert "1 of 2" in str(caught.value)
    assert "nine" not in str(caught.value).lower()


def test_short_texts_may_be_common_property() -> None:
    splits.assert_disjoint(["how are you"], ["How are you"], common_words=3)
    with pytest.raises(TextLeak):
        splits.assert_disjoint(["how are you now"], ["How are you now"], common_words=3)


def test_no_conversation_is_on_both_sides() -> None:
    splits.assert_conversations_disjoint(["a"], ["b"])
    with pytest.raises(TextLeak):
        splits.assert_conversations_disjoint(["a", "b"], ["b"])


def test_a_pair_on_both_sides_counts_in_training_and_is_reported() -> None:
    held_out = [pair("Hi", "hey"), pair("hi", "how are you"), pair("lunch?", "sure")]
    kept, overlap = splits.held_out_once(held_out, [pair("hi", "Hey"), pair("when?", "how are you")])
    assert [(one.trigger, one.response) for one in kept] == [("hi", "how are you"), ("lunch?", "sure")]
    assert overlap == splits.Overlap(texts=3, pairs=1)
