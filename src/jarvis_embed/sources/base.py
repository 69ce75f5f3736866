"""What every source is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, get_args, runtime_checkable

from ..messages import Conversation

Unreadable = Counter[str]
"""Cause → how many records could not be read for it. A cause never holds message text."""


DateOrder = Literal["dmy", "mdy", "ymd"]
"""In which order the numbers of a date stand: day, month and year."""

ORDERS: Final[tuple[DateOrder, ...]] = get_args(DateOrder)


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How to read a source, where it does not say so itself. Each kind uses some of it (see ``kinds.READERS``).

    Attributes:
        me: the sender who is the owner.
        split: part of the chitchat corpus.
        columns: field of a message → heading of a table's column, or several joined by ``+``.
        dates: order of day, month and year.
        zone: time zone of times without one, such as ``Europe/Berlin``; UTC if None.
    """

    me: str | None = None
    split: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    dates: DateOrder | None = None
    zone: str | None = None


class Source(Protocol):
    """A reader of one history. Reading it changes nothing on disk.

    Attributes:
        kind: ``chitchat``, ``jsonl`` …
        location: what distinguishes two sources of a kind; a path or a description.
        unreadable: filled while ``conversations`` is read.
    """

    kind: str
    location: str
    unreadable: Unreadable

    def conversations(self) -> Iterator[Conversation]:
        """Yield every conversation, each with its messages in the order in which they were sent."""
        ...

    def __len__(self) -> int:
        """How many conversations will be yielded, or 0 where that is not known before reading."""
        ...


@dataclass(frozen=True, slots=True)
class Changes:
    """What a source holds now, as far as it differs from what it held at an earlier state.

    Attributes:
        conversations: to be read once, and to the end. Each message has its ``row``.
        rows: which rows of the source were read; a message that was known from one of them and does not come again is
            gone, and every other message is as it was. None if everything was read.
        state: what to ask with the next time; to be called after ``conversations`` was read.
        persons: for everybody who has several names (a number, an address), all of them.
    """

    conversations: Iterator[Conversation]
    rows: Sequence[range] | None
    state: Callable[[], bytes]
    persons: Sequence[Sequence[str]] = ()


@runtime_checkable
class IncrementalSource(Source, Protocol):
    """A source that can tell what has changed without reading everything.

    Attributes:
        text_from: where in the source the texts were found → how many; filled while it is read.
    """

    text_from: Counter[str]

    def changes(self, since: bytes | None) -> AbstractContextManager[Changes]:
        """What has changed since a state that ``Changes.state`` gave; everything if None, or if it is of no use."""
        ...
