"""What the program imessage-exporter writes with ``--format txt``: one text file a conversation, in one folder.

    May 17, 2022  5:29:42 PM (Read by you after 1 hour, 49 seconds)
    Anna
    lunch?
    Tapbacks:
    Loved by Me

    May 17, 2022  5:31:00 PM
    Me
    sure, when?
    This message responded to an earlier message.

A reply stands twice: indented below what it answers, and in its own place. It is read in its own place; the other one
tells which message it answers. The owner is called ``Me`` (or what its option ``--custom-name`` says: give that as
``--me``). Edits are listed one below the other, and the last one is the text. Left out and counted: notices, unsent
and deleted messages, attachments without text.

Facts of the format: https://github.com/ReagentX/imessage-exporter, its documentation and its exports up to 4.2.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from ..errors import SourceError
from ..messages import Conversation, Message
from .base import ReadOptions, Unreadable
from .dates import NAMED, read_named, zone_of
from .textfile import BadRecord, checked_text, opened_text, owner_among, require_any, with_distinct_keys

OWNER: Final = "Me"
ORPHANED: Final = "orphaned.txt"
"""Messages of no conversation; there is nothing to learn from them about answers."""

_WHEN: Final = rf"(?P<indent> *){NAMED}"
_HEADER: Final = re.compile(rf"{_WHEN}(?: \(Read by .*\))?\n?", re.IGNORECASE)
_NOTICE: Final = re.compile(rf"{_WHEN} \S.*\n?", re.IGNORECASE)
_EDIT: Final = re.compile(r"\s*Edited .{1,60}? later: (.*)", re.DOTALL)
_UNSENT: Final = re.compile(r".{1,80} (?:deleted|unsent) (?:a|the .{1,30} part of a) message(?: part)?.{0,60}[.!]")
_DELETED: Final = "This message was deleted from the conversation!"
_RESPONDED: Final = "This message responded to an earlier message."
_TAPBACKS: Final = ("Tapbacks:", "Reactions:")
_PATH: Final = re.compile(r"(?:~?/|\.{0,2}/?attachments/|[A-Za-z]:\\)\S.*\.\w{2,5}")
_MADE: Final = re.compile(
    r"Sent with [A-Z][\w ]{2,20}|Attachment missing!|.{0,40}Sticker from .+|Unable to format app message: .+|"
    r"SharePlay Message|Handwritten messages are not yet supported!"
)
_LONGEST_HEADER: Final = 1000
_NO_TEXT: Final = "attachment or app without text"


_Kind = Literal["preamble", "message", "reply", "rest", "notice"]


@dataclass(frozen=True, slots=True)
class _Section:
    """Lines of one kind: a message, a reply that stands indented in it, the rest of the message after that …"""

    kind: _Kind
    sent_ms: int = 0
    lines: list[str] = field(default_factory=list)

    @property
    def sender(self) -> str:
        """The line below a header."""
        return self.lines[0].strip() if self.lines else ""


@dataclass(frozen=True, slots=True)
class _Block:
    """A message as it stands: its text with what the exporter added, and the replies to it (when, by whom)."""

    sent_ms: int
    sender: str
    lines: list[str]
    replies: list[tuple[int, str]] = field(default_factory=list)


def begins_message(line: str) -> bool:
    """Whether a line looks like the first of a message in such a file."""
    return _HEADER.fullmatch(line) is not None


class IMessageExportSource:
    """A folder of exported conversations, or one of its files.

    Raises:
        SourceError: nothing there; from ``conversations``: the owner wrote in none of them, or no message was found.
    """

    kind = "imessage-exporter"

    def __init__(self, path: Path, options: ReadOptions) -> None:
        self._files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
        self._files = [file for file in self._files if file.is_file()]
        if not self._files:
            raise SourceError(f"there is no exported conversation in {path}", "Give the folder with the .txt files")
        self.location = str(path.absolute())
        self.unreadable: Unreadable = Counter()
        self._path, self._me = path, options.me
        self._zone = zone_of(options.zone)

    def __len__(self) -> int:
        return len(self._files)

    def conversations(self) -> Iterator[Conversation]:
        """Yield a conversation for each file, its messages by time, ties as in the file."""
        self.unreadable.clear()
        senders: list[str] = []
        for file in self._files:
            with opened_text(file) as lines:
                messages = list(self._messages(lines))
            if file.name == ORPHANED and messages:
                self.unreadable["in no conversation"] += len(messages)
            elif messages:
                senders += [message.sender for message in messages]
                yield Conversation(file.stem, tuple(messages))
        require_any(self._path, len(senders), self.unreadable)
        owner_among(senders, self._me, self._path)

    def _messages(self, lines: Iterable[str]) -> list[Message]:
        """The messages of a file, in order, each with a key and the key of the message that it answers."""
        found: list[tuple[Message, list[tuple[int, str]]]] = []
        for block in self._blocks(lines):
            try:
                message = self._message(block)
            except BadRecord as bad:
                self.unreadable[str(bad)] += 1
            else:
                found.append((message, block.replies))
        found.sort(key=lambda pair: pair[0].sent_ms)
        keyed = list(with_distinct_keys(message for message, _ in found))
        answered = {reply: message.key for message, (_, replies) in zip(keyed, found, strict=True) for reply in replies}
        return [replace(m, reply_to=answered.get((m.sent_ms, m.sender))) for m in keyed]

    def _message(self, block: _Block) -> Message:
        if not block.sender:
            raise BadRecord("no sender")
        if _DELETED in block.lines[:1]:
            raise BadRecord("deleted")
        text = checked_text(_text_of(block.lines))
        return Message("", block.sender, block.sent_ms, text, block.sender == (self._me or OWNER))

    def _blocks(self, lines: Iterable[str]) -> Iterator[_Block]:
        """Yield each message of the file; notices are counted."""
        block: _Block | None = None
        for section in self._sections(lines):
            if block is not None and section.kind == "reply":
                block.replies.append((section.sent_ms, section.sender))
            elif block is not None and section.kind == "rest":
                block.lines.extend(section.lines)
            elif section.kind in ("message", "notice"):
                if block is not None:
                    yield block
                block = _Block(section.sent_ms, section.sender, section.lines[1:])
                if section.kind == "notice":
                    block = None
                    self.unreadable["notice"] += 1
            elif any(section.lines):
                self.unreadable["before the first message"] += 1
        if block is not None:
            yield block

    def _sections(self, lines: Iterable[str]) -> Iterator[_Section]:
        section, after_blank = _Section("preamble"), True
        for line in lines:
            begun = self._begun(line, after_blank) if len(line) < _LONGEST_HEADER else None
            after_blank = not line.strip()
            if begun is None and after_blank and section.kind == "reply":
                begun = _Section("rest")
            if begun is not None:
                yield section
                section = begun
            else:
                section.lines.append(line.rstrip("\n"))
        yield section

    def _begun(self, line: str, after_blank: bool) -> _Section | None:
        """What begins with this line, if anything; a header follows a blank line, so a date amid a text is none."""
        header = _HEADER.fullmatch(line)
        try:
            if header is not None and (after_blank or header["indent"]):
                return _Section("reply" if header["indent"] else "message", self._read(header))
            if after_blank and not line.startswith(" ") and (notice := _NOTICE.fullmatch(line)) is not None:
                return _Section("notice", self._read(notice))
        except BadRecord:
            pass  # the 31st of February is text
        return None

    def _read(self, header: re.Match[str]) -> int:
        _indent, *when = header.groups()
        return read_named(when, self._zone)


def _text_of(lines: list[str]) -> str:
    """The text of a message, without what the exporter added.

    Raises:
        BadRecord: nothing is left.
    """
    kept: list[str] = []
    skipping = False  # the lines below "Tapbacks:", up to a blank one
    added = False
    for line in lines:
        if skipping and line.strip():
            continue
        skipping = line.strip() in _TAPBACKS
        if skipping or line.strip() == _RESPONDED:
            continue
        if _PATH.fullmatch(line.strip()) or _MADE.fullmatch(line.strip()):
            added = True
            continue
        kept.append(line)
    text = _last_edit("\n".join(kept).strip("\n"))
    if _UNSENT.fullmatch(text):
        raise BadRecord("unsent")
    if not text.strip() and added:
        raise BadRecord(_NO_TEXT)
    return text


def _last_edit(text: str) -> str:
    """An edited text stands as ``DATE first version`` and then ``Edited … later: next version``, line by line."""
    if _NOTICE.fullmatch(text.split("\n", 1)[0]) is None:
        return text
    versions: list[list[str]] = []
    for line in text.split("\n"):
        if (edit := _EDIT.fullmatch(line)) is not None:
            versions.append([edit[1]])
        elif versions:
            versions[-1].append(line)
    return "\n".join(versions[-1]) if versions else text
