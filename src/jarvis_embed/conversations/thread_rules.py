"""What a turn goes on with, by rules: the silence before it, signs of a new topic, and in groups who is named.

Each is decided from what came before alone, so that it is the same in bulk and while a conversation goes on.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ..messages import Turn

Vectors = npt.NDArray[np.float32]

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


class Taken(NamedTuple):
    """What was decided of a turn: the position it is linked to (its own if it begins a thread), what else it joins,
    and whether it could be anyone's in a group that says who by nothing but its text."""

    parent: int
    joined: list[int]
    is_open: bool


class State:
    """What the next link depends on. ``known`` is shared between copies and only holds what is settled."""

    __slots__ = (
        "addressed",
        "count",
        "fresh",
        "is_group",
        "known",
        "last",
        "names",
        "nearby",
        "pace",
        "paced",
        "rules",
        "spoke",
    )

    def __init__(self, rules: Rules, is_group: bool | None = None) -> None:
        self.rules, self.is_group = rules, is_group
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

    def copied(self) -> State:
        copy = State(self.rules, self.is_group)
        copy.count, copy.pace, copy.paced, copy.last = self.count, self.pace, self.paced, self.last
        copy.spoke, copy.addressed, copy.names = dict(self.spoke), dict(self.addressed), dict(self.names)
        copy.nearby, copy.known, copy.fresh = list(self.nearby), self.known, {}
        return copy

    def take(self, turn: Turn, vector: Vectors | None) -> Taken:
        """Add a turn, and decide what it goes on with."""
        position, sender = self.count, turn.sender
        gap = 0 if self.last is None else max(turn.start_ms - self.last.end_ms, 0)
        begin = turn.text[:_LOOKED_AT].lower()
        group = self._among_many(sender)
        addressee = self._addressee(begin) if group or len(self.names) > 2 else None
        parent = self._replied(turn)
        is_open = False
        if parent is None:
            limit = self._silence(begin, vector)
            parent = self._in_group(turn, gap, limit, addressee) if group else self._in_pair(turn, gap, limit)
            is_open = group and max(gap, _SECOND) <= limit
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
        return Taken(parent, joined, is_open)

    def _at(self, key: str) -> int | None:
        if self.fresh is not None and key in self.fresh:
            return self.fresh[key]
        return self.known.get(key)

    def _replied(self, turn: Turn) -> int | None:
        return None if turn.reply_to is None else self._at(turn.reply_to)

    def _among_many(self, sender: str) -> bool:
        """Whether more than two people take part: as is known, else as who spoke lately tells."""
        if self.is_group is not None:
            return self.is_group and self.count > 0
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
        if max(gap, _SECOND) > limit:
            return self.count
        mine = self.spoke.get(turn.sender, -1)
        if (at := self.addressed.get(turn.sender, -1)) > mine and at >= oldest:
            return at
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
