"""Segments of threads: how a thread is cut, and which pairs of segments are learned from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from jarvis_embed.conversations.segments import (
    APART_MS,
    HARD_KINDS,
    SegmentSamples,
    hard_negatives,
    samples_apart,
    segment_batches,
    segment_samples,
    segments_of,
    text_of,
    windows,
)
from jarvis_embed.conversations.selection import near_key
from jarvis_embed.conversations.threads import threads_in
from jarvis_embed.conversations.turns import turns_of
from jarvis_embed.evaluation.material import cut_threads
from jarvis_embed.messages import Segment, Thread, Turn

NIGHT = APART_MS


def thread(conversation: str, texts: list[str], begin_ms: int = 0, holdout: frozenset[int] = frozenset()) -> Thread:
    """A thread of two who take turns, a minute apart."""
    turns = tuple(
        Turn("ab"[i % 2], begin_ms + i * 60_000, begin_ms + i * 60_000, text, None, (str(i),), holdout=i in holdout)
        for i, text in enumerate(texts)
    )
    return Thread(conversation, turns)


def numbered(conversation: str, turns: int, begin_ms: int = 0) -> Thread:
    """A thread in which every turn says something else."""
    return thread(
        conversation, [f"{conversation} says {spelt(begin_ms)} and {spelt(i)}" for i in range(turns)], begin_ms
    )


def spelt(number: int) -> str:
    """A number in letters: digits do not count as a difference of texts."""
    return "".join("abcdefghij"[int(digit)] for digit in str(number))


def several(*sizes: int) -> list[Thread]:
    return [numbered(f"talk{spelt(number)}", size) for number, size in enumerate(sizes)]


TALKS = st.lists(
    st.tuples(
        st.sampled_from(["anna", "ben", "cleo"]),
        st.integers(0, 20),
        st.lists(st.sampled_from(["hi", "hey", "how are you today", "fine", "lunch at noon?", "no idea"]), max_size=20),
    ),
    max_size=12,
)


def made(talks: list[tuple[str, int, list[str]]]) -> list[Thread]:
    return [thread(who, texts, hour * 3_600_000) for who, hour, texts in talks]


class TestWindows:
    @given(st.integers(0, 60), st.integers(1, 9))
    def test_whole_windows_follow_each_other_from_the_begin(self, length: int, size: int) -> None:
        cuts = list(windows(length, size))
        assert [position for window in cuts for position in window] == list(range(length // size * size))
        assert all(len(window) == size for window in cuts)

    @given(st.integers(0, 60), st.integers(1, 9))
    def test_with_the_rest_every_position_is_in_one_window(self, length: int, size: int) -> None:
        cuts = list(windows(length, size, rest=True))
        assert [position for window in cuts for position in window] == list(range(length))
        assert all(2 * len(window) >= size for window in cuts) or length < size

    def test_a_growing_thread_keeps_the_windows_before_its_last(self) -> None:
        for length in range(5, 40):
            before, after = (list(windows(many, rest=True)) for many in (length, length + 1))
            assert after[: len(before) - 1] == before[:-1]


class TestCutting:
    def test_the_segments_of_a_thread_are_those_of_the_exam(self) -> None:
        talk = numbered("talk", 13)
        ours = [tuple(turn.text for turn in segment.turns) for segment in segments_of(talk)]
        assert tuple(ours) == cut_threads([("talk", [turn.text for turn in talk.turns])]).segments

    def test_a_segment_knows_its_place(self) -> None:
        first, second = segments_of(numbered("talk", 11))
        assert (first.first, second.first, second.turns[0].message_keys) == (0, 5, ("5",))

    def test_one_side_is_what_one_person_wrote(self) -> None:
        cuts = segments_of(numbered("talk", 12), 3, sender="b")
        assert [[turn.sender for turn in cut.turns] for cut in cuts] == [["b"] * 3] * 2
        assert [cut.first for cut in cuts] == [1, 7]

    def test_real_threads_are_cut_without_loss(self) -> None:
        pytest.importorskip("chitchat_dataset")
        from jarvis_embed.sources import open_source

        conversation = next(c for c in open_source("chitchat", split="train").conversations() if len(c.messages) > 40)
        turns = list(turns_of(conversation.messages))
        cut = [s for one in threads_in(conversation.key, turns) for s in segments_of(one, rest=True)]
        assert sorted(text_of(turn.text for s in cut for turn in s.turns)) == sorted(text_of(t.text for t in turns))


class TestSamples:
    @settings(deadline=None)
    @given(TALKS, st.integers(0, 5))
    def test_two_segments_of_one_thread_that_share_no_turn(
        self, talks: list[tuple[str, int, list[str]]], seed: int
    ) -> None:
        threads = made(talks)
        samples = segment_samples(threads, np.random.default_rng(seed), one_side=0.5)
        used: set[tuple[int, str]] = set()
        for anchor, positive, number in zip(samples.anchors, samples.positives, samples.threads.tolist(), strict=True):
            for segment in (anchor, positive):
                assert segment.turns
                keys = {(number, turn.message_keys[0]) for turn in segment.turns}
                assert all(turn in threads[number].turns for turn in segment.turns)
                assert used.isdisjoint(keys)
                used |= keys

    def test_every_thread_of_two_turns_gives_a_pair_and_one_turn_gives_none(self) -> None:
        samples = segment_samples(several(1, 2, 3, 40), np.random.default_rng(0))
        assert set(samples.threads.tolist()) == {1, 2, 3}

    def test_sizes_differ_within_a_pair(self) -> None:
        samples = segment_samples(several(*[30] * 30), np.random.default_rng(0), one_side=0)
        sizes = {(len(a.turns), len(b.turns)) for a, b in zip(samples.anchors, samples.positives, strict=True)}
        assert len(sizes) > 10
        assert any(one != other for one, other in sizes)

    def test_every_other_thread_is_cut_into_the_longest_windows(self) -> None:
        samples = segment_samples(several(*[10] * 400), np.random.default_rng(0), sizes=range(1, 9), one_side=0)
        longest = [max(len(a.turns), len(b.turns)) for a, b in zip(samples.anchors, samples.positives, strict=True)]
        threads = dict.fromkeys(samples.threads.tolist(), 0)
        for number, size in zip(samples.threads.tolist(), longest, strict=True):
            threads[number] = max(threads[number], size)
        assert set(threads.values()) == {1, 2, 3, 4, 5}  # at most half of the thread
        assert 0.5 < np.mean([size == 5 for size in threads.values()]) < 0.7  # of the others, some by chance

    def test_some_anchors_are_one_side_alone(self) -> None:
        samples = segment_samples(several(*[40] * 30), np.random.default_rng(0), sizes=(4,), one_side=0.5)
        alone = [len({turn.sender for turn in anchor.turns}) == 1 for anchor in samples.anchors]
        assert 0.3 < np.mean(alone) < 0.7

    def test_what_is_held_out_is_in_none(self) -> None:
        held = thread("talk", [f"words {i}" for i in range(40)], holdout=frozenset({3, 20}))
        samples = segment_samples([held], np.random.default_rng(0))
        assert len(samples)
        assert not any(turn.holdout for s in (*samples.anchors, *samples.positives) for turn in s.turns)

    def test_the_same_draw_is_the_same_and_another_is_another(self) -> None:
        threads = several(30, 40)
        draws = [segment_samples(threads, np.random.default_rng(seed)).anchors for seed in (1, 1, 2)]
        assert draws[0] == draws[1] != draws[2]


class TestHardNegatives:
    def test_each_kind_is_what_it_says(self) -> None:
        threads = [numbered("anna", 10), numbered("anna", 10, 3 * NIGHT), numbered("ben", 10)]
        threads += [thread(name, ["hi how are you", "fine", "good", f"and {name} now"]) for name in ("cleo", "dan")]
        samples = segment_samples(threads, np.random.default_rng(0), one_side=0)
        vectors = tiny.unit_rows(len(samples), 16, 8, 0)
        hard = hard_negatives(samples, np.random.default_rng(0), vectors=vectors)
        assert hard.shape == (len(samples), len(HARD_KINDS))
        for row, (contact, opening, topic) in enumerate(hard.tolist()):
            mine = samples.anchors[row]
            if contact >= 0:
                assert samples.anchors[contact].conversation == mine.conversation
                assert samples.threads[contact] != samples.threads[row]
            if opening >= 0:
                first, other = (near_key(s.turns[0].text) for s in (mine, samples.anchors[opening]))
                assert first == other
            others = [r for r in range(len(samples)) if samples.threads[r] != samples.threads[row]]
            assert vectors[row] @ vectors[topic] == pytest.approx(max(vectors[row] @ vectors[r] for r in others))
        assert {mine.conversation for mine, found in zip(samples.anchors, hard[:, 0], strict=True) if found >= 0} == {
            "anna"
        }

    def test_a_contact_has_several_conversations_where_that_is_said(self) -> None:
        samples = segment_samples(several(10, 10), np.random.default_rng(0))
        hard = hard_negatives(samples, np.random.default_rng(0), contacts={"talka": "x", "talkb": "x"})
        assert (hard[:, 0] >= 0).all()

    @settings(deadline=None, max_examples=50)
    @given(TALKS)
    def test_none_is_of_the_same_exchange(self, talks: list[tuple[str, int, list[str]]]) -> None:
        samples = segment_samples(made(talks), np.random.default_rng(0))
        vectors = tiny.unit_rows(len(samples), 8, 4, 0) if len(samples) else None
        for row, found in enumerate(hard_negatives(samples, np.random.default_rng(1), vectors=vectors).tolist()):
            for other in found:
                assert other == -1 or samples.threads[other] != samples.threads[row]


def shares(one: Segment, other: Segment) -> float:
    """The words of the turns that both have, as a part of the shorter one's."""
    left, right = ({near_key(turn.text) for turn in segment.turns} for segment in (one, other))
    words = [sum(max(len(text.split()), 1) for text in texts) for texts in (left & right, left, right)]
    return words[0] / min(words[1:])


def both(samples: SegmentSamples, rows: np.ndarray) -> list[tuple[int, Segment]]:
    """(thread, segment) in the order of ``SegmentBatch.negatives``."""
    return [(int(samples.threads[row]), side[row]) for side in (samples.anchors, samples.positives) for row in rows]


class TestBatches:
    @settings(deadline=None, max_examples=60)
    @given(TALKS, st.integers(1, 9), st.booleans())
    def test_no_negative_is_of_the_same_thread_nor_mostly_the_same_text(
        self, talks: list[tuple[str, int, list[str]]], size: int, with_hard: bool
    ) -> None:
        samples = segment_samples(made(talks), np.random.default_rng(0))
        hard = hard_negatives(samples, np.random.default_rng(0)) if with_hard else None
        for batch in segment_batches(samples, size, np.random.default_rng(1), hard):
            segments = both(samples, batch.rows)
            assert (batch.negatives == batch.negatives.T).all()
            for i, (thread_i, one) in enumerate(segments):
                for j, (thread_j, other) in enumerate(segments):
                    if batch.negatives[i, j]:
                        assert thread_i != thread_j
                        assert shares(one, other) < 0.5

    @given(TALKS, st.integers(1, 9))
    @settings(deadline=None, max_examples=60)
    def test_every_sample_comes_once(self, talks: list[tuple[str, int, list[str]]], size: int) -> None:
        samples = segment_samples(made(talks), np.random.default_rng(0))
        hard = hard_negatives(samples, np.random.default_rng(0))
        rows = [row for b in segment_batches(samples, size, np.random.default_rng(1), hard) for row in b.rows.tolist()]
        assert sorted(rows) == list(range(len(samples)))

    @given(TALKS, TALKS, st.integers(1, 9))
    @settings(deadline=None, max_examples=60)
    def test_a_batch_may_be_of_one_source(
        self, left: list[tuple[str, int, list[str]]], right: list[tuple[str, int, list[str]]], size: int
    ) -> None:
        parts = [segment_samples(made(talks), np.random.default_rng(0)) for talks in (left, right)]
        samples = samples_apart(parts)
        assert samples.sources is not None
        assert samples.anchors == parts[0].anchors + parts[1].anchors
        assert not set(samples.threads[: len(parts[0])]) & set(samples.threads[len(parts[0]) :])
        hard = hard_negatives(samples, np.random.default_rng(0))
        given = list(segment_batches(samples, size, np.random.default_rng(1), hard))
        assert all(len(set(samples.sources[batch.rows])) == 1 and len(batch.rows) <= size for batch in given)
        assert sorted(row for batch in given for row in batch.rows.tolist()) == list(range(len(samples)))

    def test_what_has_nothing_in_common_is_a_negative(self) -> None:
        samples = segment_samples(several(12, 12, 12), np.random.default_rng(0))
        (batch,) = segment_batches(samples, 100, np.random.default_rng(0))
        threads = np.array([number for number, _ in both(samples, batch.rows)])
        assert (batch.negatives == (threads[:, None] != threads[None, :])).all()

    def test_a_thread_of_the_same_evening_is_no_negative_and_one_of_another_day_is(self) -> None:
        threads = [numbered("anna", 4), numbered("anna", 4, 3_600_000), numbered("anna", 4, 5 * NIGHT)]
        samples = segment_samples(threads, np.random.default_rng(0))
        (batch,) = segment_batches(samples, 100, np.random.default_rng(0))
        numbers = [number for number, _ in both(samples, batch.rows)]
        pairs = {(numbers[i], numbers[j]) for i, j in zip(*np.nonzero(batch.negatives), strict=True)}
        assert pairs == {(0, 2), (2, 0), (1, 2), (2, 1)}

    def test_a_common_greeting_does_not_make_two_segments_the_same(self) -> None:
        greeting = ["hi", "hello there"]
        threads = [
            thread(who, [*greeting, *(f"{who} tells the {n} story at length" for n in range(4))]) for who in "xy"
        ]
        samples = segment_samples(threads, np.random.default_rng(0), sizes=(3,), one_side=0)
        (batch,) = segment_batches(samples, 100, np.random.default_rng(0))
        numbers = np.array([number for number, _ in both(samples, batch.rows)])
        assert (batch.negatives == (numbers[:, None] != numbers[None, :])).all()

    def test_hard_ones_come_into_the_batch(self) -> None:
        samples = segment_samples(several(*[2] * 200), np.random.default_rng(0))
        hard = (np.arange(200) ^ 1)[:, None]
        together = [
            int(hard[row, 0]) in batch.rows
            for batch in segment_batches(samples, 20, np.random.default_rng(0), hard)
            for row in batch.rows.tolist()
        ]
        assert np.mean(together) == 1
