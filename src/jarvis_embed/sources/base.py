"""What every source is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Protocol

from ..messages import Conversation

Unreadable = Counter[str]
"""Cause → how many records could not be read for it. A cause never holds message text."""


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
