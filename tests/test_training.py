"""Training: what is learned from, that it learns, that nothing breaks a run, and that a worse model is refused."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from typer.testing import CliRunner

import labelled
import tiny
from jarvis_embed.cli import app
from jarvis_embed.conversations.segments import SAMPLE_TURNS, text_of
from jarvis_embed.errors import DiskFull, InputError, ModelError, ModelRefused, SourceError, TextLeak, TrainingError
from jarvis_embed.evaluation.gate import Gate
from jarvis_embed.labels.scheme import LABELS, TASKS
from jarvis_embed.library import Library
from jarvis_embed.messages import Conversation, Message
from jarvis_embed.models.encoder import load_encoder
from jarvis_embed.models.lineage import Judged, Lineage, Verdict, read_lineage, require_passed
from jarvis_embed.models.projections import read_projections
from jarvis_embed.models.store import add_model, find_model
from jarvis_embed.models.weights import load_tensors
from jarvis_embed.sources import open_source
from jarvis_embed.training import corpora, ground, maps, objectives, runner
from jarvis_embed.training import model as training
from jarvis_embed.training import network as network_module
from jarvis_embed.training.batches import batches, steps_of
from jarvis_embed.training.heads import Setting, train_heads
from jarvis_embed.training.judgements import TURNS, Contrasted, Judgements, Ratings, Replies
from jarvis_embed.training.looks import watch_of
from jarvis_embed.training.maps import (
    expect_answers,
    fixed_turns,
    learn_beside_words,
    learn_projections,
    learn_segments,
    thread_loss,
    words_beside,
)
from jarvis_embed.training.material import (
    LabelSet,
    Material,
    PairSet,
    RecordSet,
    SentenceSet,
    assembled,
    numbered_labels,
    shuffled_responses,
)
from jarvis_embed.training.mining import LIKE, mine_triplets
from jarvis_embed.training.network import Network, save_network
from jarvis_embed.training.recipe import RECIPES, Objectives, Recipe, load_recipe
from jarvis_embed.training.segments import (
    LONGEST,
    drawn_samples,
    numbered_segments,
    segment_draws,
    segment_set,
)
from jarvis_embed.training.teachers import taught_by
from jarvis_embed.training.texts import Rows, Texts, Tokens

RECIPE = Recipe(
    objectives=Objectives(relation=0.0, threads=0.3, hold=0.0),
    passes=10,
    batch_pairs=32,
    run_pairs=4,
    width=16,
    rate=1e-3,
    projection_rate=1e-2,
    projection_passes=2,
    gate=Gate(tolerances={}),
)


@pytest.fixture(scope="module")
def small_material(tiny_folder: Path) -> Material:
    """Pairs, records and sentences of made-up words, with the tiny model's tokens."""
    draw = random.Random(3)
    encoder = load_encoder(tiny_folder, home=tiny_folder.parent / "home", precision="fp32", cache=0)
    texts = [" ".join(draw.choices(tiny.WORDS, k=draw.randint(2, 6))) for _ in range(120)]
    texts = list(dict.fromkeys(texts))
    vectors = encoder.embed(texts).astype(np.float16)
    rows = np.arange(60)
    context = np.stack([rows - 1, np.full(60, -1)], 1)
    pairs = PairSet("own", rows, rows + 40, context, rows // 12)
    said = [Message(str(n), "AB"[n % 2], 1000 * n, texts[n]) for n in range(100)]
    talks = [Conversation(f"talk {n}", tuple(said[n : n + 10])) for n in range(0, 100, 10)]
    samples = drawn_samples(talks, (), 1)
    numbers = Texts()
    numbers.of(texts)
    numbered = numbered_segments(samples, numbers)
    texts = list(numbers.rows)
    vectors = encoder.embed(texts).astype(np.float16)
    segments = segment_set(samples, *numbered, vectors)
    turns = np.full((40, TURNS), -1)
    turns[:, 0] = np.arange(40)
    contrasted = Contrasted(turns, np.arange(40) + 40, np.arange(40) + 41, np.arange(40) + 60)
    rated = Ratings(
        Replies(turns, np.arange(40) + 30),
        np.linspace(-1, 1, 40, dtype=np.float32),
        np.arange(40) % 2,
        np.ones(40, np.float32),
    )
    record_rows = np.arange(30)
    likeness = vectors[30:60].astype(np.float32)
    near = np.argsort(-(likeness @ likeness.T), axis=1)[:, 1:21]
    return Material(
        texts=tuple(texts),
        tokens=tuple(encoder.tokens(text) for text in texts),
        near=np.arange(len(texts)),
        reference=vectors,
        parent=vectors,
        pairs=(pairs,),
        records=RecordSet(record_rows, likeness, near),
        sentences=SentenceSet(rows[:20], rows[20:40], np.linspace(0, 5, 20, dtype=np.float32)),
        segments=segments,
        judgements=Judgements(contrasted, rated),
        labels=_made_up_labels(rows, draw),
    )


def _made_up_labels(rows: Rows, draw: random.Random) -> LabelSet:
    """Of each text, and the one that stands after it, what a teacher might say: one label nearly surely."""
    chances = {}
    for task in TASKS:
        many = len(LABELS[task])
        sure = np.eye(many, dtype=np.float32)[[draw.randrange(many) for _ in rows]]
        chances[task] = 0.9 * sure + 0.1 / many
    return LabelSet(rows, rows + 1, chances)


@pytest.fixture
def network(tiny_folder: Path) -> Network:
    return _network(tiny_folder)


def _network(folder: Path) -> Network:
    torch.manual_seed(0)
    return Network(find_model(folder, folder), context_turns=2, width=16, dropout=0.1, judges=True, labels=True)


@pytest.fixture
def talkative(tmp_path: Path, tiny_folder: Path, home: Path) -> Path:
    """A home whose owner answers each word by another one; a model can learn it. Its model is called tiny."""
    draw = random.Random(1)
    answer = dict(zip(tiny.WORDS, draw.sample(tiny.WORDS, len(tiny.WORDS)), strict=True))
    lines, topic = [], list(tiny.WORDS)
    now = 1_700_000_000
    for number in range(2600):
        now += 60 if number % 20 else 100_000
        if number % 20 == 0:
            topic = draw.sample(tiny.WORDS, 10)
        asked = draw.sample(topic, 4)
        friend = f"friend {number // 20 % 5}"
        for sender, words in ((friend, asked), ("me", [answer[word] for word in asked])):
            message = {"conversation": friend, "sender": sender, "time": now, "text": " ".join(words)}
            lines.append(message | {"is_from_me": sender == "me"})
            now += 30
    path = tmp_path / "talk.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    add_model("tiny", tiny_folder, home)
    with Library.open(home) as library:
        library.ingest(open_source(path))
    return home


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small products gain nothing from more, and pools of several test workers wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def the_tiny_model_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    """The frozen reference of training and exam is the tiny model; the real one is not needed to see that it works."""
    from jarvis_embed.evaluation import exam

    monkeypatch.setattr(exam, "REFERENCE", "tiny")
    monkeypatch.setattr(training, "REFERENCE", "tiny")
    monkeypatch.setattr(ground, "REFERENCE", "tiny")


class TestNetwork:
    def test_it_computes_what_the_encoder_computes(self, network: Network, tiny_folder: Path, home: Path) -> None:
        encoder = load_encoder(tiny_folder, home=home, precision="fp32")
        texts = ["hey", "wanna grab lunch tomorrow?", "ok", "see you at the movie tonight"]
        network.eval()
        with torch.no_grad():
            ours = network([encoder.tokens(text) for text in texts]).numpy()
        assert ours == pytest.approx(encoder.embed(texts), abs=1e-5)

    def test_a_saved_network_is_an_encoder_with_its_projections(
        self, network: Network, tiny_folder: Path, tmp_path: Path, home: Path
    ) -> None:
        with torch.no_grad():
            for parameter in network.projections():
                parameter += torch.randn(parameter.shape) * 0.2
        network.eval()
        save_network(network, find_model(tiny_folder, home), tmp_path / "saved")
        encoder = load_encoder(tmp_path / "saved", home=home, precision="fp32")
        texts = ["hey", "wanna grab lunch?", "sure"]
        with torch.no_grad():
            vectors = network([encoder.tokens(text) for text in texts])
            answers = network.response(vectors).numpy()
            asked = network.in_context(vectors, torch.tensor([1, 1]), torch.tensor([[2, 0], [0, -1]])).numpy()
            whole = network([encoder.tokens(text) for text in ("\n".join(texts), texts[2])])
            rows = torch.tensor([[0, 1, 2], [2, -1, -1]])
            segments = network.segment(whole, vectors[rows], rows >= 0).numpy()
        assert encoder.embed(texts) == pytest.approx(vectors.numpy(), abs=1e-5)
        assert encoder.embed_responses(texts) == pytest.approx(answers, abs=1e-5)
        assert encoder.embed_with_context(texts[1], ["ok", "hey", "sure"]) == pytest.approx(asked[0], abs=1e-5)
        assert encoder.embed_with_context(texts[1], ["hey"]) == pytest.approx(asked[1], abs=1e-5)
        assert encoder.embed_segments([texts, texts[2:]]) == pytest.approx(segments, abs=1e-5)
        assert encoder.reads_context
        assert encoder.has_response_side
        assert encoder.has_segment_side
        assert np.linalg.norm(asked, axis=1) == pytest.approx(1, abs=1e-5)

    def test_projections_change_the_fingerprint(
        self, network: Network, tiny_folder: Path, tmp_path: Path, home: Path
    ) -> None:
        with torch.no_grad():
            network.response.outer.bias += 0.1
        save_network(network, find_model(tiny_folder, home), tmp_path / "saved")
        with_them = load_encoder(tmp_path / "saved", home=home, precision="fp32").fingerprint
        (tmp_path / "saved" / "projections.safetensors").unlink()
        assert load_encoder(tmp_path / "saved", home=home, precision="fp32").fingerprint != with_them

    def test_training_starts_at_the_parent(self, network: Network) -> None:
        vectors = torch.nn.functional.normalize(torch.randn(5, 32), dim=-1)
        assert torch.allclose(network.response(vectors), vectors, atol=1e-6)
        assert torch.allclose(network.in_context(vectors, torch.arange(5), torch.full((5, 2), -1)), vectors, atol=1e-6)

    def test_frozen_layers_have_no_gradient(self, tiny_folder: Path) -> None:
        frozen = Network(find_model(tiny_folder, tiny_folder), context_turns=1, width=8, frozen_layers=1)
        learning = {name.split(".")[3] for name, p in frozen.named_parameters() if p.requires_grad and "layer." in name}
        assert learning == {"1"}
        assert not frozen.bert.embeddings.word_embeddings.weight.requires_grad


class TestObjectives:
    def test_contrast_without_a_mask_is_multiple_negatives_ranking(self) -> None:
        from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

        left, right = (torch.nn.functional.normalize(torch.randn(9, 16), dim=-1) for _ in range(2))
        theirs = MultipleNegativesRankingLoss(torch.nn.Identity(), scale=20.0)  # type: ignore[arg-type]
        ours = objectives.contrast(left, right, torch.zeros(9, 9, dtype=torch.bool), 0.05)
        assert float(ours) == pytest.approx(float(theirs.compute_loss_from_embeddings([left, right], None)), abs=1e-5)  # type: ignore[arg-type]

    def test_a_masked_candidate_is_no_negative(self) -> None:
        left, right = (torch.nn.functional.normalize(torch.randn(4, 8), dim=-1) for _ in range(2))
        right.requires_grad_()
        masked = torch.zeros(4, 4, dtype=torch.bool)
        masked[:, 2] = True
        masked[2, 2] = False
        objectives.contrast(left[:2], right, masked[:2], 0.05).backward()
        assert right.grad is not None
        assert right.grad[2].abs().sum() == 0
        assert right.grad[3].abs().sum() > 0

    @given(seed=st.integers(0, 2**16), scale=st.floats(0.1, 5), shift=st.floats(-2, 2))
    @settings(max_examples=30, deadline=None)
    def test_relation_is_about_order_and_spacing_not_scale(self, seed: int, scale: float, shift: float) -> None:
        vectors = torch.nn.functional.normalize(
            torch.randn(8, 5, generator=torch.Generator().manual_seed(seed)), dim=-1
        )
        wanted = vectors @ vectors.T
        even = torch.ones(8, 8)
        assert float(objectives.relation(vectors, scale * wanted + shift, even)) == pytest.approx(0, abs=1e-3)
        assert float(objectives.relation(vectors, -wanted, even)) == pytest.approx(2, abs=1e-3)

    def test_the_likest_pairs_weigh_as_much_as_all_others(self) -> None:
        wanted = torch.randn(40, 40)
        wanted = wanted + wanted.T
        weights = objectives.relation_weights(wanted, torch.eye(40, dtype=torch.bool), share=0.05)
        extra = weights[weights > 1.5]
        assert float(extra.sum()) == pytest.approx(float(weights.sum() / 2), rel=0.1)
        assert wanted[weights > 1.5].min() >= wanted.triu(1)[weights == 1].max()

    def test_order_asks_for_peoples_order(self) -> None:
        right = torch.eye(3)
        left = torch.nn.functional.normalize(torch.tensor([[1.0, 0.2, 0], [0.5, 1, 0.3], [1, 1, 0.3]]), dim=-1)
        rising, falling = torch.tensor([5.0, 4, 0]), torch.tensor([0.0, 4, 5])
        assert objectives.order(left, right, rising) < objectives.order(left, right, falling)

    def test_labels_are_learned_by_cross_entropy_with_a_teachers_probabilities(self) -> None:
        torch.manual_seed(0)  # what is drawn shall not depend on the tests that ran before
        logits, chances = torch.randn(6, 3), torch.randn(6, 3).softmax(1)
        even = objectives.labelling(logits, chances, torch.ones(3))
        assert float(even) == pytest.approx(float(torch.nn.functional.cross_entropy(logits, chances)), abs=1e-6)
        rare = torch.tensor([9.0, 1, 1])
        first = objectives.labelling(logits[:, [0, 1, 2]] + torch.tensor([5.0, 0, 0]), chances, rare)
        last = objectives.labelling(logits[:, [0, 1, 2]] + torch.tensor([0.0, 0, 5]), chances, rare)
        assert first < last  # who is to find the first label does better by saying it

    def test_to_follow_teachers_is_to_have_the_softmax_of_their_cosines(self) -> None:
        taught, others = (torch.nn.functional.normalize(torch.randn(8, 5), dim=-1) for _ in range(2))
        negatives = ~torch.eye(8, dtype=torch.bool)
        alike = objectives.following(taught, taught, negatives, 0.1, 0.1)
        chances = (taught @ taught.T / 0.1).masked_fill(~negatives, float("-inf")).softmax(1)
        assert float(alike) == pytest.approx(float(torch.special.entr(chances).sum(1).mean()), abs=1e-5)
        assert alike < objectives.following(others, taught, negatives, 0.1, 0.1)
        sure = torch.eye(4).repeat(2, 1)  # for whom the other one of the thread is all that is near
        contrast = objectives.segment_contrast(others, negatives, 0.1)
        assert float(objectives.following(others, sure, negatives, 0.1, 0.01)) == pytest.approx(
            float(contrast), abs=1e-5
        )

    def test_what_may_not_stand_against_a_segment_is_not_learned_from_teachers_either(self) -> None:
        found = torch.randn(8, 5, requires_grad=True)
        taught = torch.nn.functional.normalize(torch.randn(8, 5), dim=-1)
        loss = objectives.following(found, taught, torch.zeros(8, 8, dtype=torch.bool), 0.1, 0.05)
        loss.backward()
        # its own thread's is all that is left, and nothing to choose
        assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
        assert found.grad is not None
        assert not found.grad.abs().max() > 1e-5

    def test_holding_costs_nothing_at_the_parent(self) -> None:
        vectors = torch.nn.functional.normalize(torch.randn(4, 8), dim=-1)
        assert float(objectives.hold(vectors, vectors)) == pytest.approx(0, abs=1e-6)
        assert float(objectives.hold(vectors, -vectors)) == pytest.approx(2, abs=1e-6)


class TestSegments:
    def test_no_segment_stands_against_one_of_its_own_thread(self, small_material: Material) -> None:
        segments = small_material.segments
        assert segments is not None
        thread = dict(zip(map(bytes, segments.turns), 2 * segments.samples.threads.tolist(), strict=True))
        for _, draw in zip(range(20), segment_draws(segments, 8, np.random.default_rng(0)), strict=False):
            numbers = np.array([thread[bytes(turns)] for turns in draw.turns])
            half = len(numbers) // 2
            assert (numbers[:half] == numbers[half:]).all()
            assert not (draw.negatives & (numbers[:, None] == numbers)).any()
            assert draw.negatives.any()

    def test_segments_are_of_many_sizes_and_sometimes_of_one_side(self, small_material: Material) -> None:
        segments = small_material.segments
        assert segments is not None
        sizes = (segments.turns[len(segments) :] >= 0).sum(1)
        assert segments.turns.shape[1] == LONGEST
        assert {1, 2, 3, 5} <= set(sizes.tolist()) <= set(SAMPLE_TURNS)
        sides = [{turn.sender for turn in one.turns} for one in segments.samples.anchors if len(one.turns) > 1]
        assert {1, 2} == {len(side) for side in sides}

    def test_teachers_say_how_near_segments_are_by_the_mean_of_their_cosines(
        self, tiny_folder: Path, small_material: Material, home: Path
    ) -> None:
        segments = small_material.segments
        assert segments is not None
        int8, exact = (load_encoder(tiny_folder, home=home, precision=one) for one in ("int8", "fp32"))
        numbered, asked = (segments.texts, segments.turns), list[str]()
        taught = taught_by(
            [int8, exact], segments.samples, numbered, small_material.texts, lambda stage, *_: asked.append(stage)
        )
        assert taught is not None
        assert set(asked) == {f"ask {int8.name}"}
        said = [one.texts for one in (*segments.samples.anchors, *segments.samples.positives)]
        found = [teacher.embed_segments(said) for teacher in (int8, exact)]
        ours = taught.astype(np.float32)
        assert ours @ ours.T == pytest.approx(sum(one @ one.T for one in found) / 2, abs=5e-3)
        assert taught_by([], segments.samples, numbered, small_material.texts, lambda *_: None) is None

    def test_a_map_learns_to_see_segments_as_its_teacher_does(self, network: Network, small_material: Material) -> None:
        segments = small_material.segments
        assert segments is not None
        draw = np.random.default_rng(7).normal(size=(2 * len(segments), 6))  # a teacher with a mind of its own
        taught = (draw / np.linalg.norm(draw, axis=1, keepdims=True)).astype(np.float16)
        material = replace(small_material, segments=replace(segments, taught=taught))
        assert material.segments is not None
        drawn = next(segment_draws(material.segments, 16, np.random.default_rng(1), hard=False))
        rows = [next(row for row in np.flatnonzero((segments.turns == turns).all(1))) for turns in drawn.turns]
        assert drawn.taught is not None
        assert sum(bool((one == taught[row]).all()) for one, row in zip(drawn.taught, rows, strict=True)) >= 16

        def loss() -> float:
            whole = torch.from_numpy(material.parent[drawn.texts]).float()
            with torch.no_grad():
                found = network.segment(whole, *fixed_turns(material.parent, drawn.turns, network.device))
            return float(thread_loss(found, drawn, 0.1, 0.1))

        before = loss()
        learn_segments(network, material, material.parent, RECIPE, 40.0, lambda *_: None, "x")
        assert loss() < before - 0.1

    def test_a_recipe_may_leave_segments_to_their_map_alone(self, small_material: Material) -> None:
        recipe = RECIPE.model_copy(update={"batch_segments": 0})
        assert recipe.objectives.threads
        assert not len(next(batches(small_material, recipe)).segments.texts)
        assert len(next(batches(small_material, RECIPE)).segments.texts)

    def test_what_is_hard_to_tell_from_a_segment_comes_with_it(self, small_material: Material) -> None:
        segments = small_material.segments
        assert segments is not None
        hard = {
            (bytes(segments.turns[row]), bytes(segments.turns[other]))
            for row, others in enumerate(segments.hard)
            for other in others.tolist()
            if other >= 0
        }

        def met(*, hard_ones: bool) -> int:
            found = 0
            draws = segment_draws(segments, 8, np.random.default_rng(0), hard=hard_ones)
            for _, draw in zip(range(30), draws, strict=False):
                anchors = {bytes(turns) for turns in draw.turns[: len(draw.turns) // 2]}
                found += sum((one, other) in hard for one in anchors for other in anchors)
            return found

        assert met(hard_ones=True) > 1.5 * met(hard_ones=False)

    def test_no_examined_turn_is_in_a_segment(self) -> None:
        said = [Message(str(n), "AB"[n % 2], 1000 * n, f"this is what was said at {n}") for n in range(40)]
        samples = drawn_samples([Conversation("talk", tuple(said))], ["This is what was said at 7"], 1)
        texts = {turn.text for one in (*samples.anchors, *samples.positives) for turn in one.turns}
        assert len(texts) > 20
        assert "this is what was said at 7" not in texts

    def test_neither_is_a_segment_whose_turns_are_together_an_examined_text(self) -> None:
        said = [Message(str(n), "AB"[n % 2], 1000 * n, f"number {n}") for n in range(40)]
        talk = Conversation("talk", tuple(said))
        free = {text_of(one.texts) for one in drawn_samples([talk], (), 1, shortest=2).anchors}
        long = max(free, key=len)
        samples = drawn_samples([talk], [long], 1, shortest=2)
        assert long not in {text_of(one.texts) for one in samples.anchors}

    def test_segments_may_come_from_other_sources_than_pairs(self, talkative: Path, tmp_path: Path) -> None:
        draw = random.Random(4)
        chats = [
            {
                "id": str(n),
                "turns": [{"speaker": "ab"[k % 2], "text": " ".join(draw.choices(tiny.WORDS, k=5))} for k in range(8)],
            }
            for n in range(9)
        ]
        (tmp_path / "samsum.jsonl").write_text("\n".join(map(json.dumps, chats)))
        recipe = RECIPE.model_copy(update={"segment_sources": {"samsum": 1.0}})
        here = ground.stand(recipe, None, talkative)
        material, reports = ground.gather(here, recipe, "tiny", tmp_path, talkative)
        assert [one.name for one in material.pairs] == list(reports) == ["own"]
        assert material.segments is not None
        assert {one.conversation.split()[0] for one in material.segments.samples.anchors} == {"samsum"}

    def test_segments_may_be_asked_to_be_of_several_turns(self) -> None:
        said = [Message(str(n), "AB"[n % 2], 1000 * n, f"this is what was said at {n}") for n in range(40)]
        samples = drawn_samples([Conversation("talk", tuple(said))], (), 1, shortest=4)
        assert min(len(one.turns) for one in samples.positives) >= 2  # at the end of a thread half a window counts

    def test_the_text_of_a_segment_may_be_longer_than_a_message(self, tiny_folder: Path, home: Path) -> None:
        said = [Message(str(n), "AB"[n % 2], 1000 * n, "we will see you at the lunch tomorrow") for n in range(12)]
        samples = drawn_samples([Conversation("talk", tuple(said))], (), 1)
        encoder = load_encoder(tiny_folder, home=home)
        material = assembled(
            Texts(), [], [], [], samples, parent=encoder, reference=encoder,
            max_tokens=5, max_segment_tokens=20, held_out=(),
        )  # fmt: skip
        segments = material.segments
        assert segments is not None
        whole = set(segments.texts.tolist())
        several = [row for row in whole if "\n" not in material.texts[row] and len(material.texts[row]) > 40]
        assert several
        assert max(len(material.tokens[row]) for row in several) == 20
        assert {len(tokens) for row, tokens in enumerate(material.tokens) if row not in whole} <= {5}

    def test_a_model_that_was_not_trained_on_threads_reads_the_joined_text(self, tiny_folder: Path, home: Path) -> None:
        encoder = load_encoder(tiny_folder, home=home, precision="fp32")
        assert encoder.embed_segments([["hey", "ok"]]) == pytest.approx(encoder.embed(["hey\nok"]), abs=1e-6)
        assert encoder.embed_segments([]).shape == (0, 32)
        with pytest.raises(InputError, match="without turns"):
            encoder.embed_segments([["hey"], []])
        with pytest.raises(InputError, match="not trained on threads"):
            encoder.as_segments(encoder.embed(["hey"]), encoder.embed(["hey"]), [["hey"]])

    def test_maps_alone_learn_to_tell_conversations_apart(self, network: Network, small_material: Material) -> None:
        """Turns of one conversation share a direction, and many share another one that says nothing."""
        draw = np.random.default_rng(0)
        about, noise = draw.normal(size=(30, 32)), draw.normal(size=32)
        turns = about.repeat(8, axis=0) + 3 * draw.normal(size=(240, 1)) * noise + draw.normal(size=(240, 32))
        turns /= np.linalg.norm(turns, axis=1, keepdims=True)
        words = ["".join("abcdefghij"[int(digit)] for digit in str(n)) for n in range(240)]
        said = [Message(str(n), "AB"[n % 2], 1000 * n, word) for n, word in enumerate(words)]
        talks = [Conversation(f"talk {n}", tuple(said[n : n + 8])) for n in range(0, 240, 8)]
        samples, numbers = drawn_samples(talks, (), 1), Texts()
        numbers.of(message.text for message in said)
        numbered = numbered_segments(samples, numbers)
        whole = np.stack([turns[[int(numbers.rows[one]) for one in text.split()]].sum(0) for text in numbers.rows])
        vectors = (whole / np.linalg.norm(whole, axis=1, keepdims=True)).astype(np.float16)
        material = replace(small_material, segments=segment_set(samples, *numbered, vectors))

        def told_apart() -> float:
            with torch.no_grad():
                known = torch.from_numpy(turns).float().reshape(30, 2, 4, 32)
                whole = torch.nn.functional.normalize(known.sum(2), dim=-1)
                there = torch.ones(30, 4, dtype=torch.bool)
                left, right = (network.segment(whole[:, half], known[:, half], there) for half in (0, 1))
            return float(((left @ right.T).argmax(1) == torch.arange(30)).float().mean())

        before = told_apart()
        learn_segments(network, material, vectors, RECIPE, 600.0, lambda *_: None, "x")
        assert told_apart() > before + 0.2

    def test_beside_words_the_map_learns_what_these_do_not_tell(
        self, network: Network, small_material: Material
    ) -> None:
        """Where words stand beside it, the map counts only outside of their room, and goes on to learn for that."""
        recipe = RECIPE.model_copy(update={"segment_passes": 1.0, "seed": 3})
        vectors, segments = small_material.parent, small_material.segments
        assert segments is not None

        def loss() -> float:
            draw = next(segment_draws(segments, 8, np.random.default_rng(1), hard=False))
            tokens = [small_material.tokens[row] for row in draw.texts.tolist()]
            with torch.no_grad():
                whole = torch.from_numpy(vectors[draw.texts]).float()
                meanings = network.segment(whole, *fixed_turns(vectors, draw.turns, network.device)).numpy()
            assert network.words is not None
            found = torch.from_numpy(network.words.beside(meanings, tokens))
            return float(objectives.segment_contrast(found, torch.from_numpy(draw.negatives), 0.1))

        learn_beside_words(network, small_material, vectors, recipe, lambda *_: None, "x")
        assert not network.segment.projection.learned  # it has no words yet
        network.words = words_beside(network, small_material, vectors)
        before = loss()
        for _ in range(10):  # so few segments give few steps
            learn_beside_words(network, small_material, vectors, recipe, lambda *_: None, "x")
        assert loss() < before - 0.1

    def test_of_three_draws_beside_words_and_what_they_began_with_the_mean_is_kept(
        self, network: Network, small_material: Material, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        network.words = words_beside(network, small_material, small_material.parent)
        before = maps.weights_of(network.segment)
        seeds = []

        @torch.no_grad()
        def learned(network: Network, _material: object, _vectors: object, recipe: Recipe, *_: object) -> None:
            seeds.append(recipe.seed)
            for now in network.segment.parameters():
                now += recipe.seed

        monkeypatch.setattr(maps, "learn_segments", learned)
        learn_beside_words(network, small_material, small_material.parent, RECIPE, lambda *_: None, "x")
        assert seeds == [1, 2, 3]
        for now, then in zip(network.segment.parameters(), before, strict=True):
            assert torch.allclose(now, then + 1, atol=1e-6)


class TestExpectedAnswers:
    def test_the_first_guess_is_the_best_linear_one(self, network: Network, small_material: Material) -> None:
        draw = np.random.default_rng(0)
        asked = draw.normal(size=(400, 32))
        given = asked @ draw.normal(size=(32, 32)) + 1
        vectors = np.concatenate([asked, given]).astype(np.float16)
        rows = np.arange(400)
        pairs = PairSet("own", rows, rows + 400, np.full((400, 2), -1), rows)
        expect_answers(
            network, replace(small_material, pairs=(pairs,), parent=vectors, reference=vectors, records=None), RECIPE
        )
        with torch.no_grad():
            guessed = network.expectation(torch.from_numpy(asked).float()).numpy()
        assert np.corrcoef(guessed.ravel(), given.ravel())[0, 1] > 0.99

    def test_an_answer_that_counts_more_pulls_more(self) -> None:
        expected = torch.zeros(2, 3)
        answers = torch.tensor([[1.0, 0, 0], [2.0, 0, 0]])
        assert float(objectives.expectation(expected, answers, torch.tensor([1.0, 1.0]))) == pytest.approx(2.5)
        assert float(objectives.expectation(expected, answers, torch.tensor([3.0, 1.0]))) == pytest.approx(1.75)


class TestBatches:
    def test_a_text_is_embedded_once_in_a_batch_however_often_it_takes_part(self, small_material: Material) -> None:
        batch = next(batches(small_material, RECIPE))
        assert len(set(batch.rows.tolist())) == len(batch.rows)
        told = [batch.triggers, batch.responses, batch.contexts.ravel(), batch.segments.texts]
        assert sum(map(len, told)) > len(batch.rows)

    def test_some_judged_replies_are_kept_from_the_encoder(self, small_material: Material) -> None:
        recipe = RECIPE.model_copy(update={"objectives": Objectives(quality=1.0, judged=1.0)})
        contrasted = small_material.judgements.contrasted
        assert contrasted is not None
        learned = set(contrasted.good[: contrasted.learned].tolist())
        seen = set()
        for _, batch in zip(range(60), batches(small_material, recipe), strict=False):
            if batch.judged:
                seen |= set(batch.rows[batch.judged[0].responses].tolist())
        assert len(contrasted.good) * 0.7 < len(learned) < len(contrasted.good) * 0.8
        assert seen == learned

    def test_a_labelled_pair_comes_with_its_texts(self, small_material: Material) -> None:
        recipe = RECIPE.model_copy(update={"objectives": Objectives(labels=1.0), "batch_labelled": 20})
        batch, labels = next(batches(small_material, recipe)), small_material.labels
        assert labels is not None
        assert len(batch.labelled) == 20
        assert batch.rows[batch.labelled_triggers].tolist() == labels.triggers[batch.labelled].tolist()
        assert batch.rows[batch.labelled_responses].tolist() == labels.responses[batch.labelled].tolist()
        assert not len(next(batches(small_material, RECIPE)).labelled)

    def test_places_lead_back_to_the_pairs(self, small_material: Material) -> None:
        pairs = small_material.pairs[0]
        answer = dict(zip(pairs.triggers.tolist(), pairs.responses.tolist(), strict=True))
        before = dict(zip(pairs.triggers.tolist(), pairs.contexts[:, 0].tolist(), strict=True))
        for _, batch in zip(range(5), batches(small_material, RECIPE), strict=False):
            for trigger, response, context in zip(batch.triggers, batch.responses, batch.contexts, strict=True):
                assert answer[batch.rows[trigger]] == batch.rows[response]
                latest = -1 if context[0] == -1 else batch.rows[context[0]]
                assert before[batch.rows[trigger]] == latest

    def test_they_are_the_same_for_one_seed_and_others_for_another(self, small_material: Material) -> None:
        first, again = (next(batches(small_material, RECIPE)).triggers for _ in range(2))
        other = next(batches(small_material, RECIPE.model_copy(update={"seed": 2}))).triggers
        assert first.tolist() == again.tolist()
        assert first.tolist() != other.tolist()

    def test_each_pair_is_seen_once_in_a_pass(self, small_material: Material) -> None:
        recipe = RECIPE.model_copy(update={"batch_pairs": 60, "run_pairs": 3})
        batch = next(batches(small_material, recipe))
        assert sorted(batch.rows[batch.triggers].tolist()) == list(range(60))

    def test_steps_follow_from_passes(self, small_material: Material) -> None:
        assert steps_of(small_material, RECIPE) == -(-10 * 60 // 32)


class TestRun:
    RECIPE = RECIPE.model_copy(
        update={"objectives": Objectives(records=0.5, sentences=0.5, quality=0.5, judged=1.0, labels=0.5), "passes": 8}
    )

    def test_the_loss_falls(self, network: Network, small_material: Material, tmp_path: Path) -> None:
        recipe = self.RECIPE.model_copy(update={"dropout": 0.0, "passes": 20})
        feed = batches(small_material, recipe)
        first = sum(float(x.detach()) for x in runner.losses(network, small_material, next(feed), recipe).values())
        runner.run(network, small_material, recipe, folder=tmp_path, identity="x")
        last = sum(float(x.detach()) for x in runner.losses(network, small_material, next(feed), recipe).values())
        assert last < 0.8 * first

    def test_every_objective_takes_part(self, network: Network, small_material: Material) -> None:
        batch = next(batches(small_material, self.RECIPE))
        found = runner.losses(network, small_material, batch, self.RECIPE)
        assert set(found) == {
            "single",
            "context",
            "answers",
            "relation",
            "threads",
            "quality",
            "hold",
            "sentences",
            "labels",
        }
        assert all(torch.isfinite(value) for value in found.values())

    def test_maps_alone_may_learn_from_some_sources_only(
        self, network: Network, small_material: Material, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        both = replace(small_material, pairs=(small_material.pairs[0], replace(small_material.pairs[0], name="samsum")))
        asked = []
        monkeypatch.setattr(maps, "_learn", lambda _maps, loss, steps, *_: asked.append((steps, loss().item())))
        for material, chosen in ((small_material, None), (both, ("own",)), (both, None)):
            recipe = RECIPE.model_copy(update={"map_sources": chosen})
            learn_projections(network, material, material.parent, recipe, 10.0, lambda *_: None, "finish")
        assert asked[0] == asked[1] != asked[2]

    def test_maps_that_a_parent_has_learned_go_on_as_they_are(
        self, network: Network, small_material: Material, tmp_path: Path
    ) -> None:
        """Learned anew at their first rate, they would forget some of what they know."""
        recipe = RECIPE.model_copy(update={"passes": 0.5, "projection_passes": 10, "looks": 0})

        def stages() -> set[str]:
            seen: set[str] = set()
            runner.run(
                network,
                small_material,
                recipe,
                folder=tmp_path,
                identity="x",
                progress=lambda stage, _done, _total: seen.add(stage),
            )
            return seen

        assert stages() == {"prepare", "prepare threads", "train"}
        assert network.response.learned
        assert network.segment.projection.learned
        assert stages() == {"train"}

    def test_texts_of_segments_may_go_where_threads_take_them(self, network: Network, small_material: Material) -> None:
        batch = next(batches(small_material, self.RECIPE))
        segments = batch.rows[np.setdiff1d(batch.segments.texts, batch.triggers)]
        turned = small_material.parent.copy()
        turned[segments] *= -1  # the parent had them elsewhere
        moved = replace(small_material, parent=turned)
        free = self.RECIPE.model_copy(update={"hold_segments": False})
        network.eval()
        held, left = (
            [runner.losses(network, one, batch, recipe)["hold"].item() for one in (small_material, moved)]
            for recipe in (self.RECIPE, free)
        )
        assert held[1] > held[0] + 0.01
        assert left[1] == left[0]

    def test_the_encoder_itself_learns_from_every_kind_of_judgement(
        self, tiny_folder: Path, small_material: Material, tmp_path: Path
    ) -> None:
        """A head on vectors that carry no gradient would learn alone, and the encoder would stay as it was."""
        only = Objectives(single=0, context=0, relation=0, threads=0, hold=0, quality=1.0, judged=1.0)
        recipe = self.RECIPE.model_copy(update={"objectives": only, "passes": 2})
        learning = _network(tiny_folder)
        before = {name: value.detach().clone() for name, value in learning.bert.named_parameters()}
        for _, batch in zip(range(2), batches(small_material, recipe), strict=False):
            assert bool(batch.judged) != bool(batch.rated)
            learning.zero_grad()
            runner.losses(learning, small_material, batch, recipe)["quality"].backward()
            assert learning.bert.encoder.layer[0].attention.self.query.weight.grad.abs().max() > 0
        runner.run(learning, small_material, recipe, folder=tmp_path, identity="x")
        changed = {name for name, value in learning.bert.named_parameters() if not torch.equal(value, before[name])}
        assert any("layer.0" in name for name in changed)

    def test_the_encoder_learns_what_a_teacher_says(
        self, tiny_folder: Path, small_material: Material, tmp_path: Path
    ) -> None:
        only = Objectives(single=0, context=0, relation=0, threads=0, hold=0, labels=1.0)
        recipe = self.RECIPE.model_copy(update={"objectives": only, "dropout": 0.0, "passes": 20})
        learning = _network(tiny_folder)
        batch = next(batches(small_material, recipe))
        before = runner.losses(learning, small_material, batch, recipe)["labels"]
        before.backward()
        assert learning.bert.encoder.layer[0].attention.self.query.weight.grad.abs().max() > 0
        runner.run(learning, small_material, recipe, folder=tmp_path, identity="x")
        after = runner.losses(learning, small_material, batch, recipe)["labels"]
        assert after.item() < 0.9 * before.item()

    def test_only_some_sources_say_how_triggers_are_related(self, network: Network, small_material: Material) -> None:
        recipe = self.RECIPE.model_copy(update={"relation_sources": ("dailydialog",)})
        batch = next(batches(small_material, recipe))
        assert not len(batch.related)
        assert len(next(batches(small_material, self.RECIPE)).related) == len(batch.triggers)
        assert "relation" in runner.losses(network, small_material, batch, recipe)  # by the records alone

    @pytest.mark.parametrize("asked", [{}, {"single": 0.0, "context": 0.0, "quality": 0.0}])
    def test_a_run_that_was_broken_off_reaches_the_same_weights(
        self, asked: dict[str, float], tiny_folder: Path, small_material: Material, tmp_path: Path
    ) -> None:
        """Also where no objective asks the maps of replies, so that they have no course to go on with."""
        recipe = self.RECIPE.model_copy(update={"objectives": self.RECIPE.objectives.model_copy(update=asked)})
        whole, broken = _network(tiny_folder), _network(tiny_folder)
        runner.run(whole, small_material, recipe, folder=tmp_path / "whole", identity="x")

        def stop(stage: str, done: int, _total: int) -> None:
            if (stage, done) == ("train", 7):
                raise KeyboardInterrupt

        arguments = {"folder": tmp_path / "broken", "identity": "x", "checkpoint_minutes": 0.0}
        with pytest.raises(KeyboardInterrupt):
            runner.run(broken, small_material, recipe, progress=stop, **arguments)  # type: ignore[arg-type]
        resumed = _network(tiny_folder)
        runner.run(resumed, small_material, recipe, resume=True, **arguments)  # type: ignore[arg-type]
        assert _equal(whole, resumed)
        assert not _equal(whole, broken)

    def test_a_killed_run_can_be_gone_on_with(
        self, tiny_folder: Path, small_material: Material, tmp_path: Path
    ) -> None:
        recipe = self.RECIPE.model_copy(update={"passes": 60})
        child = multiprocessing.get_context("fork").Process(
            target=_run_slowly, args=(tiny_folder, small_material, recipe, tmp_path)
        )
        child.start()
        until = time.monotonic() + 60
        while not (tmp_path / runner.CHECKPOINT_FILE).exists() and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.1)
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        resumed, whole = _network(tiny_folder), _network(tiny_folder)
        runner.run(resumed, small_material, recipe, folder=tmp_path, identity="x", resume=True)
        runner.run(whole, small_material, recipe, folder=tmp_path / "whole", identity="x")
        assert _equal(whole, resumed)

    def test_a_full_disk_leaves_the_last_checkpoint_whole(
        self,
        network: Network,
        tiny_folder: Path,
        small_material: Material,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        sync = os.fsync
        written = []

        def full_later(descriptor: int) -> None:
            written.append(descriptor)
            if len(written) > 6:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            sync(descriptor)

        monkeypatch.setattr(os, "fsync", full_later)
        arguments = {"folder": tmp_path, "identity": "x", "checkpoint_minutes": 0.0}
        with pytest.raises(DiskFull):
            runner.run(network, small_material, self.RECIPE, **arguments)  # type: ignore[arg-type]
        monkeypatch.undo()
        assert [path.name for path in tmp_path.iterdir()] == [runner.CHECKPOINT_FILE]
        resumed, whole = _network(tiny_folder), _network(tiny_folder)
        runner.run(resumed, small_material, self.RECIPE, resume=True, **arguments)  # type: ignore[arg-type]
        runner.run(whole, small_material, self.RECIPE, folder=tmp_path / "whole", identity="x")
        assert _equal(whole, resumed)

    @pytest.mark.parametrize("content", [None, b"", b"no checkpoint"])
    def test_without_a_whole_checkpoint_there_is_nothing_to_go_on_with(
        self, network: Network, small_material: Material, tmp_path: Path, content: bytes | None
    ) -> None:
        if content is not None:
            (tmp_path / runner.CHECKPOINT_FILE).write_bytes(content)
        with pytest.raises(InputError, match="--resume"):
            runner.run(network, small_material, self.RECIPE, folder=tmp_path, identity="x", resume=True)

    def test_a_checkpoint_of_another_run_is_refused(
        self, network: Network, small_material: Material, tmp_path: Path
    ) -> None:
        def stop(stage: str, done: int, _total: int) -> None:
            if (stage, done) == ("train", 3):
                raise KeyboardInterrupt

        arguments = {"folder": tmp_path, "checkpoint_minutes": 0.0}
        with pytest.raises(KeyboardInterrupt):
            runner.run(network, small_material, self.RECIPE, identity="x", progress=stop, **arguments)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="another recipe"):
            runner.run(network, small_material, self.RECIPE, identity="y", resume=True, **arguments)  # type: ignore[arg-type]

    def test_the_best_look_is_kept_and_a_run_that_gets_worse_is_stopped(
        self, network: Network, small_material: Material, tmp_path: Path
    ) -> None:
        scores = iter([0.1, 0.5, 0.4, 0.3, 0.2, 0.1])
        kept: list[torch.Tensor] = []

        def watch(seen: Network) -> dict[str, float]:
            kept.append(seen.response.inner.weight.detach().clone())
            return {"score": next(scores)}

        report = runner.run(
            network, small_material, self.RECIPE, folder=tmp_path, identity="x", watch=watch, patience=2
        )
        assert report.stopped_early
        assert len(report.looks) == 4
        assert report.best == report.looks[1].step
        assert torch.equal(network.response.inner.weight, kept[1])


class TestMining:
    def test_a_triplet_is_answered_alike_and_looks_alike(self) -> None:
        angle = np.linspace(0, np.pi / 2, 7)[:, None]
        circle = np.hstack([np.cos(angle), np.sin(angle)]).astype(np.float32)
        triggers = circle[[0, 3, 1, 6]]  # the third looks most like the first
        responses = circle[[0, 1, 6, 5]]  # the second is answered like the first
        mined = mine_triplets(triggers, responses, np.arange(4))
        assert [0, 1, 2] in mined.tolist()

    @given(seed=st.integers(0, 2**16))
    @settings(max_examples=20, deadline=None)
    def test_no_triplet_holds_near_duplicates_or_a_false_negative(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        vectors = rng.standard_normal((2, 60, 6)).astype(np.float32)
        triggers, responses = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
        near = rng.integers(0, 40, 60)
        for anchor, similar, dissimilar in mine_triplets(triggers, responses, near):
            assert len({near[anchor], near[similar], near[dissimilar]}) == 3
            assert responses[anchor] @ responses[similar] >= LIKE - 1e-6
            assert responses[anchor] @ responses[dissimilar] <= 0.5 * responses[anchor] @ responses[similar] + 1e-6

    def test_triplets_are_learned_from_where_the_recipe_wants_them(self, talkative: Path, tiny_folder: Path) -> None:
        recipe = RECIPE.model_copy(update={"objectives": Objectives(triplets=1.0)})
        material, _ = ground.gather(ground.stand(recipe, None, talkative), recipe, "tiny", None, talkative)
        assert len(material.pairs[0].triplets) > 100
        batch = next(batches(material, recipe))
        assert batch.triplets.shape == (recipe.batch_triplets, 3)
        assert "triplets" in runner.losses(_network(tiny_folder), material, batch, recipe)


class TestGround:
    def test_no_examined_text_is_learned_from(self, talkative: Path) -> None:
        here = ground.stand(RECIPE, None, talkative)
        material, _ = ground.gather(here, RECIPE, "tiny", None, talkative)
        long = {text for text in here.held_out if len(text.split()) > corpora.COMMON_WORDS}
        assert long
        assert long.isdisjoint(material.texts)

    def test_what_is_looked_at_is_read_at_the_first_look(self, talkative: Path, network: Network) -> None:
        encoder = load_encoder("tiny", home=talkative, cache=0)
        read: list[str] = []

        def tokens(text: str) -> Tokens:
            read.append(text)
            return encoder.tokens(text)

        watch = watch_of(ground.stand(RECIPE, None, talkative).examined, tokens, encoder, threads=True)
        assert not read
        with torch.no_grad():
            first = watch(network.eval())
            at_first = len(read)
            assert watch(network) == first
        assert {"single turn", "with context"} <= set(first)
        assert len(read) == at_first > 0

    def test_nor_one_that_a_teacher_has_labelled(self) -> None:
        silver, texts = labelled.silver(1), Texts()
        left = numbered_labels(silver, [silver.triggers[3]], texts)
        rows = [row for row, text in enumerate(silver.triggers) if text != silver.triggers[3]]
        assert [list(texts.rows)[row] for row in left.triggers] == [silver.triggers[row] for row in rows]
        assert left.chances["trigger"].tolist() == silver.chances["trigger"][rows].tolist()

    def test_neither_is_the_sealed_part(self, talkative: Path) -> None:
        here = ground.stand(RECIPE, None, talkative)
        sealed = {message.text for one in here.sides.test for message in one.messages}
        assert sealed
        assert sealed <= set(here.held_out)

    def test_contacts_take_turns_however_many_exchanges_they_have(self, talkative: Path) -> None:
        sides = ground.stand(RECIPE, None, talkative).sides
        chosen = corpora.chosen_pairs(sides.train, (), 100, 1, 0.0)
        assert chosen.report.contacts == 5
        assert chosen.report.largest_contact == pytest.approx(0.2)

    def test_the_trainer_itself_refuses_an_examined_text(
        self, talkative: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here = ground.stand(RECIPE, None, talkative)
        leaking = replace(here, sides=replace(here.sides, train=here.sides.train + here.sides.validation))
        select = corpora.select_pairs
        monkeypatch.setattr(
            corpora, "select_pairs", lambda *args, **options: select(*args, **(options | {"held_out": ()}))
        )
        with pytest.raises(TextLeak, match="also in the training data"):
            ground.gather(leaking, RECIPE, "tiny", None, talkative)

    def test_pairs_that_the_source_holds_out_are_not_learned_from(self, talkative: Path) -> None:
        here = ground.stand(RECIPE, None, talkative)
        held = [
            replace(one, messages=tuple(replace(message, holdout=True) for message in one.messages))
            for one in here.sides.train
        ]
        with pytest.raises(TrainingError, match="0 pairs"):
            ground.gather(replace(here, sides=replace(here.sides, train=tuple(held))), RECIPE, "tiny", None, talkative)

    def test_too_short_a_history_is_an_error_that_says_so(self, history: Path, tiny_folder: Path, home: Path) -> None:
        add_model("tiny", tiny_folder, home)
        with Library.open(home) as library:
            library.ingest(open_source(history))
        with pytest.raises(TrainingError, match="longer history"):
            ground.gather(ground.stand(RECIPE, None, home), RECIPE, "tiny", None, home)

    def test_a_recipe_that_needs_files_says_which_option(self, talkative: Path) -> None:
        recipe = RECIPE.model_copy(update={"sources": {"own": 1.0, "samsum": 1.0}})
        with pytest.raises(SourceError, match="--data"):
            ground.gather(ground.stand(recipe, None, talkative), recipe, "tiny", None, talkative)


class TestGate:
    def test_a_model_that_learned_passes_and_may_be_used(self, talkative: Path) -> None:
        trained = training.train_model("mine", RECIPE, parent="tiny", home=talkative, classified=False)
        assert trained.verdict.passed, trained.verdict.reason
        lineage = read_lineage(trained.folder)
        assert lineage is not None
        assert (lineage.parent, lineage.kind) == ("tiny", "pairs")
        assert Recipe.model_validate(lineage.recipe) == RECIPE
        require_passed(find_model("mine", talkative))
        first, last = trained.run.looks[0].losses, trained.run.looks[-1].losses
        assert last["context"] < first["context"]

    def test_a_sabotaged_model_is_refused_and_kept(self, talkative: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        gather = ground.gather

        def shuffled(*args: object) -> object:
            material, reports = gather(*args)  # type: ignore[arg-type]
            return shuffled_responses(material, 0), reports

        monkeypatch.setattr(training, "gather", shuffled)
        trained = training.train_model("worse", RECIPE, parent="tiny", home=talkative, classified=False)
        assert not trained.verdict.passed
        assert trained.folder.is_dir()
        with pytest.raises(ModelRefused, match="did not pass its exam"):
            require_passed(find_model("worse", talkative))

    def test_a_model_that_learned_everything_judges_replies_by_a_head_of_its_own(self, talkative: Path) -> None:
        recipe = RECIPE.model_copy(update={"objectives": Objectives(quality=0.5), "head_steps": 30})
        trained = training.train_model("wise", recipe, parent="tiny", home=talkative, classified=False)
        lineage = read_lineage(trained.folder)
        assert lineage is not None
        assert lineage.kind == "multitask"
        for precision in ("int8", "fp32"):
            assert load_encoder("wise", home=talkative, precision=precision).quality_head is not None  # type: ignore[arg-type]
        (trained.folder / "quality.safetensors").write_bytes(b"other")
        with pytest.raises(ModelRefused, match="no exam"):
            require_passed(find_model("wise", talkative))

    def test_a_model_that_learned_labels_is_read_beside_its_vectors_too(
        self, talkative: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ground, "read_by_hand", labelled.silver)
        recipe = RECIPES["labels"].model_copy(update={"sources": {"own": 1.0}, "passes": 0.05, "width": 16})
        trained = training.train_model("told", recipe, parent="tiny", home=talkative, classified=False)
        lineage = read_lineage(trained.folder)
        assert lineage is not None
        assert (lineage.kind, trained.run.looks) == ("labels", ())
        plain, told = (load_encoder(name, home=talkative) for name in ("tiny", "told"))
        said = ["do you want to get lunch?", "ok", "see you there"]
        assert np.array_equal(plain.read(said), plain.embed(said))
        assert not told.has_response_side  # nothing asked for maps, and the parent has none
        assert not told.reads_context
        assert told.read(said).shape == (3, 3 * told.dim) == (3, told.read_width)
        assert np.array_equal(told.read(said)[:, : told.dim], told.embed(said))
        assert np.allclose(np.concatenate([told.read([text]) for text in said]), told.read(said), atol=1e-3)
        heads = train_heads(told, labelled.examples(), settings=(Setting(1.0, 1.5, 0.8),))
        assert (len(heads.trigger.dense), len(heads.response.dense)) == (3 * told.dim, 6 * told.dim)
        assert all(label.name for label in heads.label_triggers(told.read(said), said, force=True))
        assert all(label.name for label in heads.label_responses(*map(told.read, (said, said)), said, said, force=True))

    def test_a_stage_that_leaves_maps_and_head_to_the_next_one_gives_neither_anew(self, talkative: Path) -> None:
        wanted = Objectives(quality=0.5, threads=0.3)
        recipe = RECIPE.model_copy(
            update={
                "objectives": wanted,
                "passes": 0.1,
                "projection_passes": 0.0,
                "segment_passes": 0.0,
                "head_steps": 0,
            }
        )
        said: list[str] = []
        training.train_model(
            "raw",
            recipe,
            parent="tiny",
            home=talkative,
            classified=False,
            progress=lambda stage, _done, _total: said.append(stage),
        )
        assert "train" in said
        assert not {"embed again", "finish", "finish threads", "finish words"} & set(said)
        folder = find_model("raw", talkative).folder
        assert not (folder / "quality.safetensors").exists()
        assert "words.weights" not in load_file(folder / "projections.safetensors")

    @pytest.mark.parametrize("kept", [1.0, 0.3])
    def test_of_what_steps_change_in_the_encoder_a_share_is_kept(self, talkative: Path, kept: float) -> None:
        recipe = RECIPE.model_copy(update={"passes": 1, "kept_change": kept, "looks": 0})
        training.train_model("mine", recipe, parent="tiny", home=talkative, classified=False)
        before, after = (load_tensors(find_model(name, talkative)) for name in ("tiny", "mine"))
        name = "encoder.layer.0.attention.self.query.weight"
        moved = float(np.abs(after[name] - before[name]).mean())
        whole = training.train_model(
            "whole", recipe.model_copy(update={"kept_change": 1.0}), parent="tiny", home=talkative, classified=False
        )
        every = load_tensors(find_model(whole.name, talkative))[name]
        assert moved == pytest.approx(kept * float(np.abs(every - before[name]).mean()), rel=1e-4)
        assert after[name] == pytest.approx(before[name] + kept * (every - before[name]), abs=1e-6)

    def test_a_trained_parent_hands_down_its_maps_and_neither_its_exam_nor_its_head(
        self, talkative: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ground, "read_by_hand", labelled.silver)
        wise = RECIPE.model_copy(update={"objectives": Objectives(quality=0.5), "head_steps": 30, "passes": 1})
        first = training.train_model("wise", wise, parent="tiny", home=talkative, classified=False)
        told = RECIPES["labels"].model_copy(update={"sources": {"own": 1.0}, "passes": 0.02, "width": 16, "rate": 1e-9})
        second = training.train_model("told", told, parent="wise", home=talkative, classified=False)
        lineage = read_lineage(second.folder)
        assert lineage is not None
        assert (lineage.parent, lineage.kind) == ("wise", "labels")
        parent, child = (load_encoder(one.name, home=talkative, precision="fp32") for one in (first, second))
        assert (parent.quality_head is None, child.quality_head) == (False, None)
        said = ["wanna get lunch", "sure"]
        assert child.embed_responses(said) == pytest.approx(parent.embed_responses(said), abs=0.05)
        assert np.abs(parent.embed_responses(said) - parent.embed(said)).max() > 0.05

    def test_a_model_is_taught_threads_by_finished_ones(self, talkative: Path) -> None:
        recipe = RECIPE.model_copy(update={"objectives": Objectives(threads=1.0), "passes": 0.2})
        untaught = training.train_model("untaught", recipe, parent="tiny", home=talkative, classified=False)
        assert read_projections(untaught.folder, 32).words is not None
        shown = list[str]()
        trained = training.train_model(
            "taught",
            recipe.model_copy(update={"teachers": ("untaught", "tiny"), "words": False}),
            parent="untaught", home=talkative, classified=False, progress=lambda stage, *_: shown.append(stage),
        )  # fmt: skip
        assert {"ask untaught", "ask tiny", "prepare threads", "finish threads"} <= set(shown)
        assert read_projections(trained.folder, 32).words is None
        wanted = recipe.model_copy(update={"teachers": ("nobody",)})
        with pytest.raises(ModelError, match="nobody"):
            training.train_model("lost", wanted, parent="tiny", home=talkative, classified=False)

    def test_what_goes_on_from_another_recipe_is_examined_beside_the_model_that_it_all_began_with(
        self, talkative: Path
    ) -> None:
        further = RECIPE.model_copy(update={"passes": 0.1, "seed": 2})
        stages = {"begun": RECIPE, "further": further}
        last = further.model_copy(update={"seed": 3})

        def train(*, resume: bool = False) -> Lineage:
            trained = training.train_model(
                "wise", last, stages=stages, parent="tiny", home=talkative, classified=False, resume=resume
            )
            assert trained.exam.metrics[0].baselines["parent"]
            lineage = read_lineage(trained.folder)
            assert lineage is not None
            return lineage

        lineage = train()
        assert (lineage.parent, lineage.examined_beside) == ("wise-further", "tiny")
        begun, gone_on = (find_model(f"wise-{part}", talkative).folder for part in stages)
        assert (line := read_lineage(gone_on)) is not None
        assert (line.parent, line.examined_beside) == ("wise-begun", "wise-begun")
        with pytest.raises(ModelRefused, match="no exam"):
            require_passed(find_model("wise-begun", talkative))
        made = [(folder / "training.json").read_bytes() for folder in (begun, gone_on)]
        again = train(resume=True)  # what is whole is not trained again
        assert [(folder / "training.json").read_bytes() for folder in (begun, gone_on)] == made
        assert again.weights == lineage.weights
        (gone_on / "projections.safetensors").unlink()  # killed before it was whole
        assert train(resume=True).weights == lineage.weights
        assert (begun / "training.json").read_bytes() == made[0]
        (begun / "projections.safetensors").unlink()
        with pytest.raises(InputError, match="no run to go on with"):
            train(resume=True)

    def test_a_finished_model_is_gone_on_from_by_one_more_recipe(self, talkative: Path) -> None:
        finished = training.train_model("wise", RECIPE, parent="tiny", home=talkative, classified=False)
        kept = {path.name: path.read_bytes() for path in finished.folder.iterdir() if path.is_file()}
        further = RECIPE.model_copy(update={"passes": 0.1, "seed": 2})
        gone_on = training.train_model(
            "wise", further, stages={"begun": RECIPE}, parent="tiny", home=talkative, classified=False, resume=True
        )
        begun = find_model("wise-begun", talkative).folder
        assert {path.name: path.read_bytes() for path in begun.iterdir() if path.is_file()} == kept
        assert {path.stat().st_mode & 0o077 for path in (begun, *begun.iterdir())} == {0}
        lineage = read_lineage(gone_on.folder)
        assert lineage is not None
        assert (lineage.parent, lineage.examined_beside) == ("wise-begun", "tiny")

    def test_a_space_in_which_everything_is_close_is_refused(
        self, talkative: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Segments of one thread are nearer than ever, and so are all others: the mean rises, the AUC falls."""
        recipe = RECIPE.model_copy(update={"gate": Gate(gains=("thread_similarity_auc",), tolerances={})})
        save = network_module.save_network

        def collapsed(network: Network, *where: object) -> None:
            with torch.no_grad():
                network.segment.projection.outer.weight.zero_()
                network.segment.projection.outer.bias.copy_(torch.nn.functional.one_hot(torch.tensor(0), 32) * 1e9)
            network.words = None  # which would still tell threads apart
            save(network, *where)  # type: ignore[arg-type]

        monkeypatch.setattr(network_module, "save_network", collapsed)
        trained = training.train_model("flat", recipe, parent="tiny", home=talkative, classified=False)
        same = trained.exam.metric("thread_similarity_same", "own, validation")
        assert same.value is not None
        assert same.value > 0.99 > same.baselines["parent"].value
        assert not trained.verdict.passed
        assert "thread_similarity_auc" in trained.verdict.reason

    def test_changed_weights_have_passed_no_exam(self, talkative: Path) -> None:
        trained = training.train_model("mine", RECIPE, parent="tiny", home=talkative, classified=False)
        with (trained.folder / "projections.safetensors").open("ab") as file:
            file.write(b" ")
        with pytest.raises(ModelRefused, match="no exam"):
            require_passed(find_model("mine", talkative))

    def test_an_untrained_model_needs_no_exam(self, tiny_folder: Path, home: Path) -> None:
        require_passed(find_model(tiny_folder, home))

    @pytest.mark.parametrize(
        ("gain", "loss", "passed"),
        [((0.01, 0.05), -0.005, True), ((-0.01, 0.05), 0.0, False), ((0.01, 0.05), -0.02, False)],
    )
    def test_it_must_surely_gain_and_not_lose_too_much(
        self, gain: tuple[float, float], loss: float, passed: bool
    ) -> None:
        rows = (
            Judged("response_accuracy", 0.43, 0.4, *gain, allowed=0.0, surely=True),
            Judged("general_similarity", 0.8 + loss, 0.8, loss - 0.01, loss + 0.01, allowed=-0.01, surely=False),
        )
        assert Verdict("int8", rows).passed is passed

    def test_what_could_not_be_measured_is_no_pass(self) -> None:
        assert not Verdict("int8", (), ("response_accuracy",)).passed

    @pytest.mark.parametrize("name", ["minilm-l6", "tiny"])
    def test_a_name_of_another_model_is_not_taken(self, talkative: Path, name: str) -> None:
        with pytest.raises(InputError, match="another model's name"):
            training.train_model(name, RECIPE, parent="tiny", home=talkative)

    def test_nor_is_it_after_a_first_recipe_that_took_an_hour(
        self, talkative: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(training, "gather", lambda *_: pytest.fail("it began to train"))
        with pytest.raises(InputError, match="another model's name"):
            training.train_model("minilm-l6", RECIPE, stages={"begun": RECIPE}, parent="tiny", home=talkative)


class TestRecipes:
    @pytest.mark.parametrize("name", RECIPES)
    def test_the_packages_recipes_can_be_written_down_and_read_again(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / "recipe.json"
        path.write_text(load_recipe(name).model_dump_json())
        assert load_recipe(str(path)) == RECIPES[name]

    @pytest.mark.parametrize(
        ("content", "said"),
        [('{"pairs": 0}', "pairs"), ('{"speed": 1}', "speed"), ("{", "not JSON"), (None, "no recipe")],
    )
    def test_a_recipe_that_cannot_be_is_an_error_that_names_the_field(
        self, tmp_path: Path, content: str | None, said: str
    ) -> None:
        path = tmp_path / "recipe.json"
        if content is not None:
            path.write_text(content)
        with pytest.raises(InputError, match=said):
            load_recipe(str(path))


STAGES = {"begun": RECIPES["reference"], "further": RECIPES["reference-further"], "": RECIPES["reference-last"]}
IN_FEWER_STEPS = {part: one.model_copy(update={"passes": one.passes * 0.6}) for part, one in STAGES.items()}


UNTAUGHT = {"begun": STAGES["begun"], "further": STAGES["further"], "untaught": STAGES[""]}
TAUGHT = {
    **UNTAUGHT,
    "": RECIPES["reference-taught"].model_copy(update={"teachers": ("minilm-l6-reference-untaught", "minilm-l6")}),
}


class TestCommands:
    def test_a_report_says_what_would_be_learned_from(self, talkative: Path) -> None:
        done = CliRunner().invoke(app, ["train", "pairs", "--report-only", "--json"])
        assert done.exit_code == 0, done.output
        report = json.loads(done.stdout)["own"]
        assert report["kept"] + sum(report["dropped"].values()) == report["seen"]

    def test_from_a_history_to_a_model_that_answers(self, talkative: Path, tmp_path: Path) -> None:
        recipe = tmp_path / "recipe.json"
        recipe.write_text(RECIPE.model_dump_json())
        call = CliRunner().invoke
        done = call(
            app, ["train", "pairs", "--name", "mine", "--parent", "tiny", "--recipe", str(recipe), "--no-classified"]
        )
        assert done.exit_code == 0, done.output
        assert "mine passed" in done.output
        assert call(app, ["build", "mine"]).exit_code == 0
        assert call(app, ["use", "mine"]).exit_code == 0
        answer = call(app, ["suggest", "wanna get lunch", "--json"])
        assert json.loads(answer.stdout)["replies"]

    @pytest.mark.parametrize("given", [["threads"], ["threads", "--with-pairs"], ["multitask"]])
    def test_other_kinds_of_training_learn_from_the_same_history(self, talkative: Path, given: list[str]) -> None:
        done = CliRunner().invoke(app, ["train", *given, "--report-only", "--json"])
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["own"]["kept"] > 0

    @pytest.mark.parametrize(
        ("given", "name", "stages"),
        [
            ([], "minilm-l6-reference", STAGES),
            (["--chitchat-only"], "minilm-l6-chitchat", {"": RECIPES["chitchat"]}),
            (["--parent", "bge-small", "--passes", "0.3"], "bge-small-reference", IN_FEWER_STEPS),
            (["--teacher", "minilm-l6"], "minilm-l6-reference", TAUGHT),
        ],
    )
    def test_the_models_of_the_log_are_trained_by_the_recipes_that_it_names(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], name: str, stages: dict[str, Recipe]
    ) -> None:
        asked = []

        def train_model(name: str, recipe: Recipe, stages: dict[str, Recipe], **_: object) -> None:
            asked.append((name, {**stages, "": recipe}))
            raise TrainingError("this is enough", "Stop here")

        monkeypatch.setattr(training, "train_model", train_model)
        CliRunner().invoke(app, ["train", "reference", "--data", str(tmp_path), *given])
        assert asked == [(name, stages)]

    @pytest.mark.parametrize(
        ("given", "suffix", "recipe"),
        [
            (["labels"], "labelled", "labels"),
            (["threads"], "threads", "threads"),
            (["threads", "--with-pairs"], "threads", "threads-and-pairs"),
            (["threads", "--recipe", "chitchat"], "threads", "chitchat"),
        ],
    )
    def test_a_command_learns_by_the_recipe_of_its_name_or_the_one_that_is_given(
        self, talkative: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], suffix: str, recipe: str
    ) -> None:
        asked = []

        def train_model(name: str, recipe: Recipe, **given: object) -> None:
            asked.append((name, recipe, given["parent"]))
            raise TrainingError("this is enough", "Stop here")

        monkeypatch.setattr(training, "train_model", train_model)
        CliRunner().invoke(app, ["train", *given, "--parent", "tiny"])
        assert asked == [(f"tiny-{suffix}", RECIPES[recipe], "tiny")]

    def test_two_recipes_at_once_are_refused(self, talkative: Path) -> None:
        done = CliRunner().invoke(app, ["train", "threads", "--with-pairs", "--recipe", "own", "--parent", "tiny"])
        assert isinstance(done.exception, InputError)
        assert "--with-pairs" in str(done.exception)

    def test_without_the_corpus_labels_cannot_be_learned(
        self, talkative: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ground, "read_by_hand", lambda: None)
        recipe = RECIPES["labels"].model_copy(update={"sources": {"own": 1.0}})
        with pytest.raises(SourceError, match="chitchat-dataset"):
            training.train_model("told", recipe, parent="tiny", home=talkative)

    def test_a_refused_model_cannot_be_used(self, talkative: Path, tmp_path: Path) -> None:
        recipe = tmp_path / "recipe.json"
        recipe.write_text(
            RECIPE.model_copy(
                update={"rate": 1e-12, "projection_rate": 1e-12, "projection_passes": 0, "passes": 0.1}
            ).model_dump_json()
        )
        call = CliRunner().invoke
        done = call(
            app, ["train", "pairs", "--name", "same", "--parent", "tiny", "--recipe", str(recipe), "--no-classified"]
        )
        assert done.exit_code == 1, done.output
        assert "same is refused" in done.output
        assert call(app, ["build", "same"]).exit_code == 0
        refused = call(app, ["use", "same"])
        assert refused.exit_code == 1
        assert isinstance(refused.exception, ModelRefused)


def _equal(one: Network, other: Network) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.state_dict().items())


def _run_slowly(folder: Path, material: Material, recipe: Recipe, checkpoints: Path) -> None:
    torch.set_num_threads(1)
    runner.run(
        _network(folder),
        material,
        recipe,
        folder=checkpoints,
        identity="x",
        checkpoint_minutes=0.0,
        progress=lambda *_: time.sleep(0.01),
    )
