"""How good classifiers are on the gold labels: macro F1 with its interval, each label's, and the confusion.

Trained on the gold labels of chitchat's training part, and scored on those of its validation part, which nothing was
chosen by. Every figure counts the label that is likeliest, also where a classifier would rather give none.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..conversations.patterns import matched
from ..labels.gold import Example, gold_examples
from ..labels.scheme import LABELS, TASKS, Label, Task
from ..models.encoder import Encoder
from ..spaces.heads import Heads
from ..spaces.heads_store import shipped_heads
from ..text import normalise
from .bootstrap import Contributions, Floats, of_groups
from .splits import assert_conversations_disjoint

Numbers = npt.NDArray[np.int64]
Progress = Callable[[str, int, int], None]

ON: Final = "gold labels, chitchat validation"


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often gold label ``labels[i]`` was taken for ``labels[j]``."""

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Gold:
    """The gold labels with their texts, by part.

    Attributes:
        learned: of the training part. asked: of the validation part.
    """

    learned: tuple[Example, ...]
    asked: tuple[Example, ...]

    def of(self, task: Task) -> tuple[Example, ...]:
        """The examples of one task that are asked."""
        return tuple(example for example in self.asked if example.task == task)


@dataclass(frozen=True, slots=True)
class Score:
    """How one classifier did on one task.

    Attributes:
        contributions: hits, gold labels and guesses of each message; their ``value`` is the macro F1.
        by_label: F1 of each label.
        answered: share that gets a label when unsure ones are withheld. right: share of those that are right.
        by_pattern: share that a structural pattern decides.
    """

    task: Task
    contributions: Contributions
    confusion: Confusion
    by_label: Mapping[str, float]
    answered: float | None = None
    right: float | None = None
    by_pattern: float | None = None


def load_gold() -> Gold:
    """Read the gold labels and their texts.

    Raises:
        SourceError: the corpus is not installed. TextLeak: a conversation is on both sides.
    """
    learned, asked = gold_examples("train"), gold_examples("validation")
    assert_conversations_disjoint((one.group for one in learned), (one.group for one in asked))
    return Gold(tuple(learned), tuple(asked))


def heads_for(encoder: Encoder, gold: Gold, seed: int, home: Path, progress: Progress | None = None) -> Heads:
    """The heads that the gold labels alone give this encoder: those of the package if it ships them, else trained.

    Args:
        home: where what training learns of silver labels is kept.

    Raises:
        LabelError: they have to be trained, and scikit-learn is not installed.
    """
    from ..training.heads import train_heads

    return shipped_heads(encoder.fingerprint) or train_heads(
        encoder, gold.learned, seed=seed, home=home, progress=progress
    )


def score_heads(heads: Heads, encoder: Encoder, gold: Gold) -> dict[Task, Score]:
    """Score the whole cascade of trained heads."""
    found: dict[Task, Score] = {}
    for task in TASKS:
        asked = gold.of(task)
        sure, forced = (_labels(heads, encoder, asked, task, force=force) for force in (False, True))
        given = [(label.name, example.label) for label, example in zip(sure, asked, strict=True) if label.name]
        names = [label.name or "" for label in forced]
        score = score_labels(task, asked, names)
        found[task] = Score(
            task,
            score.contributions,
            score.confusion,
            score.by_label,
            answered=len(given) / len(asked),
            right=sum(guess == truth for guess, truth in given) / max(len(given), 1),
            by_pattern=sum(label.method == "pattern" for label in sure) / len(asked),
        )
    return found


def score_labels(task: Task, asked: Sequence[Example], guesses: Sequence[str]) -> Score:
    """Score labels, one for each of ``asked``; an empty one is always wrong."""
    names = LABELS[task]
    truth = np.array([names.index(example.label) for example in asked])
    guess = np.array([names.index(name) if name in names else -1 for name in guesses])
    confusion = np.zeros((len(names), len(names)), np.int64)
    np.add.at(confusion, (truth[guess >= 0], guess[guess >= 0]), 1)
    conversations, group = of_groups([example.group for example in asked])
    hit, had, said = (np.zeros((len(asked), len(names))) for _ in range(3))
    rows = np.arange(len(asked))
    had[rows, truth] = 1
    said[rows[guess >= 0], guess[guess >= 0]] = 1
    hit = had * said
    contributions = Contributions(conversations, group, np.hstack([hit, had, said]), macro_f1)
    by_label = _f1(contributions.moments.sum(0))
    counts = Confusion(names, tuple(tuple(row) for row in confusion.tolist()))
    return Score(task, contributions, counts, dict(zip(names, by_label.tolist(), strict=True)))


def macro_f1(sums: Floats) -> Floats:
    """Mean F1 over labels from summed hits, gold labels and guesses, (…, 3c) → (…).

    A label that a draw has neither in the gold labels nor in the guesses is left out of its mean.
    """
    return np.asarray(np.nanmean(_f1(sums), axis=-1))


def f1_of_label(place: int) -> Callable[[Floats], Floats]:
    """The statistic of one label's F1, by its number, from what ``macro_f1`` is made of; 0 if it never occurs."""
    return lambda sums: np.nan_to_num(_f1(sums)[..., place])


def _f1(sums: Floats) -> Floats:
    hit, had, said = np.split(sums, 3, axis=-1)
    with np.errstate(invalid="ignore"):
        return np.asarray(2 * hit / (had + said))


def baselines(gold: Gold) -> dict[Task, dict[str, Contributions]]:
    """Who stands beside every score: the most frequent label, TF-IDF, and the structural patterns alone.

    TF-IDF is left out where scikit-learn is not installed.
    """
    kinds = {"majority": majority_labels, "patterns": pattern_labels, "tf-idf": tfidf_labels}
    if importlib.util.find_spec("sklearn") is None:
        del kinds["tf-idf"]
    return {
        task: {
            kind: score_labels(task, gold.of(task), guess(task, gold)).contributions for kind, guess in kinds.items()
        }
        for task in TASKS
    }


def majority_labels(task: Task, gold: Gold) -> list[str]:
    """The baseline that says the most frequent label every time."""
    labels = [example.label for example in gold.learned if example.task == task]
    return [max(LABELS[task], key=labels.count)] * len(gold.of(task))


def pattern_labels(task: Task, gold: Gold) -> list[str]:
    """The baseline of structural patterns alone: STATEMENT where none matches."""
    found = [matched(task, example.text) for example in gold.of(task)]
    return ["STATEMENT" if pattern is None else pattern.label for pattern in found]


def tfidf_labels(task: Task, gold: Gold) -> list[str]:
    """The baseline of TF-IDF over words and word pairs with logistic regression; a response with its trigger's words.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    from scipy import sparse
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    def vectorizer() -> Any:
        return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b|[?!.]")  # noqa: S106

    learned = [example for example in gold.learned if example.task == task]
    asked = gold.of(task)
    inside, outside = [], []
    for side in ("text",) if task == "trigger" else ("text", "trigger"):
        words = vectorizer()
        inside.append(words.fit_transform([normalise(getattr(example, side)) for example in learned]))
        outside.append(words.transform([normalise(getattr(example, side)) for example in asked]))
    fitted = LogisticRegression(C=10, class_weight="balanced", max_iter=500)
    fitted.fit(sparse.hstack(inside, format="csr"), [example.label for example in learned])
    return [str(label) for label in fitted.predict(sparse.hstack(outside, format="csr"))]


def _labels(heads: Heads, encoder: Encoder, asked: Sequence[Example], task: Task, *, force: bool) -> list[Label]:
    texts = [example.text for example in asked]
    readings = encoder.read(texts)
    if task == "trigger":
        return heads.label_triggers(readings, texts, force=force)
    triggers = [example.trigger for example in asked]
    return heads.label_responses(encoder.read(triggers), readings, triggers, texts, force=force)
