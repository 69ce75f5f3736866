"""What a quality head is learned from, under one encoder: real replies, and what people said of some."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from ..conversations.selection import examined_keys
from ..evaluation.splits import assert_disjoint
from ..messages import Pair
from ..models.encoder import Encoder
from ..text import folded
from .corpora import COMMON_WORDS, training_records
from .ground import Ground, chosen_of, stand
from .judgements import TURNS, Judgements, Replies, numbered_judgements, numbered_replies
from .material import Material
from .quality_head import HeadMaterial
from .recipe import Recipe, Source
from .texts import Halves, Rows, Texts

Progress = Callable[[str, int, int], None]

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
    judgements = Judgements()
    if data is not None:
        taken = examined_keys(ground.held_out, COMMON_WORDS)
        records = training_records(data, ground.held_out)
        clean = [one for one in records if taken.isdisjoint(map(folded, one.context[-TURNS:]))]
        of_records = [(one.context, reply) for one in clean for reply in one.positives]
        pairs.append((numbered_replies(texts, of_records), _RECORDS))
        judgements = numbered_judgements(data, ground.held_out, texts)
    assert_disjoint(texts.rows, ground.held_out, common_words=COMMON_WORDS)
    vectors = encoder.embed(list(texts.rows), lambda done, total: show("embed", done, total)).astype(np.float16)
    return HeadMaterial(vectors, [(replies, weight) for replies, weight in pairs if len(replies)], judgements)


def of_trained(material: Material, vectors: Halves) -> HeadMaterial:
    """What a model was trained on, for the head that it gets, under the vectors that it gives now."""
    pairs = [(Replies(_turns(one.triggers, one.contexts), one.responses), one.weight) for one in material.pairs]
    if (known := material.judgements.contrasted) is not None:
        pairs.append((Replies(known.turns, known.good), _RECORDS * sum(weight for _, weight in pairs)))
    return HeadMaterial(vectors, pairs, material.judgements)


def _turns(triggers: Rows, contexts: Rows) -> Rows:
    found = np.full((len(triggers), TURNS), -1, np.int64)
    said = np.column_stack([triggers, contexts])[:, :TURNS]
    found[:, : said.shape[1]] = said
    return found


def _recipe(data: Path | None) -> Recipe:
    return Recipe(sources=dict(SOURCES) if data is not None else {"chitchat": 1.0}, pairs=120_000)


def _exchange(pair: Pair) -> tuple[Sequence[str], str]:
    return (*pair.context, pair.trigger), pair.response
