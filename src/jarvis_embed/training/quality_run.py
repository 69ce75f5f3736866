"""``train quality`` from start to end: the head of a model, and the weights of signals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..conversations.quality import Exchange
from ..conversations.quality_score import shipped_weights, store_weights
from ..errors import SpaceMissing
from ..evaluation.data import RatedReply
from ..library import Library
from ..models.compiled import fingerprints
from ..models.encoder import Encoder
from ..models.quality_head import QualityHead
from ..models.quality_store import store_head
from ..models.store import find_model
from ..spaces.quality import NO_RELATION, exchanges_with
from ..spaces.space import Space
from .ground import Ground, require_torch
from .judgements import rated_for_training
from .quality import FEWEST, Rated, fit_weights, rated_conversations, rated_replies, update_weights

Progress = Callable[[str, int, int], None]
_RANDOM_PAIRS = 5000


@dataclass(frozen=True, slots=True)
class QualityTrained:
    """What a run learned.

    Attributes:
        head: where the head lies; None where none was trained. pairs: how many it learned from.
        rated: replies that the weights were fitted to. feedback: of these, the owner's own.
        left_out: source → rank correlation of the weights with its ratings when it was left out.
    """

    head: str | None
    pairs: int
    rated: int
    feedback: int
    left_out: dict[str, float] = field(default_factory=dict)


def train_quality(
    encoder: Encoder, home: Path, *, data: Path | None = None, steps: int = 1500, progress: Progress | None = None
) -> QualityTrained:
    """Learn what a good reply is.

    Args:
        data: folder of the public files (docs/exam.md); None to add the owner's feedback to the weights alone.
        steps: of the head.

    Raises:
        TrainingError: there is neither data nor feedback on enough replies, or torch is missing for a head.
        SourceError: a file is missing or broken. TextLeak: an examined text is in the training data.
    """
    given = owner_feedback(encoder, home)
    if data is None:
        weights = update_weights(shipped_weights(), given)
        store_weights(weights, home)
        return QualityTrained(None, 0, sum(weights.facts["replies"].values()) + len(given), len(given))
    require_torch()
    from .quality_head import HeadRecipe, fit_head, head_over
    from .quality_material import head_material, quality_ground

    ground = quality_ground(data, home)
    material = head_material(ground, encoder, data, progress)
    model = find_model(encoder.name, home)
    recipe = HeadRecipe(steps=steps)
    pairs = sum(len(replies) for replies, _ in material.pairs)
    head = fit_head(
        material,
        fingerprints(model),
        recipe,
        facts={"steps": steps, "pairs": pairs},
        begin=head_over(encoder.projections, encoder.dim, recipe),
        progress=progress,
    )
    folder = store_head(head, encoder.name, home)
    rated = rated_material(rated_for_training(data, ground.held_out), ground, encoder, head)
    weights = fit_weights(rated)
    if len(given) >= FEWEST and len({good for _, good in given}) == 2:
        weights = update_weights(weights, given)
    store_weights(weights, home)
    left_out = dict(weights.facts["spearman_of_left_out_source"])
    return QualityTrained(str(folder), pairs, len(rated), int(weights.facts["own"]), left_out)


def rated_material(
    records: list[RatedReply], ground: Ground, encoder: Encoder, head: QualityHead | None
) -> list[Rated]:
    """Public ratings of replies with what vectors say of them, and the ratings of chitchat's training conversations."""
    triggers = encoder.embed([one.context[-1] for one in records])
    responses = encoder.embed([one.response for one in records])
    rng = np.random.default_rng(0)
    left, right = (rng.integers(len(records), size=_RANDOM_PAIRS) for _ in range(2))
    by_chance = np.einsum("nd,nd->n", triggers[left], responses[right])
    topics = (np.einsum("nd,nd->n", triggers, responses) - by_chance.mean()) / by_chance.std()
    fits = None if head is None else head.scores([triggers], responses, encoder.projections).tolist()
    found = rated_replies(records, topics.tolist(), fits)
    return [*found, *rated_conversations(ground.sides.train)]


def owner_feedback(encoder: Encoder, home: Path) -> list[tuple[Exchange, bool]]:
    """The replies that the owner said something of, with all their signals; those kept out of training are left out."""
    with Library.open(home) as library:
        given = library.feedback()
        held = {pair.id for pair in library.pairs(list(given)) if pair.holdout}
        try:
            with Space.open(home=home, encoder=encoder) as space:
                vectors = space.relation_of(list(given))
        except SpaceMissing:
            vectors = NO_RELATION
        found = exchanges_with(library, list(given), vectors)
    return [(exchange, given[identity]) for identity, exchange in found.items() if identity not in held]
