"""What a quality head is learned from, under one encoder: real replies, and what people said of some."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from ..evaluation.splits import assert_disjoint
from ..messages import Pair
from ..models.encoder import Encoder
from .corpora import COMMON_WORDS, training_records
from .ground import Ground, Progress, chosen_of, stand
from .judgements import NO_JUDGEMENTS, Replies, in_clean_context, numbered_judgements, numbered_replies
from .material import Material
from .quality_head import HeadMaterial
from .recipe import Recipe, Source
from .texts import Halves, Texts

SOURCES: Final[dict[Source, float]] = {"chitchat": 0.35, "dailydialog": 0.2, "samsum": 0.2}
"""How often a pair of each is drawn; the records of ``dailydialog_pp`` make up the rest."""

_RECORDS: Final = 0.25


def quality_ground(data: Path | None, home: Path) -> Ground:
    """Where a head is learned: on the chitchat corpus, and on the public files where a folder is given."""
    return stand(_recipe(data), data, home)


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
        (numbered_replies(texts, [_exchange(pair) for pair in chosen_of(name, ground, recipe, data).pairs]), weight)
        for name, weight in recipe.sources.items()
    ]
    judgements = NO_JUDGEMENTS
    if data is not None:
        records = training_records(data, ground.held_out)
        clean = in_clean_context(records, ground.held_out)
        of_records = [(one.context, reply) for one in clean for reply in one.positives]
        pairs.append((numbered_replies(texts, of_records), _RECORDS))
        judgements = numbered_judgements(clean, data, ground.held_out, texts)
    assert_disjoint(texts.rows, ground.held_out, common_words=COMMON_WORDS)
    vectors = encoder.embed(list(texts.rows), lambda done, total: show("embed", done, total)).astype(np.float16)
    lengths = np.array([len(encoder.tokens(text)) for text in texts.rows], np.int64)
    return HeadMaterial(vectors, lengths, [(replies, weight) for replies, weight in pairs if len(replies)], judgements)


def of_trained(material: Material, vectors: Halves) -> HeadMaterial:
    """What a model was trained on, for the head that it gets, under the vectors that it gives now."""
    pairs = [(Replies.of_pairs(one.triggers, one.contexts, one.responses), one.weight) for one in material.pairs]
    if (known := material.judgements.contrasted) is not None:
        pairs.append((Replies(known.turns, known.good), _RECORDS * sum(weight for _, weight in pairs)))
    lengths = np.array(list(map(len, material.tokens)), np.int64)
    return HeadMaterial(vectors, lengths, pairs, material.judgements)


def _recipe(data: Path | None) -> Recipe:
    return Recipe(sources=dict(SOURCES) if data is not None else {"chitchat": 1.0}, pairs=120_000)


def _exchange(pair: Pair) -> tuple[Sequence[str], str]:
    return (*pair.context, pair.trigger), pair.response
