"""What a text says beside its vector: which words it has and where, how it ends, how long it is.

A sentence vector tells what a text is about; whether it asks, thanks or refuses hangs on small words and on
punctuation, which it blurs. Each fact becomes a number below ``BUCKETS`` by hashing (Weinberger et al., "Feature
hashing for large scale multitask learning", 2009), so that what is learned holds no word of anybody's messages.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

FEATURES_VERSION: Final = 2
"""Raise this when a text gives other features: heads that were trained on the old ones are refused."""

BUCKETS: Final = 1 << 16

_KEPT: Final = 64
"""Texts whose facts are kept: a turn is read as a trigger, as a response, and as what a response comes after."""

_AFTER: Final = zlib.crc32(b"after ")
_TOKEN: Final = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?|\d+|[?!.,…]+|\n|[^\w\s]")
_STRETCHED: Final = re.compile(r"([^\W\d_])\1{2,}")
_LENGTHS: Final = (1, 2, 3, 4, 6, 9, 13, 19, 28, 40, 60)
_WORDS_READ: Final = 120
_FACE: Final = re.compile(r"[:;=]-?[)(DPpO/|]|<3|\bx[dD]\b|[\U0001F300-\U0001FAFF☀-➿]")


def tokens(text: str) -> list[str]:
    """Words, numbers, runs of punctuation and line ends, in lower case, letters said long cut to two."""
    plain = unicodedata.normalize("NFKC", text) if not text.isascii() else text
    lowered = plain.strip().casefold().replace("’", "'")
    return _TOKEN.findall(_STRETCHED.sub(r"\1\1", lowered))[:_WORDS_READ]


@lru_cache(_KEPT)
def _read(text: str) -> tuple[list[str], list[bytes]]:
    """The tokens of a text and its facts; both are only read."""
    found = tokens(text)
    return found, [fact.encode() for fact in _facts(text, found)]


def _facts(text: str, found: list[str]) -> Iterator[str]:
    """Name what there is to say of ``text`` with these tokens; a fact may come up more than once."""
    words = [token for token in found if token[0].isalnum()]
    yield f"length {sum(len(words) >= limit for limit in _LENGTHS)}"
    yield f"messages {min(found.count(chr(10)), 3)}"
    yield from _punctuation(text, found)
    for number, name in enumerate(("first", "first two", "first three"), 1):
        yield f"{name} {' '.join(words[:number])}"
    yield f"last {' '.join(words[-1:])}"
    yield f"last two {' '.join(words[-2:])}"
    if len(words) <= 3:
        yield f"all {' '.join(words)}"
    yield from _sequence(found)


def _punctuation(text: str, found: list[str]) -> Iterator[str]:
    """How the text ends, which marks it has, and whether it is drawn out, loud, or has a face."""
    last = found[-1] if found else ""
    yield f"ends {last[-1:] if last and not last[0].isalnum() else 'open'}"
    for mark in "?!":
        number = text.count(mark)
        if number:
            yield f"has {mark}"
        if number > 1:
            yield f"many {mark}"
    for name, there in (
        ("dots", "..." in text or "…" in text),
        ("stretched", _STRETCHED.search(text)),
        ("face", _FACE.search(text)),
        ("loud", len(text) > 3 and text.isupper()),
    ):
        if there:
            yield name


def _sequence(found: list[str]) -> Iterator[str]:
    """Each word, each two that follow each other, the word that a sentence begins with, the one before a ? or !."""
    before, begins = "", True
    for token in found:
        if token[0].isalnum():
            yield token
            yield f"{before} {token}"
            if begins:
                yield f"begins {token}"
            before, begins = token, False
            continue
        if token[0] in "?!":
            yield f"{before} {token[0]}"
        if token[0] in "?!.…\n":
            before, begins = "|", True


def trigger_buckets(text: str) -> npt.NDArray[np.int64]:
    """The numbers of the facts of a trigger, (n,), each once, ascending."""
    return _numbers(map(zlib.crc32, _read(text)[1]))


def response_buckets(trigger: str, response: str) -> npt.NDArray[np.int64]:
    """The numbers of the facts of a response, of its trigger, and of how the one begins after the other, (n,)."""
    (asked, before), (answered, facts) = _read(trigger), _read(response)
    forms = _form(trigger, asked)
    return _numbers(
        [
            *map(zlib.crc32, facts),
            *(zlib.crc32(fact, _AFTER) for fact in before),  # as if each began with "after "
            *(zlib.crc32(f"{fact} after {form}".encode()) for fact in _opening(answered) for form in forms),
        ]
    )


def _numbers(sums: Iterable[int]) -> npt.NDArray[np.int64]:
    return np.array(sorted({found % BUCKETS for found in sums}), np.int64)


def _form(trigger: str, found: list[str]) -> list[str]:
    """Whether a trigger asks, and whether with its end."""
    asks = "?" if "?" in trigger else "."
    return [asks, "?|"] if found and "?" in found[-1] else [asks]


def _opening(found: list[str]) -> list[str]:
    words = [token for token in found if token[0].isalnum()]
    length = sum(len(words) >= limit for limit in _LENGTHS)
    return [f"opens {' '.join(words[:1])}", f"opens {' '.join(words[:2])}", f"long {length}"]
