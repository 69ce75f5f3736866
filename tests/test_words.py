"""The words of segments: counted in training, added to vectors in numpy, the same on every machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tiny
from jarvis_embed.errors import WeightsDamaged
from jarvis_embed.models.encoder import load_encoder
from jarvis_embed.models.engine import Vectors, of_length_1
from jarvis_embed.models.projections import PROJECTIONS_FILE, read_projections
from jarvis_embed.models.store import find_model
from jarvis_embed.models.words import SHARE, Words, quiet_directions, rarity, signs_of, words_of
from jarvis_embed.training.network import Network, network_of, save_network
from jarvis_embed.training.recipe import Recipe

DIM, VOCABULARY = 32, 50
ROOMY = quiet_directions(np.random.default_rng(0).normal(size=(200, DIM)).astype(np.float32))
EQUAL = Words(np.ones(VOCABULARY, np.float32), ROOMY)


def cleared(meanings: Vectors) -> Vectors:
    """What meanings say outside of the room of words."""
    return of_length_1(meanings - meanings @ ROOMY.T @ ROOMY / SHARE)


segments = st.lists(st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=12), min_size=1, max_size=6)


@pytest.fixture
def worded(tiny_folder: Path, home: Path) -> Network:
    """A network whose map of segments has moved, with words: "lunch" is rare, all others are not."""
    torch.manual_seed(0)
    network = Network(find_model(tiny_folder, home), context_turns=2, width=16)
    with torch.no_grad():
        for parameter in network.segment.parameters():
            parameter += torch.randn(parameter.shape) * 0.2
    encoder = load_encoder(tiny_folder, home=home, precision="fp32")
    weights = np.full(network.vocabulary, 0.1, np.float32)
    weights[encoder.tokens("lunch")[1:-1]] = 5
    network.words = Words(weights, ROOMY)
    return network


def test_signs_are_those_of_the_number_on_every_machine() -> None:
    """Vectors of segments are stored, so these may never change."""
    signs = signs_of(np.array([0, 7, 30521]), 70)
    assert signs.shape == (3, 70)
    assert signs[:, :12].astype(int).tolist() == [
        [1, 1, 1, 1, -1, 1, -1, 1, 1, -1, 1, 1],
        [1, -1, -1, 1, 1, -1, -1, -1, 1, -1, 1, 1],
        [-1, 1, -1, 1, 1, -1, -1, -1, -1, -1, -1, -1],
    ]
    assert abs(signs_of(np.arange(30_522), 192).mean()) < 0.001


@given(segments)
def test_words_have_their_share_whatever_their_order_or_company(said: list[list[int]]) -> None:
    found = EQUAL(said)
    assert np.linalg.norm(found, axis=1) == pytest.approx(SHARE**0.5, abs=1e-5)
    turned = EQUAL([one[::-1] for one in said[::-1]])[::-1]
    assert turned == pytest.approx(found, abs=1e-5)
    assert EQUAL(said[:1]) == pytest.approx(found[:1], abs=1e-5)


def test_nothing_said_and_nothing_that_counts_leave_the_meaning_alone() -> None:
    meaning = cleared(tiny.unit_rows(3, DIM, DIM, 1))
    silent = Words(np.zeros(VOCABULARY, np.float32), ROOMY)
    assert silent.beside(meaning, [[1], [2, 3], []]) == pytest.approx(meaning, abs=1e-6)
    assert EQUAL([[]]) == pytest.approx(np.zeros((1, DIM)))
    assert EQUAL([]).shape == (0, DIM)


@given(segments, st.integers(0, 99))
def test_likeness_is_that_of_meanings_and_of_words_each_by_its_share(said: list[list[int]], seed: int) -> None:
    """Nothing of one disturbs the other."""
    meanings = tiny.unit_rows(len(said), DIM, DIM, seed)
    found, words, rest = EQUAL.beside(meanings, said), EQUAL(said), cleared(meanings)
    assert found @ found.T == pytest.approx((rest @ rest.T + words @ words.T) / (1 + SHARE), abs=1e-5)


def test_a_rare_word_in_common_counts_more_than_a_common_one() -> None:
    texts = [[1, 2, 3], [1, 4, 5], [1, 6, 7], [1, 2, 8]]
    weights = rarity(texts, VOCABULARY)
    assert weights[1] == 0  # all have it
    assert 0 < weights[2] < weights[3] < weights[9]
    found = Words(weights, ROOMY)([[1, 2, 20], [1, 2, 21], [1, 20, 22]])
    assert found[0] @ found[2] > found[0] @ found[1]


def test_words_go_where_segments_differ_least() -> None:
    """Vectors that differ in half of the directions leave the other half to words."""
    wide = np.zeros((500, DIM), np.float32)
    wide[:, : DIM // 2] = np.random.default_rng(1).normal(size=(500, DIM // 2))
    directions = quiet_directions(wide)
    assert directions @ directions.T == pytest.approx(SHARE * np.eye(DIM // 2), abs=1e-5)
    assert np.abs(directions[:, : DIM // 2]).max() < 1e-5


def test_segments_that_share_a_rare_word_come_nearer(worded: Network, tiny_folder: Path, home: Path) -> None:
    model = find_model(tiny_folder, home)
    said = [["hey", "wanna grab lunch?"], ["sure", "lunch ok"], ["ok", "sure"]]
    save_network(worded, model, home / "with")
    worded.words = None
    save_network(worded, model, home / "without")
    with_words, without = (
        load_encoder(home / name, home=home, precision="fp32").embed_segments(said) for name in ("with", "without")
    )
    assert np.linalg.norm(with_words, axis=1) == pytest.approx(1, abs=1e-5)
    nearer = [float(one[0] @ one[1] - one[0] @ one[2]) for one in (with_words, without)]
    assert nearer[0] > nearer[1] + 0.05


def test_words_count_for_the_fingerprint_and_go_on_to_a_child(worded: Network, tiny_folder: Path, home: Path) -> None:
    model = find_model(tiny_folder, home)
    save_network(worded, model, home / "one")
    child = network_of(find_model(home / "one", home), Recipe(width=16), DIM)
    assert child.words is not None
    assert worded.words is not None
    np.testing.assert_array_equal(child.words.weights, worded.words.weights)
    worded.words = Words(worded.words.weights * 2, ROOMY)
    save_network(worded, model, home / "two")
    one, two = (load_encoder(home / name, home=home, precision="fp32").fingerprint for name in ("one", "two"))
    assert one != two


def test_what_is_known_of_words_must_be_whole(worded: Network, tiny_folder: Path, home: Path) -> None:
    whole = {"words.weights": np.ones(9, np.float16), "words.room": ROOMY}
    assert words_of(whole, DIM) is not None
    assert words_of({}, DIM) is None
    for broken in (
        {"words.weights": whole["words.weights"]},
        {**whole, "words.room": ROOMY[:, 1:]},
        {**whole, "words.weights": np.full(9, np.nan, np.float32)},
    ):
        with pytest.raises(WeightsDamaged, match="words"):
            words_of(broken, DIM)
    assert worded.words is not None
    worded.words = Words(worded.words.weights[:5], ROOMY)
    save_network(worded, find_model(tiny_folder, home), home / "few")
    assert read_projections(home / "few", DIM).words is not None
    with pytest.raises(WeightsDamaged, match=f"{PROJECTIONS_FILE} does not know all tokens"):
        load_encoder(home / "few", home=home, precision="fp32")
