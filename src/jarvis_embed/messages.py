"""The words of the project as data: messages, and what is made of them.

All times are integer milliseconds since 1970-01-01 UTC: exact, ordered, and the finest unit that every source has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

CONTEXT_TURNS: Final = 3
"""How many turns before the trigger a pair may carry."""

TURN_GAP_MS: Final = 5 * 60 * 1000
"""A longer silence than this begins a new turn, also of the same sender."""


@dataclass(frozen=True, slots=True)
class Message:
    """One text by one sender at one time.

    Attributes:
        key: identifies the message inside its conversation, the same at every ingest.
        sender: who sent it; a stable name or handle.
        sent_ms: milliseconds since 1970-01-01 UTC.
        text: as the source has it, never normalised.
        is_from_me: whether the owner sent it; None where the source knows no owner.
        reply_to: key of the message that this one answers, where the source says so.
    """

    key: str
    sender: str
    sent_ms: int
    text: str
    is_from_me: bool | None = None
    reply_to: str | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """All messages between one set of people, in the order in which they were sent."""

    key: str
    messages: Sequence[Message]


@dataclass(frozen=True, slots=True)
class Turn:
    """Consecutive messages of one sender, joined by line ends."""

    sender: str
    start_ms: int
    end_ms: int
    text: str
    is_from_me: bool | None
    message_keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """A trigger turn and the next turn by somebody else, with the turns before it.

    Attributes:
        id: row in the library; 0 for a pair that is not stored.
        context: up to ``CONTEXT_TURNS`` turn texts before the trigger, oldest first.
        trigger_ms, response_ms: when each turn began.
    """

    id: int
    conversation: str
    trigger: str
    response: str
    trigger_sender: str
    response_sender: str
    trigger_ms: int
    response_ms: int
    context: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Thread:
    """Turns of one conversation that belong to one exchange."""

    conversation: str
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Segment:
    """A window of consecutive turns inside one thread; ``first`` is its position there."""

    conversation: str
    first: int
    turns: tuple[Turn, ...]
