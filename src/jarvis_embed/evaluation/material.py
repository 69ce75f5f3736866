"""What is put before every competitor: held-out pairs and threads, training pairs to look them up in, public data."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from ..conversations.pairs import pairs_in
from ..conversations.turns import turns_of
from ..messages import Conversation, Pair
from ..text import folded, normalise
from .data import PublicData, Replies
from .splits import Overlap, Sides, assert_conversations_disjoint, held_out_once, in_evaluation

HELD_OUT_PAIRS: Final = 10_000
TRAINING_PAIRS: Final = 10_000
SEGMENT_TURNS: Final = 5


@dataclass(frozen=True, slots=True)
class Threads:
    """Segments of threads; ``names`` gives the thread of each, equal ones side by side."""

    segments: tuple[str, ...]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Material:
    """Everything that is measured on. Empty or None is what there is not.

    Attributes:
        source: ``chitchat`` or ``own``. part: ``validation`` or ``sealed test``.
        pairs: held-out ones, context with them.
        training: pairs of the training part, to look triggers up in and to learn the linear map on.
        threads: segments of the held-out conversations. daily: those of ``dailydialog``'s validation part.
        replies: evaluation records of ``dailydialog_pp``.
    """

    source: str
    part: str
    conversations: int
    pairs: tuple[Pair, ...]
    training: tuple[Pair, ...]
    overlap: Overlap
    threads: Threads
    public: PublicData = field(default_factory=PublicData)
    daily: Threads | None = None
    replies: tuple[Replies, ...] | None = None

    @property
    def on(self) -> str:
        return f"{self.source}, {self.part}"


def prepare(sides: Sides | None, source: str, public: PublicData, *, sealed: bool, seed: int) -> Material:
    """Cut, split and draw.

    Args:
        sides: the history; None to measure on public data alone.

    Raises:
        TextLeak: a conversation is on two sides.
    """
    sides = sides or Sides((), (), ())
    held_out = sides.test if sealed else sides.validation
    assert_conversations_disjoint(
        (conversation.key for conversation in sides.train), (conversation.key for conversation in held_out)
    )
    every = _pairs(sides.train)
    pairs, overlap = held_out_once(_pairs(held_out), every)
    training = random.Random(seed).sample(every, min(TRAINING_PAIRS, len(every)))  # noqa: S311
    return Material(
        source=source,
        part="sealed test" if sealed else "validation",
        conversations=len(held_out),
        pairs=_some_conversations(pairs, HELD_OUT_PAIRS, seed),
        training=tuple(training),
        overlap=overlap,
        threads=cut_threads((c.key, [turn.text for turn in turns_of(c.messages)]) for c in held_out),
        public=public,
        daily=None
        if public.dailydialog is None
        else cut_threads((one.id, one.turns) for one in public.dailydialog if one.split == "validation"),
        replies=None
        if public.dailydialog_pp is None
        else tuple(record for record in public.dailydialog_pp if in_evaluation(record.id)),
    )


def cut_threads(threads: Iterable[tuple[str, Sequence[str]]], size: int = SEGMENT_TURNS) -> Threads:
    """Cut the turns of each thread into segments of ``size`` that do not overlap; a rest that is shorter is left out.

    A thread with fewer than two segments says nothing about sameness and is left out.
    """
    segments: list[str] = []
    names: list[str] = []
    for name, turns in threads:
        cuts = ["\n".join(turns[start : start + size]) for start in range(0, len(turns) - size + 1, size)]
        if len(cuts) > 1:
            segments += cuts
            names += [name] * len(cuts)
    return Threads(tuple(segments), tuple(names))


def known_responses(pairs: Sequence[Pair]) -> dict[str, list[int]]:
    """Each different trigger → the rows of the pairs that answer it: all its known responses."""
    rows: dict[str, list[int]] = {}
    for row, pair in enumerate(pairs):
        rows.setdefault(folded(pair.trigger), []).append(row)
    return rows


def _pairs(conversations: Iterable[Conversation]) -> list[Pair]:
    """Every pair with text on both sides."""
    return [pair for pair in pairs_in(conversations) if normalise(pair.trigger) and normalise(pair.response)]


def _some_conversations(pairs: Sequence[Pair], limit: int, seed: int) -> tuple[Pair, ...]:
    """Whole conversations, drawn until there would be more than ``limit`` pairs; in the order given."""
    if len(pairs) <= limit:
        return tuple(pairs)
    names = list(dict.fromkeys(pair.conversation for pair in pairs))
    random.Random(seed).shuffle(names)  # noqa: S311
    sizes: dict[str, int] = {}
    for pair in pairs:
        sizes[pair.conversation] = sizes.get(pair.conversation, 0) + 1
    chosen: set[str] = set()
    total = 0
    for name in names:
        if total + sizes[name] <= limit:
            chosen.add(name)
            total += sizes[name]
    return tuple(pair for pair in pairs if pair.conversation in chosen)
