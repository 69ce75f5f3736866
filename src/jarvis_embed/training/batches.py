"""Batches: which pairs meet in a step. A function of the seed alone, so that a run can be gone on with anywhere."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from .judgements import Judgements, Replies
from .material import LabelSet, Material, PairSet, RecordSet, SentenceSet
from .recipe import Recipe
from .segments import NO_SEGMENTS, SegmentDraw, segment_draws
from .texts import Rows

RECORD_NEIGHBOURS = 3
SENTENCES = 24


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step sees.

    Attributes:
        rows: rows of the material's texts, each once: what is embedded.
        triggers, responses: (n,) places in ``rows``. contexts: (n, turns) places, the latest first; -1 for none.
        related: (k,) numbers of the pairs that ``relation`` reads.
        records: (r,) numbers of records. record_triggers: (r,) places.
        segments: places of the texts of segments, rows of their turns, and which may stand against which.
        judged: places of right replies, of wrong ones that reuse words of the context, and of ones by chance; or none.
        rated: places of rated replies; or none. ratings: their numbers.
        triplets: (t, 3) places: trigger, similar, dissimilar.
        left, right: (s,) places of sentences. scores: (s,).
        labelled: (l,) numbers of labelled pairs. labelled_triggers, labelled_responses: (l,) places.
    """

    rows: Rows
    triggers: Rows
    responses: Rows
    contexts: Rows
    related: Rows
    records: Rows
    record_triggers: Rows
    segments: SegmentDraw
    judged: tuple[Replies, ...]
    rated: tuple[Replies, ...]
    ratings: Rows
    triplets: Rows
    left: Rows
    right: Rows
    scores: npt.NDArray[np.float32]
    labelled: Rows
    labelled_triggers: Rows
    labelled_responses: Rows


def steps_of(material: Material, recipe: Recipe) -> int:
    """Steps in which a pair of the first source is seen ``recipe.passes`` times."""
    first = material.pairs[0]
    share = first.weight / sum(one.weight for one in material.pairs)
    return math.ceil(recipe.passes * len(first.triggers) / (recipe.batch_pairs * share))


def batches(material: Material, recipe: Recipe) -> Iterator[Batch]:
    """Yield batches without end, always the same ones for one recipe and material.

    A batch holds runs of consecutive pairs from many conversations: the turns of a run are embedded once and serve as
    trigger, response and context, which is a third of the work of drawing pair by pair.
    """
    rng = np.random.default_rng(recipe.seed)
    runs = [
        _runs(one, recipe.run_pairs, np.random.default_rng([recipe.seed, n])) for n, one in enumerate(material.pairs)
    ]
    weights = np.array([one.weight for one in material.pairs])
    weights = weights / weights.sum()
    wanted_pairs = min(recipe.batch_pairs, sum(len(one.triggers) for one in material.pairs))
    mined = np.concatenate([one.triplets for one in material.pairs])
    none = np.zeros(0, np.int64)
    segments = _segments(material, recipe)
    judgements = _judgements(material.judgements, recipe)
    labelling = np.random.default_rng([recipe.seed, 103])
    while True:
        parts: list[tuple[Rows, Rows, Rows]] = []
        related: list[Rows] = [none]
        size = 0
        while size < wanted_pairs:
            source = int(rng.choice(len(runs), p=weights))
            run, pairs = next(runs[source]), material.pairs[source]
            parts.append((pairs.triggers[run], pairs.responses[run], pairs.contexts[run]))
            if recipe.related(pairs.name):
                related.append(np.arange(size, size + len(run)))
            size += len(run)
        triggers, responses, contexts = (np.concatenate(part) for part in zip(*parts, strict=True))
        records = _some_records(material.records, recipe.seeds, rng) if recipe.objectives.records else none
        asked = none if material.records is None else material.records.triggers[records]
        drawn, (judged, rated, ratings) = next(segments), next(judgements)
        sentences = _some_sentences(material.sentences, rng) if recipe.objectives.sentences else none
        left, right, scores = none, none, np.zeros(0, np.float32)
        if material.sentences is not None and len(sentences):
            left, right = material.sentences.left[sentences], material.sentences.right[sentences]
            scores = material.sentences.scores[sentences]
        triplets = _some_triplets(mined, recipe.batch_triplets, rng) if recipe.objectives.triplets else none
        labelled = _some_labelled(material.labels, recipe, labelling)
        read, said = none, none
        if material.labels is not None:
            read, said = material.labels.triggers[labelled], material.labels.responses[labelled]
        replies = [rows for one in (*judged, *rated) for rows in (one.turns.ravel(), one.responses)]
        told = (triggers, responses, contexts.ravel(), asked, drawn.texts, triplets.ravel(), left, right)
        rows = np.unique(np.concatenate([*told, *replies, read, said]))
        rows = rows[rows >= 0]
        yield Batch(
            rows=rows,
            triggers=_places(rows, triggers),
            responses=_places(rows, responses),
            contexts=_places(rows, contexts),
            related=np.concatenate(related),
            records=records,
            record_triggers=_places(rows, asked),
            segments=replace(drawn, texts=_places(rows, drawn.texts)),
            judged=tuple(_placed(rows, one) for one in judged),
            rated=tuple(_placed(rows, one) for one in rated),
            ratings=ratings,
            triplets=_places(rows, triplets),
            left=_places(rows, left),
            right=_places(rows, right),
            scores=scores,
            labelled=labelled,
            labelled_triggers=_places(rows, read),
            labelled_responses=_places(rows, said),
        )


def _places(rows: Rows, wanted: Rows) -> Rows:
    """Where each of ``wanted`` stands in the sorted ``rows``; -1 for -1."""
    return np.where(wanted < 0, -1, np.searchsorted(rows, wanted))


def _placed(rows: Rows, replies: Replies) -> Replies:
    return Replies(_places(rows, replies.turns), _places(rows, replies.responses))


def _segments(material: Material, recipe: Recipe) -> Iterator[SegmentDraw]:
    """Yield segments without end; none where there are none, or none are wanted."""
    wanted = recipe.batch_segments if recipe.objectives.threads else 0
    if material.segments is None or not len(material.segments) or not wanted:
        while True:
            yield NO_SEGMENTS
    yield from segment_draws(material.segments, wanted, np.random.default_rng([recipe.seed, 101]))


def _judgements(known: Judgements, recipe: Recipe) -> Iterator[tuple[tuple[Replies, ...], tuple[Replies, ...], Rows]]:
    """Yield what was said of replies without end: in one step right and wrong ones, in the next one rated ones."""
    rng = np.random.default_rng([recipe.seed, 102])
    none = np.zeros(0, np.int64)
    wanted = bool(recipe.objectives.quality and recipe.objectives.judged)
    while True:
        judged: tuple[Replies, ...] = ()
        if wanted and known.contrasted is not None:
            judged = known.contrasted.at(rng.integers(known.contrasted.learned, size=recipe.batch_judged))
        yield judged, (), none
        if wanted and known.rated is not None:
            rows = rng.integers(len(known.rated), size=2 * recipe.batch_judged)
            yield (), (known.rated.replies.at(rows),), rows


def _runs(pairs: PairSet, length: int, rng: np.random.Generator) -> Iterator[Rows]:
    """Yield runs of up to ``length`` consecutive pairs of one conversation; all of them in each pass, newly cut."""
    edges = np.flatnonzero(np.diff(pairs.conversations)) + 1
    conversations = np.split(np.arange(len(pairs.triggers)), edges)
    while True:
        runs = [
            run
            for rows in conversations
            for run in np.split(rows, np.arange(int(rng.integers(1, length + 1)), len(rows), length))
        ]
        for place in rng.permutation(len(runs)):
            yield runs[place]


def _some_records(records: RecordSet | None, seeds: int, rng: np.random.Generator) -> Rows:
    """Random records, each with some of its nearest by response: else hardly two of a batch would be alike."""
    if records is None:
        return np.zeros(0, np.int64)
    chosen = rng.choice(len(records.triggers), min(seeds, len(records.triggers)), replace=False)
    near = [
        rng.choice(records.near[one], min(RECORD_NEIGHBOURS, records.near.shape[1]), replace=False) for one in chosen
    ]
    return np.unique(np.concatenate([chosen, *near]))


def _some_sentences(sentences: SentenceSet | None, rng: np.random.Generator) -> Rows:
    if sentences is None:
        return np.zeros(0, np.int64)
    return rng.choice(len(sentences.scores), min(SENTENCES, len(sentences.scores)), replace=False)


def _some_labelled(labels: LabelSet | None, recipe: Recipe, rng: np.random.Generator) -> Rows:
    if labels is None or not recipe.objectives.labels:
        return np.zeros(0, np.int64)
    return rng.choice(len(labels), min(recipe.batch_labelled, len(labels)), replace=False)


def _some_triplets(mined: Rows, number: int, rng: np.random.Generator) -> Rows:
    return mined[rng.choice(len(mined), min(number, len(mined)), replace=False)] if len(mined) else mined
