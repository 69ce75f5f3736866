"""Replies that are found by what they would answer: with a model that has a side for replies."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import jarvis_embed as je
import tiny
from jarvis_embed.config import load_settings, save_settings
from jarvis_embed.forgetting import Wish
from jarvis_embed.models.encoder import Encoder
from jarvis_embed.models.projections import PROJECTIONS_FILE
from jarvis_embed.models.store import model_home
from jarvis_embed.pipeline import rank
from jarvis_embed.purge import forget
from jarvis_embed.spaces import answers as answers_module
from jarvis_embed.spaces.answers import ANSWERS_FILE, ANSWERS_INDEX_FILE
from jarvis_embed.spaces.generations import current_folder
from jarvis_embed.spaces.space import Neighbour, Space
from test_update import Line, ingest


def lines(numbers: range | list[int], person: str = "anna") -> list[Line]:
    """Messages of one talk; a text depends on its number alone, and some occur again and again."""
    made = []
    for number in numbers:
        draw = random.Random(number)
        text = "ok" if number % 7 == 3 else " ".join(draw.choices(tiny.WORDS, k=draw.randint(1, 6)))
        key = f"{person}-{number}"
        sender = ("me", person)[number % 2]
        made.append({"id": key, "conversation": person, "sender": sender, "time": 1_000 + number, "text": text})
    return made


@pytest.fixture(scope="session")
def trained_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a map for replies, as training adds one; here it is drawn by chance."""
    folder = tmp_path_factory.mktemp("models") / "trained"
    shutil.copytree(tiny_folder, folder)
    draw, dim = np.random.default_rng(0), tiny.config().hidden
    shapes = {"inner": (8, dim), "inner_bias": (8,), "outer": (dim, 8), "outer_bias": (dim,)}
    maps = {f"response.{part}": draw.normal(0, 0.4, shape).astype(np.float32) for part, shape in shapes.items()}
    save_file(maps, folder / PROJECTIONS_FILE)
    return folder


@pytest.fixture
def encoder(trained_folder: Path, home: Path) -> Encoder:
    return je.load_encoder(trained_folder, home=home, precision="fp32")


@pytest.fixture
def built(home: Path, tmp_path: Path, encoder: Encoder) -> Path:
    ingest(home, tmp_path / "file.jsonl", lines(range(300)))
    je.build(encoder, home)
    return home


def best(space: Space, text: str, k: int = 10) -> list[tuple[str, int]]:
    """The replies that fit a text best, each with the number of its pair."""
    asked = space.encoder.embed_with_context(text, ())
    found = space.answering(asked, space.encoder.embed([text])[0], k)
    texts = {pair.id: pair.response for pair in space.library.pairs([one.pair_id for one in found])}
    return [(texts[one.pair_id], one.pair_id) for one in found]


def compared(space: Space, text: str, k: int = 10) -> list[tuple[str, int]]:
    """The same, by comparing every reply of the library."""
    newest = {pair.response: pair.id for pair in sorted(space.library.pairs(), key=lambda one: one.response_ms)}
    fit = space.encoder.embed_responses(list(newest)) @ space.encoder.embed_with_context(text, ())
    every = sorted(zip(newest.items(), fit.tolist(), strict=True), key=lambda one: -one[1])
    return [pair for pair, _ in every[:k]]


ASKED = ("wanna grab dinner tomorrow", "how are you", "haha love it", "see you at the movie")


def test_the_best_replies_are_those_that_comparing_all_finds(built: Path, encoder: Encoder) -> None:
    with Space.open(home=built, encoder=encoder) as space:
        for text in ASKED:
            assert best(space, text) == compared(space, text)


def test_a_neighbour_says_how_near_its_own_trigger_is(built: Path, encoder: Encoder) -> None:
    with Space.open(home=built, encoder=encoder) as space:
        vector = encoder.embed([ASKED[0]])[0]
        for one in space.answering(encoder.embed_with_context(ASKED[0], ()), vector, 5):
            (pair,) = space.library.pairs([one.pair_id])
            assert one.score == pytest.approx(float(encoder.embed([pair.trigger])[0] @ vector), abs=1e-5)


def test_a_reply_is_suggested_though_its_own_trigger_is_far(built: Path, encoder: Encoder) -> None:
    with Space.open(home=built, encoder=encoder) as space:
        far = [
            reply
            for pair in list(space.library.pairs())[:40]
            for reply in je.suggest(pair.trigger, space=space, home=built, k=20).replies
            if reply.similarity < space.manifest.min_similarity
        ]
    assert far


def test_a_message_unlike_the_history_gets_no_reply_however_well_one_fits(built: Path, encoder: Encoder) -> None:
    suggest = load_settings(built).suggest.model_copy(update={"min_similarity": 0.9999})
    save_settings(built, load_settings(built).model_copy(update={"suggest": suggest}))
    with Space.open(home=built, encoder=encoder) as space:
        assert je.suggest("zzz qqq xxx", space=space, home=built).replies == ()


def test_of_replies_to_equally_near_triggers_the_one_that_fits_comes_first() -> None:
    found = [Neighbour(number, 0.8, number, 0) for number in range(2)]
    fit = np.array([0.1, 0.6], np.float32)
    ranked = rank(found, np.eye(2, dtype=np.float32), threshold=0.5, half_life_days=365, fit=fit)
    assert [one.neighbour.pair_id for one in ranked] == [1, 0]


def test_a_model_without_a_side_for_replies_has_no_such_file(home: Path, tmp_path: Path, tiny_folder: Path) -> None:
    plain = je.load_encoder(tiny_folder, home=home, precision="fp32")
    ingest(home, tmp_path / "file.jsonl", lines(range(50)))
    je.build(plain, home)
    with Space.open(home=home, encoder=plain) as space:
        assert ANSWERS_FILE not in space.manifest.files
        assert best(space, ASKED[0]) == []


def test_many_replies_have_an_index_that_finds_the_same(
    built: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers_module, "EXACT_BELOW", 10)
    je.build(encoder, built, force=True)
    with Space.open(home=built, encoder=encoder) as space:
        assert ANSWERS_INDEX_FILE in space.manifest.files
        for text in ASKED:
            assert best(space, text) == compared(space, text)


def test_a_generation_from_before_answers_and_the_next_build_adds_the_replies(built: Path, encoder: Encoder) -> None:
    folder = current_folder(model_home(encoder.name, built))
    assert folder is not None
    tiny.as_before(folder, ANSWERS_FILE)
    with Space.open(home=built, encoder=encoder) as space:
        assert je.suggest(next(space.library.pairs()).trigger, space=space, home=built).replies
        assert best(space, ASKED[0]) == []
    report = je.build(encoder, built)
    assert (report.up_to_date, report.embedded) == (False, 0)
    with Space.open(home=built, encoder=encoder) as space:
        assert best(space, ASKED[0]) == compared(space, ASKED[0])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.integers(0, 60), min_size=2, max_size=60), min_size=2, max_size=4))
def test_whatever_comes_and_goes_the_best_replies_are_found(
    tmp_path_factory: pytest.TempPathFactory, trained_folder: Path, versions: list[list[int]]
) -> None:
    folder = tmp_path_factory.mktemp("home")
    encoder = je.load_encoder(trained_folder, home=folder, precision="fp32")
    for version in versions:
        ingest(folder, folder / "file.jsonl", lines(sorted(set(version))))
        with je.Library.open(folder) as library:
            if library.is_empty:
                continue
        je.build(encoder, folder)
        with Space.open(home=folder, encoder=encoder) as space:
            if not space.is_stale:  # what nobody has answered yet is taken in with the next answer
                assert best(space, ASKED[0], 400) == compared(space, ASKED[0], 400)


def test_a_few_new_replies_are_found_beside_the_file_of_all(built: Path, tmp_path: Path, encoder: Encoder) -> None:
    ingest(built, tmp_path / "file.jsonl", lines(range(310)))
    assert je.build(encoder, built).delta > 0
    with Space.open(home=built, encoder=encoder) as space:
        for text in ASKED:
            assert best(space, text, 300) == compared(space, text, 300)


def test_a_forgotten_reply_leaves_the_file(home: Path, tmp_path: Path, encoder: Encoder) -> None:
    ingest(home, tmp_path / "file.jsonl", [*lines(range(60)), *lines(range(100, 160), "ben")])
    je.build(encoder, home)
    with Space.open(home=home, encoder=encoder) as space:
        held = len(best(space, ASKED[0], 400))
    forget(home, Wish(contact="ben"))
    je.build(encoder, home)
    with Space.open(home=home, encoder=encoder) as space:
        kept = best(space, ASKED[0], 400)
        assert 0 < len(kept) < held
        assert kept == compared(space, ASKED[0], 400)
        folder = current_folder(model_home(encoder.name, home))
        assert folder is not None
        assert len(load_file(folder / ANSWERS_FILE)["vectors"]) == len(kept)
