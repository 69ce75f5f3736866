"""Turns → threads: what belongs to one exchange.

Every turn is linked to one turn before it, or begins a thread; a thread is what links connect. What the source says
comes first: a reply goes to the thread of the message that it names. Else the turn goes on with what the conversation
is at, if the silence before it is not too long. How long that is follows the pace of the conversation, as people who
answer within seconds have ended a topic after a pause that is nothing between people who write once a day. Signs of a
new topic (a greeting, "by the way", a farewell before) shorten it, and so does a text that is far from the turns
before it, where vectors are given.

In a group several threads run at once. There a turn goes to the person it addresses, else to who addressed its
sender, else to where its sender was speaking.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Final

import numpy as np
import numpy.typing as npt

from ..messages import Message, Thread, Turn
from .turns import turns_of

Vectors = npt.NDArray[np.float32]
Embed = Callable[[Sequence[str]], Vectors]
"""Texts → their vectors (n, dim), unit length."""

_SECOND: Final = 1000
_MINUTE: Final = 60 * _SECOND
_HOUR: Final = 60 * _MINUTE

_SHIFT: Final = re.compile(
    r"(?:(?:so|oh|ok(?:ay)?|well|haha|and)[,.! ]+)?(?:anyways?|btw|by the way|on (?:another|a different|a side) note"
    r"|changing the subject|to change the subject|unrelated|off topic|oh and|(?:random|quick|another) question"
    r"|speaking of which|guess what|did you (?:hear|see))\b"
)
_GREETING: Final = re.compile(r"(?:hi+|hey+|hello+|hiya|howdy|yo|good (?:morning|evening|afternoon)|morning)\b")
_FAREWELL: Final = re.compile(
    r"\b(?:good ?bye|bye+|see (?:ya|you)|ttyl|(?:talk|chat|speak) to (?:you|ya) (?:later|soon)|good ?night|gtg|gotta go"
    r"|take care|have a (?:good|great|nice|lovely))\b"
)
_ADDRESS: Final = re.compile(r"@?([^\s,:]{2,32})[,:]")
_MENTION: Final = re.compile(r"@([\w.-]{2,32})")
_LOOKED_AT: Final = 80
_TAIL: Final = 64


@dataclass(frozen=True, slots=True)
class Rules:
    """When a silence ends a thread.

    Attributes:
        per_pace: how many times the usual gap between turns it must last.
        shortest_ms, longest_ms: it ends none below, and any above, whatever the pace.
        shift, greeting, farewell: what it is multiplied by if the turn begins with words of a new topic, with a
            greeting, or if the turn before says goodbye.
        closeness: for each unit by which the cosine to the turns before is above ``usual_closeness``, its logarithm
            grows so much; below, it falls.
        recent: how many turns back a person of a group is looked for.
    """

    per_pace: float = 60.0
    shortest_ms: int = 15 * _MINUTE
    longest_ms: int = 12 * _HOUR
    shift: float = 1 / 30
    greeting: float = 1 / 60
    farewell: float = 1 / 60
    closeness: float = 8.0
    usual_closeness: float = 0.2
    recent: int = 48


RULES: Final = Rules()

_FIRST_PACE: Final = math.log(45 * _SECOND)
_PACE_MEMORY: Final = 24
_SEMANTIC_TURNS: Final = 3


class _State:
    """What the next link depends on. ``known`` is shared between copies and only holds what is settled."""

    __slots__ = ("addressed", "count", "fresh", "known", "last", "names", "nearby", "pace", "paced", "rules", "spoke")

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.count = 0
        self.pace = _FIRST_PACE
        self.paced = 4  # the first pace counts as much as so many gaps
        self.last: Turn | None = None
        self.spoke: dict[str, int] = {}
        self.addressed: dict[str, int] = {}
        self.names: dict[str, str] = {}
        self.nearby: list[Vectors] = []
        self.known: dict[str, int] = {}
        self.fresh: dict[str, int] | None = None

    def copied(self) -> _State:
        copy = _State(self.rules)
        copy.count, copy.pace, copy.paced, copy.last = self.count, self.pace, self.paced, self.last
        copy.spoke, copy.addressed, copy.names = dict(self.spoke), dict(self.addressed), dict(self.names)
        copy.nearby, copy.known, copy.fresh = list(self.nearby), self.known, {}
        return copy

    def take(self, turn: Turn, vector: Vectors | None) -> tuple[int, list[int]]:
        """Add a turn; return the position it is linked to (its own if it begins a thread), and what else it joins."""
        position, sender = self.count, turn.sender
        gap = 0 if self.last is None else max(turn.start_ms - self.last.end_ms, 0)
        begin = turn.text[:_LOOKED_AT].lower()
        group = self._is_group(sender)
        addressee = self._addressee(begin) if group or len(self.names) > 2 else None
        parent = self._replied(turn)
        if parent is None:
            limit = self._silence(begin, vector)
            parent = self._in_group(turn, gap, limit, addressee) if group else self._in_pair(turn, gap, limit)
        own = self.known if self.fresh is None else self.fresh
        joined = []
        for key in turn.message_keys:
            waiting = self._at(key)
            if waiting is not None and waiting != position:
                joined.append(waiting)
            own[key] = position
        if turn.reply_to is not None and self._at(turn.reply_to) is None:
            own[turn.reply_to] = position  # replies to one message that is gone belong together
        self._remember(turn, vector, gap, addressee)
        return parent, joined

    def _at(self, key: str) -> int | None:
        if self.fresh is not None and key in self.fresh:
            return self.fresh[key]
        return self.known.get(key)

    def _replied(self, turn: Turn) -> int | None:
        return None if turn.reply_to is None else self._at(turn.reply_to)

    def _is_group(self, sender: str) -> bool:
        """Whether more than two people spoke lately."""
        if len(self.spoke) < 2:
            return False
        others = (at for who, at in reversed(self.spoke.items()) if who != sender)
        second = next(islice(others, 1, 2), None)
        return second is not None and self.count - second <= self.rules.recent

    def _silence(self, begin: str, vector: Vectors | None) -> float:
        """How long a silence before this turn ends the thread, in milliseconds."""
        rules = self.rules
        limit = min(max(rules.per_pace * math.exp(self.pace), rules.shortest_ms), rules.longest_ms)
        if _GREETING.match(begin):
            limit *= rules.greeting
        elif _SHIFT.match(begin):
            limit *= rules.shift
        if (
            self.last is not None
            and _FAREWELL.search(self.last.text[-_LOOKED_AT:].lower())
            and not _FAREWELL.search(begin)
        ):
            limit *= rules.farewell
        if vector is not None and self.nearby:
            near = sum(self.nearby)
            cosine = float(vector @ near) / (float(np.linalg.norm(near)) * float(np.linalg.norm(vector)) or 1.0)
            limit *= math.exp(rules.closeness * min(cosine - rules.usual_closeness, 0.25))
        return limit

    def _in_pair(self, turn: Turn, gap: int, limit: float) -> int:
        last = self.last
        if last is None:
            return self.count
        if turn.start_ms == last.start_ms:  # what begins at one instant has no order in which a topic could change
            return self.count - 1
        return self.count if max(gap, _SECOND) > limit else self.count - 1

    def _in_group(self, turn: Turn, gap: int, limit: float, addressee: str | None) -> int:
        oldest = self.count - self.rules.recent
        if addressee is not None and (at := self.spoke.get(addressee, -1)) >= oldest and at >= 0:
            return at
        mine = self.spoke.get(turn.sender, -1)
        if (at := self.addressed.get(turn.sender, -1)) > mine and at >= oldest:
            return at
        if max(gap, _SECOND) > limit:
            return self.count
        return mine if mine >= oldest and mine >= 0 else self.count - 1

    def _addressee(self, begin: str) -> str | None:
        """The person whose name begins the text, or stands in it after an @."""
        match = _ADDRESS.match(begin) or _MENTION.search(begin)
        return None if match is None else self.names.get(match[1])

    def _remember(self, turn: Turn, vector: Vectors | None, gap: int, addressee: str | None) -> None:
        if self.last is not None and 0 < gap <= self.rules.longest_ms:
            self.paced = min(self.paced + 1, _PACE_MEMORY)
            self.pace += (math.log(max(gap, _SECOND)) - self.pace) / self.paced
        self.spoke.pop(turn.sender, None)  # put last: the order is who spoke lately
        self.spoke[turn.sender] = self.count
        self.names.setdefault(turn.sender.lower(), turn.sender)
        if addressee is not None:
            self.addressed[addressee] = self.count
        if vector is not None:
            self.nearby = [*self.nearby[1 - _SEMANTIC_TURNS :], vector]
        self.last = turn
        self.count += 1


def links_in(turns: Sequence[Turn], *, vectors: Vectors | None = None, rules: Rules = RULES) -> list[tuple[int, int]]:
    """The links (turn, earlier turn) between positions of ``turns``; (turn, turn) where one begins a thread.

    Turns that begin at the same millisecond one after the other are taken in the order of their keys, so that it does
    not matter in which they came.

    Args:
        vectors: (turns, dim) float32, one of each turn's text, unit length.
    """
    return _linked(_State(rules), turns, vectors, [])


def _linked(state: _State, turns: Sequence[Turn], vectors: Vectors | None, placed: list[int]) -> list[tuple[int, int]]:
    """Take ``turns`` after those before; ``placed`` grows by the positions in the order in which they were taken."""
    first = len(placed)
    placed += [first + at for at in _order(turns)]
    links = []
    for place in range(first, len(placed)):
        position = placed[place]
        vector = None if vectors is None else vectors[position - first]
        parent, joined = state.take(turns[position - first], vector)
        links.append((position, placed[parent]))
        links += [(position, placed[other]) for other in joined]
    return links


def threads_in(
    conversation: str, turns: Sequence[Turn], *, vectors: Vectors | None = None, rules: Rules = RULES
) -> tuple[Thread, ...]:
    """The threads of a conversation in the order of their first turns; every turn is in exactly one.

    Args:
        conversation: its key.
        turns: in the order in which they were said, which is that of each thread too.
        vectors: (turns, dim) float32, one of each turn's text, unit length, where closeness in meaning shall count.
    """
    return _gathered(conversation, turns, thread_numbers(turns, vectors=vectors, rules=rules))


def thread_numbers(turns: Sequence[Turn], *, vectors: Vectors | None = None, rules: Rules = RULES) -> list[int]:
    """The number of each turn's thread, numbered from 0 in the order of their first turns."""
    return components(len(turns), links_in(turns, vectors=vectors, rules=rules))


def components(count: int, links: Iterable[tuple[int, int]]) -> list[int]:
    """The number of the connected part that each of ``count`` positions is in, in the order of their first members."""
    root = list(range(count))

    def find(at: int) -> int:
        while root[at] != at:
            root[at] = root[root[at]]
            at = root[at]
        return at

    for one, other in links:
        a, b = find(one), find(other)
        if a != b:
            root[max(a, b)] = min(a, b)
    number: dict[int, int] = {}
    return [number.setdefault(find(at), len(number)) for at in range(count)]


class OpenThreads:
    """The threads of one conversation while it goes on, one message at a time.

    After every message they are what ``threads_in`` finds in ``turns_of(in_order(messages))`` of the messages so far.
    What can still change is looked at again when it is asked for: the turn that may go on, and the messages of the
    last millisecond, whose order is that of their keys.
    """

    def __init__(self, conversation: str, *, embed: Embed | None = None, rules: Rules = RULES) -> None:
        """Begin with no message.

        Args:
            embed: gives the vectors (n, dim) of texts, where closeness in meaning shall count.
        """
        self._conversation = conversation
        self._embed = embed
        self._settled = _State(rules)
        self._turns: list[Turn] = []
        self._links: list[tuple[int, int]] = []
        self._placed: list[int] = []
        self._tail: list[Message] = []
        self._look = _TAIL

    def add(self, message: Message) -> None:
        """Take one more message; one of white space alone is skipped, as ``turns_of`` does."""
        if not message.text.strip():
            return
        self._tail.append(message)
        if len(self._tail) >= self._look:
            self._settle()
            self._look = max(_TAIL, 2 * len(self._tail))

    def threads(self) -> tuple[Thread, ...]:
        """The threads so far, in the order of their first turns."""
        return _gathered(self._conversation, *self._numbered())

    def current(self) -> Thread | None:
        """The thread of the last turn; None before the first message."""
        turns, numbers = self._numbered()
        same = tuple(turn for turn, number in zip(turns, numbers, strict=True) if number == numbers[-1])
        return Thread(self._conversation, same) if same else None

    def _numbered(self) -> tuple[list[Turn], list[int]]:
        late = list(turns_of(in_order(self._tail)))
        turns = self._turns + late
        links = self._links + _linked(self._settled.copied(), late, self._vectors(late), list(self._placed))
        return turns, components(len(turns), links)

    def _settle(self) -> None:
        """Let go of the turns of which nothing can change any more, whatever comes."""
        last_ms = self._tail[-1].sent_ms
        fixed = len(self._tail)
        while fixed and self._tail[fixed - 1].sent_ms == last_ms:
            fixed -= 1
        ready = list(in_order(self._tail[:fixed]))
        turns = list(turns_of(ready))
        open_since = turns[-1].start_ms if turns else 0
        done = len(turns)
        while done and turns[done - 1].start_ms == open_since:
            done -= 1
        del turns[done:]
        self._links += _linked(self._settled, turns, self._vectors(turns), self._placed)
        self._turns += turns
        self._tail = ready[sum(len(turn.message_keys) for turn in turns) :] + self._tail[fixed:]

    def _vectors(self, turns: Sequence[Turn]) -> Vectors | None:
        return self._embed([turn.text for turn in turns]) if self._embed is not None and turns else None


def in_order(messages: Iterable[Message]) -> Iterator[Message]:
    """Yield messages as they are, but those of one millisecond in the order of their rows and keys.

    For a source that hands over messages of one instant now in this order, now in that.
    """
    for _, instant in groupby(messages, key=lambda message: message.sent_ms):
        yield from sorted(instant, key=lambda message: (message.row or 0, _natural(message.key)))


def _order(turns: Sequence[Turn]) -> list[int]:
    order = list(range(len(turns)))
    if all(earlier.start_ms != later.start_ms for earlier, later in zip(turns, islice(turns, 1, None), strict=False)):
        return order
    found: list[int] = []
    for _, instant in groupby(order, key=lambda at: turns[at].start_ms):
        found += sorted(instant, key=lambda at: _natural(turns[at].message_keys[0]))
    return found


def _natural(key: str) -> tuple[int, str]:
    """Numbers in their order before everything else."""
    return (int(key), "") if key.isascii() and key.isdigit() and len(key) < 20 else (10**20, key)


def _gathered(conversation: str, turns: Sequence[Turn], numbers: Sequence[int]) -> tuple[Thread, ...]:
    parts: list[list[Turn]] = [[] for _ in range(max(numbers, default=-1) + 1)]
    for turn, number in zip(turns, numbers, strict=True):
        parts[number].append(turn)
    return tuple(Thread(conversation, tuple(part)) for part in parts)
