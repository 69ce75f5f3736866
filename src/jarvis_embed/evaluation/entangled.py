"""Streams of turns whose threads are known: logs that people annotated, and conversations run together on purpose."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from ..conversations.turns import turns_of
from ..messages import Conversation, Turn
from .data import ChatLog, Dialogue

Said = tuple[tuple[str, str], ...]
"""(speaker, text) of each turn of one conversation."""

Kind = Literal["no pauses", "pauses", "own people", "shared people"]
KINDS: Final[tuple[Kind, ...]] = ("no pauses", "pauses", "own people", "shared people")
"""``no pauses``, ``pauses``: conversations of the same two people one after the other, the second with a silence of 5
minutes to 8 hours between. ``own people``, ``shared people``: three conversations at once in one room, of two people
each, or of pairs out of the same four."""

AT_ONCE: Final = 3
IN_A_ROW: Final = 6
_USUAL_GAP: Final = math.log(20_000)
_HALF_DAY_MIN: Final = 12 * 60


@dataclass(frozen=True, slots=True)
class Stream:
    """``threads`` gives the true thread of each turn."""

    turns: tuple[Turn, ...]
    threads: tuple[int, ...]


def turns_of_log(log: ChatLog) -> tuple[list[Turn], list[int]]:
    """A turn for each line that somebody wrote, and the number of its line. Times are those of an unknown day.

    The logs say hours and minutes, the older ones on a clock of twelve hours: what runs back by more than an hour is
    taken for the other half of the day, or the next.
    """
    turns, lines = [], []
    clock = 0
    before: int | None = None
    for line, (time, sender, text) in enumerate(log.said):
        if time is not None:
            hours, minutes = time.split(":")
            now = 60 * int(hours) + int(minutes)
            passed = 0 if before is None else now - before
            if passed < -60:
                passed += _HALF_DAY_MIN if passed > -_HALF_DAY_MIN else 2 * _HALF_DAY_MIN
            clock += max(passed, 0)
            before = now
        if sender is not None:
            turns.append(Turn(sender, clock * 60_000, clock * 60_000, text, None, (str(line),)))
            lines.append(line)
    return turns, lines


def said_in(conversations: Sequence[Conversation]) -> list[Said]:
    """What was said, turn by turn."""
    return [
        tuple((turn.sender, turn.text) for turn in turns_of(conversation.messages)) for conversation in conversations
    ]


def said_in_dialogues(dialogues: Sequence[Dialogue]) -> list[Said]:
    return [tuple(("ab"[at % 2], text) for at, text in enumerate(dialogue.turns)) for dialogue in dialogues]


def streams(conversations: Sequence[Said], kind: Kind, *, seed: int) -> Iterator[Stream]:
    """Run conversations together, each in one stream; those of fewer than four turns are left out.

    Turns follow each other after gaps drawn from a lognormal distribution with a median of 20 s, whatever their true
    times were, so that corpora without times are treated alike.
    """
    draw = random.Random(seed)  # noqa: S311  no secret
    whole = [said for said in conversations if len(said) >= 4 and len({who for who, _ in said}) >= 2]
    draw.shuffle(whole)
    size = IN_A_ROW if kind in ("no pauses", "pauses") else AT_ONCE
    for start in range(0, len(whole) - size + 1, size):
        together = whole[start : start + size]
        yield _in_a_row(together, kind == "pauses", draw) if size == IN_A_ROW else _at_once(together, kind, draw)


def _in_a_row(together: Sequence[Said], pauses: bool, draw: random.Random) -> Stream:
    said, at = [], 0.0
    for number, conversation in enumerate(together):
        people = _renamed(conversation, ("ann", "bob"))
        for place, (who, text) in enumerate(conversation):
            silent = pauses and place == 0 and number > 0
            at += math.exp(draw.uniform(math.log(300_000), math.log(28_800_000))) if silent else _gap(draw)
            said.append((at, number, people[who], text))
    return _stream(said)


def _at_once(together: Sequence[Said], kind: Kind, draw: random.Random) -> Stream:
    said = []
    for number, conversation in enumerate(together):
        pool = ("ann", "bob", "cleo", "dan")
        chosen = draw.sample(pool, 2) if kind == "shared people" else (f"ann{number}", f"bob{number}")
        people = _renamed(conversation, tuple(chosen))
        at = draw.uniform(0, 120_000)
        for who, text in conversation:
            at += _gap(draw)
            said.append((at, number, people[who], text))
    return _stream(sorted(said))


def _renamed(conversation: Said, names: tuple[str, ...]) -> dict[str, str]:
    """Names for the first speakers; whoever comes after them keeps a name of their own."""
    people: dict[str, str] = {}
    for who, _ in conversation:
        if who not in people:
            people[who] = names[len(people)] if len(people) < len(names) else f"{names[0]} {len(people)}"
    return people


def _gap(draw: random.Random) -> float:
    return draw.lognormvariate(_USUAL_GAP, 1.0)


def _stream(said: Sequence[tuple[float, int, str, str]]) -> Stream:
    turns = tuple(
        Turn(who, int(at), int(at), text, None, (str(place),)) for place, (at, _, who, text) in enumerate(said)
    )
    return Stream(turns, tuple(number for _, number, _, _ in said))
