"""Tapbacks: what Messages writes for them, and which of them still stand.

A tapback is a row that names another one; taking it back is one more row. In an SMS it is a text that quotes, such as
``Liked “see you at 8”``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ..messages import Tapback

ADDED: Final = range(2000, 2008)
"""``associated_message_type`` of a tapback; 1,000 more takes it back."""

REMOVED: Final = range(3000, 3008)
_KINDS: Final = ("loved", "liked", "disliked", "laughed", "emphasised", "questioned", "emoji", "sticker")
_EMOJI: Final = 6

_VERBS: Final = {
    "Loved": "loved",
    "Liked": "liked",
    "Disliked": "disliked",
    "Laughed at": "laughed",
    "Emphasized": "emphasised",
    "Emphasised": "emphasised",
    "Questioned": "questioned",
}
_TAKEN_BACK: Final = {
    "heart": "loved",
    "like": "liked",
    "dislike": "disliked",
    "laugh": "laughed",
    "exclamation": "emphasised",
    "question mark": "questioned",
}
_QUOTING: Final = re.compile(
    rf"(?:(?P<verb>{'|'.join(_VERBS)})|Reacted (?P<emoji>\S{{1,16}}) to"
    rf"|Removed an? (?P<noun>{'|'.join(_TAKEN_BACK)}) from) “(?P<quote>.*)”",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Signal:
    """One row, or one text, about another message.

    Attributes:
        part: which part of the message is meant.
        kind: as in ``Tapback``; ``emoji`` where the row does not say which.
    """

    sender: str
    part: str
    kind: str
    sent_ms: int
    row: int
    removes: bool


def is_tapback(kind: int) -> bool:
    """Whether an ``associated_message_type`` is a tapback, given or taken back."""
    return kind in ADDED or kind in REMOVED


def kind_of(number: int, emoji: str | None) -> str:
    """``associated_message_type`` and ``associated_message_emoji`` → ``Tapback.kind``."""
    kind = number % 1000
    return emoji or "emoji" if kind == _EMOJI else _KINDS[kind]


def target_of(reference: str) -> tuple[str, str]:
    """``associated_message_guid`` → (part, guid): ``p:0/GUID``, ``bp:GUID``, or the guid alone."""
    if reference.startswith("p:"):
        part, _, guid = reference[2:].partition("/")
        return part, guid
    if reference.startswith("bp:"):
        return "0", reference[3:]
    return "0", reference


TARGET_SQL: Final = (
    "CASE WHEN h.associated_message_guid LIKE 'p:%/%' "
    "THEN substr(h.associated_message_guid, instr(h.associated_message_guid, '/') + 1) "
    "WHEN h.associated_message_guid LIKE 'bp:%' THEN substr(h.associated_message_guid, 4) "
    "ELSE h.associated_message_guid END"
)
"""The guid of ``target_of`` in SQL, of a row ``h``."""


def quoted(text: str) -> tuple[str, str, bool] | None:
    """(kind, quoted text, whether it takes back) of a text such as ``Liked “see you at 8”``; None if it is no such."""
    if not text.endswith("”") or (match := _QUOTING.fullmatch(text)) is None:
        return None
    if noun := match["noun"]:
        return _TAKEN_BACK[noun], match["quote"], True
    return _VERBS[match["verb"]] if match["verb"] else match["emoji"], match["quote"], False


def standing(signals: Iterable[Signal]) -> tuple[Tapback, ...]:
    """What is left of all signals about one message: the last of each sender about each part, unless taken back."""
    last: dict[tuple[str, str], Signal] = {}
    for signal in sorted(signals, key=lambda s: (s.sent_ms, s.row)):
        place = (signal.sender, signal.part)
        if not signal.removes:
            last[place] = signal
        elif place in last and (signal.kind in (last[place].kind, "emoji") or last[place].kind == "emoji"):
            del last[place]
    left = sorted(last.values(), key=lambda s: (s.sent_ms, s.row))
    return tuple(Tapback(signal.sender, signal.kind, signal.sent_ms) for signal in left)
