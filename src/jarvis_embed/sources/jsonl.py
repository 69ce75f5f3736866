"""JSON Lines: the plain way in for any history, optionally gzip-compressed.

One message a line::

    {"conversation": "anna", "sender": "Anna", "time": "2026-03-01T12:00:00Z", "text": "lunch?"}

or one conversation a line, with the same fields in its messages::

    {"id": "anna", "messages": [{"sender": "Anna", "time": 1772366400, "text": "lunch?"}]}

``time`` is ISO 8601 (UTC where no zone is given) or seconds since 1970. Optional per message: ``id`` (then an edit
is seen as one), ``is_from_me`` (true or false), ``reply_to`` (the ``id`` it answers). ``from`` is read as ``sender``.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from ..errors import SourceError
from ..messages import Conversation, Message
from .base import Unreadable
from .textfile import BadRecord, with_distinct_keys


class JsonlSource:
    """A file of messages. A line that cannot be read is counted by its cause and skipped.

    Args:
        me: the sender who is the owner; overrides ``is_from_me`` of the file.

    Raises:
        SourceError: the file cannot be opened; from ``conversations``, if no line of it could be read.
    """

    kind = "jsonl"

    def __init__(self, path: Path, me: str | None = None) -> None:
        if not path.is_file():
            raise SourceError(f"there is no file {path}", "Give the path of a .jsonl file")
        self.location = str(path.absolute())
        self.unreadable: Unreadable = Counter()
        self._path = path
        self._me = me

    def __len__(self) -> int:
        return 0

    def conversations(self) -> Iterator[Conversation]:
        """Yield conversations in the order of their first line, their messages by time, ties as in the file."""
        gathered: defaultdict[str, list[Message]] = defaultdict(list)
        self.unreadable.clear()
        for conversation, stated in self._stated_messages():
            try:
                gathered[conversation].append(self._message(stated))
            except BadRecord as bad:
                self.unreadable[str(bad)] += 1
        if not any(gathered.values()) and self.unreadable:
            causes = ", ".join(f"{cause} ({count})" for cause, count in self.unreadable.most_common(3))
            raise SourceError(f"no message in {self._path} could be read: {causes}", "See the README for the format")
        for key, messages in gathered.items():
            if messages:
                yield Conversation(key, tuple(with_distinct_keys(sorted(messages, key=lambda m: m.sent_ms))))

    def _stated_messages(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for line in self._lines():
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                self.unreadable["not JSON"] += 1
                continue
            if not isinstance(record, dict):
                self.unreadable["not an object"] += 1
            elif isinstance(record.get("messages"), list):
                for stated in record["messages"]:
                    yield str(record.get("id", "")), stated
            else:
                yield str(record.get("conversation", "")), record

    def _lines(self) -> Iterator[bytes]:
        try:
            with _open(self._path) as file:
                yield from (line for line in file if line.strip())
        except (OSError, EOFError) as error:
            raise SourceError(f"{self._path} cannot be read ({type(error).__name__})", "Check the file") from error

    def _message(self, stated: Any) -> Message:
        if not isinstance(stated, dict):
            raise BadRecord("message is not an object")
        text, sender = stated.get("text"), stated.get("sender", stated.get("from"))
        if not isinstance(text, str):
            raise BadRecord("no text")
        if not text.strip():
            raise BadRecord("empty text")
        if not isinstance(sender, str) or not sender:
            raise BadRecord("no sender")
        mine = stated.get("is_from_me")
        if self._me is not None:
            mine = sender == self._me
        elif mine is not None and not isinstance(mine, bool):
            raise BadRecord("is_from_me is not true or false")
        key, reply_to = stated.get("id"), stated.get("reply_to")
        return Message(
            key="" if key is None else str(key),
            sender=sender,
            sent_ms=_milliseconds(stated.get("time")),
            text=text,
            is_from_me=mine,
            reply_to=None if reply_to is None else str(reply_to),
        )


def _open(path: Path) -> IO[bytes] | gzip.GzipFile:
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if compressed else path.open("rb")


def _milliseconds(time: Any) -> int:
    try:
        if isinstance(time, str):
            moment = datetime.fromisoformat(time)
            return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
        if isinstance(time, int | float) and not isinstance(time, bool) and abs(time) < 1e11:
            return round(time * 1000)
    except (ValueError, OverflowError):
        pass
    raise BadRecord("no usable time")
