"""Threads → segments, and pairs of segments to learn from.

What a segment is, and what its text is, is defined here once: the exam, the space and training ask these functions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ..messages import Segment, Thread, Turn
from .selection import near_key

Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

SEGMENT_TURNS: Final = 5
"""Turns of a segment where nothing else is said."""

SAMPLE_TURNS: Final = tuple(range(1, 9))
"""Sizes that segments to learn from may have."""

HARD_KINDS: Final = ("contact", "opening", "topic")
"""The columns of ``hard_negatives``."""

APART_MS: Final = 8 * 60 * 60 * 1000
"""Threads of one conversation that are nearer in time than a night may be one exchange that was cut in two."""

_FORMULA_WORDS: Final = 6
_LONGEST_SHARE: Final = 0.5
_SHARED: Final = 0.5
_POOL: Final = 8192
_BLOCK: Final = 1024


def windows(length: int, size: int = SEGMENT_TURNS, *, rest: bool = False) -> Iterator[range]:
    """Cut positions 0 to ``length`` into windows of ``size`` that do not overlap.

    Args:
        rest: what is left at the end is kept too, so that every position is in one window: as a window of its own, or,
            where it is shorter than half of ``size``, joined to the one before.
    """
    starts = list(range(0, length - size + 1, size))
    left = length - len(starts) * size
    if rest and left and (not starts or 2 * left >= size):
        starts.append(length - left)
    ends = [*starts[1:], length if rest else len(starts) * size]
    yield from (range(start, stop) for start, stop in zip(starts, ends, strict=False))


def text_of(turns: Iterable[str]) -> str:
    """The text of a segment: its turn texts, each on a line of its own."""
    return "\n".join(turns)


def segments_of(
    thread: Thread, size: int = SEGMENT_TURNS, *, sender: str | None = None, rest: bool = False
) -> tuple[Segment, ...]:
    """Cut a thread into segments that do not overlap.

    Args:
        size: turns of a segment.
        sender: cut only what this one wrote: the segments are windows over their turns.
        rest: also keep what is left at the end (see ``windows``): each turn that is cut is in one segment then.
    """
    kept = [place for place, turn in enumerate(thread.turns) if sender in (None, turn.sender)]
    cuts = (kept[window.start : window.stop] for window in windows(len(kept), size, rest=rest))
    return tuple(_segment(thread, cut) for cut in cuts)


@dataclass(frozen=True, slots=True)
class SegmentSamples:
    """Pairs of segments to learn from: an anchor and another segment of its thread, which share no turn.

    Attributes:
        anchors, positives: (n,) each. threads: (n,) position of each pair's thread among those given.
        sources: (n,) number of where each comes from, where a batch shall be of one source; None where they may mix.
    """

    anchors: tuple[Segment, ...]
    positives: tuple[Segment, ...]
    threads: Rows
    sources: Rows | None = None

    def __len__(self) -> int:
        return len(self.anchors)


def samples_apart(sources: Sequence[SegmentSamples]) -> SegmentSamples:
    """The samples of several sources as one, of which a batch is of one source: to tell people who write alike apart is
    harder than to tell two ways to write."""
    starts = np.cumsum([0, *(int(one.threads.max(initial=-1)) + 1 for one in sources)])
    return SegmentSamples(
        tuple(anchor for one in sources for anchor in one.anchors),
        tuple(positive for one in sources for positive in one.positives),
        np.concatenate([start + one.threads for start, one in zip(starts, sources, strict=False)]),
        np.repeat(np.arange(len(sources)), list(map(len, sources))),
    )


def segment_samples(
    threads: Sequence[Thread],
    rng: np.random.Generator,
    *,
    sizes: Sequence[int] = SAMPLE_TURNS,
    one_side: float = 0.25,
) -> SegmentSamples:
    """Draw pairs of segments; another draw cuts the threads otherwise.

    A thread is cut into windows from its first turn or a later one, and these are paired at random: no turn is in two
    segments of one draw. Every other thread is cut into the longest windows, others into windows of a drawn size.
    What a source holds out of training is in none; a thread of one turn gives no pair.

    Args:
        sizes: turns of a segment. At most half of the thread is taken for one.
        one_side: how often one of the two segments keeps only what one person wrote in it.
    """
    anchors: list[Segment] = []
    positives: list[Segment] = []
    numbers: list[int] = []
    for number, thread in enumerate(threads):
        cuts = _random_cuts(thread, sizes, rng)
        order = rng.permutation(len(cuts)).tolist()
        for one, two in zip(order[::2], order[1::2], strict=False):
            anchor, positive = cuts[one], cuts[two]
            if rng.random() < one_side:
                anchor = _one_side(thread, anchor, rng)
            anchors.append(_segment(thread, anchor))
            positives.append(_segment(thread, positive))
            numbers.append(number)
    return SegmentSamples(tuple(anchors), tuple(positives), np.array(numbers, np.int64))


def hard_negatives(
    samples: SegmentSamples,
    rng: np.random.Generator,
    *,
    vectors: npt.NDArray[np.float32] | None = None,
    contacts: Mapping[str, str] | None = None,
) -> Rows:
    """Find for each sample others that are hard to tell from it: (n, 3) rows of samples, -1 where there is none.

    The columns are ``HARD_KINDS``: one with the same contact, a night or more away; one whose anchor opens with the
    same formula ("hi how are you"); and the one about the nearest topic.

    Args:
        vectors: (n, dim) of length 1, of the anchors, for the topic; the nearest of 8,192 drawn ones is taken. None
            leaves that column empty.
        contacts: conversation → contact; each conversation is a contact of its own where it is None.
    """
    of = contacts or {}
    who = [of.get(anchor.conversation, anchor.conversation) for anchor in samples.anchors]
    apart = _Apart.of(samples)
    found = np.full((len(samples), len(HARD_KINDS)), -1, np.int64)
    found[:, 0] = _drawn_alike(who, apart, rng)
    found[:, 1] = _drawn_alike([_opening(anchor) for anchor in samples.anchors], apart, rng)
    if vectors is not None and len(samples):
        found[:, 2] = _nearest_apart(vectors, apart, rng)
    return found


@dataclass(frozen=True, slots=True)
class SegmentBatch:
    """Samples to learn from at once.

    Attributes:
        rows: (b,) of the samples.
        negatives: (2b, 2b), over the anchors and after them the positives: whether one may be a negative of the
            other. Never of the same thread, nor near it in time in the same conversation, nor with so much text in
            common that half of the shorter one is in the other too.
    """

    rows: Rows
    negatives: Mask


def segment_batches(
    samples: SegmentSamples, size: int, rng: np.random.Generator, hard: Rows | None = None
) -> Iterator[SegmentBatch]:
    """Yield all samples once, in batches of ``size`` (the last of a source may be smaller), in an order drawn anew.

    Args:
        hard: from ``hard_negatives``: a sample brings those with it that have not come yet.
    """
    apart, keys = _Apart.of(samples), _turn_keys(samples)
    for rows in _cut(samples, size, rng, hard):
        allowed = np.tile(apart.between(rows, rows), (2, 2))
        texts = [keys[row] for row in rows] + [keys[len(samples) + row] for row in rows]
        yield SegmentBatch(rows, allowed & ~_share_text(texts))


@dataclass(frozen=True, slots=True)
class _Apart:
    """Which samples are of different exchanges: (n,) of the thread, the conversation, and when the thread's part was.

    The times are those of the two segments together, in ms.
    """

    threads: Rows
    conversations: Rows
    first_ms: Rows
    last_ms: Rows

    @classmethod
    def of(cls, samples: SegmentSamples) -> _Apart:
        numbers: dict[str, int] = {}
        conversations = [numbers.setdefault(anchor.conversation, len(numbers)) for anchor in samples.anchors]
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        threads = samples.threads.tolist()
        for side in (samples.anchors, samples.positives):
            for thread, segment in zip(threads, side, strict=True):
                begin = min(turn.start_ms for turn in segment.turns)
                end = max(turn.end_ms for turn in segment.turns)
                first[thread], last[thread] = min(first.get(thread, begin), begin), max(last.get(thread, end), end)
        return cls(
            samples.threads,
            np.array(conversations, np.int64),
            np.array([first[thread] for thread in threads], np.int64),
            np.array([last[thread] for thread in threads], np.int64),
        )

    def between(self, left: Rows, right: Rows) -> Mask:
        """(len(left), len(right)): whether the one is surely another exchange than the other."""
        one, two = left[:, None], right[None, :]
        gap = np.maximum(self.first_ms[one] - self.last_ms[two], self.first_ms[two] - self.last_ms[one])
        elsewhere = (self.conversations[one] != self.conversations[two]) | (gap >= APART_MS)
        return np.asarray((self.threads[one] != self.threads[two]) & elsewhere)


def _segment(thread: Thread, places: Sequence[int]) -> Segment:
    return Segment(thread.conversation, places[0], tuple(thread.turns[place] for place in places))


def _random_cuts(thread: Thread, sizes: Sequence[int], rng: np.random.Generator) -> list[list[int]]:
    """Windows one after the other, the last of at least half the size; one with a turn that is held out is left out.

    Small windows alone would teach little of what the long ones are like that are searched and compared.
    """
    length = len(thread.turns)
    fitting = [size for size in sizes if size <= length // 2]
    if not fitting:
        return []
    size = max(fitting) if rng.random() < _LONGEST_SHARE else int(rng.choice(fitting))
    begin = int(rng.integers(length % size + 1))
    cuts = [range(start, min(start + size, length)) for start in range(begin, length - size // 2, size)]
    return [list(cut) for cut in cuts if not any(turn.holdout for turn in thread.turns[cut.start : cut.stop])]


def _one_side(thread: Thread, places: list[int], rng: np.random.Generator) -> list[int]:
    """What one of those wrote who wrote there."""
    senders = sorted({thread.turns[place].sender for place in places})
    chosen = senders[int(rng.integers(len(senders)))]
    return [place for place in places if thread.turns[place].sender == chosen]


def _opening(segment: Segment) -> str | None:
    """How it begins, where that is short enough to be a formula."""
    first = near_key(segment.turns[0].text.partition("\n")[0])
    return first if len(first.split()) <= _FORMULA_WORDS else None


def _drawn_alike(groups: Sequence[Hashable], apart: _Apart, rng: np.random.Generator, tries: int = 8) -> Rows:
    """For each row, a random one of its group that is another exchange; -1 where none was found in some tries."""
    members: defaultdict[Hashable, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        members[group].append(row)
    found = np.full(len(groups), -1, np.int64)
    for row, group in enumerate(groups):
        alike = members[group]
        if group is None or len(alike) < 2:
            continue
        drawn = np.array(alike, np.int64)[rng.integers(len(alike), size=tries)]
        allowed = drawn[apart.between(np.array([row]), drawn)[0]]
        if len(allowed):
            found[row] = allowed[0]
    return found


def _nearest_apart(vectors: npt.NDArray[np.float32], apart: _Apart, rng: np.random.Generator) -> Rows:
    """For each row, the nearest of the drawn rows that are another exchange; -1 where there is none."""
    rows = np.arange(len(vectors))
    pool = np.sort(rng.choice(rows, min(_POOL, len(rows)), replace=False))
    found = np.full(len(rows), -1, np.int64)
    for start in range(0, len(rows), _BLOCK):
        here = rows[start : start + _BLOCK]
        scores = np.where(apart.between(here, pool), vectors[here] @ vectors[pool].T, -np.inf)
        best = scores.argmax(1)
        found[here] = np.where(np.isfinite(scores.max(1)), pool[best], -1)
    return found


def _cut(samples: SegmentSamples, size: int, rng: np.random.Generator, hard: Rows | None) -> list[Rows]:
    """All rows, in batches of one source each where samples say from where they are."""
    order = _with_company(rng.permutation(len(samples)), hard)
    if samples.sources is None:
        return [order[start : start + size] for start in range(0, len(order), size)]
    parts = [order[samples.sources[order] == source] for source in np.unique(samples.sources)]
    every = [part[start : start + size] for part in parts for start in range(0, len(part), size)]
    return [every[place] for place in rng.permutation(len(every))]


def _with_company(order: Rows, hard: Rows | None) -> Rows:
    """Rows in their order, each followed by its hard ones that have not come yet."""
    if hard is None:
        return order
    come: dict[int, None] = {}
    for row in order.tolist():
        if row not in come:
            come[row] = None
            come |= dict.fromkeys(other for other in hard[row].tolist() if other >= 0 and other not in come)
    return np.array(list(come), np.int64)


def _turn_keys(samples: SegmentSamples) -> list[frozenset[str]]:
    """The different texts of every anchor's turns, and after them of every positive's; near-duplicates are one."""
    known: dict[str, str] = {}

    def key(turn: Turn) -> str:
        return known.setdefault(turn.text, near_key(turn.text))

    return [frozenset(map(key, segment.turns)) for segment in (*samples.anchors, *samples.positives)]


def _share_text(segments: Sequence[frozenset[str]]) -> Mask:
    """(n, n): whether turns that both have make up half of the words of the shorter one."""
    column: dict[str, int] = {}
    for texts in segments:
        for text in texts:
            column.setdefault(text, len(column))
    weight = np.array([max(len(text.split()), 1) for text in column], np.float32)
    holds = np.zeros((len(segments), len(column)), bool)
    for row, texts in enumerate(segments):
        holds[row, [column[text] for text in texts]] = True
    length = holds @ weight
    common = holds.sum(0) > 1  # a text that one segment has cannot be shared
    several = holds[:, common].astype(np.float32)
    shared = (several * weight[common]) @ several.T
    return np.asarray(shared >= _SHARED * np.minimum(length[:, None], length[None, :]))
