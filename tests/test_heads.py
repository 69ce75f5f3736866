"""Classifier heads: trained on labels, applied with numpy, bound to their space, switched with it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

import jarvis_embed as je
import labelled
import tiny
from jarvis_embed.cli import app
from jarvis_embed.config import load_settings, save_settings
from jarvis_embed.conversations.patterns import PATTERNS, matched
from jarvis_embed.conversations.turns import turns_of
from jarvis_embed.errors import (
    FingerprintMismatch,
    HeadsMissing,
    InputError,
    LabelError,
    SourceError,
    SpaceDamaged,
    SpaceMissing,
)
from jarvis_embed.labels.gold import Example, gold_examples
from jarvis_embed.labels.scheme import LABELS, TASKS, Task
from jarvis_embed.models.encoder import Encoder, load_encoder
from jarvis_embed.models.store import add_model, model_home
from jarvis_embed.spaces.features import BUCKETS, response_buckets, trigger_buckets
from jarvis_embed.spaces.generations import current_folder
from jarvis_embed.spaces.heads import FACTS_FILE, HEADS_FILE, Heads, read_heads, response_inputs, write_heads
from jarvis_embed.spaces.heads_store import replace_heads, shipped_heads
from jarvis_embed.spaces.manifest import file_marks, read_manifest, write_manifest
from jarvis_embed.spaces.switch import undo_switch
from jarvis_embed.training import heads as training
from jarvis_embed.training import prior as prior_module
from jarvis_embed.training import silver as silver_module
from jarvis_embed.training.heads import SETTINGS, check_examples, train_heads
from jarvis_embed.training.logistic import fact_rows, fitted
from jarvis_embed.training.prior import LONGEST, Prior, kept_prior, learn_prior, texts_read
from jarvis_embed.training.silver import Silver, read_by_hand, read_silver, write_silver

FAST = SETTINGS[:1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Heads:
    home = tmp_path_factory.mktemp("heads")
    return train_heads(load_encoder(tiny_folder, home=home, precision="fp32"), labelled.examples(), settings=FAST)


@pytest.fixture
def built(home: Path, history: Path, encoder: Encoder) -> Encoder:
    with je.Library.open(home) as library:
        library.ingest(je.sources.open(history))
    je.build(encoder, home)
    return encoder


class TestTraining:
    def test_what_was_learned_is_known(self, trained: Heads, encoder: Encoder) -> None:
        asked = [example for example in labelled.examples(4, seed=9) if example.task == "trigger"]
        texts = [example.text for example in asked]
        labels = trained.label_triggers(encoder.embed(texts), texts, force=True)
        right = sum(label.name == example.label for label, example in zip(labels, asked, strict=True))
        assert right / len(asked) > 0.9

    def test_a_response_is_read_with_its_trigger(self, trained: Heads, encoder: Encoder) -> None:
        asked = [example for example in labelled.examples(4, seed=9) if example.task == "response"]
        triggers, texts = [e.trigger for e in asked], [e.text for e in asked]
        labels = trained.label_responses(encoder.embed(triggers), encoder.embed(texts), triggers, texts, force=True)
        right = sum(label.name == example.label for label, example in zip(labels, asked, strict=True))
        assert right / len(asked) > 0.9

    def test_the_same_seed_gives_the_same_heads(self, trained: Heads, encoder: Encoder) -> None:
        again = train_heads(encoder, labelled.examples(), settings=FAST)
        for task in TASKS:
            np.testing.assert_array_equal(again.of(task).dense, trained.of(task).dense)
            np.testing.assert_array_equal(again.of(task).table, trained.of(task).table)
            np.testing.assert_array_equal(again.of(task).thresholds, trained.of(task).thresholds)
        assert again.facts == trained.facts

    @pytest.mark.parametrize(
        ("labels", "complaint"),
        [
            (["SOCIAL"] * 19, "there are 19 labelled triggers, and heads need 20"),
            (["SOCIAL"] * 30, "all 30 labelled triggers are SOCIAL"),
            ([*["SOCIAL", "QUESTION", "REACTION", "STATEMENT"] * 6], "fewer than 2 .* are COMMITMENT"),
            ([], "there are 0"),
        ],
    )
    def test_what_cannot_be_learned_from_is_refused(self, labels: list[str], complaint: str) -> None:
        with pytest.raises(LabelError, match=complaint):
            check_examples("trigger", labels)

    def test_a_pattern_that_is_often_wrong_here_is_left_out(self, encoder: Encoder) -> None:
        hello = [Example("trigger", "STATEMENT", "hey", "", f"c{i}") for i in range(10)]
        laugh = [Example("trigger", "REACTION", "haha", "", f"c{i}") for i in range(10)]
        heads = train_heads(encoder, [*labelled.examples(), *hello, *laugh], settings=FAST)
        assert "greeting" not in heads.trigger.patterns
        assert heads.trigger.patterns["laughter"] == 1

    def test_confidences_are_probabilities_and_thresholds_too(self, trained: Heads) -> None:
        for task in TASKS:
            head = trained.of(task)
            assert head.labels == LABELS[task]
            assert ((head.thresholds >= 0) & (head.thresholds <= 1)).all()
            assert head.temperature > 0


class TestCascade:
    def test_a_plain_form_decides_first(self, trained: Heads, encoder: Encoder) -> None:
        sure = replace(trained, trigger=replace(trained.trigger, patterns={"greeting": 0.99}))
        (label,) = sure.label_triggers(encoder.embed(["hey!"]), ["hey!"])
        assert (label.name, label.confidence, label.method) == ("SOCIAL", 0.99, "pattern")

    def test_below_its_threshold_no_label_is_given_unless_forced(self, trained: Heads, encoder: Encoder) -> None:
        never = replace(trained, trigger=replace(trained.trigger, thresholds=np.full(5, 1.01, np.float32), patterns={}))
        (label,) = never.label_triggers(encoder.embed(["lunch"]), ["lunch"])
        assert (label.name, label.method) == (None, "abstained")
        assert 0 < label.confidence <= 1
        (forced,) = never.label_triggers(encoder.embed(["lunch"]), ["lunch"], force=True)
        assert forced.name in LABELS["trigger"]
        assert forced.confidence == label.confidence

    def test_a_label_depends_on_its_text_alone(self, trained: Heads, encoder: Encoder) -> None:
        texts = ["wanna grab lunch tonight", "thanks for dinner", "😂", "?"]
        together = trained.label_triggers(encoder.embed(texts), texts)
        for text, label in zip(texts, together, strict=True):
            (alone,) = trained.label_triggers(encoder.embed([text]), [text])
            assert (alone.name, alone.method) == (label.name, label.method)
            assert alone.confidence == pytest.approx(label.confidence, abs=1e-4)

    @pytest.mark.parametrize(
        ("task", "text", "label"),
        [
            ("trigger", "Hey there!", "SOCIAL"),
            ("trigger", "HAHAHA", "REACTION"),
            ("trigger", "so, what did you do today?", "QUESTION"),
            ("trigger", "Loved “see you then”", "SOCIAL"),
            ("trigger", "hbu?", "QUESTION"),
            ("trigger", "how about we get lunch?", None),
            ("trigger", "super", None),
            ("trigger", "hey, I got the job", None),
            ("response", "idk", "DEFER"),
            ("response", "Same here!", "AGREE"),
            ("response", "i'm so sorry to hear that", "REACT_SYMPATHY"),
            ("response", "ok", None),
            ("response", "", None),
        ],
    )
    def test_patterns_match_what_is_plain_and_nothing_else(self, task: Task, text: str, label: str) -> None:
        found = matched(task, text)
        assert (found.label if found else None) == label

    def test_every_pattern_has_a_name_of_its_own_and_a_known_label(self) -> None:
        for task in TASKS:
            names = [pattern.name for pattern in PATTERNS[task]]
            assert len(set(names)) == len(names)
            assert {pattern.label for pattern in PATTERNS[task]} <= set(LABELS[task])


class TestFeatures:
    @given(st.text())
    def test_any_text_has_facts_in_bounds_each_once(self, text: str) -> None:
        found = trigger_buckets(text)
        assert len(found) > 0
        assert (np.diff(found) > 0).all()
        assert found[0] >= 0
        assert found[-1] < BUCKETS

    @given(st.text(), st.text())
    def test_a_response_has_its_own_facts_among_those_of_the_pair(self, trigger: str, response: str) -> None:
        assert set(trigger_buckets(response)) <= set(response_buckets(trigger, response))

    def test_small_words_and_marks_make_a_difference(self) -> None:
        assert set(trigger_buckets("you like it")) != set(trigger_buckets("you like it?"))
        assert set(trigger_buckets("do you")) != set(trigger_buckets("you do"))

    def test_a_long_text_costs_no_more_than_a_page(self) -> None:
        assert len(trigger_buckets("word " * 100_000)) < 500

    def test_pairs_are_seen_from_both_sides(self) -> None:
        vectors = tiny.unit_rows(6, 8, 2, 0)
        assert response_inputs(vectors[:3], vectors[3:]).shape == (3, 16)


class TestFiles:
    def test_what_is_read_is_what_was_written(self, trained: Heads, tmp_path: Path) -> None:
        write_heads(tmp_path, trained)
        read = read_heads(tmp_path, trained.fingerprint)
        for task in TASKS:
            for name in ("dense", "table", "bias", "shift", "thresholds"):
                np.testing.assert_array_equal(getattr(read.of(task), name), getattr(trained.of(task), name))
            assert read.of(task).patterns == trained.of(task).patterns
            assert read.of(task).temperature == trained.of(task).temperature
        assert read.facts == trained.facts

    def test_no_word_of_a_message_is_in_them(self, trained: Heads, tmp_path: Path) -> None:
        write_heads(tmp_path, trained)
        for name in (HEADS_FILE, FACTS_FILE):
            content = (tmp_path / name).read_bytes()
            assert not any(thing.encode() in content for thing in ("lunch", "dinner", "movie"))
            assert (tmp_path / name).stat().st_mode & 0o777 == 0o600

    def test_heads_of_another_space_cannot_load(self, trained: Heads, tmp_path: Path) -> None:
        write_heads(tmp_path, trained)
        with pytest.raises(FingerprintMismatch) as caught:
            read_heads(tmp_path, "0" * 32)
        for part in (trained.fingerprint, "0" * 32, "jarvis-embed train heads"):
            assert part in str(caught.value)

    @pytest.mark.parametrize("name", [HEADS_FILE, FACTS_FILE])
    def test_a_broken_file_is_said(self, trained: Heads, tmp_path: Path, name: str) -> None:
        write_heads(tmp_path, trained)
        (tmp_path / name).write_bytes(b"{")
        with pytest.raises(SpaceDamaged):
            read_heads(tmp_path, trained.fingerprint)

    def test_heads_that_read_other_features_are_as_if_missing(self, trained: Heads, tmp_path: Path) -> None:
        write_heads(tmp_path, trained)
        stated = json.loads((tmp_path / FACTS_FILE).read_text())
        (tmp_path / FACTS_FILE).write_text(json.dumps({**stated, "features": -1}))
        with pytest.raises(HeadsMissing):
            read_heads(tmp_path, trained.fingerprint)


class TestSpace:
    def test_without_heads_the_error_says_how_to_train_them(self, built: Encoder, home: Path) -> None:
        with je.Space.open(home=home, encoder=built) as space:
            assert je.suggest("lunch?", space=space, home=home).trigger_label is None
            with pytest.raises(HeadsMissing, match="jarvis-embed train heads"):
                je.classify_triggers(space, ["lunch?"])

    def test_with_heads_suggest_and_classify_label(self, built: Encoder, home: Path, trained: Heads) -> None:
        replace_heads(built, home, trained)
        with je.Space.open(home=home, encoder=built) as space:
            (label,) = je.classify_triggers(space, ["wanna grab lunch tonight"], force=True)
            assert label.name == "COMMITMENT"
            assert je.suggest("where is the cat at today?", space=space, home=home).trigger_label is not None
            (answer,) = je.classify_responses(space, ["where is the cat?"], ["no dinner tonight"], force=True)
            assert answer.name == "DECLINE"
            assert je.classify_triggers(space, []) == je.classify_responses(space, [], []) == []

    @pytest.mark.parametrize("texts", ["lunch", [""], ["lunch", " \n"]])
    def test_what_cannot_be_classified_is_refused(
        self, built: Encoder, home: Path, trained: Heads, texts: list[str]
    ) -> None:
        replace_heads(built, home, trained)
        with je.Space.open(home=home, encoder=built) as space:
            with pytest.raises(InputError):
                je.classify_triggers(space, texts)
            with pytest.raises(InputError):
                je.classify_responses(space, ["hey", "you"], ["hey"])

    def test_new_heads_are_a_generation_that_rollback_undoes(
        self, built: Encoder, home: Path, trained: Heads, tiny_folder: Path
    ) -> None:
        add_model(built.name, tiny_folder, home)
        save_settings(home, load_settings(home).model_copy(update={"model": built.name, "precision": "fp32"}))
        before = current_folder(model_home(built.name, home))
        name = replace_heads(built, home, trained)
        after = current_folder(model_home(built.name, home))
        assert before is not None
        assert after is not None
        assert after.name == name != before.name
        for shared in ("vectors.safetensors", "index.safetensors"):
            assert (after / shared).stat().st_ino == (before / shared).stat().st_ino
        undo_switch(home)
        with je.Space.open(home=home, encoder=built) as space:
            assert space.heads is None

    def test_a_build_keeps_the_heads_of_the_same_model(
        self, built: Encoder, home: Path, trained: Heads, history: Path
    ) -> None:
        replace_heads(built, home, trained)
        with je.Library.open(home) as library:
            library.ingest(je.sources.open(tiny.write_history(history, 230)))
        je.build(built, home)
        je.build(built, home, force=True)
        with je.Space.open(home=home, encoder=built) as space:
            assert space.heads is not None
            np.testing.assert_array_equal(space.heads.trigger.dense, trained.trigger.dense)

    def test_what_own_labels_taught_goes_when_a_message_must_be_forgotten(
        self, built: Encoder, home: Path, trained: Heads, history: Path
    ) -> None:
        replace_heads(built, home, replace(trained, facts={**trained.facts, "own": 3}))
        with je.Library.open(home) as library:
            library.ingest(je.sources.open(tiny.write_history(history, 150)))  # messages are gone from the source
        je.build(built, home)
        with je.Space.open(home=home, encoder=built) as space:
            assert space.heads is None

    def test_heads_are_not_put_into_another_model_s_space(
        self, home: Path, history: Path, tmp_path: Path, trained: Heads
    ) -> None:
        other = load_encoder(tiny.write_model(tmp_path / "other", seed=3), home=home, precision="fp32")
        with pytest.raises(SpaceMissing):
            replace_heads(other, home, trained)
        with je.Library.open(home) as library:
            library.ingest(je.sources.open(history))
        je.build(other, home)
        with pytest.raises(FingerprintMismatch) as caught:
            replace_heads(other, home, trained)
        assert trained.fingerprint in str(caught.value)
        assert other.fingerprint in str(caught.value)

    def test_switching_models_switches_heads(
        self, home: Path, history: Path, tmp_path: Path, trained: Heads, tiny_folder: Path
    ) -> None:
        add_model("one", tiny_folder, home)
        add_model("two", tiny.write_model(tmp_path / "two", seed=3), home)
        save_settings(home, load_settings(home).model_copy(update={"model": "one", "precision": "fp32"}))
        with je.Library.open(home) as library:
            library.ingest(je.sources.open(history))
        for name in ("one", "two"):
            je.build(load_encoder(name, home=home), home)
        replace_heads(load_encoder("one", home=home), home, trained)
        seen = []
        for command in (None, ["use", "two"], ["rollback"]):
            if command:
                assert CliRunner().invoke(app, command).exit_code == 0
            with je.Space.open(home=home) as space:
                seen.append((space.encoder.name, space.heads is not None))
        assert seen == [("one", True), ("two", False), ("one", True)]


class TestSilver:
    """A teacher's labels of pairs that nobody labelled by hand."""

    @pytest.fixture(autouse=True)
    def corpus(self) -> None:
        pytest.importorskip("chitchat_dataset")

    def test_they_are_in_the_package_and_fit_the_corpus(self) -> None:
        found = read_silver()
        assert found is not None
        assert len(found.triggers) == len(found.responses) == 40_000
        for task in TASKS:
            assert found.chances[task].shape == (40_000, len(LABELS[task]))
            np.testing.assert_allclose(found.chances[task].sum(1), 1, atol=1e-5)

    def test_the_teacher_is_right_where_the_text_leaves_no_doubt(self) -> None:
        found = read_silver()
        assert found is not None
        best = found.chances["trigger"].argmax(1)
        for text, label in (("hi", "SOCIAL"), ("how are you?", "QUESTION"), ("haha", "REACTION")):
            rows = [row for row, trigger in enumerate(found.triggers) if trigger.lower() == text]
            assert len(rows) >= 3
            assert np.mean(best[rows] == LABELS["trigger"].index(label)) > 0.9

    def test_what_people_read_is_of_other_pairs_than_the_gold_labels(self) -> None:
        found = read_by_hand()
        assert found is not None
        assert len(found.triggers) == 27_200
        np.testing.assert_allclose(found.chances["response"].max(1), 0.955, atol=0.01)
        gold = {(one.trigger, one.text) for one in gold_examples("validation") if one.task == "response"}
        long = {pair for pair in gold if min(len(text.split()) for text in pair) > 4}
        assert not long & set(zip(found.triggers, found.responses, strict=True))

    def test_a_held_out_conversation_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(silver_module, "split_of", lambda _name: "sealed")
        with pytest.raises(LabelError, match="held out"):
            read_silver()

    def test_without_the_corpus_there_are_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(split: str) -> None:
            raise SourceError(f"no {split}", "Install it")

        monkeypatch.setattr(silver_module, "ChitchatSource", missing)
        assert read_silver() is None

    def test_what_is_written_is_what_is_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (conversation,) = (next(iter(je.sources.open("chitchat", split="train").conversations())),)
        texts = [turn.text for turn in turns_of(conversation.messages)]
        chances = {task: np.full((2, len(LABELS[task])), 1 / len(LABELS[task]), np.float32) for task in TASKS}
        write_silver(tmp_path, [(conversation.key, 0), (conversation.key, 2)], chances)
        monkeypatch.setattr(silver_module.resources, "files", lambda _package: tmp_path)
        found = read_silver()
        assert found is not None
        assert found.triggers == (texts[0], texts[2])
        assert found.responses == (texts[1], texts[3])
        np.testing.assert_allclose(found.chances["response"], 0.1, atol=0.01)


class TestLogistic:
    """What heads and prior are fitted by."""

    def test_it_finds_what_scikit_learn_finds(self) -> None:
        rng = np.random.default_rng(0)
        inputs, truth = rng.normal(size=(200, 8)).astype(np.float32), rng.integers(0, 3, 200)
        inputs[:, 0] += truth
        facts = [np.unique(np.append(rng.integers(0, 30, 5), 100 + label)) for label in truth]
        weights = rng.uniform(0.5, 2, 200).astype(np.float32)
        table = fact_rows(facts, 1.5)
        counts = np.eye(3, dtype=np.float32)[truth] * weights[:, None]
        ours = fitted(inputs, table, counts, rounds=200)
        matrix = np.hstack([inputs, table.toarray()])
        theirs = LogisticRegression(tol=1e-6, max_iter=1000).fit(matrix, truth, sample_weight=weights)
        np.testing.assert_allclose(ours[:-1], theirs.coef_.T, atol=0.01)
        np.testing.assert_allclose(ours[-1] - ours[-1].mean(), theirs.intercept_ - theirs.intercept_.mean(), atol=0.01)

    def test_probabilities_count_as_labels_in_shares(self) -> None:
        inputs = np.array([[0.0], [1.0]], np.float32)
        facts = fact_rows([np.array([3]), np.array([7])], 1.0)
        shares = np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)
        as_shares = fitted(inputs, facts, 4 * shares, rounds=50)
        rows = [0, 0, 0, 0, 1, 1, 1, 1]
        labels = np.eye(2, dtype=np.float32)[[0, 1, 1, 1, 0, 0, 1, 1]]
        np.testing.assert_allclose(as_shares, fitted(inputs[rows], facts[rows], labels, rounds=50), atol=1e-3)
        assert np.count_nonzero(as_shares[1:-1].any(1)) == 2  # facts that never occur have no weight


class TestPrior:
    """What vector and facts say of a label, learned from silver labels in each space."""

    def test_heads_say_whether_it_was_there(
        self, trained: Heads, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert trained.facts["prior"] is True
        monkeypatch.setattr(training, "read_silver", lambda: None)
        assert train_heads(encoder, labelled.examples(), settings=FAST).facts["prior"] is False

    def test_it_knows_labels_by_itself(self, encoder: Encoder) -> None:
        silver, asked = labelled.silver(), labelled.examples(4, seed=9)
        texts = [*silver.triggers, *silver.responses]
        prior = learn_prior(silver, dict(zip(texts, encoder.embed(texts), strict=True)))
        ours = [example for example in asked if example.task == "response"]
        inputs = response_inputs(
            encoder.embed([one.trigger for one in ours]), encoder.embed([one.text for one in ours])
        )
        said = prior.logits("response", inputs, [response_buckets(one.trigger, one.text) for one in ours])
        right = [LABELS["response"][best] == one.label for best, one in zip(said.argmax(1), ours, strict=True)]
        assert np.mean(right) > 0.8

    def test_it_learns_from_a_long_text_s_facts_alone(self, encoder: Encoder) -> None:
        few = labelled.silver()
        long = Silver((few.triggers[0] + " and so" * LONGEST, *few.triggers[1:]), few.responses, few.chances)
        assert set(texts_read(long)) <= {*few.triggers, *few.responses}
        texts = texts_read(long)
        prior = learn_prior(long, dict(zip(texts, encoder.embed(texts), strict=True)))
        assert np.isfinite(prior.dense["response"]).all()
        assert prior.tables["trigger"][trigger_buckets(long.triggers[0])].any()

    def test_it_is_learned_once_for_a_space(
        self, home: Path, trained: Heads, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With it heads are trained in half the time, and are the same, but for the rounding of a batch of vectors."""
        train_heads(encoder, labelled.examples(), settings=FAST, home=home)
        monkeypatch.setattr(training, "learn_prior", lambda *_: pytest.fail("it was there"))
        monkeypatch.setattr(training, "read_silver", lambda: pytest.fail("nobody needs its texts"))
        again = train_heads(encoder, labelled.examples(), settings=FAST, home=home)
        for task in TASKS:
            np.testing.assert_allclose(again.of(task).dense, trained.of(task).dense, atol=2e-3)
            np.testing.assert_allclose(again.of(task).table, trained.of(task).table, atol=2e-3)
        assert again.facts == trained.facts

    def test_the_package_has_it_for_the_models_that_come_with_heads(self, home: Path, minilm_home: Path) -> None:
        """It is that of these vectors: by itself it says what people said, of messages that it has not seen."""
        encoder = load_encoder("minilm-l6", home=minilm_home, precision="int8")
        prior = kept_prior(encoder, home)
        assert prior
        assert shipped_heads(encoder.fingerprint)
        asked = [example for example in gold_examples("validation") if example.task == "trigger"][:200]
        texts = [example.text for example in asked]
        right = []
        for vectors in (encoder.embed(texts), -encoder.embed(texts)):
            said = prior.logits("trigger", vectors, [trigger_buckets(text) for text in texts]).argmax(1)
            right.append(np.mean([LABELS["trigger"][b] == e.label for b, e in zip(said, asked, strict=True)]))
        assert right[0] > max(0.8, right[1] + 0.05)

    def test_that_of_another_space_or_version_and_a_damaged_one_are_not_there(
        self, home: Path, encoder: Encoder, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        train_heads(encoder, labelled.examples(), settings=FAST, home=home)
        assert kept_prior(encoder, home)
        (place,) = home.rglob("prior.safetensors")
        assert place.stat().st_mode & 0o777 == 0o600
        other = load_encoder(tiny_folder, home=home, precision="int8")
        elsewhere = model_home(other.name, home) / "compiled" / "int8" / place.name
        elsewhere.parent.mkdir(parents=True, exist_ok=True)
        elsewhere.write_bytes(place.read_bytes())
        assert kept_prior(other, home) is None
        with monkeypatch.context() as patch:
            patch.setattr(prior_module, "PRIOR_VERSION", 0)
            assert kept_prior(encoder, home) is None
        place.write_bytes(place.read_bytes()[:-1])
        assert kept_prior(encoder, home) is None

    def test_it_is_within_the_weights_of_a_head_that_learned_beside_it(
        self, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What counts is that applying such a head costs nothing more, and says the same as with the prior aside."""
        rng = np.random.default_rng(0)
        width = {"trigger": encoder.dim, "response": 2 * encoder.dim}
        made = Prior(
            {task: rng.normal(size=(width[task], len(LABELS[task]))).astype(np.float32) for task in TASKS},
            {task: rng.normal(size=(BUCKETS, len(LABELS[task]))).astype(np.float32) for task in TASKS},
            {task: np.arange(len(LABELS[task]), dtype=np.float32) for task in TASKS},
        )
        examples = [example for example in labelled.examples() if example.task == "trigger"]
        texts = [example.text for example in examples]
        monkeypatch.setattr(training, "learn_prior", lambda _silver, _vectors, thorough: made)
        head = train_heads(encoder, labelled.examples(), settings=FAST).trigger
        vectors = dict(zip(texts, encoder.embed(texts), strict=True))
        inputs = training._inputs("trigger", examples, vectors, made)
        known, table = training._known(inputs), fact_rows(inputs.facts, FAST[0].facts)
        weights = training._fit(known, table, "trigger", inputs.truth, FAST[0])
        best, _ = head.scores(inputs.dense, inputs.facts)
        logits = np.hstack([known, table.toarray(), np.ones((len(texts), 1))]) @ weights
        sure = np.sort(logits, axis=1)[:, -1] - np.sort(logits, axis=1)[:, -2] > 0.05
        assert sure.sum() > len(texts) / 2
        np.testing.assert_array_equal(best[sure], logits.argmax(1)[sure])


class TestShipped:
    def test_the_default_model_has_labels_from_the_first_build_on(
        self, minilm_home: Path, home: Path, history: Path
    ) -> None:
        encoder = load_encoder("minilm-l6", home=minilm_home, precision="int8")
        with je.Library.open(home) as library:
            library.ingest(je.sources.open(history))
        je.build(encoder, home)
        with je.Space.open(home=home, encoder=encoder) as space:
            labels = je.classify_triggers(space, ["wanna grab lunch tomorrow?", "what time is it?", "hey", "haha"])
            assert [label.name for label in labels[1:]] == ["QUESTION", "SOCIAL", "REACTION"]
            (answer,) = je.classify_responses(space, ["wanna grab lunch tomorrow?"], ["sorry I can't, I have to work"])
            assert answer.method in ("head", "abstained")

    def test_a_space_of_an_earlier_version_gets_them_at_the_next_build(
        self, built: Encoder, home: Path, trained: Heads, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        replace_heads(built, home, trained)
        folder = current_folder(model_home(built.name, home))
        assert folder is not None
        stated = json.loads((folder / FACTS_FILE).read_text()) | {"features": 1}
        (folder / FACTS_FILE).write_text(json.dumps(stated))
        write_manifest(
            folder, replace(read_manifest(folder), files=read_manifest(folder).files | file_marks(folder, [FACTS_FILE]))
        )
        with je.Space.open(home=home, encoder=built) as space:
            assert space.heads is None
        assert je.build(built, home).up_to_date
        with je.Space.open(home=home, encoder=built) as space:
            assert space.heads is None  # none are shipped for this model
        monkeypatch.setattr("jarvis_embed.spaces.heads_store.shipped_heads", lambda _fingerprint: trained)
        assert je.build(built, home).up_to_date
        with je.Space.open(home=home, encoder=built) as space:
            assert space.heads is not None

    @pytest.mark.parametrize("precision", ["int8", "fp32"])
    def test_heads_are_shipped_for_the_default_model_as_it_is_now(self, minilm_home: Path, precision: str) -> None:
        """If this fails, vectors or features have changed: python benchmarks/classifiers.py --ship"""
        assert shipped_heads(load_encoder("minilm-l6", home=minilm_home, precision=precision).fingerprint) is not None

    def test_shipped_heads_were_made_from_gold_labels_alone(self, minilm_home: Path) -> None:
        heads = shipped_heads(load_encoder("minilm-l6", home=minilm_home).fingerprint)
        assert heads is not None
        assert heads.facts["own"] == 0
        pytest.importorskip("chitchat_dataset")
        learned = gold_examples("train")
        for task in TASKS:
            assert heads.facts[task]["examples"] == sum(example.task == task for example in learned)


class TestCommands:
    @pytest.fixture
    def ready(self, home: Path, history: Path, tiny_folder: Path, tmp_path: Path) -> None:
        save_settings(home, load_settings(home).model_copy(update={"precision": "fp32"}))
        own = tmp_path / "own.jsonl"
        own.write_text(
            "\n".join(
                json.dumps({"task": e.task, "label": e.label, "text": f"{e.text} {i}", "trigger": e.trigger})
                for i, e in enumerate(labelled.examples(5))
            )
        )
        for command in (
            ["ingest", str(history)],
            ["models", "add", "tiny", str(tiny_folder)],
            ["build", "tiny"],
            ["use", "tiny"],
            ["labels", "import", str(own)],
        ):
            result = CliRunner().invoke(app, command, catch_exceptions=False)
            assert result.exit_code == 0, result.output

    @pytest.mark.usefixtures("ready")
    def test_own_labels_then_heads_then_labels(self) -> None:
        trained = CliRunner().invoke(app, ["train", "heads", "--no-gold", "--json"], catch_exceptions=False)
        told = json.loads(trained.stdout)
        assert told["own"] == 75
        assert told["trigger"]["examples"] == 25
        shown = CliRunner().invoke(app, ["classify", "wanna grab lunch tonight", "--force"])
        assert shown.stdout.startswith("COMMITMENT")
        answer = CliRunner().invoke(
            app, ["classify", "no lunch tonight", "--response-to", "where is the dog?", "--force", "--json"]
        )
        assert json.loads(answer.stdout)["label"]["name"] == "DECLINE"
        again = CliRunner().invoke(app, ["suggest", "where is the cat at today?", "--json"])
        assert set(json.loads(again.stdout)["trigger_label"]) == {"name", "confidence", "method"}

    def test_without_a_space_nothing_is_learned_first(self, home: Path, tiny_folder: Path) -> None:
        add_model("tiny", tiny_folder, home)
        with pytest.raises(SpaceMissing, match="jarvis-embed build tiny"):  # not of the labels, which are missing too
            CliRunner().invoke(app, ["train", "heads", "tiny", "--no-gold"], catch_exceptions=False)

    def test_too_few_labels_are_an_error_in_one_line(self, home: Path, history: Path, tiny_folder: Path) -> None:
        add_model("tiny", tiny_folder, home)
        with je.Library.open(home) as library:
            library.ingest(je.sources.open(history))
        je.build(load_encoder("tiny", home=home), home)
        done = subprocess.run(
            [sys.executable, "-m", "jarvis_embed", "train", "heads", "tiny", "--no-gold"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert "there are 0 labelled triggers" in done.stderr
        assert "labels import" in done.stderr
