"""Turns → threads: each in exactly one, by reply links, silences, names and signs of a new topic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jarvis_embed.conversations.threads import OpenThreads, in_order, threads_in
from jarvis_embed.conversations.turns import turns_of
from jarvis_embed.messages import Message, Thread, Turn

SECOND, MINUTE, HOUR = 1000, 60_000, 3_600_000
DAY = 24 * HOUR


def said(*lines: tuple[int, str], replies: dict[int, str] | None = None) -> list[Turn]:
    """Each (time, "a: hey") is a turn by ``a``; ``replies`` names the key that a turn replies to by its number."""
    turns = []
    for number, (at, line) in enumerate(lines):
        sender, text = line.split(": ", 1)
        turns.append(Turn(sender, at, at, text, None, (str(number),), (replies or {}).get(number)))
    return turns


def texts(threads: Sequence[Thread]) -> list[list[str]]:
    return [[turn.text for turn in thread.turns] for thread in threads]


def chat(*gaps: int, people: str = "ab") -> list[Turn]:
    """Turns without a word of their own, each so long after the one before."""
    times = np.cumsum([0, *gaps])
    return said(*((int(at), f"{people[n % len(people)]}: t{n}") for n, at in enumerate(times)))


def keys(threads: Sequence[Thread]) -> set[frozenset[str]]:
    return {frozenset(key for turn in thread.turns for key in turn.message_keys) for thread in threads}


@st.composite
def histories(draw: st.DrawFn) -> list[Message]:
    """What sources do deliver: clocks that run backwards, replies to what is gone or still to come."""
    people = draw(st.sampled_from(["ab", "abcde"]))
    time, messages = 10 * DAY, []
    for number in range(draw(st.integers(0, 40))):
        time += draw(st.sampled_from([0, 0, 0, 1, SECOND, 40 * SECOND, 6 * MINUTE, 2 * HOUR, 2 * DAY, -SECOND, -DAY]))
        text = draw(st.sampled_from(["hey", "ok", " ", "btw, lunch?", "b: bye!", "@c hello", "see you later"]))
        reply = draw(st.sampled_from([None, None, None, "0", "3", "17", "gone"]))
        messages.append(Message(str(number), draw(st.sampled_from(people)), time, text, reply_to=reply))
    return messages


def found(messages: Sequence[Message]) -> tuple[Thread, ...]:
    return threads_in("c", list(turns_of(in_order(messages))))


@settings(deadline=None)
@given(histories())
def test_every_turn_is_in_exactly_one_thread(messages: list[Message]) -> None:
    turns = list(turns_of(messages))
    threads = threads_in("c", turns)
    assert sorted((turn for thread in threads for turn in thread.turns), key=turns.index) == turns
    assert all(thread.turns and thread.conversation == "c" for thread in threads)


@settings(deadline=None)
@given(histories(), st.randoms(use_true_random=False))
def test_the_order_in_which_messages_of_one_instant_arrive_does_not_matter(messages: list[Message], random) -> None:  # type: ignore[no-untyped-def]
    instants: list[list[Message]] = []
    for message in messages:
        if not instants or instants[-1][0].sent_ms != message.sent_ms:
            instants.append([])
        instants[-1].append(message)
    shuffled = [message for instant in instants for message in random.sample(instant, len(instant))]
    assert found(shuffled) == found(messages)
    turns = list(turns_of(messages))
    by_start: list[list[Turn]] = []
    for turn in turns:
        if not by_start or by_start[-1][0].start_ms != turn.start_ms:
            by_start.append([])
        by_start[-1].append(turn)
    moved = [turn for instant in by_start for turn in random.sample(instant, len(instant))]
    assert keys(threads_in("c", moved)) == keys(threads_in("c", turns))


@settings(deadline=None)
@given(histories(), st.integers(1, 4))
def test_one_message_at_a_time_gives_what_all_at_once_give(messages: list[Message], asked_every: int) -> None:
    open_threads = OpenThreads("c")
    for number, message in enumerate(messages, 1):
        open_threads.add(message)
        if number % asked_every == 0:
            assert open_threads.threads() == found(messages[:number])


def test_a_long_history_read_message_by_message_gives_what_all_at_once_give() -> None:
    random = np.random.default_rng(1)
    times = np.cumsum(random.choice([0, 0, 1, 5000, 40_000, HOUR], 700))
    messages = [
        Message(str(key), "abc"[random.integers(3)], int(at), "hey")
        for key, at in zip(random.permutation(700), times, strict=True)
    ]
    open_threads = OpenThreads("c")
    for message in messages:
        open_threads.add(message)
    assert open_threads.threads() == found(messages)
    assert open_threads.current() in open_threads.threads()


def test_one_message_is_a_thread() -> None:
    assert texts(threads_in("c", said((0, "a: hey")))) == [["hey"]]
    assert threads_in("c", []) == ()


def test_a_hundred_thousand_turns_of_one_instant_are_all_kept() -> None:
    turns = said(*((5, f"{'abc'[n % 3]}: t{n}") for n in range(100_000)))
    assert sum(len(thread.turns) for thread in threads_in("c", turns)) == 100_000


def test_a_hundred_thousand_turns_over_years_are_all_kept() -> None:
    turns = said(*((n * HOUR, f"{'ab'[n % 2]}: t{n}") for n in range(100_000)))
    assert sum(len(thread.turns) for thread in threads_in("c", turns)) == 100_000


def test_a_reply_joins_the_thread_of_the_message_it_names_however_old() -> None:
    turns = said((0, "a: dinner?"), (3 * DAY, "b: other news"), (5 * DAY, "b: yes!"), replies={2: "0"})
    assert texts(threads_in("c", turns)) == [["dinner?", "yes!"], ["other news"]]


def test_replies_to_one_deleted_message_belong_together() -> None:
    turns = said((0, "a: one"), (3 * DAY, "b: two"), (9 * DAY, "a: three"), replies={1: "gone", 2: "gone"})
    assert texts(threads_in("c", turns)) == [["one"], ["two", "three"]]


def test_a_reply_that_a_wrong_clock_puts_before_its_message_is_in_its_thread() -> None:
    turns = said((0, "a: yes!"), (3 * DAY, "b: dinner?"), replies={0: "1"})
    assert texts(threads_in("c", turns)) == [["yes!", "dinner?"]]


def test_what_a_long_silence_is_depends_on_the_pace() -> None:
    pause = 3 * HOUR
    quick = chat(*[5 * SECOND] * 30, pause)
    slow = chat(*[HOUR] * 30, pause)
    assert [len(thread.turns) for thread in threads_in("c", quick)] == [31, 1]
    assert {turn.text for turn in threads_in("c", slow)[-1].turns} >= {"t30", "t31"}


def test_a_clock_that_jumps_back_ends_no_thread() -> None:
    assert len(threads_in("c", chat(10 * SECOND, -2 * DAY, 10 * SECOND))) == 1


def test_words_of_a_new_topic_after_a_pause_begin_one() -> None:
    def with_third(text: str) -> int:
        return len(threads_in("c", said((0, "a: lunch?"), (20 * SECOND, "b: sure"), (6 * MINUTE, f"a: {text}"))))

    assert with_third("at noon then") == 1
    assert with_third("btw did the parcel arrive?") == 2
    assert with_third("hey, how was it?") == 2


def test_a_greeting_after_a_farewell_begins_a_thread_at_once() -> None:
    turns = said((0, "a: so it is"), (SECOND, "b: see you later"), (5 * SECOND, "a: hi again"))
    assert texts(threads_in("c", turns)) == [["so it is", "see you later"], ["hi again"]]


def test_in_a_group_a_turn_goes_to_the_person_it_names() -> None:
    lines = [
        (0, "ann: who has the key?"),
        (9, "bob: not me"),
        (3600, "cleo: pizza?"),
        (3609, "dan: yes"),
        (3620, "dan: ann, I do"),
    ]
    turns = said(*((at * SECOND, line) for at, line in lines))
    assert texts(threads_in("c", turns)) == [["who has the key?", "not me", "ann, I do"], ["pizza?", "yes"]]


def test_in_a_group_who_is_named_answers_where_they_were_named() -> None:
    lines = [
        (0, "ann: who has the key?"),
        (9, "bob: not me"),
        (3600, "cleo: pizza?"),
        (3609, "dan: ann: here"),
        (3620, "ann: thanks"),
    ]
    turns = said(*((at * SECOND, line) for at, line in lines))
    assert texts(threads_in("c", turns))[0] == ["who has the key?", "not me", "ann: here", "thanks"]


def test_a_long_silence_ends_a_thread_of_a_group_too() -> None:
    lines = [(0, "ann: film?"), (9, "bob: when?"), (20, "cleo: bob, at eight"), (2 * 86400, "bob: good evening")]
    turns = said(*((at * SECOND, line) for at, line in lines))
    assert texts(threads_in("c", turns))[-1] == ["good evening"]


def test_what_a_source_says_of_a_group_counts_from_the_first_turn() -> None:
    lines = [(0, "ann: film?"), (9, "bob: when?"), (20, "ann: bob, at eight"), (30, "ann: who has the key?")]
    turns = said(*((at * SECOND, line) for at, line in lines))

    class Alone:  # a scorer that is asked begins a thread with each turn
        def links(self, turns: Sequence[Turn], first: int, vectors: object) -> np.ndarray:
            return np.arange(first, len(turns))

    alone: Any = Alone()
    assert len(threads_in("c", turns, scorer=alone, is_group=True)) == 4
    assert len(threads_in("c", turns, scorer=alone)) == 1


def test_vectors_far_from_the_turns_before_begin_a_thread_after_a_shorter_pause() -> None:
    one, other = np.eye(2, dtype=np.float32)
    turns = chat(30 * SECOND, 30 * SECOND, 8 * MINUTE)
    near = np.stack([one, one, one, one])
    far = np.stack([one, one, one, other])
    assert len(threads_in("c", turns, vectors=near)) == 1
    assert len(threads_in("c", turns, vectors=far)) == 2


def test_numbers_of_messages_are_ordered_as_numbers() -> None:
    messages = [Message("10", "a", 5, "later"), Message("9", "b", 5, "sooner")]
    assert [message.text for message in in_order(messages)] == ["sooner", "later"]
    assert [message.text for message in in_order([replace(m, sent_ms=int(m.key)) for m in messages])] == [
        "later",
        "sooner",
    ]
