"""Pairs worth learning from, and the report of what was left out."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jarvis_embed.conversations.selection import (
    NO_REPLY,
    SelectionRules,
    begins_topic,
    is_tapback,
    near_key,
    select_pairs,
)
from jarvis_embed.evaluation.splits import assert_disjoint, pair_texts
from jarvis_embed.messages import Pair
from jarvis_embed.text import folded


def pair(trigger: str, response: str, conversation: str = "anna", delay_ms: int = 1000, identity: int = 0) -> Pair:
    return Pair(identity, conversation, trigger, response, "a", "b", 0, delay_ms, ("before", "that"))


TEXTS = st.sampled_from(
    (
        "ok|OK!|how are you|Loved “hey”|привет|👍|lunch tomorrow at 8?|lunch tomorrow at 9?|anyway|"
        "https://example.org/a|yes|heyyy|hey|see you there then"
    ).split("|")
)
PAIRS = st.lists(
    st.builds(pair, TEXTS, TEXTS, st.sampled_from(["anna", "ben", "cleo"]), st.sampled_from([1000, 10**9])), max_size=60
)


@given(PAIRS, st.integers(1, 4), st.integers(1, 30))
def test_no_text_is_too_frequent_and_no_pair_comes_twice(pairs: list[Pair], same_text: int, limit: int) -> None:
    kept = select_pairs(pairs, SelectionRules(same_text=same_text, limit=limit)).pairs
    assert len(kept) <= limit
    for side in ("trigger", "response"):
        assert max(Counter(near_key(getattr(one, side)) for one in kept).values(), default=0) <= same_text
    assert len({(near_key(one.trigger), near_key(one.response)) for one in kept}) == len(kept)


@given(PAIRS)
def test_every_pair_is_kept_or_counted_for_one_reason(pairs: list[Pair]) -> None:
    found = select_pairs(pairs, SelectionRules(limit=10))
    assert found.report.seen == len(pairs) == len(found.pairs) + sum(found.report.dropped.values())
    assert found.report.kept == len(found.pairs)
    remaining = iter(pairs)
    assert all(one in remaining for one in found.pairs), "kept pairs stand in the order given"


@given(PAIRS, st.lists(TEXTS, max_size=4))
def test_what_is_selected_passes_the_check_of_the_exam(pairs: list[Pair], examined: list[str]) -> None:
    assert_disjoint(pair_texts(select_pairs(pairs, held_out=examined).pairs), examined)


@given(PAIRS)
def test_the_same_seed_selects_the_same(pairs: list[Pair]) -> None:
    rules = SelectionRules(limit=5, same_text=2)
    assert select_pairs(pairs, rules, seed=3) == select_pairs(list(pairs), rules, seed=3)


@pytest.mark.parametrize(
    ("trigger", "response", "reason"),
    [
        ("see you at 8", "Liked “see you at 8”", "tapback"),
        ("look", "Laughed at an image", "tapback"),
        ("lunch?", "👍", "no words"),
        ("look at this", "https://example.org/page", "no words"),
        ("how are you", "хорошо, а ты", "another alphabet"),
        ("hey", " HEY ", "response repeats the trigger"),
        ("how was it?", "btw did you call mum", "begins another topic"),
        ("word " * 101, "ok", "too long"),
        ("that question of the exam", "sure", "text of the exam"),
    ],
)
def test_what_is_left_out_and_why(trigger: str, response: str, reason: str) -> None:
    found = select_pairs([pair(trigger, response)], held_out=["That question of the  exam"])
    assert found.report.dropped == {reason: 1}
    assert not found.pairs


def test_an_answer_after_a_day_is_none() -> None:
    assert select_pairs([pair("hey", "hello", delay_ms=25 * 3_600_000)]).report.dropped == {"answered too late": 1}


def test_a_reply_of_low_quality_is_left_out_where_that_is_known() -> None:
    pairs = [
        replace(pair("hey", "hello", identity=1), quality=0.4),
        replace(pair("where", "at home", identity=2), quality=0.5),
        pair("what's up", "not much", identity=3),
    ]
    found = select_pairs(pairs, min_quality=0.5)
    assert [one.id for one in found.pairs] == [2, 3]
    assert found.report.dropped == {"low quality": 1}
    assert len(select_pairs(pairs).pairs) == 3


@pytest.mark.parametrize("flag", sorted(NO_REPLY))
def test_a_flag_that_says_no_reply_leaves_a_pair_out(flag: str) -> None:
    pairs = [replace(pair("hey", "hello", identity=1), flags=("a", flag)), replace(pair("hi", "hello"), flags=("a",))]
    found = select_pairs(pairs)
    assert [one.id for one in found.pairs] == [0]
    assert found.report.dropped == {"flagged by the source": 1}


def test_each_contact_has_its_turn_before_any_has_a_second_more() -> None:
    """90 pairs with one friend do not crowd out the 5 with another."""
    pairs = [pair(f"{word(i)} anna", f"reply {word(i)}", "anna") for i in range(90)]
    pairs += [pair(f"{word(i)} ben", f"answer {word(i)}", "ben") for i in range(5)]
    random.Random(0).shuffle(pairs)
    found = select_pairs(pairs, SelectionRules(limit=20))
    assert Counter(one.conversation for one in found.pairs) == {"anna": 15, "ben": 5}
    assert found.report.largest_contact == 0.75
    assert found.report.dropped == {"over the limit of its contact": 75}


def test_those_that_stay_are_consecutive() -> None:
    """What follows on one another shares its turns, of which each is then embedded once."""
    said = [(word(i), who) for who in ("anna", "ben") for i in range(64)]
    pairs = [pair(f"{one} {who}", f"reply {one}", who, identity=i) for i, (one, who) in enumerate(said)]
    found = select_pairs(pairs, SelectionRules(limit=32))
    ids = [one.id for one in found.pairs]
    assert Counter(one.conversation for one in found.pairs) == {"anna": 16, "ben": 16}
    assert sum(after == before + 1 for before, after in pairwise(ids)) >= 28


def test_conversations_of_one_contact_count_together() -> None:
    pairs = [pair(f"{word(i)} here", f"reply {word(i)}", f"anna#{i}") for i in range(10)] + [
        pair("hello there", "hi ben", "ben")
    ]
    contacts = {f"anna#{i}": "anna" for i in range(10)}
    found = select_pairs(pairs, SelectionRules(limit=2), contacts=contacts)
    assert sorted(one.conversation.split("#")[0] for one in found.pairs) == ["anna", "ben"]


def test_the_context_stays_with_its_pair() -> None:
    (kept,) = select_pairs([pair("lunch?", "sure, when?")]).pairs
    assert kept.context == ("before", "that")


@given(st.text(max_size=30))
def test_a_near_duplicate_is_never_lost_to_nothing(text: str) -> None:
    assert bool(near_key(text)) == bool(folded(text))


def test_near_duplicates_share_a_key() -> None:
    assert near_key("Lunch at 8?!") == near_key("lunch at 19 😀")
    assert near_key("heyyyy") == near_key("Heyyy!!") != near_key("hey")
    assert near_key("👍") != near_key("👎")


@pytest.mark.parametrize("text", ["I loved the film", "we liked it a lot", "questioned by the police", "speaking at 8"])
def test_ordinary_messages_are_neither_tapbacks_nor_new_topics(text: str) -> None:
    assert not is_tapback(text)
    assert not begins_topic(text)


def word(number: int) -> str:
    """A word for a number, since digits do not tell near-duplicates apart."""
    return "".join("abcdefghij"[int(digit)] for digit in str(number))
