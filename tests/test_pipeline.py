"""Suggestions: ranked, merged, honest about having none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jarvis_embed as je
import tiny
from jarvis_embed.config import load_settings, save_settings
from jarvis_embed.errors import InputError
from jarvis_embed.models.encoder import Encoder
from jarvis_embed.pipeline import rank
from jarvis_embed.spaces.space import Neighbour, Space

DAY = 86_400_000


@pytest.fixture
def space(home: Path, history: Path, encoder: Encoder) -> Space:
    with je.Library.open(home) as library:
        library.ingest(je.sources.open(history))
    je.build(encoder, home)
    return Space.open(home=home, encoder=encoder)


def test_a_known_message_is_answered_as_before(space: Space, home: Path) -> None:
    pair = next(space.library.pairs())
    suggestion = je.suggest(pair.trigger, space=space, home=home)
    assert 1 <= len(suggestion.replies) <= 3
    assert suggestion.nearest == pytest.approx(1, abs=1e-4)
    for reply in suggestion.replies:
        assert reply.text == reply.pair.response
        assert 0 <= reply.score <= 1
        assert reply.similarity >= suggestion.threshold
    scores = [reply.score for reply in suggestion.replies]
    assert scores == sorted(scores, reverse=True)


def test_every_stage_is_timed_in_order(space: Space, home: Path) -> None:
    suggestion = je.suggest("lunch?", space=space, home=home)
    assert [timing.stage for timing in suggestion.timings] == ["embed", "search", "classify", "rank", "fetch"]
    assert all(timing.ms >= 0 for timing in suggestion.timings)
    assert suggestion.trigger_label is None


def test_nothing_good_is_said_and_not_invented(space: Space, home: Path) -> None:
    suggest = load_settings(home).suggest.model_copy(update={"min_similarity": 0.9999})
    save_settings(home, load_settings(home).model_copy(update={"suggest": suggest}))
    suggestion = je.suggest("zzz qqq xxx", space=space, home=home)
    assert suggestion.replies == ()
    assert suggestion.nearest < 0.9999 == suggestion.threshold


def test_the_threshold_is_the_space_s_own(space: Space, home: Path) -> None:
    assert je.suggest("lunch?", space=space, home=home).threshold == space.manifest.min_similarity > 0


def test_a_long_text_is_answered_and_the_cut_is_said(space: Space, home: Path) -> None:
    assert any("32 tokens" in note for note in je.suggest("lunch " * 100, space=space, home=home).notes)
    assert je.suggest("lunch", space=space, home=home).notes == ()


def test_a_stale_space_says_so(space: Space, home: Path, history: Path) -> None:
    with je.Library.open(home) as library:
        library.ingest(je.sources.open(tiny.write_history(history, 230)))
    assert any("jarvis-embed build" in note for note in je.suggest("lunch", space=space, home=home).notes)


@pytest.mark.parametrize(("text", "k"), [("", 3), ("  \n", 3), ("hey", 0)])
def test_what_cannot_be_answered_is_refused(space: Space, home: Path, text: str, k: int) -> None:
    with pytest.raises(InputError):
        je.suggest(text, k=k, space=space, home=home)


@pytest.mark.parametrize("text", ["😂", "a\x00b", "\ud800 hey", "x" * 100_000])
def test_odd_messages_are_answered(space: Space, home: Path, text: str) -> None:
    je.suggest(text, space=space, home=home)


def test_a_history_that_is_one_pair_is_enough(home: Path, tmp_path: Path, encoder: Encoder) -> None:
    lines = [
        {"conversation": "c", "sender": s, "time": i, "text": t} for i, (s, t) in enumerate((("a", "hey"), ("b", "hi")))
    ]
    (tmp_path / "one.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with je.Library.open(home) as library:
        library.ingest(je.sources.open(tmp_path / "one.jsonl"))
    je.build(encoder, home)
    with Space.open(home=home, encoder=encoder) as space:
        (reply,) = je.suggest("hey", space=space, home=home).replies
    assert (reply.text, reply.support) == ("hi", 1)
    assert reply.match == pytest.approx(1, abs=1e-4)
    assert reply.quality is not None
    assert reply.score <= reply.match


def neighbours(*scores: float, times: tuple[int, ...] | None = None) -> list[Neighbour]:
    return [Neighbour(i, score, i, times[i] if times else 0) for i, score in enumerate(scores)]


def order(of: list[Neighbour], vectors: np.ndarray) -> list[int]:
    return [r.neighbour.pair_id for r in rank(of, np.asarray(vectors, np.float32), threshold=0.5, half_life_days=365)]


def test_a_reply_that_others_gave_too_overtakes_the_nearest() -> None:
    same, other = np.eye(8)[0], np.eye(8)[1]
    nearly = [same + 0.6 * np.eye(8)[i] for i in (2, 3, 4)]
    vectors = [v / np.linalg.norm(v) for v in (other, *nearly)]
    assert order(neighbours(0.81, 0.8, 0.8, 0.8), np.array(vectors))[0] != 0


def test_alone_the_nearest_comes_first() -> None:
    assert order(neighbours(0.7, 0.9, 0.8), np.eye(3)) == [1, 2, 0]


def test_of_replies_on_which_none_agree_the_one_that_fits_comes_first() -> None:
    now = np.array([0.1, 0.7], np.float32)
    ranked = rank(neighbours(0.8, 0.8), np.eye(2, dtype=np.float32), threshold=0.5, half_life_days=365, now=now)
    assert [r.neighbour.pair_id for r in ranked] == [1, 0]
    assert all(0 <= r.score <= 1 for r in ranked)


def test_near_duplicates_are_one_reply_with_their_support() -> None:
    vectors = np.array([[1, 0, 0], [0.99, 0.14, 0], [0, 0, 1]])
    ranked = rank(neighbours(0.9, 0.9, 0.6), vectors.astype(np.float32), threshold=0.5, half_life_days=365)
    assert [r.support for r in ranked] == [2, 1]


def test_of_equal_replies_the_newer_comes_first() -> None:
    assert order(neighbours(0.8, 0.8, times=(0, 1000 * DAY)), np.eye(2)) == [1, 0]


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30), st.integers(0, 5), st.floats(-1, 1))
def test_ranking_loses_no_neighbour_and_keeps_scores_in_bounds(
    scores: list[float], seed: int, threshold: float
) -> None:
    vectors = tiny.unit_rows(len(scores), 6, 3, seed)
    ranked = rank(neighbours(*scores), vectors, threshold=threshold, half_life_days=30)
    assert sum(r.support for r in ranked) == len(scores)
    assert all(0 <= r.score <= 1 + 1e-6 for r in ranked)
