"""The quality head of a model: its files, what it says, how it is learned, and what the exam makes of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import jarvis_embed as je
import tiny
from jarvis_embed.cli import app
from jarvis_embed.errors import HeadsMissing, InputError, WeightsDamaged
from jarvis_embed.evaluation import quality as asked_for
from jarvis_embed.evaluation.competitors import EncoderCompetitor
from jarvis_embed.evaluation.data import RatedReply, Replies
from jarvis_embed.evaluation.gate import Gate, judge
from jarvis_embed.evaluation.splits import Sides
from jarvis_embed.messages import Conversation, Message
from jarvis_embed.models.encoder import Encoder, load_encoder
from jarvis_embed.models.projections import Projection, Projections
from jarvis_embed.models.quality_head import FACTS_FILE, HEAD_FILE, QualityHead, read_head, width_of, write_head
from jarvis_embed.models.quality_store import store_head
from jarvis_embed.models.store import add_model
from jarvis_embed.training import ground
from jarvis_embed.training.judgements import TURNS, Contrasted, Judgements, Ratings
from jarvis_embed.training.judgements import Replies as Rows
from jarvis_embed.training.objectives import rating_order, told_apart
from jarvis_embed.training.projections import array_of
from jarvis_embed.training.quality_head import (
    HeadMaterial,
    HeadNetwork,
    HeadRecipe,
    fit_head,
    head_over,
)
from jarvis_embed.training.quality_run import train_quality

DIM = 32


def linear_head(*parts: str, fingerprint: str = "f", seed: int = 0, dim: int = DIM) -> QualityHead:
    wide = width_of(parts, 2, dim)
    outer = np.random.default_rng(seed).standard_normal(wide).astype(np.float32)
    return QualityHead((fingerprint,), parts, 2, outer, -0.5)


def learned_head() -> tuple[HeadNetwork, QualityHead]:
    torch.manual_seed(0)
    network = HeadNetwork(DIM, HeadRecipe(width=8, hidden=4))
    for weights in network.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    network.length = np.linspace(-1, 1, DIM + 1, dtype=np.float32)
    return network.eval(), network.exported(["f"], {"made": "here"})


def sighted_head() -> QualityHead:
    """One that reads how long a reply is, and likes short ones."""
    network, _ = learned_head()
    network.longer = np.array([-1.0, 0.5], np.float32)
    return network.exported(["f"], {})


def unit(rows: int, seed: int) -> np.ndarray:
    return tiny.unit_rows(rows, DIM, DIM, seed)


# The files


def test_a_head_comes_out_as_it_went_in(tmp_path: Path) -> None:
    _, head = learned_head()
    write_head(tmp_path, head)
    found = read_head(tmp_path, "f", DIM)
    assert found is not None
    turns, replies = [unit(5, seed) for seed in range(3)], unit(5, 9)
    before, after = (one.scores(turns, replies, Projections()) for one in (head, found))
    np.testing.assert_allclose(before, after, atol=2e-3)  # the maps are kept in 16 bits
    assert found.facts == {"made": "here"}


def test_a_head_of_another_model_is_none(tmp_path: Path) -> None:
    write_head(tmp_path, linear_head("fit"))
    assert read_head(tmp_path, "g", DIM) is None
    assert read_head(tmp_path / "nowhere", "f", DIM) is None


def test_what_a_head_knows_of_length_is_kept_too(tmp_path: Path) -> None:
    head = sighted_head()
    write_head(tmp_path, head)
    found = read_head(tmp_path, "f", DIM)
    assert found is not None
    assert found.parts[-1] == "length"
    turns, replies = [unit(5, seed) for seed in range(3)], unit(5, 9)
    before, after = (one.scores(turns, replies, Projections()) for one in (head, found))
    np.testing.assert_allclose(before, after, atol=2e-3)


@pytest.mark.parametrize("damage", ["cut", "gone", "parts", "number", "text", "length"])
def test_a_damaged_head_is_refused(tmp_path: Path, damage: str) -> None:
    head = linear_head("fit", "cosines")
    if damage == "length":
        head = replace(sighted_head(), length=np.zeros(DIM, np.float32))
    write_head(tmp_path, replace(head, bias=float("nan")) if damage == "number" else head)
    weights, facts = tmp_path / HEAD_FILE, tmp_path / FACTS_FILE
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-4])
    elif damage == "gone":
        weights.unlink()
    elif damage == "parts":
        facts.write_text(facts.read_text().replace("cosines", "product"))
    elif damage == "text":
        facts.write_text("{")
    with pytest.raises(WeightsDamaged):
        read_head(tmp_path, "f", DIM)


# What it says


@given(st.integers(0, 50), st.integers(0, 3))
def test_scores_are_from_0_to_1_for_any_vectors(seed: int, given_turns: int) -> None:
    head = replace(linear_head("fit", "cosines", "product", "difference", seed=seed), bias=1e6 * (seed % 3 - 1))
    found = head.scores([unit(4, k) for k in range(max(given_turns, 1))], unit(4, seed), Projections())
    assert found.shape == (4,)
    assert ((found >= 0) & (found <= 1)).all()


def test_one_context_for_many_replies_is_read_once_and_says_the_same() -> None:
    _, head = learned_head()
    turns, replies = [unit(1, seed) for seed in range(TURNS)], unit(6, 7)
    each = head.scores([np.repeat(turn, 6, axis=0) for turn in turns], replies, Projections())
    np.testing.assert_allclose(head.scores(turns, replies, Projections()), each, rtol=1e-4)


def test_what_was_learned_with_torch_is_what_numpy_says() -> None:
    network, head = learned_head()
    turns, replies = [unit(6, seed) for seed in range(TURNS)], unit(6, 7)
    with torch.no_grad():
        bare = [torch.from_numpy(turn) for turn in turns]
        wanted = network(*network.mapped(bare, torch.from_numpy(replies)), bare, torch.from_numpy(replies)).numpy()
    np.testing.assert_allclose(head.logits(turns, replies, Projections()), wanted, rtol=1e-3, atol=1e-3)


def test_length_is_read_off_the_bare_reply_and_added() -> None:
    _, blind = learned_head()
    sighted, turns, replies = sighted_head(), [unit(6, seed) for seed in range(TURNS)], unit(6, 7)
    assert sighted.length is not None
    length = replies @ sighted.length[:-1] + sighted.length[-1]
    more = (head.logits(turns, replies, Projections()) for head in (sighted, blind))
    np.testing.assert_allclose(np.subtract(*more), -length + 0.5 * length**2, rtol=1e-3, atol=1e-4)


def test_the_space_of_a_model_with_a_head_says_how_good_replies_are(
    home: Path, tiny_folder: Path, history: Path
) -> None:
    encoder = with_head(tiny_folder, home)
    with je.Library.open(home) as library:
        library.ingest(je.sources.open(history))
    je.build(encoder, home)
    with je.Space.open(home=home, encoder=encoder) as space:
        exchanges = [(["hey", "lunch tomorrow?"], "sure, where?"), ("lunch tomorrow?", "cat"), (["hey"], "hi")]
        found = je.quality(space, exchanges)
        assert found.dtype == np.float32
        assert found.shape == (3,)
        np.testing.assert_allclose(je.quality(space, exchanges[::-1]), found[::-1], atol=1e-5)
        assert len(je.quality(space, [])) == 0
        with pytest.raises(InputError, match="empty"):
            je.quality(space, [("hey", " ")])
        (best, *_) = je.suggest("lunch tomorrow", ["hey"], space=space, home=home).replies
        assert best.quality is not None
        assert best.score == pytest.approx(best.match * best.quality, rel=1e-5)


def test_without_a_head_the_next_step_is_named(home: Path, encoder: Encoder, history: Path) -> None:
    with je.Library.open(home) as library:
        library.ingest(je.sources.open(history))
    je.build(encoder, home)
    with je.Space.open(home=home, encoder=encoder) as space, pytest.raises(HeadsMissing, match="train quality tiny"):
        je.quality(space, [("hey", "hi")])


def with_head(folder: Path, home: Path, head: QualityHead | None = None) -> Encoder:
    """The tiny model with a head of its own."""
    bare = load_encoder(folder, home=home, precision="fp32", cache=0)
    made = head or linear_head("fit", "cosines", "product")
    store_head(replace(made, fingerprints=(bare.fingerprint,)), bare.name, home)
    return load_encoder(folder, home=home, precision="fp32", cache=0)


def test_one_s_own_head_can_be_taken_away_again(home: Path, tiny_folder: Path) -> None:
    assert with_head(tiny_folder, home).quality_head is not None
    undo = ["train", "quality", str(tiny_folder), "--undo"]
    assert "Score all pairs anew" in CliRunner().invoke(app, undo).stdout
    assert load_encoder(tiny_folder, home=home, precision="fp32").quality_head is None
    assert "No quality head was trained" in CliRunner().invoke(app, undo).stdout
    assert json.loads(CliRunner().invoke(app, [*undo, "--json"]).stdout) == {"model": "tiny", "removed": False}


def test_a_new_head_scores_the_pairs_of_a_space_anew(home: Path, tiny_folder: Path, history: Path) -> None:
    bare = load_encoder(tiny_folder, home=home, precision="fp32", cache=0)
    with je.Library.open(home) as library:
        library.ingest(je.sources.open(history))
    je.build(bare, home)
    encoder = with_head(tiny_folder, home)
    assert not je.build(encoder, home).up_to_date
    assert je.build(encoder, home).up_to_date


# How it is learned


def material() -> HeadMaterial:
    """Replies that are their trigger turned by one and the same rotation; adversarial ones are the trigger itself."""
    rng = np.random.default_rng(0)
    triggers = tiny.unit_rows(300, DIM, DIM, 1)
    turn = np.linalg.qr(rng.standard_normal((DIM, DIM)))[0].astype(np.float32)
    vectors = np.concatenate([triggers, triggers @ turn])
    turns = np.full((300, TURNS), -1)
    turns[:, 0] = np.arange(300)
    good = Rows(turns, np.arange(300, 600))
    rated = Rows(np.concatenate([turns, turns]), np.concatenate([np.arange(300, 600), np.arange(300, 600)[::-1]]))
    ratings = Ratings.of(rated, [RatedReply("s", (), "", score, 1) for score in np.repeat([5.0, 1.0], 300).tolist()])
    contrasted = Contrasted(turns, good.responses, np.arange(300), np.roll(np.arange(300, 600), 7))
    lengths = np.exp(2 + vectors[:, 0])
    return HeadMaterial(vectors, lengths, [(good, 1.0)], Judgements(contrasted, ratings))


def test_a_head_learns_to_tell_good_replies_from_wrong_ones() -> None:
    learned = material()
    recipe = HeadRecipe(steps=150, rating_steps=60, batch=64, width=64, hidden=8, rate=1e-2, dropout=0.0)
    head = fit_head(learned, ["f"], recipe)
    triggers, replies = learned.vectors[:300], learned.vectors[300:]
    good = head.scores([triggers], replies, Projections())
    assert (good > head.scores([triggers], np.roll(replies, 7, axis=0), Projections())).mean() > 0.9
    assert (good > head.scores([triggers], triggers, Projections())).mean() > 0.9
    assert head.length is not None
    told = replies @ head.length[:-1] + head.length[-1]
    assert np.corrcoef(told, np.log(learned.lengths[300:]))[0, 1] > 0.95


def test_the_maps_of_a_trained_model_stay_and_the_head_has_none_of_its_own() -> None:
    """What the model's maps learned from all pairs is better than what a head would make of them."""
    rng = np.random.default_rng(1)
    learned, dim = material(), material().vectors.shape[1]

    def projection(inputs: int) -> Projection:
        sizes = ((8, inputs * dim), (8,), (dim, 8), (dim,))
        return Projection(*(rng.normal(size=size).astype(np.float32) / 8 for size in sizes))

    trained = Projections(response=projection(1), context=projection(TURNS))
    recipe = HeadRecipe(steps=20, rating_steps=20, batch=64, hidden=4)
    begin = head_over(trained, dim, recipe)
    assert begin is not None
    head = fit_head(learned, ["f"], recipe, begin=begin)
    assert head.maps is None
    assert head.outer[:2].all()
    assert not head.outer[2 : 1 + TURNS].any()  # of the cosines, two count
    assert head.outer[-2:].all()
    assert trained.context is not None
    assert begin.context is not None
    np.testing.assert_array_equal(array_of(begin.context.inner.weight), trained.context.inner)


@pytest.mark.parametrize("inputs", [2, None])
def test_maps_that_read_another_context_are_not_taken(inputs: int | None) -> None:
    def projection(inputs: int) -> Projection:
        return Projection(*(np.zeros(size, np.float32) for size in ((8, inputs * 4), (8,), (4, 8), (4,))))

    context = None if inputs is None else projection(inputs)
    assert head_over(Projections(response=projection(1), context=context), 4, HeadRecipe()) is None


def test_equal_seeds_make_equal_heads() -> None:
    recipe = HeadRecipe(steps=3, rating_steps=2, batch=16, width=8, hidden=4)
    one, two = (fit_head(material(), ["f"], recipe) for _ in range(2))
    np.testing.assert_array_equal(one.outer, two.outer)
    assert one.inner is not None
    np.testing.assert_array_equal(one.inner, two.inner)


def test_the_few_numbers_are_fitted_to_replies_that_nothing_has_learned_from() -> None:
    rows = np.arange(8)
    many = Contrasted(np.zeros((8, TURNS), np.int64), rows, rows, rows)
    assert many.learned == 6
    assert many.kept.tolist() == [6, 7]
    one = Contrasted(np.zeros((1, TURNS), np.int64), rows[:1], rows[:1], rows[:1])
    assert one.kept.tolist() == [0]


def test_the_loss_of_ratings_asks_for_order_within_a_source_only() -> None:
    logits = torch.tensor([2.0, 0.0, -1.0])
    scores, raters = torch.tensor([1.0, -1.0, 1.0]), torch.ones(3)
    right = rating_order(logits, scores, torch.tensor([0, 0, 1]), raters)
    wrong = rating_order(-logits, scores, torch.tensor([0, 0, 1]), raters)
    assert right < wrong
    tied = rating_order(logits, torch.zeros(3), torch.zeros(3), raters)
    assert tied == 0


def test_the_loss_of_wrong_replies_falls_as_they_are_told_apart() -> None:
    high, low = torch.full((4,), 3.0), torch.full((4,), -3.0)
    assert told_apart(high, [low, low]) < told_apart(high, [low, high]) < told_apart(low, [high, high])


def test_a_run_learns_head_and_weights_and_the_next_load_has_the_head(
    home: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(5)

    def said(number: int = 5) -> str:
        return " ".join(rng.choice(tiny.WORDS, number))

    def chat(key: str) -> Conversation:
        said_by = tuple(Message(str(i), "ab"[i % 2], 1000 * i, said()) for i in range(12))
        return Conversation(key, said_by, rating=float(rng.random()))

    sides = Sides(tuple(chat(f"c{i}") for i in range(20)), tuple(chat(f"v{i}") for i in range(3)), ())
    monkeypatch.setattr(ground, "chitchat_history", lambda: sides)
    files = {
        "dailydialog": [
            {"id": f"d{i}", "split": "train", "turns": [{"text": said()} for _ in range(6)]} for i in range(9)
        ],
        "samsum": [
            {"id": f"s{i}", "turns": [{"speaker": "ab"[k % 2], "text": said()} for k in range(6)]} for i in range(9)
        ],
        "dailydialog_pp": [
            {"id": f"p{i}", "context": [said()], **{k: [said()] for k in ("positives", "adversarial", "random")}}
            for i in range(30)
        ],
        "quality_train": [
            {"source": "xy"[i % 2], "context": [said(), said()], "response": said(), "score": i % 5, "n_raters": 3}
            for i in range(80)
        ],
    }
    (tmp_path / "data").mkdir()
    for name, records in files.items():
        (tmp_path / "data" / f"{name}.jsonl").write_text("\n".join(map(json.dumps, records)))
    add_model("tiny", tiny_folder, home)
    encoder = load_encoder("tiny", home=home, precision="fp32", cache=0)
    found = train_quality(encoder, home, data=tmp_path / "data", steps=3)
    assert found.head is not None
    assert set(found.left_out) == {"x", "y", "conversations"}
    for precision in ("fp32", "int8"):
        assert load_encoder("tiny", home=home, precision=precision).quality_head is not None  # type: ignore[arg-type]


# In the exam


def rated_by(encoder: Encoder, number: int = 120) -> list[RatedReply]:
    """Made-up replies whose rating is the cosine of trigger and reply, in two sources."""
    rng = np.random.default_rng(3)
    said = [" ".join(rng.choice(tiny.WORDS, 4)) for _ in range(2 * number)]
    vectors = encoder.embed(said)
    cosines = np.einsum("nd,nd->n", vectors[:number], vectors[number:])
    return [
        RatedReply(f"source {i % 2}", ("hey", said[i]), said[number + i], float(cosines[i]), 10) for i in range(number)
    ]


def data_of(folder: Path, rated: list[RatedReply]) -> Path:
    folder.mkdir()
    lines = [
        json.dumps({"source": one.source, "context": one.context, "response": one.response, "score": one.score})
        for one in rated
    ]
    (folder / "quality_dev.jsonl").write_text("\n".join(lines))
    records = [
        {
            "id": f"r{i}",
            "context": [one.context[1]],
            "positives": [one.response],
            "adversarial": ["cat dog"],
            "random": ["car"],
        }
        for i, one in enumerate(rated)
    ]
    (folder / "dailydialog_pp.jsonl").write_text("\n".join(map(json.dumps, records)))
    return folder


def examined(encoder: Encoder, home: Path, data: Path, parent: Path) -> je.Exam:
    pytest.importorskip("sklearn")
    return je.run_exam(encoder, None, data=data, home=home, parent=parent, timed=False, classified=False)


def test_the_gate_refuses_a_model_whose_head_ignores_its_input(home: Path, tiny_folder: Path, tmp_path: Path) -> None:
    parent = load_encoder(tiny_folder, home=home, precision="fp32", cache=0)
    data = data_of(tmp_path / "data", rated_by(parent))
    deaf = replace(linear_head("fit", "cosines"), outer=np.zeros(3, np.float32))
    exam = examined(with_head(tiny_folder, home, deaf), home, data, tiny_folder)
    row = exam.metric("quality_correlation")
    assert row.value == 0
    verdict = judge(exam, Gate(gains=("quality_correlation",), tolerances={}))
    assert not verdict.passed
    assert "quality_correlation" in verdict.reason


def test_the_exam_asks_the_head_and_shows_each_source_and_how_far_it_can_be_believed(
    home: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    bare = load_encoder(tiny_folder, home=home, precision="fp32", cache=0)
    data = data_of(tmp_path / "data", rated_by(bare))
    contrary = replace(linear_head("cosines"), outer=np.array([-4.0, 0.0], np.float32), bias=0.0)
    exam = examined(with_head(tiny_folder, home, contrary), home, data, tiny_folder)
    row = exam.metric("quality_correlation")
    assert row.value == pytest.approx(-1, abs=1e-3)
    assert set(row.beside) == {"source 0", "source 1", "pooled"}
    assert sum(part.n for part in exam.calibration) == 120
    assert exam.calibration[0].rated > exam.calibration[-1].rated
    assert 0 <= (exam.metric("quality_auc_random").value or 0) <= 1
    assert exam.as_dict()["calibration"][0]["n"] == 12


def test_without_a_head_the_cosine_answers_and_there_is_nothing_to_calibrate(encoder: Encoder) -> None:
    rated = rated_by(encoder)
    who = EncoderCompetitor(encoder)
    assert asked_for.correlation(who, rated)[0].value == pytest.approx(1, abs=1e-3)
    assert asked_for.calibration(who, rated) == ()


def test_of_two_replies_to_one_context_the_better_rated_comes_first(encoder: Encoder) -> None:
    same = [
        RatedReply("s", ("hey lunch",), "hey lunch", 5.0),
        RatedReply("s", ("hey lunch",), "dog work car", 1.0),
        RatedReply("s", ("hey lunch",), "dog work car", 1.0),
    ]
    found = asked_for.ranking(EncoderCompetitor(encoder), same)
    assert found is not None
    assert (found.value, len(found.group)) == (1.0, 2)
    assert asked_for.ranking(EncoderCompetitor(encoder), same[:1]) is None


def test_good_replies_are_told_from_wrong_ones_over_all_contexts(encoder: Encoder) -> None:
    records = [Replies("a", ("lunch tomorrow",), ("lunch tomorrow",), ("dog car",), ("see what",))] * 2
    found = asked_for.told_apart(EncoderCompetitor(encoder), records)
    assert {kind: figure.value for kind, figure in found.items()} == {"random": 1.0, "adversarial": 1.0}
