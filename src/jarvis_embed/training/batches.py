"""Batches: which pairs meet in a step. A function of the seed alone, so that a run can be gone on with anywhere."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .material import Material, PairSet, RecordSet, Rows, SentenceSet
from .recipe import Recipe
from .segments import drawn_segments, turns_of_run

RECORD_NEIGHBOURS = 3
SENTENCES = 24


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step sees.

    Attributes:
        rows: rows of the material's texts, each once: what is embedded.
        triggers, responses: (n,) places in ``rows``. contexts: (n, turns) places, the latest first; -1 for none.
        records: (r,) numbers of records. record_triggers: (r,) places.
        segments: (g, 2, turns) places of the turns of two segments of one thread; -1 behind the last.
        triplets: (t, 3) places: trigger, similar, dissimilar.
        left, right: (s,) places of sentences. scores: (s,).
    """

    rows: Rows
    triggers: Rows
    responses: Rows
    contexts: Rows
    records: Rows
    record_triggers: Rows
    segments: Rows
    triplets: Rows
    left: Rows
    right: Rows
    scores: npt.NDArray[np.float32]


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
    while True:
        parts: list[tuple[Rows, Rows, Rows]] = []
        threads: list[Rows] = []
        size = 0
        while size < wanted_pairs:
            source = int(rng.choice(len(runs), p=weights))
            run, pairs = next(runs[source]), material.pairs[source]
            parts.append((pairs.triggers[run], pairs.responses[run], pairs.contexts[run]))
            if recipe.objectives.threads:
                threads.append(turns_of_run(pairs, run))
            size += len(run)
        triggers, responses, contexts = (np.concatenate(part) for part in zip(*parts, strict=True))
        records = _some_records(material.records, recipe.seeds, rng) if recipe.objectives.records else none
        asked = none if material.records is None else material.records.triggers[records]
        segments = drawn_segments(threads, rng)
        sentences = _some_sentences(material.sentences, rng) if recipe.objectives.sentences else none
        left, right, scores = none, none, np.zeros(0, np.float32)
        if material.sentences is not None and len(sentences):
            left, right = material.sentences.left[sentences], material.sentences.right[sentences]
            scores = material.sentences.scores[sentences]
        triplets = _some_triplets(mined, recipe.batch_triplets, rng) if recipe.objectives.triplets else none
        wanted = (triggers, responses, contexts.ravel(), asked, segments.ravel(), triplets.ravel(), left, right)
        rows, places = np.unique(np.concatenate(wanted), return_inverse=True)
        if rows[0] == -1:
            rows, places = rows[1:], places - 1
        cut = np.split(places, np.cumsum([len(part) for part in wanted])[:-1])
        yield Batch(
            rows=rows,
            triggers=cut[0],
            responses=cut[1],
            contexts=cut[2].reshape(contexts.shape),
            records=records,
            record_triggers=cut[3],
            segments=cut[4].reshape(segments.shape),
            triplets=cut[5].reshape(-1, 3),
            left=cut[6],
            right=cut[7],
            scores=scores,
        )


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


def _some_triplets(mined: Rows, number: int, rng: np.random.Generator) -> Rows:
    return mined[rng.choice(len(mined), min(number, len(mined)), replace=False)] if len(mined) else mined
