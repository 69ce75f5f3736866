"""What is learned from threads: pairs of segments as rows of texts, and which of a batch may stand against which."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from ..conversations.segments import (
    SAMPLE_TURNS,
    SegmentSamples,
    hard_negatives,
    segment_batches,
    segment_samples,
    text_of,
)
from ..conversations.selection import examined_keys
from ..conversations.threads import exchanges_in
from ..evaluation.splits import contact_of
from ..messages import Conversation
from ..text import folded, normalise
from .corpora import COMMON_WORDS
from .texts import Halves, Rows, Texts

CUTS: Final = 3
"""How often every thread is cut anew."""

LONGEST: Final = max(SAMPLE_TURNS)


@dataclass(frozen=True, slots=True)
class SegmentSet:
    """Pairs of segments of one thread.

    Attributes:
        samples: what they are, n of them.
        texts, turns: of the anchors, and of the positives after them; see ``numbered_segments``.
        hard: (n, kinds) samples that are hard to tell from each, -1 for none; see ``hard_negatives``.
        taught: (2n, any) of length 1, what teachers make of them; see ``teachers``. None where there is no teacher.
    """

    samples: SegmentSamples
    texts: Rows
    turns: Rows
    hard: Rows
    taught: Halves | None = None

    def __len__(self) -> int:
        return len(self.samples)


@dataclass(frozen=True, slots=True)
class SegmentDraw:
    """Segments of one step: row i and row n + i are of one thread.

    Attributes:
        texts: (2n,) rows of the joined texts. turns: (2n, LONGEST) rows of those of turns.
        negatives: (2n, 2n) whether one may be a negative of the other.
        taught: (2n, any) what teachers make of them, or None.
    """

    texts: Rows
    turns: Rows
    negatives: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
    taught: Halves | None = None


NO_SEGMENTS: Final = SegmentDraw(np.zeros(0, np.int64), np.zeros((0, LONGEST), np.int64), np.zeros((0, 0), np.bool_))


def drawn_samples(
    conversations: Iterable[Conversation], held_out: Iterable[str], seed: int, limit: int = 1_000_000, shortest: int = 1
) -> SegmentSamples:
    """Cut the threads of conversations into pairs of segments, ``CUTS`` times; those with an examined turn are out.

    Args:
        limit: samples at most, drawn at random. shortest: turns of a window, at least.
    """
    taken = examined_keys(held_out, COMMON_WORDS)
    threads = list(exchanges_in(conversations))
    rng = np.random.default_rng(seed)
    sizes = [size for size in SAMPLE_TURNS if size >= shortest]
    draws = [segment_samples(threads, rng, sizes=sizes) for _ in range(CUTS)]
    both = [
        (anchor, positive, number)
        for draw in draws
        for anchor, positive, number in zip(draw.anchors, draw.positives, draw.threads.tolist(), strict=True)
        if all(normalise(turn.text) and folded(turn.text) not in taken for turn in (*anchor.turns, *positive.turns))
        and not any(folded(text_of(one.texts)) in taken for one in (anchor, positive))
    ]
    kept = np.sort(rng.permutation(len(both))[:limit])
    both = [both[row] for row in kept.tolist()]
    return SegmentSamples(
        tuple(anchor for anchor, _, _ in both),
        tuple(positive for _, positive, _ in both),
        np.array([number for _, _, number in both], np.int64),
    )


def numbered_segments(samples: SegmentSamples, texts: Texts) -> tuple[Rows, Rows]:
    """The anchors, and after them the positives, as rows of texts: (2n,) of what their turns say together, and
    (2n, LONGEST) of each turn, -1 behind the last."""
    said = [one.texts for one in (*samples.anchors, *samples.positives)]
    turns = texts.padded(said, LONGEST)
    return texts.of(map(text_of, said)), turns


def segment_set(
    samples: SegmentSamples, texts: Rows, turns: Rows, vectors: Halves, taught: Halves | None = None
) -> SegmentSet:
    """The samples with what is hard to tell from each, by the vector of its text.

    Args:
        texts, turns: from ``numbered_segments``. vectors: (texts, dim) under the parent. taught: from ``teachers``.
    """
    anchors = vectors[texts[: len(samples)]].astype(np.float32)
    contacts = {one.conversation: contact_of(one.conversation) for one in samples.anchors}
    rng = np.random.default_rng(0)
    return SegmentSet(samples, texts, turns, hard_negatives(samples, rng, vectors=anchors, contacts=contacts), taught)


def segment_draws(
    segments: SegmentSet, size: int, rng: np.random.Generator, *, hard: bool = True
) -> Iterator[SegmentDraw]:
    """Yield draws of ``size`` pairs without end, each sample once in a pass, beside those that are hard for it, where
    ``hard``."""
    company = segments.hard if hard else None
    while True:
        for batch in segment_batches(segments.samples, min(size, len(segments)), rng, company):
            both = np.concatenate([batch.rows, len(segments) + batch.rows])
            taught = None if segments.taught is None else segments.taught[both]
            yield SegmentDraw(segments.texts[both], segments.turns[both], batch.negatives, taught)
