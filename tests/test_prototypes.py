"""Prototypes of segments: exchanges that are known, towards which vectors are drawn; of public conversations alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors.numpy import save_file

from jarvis_embed.conversations.segments import samples_apart
from jarvis_embed.errors import TrainingError, WeightsDamaged
from jarvis_embed.messages import Conversation, Message
from jarvis_embed.models.encoder import load_encoder
from jarvis_embed.models.engine import of_length_1
from jarvis_embed.models.projections import PROJECTIONS_FILE, read_projections
from jarvis_embed.models.prototypes import Prototypes, attraction, crowding_of, means_of, prototypes_of
from jarvis_embed.models.store import find_model
from jarvis_embed.training.maps import prototypes_among
from jarvis_embed.training.network import Network, network_of, save_network
from jarvis_embed.training.recipe import RECIPES, Recipe
from jarvis_embed.training.segments import SegmentSet, drawn_samples, numbered_segments, segment_set
from jarvis_embed.training.texts import Texts

DIM = 32


def directions(number: int, seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return of_length_1(np.random.default_rng(seed).normal(size=(number, DIM)).astype(np.float32))


KNOWN = Prototypes(directions(20), np.zeros(20, np.float32), 0.5)


@given(st.integers(1, 40), st.integers(0, 1000), st.floats(0.01, 3))
def test_what_is_drawn_keeps_its_length_and_does_not_depend_on_its_company(number: int, seed: int, pull: float) -> None:
    segments, known = directions(number, seed), Prototypes(KNOWN.places, KNOWN.crowding, pull)
    found = known(segments)
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-5)
    assert found[:1] == pytest.approx(known(segments[:1]), abs=1e-5)


def test_segments_of_one_exchange_come_nearer_to_it_and_to_each_other() -> None:
    one, two = (of_length_1(KNOWN.places + 0.15 * directions(20, seed) * np.sqrt(DIM)) for seed in (1, 2))
    before, after = (one * two).sum(1), (KNOWN(one) * KNOWN(two)).sum(1)
    assert after.mean() > before.mean() + 0.05
    assert (KNOWN(one) * KNOWN.places).sum(1).mean() > (one * KNOWN.places).sum(1).mean()


def test_what_attracts_everything_counts_less() -> None:
    segments = of_length_1(directions(500) + 2 * directions(1, 9))  # all lean one way
    places = np.concatenate([of_length_1(directions(30, 3) + 2 * directions(1, 9)), directions(1, 9)])
    crowding = crowding_of(places, segments)
    assert crowding.argmax() == 30  # the way they lean
    plain, fair = attraction(segments, places).mean(0), attraction(segments, places, crowding).mean(0)
    assert fair.std() < plain.std()
    assert fair.sum() == pytest.approx(1, abs=1e-5)


def test_an_exchange_is_the_mean_of_its_segments() -> None:
    segments, exchanges = directions(6), np.array([7, 3, 7, 3, 7, 9])
    means = means_of(segments, exchanges)
    assert means[1] == pytest.approx(of_length_1(segments[[0, 2, 4]].mean(0, keepdims=True))[0], abs=1e-6)
    assert means[2] == pytest.approx(segments[5], abs=1e-6)


def two_sources(folder: Path, home: Path) -> tuple[SegmentSet, np.ndarray[tuple[int, ...], np.dtype[np.float16]]]:
    """Segments of made-up talks of two sources, apart, and the vectors of their texts."""
    drawn = []
    for source, words in enumerate(("lunch tomorrow", "see the film")):
        said = [
            [Message(f"{talk} {n}", "AB"[n % 2], 1000 * n, f"{words} {talk} {n}") for n in range(10)]
            for talk in range(4)
        ]
        talks = [Conversation(f"{source} {talk}", tuple(one)) for talk, one in enumerate(said)]
        drawn.append(drawn_samples(talks, (), 1))
    samples, texts = samples_apart(drawn), Texts()
    numbered = numbered_segments(samples, texts)
    vectors = load_encoder(folder, home=home, precision="fp32").embed(list(texts.rows)).astype(np.float16)
    return segment_set(samples, *numbered, vectors), vectors


def test_prototypes_are_of_public_sources_and_never_of_ones_own_messages(tiny_folder: Path, home: Path) -> None:
    segments, vectors = two_sources(tiny_folder, home)
    network = Network(find_model(tiny_folder, home), context_turns=2, width=16)
    known = prototypes_among(network, segments, vectors, [1], 0.5)
    assert known.places.shape == (4, DIM)  # of the four exchanges of the one that was asked for
    mixed = replace(segments, samples=replace(segments.samples, sources=None))
    with pytest.raises(TrainingError, match="mixed"):
        prototypes_among(network, mixed, vectors, [0], 0.5)
    for asked in (["own"], ["chitchat"], ["dailydialog"]):
        with pytest.raises(ValidationError, match="prototypes"):
            Recipe.model_validate({"sources": {"own": 1.0}, "segments_apart": True, "prototypes": asked})
    with pytest.raises(ValidationError, match="segments_apart"):
        Recipe.model_validate({"sources": {"own": 1.0, "dailydialog": 1.0}, "prototypes": ["dailydialog"]})
    assert {one.prototypes for name, one in RECIPES.items() if "own" in one.sources} == {()}


def test_a_model_keeps_them_beside_its_maps(tiny_folder: Path, home: Path, tmp_path: Path) -> None:
    model = find_model(tiny_folder, home)
    torch.manual_seed(0)
    network = Network(model, context_turns=2, width=16)
    with torch.no_grad():
        for parameter in network.segment.parameters():
            parameter += torch.randn(parameter.shape) * 0.2
    save_network(network, model, tmp_path / "plain")
    network.prototypes = KNOWN
    save_network(network, model, tmp_path / "drawn")
    plain, drawn = (load_encoder(tmp_path / name, home=home, precision="fp32") for name in ("plain", "drawn"))
    assert plain.fingerprint != drawn.fingerprint
    said = [["lunch tomorrow?", "ok"], ["see you"]]
    assert drawn.embed_segments(said) == pytest.approx(KNOWN(plain.embed_segments(said)), abs=1e-3)
    assert np.array_equal(drawn.embed(["see you"]), plain.embed(["see you"]))
    child = network_of(find_model(tmp_path / "drawn", home), Recipe(width=16), DIM)
    assert child.prototypes is not None
    assert child.prototypes.pull == KNOWN.pull


@pytest.mark.parametrize("broken", ["places", "crowding", "pull", "nan"])
def test_prototypes_that_do_not_fit_are_an_error(broken: str, tmp_path: Path) -> None:
    tensors = {
        "prototypes.places": KNOWN.places.copy(),
        "prototypes.crowding": KNOWN.crowding,
        "prototypes.pull": np.array([0.5], np.float32),
    }
    assert prototypes_of(tensors, DIM) is not None
    assert prototypes_of({}, DIM) is None
    if broken == "nan":
        tensors["prototypes.places"][3, 3] = np.nan
    else:
        tensors[f"prototypes.{broken}"] = np.zeros((3, 3), np.float32)
    with pytest.raises(WeightsDamaged, match="prototypes"):
        prototypes_of(tensors, DIM)
    tensors |= {f"segment.{part}": np.zeros(shape, np.float32) for part, shape in SHAPES.items()}
    save_file(tensors, tmp_path / PROJECTIONS_FILE)
    with pytest.raises(WeightsDamaged, match="prototypes"):
        read_projections(tmp_path, DIM)


SHAPES = {"inner": (16, 3 * DIM), "inner_bias": (16,), "outer": (DIM, 16), "outer_bias": (DIM,), "attention": (DIM,)}
