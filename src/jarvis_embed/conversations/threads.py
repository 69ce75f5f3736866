"""Turns → threads: what belongs to one exchange.

Every turn is linked to one turn before it, or begins a thread; a thread is what links connect. What the source says
comes first: a reply goes to the thread of the message that it names. Else the turn goes on with what the conversation
is at, if the silence before it is not too long. How long that is follows the pace of the conversation, as people who
answer within seconds have ended a topic after a pause that is nothing between people who write once a day. Signs of a
new topic (a greeting, "by the way", a farewell before) shorten it, and so does a text that is far from the turns
before it, where vectors are given.

In a group several threads run at once. There a turn goes to the person it addresses, else to who addressed its
sender, else to where its sender was speaking; or, better, to the turn that the scorer of ``links.py`` chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import Final

import numpy as np

from ..messages import Conversation, Message, Thread, Turn
from .links import REACH, LinkScorer, shipped_scorer
from .thread_rules import RULES, Rules, State, Vectors
from .turns import turns_of

Embed = Callable[[Sequence[str]], Vectors]
"""Texts → their vectors (n, dim), unit length."""

_Near = list[tuple[Turn, Vectors | None]]
_TAIL: Final = 64


def links_in(
    turns: Sequence[Turn],
    *,
    vectors: Vectors | None = None,
    scorer: LinkScorer | None = None,
    is_group: bool | None = None,
    rules: Rules = RULES,
) -> list[tuple[int, int]]:
    """The links (turn, earlier turn) between positions of ``turns``; (turn, turn) where one begins a thread.

    Turns that begin at the same millisecond one after the other are taken in the order of their keys, so that it does
    not matter in which they came.

    Args:
        vectors: (turns, dim) float32, one of each turn's text, unit length.
        scorer, is_group: as in ``threads_in``.
    """
    return _linked(State(rules, is_group), turns, vectors, [], [], scorer)


def _linked(
    state: State,
    turns: Sequence[Turn],
    vectors: Vectors | None,
    placed: list[int],
    near: _Near,
    scorer: LinkScorer | None,
) -> list[tuple[int, int]]:
    """Take ``turns`` after those before; ``placed`` grows by the positions in the order in which they were taken.

    Args:
        near: the last turns before, which the scorer looks at too; it goes on to the last of all.
    """
    first = len(placed)
    order = _order(turns)
    placed += [first + at for at in order]
    taken = [state.take(turns[at], None if vectors is None else vectors[at]) for at in order]
    parents = [one.parent for one in taken]
    if scorer is not None:
        begin = first - len(near)
        near += [(turns[at], None if vectors is None else vectors[at]) for at in order]
        if any(one.is_open for one in taken):
            stacked = None if vectors is None else np.stack([vector for _, vector in near if vector is not None])
            chosen = scorer.links([turn for turn, _ in near], first - begin, stacked)
            parents = [
                begin + int(link) if one.is_open else parent
                for one, parent, link in zip(taken, parents, chosen, strict=True)
            ]
        del near[:-REACH]
    links = []
    for place, (parent, one) in enumerate(zip(parents, taken, strict=True), first):
        links.append((placed[place], placed[parent]))
        links += [(placed[place], placed[other]) for other in one.joined]
    return links


def threads_in(
    conversation: str,
    turns: Sequence[Turn],
    *,
    vectors: Vectors | None = None,
    scorer: LinkScorer | None = None,
    is_group: bool | None = None,
    rules: Rules = RULES,
) -> tuple[Thread, ...]:
    """The threads of a conversation in the order of their first turns; every turn is in exactly one.

    Args:
        conversation: its key.
        turns: in the order in which they were said, which is that of each thread too.
        vectors: (turns, dim) float32, one of each turn's text, unit length, where closeness in meaning shall count.
        scorer: what chooses in groups, such as ``links.shipped_scorer()``; the rules where it is None.
        is_group: whether more than two take part, as the source says; None: what the senders tell.
    """
    return _gathered(
        conversation, turns, thread_numbers(turns, vectors=vectors, scorer=scorer, is_group=is_group, rules=rules)
    )


def exchanges_in(conversations: Iterable[Conversation]) -> Iterator[Thread]:
    """The threads of conversations that have more than one turn; in groups, the shipped scorer links."""
    for one in conversations:
        for thread in threads_in(one.key, list(turns_of(one.messages)), scorer=shipped_scorer()):
            if len(thread.turns) > 1:
                yield thread


def thread_numbers(
    turns: Sequence[Turn],
    *,
    vectors: Vectors | None = None,
    scorer: LinkScorer | None = None,
    is_group: bool | None = None,
    rules: Rules = RULES,
) -> list[int]:
    """The number of each turn's thread, numbered from 0 in the order of their first turns."""
    return components(len(turns), links_in(turns, vectors=vectors, scorer=scorer, is_group=is_group, rules=rules))


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

    def __init__(
        self,
        conversation: str,
        *,
        embed: Embed | None = None,
        scorer: LinkScorer | None = None,
        is_group: bool | None = None,
        rules: Rules = RULES,
    ) -> None:
        """Begin with no message.

        Args:
            embed: gives the vectors (n, dim) of texts, where closeness in meaning shall count.
            scorer, is_group: as in ``threads_in``.
        """
        self._conversation = conversation
        self._embed = embed
        self._scorer = scorer
        self._settled = State(rules, is_group)
        self._turns: list[Turn] = []
        self._links: list[tuple[int, int]] = []
        self._placed: list[int] = []
        self._near: _Near = []
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
        links = _linked(
            self._settled.copied(), late, self._vectors(late), list(self._placed), list(self._near), self._scorer
        )
        return turns, components(len(turns), self._links + links)

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
        vectors = self._vectors(turns)
        self._links += _linked(self._settled, turns, vectors, self._placed, self._near, self._scorer)
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
