"""One ``normalise()`` for every text that is embedded or compared.

Its version is part of every fingerprint: changing what it does is a new vector space.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

TEXT_VERSION: Final = 1
"""Raise this when ``normalise`` gives a different result for any text."""

# Controls and lone surrogates carry no meaning and break UTF-8; U+FFFC and U+FFFD stand where an attachment
# or an undecodable byte was. Tabs and line ends are spaces, and stay for the next step.
_NOISE: Final = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff\ufeff\ufffc\ufffd]")


def normalise(text: str) -> str:
    """Return ``text`` in NFKC with noise removed and every run of white space as one space.

    Idempotent; the result is always valid UTF-8. An emoji stays; a text of nothing but space becomes ``""``.
    """
    if text.isascii() and text.isprintable():  # most messages: nothing to decompose, only spaces to fold
        return " ".join(text.split())
    return " ".join(unicodedata.normalize("NFKC", _NOISE.sub("", text)).split())


def well_formed(text: str) -> str:
    """Return ``text`` with each lone surrogate as ``?``, so that it can be stored as UTF-8; else unchanged."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def folded(text: str) -> str:
    """Equal for texts that are the same to a reader: letter case does not count, nor what ``normalise`` takes away."""
    return normalise(text).casefold()
