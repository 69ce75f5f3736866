"""Text files of unknown making: their encoding, and what every reader of exports does with a message.

Bytes that the encoding does not allow become lone surrogates (``surrogateescape``), so that reading goes on and the
one record that holds them is counted as ``not UTF-8``.
"""

from __future__ import annotations

import codecs
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, TextIO

from ..errors import SourceError
from ..messages import Message
from .base import Unreadable

LONGEST: Final = 1_000_000
"""Characters of a message; a longer one is a damaged file, not something that a person wrote."""

_ESCAPED: Final = re.compile("[\udc80-\udcff]")
_MARKS: Final = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


class BadRecord(Exception):
    """Why a record is left out; never raised out of ``sources``. Its text never holds that of a message."""


def encoding_of(head: bytes) -> str:
    """UTF-8 or UTF-16, by the byte order mark or by where the zero bytes of the first characters stand."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    sample = head[:4096]
    if len(sample) >= 4 and sample[1::2].count(0) > len(sample) // 4:
        return "utf-16-le"
    if len(sample) >= 4 and sample[::2].count(0) > len(sample) // 4:
        return "utf-16-be"
    return "utf-8"


@contextmanager
def opened_text(path: Path, newline: str | None = None) -> Iterator[TextIO]:
    """Open a text file for reading, whatever its encoding.

    Raises:
        SourceError: it cannot be read; also for what goes wrong while it is open.
    """
    try:
        with path.open("rb") as file:
            encoding = encoding_of(file.read(4096))
        # UTF-16 has no way to escape a bad pair of bytes; it becomes U+FFFD, which normalise() takes out.
        errors = "surrogateescape" if encoding.startswith("utf-8") else "replace"
        with path.open(encoding=encoding, errors=errors, newline=newline) as text:
            yield text
    except (OSError, UnicodeError) as error:
        raise SourceError(f"{path} cannot be read ({type(error).__name__})", "Check the file") from error


def checked_text(text: str) -> str:
    """``text``, if it is the text of a message.

    Raises:
        BadRecord: says what it is instead.
    """
    if len(text) > LONGEST:
        raise BadRecord(f"longer than {LONGEST:,} characters")
    if not text.strip():
        raise BadRecord("empty text")
    if not text.isascii() and _ESCAPED.search(text):
        raise BadRecord("not UTF-8")
    return text


def require_any(path: Path, messages: int, unreadable: Unreadable) -> None:
    """Raise if a file of which something could not be read held nothing else.

    Raises:
        SourceError: with the commonest causes.
    """
    if not messages and unreadable:
        causes = ", ".join(f"{cause} ({count})" for cause, count in unreadable.most_common(3))
        raise SourceError(f"no message in {path} could be read: {causes}", "See the README for the formats")


def owner_among(senders: Iterable[str], me: str | None, path: Path) -> None:
    """Check that the owner who was named wrote something: with a misspelt name nothing would be a reply.

    Raises:
        SourceError: names who wrote most. A name that occurs once may be a piece of a message, and is not shown.
    """
    counts = Counter(senders)
    if me is not None and counts and me not in counts:
        known = [name for name, number in counts.most_common(8) if number > 1]
        hint = f": {', '.join(known)}" if known else ""
        raise SourceError(f"nobody in {path} is called {me}", f"Give --me as it stands there{hint}")


def with_distinct_keys(messages: Iterable[Message]) -> Iterator[Message]:
    """Give a message without an id one made of what it is; equal ones are told apart by their count."""
    seen: Counter[str] = Counter()
    for message in messages:
        key = message.key or _digest(message)
        seen[key] += 1
        yield replace(message, key=key if seen[key] == 1 else f"{key}#{seen[key]}")


def _digest(message: Message) -> str:
    stated = f"{message.sender}\0{message.sent_ms}\0{message.text}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(stated, digest_size=12).hexdigest()
