"""The histories that can be examined on, each in its three parts."""

from __future__ import annotations

from os import PathLike

from ..errors import InputError
from ..library import Library
from ..sources import open_source
from .splits import Sides, split_history


def own_history(home: str | PathLike[str] | None = None) -> Sides:
    """What was ingested into ``home``, split by time.

    Raises:
        InputError: nothing was.
    """
    with Library.open(home) as library:
        if not library.counts().pairs:
            raise InputError("the library holds no pair of messages", "Ingest some first: jarvis-embed ingest SOURCE")
        return split_history(library.conversations())


def chitchat_history(*, sealed: bool = False) -> Sides:
    """The chitchat corpus by the first digit of the id: ``e`` is validation, ``f`` the sealed test, all else train.

    Args:
        sealed: also read the sealed part; else it stays unread, and ``test`` is empty.

    Raises:
        SourceError: the corpus is not installed.
    """
    parts = ("train", "validation", "sealed") if sealed else ("train", "validation")
    read = [tuple(open_source("chitchat", split=part).conversations()) for part in parts]
    return Sides(read[0], read[1], read[2] if sealed else ())
