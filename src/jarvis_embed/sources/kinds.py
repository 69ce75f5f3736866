"""The kinds of sources, and how a path or a name becomes one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ..errors import SourceError
from .base import Source
from .chitchat import ChitchatSource
from .jsonl import JsonlSource


def _chitchat(_location: str, me: str | None, split: str | None) -> Source:
    return ChitchatSource(me=me, split=split or "train")


def _jsonl(location: str, me: str | None, split: str | None) -> Source:
    if split is not None:
        raise SourceError("a jsonl file has no parts", "Leave --split out")
    return JsonlSource(Path(location), me=me)


READERS: Final[dict[str, Callable[[str, str | None, str | None], Source]]] = {"chitchat": _chitchat, "jsonl": _jsonl}
_ENDINGS: Final = {".jsonl": "jsonl", ".jsonl.gz": "jsonl", ".ndjson": "jsonl"}


def open_source(
    location: str | os.PathLike[str], *, kind: str | None = None, me: str | None = None, split: str | None = None
) -> Source:
    """Open ``location``: ``"chitchat"``, or the path of a file whose kind its name tells.

    Args:
        kind: overrides what the name tells.
        me: the sender who is the owner of the history.
        split: for ``chitchat``: ``train`` (default), ``validation``, ``sealed`` or ``all``.

    Raises:
        SourceError: nothing there, or of no kind that can be read.
    """
    location = os.fspath(location)
    known = ", ".join(READERS)
    if kind is None:
        kind = "chitchat" if location == "chitchat" else _kind_of(Path(location), known)
    if kind not in READERS:
        raise SourceError(f"no reader is called {kind!r}", f"Known readers: {known}")
    return READERS[kind](location, me, split)


def _kind_of(path: Path, known: str) -> str:
    if not path.exists():
        raise SourceError(f"there is no file {path}", "Give the path of a .jsonl file, or the name chitchat")
    kind = next((kind for ending, kind in _ENDINGS.items() if path.name.lower().endswith(ending)), None)
    if kind is None or path.is_dir():
        raise SourceError(f"{path} is of no kind that its name tells", f"Say which with --as; known readers: {known}")
    return kind
