"""WhatsApp's "Export chat": a text file of one conversation, as iOS and Android write it.

    [13/06/2023, 21:04:05] Anna: lunch?            iOS, ``_chat.txt``
    13/06/2023, 9:04 pm - Anna: lunch?             Android, ``WhatsApp Chat with Anna.txt``

The dates are those of the phone's language and say no order (see ``dates``). A line that begins with no date goes on
the message before it. What the app wrote itself is left out and counted: notices, attachments, deleted messages. On
iOS such a text begins with a left-to-right mark, whatever the language; on Android it is known by its shape or, for
deleted messages, by its words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..errors import SourceError
from ..messages import Conversation, Message
from .base import ReadOptions, Unreadable
from .dates import DATE, TIME, Numbers, Written, order_or_refuse, read_written, zone_of
from .textfile import BadRecord, checked_text, opened_text, owner_among, require_any, with_distinct_keys

CHAT_FILE: Final = "_chat.txt"

_LRM: Final = "\u200e"
_WHEN: Final = rf"{DATE},?\s+(?:[^\W\d]+\.?\s+)?{TIME}"
_HEADERS: Final = (
    re.compile(rf"[\u200e\u200f\ufeff]*\[{_WHEN}\]\s"),
    re.compile(rf"[\u200e\u200f\ufeff]*{_WHEN}\s-\s"),
)
_SENDER: Final = re.compile(r"([^:]{1,80}): ?(.*)", re.DOTALL)
_INVISIBLE: Final = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_QUOTES: Final = re.compile('["“”„«»]')
"""A name has none; a notice such as ``Anna changed the subject to "Trip: May"`` has."""

_MARKED: Final = re.compile("\u200e<[^<>\n]*>")
"""What iOS adds to a text: an attachment's name, or that it was edited."""

_EDITED: Final = re.compile(r"\s*<[^<>\n]*\b(?:edited|bearbeitet|editó|editado|modifié|modificato|bewerkt)\b[^<>\n]*>$")
_PLACEHOLDER: Final = re.compile(r"<[^<>\n]{3,60}>")
_ATTACHED: Final = re.compile(r"\A[^\s/]+\.\w{2,5} \([^()\n]{3,40}\)(?:\n|$)")
_GONE: Final = re.compile(
    r"(?:This message was deleted|You deleted this message|Diese Nachricht wurde gelöscht|"
    r"Du hast diese Nachricht gelöscht|Se eliminó este mensaje|Eliminaste este mensaje|Este mensaje fue eliminado|"
    r"Ce message a été supprimé|Vous avez supprimé ce message|Esta mensagem foi apagada|Mensagem apagada|"
    r"Você apagou esta mensagem|Questo messaggio è stato eliminato|Hai eliminato questo messaggio|"
    r"Dit bericht is verwijderd|U hebt dit bericht verwijderd|null)\.?"
)
_TITLE: Final = re.compile(r"WhatsApp[ -]Chat (?:-|\w+) (.+)", re.IGNORECASE)
_NOTICE: Final = "notice or attachment of the app"


@dataclass(frozen=True, slots=True)
class _Block:
    """A header, and what stands between it and the next."""

    when: Written
    text: str


def begins_message(line: str) -> bool:
    """Whether a line looks like the first of a message in such a file."""
    return _header(line) is not None


class WhatsAppSource:
    """One exported chat: the text file, or the folder of an unpacked export with its ``_chat.txt``.

    Raises:
        SourceError: no such file; from ``conversations``: the order of its dates is not proven, nobody in it is
            called ``options.me``, or nothing in it is a message.
    """

    kind = "whatsapp"

    def __init__(self, path: Path, options: ReadOptions) -> None:
        self._path = path / CHAT_FILE if path.is_dir() else path
        if not self._path.is_file():
            raise SourceError(f"there is no file {self._path}", f"Give an exported chat: {CHAT_FILE} or the .txt file")
        self.location = str(self._path.absolute())
        self.unreadable: Unreadable = Counter()
        self._options = options
        self._zone = zone_of(options.zone)

    def __len__(self) -> int:
        return 1

    def conversations(self) -> Iterator[Conversation]:
        """Yield the chat; messages of one minute stay in the order of the file."""
        self.unreadable.clear()
        with opened_text(self._path) as file:
            blocks = list(_blocks(file, self.unreadable))
        messages = sorted(self._messages(blocks), key=lambda message: message.sent_ms)
        require_any(self._path, len(messages), self.unreadable)
        owner_among((message.sender for message in messages), self._options.me, self._path)
        if messages:
            yield Conversation(_title(self._path), tuple(with_distinct_keys(messages)))

    def _messages(self, blocks: Sequence[_Block]) -> Iterator[Message]:
        if not blocks:
            return
        order = order_or_refuse((block.when.date for block in blocks), self._options.dates, str(self._path))
        me = self._options.me
        for block in blocks:
            try:
                sent_ms = read_written(block.when, order, self._zone)
                sender, text = _said(block.text)
                yield Message("", sender, sent_ms, checked_text(text), None if me is None else sender == me)
            except BadRecord as bad:
                self.unreadable[str(bad)] += 1


def _header(line: str) -> re.Match[str] | None:
    start = line[:100]  # a line of many megabytes costs nothing
    return next(filter(None, (header.match(start) for header in _HEADERS)), None)


def _blocks(lines: Iterable[str], unreadable: Unreadable) -> Iterator[_Block]:
    """Yield each header with all the text up to the next one."""
    begun: re.Match[str] | None = None
    text: list[str] = []
    for line in lines:
        header = _header(line)
        if header is not None:
            if begun is not None:
                yield _block(begun, text)
            begun, text = header, [line[header.end() :]]
        elif begun is not None:
            text.append(line)
        elif line.strip():
            unreadable["before the first message"] += 1
    if begun is not None:
        yield _block(begun, text)


def _block(header: re.Match[str], text: list[str]) -> _Block:
    first, second, third, hour, minute, later, half = header.groups()
    written = Written(Numbers.of((first, second, third)), (hour, minute, later, half))
    return _Block(written, "".join(text).rstrip("\n"))


def _said(block: str) -> tuple[str, str]:
    """Sender and text of a message.

    Raises:
        BadRecord: the app wrote it.
    """
    found = _SENDER.match(block)
    if found is None or _QUOTES.search(found[1]) or "\n" in found[1]:
        raise BadRecord(_NOTICE)
    sender = _INVISIBLE.sub("", found[1]).strip().removeprefix("~").strip()
    marked = _MARKED.sub("", found[2]).rstrip()
    text = _ATTACHED.sub("", _EDITED.sub("", _INVISIBLE.sub("", marked)), count=1)
    if _GONE.fullmatch(text.strip()):
        raise BadRecord("deleted")
    if marked.startswith(_LRM) or _PLACEHOLDER.fullmatch(text.strip()) or (found[2].strip() and not text.strip()):
        raise BadRecord(_NOTICE)
    if not sender:
        raise BadRecord("no sender")
    return sender, text


def _title(path: Path) -> str:
    """The name of the chat, from that of the file or, for ``_chat.txt``, of its folder."""
    name = path.absolute().parent.name if path.name == CHAT_FILE else path.stem
    found = _TITLE.fullmatch(name)
    return found[1] if found else name
