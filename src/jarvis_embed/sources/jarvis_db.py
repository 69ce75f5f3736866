"""The host assistant's ``jarvis.db``: its table ``pairs`` of what people wrote and how the owner answered.

A pair becomes two messages, the second a reply to the first, so that it is the same pair here. A pair that the host
holds out of training (``is_holdout``) is held out here; its contact gives the conversation its name and people; what it
has flagged as nothing but an attachment is left out; how good a reply it finds the response, and its flags, are kept
with the response. What was said between the pairs is not in that table, but for what stands in ``context_text``: that
becomes a message of nobody in particular right before the trigger, without the lines that are messages already.
"""

from __future__ import annotations

import json
import math
import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ..messages import EARLIER, Conversation, Message
from ..text import folded
from .base import Unreadable
from .chat_people import ME
from .database import columns_of, opened, require

NEEDED: Final = {"pairs": ("trigger_text", "response_text")}
"""Without these a database is not the host's; every other column may be missing."""

_COLUMNS: Final = (
    "id",
    "trigger_text",
    "response_text",
    "trigger_timestamp",
    "response_timestamp",
    "chat_id",
    "contact_id",
    "trigger_msg_id",
    "response_msg_id",
    "is_group",
    "is_holdout",
    "flags_json",
    "quality_score",
    "context_text",
)
_CONTACT_COLUMNS: Final = ("id", "display_name", "phone_or_email", "handles_json")

_SPEAKER: Final = re.compile(r"^\[(You|Them)\]: ")
"""How the host writes whose turn it is, before the first line of each turn of a context."""


@dataclass(frozen=True, slots=True)
class _Contact:
    name: str | None
    handles: tuple[str, ...]


class JarvisDbSource:
    """The pairs of a host assistant; opened to read only, each time it is read.

    Raises:
        SourceMissing, SourceNotPermitted, SourceLocked, SourceDamaged: as they say; also while it is read.
        SourceForeign: not a database of the host.
    """

    kind = "jarvis.db"

    def __init__(self, path: Path) -> None:
        self.location = str(path.absolute())
        self.unreadable: Unreadable = Counter()
        self._path = path
        with opened(path) as db:
            require(path, db, "a database of Jarvis", NEEDED)

    def __len__(self) -> int:
        return 0

    def conversations(self) -> Iterator[Conversation]:
        """Yield every conversation that has a pair, its messages by time."""
        self.unreadable.clear()
        chats: defaultdict[str, dict[str, Message]] = defaultdict(dict)
        about: dict[str, tuple[_Contact | None, bool | None]] = {}
        with opened(self._path) as db:
            require(self._path, db, "a database of Jarvis", NEEDED)
            contacts = _contacts(db)
            known = columns_of(db, "pairs")
            wanted = ", ".join(column if column in known else "NULL" for column in _COLUMNS)
            for row in db.execute(f"SELECT {wanted}, rowid FROM pairs ORDER BY rowid"):  # noqa: S608
                try:
                    pair = _Pair(*row)
                    contact = contacts.get(pair.contact_id)
                    trigger, response = pair.messages(contact)
                except _BadRow as bad:
                    self.unreadable[str(bad)] += 1
                    continue
                chat = str(pair.chat_id or (f"contact {pair.contact_id}" if pair.contact_id is not None else "unknown"))
                group = None if pair.is_group is None else bool(pair.is_group)
                about.setdefault(chat, (contact, group))
                if response.key in chats[chat] or trigger.key in chats[chat]:
                    trigger, response = pair.apart(trigger, response)
                chats[chat] |= {m.key: m for m in (pair.context(trigger), trigger, response)}
        for chat, messages in chats.items():
            contact, group = about[chat]
            ordered = tuple(_ordered(messages.values()))
            yield Conversation(
                chat, ordered, contact.handles if contact else (), group, contact.name if contact else None
            )


def _ordered(messages: Iterable[Message]) -> Iterator[Message]:
    """Messages by time; of each context, only those lines that were not said before."""
    said: set[str] = set()
    for message in sorted(messages, key=lambda message: (message.sent_ms, message.sender == EARLIER)):
        lines = message.text.splitlines()
        if message.sender == EARLIER:
            lines = [line for line in lines if folded(line) and folded(line) not in said]
            if not lines:
                continue
            message = replace(message, text="\n".join(lines))
        said.update(map(folded, lines))
        yield message


@dataclass(frozen=True, slots=True)
class _Pair:
    """A row of ``pairs``: ``_COLUMNS``, and its rowid."""

    id: Any
    trigger_text: Any
    response_text: Any
    trigger_timestamp: Any
    response_timestamp: Any
    chat_id: Any
    contact_id: Any
    trigger_msg_id: Any
    response_msg_id: Any
    is_group: Any
    is_holdout: Any
    flags_json: Any
    quality_score: Any
    context_text: Any
    rowid: int

    def messages(self, contact: _Contact | None) -> tuple[Message, Message]:
        """Trigger and response; a later response than its trigger where a time is missing."""
        if not isinstance(self.trigger_text, str) or not isinstance(self.response_text, str):
            raise _BadRow("no text")
        if not self.trigger_text.strip() or not self.response_text.strip():
            raise _BadRow("empty text")
        flags = _flags(self.flags_json)
        if "attachment_only" in flags:
            raise _BadRow("attachment only")
        first, second = milliseconds(self.trigger_timestamp), milliseconds(self.response_timestamp)
        if first is None and second is None:
            raise _BadRow("no usable time")
        first = first if first is not None else (second or 0) - 1
        second = max(second if second is not None else first, first + 1)
        sender = (
            contact.handles[0] if contact and contact.handles else str(self.chat_id or self.contact_id or "unknown")
        )
        key = self.trigger_msg_id if self.trigger_msg_id is not None else f"pair {self.rowid} trigger"
        answer = self.response_msg_id if self.response_msg_id is not None else f"pair {self.rowid} response"
        held = bool(self.is_holdout)
        trigger = Message(str(key), sender, first, self.trigger_text, False, holdout=held)
        response = Message(str(answer), ME, second, self.response_text, True, str(key), holdout=held)
        return trigger, replace(response, quality=_quality(self.quality_score), flags=flags)

    def context(self, trigger: Message) -> Message:
        """What was said before the trigger, by whomever; empty where the host does not know."""
        text = self.context_text if isinstance(self.context_text, str) else ""
        lines = "\n".join(_SPEAKER.sub("", line) for line in text.splitlines())
        key = f"pair {self.rowid} context"
        return Message(key, EARLIER, trigger.sent_ms - 1, lines, False, holdout=trigger.holdout)

    def apart(self, trigger: Message, response: Message) -> tuple[Message, Message]:
        """The same two under keys of their own: another pair of the chat has one of theirs."""
        key = f"pair {self.rowid} trigger"
        return replace(trigger, key=key), replace(response, key=f"pair {self.rowid} response", reply_to=key)


class _BadRow(Exception):
    """Why a row is left out; never raised out of this file."""


def _contacts(db: sqlite3.Connection) -> dict[Any, _Contact]:
    known = columns_of(db, "contacts")
    if "id" not in known:
        return {}
    wanted = ", ".join(column if column in known else "NULL" for column in _CONTACT_COLUMNS)
    contacts = {}
    for identity, name, handle, handles in db.execute(f"SELECT {wanted} FROM contacts"):  # noqa: S608
        named = dict.fromkeys(str(value) for value in (handle, *_list(handles)) if value)
        contacts[identity] = _Contact(str(name) if name else None, tuple(named))
    return contacts


def _list(stated: Any) -> list[str]:
    found = _parsed(stated)
    return [value for value in found if isinstance(value, str)] if isinstance(found, list) else []


def _flags(stated: Any) -> tuple[str, ...]:
    """What is true of a pair, sorted; measured values, and words out of the messages, stand there too and are none."""
    found = _parsed(stated)
    true = [flag for flag, value in found.items() if value is True] if isinstance(found, dict) else _list(stated)
    return tuple(sorted(set(true)))


def _quality(stated: Any) -> float | None:
    known = isinstance(stated, int | float) and math.isfinite(stated)
    return min(max(float(stated), 0.0), 1.0) if known else None


def _parsed(stated: Any) -> Any:
    try:
        return json.loads(stated) if isinstance(stated, str) else None
    except (ValueError, RecursionError):
        return None


def milliseconds(time: Any) -> int | None:
    """The host writes times as ISO 8601 (UTC where no zone is given); seconds since 1970 are understood, too."""
    try:
        if isinstance(time, str):
            moment = datetime.fromisoformat(time)
            return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
        if isinstance(time, int | float) and abs(time) < 1e11:
            return round(time * 1000)
    except (ValueError, OverflowError):
        pass
    return None
