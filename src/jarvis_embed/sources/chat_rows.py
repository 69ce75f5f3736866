"""Rows of ``message`` → messages of one conversation, and a cause for each row that is none."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from ..messages import EPOCH_2001_MS, Conversation, Message, place_of
from .base import Unreadable
from .bodies import text_of_body
from .chat_people import ME, Chat
from .tapbacks import REMOVED, Signal, is_tapback, kind_of, quoted, standing, target_of

COLUMNS: Final[Mapping[str, str]] = {
    "ROWID": "m.ROWID",
    "guid": "m.guid",
    "text": "m.text",
    # Decoding is the dear part: the body comes only where the text may be missing or out of date.
    "attributedBody": "CASE WHEN {edited} OR m.text IS NULL OR m.text = '' THEN m.attributedBody END",
    "handle_id": "m.handle_id",
    "is_from_me": "m.is_from_me",
    "date": "m.date",
    "item_type": "m.item_type",
    "group_action_type": "m.group_action_type",
    "is_system_message": "m.is_system_message",
    "balloon_bundle_id": "m.balloon_bundle_id",
    "associated_message_guid": "m.associated_message_guid",
    "associated_message_type": "m.associated_message_type",
    "associated_message_emoji": "m.associated_message_emoji",
    "thread_originator_guid": "m.thread_originator_guid",
    "date_edited": "m.date_edited",
    "date_retracted": "m.date_retracted",
    "cache_has_attachments": "m.cache_has_attachments",
    "part_count": "m.part_count",
}
"""Column → how it is selected from ``message m``; NULL where a generation lacks it."""

MAX_CHARACTERS: Final = 1_000_000
"""A longer text is no message, and would fill the memory of everything that comes after."""

_BAD_COLUMN: Final = "a column holds what it cannot"
_BAD_TIME: Final = "no usable time"
_BAD_BODY: Final = "attributedBody not readable"
_TOO_LONG: Final = f"longer than {MAX_CHARACTERS:,} characters"
NOT_READABLE: Final = (_BAD_BODY, _BAD_TIME, _BAD_COLUMN, _TOO_LONG)
"""Causes for which a message is lost; every other row that is left out is no message, or not one any more."""

_PREVIEW: Final = "com.apple.messages.URLBalloonProvider"
_STICKER: Final = 1000
_NANOSECONDS_FROM: Final = 100_000_000_000
"""Apple counted seconds since 2001 until 2017, then nanoseconds: as seconds, this would be the year 5170."""

_LATEST_MS: Final = EPOCH_2001_MS + (1 << 41) - 1
_PLACEHOLDERS: Final = str.maketrans("", "", "\ufffc\ufffd")


class Reading:
    """The rows of one conversation while they are read.

    Attributes:
        quotes: whether a text looks like a tapback that quotes, so that what it is depends on the whole conversation.
    """

    def __init__(
        self,
        chat: Chat,
        sender: Mapping[int, str],
        recoverable: frozenset[int],
        unreadable: Unreadable,
        text_from: Counter[str],
    ) -> None:
        self._chat, self._sender, self._recoverable = chat, sender, recoverable
        self._unreadable, self._text_from = unreadable, text_from
        self._messages: list[Message] = []
        self._signals: defaultdict[str, list[Signal]] = defaultdict(list)
        self._from_body: set[str] = set()
        self.quotes = False

    def read(self, rows: Iterable[Sequence[Any]]) -> None:
        """Read rows of ``COLUMNS``, each once, in any order."""
        seen: set[int] = set()
        for row in rows:
            if row[0] in seen:
                continue
            seen.add(row[0])
            try:
                cause = self._read(*row)
            except (TypeError, ValueError, OverflowError, AttributeError):
                cause = _BAD_COLUMN
            if cause:
                self._unreadable[cause] += 1

    def _read(
        self,
        row: int,
        guid: str | None,
        text: Any,
        body: Any,
        handle: int | None,
        mine: int | None,
        date: Any,
        item: int | None,
        action: int | None,
        system: int | None,
        balloon: str | None,
        reference: str | None,
        kind: int | None,
        emoji: str | None,
        originator: str | None,
        edited: Any,
        retracted: Any,
        files: int | None,
        parts: int | None,
    ) -> str | None:
        """Keep one row; or return why it is left out."""
        if row in self._recoverable:
            return "recently deleted"
        if cause := _no_text_of_people(item or action or system, kind, balloon):
            return cause
        sent_ms = milliseconds(date)
        if sent_ms is None:
            return _BAD_TIME
        sender = ME if mine else self._sender.get(handle or 0, self._chat.other)
        if kind and is_tapback(kind):
            part, target = target_of(reference or "")
            name = kind_of(kind, emoji)
            self._signals[target].append(Signal(sender, part, name, sent_ms, row, kind in REMOVED))
            return None
        if retracted and ((parts or 0) < 2 or not body):
            return "unsent"
        found = self._text(text, body, bool(edited or retracted), bool(files))
        if isinstance(found, _Cause):
            return found
        stated, source = found
        if len(stated) > MAX_CHARACTERS:
            return _TOO_LONG
        message = Message(
            key=guid or f"row {row}",
            sender=sender,
            sent_ms=sent_ms,
            text=stated,
            is_from_me=bool(mine),
            reply_to=originator or None,
            edited_ms=milliseconds(edited),
            row=row,
        )
        self._messages.append(message)
        if source != "text":
            self._from_body.add(message.key)
        return None

    def _text(self, text: Any, body: Any, changed: bool, files: bool) -> tuple[str, str] | _Cause:
        """The text and its column. The body, where there is one: it was asked for if ``text`` may be out of date."""
        decoded = text_of_body(body) if isinstance(body, bytes) and body else None
        if decoded is not None:
            source, found = "attributedBody", decoded
        elif body:
            return _Cause(_BAD_BODY)
        else:
            source, found = "text", text if isinstance(text, str) else ""
        left = found if found.isascii() else found.translate(_PLACEHOLDERS)
        if left != found:
            left = left.strip()
        if not left.strip():
            if changed:
                return _Cause("unsent")
            return _Cause("attachment only") if found != left or files else _Cause("no text")
        return left, source

    def attach(self, chosen: Collection[int] | None, targets: Mapping[int, int]) -> None:
        """Order what was read, attach the tapbacks, and find what each reply answers.

        Args:
            chosen: the rows asked for, if not all of the conversation was read; others came with them to be attached.
            targets: row of a tapback → row of its target.
        """
        self._messages.sort(key=lambda message: place_of(message.sent_ms, message.row or 0))
        self._take_out_quoting()
        answers = answered(self._messages)
        kept = []
        for message in self._messages:
            signals = self._signals.pop(message.key, ())
            if signals or message.reply_to:
                message = replace(
                    message, tapbacks=standing(signals), reply_to=answers.get(message.key, message.reply_to)
                )
            kept.append(message)
        self._messages = kept
        from_body = sum(message.key in self._from_body for message in kept)
        self._text_from += Counter({"text": len(kept) - from_body, "attributedBody": from_body})
        for left in self._signals.values():
            for signal in left:
                if chosen is None or targets.get(signal.row, 0) in chosen:
                    self._unreadable["tapback to what was left out"] += 1

    def _take_out_quoting(self) -> None:
        """Make a text that quotes an earlier one, such as ``Liked “see you at 8”``, a signal about that one."""
        found = {m.key: quote for m in self._messages if m.text.endswith("”") and (quote := quoted(m.text))}
        self.quotes = bool(found)
        if not found:
            return
        said: dict[str, str] = {}
        kept = []
        for message in self._messages:
            quote = found.get(message.key)
            if quote and (target := said.get(quote[1].strip())):
                kind, _, removes = quote
                signal = Signal(message.sender, "0", kind, message.sent_ms, message.row or 0, removes)
                self._signals[target].append(signal)
            else:
                kept.append(message)
                said[message.text.strip()] = message.key
        self._messages = kept

    def conversation(self) -> Conversation | None:
        """What was read; None if it is nothing."""
        if not self._messages:
            return None
        chat = self._chat
        return Conversation(chat.key, tuple(self._messages), chat.people, chat.is_group, chat.name)


def _no_text_of_people(system: int | None, kind: int | None, balloon: str | None) -> str | None:
    """Why a row is neither a text nor a tapback."""
    if system:
        return "system row"
    if kind and not is_tapback(kind):
        return "sticker" if kind == _STICKER else "app message"
    return "app message" if balloon and balloon != _PREVIEW else None


class _Cause(str):
    """Why there is no text."""

    __slots__ = ()


def milliseconds(date: Any) -> int | None:
    """Apple's time, in seconds or nanoseconds since 2001, as milliseconds since 1970; None if it is none."""
    if isinstance(date, float) and date == date and abs(date) < 1e19:
        date = int(date)
    if not isinstance(date, int) or date <= 0:
        return None
    sent_ms = EPOCH_2001_MS + (date // 1_000_000 if date >= _NANOSECONDS_FROM else date * 1000)
    return sent_ms if sent_ms <= _LATEST_MS else None


def answered(messages: Sequence[Message]) -> dict[str, str]:
    """Key of a reply → key of the message that it answers, in messages whose ``reply_to`` names a thread's first one.

    Messages lets people reply within a thread, and writes down the first message of it each time. Who has not spoken
    in the thread so far answers that one; later, what somebody else said in the thread since; and who goes on
    without that answers the same as before.
    """
    first = {message.key: message for message in messages}
    threads: defaultdict[str, list[Message]] = defaultdict(list)
    answers: dict[str, str] = {}
    for message in messages:
        if (origin := message.reply_to) is None:
            continue
        thread = threads[origin]
        if not thread and origin in first:
            thread.append(first[origin])
        before = [m for m in thread if m.sender == message.sender]
        since = thread[thread.index(before[-1]) + 1 :] if before else []
        others = [m.key for m in since if m.sender != message.sender]
        if not before:
            answers[message.key] = origin
        elif others:
            answers[message.key] = others[-1]
        else:
            answers[message.key] = answers.get(before[-1].key, origin)
        thread.append(message)
    return answers
