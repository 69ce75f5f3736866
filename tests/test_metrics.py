"""What the exam measures, on vectors whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

import tiny
from jarvis_embed.errors import InputError
from jarvis_embed.evaluation import bootstrap, metrics


def named(rows: int, per_group: int = 1) -> list[str]:
    return [str(row // per_group) for row in range(rows)]


@given(st.lists(st.integers(0, 5), min_size=3, max_size=40), st.randoms(use_true_random=False))
def test_spearman_is_that_of_scipy_ties_and_all(values: list[int], shuffle: object) -> None:
    other = list(values)
    shuffle.shuffle(other)  # type: ignore[attr-defined]
    ours = metrics.spearman(values, other, named(len(values))).value
    if len(set(values)) == 1:
        assert ours == 0
    else:
        assert ours == pytest.approx(spearmanr(values, other)[0], abs=1e-9)


class TestResponseAccuracy:
    def test_is_1_where_every_response_lies_at_its_trigger(self) -> None:
        vectors = tiny.unit_rows(300, 32, 300, seed=0)
        assert metrics.response_accuracy(vectors, vectors, named(300), seed=0).value == 1

    def test_is_chance_where_they_have_nothing_in_common(self) -> None:
        left, right = tiny.unit_rows(5000, 32, 5000, seed=0), tiny.unit_rows(5000, 32, 5000, seed=1)
        assert metrics.response_accuracy(left, right, named(5000), seed=0).value == pytest.approx(0.01, abs=0.006)

    def test_a_collapsed_space_has_only_the_chance_of_a_lot(self) -> None:
        same = np.ones((200, 4), np.float32) / 2
        assert metrics.response_accuracy(same, same, named(200), seed=0).value == pytest.approx(0.01)

    def test_needs_as_many_pairs_as_candidates(self) -> None:
        vectors = tiny.unit_rows(99, 8, 99, seed=0)
        with pytest.raises(InputError, match="99"):
            metrics.response_accuracy(vectors, vectors, named(99), seed=0)

    def test_the_seed_draws_the_batches(self) -> None:
        left, right = tiny.unit_rows(400, 8, 20, seed=0), tiny.unit_rows(400, 8, 20, seed=0)
        right = (right + 0.5 * tiny.unit_rows(400, 8, 400, seed=2)).astype(np.float32)
        one, again, other = (metrics.response_accuracy(left, right, named(400), seed=s).value for s in (1, 1, 2))
        assert one == again != other

    def test_sparse_rows_of_words_count_like_dense_ones(self) -> None:
        left, right = tiny.unit_rows(200, 8, 20, seed=0), tiny.unit_rows(200, 8, 20, seed=3)
        sparse = metrics.response_accuracy(
            scipy.sparse.csr_matrix(left), scipy.sparse.csr_matrix(right), named(200), seed=0
        )
        assert sparse.value == metrics.response_accuracy(left, right, named(200), seed=0).value


class TestTriggerCorrelation:
    def test_is_1_where_triggers_lie_as_their_responses_do(self) -> None:
        responses = tiny.unit_rows(200, 16, 20, seed=0)
        pairs = metrics.draw_trigger_pairs(responses, seed=0, drawn=2000)
        assert metrics.trigger_correlation(responses, responses, named(200), pairs).value == pytest.approx(1)

    def test_half_of_the_pairs_are_neighbours_by_response_and_no_trigger_meets_itself(self) -> None:
        responses = tiny.unit_rows(100, 16, 10, seed=0)
        pairs = metrics.draw_trigger_pairs(responses, seed=0, drawn=500)
        assert not np.any(pairs.left == pairs.right)
        scores = responses @ responses.T
        np.fill_diagonal(scores, -2)
        nearest = np.argsort(-scores, axis=1)[:, :20]
        assert all(right in nearest[left] for left, right in zip(pairs.left[500:], pairs.right[500:], strict=True))


class TestReplySimilarity:
    def test_by_hand(self) -> None:
        triggers = np.eye(3, dtype=np.float32)[[0, 0, 1]]
        responses = np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32)
        found = metrics.reply_similarity(triggers, responses, named(3))
        # 0 and 1 find each other (cosine 0); 2 finds either, by lot.
        assert found.value.value == pytest.approx((0 + 0 + (0.6 + 0.8) / 2) / 3)
        assert found.floor.value == pytest.approx((0.3 + 0.4 + 0.7) / 3)
        assert found.ceiling.value == pytest.approx((0.6 + 0.8 + 0.8) / 3)

    def test_a_perfect_space_reaches_the_ceiling_and_a_blind_one_the_floor(self) -> None:
        responses = tiny.unit_rows(300, 16, 30, seed=0)
        assert metrics.reply_similarity(responses, responses, named(300)).share.value == pytest.approx(1)
        blind = metrics.reply_similarity(tiny.unit_rows(300, 16, 300, seed=1), responses, named(300))
        assert blind.share.value == pytest.approx(0, abs=0.1)

    def test_an_index_of_other_triggers(self) -> None:
        triggers, index = np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32)[[1, 0]]
        responses = np.eye(2, dtype=np.float32)
        found = metrics.reply_similarity(triggers, responses, named(2), index, responses)
        assert (found.value.value, found.floor.value, found.ceiling.value) == (0, 0.5, 1)


class TestMatchAgreement:
    def test_counts_only_near_triggers_of_another_text(self) -> None:
        triggers = np.eye(3, dtype=np.float32)
        index = np.array([[1, 0, 0], [0, 1, 0], [0, 0.6, 0.8]], np.float32)
        responses = np.eye(3, dtype=np.float32)
        found = metrics.match_agreement(
            triggers, responses, named(3), ["a", "b", "c"], index, responses, ["a", "other", "far"], seed=0
        )
        assert found.near is not None
        assert (found.near.value, found.agreeing, found.share) == (1, 1, pytest.approx(1 / 3))

    def test_is_not_measured_where_nothing_is_near(self) -> None:
        one = np.eye(2, dtype=np.float32)
        found = metrics.match_agreement(one[:1], one[:1], ["x"], ["a"], one[1:], one[1:], ["b"], seed=0)
        assert found.near is None


class TestThreadSimilarity:
    def test_is_that_of_scikit_learn_over_the_same_pairs(self) -> None:
        segments, threads = tiny.unit_rows(30, 8, 6, seed=0), named(30, per_group=3)
        found = metrics.thread_similarity(segments, threads, seed=0, drawn=200_000)
        scores, of = segments @ segments.T, np.array(threads)
        upper = np.triu_indices(30, 1)
        is_same = (of[:, None] == of)[upper]
        assert found.same.value == pytest.approx(scores[upper][is_same].mean())
        assert found.other.value == pytest.approx(scores[upper][~is_same].mean(), abs=0.01)
        assert found.auc.value == pytest.approx(roc_auc_score(is_same, scores[upper]), abs=0.01)

    def test_a_collapsed_space_has_high_means_and_an_auc_of_one_half(self) -> None:
        found = metrics.thread_similarity(np.ones((40, 4), np.float32) / 2, named(40, 4), seed=0)
        assert found.same.value == pytest.approx(found.other.value) == 1
        assert found.auc.value == pytest.approx(0.5)

    def test_needs_two_threads_with_two_segments(self) -> None:
        with pytest.raises(InputError):
            metrics.thread_similarity(tiny.unit_rows(4, 8, 4, seed=0), ["a"] * 4, seed=0)


class TestThreadRetrieval:
    def test_is_the_share_of_halves_that_find_each_other_both_ways(self) -> None:
        first = np.eye(3, dtype=np.float32)
        second = np.array([[1, 0, 0], [0.8, 0.6, 0], [0, 0, 1]], np.float32)  # the second is nearer to the first half
        found = metrics.thread_retrieval(first, second, named(3))
        assert found.value == pytest.approx((1 + 0.5 + 1) / 3)

    def test_what_is_only_there_to_be_found_is_not_asked(self) -> None:
        first, second = np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32)[[0, 1, 3, 2]]
        found = metrics.thread_retrieval(first, second, named(2))
        assert (found.value, found.groups) == (1, 2)
        second[3] = first[0]
        assert metrics.thread_retrieval(first, second, named(2)).value == pytest.approx((1.5 / 2 + 1) / 2)

    def test_a_collapsed_space_finds_one_in_as_many_as_there_are(self) -> None:
        same = np.ones((50, 4), np.float32) / 2
        assert metrics.thread_retrieval(same, same, named(50)).value == pytest.approx(1 / 50)


def test_recall_is_the_share_of_the_nearest_that_were_found_and_ties_are_one() -> None:
    vectors = np.eye(4, dtype=np.float32)[[0, 0, 0, 1]]
    assert metrics.recall(np.array([[1, 2]]), vectors[:1], vectors) == 1
    assert metrics.recall(np.array([[1, 3]]), vectors[:1], vectors) == 0.5
    assert metrics.recall(np.array([[1, -1]]), vectors[:1], vectors) == 0.5


def test_quality_is_the_mean_over_sources_and_not_over_all_replies() -> None:
    ratings, predicted = [1, 2, 3, 11, 12, 13], [1, 2, 3, 3, 2, 1]
    found = metrics.quality_correlation(predicted, ratings, ["x"] * 3 + ["y"] * 3, named(6))
    assert found["x"].value == pytest.approx(1)
    assert found["y"].value == pytest.approx(-1)
    assert found[""].value == pytest.approx(0)


class TestBootstrap:
    def test_the_interval_of_a_mean_is_that_of_the_central_limit(self) -> None:
        values = np.random.default_rng(0).normal(3, 2, 400)
        found = bootstrap.interval(metrics.mean_of(values, named(400)), seed=0)
        half = 1.96 * values.std() / 20
        assert found.low == pytest.approx(values.mean() - half, abs=0.05)
        assert found.high == pytest.approx(values.mean() + half, abs=0.05)

    def test_conversations_are_drawn_whole(self) -> None:
        """400 rows of 4 conversations are hardly more than 4 values."""
        values = np.repeat([0.0, 1.0, 2.0, 3.0], 100)
        whole = bootstrap.interval(metrics.mean_of(values, named(400, 100)), seed=0)
        rows = bootstrap.interval(metrics.mean_of(values, named(400)), seed=0)
        assert whole.high - whole.low > 5 * (rows.high - rows.low)

    def test_a_row_about_two_conversations_counts_as_often_as_both_were_drawn(self) -> None:
        moments = np.array([[1.0, 1.0], [0.0, 1.0]])
        made = bootstrap.Contributions(
            ("a", "b", "c"), np.array([0, 2]), moments, lambda s: s[..., 1], np.array([1, -1])
        )
        counts = np.random.default_rng(5).multinomial(3, [1 / 3] * 3, size=50)
        assert bootstrap.draws(made, 5, 50) == pytest.approx(counts[:, 0] * counts[:, 1] + counts[:, 2])

    def test_a_difference_is_paired(self) -> None:
        """Two models that differ by 0.1 everywhere differ by 0.1 in every draw, however wide each one's interval."""
        values = np.random.default_rng(0).normal(0, 5, 50)
        found = bootstrap.difference(
            metrics.mean_of(values + 0.1, named(50)), metrics.mean_of(values, named(50)), seed=0
        )
        assert found.value == pytest.approx(0.1)
        assert found.interval.low == pytest.approx(found.interval.high) == pytest.approx(0.1)
        assert found.is_gain

    def test_other_conversations_cannot_be_paired(self) -> None:
        with pytest.raises(InputError):
            bootstrap.difference(metrics.mean_of([1], ["a"]), metrics.mean_of([1], ["b"]), seed=0)

    def test_the_same_seed_gives_the_same_interval(self) -> None:
        made = metrics.mean_of(np.arange(30.0), named(30))
        assert bootstrap.interval(made, 3) == bootstrap.interval(made, 3) != bootstrap.interval(made, 4)
