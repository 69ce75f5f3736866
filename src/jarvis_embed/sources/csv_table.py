"""CSV: a table with one message a row, whatever program wrote it and in whatever language its headings are.

Columns are found by their headings, or named with a column map (``--map time=Date --map text=Body``). The delimiter is
found by the csv module. A date is ISO 8601, seconds or milliseconds since 1970, has an English month name, or is three
numbers in the one order that the file proves (see ``dates``).
"""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..errors import SourceError
from ..messages import Conversation, Message
from .base import DateOrder, ReadOptions, Unreadable
from .dates import Written, order_or_refuse, read_moment, read_written, zone_of
from .textfile import BadRecord, checked_text, opened_text, owner_among, require_any, with_distinct_keys

FIELDS: Final = ("time", "text", "sender", "conversation", "is_from_me", "id", "reply_to")

# Headings in lower case and without anything but letters and digits, the likeliest first; ``+`` joins two columns.
_HEADINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "time": (
        *(
            "date+time",
            "datetime",
            "timestamp",
            "messagedate",
            "date",
            "time",
            "sentat",
            "datesent",
            "sent",
            "senttime",
        ),
        *("createdat", "created", "datum+zeit", "datum+uhrzeit", "zeitpunkt", "datum", "fecha+hora", "fecha"),
    ),
    "text": (
        "text",
        "body",
        "message",
        "content",
        "messagetext",
        "msg",
        "messagebody",
        "nachricht",
        "inhalt",
        "mensaje",
    ),
    "sender": (
        *("sendername", "sender", "from", "author", "fromname", "name", "user", "username", "senderid", "contactname"),
        *("absender", "von", "remitente"),
    ),
    "conversation": (
        *("conversation", "conversationid", "chat", "chatsession", "chatname", "chatid", "thread", "threadid"),
        *("channel", "room", "group", "contact", "address"),
    ),
    "is_from_me": ("isfromme", "fromme", "issent", "outgoing", "direction", "type"),
    "id": ("id", "messageid", "guid", "rowid", "msgid"),
    "reply_to": ("replyto", "replytoid", "inreplyto", "inreplytoid"),
}
_MINE: Final = frozenset(("1", "true", "yes", "sent", "outgoing", "out", "me", "from me", "gesendet", "enviado"))
_THEIRS: Final = frozenset(("0", "false", "no", "received", "incoming", "in", "them", "empfangen", "recibido"))

_STATED: Final = re.compile(r"^\d+$|\d[./:-]\d")
"""A number or a date: what a row of a table has, and a line of headings has not."""


@dataclass(frozen=True, slots=True)
class _Row:
    """The cells of a row that mean something, by field, and when it was sent if that is plain."""

    cells: Mapping[str, str]
    when: int | Written


class CsvSource:
    """A table of messages. A row that cannot be read is counted by its cause and skipped.

    Without a column for the conversation all rows are one; without a sender, ``is_from_me`` says who it was.

    Raises:
        SourceError: no such file, or a map of unknown fields; from ``conversations``: no heading names the text, the
            time or who sent it, the order of the dates is not proven, or no row is a message.
    """

    kind = "csv"

    def __init__(self, path: Path, options: ReadOptions) -> None:
        if not path.is_file():
            raise SourceError(f"there is no file {path}", "Give the path of a .csv file")
        unknown = sorted(set(options.columns) - set(FIELDS))
        if unknown:
            raise SourceError(f"a message has no field {unknown[0]!r}", f"Fields: {', '.join(FIELDS)}")
        self.location = str(path.absolute())
        self.unreadable: Unreadable = Counter()
        self._path = path
        self._options = options
        self._zone = zone_of(options.zone)

    def __len__(self) -> int:
        return 0

    def conversations(self) -> Iterator[Conversation]:
        """Yield conversations in the order of their first row, their messages by time, ties as in the file."""
        self.unreadable.clear()
        rows = list(self._rows())
        gathered: defaultdict[str, list[Message]] = defaultdict(list)
        dates = [row.when.date for row in rows if isinstance(row.when, Written)]
        order = order_or_refuse(dates, self._options.dates, str(self._path), oldest_first=False) if dates else "ymd"
        says_whose = any(_whose(row.cells) is not None for row in rows) or "is_from_me" in self._options.columns
        for row in rows:
            try:
                conversation, message = self._message(row, order, says_whose)
                gathered[conversation].append(message)
            except BadRecord as bad:
                self.unreadable[str(bad)] += 1
        require_any(self._path, len(gathered), self.unreadable)
        senders = (message.sender for messages in gathered.values() for message in messages)
        owner_among(senders, self._options.me, self._path)
        for key, messages in gathered.items():
            yield Conversation(key, tuple(with_distinct_keys(sorted(messages, key=lambda m: m.sent_ms))))

    def _rows(self) -> Iterator[_Row]:
        with opened_text(self._path, newline="") as file:
            head = file.readline(65_536)
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter_of(head))
            columns = find_columns(next(_cells(reader, Counter()), []), self._options.columns, self._path)
            width = max(place for places in columns.values() for place in places) + 1
            for cells in _cells(reader, self.unreadable):
                if not any(cells):
                    continue
                if len(cells) < width:
                    self.unreadable["too few columns"] += 1
                    continue
                named = {field: " ".join(cells[place] for place in places) for field, places in columns.items()}
                try:
                    yield _Row(named, read_moment(named["time"], self._zone))
                except BadRecord as bad:
                    self.unreadable[str(bad)] += 1

    def _message(self, row: _Row, order: DateOrder, says_whose: bool) -> tuple[str, Message]:
        cells = row.cells
        sent_ms = row.when if isinstance(row.when, int) else read_written(row.when, order, self._zone)
        text = checked_text(cells["text"])
        mine = _whose(cells) if says_whose else None
        if says_whose and mine is None:
            raise BadRecord("neither sent nor received")
        conversation = cells.get("conversation", "").strip()
        sender = cells.get("sender", "").strip()
        if not sender and mine is not None:
            sender = (self._options.me or "me") if mine else conversation or "them"
        if not sender:
            raise BadRecord("no sender")
        if self._options.me is not None:
            mine = sender == self._options.me
        reply_to = cells.get("reply_to", "").strip() or None
        key = cells.get("id", "").strip()
        return conversation or self._path.stem, Message(key, sender, sent_ms, text, mine, reply_to)


def delimiter_of(heading: str) -> str:
    """Comma, semicolon, tab or bar: what the csv module takes for the delimiter of the line of headings.

    Only that line is looked at: the texts of messages are full of commas.
    """
    try:
        return csv.Sniffer().sniff(heading, ",;\t|").delimiter
    except csv.Error:
        return max(",;\t|", key=heading.count)


def find_columns(headings: Sequence[str], stated: Mapping[str, str], path: Path) -> dict[str, tuple[int, ...]]:
    """Field → positions of its columns: those that were stated, else those that their headings tell.

    Raises:
        SourceError: a stated heading is not there, or none tells time, text, or sender.
    """
    places = {_plain(heading): place for place, heading in reversed(list(enumerate(headings)))}
    exact = {heading.strip(): place for place, heading in reversed(list(enumerate(headings)))}
    found: dict[str, tuple[int, ...]] = {}
    for field, heading in stated.items():
        parts = [heading] if heading in exact else heading.split("+")
        columns = [exact.get(part.strip(), places.get(_plain(part))) for part in parts]
        if any(column is None for column in columns):
            raise SourceError(f"{path} has no column {heading!r}", f"Its headings: {_listed(headings)}")
        found[field] = tuple(column for column in columns if column is not None)
    taken = {place for columns in found.values() for place in columns}
    for field, names in _HEADINGS.items():
        for name in names if field not in found else ():
            parts = name.split("+")
            if all(part in places and places[part] not in taken for part in parts):
                found[field] = tuple(places[part] for part in parts)
                taken |= set(found[field])
                break
    missing = [field for field in ("time", "text") if field not in found]
    if not missing and not found.keys() & {"sender", "is_from_me"}:
        missing = ["sender"]
    if missing:
        raise SourceError(
            f"no heading of {path} tells which column is the {missing[0]}",
            f"Say it: --map {missing[0]}=HEADING. Its headings: {_listed(headings)}",
        )
    return found


def _cells(reader: Iterator[list[str]], unreadable: Unreadable) -> Iterator[list[str]]:
    """Rows as cells; one that the csv module refuses (a cell above 131,072 characters) is counted."""
    while True:
        try:
            yield next(reader)
        except csv.Error:
            unreadable["not CSV"] += 1
        except StopIteration:
            return


def _whose(cells: Mapping[str, str]) -> bool | None:
    said = cells.get("is_from_me", "").strip().casefold()
    return True if said in _MINE else False if said in _THEIRS else None


def _plain(heading: str) -> str:
    return "".join(letter for letter in heading.casefold() if letter.isalnum())


def _listed(headings: Sequence[str]) -> str:
    """Headings as an error shows them. In a file without any, a message stands in this place, and is not shown."""
    short = [heading.strip() for heading in headings]
    if not short or any(len(heading) > 30 or not heading or _STATED.search(heading) for heading in short):
        return "the first line is not one of headings"
    return ", ".join(" ".join(heading.split()) for heading in short[:20])  # a quoted one may have several lines
