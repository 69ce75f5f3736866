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
from typing import Final

import numpy as np
import numpy.typing as npt

FEATURES_VERSION: Final = 1
"""Raise this when a text gives other features: heads that were trained on the old ones are refused."""

BUCKETS: Final = 1 << 13

_TOKEN: Final = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?|\d+|[?!.,…]+|\n|[^\w\s]")
_STRETCHED: Final = re.compile(r"([^\W\d_])\1{2,}")
_LENGTHS: Final = (1, 2, 3, 4, 6, 9, 13, 19, 28, 40, 60)
_WORDS_READ: Final = 120
_EMOTICON: Final = re.compile(r"[:;=]-?[)(DPpO/|]|<3|\bx[dD]\b|[\U0001F300-\U0001FAFF☀-➿]")


def tokens(text: str) -> list[str]:
    """Words, numbers, runs of punctuation and line ends, in lower case, letters said long cut to two."""
    plain = unicodedata.normalize("NFKC", text) if not text.isascii() else text
    lowered = plain.strip().casefold().replace("’", "'")
    return _TOKEN.findall(_STRETCHED.sub(r"\1\1", lowered))[:_WORDS_READ]


def facts(text: str) -> Iterator[str]:
    """Name what there is to say of ``text``; a fact may come up more than once."""
    found = tokens(text)
    words = [token for token in found if token[0].isalnum()]
    yield f"length {sum(len(words) >= limit for limit in _LENGTHS)}"
    yield f"messages {min(found.count(chr(10)), 3)}"
    last = found[-1] if found else ""
    yield f"ends {last[-1:] if last and not last[0].isalnum() else 'open'}"
    for mark in "?!":
        number = text.count(mark)
        if number:
            yield f"has {mark}"
            if number > 1:
                yield f"many {mark}"
    if "..." in text or "…" in text:
        yield "dots"
    if _STRETCHED.search(text):
        yield "stretched"
    if _EMOTICON.search(text):
        yield "face"
    if len(text) > 3 and text.isupper():
        yield "loud"
    yield f"first {' '.join(words[:1])}"
    yield f"first two {' '.join(words[:2])}"
    yield f"first three {' '.join(words[:3])}"
    yield f"last {' '.join(words[-1:])}"
    yield f"last two {' '.join(words[-2:])}"
    if len(words) <= 3:
        yield f"all {' '.join(words)}"
    start = True
    before = ""
    for token in found:
        if token[0].isalnum():
            yield token
            yield f"{before} {token}"
            if start:
                yield f"begins {token}"
            start, before = False, token
        else:
            start = token[0] in "?!.…\n"
            if token[0] in "?!":
                yield f"{before} {token[0]}"
            before = "|" if start else before


def trigger_buckets(text: str) -> npt.NDArray[np.int64]:
    """The numbers of the facts of a trigger, (n,), each once, ascending."""
    return _numbers(facts(text))


def response_buckets(trigger: str, response: str) -> npt.NDArray[np.int64]:
    """The numbers of the facts of a response, of its trigger, and of how the one begins after the other, (n,)."""
    asked = sorted(_form(trigger))
    return _numbers(
        [
            *facts(response),
            *(f"after {fact}" for fact in facts(trigger)),
            *(f"{fact} after {what}" for fact in _opening(response) for what in asked),
        ]
    )


def _numbers(named: Iterable[str]) -> npt.NDArray[np.int64]:
    return np.array(sorted({zlib.crc32(fact.encode()) % BUCKETS for fact in named}), np.int64)


def _form(trigger: str) -> set[str]:
    """How a trigger asks: whether it has a question mark, whether it ends with one, and the word that its last question begins with."""
    found = tokens(trigger)
    return {"?" if "?" in trigger else "."} | ({"?|"} if found and "?" in found[-1] else set())


def _opening(response: str) -> list[str]:
    words = [token for token in tokens(response) if token[0].isalnum()]
    return [f"opens {' '.join(words[:1])}", f"opens {' '.join(words[:2])}", f"long {sum(len(words) >= n for n in _LENGTHS)}"]
