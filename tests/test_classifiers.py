"""What classifiers are worth: macro F1, its interval, its baselines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, f1_score

import jarvis_embed as je
import labelled
from jarvis_embed.errors import SourceError, TextLeak
from jarvis_embed.evaluation import bootstrap, classifiers, exam
from jarvis_embed.evaluation.classifiers import Gold, baselines, score_labels
from jarvis_embed.labels.gold import Example
from jarvis_embed.labels.scheme import LABELS, TASKS
from jarvis_embed.models.encoder import Encoder

NAMES = LABELS["trigger"]


def asked(truth: list[str]) -> list[Example]:
    return [Example("trigger", label, "text", "", f"c{i // 3}") for i, label in enumerate(truth)]


every_label_then_any = st.lists(st.sampled_from(NAMES), min_size=0, max_size=40).map(lambda rest: [*NAMES, *rest])


@given(every_label_then_any, st.randoms(use_true_random=False))
def test_macro_f1_and_confusion_are_scikit_learn_s(truth: list[str], draw: object) -> None:
    guess = [draw.choice(NAMES) for _ in truth]  # type: ignore[attr-defined]
    score = score_labels("trigger", asked(truth), guess)
    assert score.contributions.value == pytest.approx(
        f1_score(truth, guess, labels=list(NAMES), average="macro", zero_division=0)
    )
    np.testing.assert_array_equal(score.confusion.counts, confusion_matrix(truth, guess, labels=list(NAMES)))


def test_a_withheld_label_counts_as_a_miss() -> None:
    truth = list(NAMES) * 2
    score = score_labels("trigger", asked(truth), [*NAMES, *[""] * 5])
    assert score.contributions.value == pytest.approx(2 / 3)


def test_the_interval_is_over_conversations_and_the_difference_is_paired() -> None:
    truth = list(NAMES) * 12
    perfect = score_labels("trigger", asked(truth), truth).contributions
    worse = score_labels("trigger", asked(truth), ["STATEMENT"] * 60).contributions
    assert perfect.groups == 20
    assert bootstrap.interval(perfect, 1) == bootstrap.Interval(1, 1)
    gap = bootstrap.difference(perfect, worse, 1)
    assert gap.is_gain
    assert gap.value == pytest.approx(1 - worse.value)


def test_baselines_stand_beside_every_score(encoder: Encoder) -> None:
    gold = Gold(tuple(labelled.examples()), tuple(labelled.examples(3, seed=5, name="asked")))
    found = baselines(gold)
    for task in TASKS:
        assert set(found[task]) == {"majority", "patterns", "tf-idf"}
        chance = 2 / (len(LABELS[task]) + 1) / len(LABELS[task])  # of one label out of equally frequent ones
        assert found[task]["majority"].value == pytest.approx(chance)
        assert found[task]["tf-idf"].value > 0.8


def test_no_conversation_may_be_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifiers, "gold_examples", lambda _split: labelled.examples())
    with pytest.raises(TextLeak):
        classifiers.load_gold()


def test_the_exam_shows_each_label_and_the_parent(
    home: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = next(row for row, *_ in classifier_rows(encoder, home) if row.name == "response_f1")
    assert row.value is not None
    assert row.value > 0.8
    assert set(LABELS["response"]) <= set(row.beside)
    assert {"majority", "patterns", "tf-idf"} == set(row.baselines)
    assert row.baselines["majority"].difference.is_gain


def test_without_the_corpus_the_exam_says_what_it_needs(
    home: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> Gold:
        raise SourceError("the chitchat corpus is not installed", "Install it: pip install chitchat-dataset")

    monkeypatch.setattr(exam, "load_gold", absent)
    for row, contributions, confusion in classifier_rows(encoder, home):
        assert (row.value, contributions, confusion) == (None, None, None)
        assert "pip install chitchat-dataset" in row.needs


def classifier_rows(encoder: Encoder, home: Path) -> list[tuple[exam.Metric, object, object]]:
    from jarvis_embed.evaluation.competitors import EncoderCompetitor, RandomCompetitor
    from jarvis_embed.evaluation.data import PublicData
    from jarvis_embed.evaluation.material import prepare
    from jarvis_embed.evaluation.questions import Room

    candidate = EncoderCompetitor(encoder)
    room = Room(prepare(None, "none", PublicData(), sealed=False, seed=1), candidate, 1)
    return list(exam._classifiers(candidate, {"random": RandomCompetitor(1)}, room, home, lambda *_: None))


def test_public_names() -> None:
    assert {"classify_triggers", "classify_responses", "Label"} <= set(je.__all__)
