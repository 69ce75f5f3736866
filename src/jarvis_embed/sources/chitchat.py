"""The chitchat corpus as a history: 7,168 real two-person chats in the package ``chitchat-dataset`` (MIT).

Source of the data: Myers, Etchart and Fulda, "Conversational Scaffolding: An Analogy-Based Approach to Response
Prioritization in Open-Domain Dialogs", 2020.
"""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, get_args

from ..errors import SourceError
from ..messages import Conversation, Message
from .base import Unreadable

Split = Literal["train", "validation", "sealed"]
SPLITS: Final = (*get_args(Split), "all")


def split_of(conversation: str) -> Split:
    """The part that a conversation belongs to, by the first hex digit of its id.

    ``f`` is the sealed test and ``e`` is validation. Nothing is ever trained, tuned, labelled, mined or
    calibrated on the sealed part.
    """
    return {"f": "sealed", "e": "validation"}.get(conversation[:1], "train")  # type: ignore[return-value]


class ChitchatSource:
    """Conversations of one split, or those of one participant in it.

    Args:
        me: sender id of the owner. Only the owner's conversations are read then, and only the owner's replies
            become responses; without it both sides' replies count.
        split: one of ``SPLITS``.

    Raises:
        SourceError: the package is not installed, or no such split or participant.
    """

    kind = "chitchat"

    def __init__(self, me: str | None = None, split: str = "train") -> None:
        if split not in SPLITS:
            raise SourceError(f"chitchat has no part {split!r}", f"Parts: {', '.join(SPLITS)}")
        self.location = "chitchat-dataset"  # one history, whichever part of it is looked at
        self.unreadable: Unreadable = Counter()
        self._me = me
        self._records = {
            key: record for key, record in _read_corpus().items() if split == "all" or split_of(key) == split
        }
        if me is not None:
            self._records = {key: record for key, record in self._records.items() if me in _senders(record)}
            if not self._records:
                raise SourceError(
                    f"nobody in this part of chitchat has the id {me}", "Check the id, or try --split all"
                )

    def __len__(self) -> int:
        return len(self._records)

    def conversations(self) -> Iterator[Conversation]:
        """Yield each conversation; the corpus keeps its messages in the order of sending."""
        for key, record in self._records.items():
            yield Conversation(key, tuple(self._messages(record)), rating=_rating(record.get("ratings")))

    def _messages(self, record: dict[str, Any]) -> Iterator[Message]:
        position = 0
        for utterances in record["messages"]:
            for utterance in utterances:
                if not utterance["text"].strip():
                    self.unreadable["empty text"] += 1
                else:
                    sender = utterance["sender"]
                    mine = None if self._me is None else sender == self._me
                    sent_ms = _milliseconds(utterance["timestamp"])
                    yield Message(str(position), sender, sent_ms, utterance["text"], mine)
                position += 1


def _read_corpus() -> dict[str, dict[str, Any]]:
    found = importlib.util.find_spec("chitchat_dataset")
    if found is None or found.origin is None:
        raise SourceError("the chitchat corpus is not installed", "Install it: pip install chitchat-dataset")
    # The package's own loader opens the file in the encoding of the locale and leaves it open.
    with (Path(found.origin).parent / "dataset.json").open(encoding="utf-8") as file:
        corpus: dict[str, dict[str, Any]] = json.load(file)
    return corpus


def _rating(given: dict[str, float] | None) -> float | None:
    """The mean of how witty, upbeat and interesting a participant found the conversation, 1 to 10, as 0 to 1."""
    if not given:
        return None
    return min(max((sum(given.values()) / len(given) - 1) / 9, 0.0), 1.0)


def _senders(record: dict[str, Any]) -> set[str]:
    return {utterance["sender"] for utterances in record["messages"] for utterance in utterances}


def _milliseconds(timestamp: str) -> int:
    """ISO 8601; the corpus has times with and without a zone, and means UTC by both."""
    time = datetime.fromisoformat(timestamp)
    return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)
