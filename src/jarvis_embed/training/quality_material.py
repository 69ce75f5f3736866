"""What a quality head and the weights of signals are learned from: real replies, public ratings; nothing examined."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from ..conversations.selection import examined_keys
from ..evaluation.data import RatedReply, read_rated, read_replies
from ..evaluation.data import Replies as Record
from ..evaluation.splits import assert_disjoint, in_evaluation
from ..messages import Pair
from ..models.encoder import Encoder
from ..text import folded, normalise
from .material import COMMON_WORDS, Texts, training_records
from .pairs import Ground, chosen_of, stand
from .quality_head import TURNS, HeadMaterial, Replies
from .recipe import Recipe, Source

Progress = Callable[[str, int, int], None]

SOURCES: Final[dict[Source, float]] = {"chitchat": 0.35, "dailydialog": 0.2, "samsum": 0.2}
"""How often a pair of each is drawn; the records of ``dailydialog_pp`` make up the rest."""

_RECORDS: Final = 0.25


def quality_ground(data: Path | None, home: Path) -> Ground:
    """Where a head is learned: on the chitchat corpus, and on the public files where a folder is given.

    What is examined of ``dailydialog_pp`` here are wrong replies too.
    """
    ground = stand(_recipe(data), data, home)
    wrong = [
        text
        for record in (read_replies(data) if data is not None else None) or ()
        if in_evaluation(record.id)
        for text in (*record.adversarial, *record.random)
    ]
    held_out = tuple(dict.fromkeys((*ground.held_out, *wrong)))
    return Ground(ground.sides, ground.source, ground.examined, held_out)


def _recipe(data: Path | None) -> Recipe:
    return Recipe(sources=dict(SOURCES) if data is not None else {"chitchat": 1.0}, pairs=120_000)


def rated_for_training(data: Path, held_out: Iterable[str]) -> list[RatedReply]:
    """The replies of ``quality_train`` that share no text with what is examined.

    Raises:
        SourceError: the file is broken.
    """
    taken = examined_keys(held_out, COMMON_WORDS)
    return [
        one
        for one in read_rated(data, "quality_train") or ()
        if taken.isdisjoint(map(folded, (*one.context[-TURNS:], one.response)))
    ]


def head_material(
    ground: Ground, encoder: Encoder, data: Path | None, progress: Progress | None = None
) -> HeadMaterial:
    """Everything that a head learns from, under ``encoder``.

    Raises:
        TextLeak: an examined text is among what would be learned from. SourceError: a file is missing or broken.
    """
    show = progress or (lambda _stage, _done, _total: None)
    texts = Texts()
    recipe = _recipe(data)
    pairs = [
        (_replies(texts, [_exchange(pair) for pair in chosen_of(name, ground, recipe, data).pairs]), weight)
        for name, weight in recipe.sources.items()
    ]
    good: Replies | None = None
    adversarial: Replies | None = None
    random: Replies | None = None
    rated: list[RatedReply] = []
    if data is not None:
        taken = examined_keys(ground.held_out, COMMON_WORDS)
        records = training_records(data, ground.held_out)
        clean = [one for one in records if taken.isdisjoint(map(folded, one.context[-TURNS:]))]
        of_records = [(one.context, reply) for one in clean for reply in one.positives]
        pairs.append((_replies(texts, of_records), _RECORDS))
        full = [one for one in clean if one.adversarial and one.random]
        good, adversarial, random = (
            _replies(texts, [(one.context, reply) for one in full for reply in kind(one) if folded(reply) not in taken])
            for kind in (_good, _adversarial, _random)
        )
        rated = rated_for_training(data, ground.held_out)
    judged = _replies(texts, [(one.context, one.response) for one in rated]) if rated else None
    assert_disjoint(texts.rows, ground.held_out, common_words=COMMON_WORDS)
    vectors = encoder.embed(list(texts.rows), lambda done, total: show("embed", done, total)).astype(np.float16)
    return HeadMaterial(
        vectors,
        [(replies, weight) for replies, weight in pairs if len(replies)],
        good=good,
        adversarial=adversarial,
        random=random,
        rated=judged,
        scores=np.array([one.score for one in rated], np.float32),
        sources=np.array([one.source for one in rated]),
        raters=np.array([one.raters or 1 for one in rated], np.float32),
    )


def _good(record: Record) -> Sequence[str]:
    return record.positives


def _adversarial(record: Record) -> Sequence[str]:
    return record.adversarial


def _random(record: Record) -> Sequence[str]:
    return record.random


def _exchange(pair: Pair) -> tuple[Sequence[str], str]:
    return (*pair.context, pair.trigger), pair.response


def _replies(texts: Texts, exchanges: Sequence[tuple[Sequence[str], str]]) -> Replies:
    """Number (context, response), the turns that are read of the context with it."""
    turns = np.full((len(exchanges), TURNS), -1, np.int64)
    responses = np.empty(len(exchanges), np.int64)
    for row, (context, response) in enumerate(exchanges):
        for back, text in enumerate(reversed(context[-TURNS:])):
            if normalise(text):
                turns[row, back] = texts.row(text)
        responses[row] = texts.row(response)
    return Replies(turns, responses)
