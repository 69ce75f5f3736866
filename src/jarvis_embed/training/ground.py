"""Where a run stands: what is examined, what may be learned from, and that in numbers."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from ..conversations.pairs import pairs_in
from ..conversations.segments import SegmentSamples, samples_apart
from ..conversations.selection import Selection, SelectionReport
from ..errors import SourceError, TrainingError
from ..evaluation.data import read_folder
from ..evaluation.exam import REFERENCE
from ..evaluation.histories import chitchat_history, own_history
from ..evaluation.material import Material as Examined
from ..evaluation.material import prepare
from ..evaluation.splits import Sides, pair_texts
from ..messages import Conversation
from ..models.encoder import load_encoder
from .corpora import (
    chosen_pairs,
    dailydialog_conversations,
    samsum_conversations,
    training_records,
    training_sentences,
)
from .judgements import NO_JUDGEMENTS, in_clean_context, numbered_judgements
from .material import Material, PairSet, assembled, numbered_labels, numbered_pairs
from .mining import mine_triplets
from .recipe import Recipe, Source
from .segments import drawn_samples
from .silver import read_by_hand
from .texts import Texts

LEAST_PAIRS: Final = 200

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Ground:
    """Where a run stands: what may be learned from, and what is examined."""

    sides: Sides
    source: str
    examined: Examined
    held_out: tuple[str, ...]


def stand(recipe: Recipe, data: Path | None, home: Path) -> Ground:
    """Read the history of the recipe's first source, and all that will be examined.

    Raises:
        InputError, SourceError: the history, or the folder that the recipe's other sources need, is not there.
    """
    source = "own" if "own" in recipe.sources else "chitchat"
    sides = own_history(home) if source == "own" else chitchat_history()
    public = read_folder(data)
    examined = prepare(sides, source, public, sealed=False, seed=recipe.seed)
    held_out = list(pair_texts(examined.pairs))
    held_out += pair_texts(pairs_in(sides.test))
    held_out += [text for record in examined.replies or () for text in (*record.context, *record.positives)]
    held_out += [text for record in examined.replies or () for text in (*record.adversarial, *record.random)]
    held_out += [text for one in public.dailydialog or () if one.split == "validation" for text in one.turns]
    held_out += [text for one in public.stsb_dev or () for text in (one.a, one.b)]
    held_out += [text for one in public.quality_dev or () for text in (*one.context, one.response)]
    return Ground(sides, source, examined, tuple(dict.fromkeys(held_out)))


def gather_reports(recipe: Recipe, data: Path | None, home: Path) -> dict[str, SelectionReport]:
    """What would be learned from, and what would be left out and why; nothing is embedded or trained."""
    ground = stand(recipe, data, home)
    return {name: chosen_of(name, ground, recipe, data).report for name in recipe.sources}


def gather(
    ground: Ground, recipe: Recipe, parent: str, data: Path | None, home: Path, progress: Progress | None = None
) -> tuple[Material, dict[str, SelectionReport]]:
    """Everything that the recipe learns from, in numbers; and what was left out of each source.

    Raises:
        TrainingError: too few pairs are left.
        TextLeak: an examined text is among what would be learned from; nothing is trained then.
    """
    show = progress or (lambda _stage, _done, _total: None)
    teachers = [load_encoder(name, home=home, precision="int8", cache=0) for name in recipe.teachers]
    texts, sets, reports = Texts(), list[PairSet](), dict[str, SelectionReport]()
    talks = {name: list(_conversations(name, ground, data)) for name in {**recipe.sources, **recipe.cut}}
    for name, weight in recipe.sources.items():
        chosen = _chosen(talks[name], ground, recipe)
        reports[name] = chosen.report
        if weight and chosen.pairs:
            sets.append(numbered_pairs(name, chosen.pairs, texts, recipe.context_turns, weight))
    found = len(sets[0].triggers) if sets else 0
    if found < LEAST_PAIRS:
        raise TrainingError(
            f"{found} pairs are left to learn from, and {LEAST_PAIRS} are needed", "Ingest a longer history"
        )
    wanted = recipe.objectives
    judged = wanted.quality and wanted.judged and data is not None
    records = training_records(_folder(data), ground.held_out) if wanted.records or judged else []
    sentences = training_sentences(_folder(data), ground.held_out) if wanted.sentences else []
    labels = None
    if wanted.labels:
        by_hand = read_by_hand()
        if by_hand is None:
            raise SourceError("labels are learned from chitchat-dataset", "pip install chitchat-dataset")
        labels = numbered_labels(by_hand, ground.held_out, texts)
    weighted = [(weight, talks[name]) for name, weight in recipe.cut.items()]
    samples = _samples(weighted, ground, recipe) if wanted.threads else None
    judgements = NO_JUDGEMENTS
    if judged and data is not None:
        judgements = numbered_judgements(in_clean_context(records, ground.held_out), data, ground.held_out, texts)
    material = assembled(
        texts,
        sets,
        records if wanted.records else [],
        sentences,
        samples,
        judgements,
        labels,
        parent=load_encoder(parent, home=home, precision="int8", cache=0),
        reference=load_encoder(REFERENCE, home=home, precision="int8", cache=0),
        teachers=teachers,
        max_tokens=recipe.max_tokens,
        max_segment_tokens=recipe.max_segment_tokens,
        held_out=ground.held_out,
        progress=show,
    )
    if wanted.triplets:
        material = replace(material, pairs=tuple(_with_triplets(one, material) for one in material.pairs))
    return material, reports


def chosen_of(source: Source, ground: Ground, recipe: Recipe, data: Path | None) -> Selection:
    """The pairs of a source that a run learns from, and the report of what was left out."""
    return _chosen(_conversations(source, ground, data), ground, recipe)


def require_torch() -> None:
    """Raise the error that says what to install.

    Raises:
        TrainingError: torch or transformers is missing.
    """
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        raise TrainingError(f"training needs {' and '.join(missing)}", "Install it: pip install 'jarvis-embed[train]'")


def _chosen(conversations: Iterable[Conversation], ground: Ground, recipe: Recipe) -> Selection:
    return chosen_pairs(conversations, ground.held_out, recipe.pairs, recipe.seed, recipe.min_quality)


def _samples(talks: Sequence[tuple[float, list[Conversation]]], ground: Ground, recipe: Recipe) -> SegmentSamples:
    """Pairs of segments of weighted sources: of all together, or of each as many as it weighs."""

    def drawn(conversations: list[Conversation], limit: int) -> SegmentSamples:
        return drawn_samples(conversations, ground.held_out, recipe.seed, limit, recipe.segment_turns)

    if not recipe.segments_apart:
        return drawn([one for _, conversations in talks for one in conversations], recipe.segments)
    total = sum(weight for weight, _ in talks)
    return samples_apart([drawn(said, round(recipe.segments * weight / total)) for weight, said in talks])


def _with_triplets(pairs: PairSet, material: Material) -> PairSet:
    triggers, responses = material.parent[pairs.triggers], material.reference[pairs.responses]
    mined = mine_triplets(triggers.astype(np.float32), responses.astype(np.float32), material.near[pairs.triggers])
    return replace(pairs, triplets=pairs.triggers[mined])


def _conversations(source: Source, ground: Ground, data: Path | None) -> Iterable[Conversation]:
    if source in ("own", "chitchat"):
        return ground.sides.train
    if source == "dailydialog":
        return dailydialog_conversations(_folder(data), ground.examined.replies or ())
    return samsum_conversations(_folder(data))


def _folder(data: Path | None) -> Path:
    if data is None:
        raise SourceError("the recipe needs public data files", "Give their folder: --data DIR")
    return data
