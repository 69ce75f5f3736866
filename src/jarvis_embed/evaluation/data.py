"""Readers of public data in a folder: JSON Lines, compressed or not, one documented schema a file (docs/exam.md).

A file that is not there is None, and the metrics that need it say so. A file that is there and broken is an error:
a figure on half of a file would lie.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..errors import SourceError

_ENDINGS: Final = (".jsonl.gz", ".jsonl")
_SEE: Final = "See docs/exam.md for its format"


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A dialogue of ``dailydialog``: ``split`` is train or validation; the speakers of ``turns`` alternate."""

    id: str
    split: str
    turns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Replies:
    """A record of ``dailydialog_pp``: a context, and replies to its last turn, good ones and wrong ones."""

    id: str
    context: tuple[str, ...]
    positives: tuple[str, ...]
    adversarial: tuple[str, ...]
    random: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RatedReply:
    """A record of ``quality_dev``: the mean rating that people gave a reply in its context.

    ``raters`` is how many gave one; None where the source does not say.
    """

    source: str
    context: tuple[str, ...]
    response: str
    score: float
    raters: int | None = None


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """A record of ``stsb_dev``: two sentences and how alike people find them, 0 to 5."""

    a: str
    b: str
    score: float


@dataclass(frozen=True, slots=True)
class Chat:
    """A chat of ``samsum``: (speaker, text) of each message."""

    id: str
    said: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ChatLog:
    """A log of ``irc_threads_train`` or ``irc_threads_dev``: a chat room with a hand-made graph of who answers whom.

    Attributes:
        said: (time of day ``HH:MM``, sender, text) of each line; time and sender are None on lines of the system.
        links: (line, line that it answers); (line, line) where it begins a thread.
        annotated_from: the first line that people annotated; those before are context.
    """

    id: str
    said: tuple[tuple[str | None, str | None, str], ...]
    links: tuple[tuple[int, int], ...]
    annotated_from: int


@dataclass(frozen=True, slots=True)
class PublicData:
    """What a folder holds of what the exam reads; None for a file that is not there."""

    dailydialog: tuple[Dialogue, ...] | None = None
    dailydialog_pp: tuple[Replies, ...] | None = None
    quality_dev: tuple[RatedReply, ...] | None = None
    stsb_dev: tuple[ScoredPair, ...] | None = None


def read_folder(folder: Path | None) -> PublicData:
    """Read every file of the folder that the exam knows; nothing where ``folder`` is None.

    Raises:
        SourceError: there is no such folder, or a file in it is not of its schema; names the line.
    """
    if folder is None:
        return PublicData()
    if not folder.is_dir():
        raise SourceError(f"there is no folder {folder}", "Give the folder of the data files with --data")
    return PublicData(
        dailydialog=read_dialogues(folder),
        dailydialog_pp=read_replies(folder),
        quality_dev=read_rated(folder, "quality_dev"),
        stsb_dev=read_scored(folder, "stsb_dev"),
    )


def read_dialogues(folder: Path) -> tuple[Dialogue, ...] | None:
    """Read ``dailydialog``: ``{"id", "split", "turns": [{"text", …}]}``."""
    return _read(
        folder,
        "dailydialog",
        lambda r: Dialogue(_text(r["id"]), _text(r["split"]), tuple(_text(turn["text"]) for turn in r["turns"])),
    )


def read_replies(folder: Path) -> tuple[Replies, ...] | None:
    """Read ``dailydialog_pp``: ``{"id", "context": [text], "positives": [text], "adversarial", "random"}``."""
    return _read(
        folder,
        "dailydialog_pp",
        lambda r: Replies(
            _text(r["id"]),
            _texts(r["context"], at_least=1),
            _texts(r["positives"], at_least=1),
            _texts(r["adversarial"]),
            _texts(r["random"]),
        ),
    )


def read_rated(folder: Path, name: str) -> tuple[RatedReply, ...] | None:
    """Read ``quality_dev`` or ``quality_train``: ``{"source", "context": [text], "response", "score", …}``."""
    return _read(
        folder,
        name,
        lambda r: RatedReply(
            _text(r["source"]),
            _texts(r["context"], at_least=1),
            _text(r["response"]),
            float(r["score"]),
            None if r.get("n_raters") is None else int(r["n_raters"]),
        ),
    )


def read_scored(folder: Path, name: str) -> tuple[ScoredPair, ...] | None:
    """Read ``stsb_dev`` or ``stsb_train``: ``{"a", "b", "score"}``."""
    return _read(folder, name, lambda r: ScoredPair(_text(r["a"]), _text(r["b"]), float(r["score"])))


def read_chats(folder: Path) -> tuple[Chat, ...] | None:
    """Read ``samsum``: ``{"id", "turns": [{"speaker", "text"}]}``."""
    return _read(
        folder,
        "samsum",
        lambda r: Chat(_text(r["id"]), tuple((_text(turn["speaker"]), _text(turn["text"])) for turn in r["turns"])),
    )


def read_logs(folder: Path, part: str) -> tuple[ChatLog, ...] | None:
    """Read ``irc_threads_train`` or ``_dev``: ``{"id", "messages": [{"time", "sender", "text"}], "links", …}``."""
    return _read(folder, f"irc_threads_{part}", _log)


def _log(record: Any) -> ChatLog:
    said = tuple((line["time"], line["sender"], _text(line["text"])) for line in record["messages"])
    links = tuple((int(line), int(parent)) for line, parent in record["links"])
    if any(not 0 <= parent <= line < len(said) for line, parent in links):
        raise ValueError
    return ChatLog(_text(record["id"]), said, links, int(record["annotated_from"]))


def _find_file(folder: Path, name: str) -> Path | None:
    """The file of a name, compressed or not."""
    return next((path for ending in _ENDINGS if (path := folder / f"{name}{ending}").is_file()), None)


def _read(folder: Path, name: str, record: Any) -> tuple[Any, ...] | None:
    path = _find_file(folder, name)
    if path is None:
        return None
    records = []
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            records.append(record(json.loads(line)))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise SourceError(f"line {number} of {path} is not of its format ({type(error).__name__})", _SEE) from error
    if not records:
        raise SourceError(f"{path} is empty", _SEE)
    return tuple(records)


def _lines(path: Path) -> Iterator[str]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            yield from file
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read ({type(error).__name__})", "Check the file") from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _texts(value: Any, at_least: int = 0) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) < at_least:
        raise TypeError
    return tuple(_text(one) for one in value)
