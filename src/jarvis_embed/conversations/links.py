"""Which earlier turn of a group a turn answers: a small trained scorer, applied in numpy.

It looks at the last ``WINDOW`` turns, and at what can be seen of two turns without understanding them: who spoke, whom
they name, how long ago, which rare words they share; and how close their vectors are, where there are any. The turn is
linked to the one with the highest score, or begins a thread where no link scores as high as none does. After the linear
and feedforward rankers of Kummerfeld et al., "A Large-Scale Corpus for Conversation Disentanglement" (ACL 2019).

What is computed for a turn depends on the ``REACH`` turns before it alone. Inputs and weights are rounded so that
every sum is exact in float32: the result does not depend on how many turns are scored at once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

import numpy as np
import numpy.typing as npt

from ..messages import Turn

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

WINDOW: Final = 32
"""How many turns back an answered turn is looked for. On the training logs 97 % of the answered messages lie there."""

REACH: Final = 3 * WINDOW
"""How many turns before a turn its features depend on."""

FEATURES_VERSION: Final = 1
"""Raise this when a feature changes its meaning."""

TURN_FEATURES: Final = 16
PAIR_FEATURES: Final = 29
PARTS: Final = ("turn", "pair", "none", "bias", "out")
FILE: Final = "links.safetensors"
_BLOCK: Final = 2048
_STEP: Final = 16
_WEIGHT_STEP: Final = 256
_MOST: Final = 4.0
_MOST_WEIGHT: Final = 7.0
_NOBODY: Final = -1
_NEVER: Final = -(10**9)

_WORD: Final = re.compile(r"[^\W_][\w'.-]*[^\W_]|[^\W_]")
_OPENING: Final = re.compile(r"\s*@?([^\s,:;]{2,32})[,:;]")
_GREETING: Final = re.compile(
    r"\s*(?:hi+|hey+|hello+|good (?:morning|evening|afternoon)|any(?:one|body)|does any)\b", re.I
)
_THANKS: Final = re.compile(r"\b(?:thanks|thank you|thx|ty|cheers)\b", re.I)
_ASSENT: Final = re.compile(
    r"\s*(?:yes|yeah|yep|no|nope|ok|okay|sure|right|true|lol|haha|oh|ah|hmm?|well|but|and|so)\b", re.I
)


@dataclass(frozen=True, slots=True)
class LinkScorer:
    """One hidden layer over what is seen of a turn and of a pair of turns. Weights are multiples of 1/256 up to 7.

    Attributes:
        turn: (``TURN_FEATURES``, h) float32. pair: (``PAIR_FEATURES``, h). none: (h,), in the place of a pair where the
            turn begins a thread.
        bias: (h,). out: (h,).
    """

    turn: Floats
    pair: Floats
    none: Floats
    bias: Floats
    out: Floats

    def scores(self, turns: Floats, pairs: Floats) -> Floats:
        """The score of each link, (n, ``WINDOW`` + 1), the last of them that of beginning a thread.

        Args:
            turns: (n, ``TURN_FEATURES``). pairs: (n, ``WINDOW``, ``PAIR_FEATURES``). Both as ``features`` gives them.
        """
        of_turn = turns @ self.turn + self.bias
        hidden = np.empty((len(turns), WINDOW + 1, len(self.bias)), np.float32)
        np.matmul(pairs, self.pair, out=hidden[:, :-1])
        hidden[:, -1] = self.none
        hidden += of_turn[:, None]
        return np.asarray(rounded(np.maximum(hidden, 0)) @ self.out, np.float32)

    def links(self, turns: Sequence[Turn], first: int, vectors: Floats | None = None) -> Ints:
        """The position in ``turns`` that each turn from ``first`` on is linked to; its own if it begins a thread.

        Args:
            vectors: (turns, dim) of unit length.
        """
        found = []
        for start in range(first, len(turns), _BLOCK):
            stop = min(start + _BLOCK, len(turns))
            begin = max(start - REACH, 0)
            near = None if vectors is None else vectors[begin:stop]
            of_turns, of_pairs, there = features(turns[begin:stop], start - begin, near)
            scores = self.scores(of_turns, of_pairs)
            scores[:, :-1][~there] = -np.inf
            best = scores.argmax(1)
            found.append(np.arange(start, stop) - np.where(best == WINDOW, 0, best + 1))
        return np.concatenate(found) if found else np.empty(0, np.int64)


@cache
def shipped_scorer() -> LinkScorer:
    """The scorer that the package ships (docs/threads.md says what it learned from)."""
    from safetensors import safe_open

    with (
        resources.as_file(resources.files(__package__).joinpath(FILE)) as path,
        safe_open(path, "np") as file,
    ):
        parts = {name: file.get_tensor(name).astype(np.float32) / _WEIGHT_STEP for name in PARTS}
    return LinkScorer(**parts)


def rounded(values: Floats) -> Floats:
    """``values`` as multiples of 1/16 between -4 and 4: then sums of up to 64 products with weights are exact."""
    np.clip(values, -_MOST, _MOST, out=values)
    values *= _STEP
    np.rint(values, out=values)
    values /= _STEP
    return values


def rounded_weights(values: npt.NDArray[np.floating]) -> Floats:
    """``values`` as multiples of 1/256 between -7 and 7."""
    return np.asarray(np.rint(np.clip(values, -_MOST_WEIGHT, _MOST_WEIGHT) * _WEIGHT_STEP) / _WEIGHT_STEP, np.float32)


def features(turns: Sequence[Turn], first: int, vectors: Floats | None) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
    """What is seen of the turns from ``first`` on, and of each with the ``WINDOW`` before it, nearest first.

    Returns:
        (n, ``TURN_FEATURES``), (n, ``WINDOW``, ``PAIR_FEATURES``), and which of the (n, ``WINDOW``) there are.
    """
    seen = _Seen(turns)
    at = np.arange(first, len(turns))
    earlier = at[:, None] - 1 - np.arange(WINDOW)
    there = earlier >= 0
    back = np.maximum(earlier, 0)
    return _of_turns(seen, at, back, there), _of_pairs(seen, at, back, there, vectors, first), there


class _Seen:
    """One pass over turns: numbers for people, and for each turn what it depends on among the ``WINDOW`` before."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        count = len(turns)
        self.sender, self.named = np.full(count, _NOBODY), np.full(count, _NOBODY)
        self.own, self.next_own, self.next_named = np.full(count, _NEVER), np.full(count, 10**9), np.full(count, 10**9)
        self.told, self.named_by, self.named_at = (np.full(count, value) for value in (_NOBODY, _NOBODY, _NEVER))
        self.minutes = np.array([turn.start_ms for turn in turns], np.float64) / 60_000
        self.marks = np.zeros((count, 6), np.float32)
        self.shared: list[tuple[int, int, float]] = []
        ids: dict[str, int] = {}
        names: dict[str, tuple[int, int]] = {}
        spoke: dict[int, int] = {}
        told: dict[int, tuple[int, int]] = {}
        called: dict[int, tuple[int, int]] = {}
        words: dict[str, list[int]] = {}
        for at, turn in enumerate(turns):
            me = self.sender[at] = ids.setdefault(turn.sender, len(ids))
            oldest = at - WINDOW
            text = turn.text[:400]
            lower = text.lower()
            found = _WORD.findall(lower)
            named, unknown = self._named(lower, found, names, oldest, me)
            self.named[at] = named
            self.marks[at] = (
                "?" in text, bool(_GREETING.match(text)), bool(_THANKS.search(text)), bool(_ASSENT.match(text)),
                unknown, min(len(found), 60) / 15,
            )  # fmt: skip
            if (last := spoke.get(me, _NEVER)) >= oldest:
                self.own[at] = last
                self.next_own[last] = at
            if (earlier := told.get(me, (_NEVER, _NOBODY)))[0] >= oldest:
                self.told[at] = earlier[1]
            if (caller := called.get(me, (_NEVER, _NOBODY)))[0] >= oldest:
                self.named_at[at], self.named_by[at] = caller
            self._share(at, found, words)
            spoke[me] = at
            names[turn.sender.lower()] = names[turn.sender.lower().split()[0] if turn.sender.strip() else ""] = (me, at)
            if named != _NOBODY:
                told[me] = (at, named)
                called[named] = (at, me)
                if spoke.get(named, _NEVER) >= oldest:
                    self.next_named[spoke[named]] = min(self.next_named[spoke[named]], at)

    def _share(self, at: int, found: Sequence[str], words: dict[str, list[int]]) -> None:
        """Note which turns have a word in common with this one; the rarer it is there, the more it counts."""
        for word in set(found):
            if len(word) > 3:
                places = words.setdefault(word, [])
                while places and places[0] < at - WINDOW:
                    places.pop(0)
                if len(places) < 6:
                    self.shared += [(at, at - 1 - place, 1 / len(places)) for place in places]
                places.append(at)

    @staticmethod
    def _named(
        lower: str, found: Sequence[str], names: dict[str, tuple[int, int]], oldest: int, me: int
    ) -> tuple[int, bool]:
        """Who is addressed, and whether it looks as if somebody were who has not spoken lately."""
        opening = _OPENING.match(lower)
        if opening is not None and (person := names.get(opening[1])) and person[1] >= oldest and person[0] != me:
            return person[0], False
        for word in found:
            if len(word) > 3 and (person := names.get(word)) and person[1] >= oldest and person[0] != me:
                return person[0], False
        return _NOBODY, opening is not None


def _of_turns(seen: _Seen, at: Ints, back: Ints, there: npt.NDArray[np.bool_]) -> Floats:
    window = np.maximum(seen.minutes[at] - seen.minutes[back[:, -1]], 0)
    own = np.where(seen.own[at] >= 0, at - seen.own[at], 2 * WINDOW)
    called = np.where(seen.named_at[at] >= 0, at - seen.named_at[at], 2 * WINDOW)
    silence = np.maximum(seen.minutes[at] - seen.minutes[back[:, 0]], 0)
    columns = [
        *seen.marks[at].T,
        seen.named[at] >= 0,
        seen.own[at] >= 0,
        np.log2(own) / 4,
        called < own,
        np.log2(called) / 4,
        np.log1p(window) / 3,
        np.log1p(silence) / 2,
        seen.told[at] >= 0,
        ((seen.named[back] >= 0) & there).mean(1) * 4,  # rooms where people call each other by name are another kind
        np.log2(np.maximum(((seen.next_own[back] >= at[:, None]) & there).sum(1), 1)) / 1.25,
    ]
    return rounded(np.stack([np.asarray(column, np.float32) for column in columns], 1))


def _of_pairs(
    seen: _Seen, at: Ints, back: Ints, there: npt.NDArray[np.bool_], vectors: Floats | None, first: int
) -> Floats:
    values = np.zeros((len(at), WINDOW, PAIR_FEATURES), np.float32)
    one = at[:, None]
    me, you = seen.sender[at][:, None], seen.sender[back]
    named, named_you = seen.named[at][:, None], seen.named[back]
    own = seen.own[at][:, None]
    minutes = np.maximum(seen.minutes[at][:, None] - seen.minutes[back], 0)
    distance = np.arange(1, WINDOW + 1)
    same = me == you
    to_you, to_me = named == you, named_you == me
    last = seen.next_own[back] >= one
    columns = [
        np.broadcast_to(np.log2(distance) / 2, there.shape),
        np.broadcast_to(distance == 1, there.shape),
        np.broadcast_to(distance == 2, there.shape),
        np.log1p(minutes),
        minutes < 1,
        minutes > 5,
        same,
        same & (own == back),
        to_you,
        to_you & last,
        (named >= 0) & ~to_you,
        to_me,
        to_me & (own < back),
        to_me & (seen.named_at[at][:, None] == back),
        (named_you >= 0) & ~to_me,
        (named >= 0) & (named == named_you),
        (named < 0) & (named_you < 0) & ~same,
        last,
        own > back,
        seen.next_named[back] < one,
        (seen.told[at][:, None] == you) & (you >= 0),
        seen.told[back] == me,
        seen.named_by[at][:, None] == you,
        seen.named_by[back] == me,
        seen.marks[:, 0][back],
        seen.marks[:, 1][back],
    ]
    for number, column in enumerate(columns):
        values[:, :, number] = column
    for position, place, weight in seen.shared:
        if position >= first and place < WINDOW:
            values[position - first, place, 26] += weight
    if vectors is not None:
        near = np.einsum("nd,nwd->nw", vectors[at], vectors[back])
        values[:, :, 27] = near * 4
        values[:, :, 28] = 1
    values[~there] = 0
    return rounded(values)
