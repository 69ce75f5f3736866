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
_SEEN_AT_ONCE: Final = 4096
_SCORED_AT_ONCE: Final = 256
_STEP: Final = 16
_WEIGHT_STEP: Final = 256
_MOST: Final = 4.0
_MOST_WEIGHT: Final = 7.0
_UNEVEN: Final = (0, 3, 26, 27)
_WORDS: Final = 26
_COSINE: Final = 27
_COMMON: Final = 5
_SHORT: Final = 3
_LOOKED_AT: Final = 400
_NOBODY: Final = -1
_NEVER: Final = -(10**9)
_LATER: Final = 10**9

_WORD: Final = re.compile(r"[^\W_][\w'.-]*[^\W_]|[^\W_]")
_OPENING: Final = re.compile(r"\s*@?([^\s,:;]{2,32})[,:;]")
_GREETING: Final = re.compile(
    r"\s*(?:hi+|hey+|hello+|good (?:morning|evening|afternoon)|any(?:one|body)|does any)\b", re.I
)
_THANKS: Final = re.compile(r"\b(?:thanks|thank you|thx|ty|cheers)\b")
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
            turns: (n, ``TURN_FEATURES``). pairs: (``PAIR_FEATURES``, n, ``WINDOW``). Both as ``features`` gives them.
        """
        count, width = len(turns), len(self.bias)
        of_turn = (turns @ self.turn + self.bias).T * _STEP  # in sixteenths, so that rounding is to whole numbers
        hidden = (self.pair.T * _STEP) @ pairs.reshape(PAIR_FEATURES, -1)
        hidden = hidden.reshape(width, count, WINDOW)
        hidden += of_turn[:, :, None]
        out = self.out / _STEP
        scores = np.empty((count, WINDOW + 1), np.float32)
        scores[:, :-1] = (out @ _whole(hidden).reshape(width, -1)).reshape(count, WINDOW)
        scores[:, -1] = out @ _whole(of_turn + self.none[:, None] * _STEP)
        return scores

    def links(self, turns: Sequence[Turn], first: int, vectors: Floats | None = None) -> Ints:
        """The position in ``turns`` that each turn from ``first`` on is linked to; its own if it begins a thread.

        Args:
            vectors: (turns, dim) of unit length.
        """
        found = []
        for start in range(first, len(turns), _SEEN_AT_ONCE):
            begin = max(start - REACH, 0)
            stop = min(start + _SEEN_AT_ONCE, len(turns))
            seen = _Seen(turns[begin:stop])
            near = None if vectors is None else vectors[begin:stop]
            for block in range(start, stop, _SCORED_AT_ONCE):
                at = np.arange(block, min(block + _SCORED_AT_ONCE, stop))
                of_turns, of_pairs, there = _features(seen, at - begin, near)
                scores = self.scores(of_turns, of_pairs)
                scores[:, :-1][~there] = -np.inf
                best = scores.argmax(1)
                found.append(at - np.where(best == WINDOW, 0, best + 1))
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


def _whole(hidden: Floats) -> Floats:
    """The hidden layer in sixteenths, from 0 to 4."""
    np.rint(hidden, out=hidden)
    return np.clip(hidden, 0, _MOST * _STEP, out=hidden)


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
        (n, ``TURN_FEATURES``), (``PAIR_FEATURES``, n, ``WINDOW``), and which of the (n, ``WINDOW``) there are.
    """
    return _features(_Seen(turns), np.arange(first, len(turns)), vectors)


def _features(seen: _Seen, at: Ints, vectors: Floats | None) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
    earlier = at[:, None] - 1 - np.arange(WINDOW)
    there = earlier >= 0
    back = np.maximum(earlier, 0)
    return _of_turns(seen, at, back, there), _of_pairs(seen, at, back, there, vectors), there


class _Seen:
    """One pass over turns: numbers for people, and for each turn what it depends on among the ``WINDOW`` before."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        count = len(turns)
        self._found: tuple[list[int], list[int], list[float]] = ([], [], [])
        sender, named, told, named_by = ([_NOBODY] * count for _ in range(4))
        own, named_at = [_NEVER] * count, [_NEVER] * count
        next_own, next_named = [_LATER] * count, [_LATER] * count
        marks: list[tuple[float, ...]] = []
        ids: dict[str, int] = {}
        known_as: list[tuple[str, str]] = []
        names: dict[str, tuple[int, int]] = {}
        spoke: dict[int, int] = {}
        last_told: dict[int, tuple[int, int]] = {}
        called: dict[int, tuple[int, int]] = {}
        words: dict[str, list[int]] = {}
        nothing = (_NEVER, _NOBODY)
        for at, turn in enumerate(turns):
            me = sender[at] = ids.setdefault(turn.sender, len(ids))
            if me == len(known_as):
                known_as.append(_names_of(turn.sender))
            oldest = at - WINDOW
            text = turn.text[:_LOOKED_AT].lower()
            found = _WORD.findall(text)
            to, unknown = self._named(text, found, names, oldest, me)
            marks.append(_marks(text, unknown, len(found)))
            if (last := spoke.get(me, _NEVER)) >= oldest:
                own[at] = last
                next_own[last] = at
            if (earlier := last_told.get(me, nothing))[0] >= oldest:
                told[at] = earlier[1]
            if (caller := called.get(me, nothing))[0] >= oldest:
                named_at[at], named_by[at] = caller
            self._share(at, found, words)
            spoke[me] = at
            names[known_as[me][0]] = names[known_as[me][1]] = (me, at)
            if to != _NOBODY:
                named[at] = to
                last_told[me] = (at, to)
                called[to] = (at, me)
                there = spoke[to]
                next_named[there] = min(next_named[there], at)
        self.sender, self.named, self.told, self.named_by = (np.array(one) for one in (sender, named, told, named_by))
        self.own, self.named_at = np.array(own), np.array(named_at)
        self.next_own, self.next_named = np.array(next_own), np.array(next_named)
        self.minutes = np.array([turn.start_ms for turn in turns], np.float64) / 60_000
        self.marks = np.array(marks, np.float32).reshape(count, 6)
        later, before, weight = self._found
        self.shared = (np.array(later, np.int64), np.array(before, np.int64), np.array(weight, np.float32))

    def _share(self, at: int, found: Sequence[str], words: dict[str, list[int]]) -> None:
        """Note which turns have a word in common with this one; the rarer it is there, the more it counts."""
        later, before, weight = self._found
        for word in dict.fromkeys(found):  # in their order, for sums of floats depend on it
            if len(word) <= _SHORT:
                continue
            places = words.get(word)
            if places is None or places[-1] < at - WINDOW:
                words[word] = [at]
                continue
            while places[0] < at - WINDOW:
                places.pop(0)
            if len(places) <= _COMMON:
                later += [at] * len(places)
                before += [at - 1 - place for place in places]
                weight += [1 / len(places)] * len(places)
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
            if len(word) > _SHORT and (person := names.get(word)) and person[1] >= oldest and person[0] != me:
                return person[0], False
        return _NOBODY, opening is not None


def _names_of(sender: str) -> tuple[str, str]:
    """What a person may be called: the whole name, and the first."""
    whole = sender.lower()
    return whole, whole.split()[0] if whole.strip() else whole


def _marks(text: str, unknown: bool, words: int) -> tuple[float, ...]:
    return (
        "?" in text,
        _GREETING.match(text) is not None,
        _THANKS.search(text) is not None,
        _ASSENT.match(text) is not None,
        unknown,
        min(words, 60) / 15,
    )


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


def _of_pairs(seen: _Seen, at: Ints, back: Ints, there: npt.NDArray[np.bool_], vectors: Floats | None) -> Floats:
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
    values = np.zeros((PAIR_FEATURES, *there.shape), np.float32)
    for number, column in enumerate(columns):
        values[number] = column
    if len(at):
        position, place, weight = seen.shared
        some = slice(*np.searchsorted(position, (at[0], at[-1] + 1)))
        near = place[some] < WINDOW
        np.add.at(values[_WORDS], (position[some][near] - at[0], place[some][near]), weight[some][near])
    if vectors is not None:
        values[_COSINE] = np.einsum("nd,nwd->nw", vectors[at], vectors[back]) * 4
        values[_COSINE + 1] = 1
    values *= there
    for number in _UNEVEN:
        rounded(values[number])
    return values
