"""The words of the project as data: messages, and what is made of them.

All times are integer milliseconds since 1970-01-01 UTC: exact, ordered, and the finest unit that every source has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

CONTEXT_TURNS: Final = 3
"""How many turns before the trigger a pair may carry."""

EARLIER: Final = "earlier"
"""The sender of what a source knows to have been said before, without saying by whom: nobody one could talk with."""

EPOCH_2001_MS: Final = 978_307_200_000
"""The begin of Apple's time, 2001-01-01 UTC."""

_ROW_BITS: Final = 22

TURN_GAP_MS: Final = 5 * 60 * 1000
"""A longer silence than this begins a new turn, also of the same sender."""


@dataclass(frozen=True, slots=True)
class Tapback:
    """A reaction to a message, which is a signal about it and no message itself.

    Attributes:
        sender: who reacted; named as in ``Message.sender``.
        kind: ``loved``, ``liked``, ``disliked``, ``laughed``, ``emphasised``, ``questioned``, ``sticker``, or an emoji.
        sent_ms: when, in milliseconds since 1970-01-01 UTC.
    """

    sender: str
    kind: str
    sent_ms: int


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
        edited_ms: when it was last edited, with ``text`` as it is since then; None if never, or not known.
        tapbacks: reactions to it that still stand, oldest first.
        holdout: the source keeps it out of training, to measure with.
        row: the record's own number in a source that can tell what has changed (see ``sources.base.Changes``).
        quality: how good a reply it is, 0 to 1, where the source says so.
        flags: what else the source says of it, in its own words, sorted.
    """

    key: str
    sender: str
    sent_ms: int
    text: str
    is_from_me: bool | None = None
    reply_to: str | None = None
    edited_ms: int | None = None
    tapbacks: tuple[Tapback, ...] = ()
    holdout: bool = False
    row: int | None = None
    quality: float | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Conversation:
    """All messages between one set of people, in the order in which they were sent.

    Attributes:
        key: identifies it in its source, the same at every ingest.
        people: who takes part besides the owner, where the source says so: handles, names.
        is_group: whether more than two take part; None where the source does not say.
        name: what the source calls it: the title of a group, the name of a contact.
        rating: how good those who took part found it as a whole, 0 to 1, where the source says so.
    """

    key: str
    messages: Sequence[Message]
    people: tuple[str, ...] = ()
    is_group: bool | None = None
    name: str | None = None
    rating: float | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """Consecutive messages of one sender, joined by line ends.

    Attributes:
        message_keys: keys of its messages, in their order.
        reply_to: key of the message that its first message answers, where the source says so.
        holdout: one of its messages is kept out of training.
        quality: the lowest that is known of its messages.
        flags: those of its messages, sorted.
    """

    sender: str
    start_ms: int
    end_ms: int
    text: str
    is_from_me: bool | None
    message_keys: tuple[str, ...]
    reply_to: str | None = None
    holdout: bool = False
    quality: float | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pair:
    """A trigger turn and the turn by somebody else that answers it, with the turns before it.

    Attributes:
        id: row in the library; 0 for a pair that is not stored.
        context: up to ``CONTEXT_TURNS`` turn texts before the trigger, oldest first.
        trigger_ms, response_ms: when each turn began.
        holdout: kept out of training: trigger or response holds a message that the source holds out.
        quality: how good a reply the response is, 0 to 1, where the source says so.
        flags: what else the source says of the response, in its own words, sorted.
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
    holdout: bool = False
    quality: float | None = None
    flags: tuple[str, ...] = ()


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

    @property
    def texts(self) -> tuple[str, ...]:
        """What its turns say."""
        return tuple(turn.text for turn in self.turns)


def place_of(sent_ms: int, row: int) -> int:
    """A number that orders messages by time, and those of one millisecond by their row in the source.

    By it a message has its place in a conversation without the others being read. 63 bits hold the times from 2001
    to 2070 and rows up to 4,194,304 apart.
    """
    return ((sent_ms - EPOCH_2001_MS) << _ROW_BITS) + row % (1 << _ROW_BITS)
