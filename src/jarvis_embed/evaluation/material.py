"""What is put before every competitor: held-out pairs and threads, training pairs to look them up in, public data."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from ..conversations.pairs import pairs_in
from ..conversations.segments import SEGMENT_TURNS, windows
from ..conversations.turns import turns_of
from ..messages import Conversation, Pair
from ..text import folded, normalise
from .data import PublicData, Replies
from .splits import Overlap, Sides, assert_conversations_disjoint, held_out_once, in_evaluation

HELD_OUT_PAIRS: Final = 10_000
TRAINING_PAIRS: Final = 10_000
RETRIEVED: Final = 1000
"""Threads whose halves are looked up among each other."""

_HALF_TURNS: Final = 2

NamedTurns = tuple[str, Sequence[str]]
"""A thread by its name, and its turn texts."""

Turns = tuple[str, ...]
"""The turn texts of a segment."""


@dataclass(frozen=True, slots=True)
class Threads:
    """Segments of threads; ``names`` gives the thread of each, equal ones side by side."""

    segments: tuple[Turns, ...]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Halves:
    """The two halves of each thread. The first ``len(names)`` threads are held out, and ``names`` has theirs;
    the others fill up with threads of the training part, which are only there to be found.
    """

    first: tuple[Turns, ...] = ()
    second: tuple[Turns, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Material:
    """Everything that is measured on. Empty or None is what there is not.

    Attributes:
        source: ``chitchat`` or ``own``. part: ``validation`` or ``sealed test``.
        pairs: held-out ones, context with them.
        training: pairs of the training part, to look triggers up in and to learn the linear map on.
        threads: segments of the held-out conversations. daily: those of ``dailydialog``'s validation part.
        halves, daily_halves: of the same.
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
    halves: Halves = Halves()
    daily_halves: Halves = Halves()
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
        threads=cut_threads(_turn_texts(held_out)),
        public=public,
        daily=None if public.dailydialog is None else cut_threads(_dialogues(public, validation=True)),
        halves=cut_halves(_turn_texts(held_out), _turn_texts(sides.train), seed=seed),
        daily_halves=cut_halves(_dialogues(public, validation=True), _dialogues(public, validation=False), seed=seed),
        replies=None
        if public.dailydialog_pp is None
        else tuple(record for record in public.dailydialog_pp if in_evaluation(record.id)),
    )


def cut_threads(threads: Iterable[NamedTurns], size: int = SEGMENT_TURNS) -> Threads:
    """Cut the turns of each thread into segments of ``size`` that do not overlap; a rest that is shorter is left out.

    A thread with fewer than two segments says nothing about sameness and is left out.
    """
    segments: list[Turns] = []
    names: list[str] = []
    for name, turns in threads:
        cuts = [tuple(turns[window.start : window.stop]) for window in windows(len(turns), size)]
        if len(cuts) > 1:
            segments += cuts
            names += [name] * len(cuts)
    return Threads(tuple(segments), tuple(names))


def cut_halves(
    held_out: Iterable[NamedTurns], training: Iterable[NamedTurns], *, seed: int, number: int = RETRIEVED
) -> Halves:
    """Cut ``number`` threads in the middle: held-out ones, and as many of training as it takes to be so many.

    The longer half of an odd number of turns is the second. A thread of fewer than 4 turns has no halves.
    """
    asked = _some(list(_long_enough(held_out)), number, seed)
    if not asked:
        return Halves()
    filling = _some(list(_long_enough(training)), number - len(asked), seed)
    halves = [(tuple(turns[: len(turns) // 2]), tuple(turns[len(turns) // 2 :])) for _, turns in asked + filling]
    first, second = zip(*halves, strict=True)
    return Halves(first, second, tuple(name for name, _ in asked))


def known_responses(pairs: Sequence[Pair]) -> dict[str, list[int]]:
    """Each different trigger → the rows of the pairs that answer it: all its known responses."""
    rows: dict[str, list[int]] = {}
    for row, pair in enumerate(pairs):
        rows.setdefault(folded(pair.trigger), []).append(row)
    return rows


def _turn_texts(conversations: Iterable[Conversation]) -> Iterator[NamedTurns]:
    return ((one.key, [turn.text for turn in turns_of(one.messages)]) for one in conversations)


def _dialogues(public: PublicData, *, validation: bool) -> Iterator[NamedTurns]:
    dialogues = public.dailydialog or ()
    return ((one.id, one.turns) for one in dialogues if (one.split == "validation") is validation)


def _long_enough(threads: Iterable[NamedTurns]) -> Iterator[NamedTurns]:
    return (thread for thread in threads if len(thread[1]) >= 2 * _HALF_TURNS)


def _some(threads: list[NamedTurns], number: int, seed: int) -> list[NamedTurns]:
    """At most ``number`` of them, drawn by the seed."""
    return random.Random(seed).sample(threads, min(number, len(threads)))  # noqa: S311


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
