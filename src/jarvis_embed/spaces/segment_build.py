"""Library + encoder → the segments of a generation.

A segment's vector is that of its text, embedded as a whole, as the exam and training have it (docs/index.md compares it
with the mean of its turns' vectors). It costs a build about as much as the turns do; so texts that were embedded once
are known by their keys, and only conversations that have changed are cut into threads anew.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from ..conversations.links import shipped_scorer
from ..conversations.segments import segment_text, segments_of
from ..conversations.threads import threads_in
from ..library import Library
from ..models.encoder import Encoder
from ..models.engine import Vectors
from ..talks import Talk
from ..text import normalise
from .artifact import Array, Stream, open_artifact, write_artifact
from .index import EXACT_BELOW, TriggerIndex
from .known import Known
from .segment_index import SEGMENT_INDEX_FILE, SEGMENTS_DELTA, SEGMENTS_FILE
from .vector_log import KEY_BYTES, VectorLog, split_keys, text_key

Progress = Callable[[str, int, int], None]

_BLOCK: Final = 512
_AHEAD: Final = 8192
"""Texts that are held until they are embedded: enough to sort by length, few enough not to fill the memory."""

_FEW: Final = 50
_SHARE: Final = 0.25
"""So many changes, or this part of the segments, may stand beside the file of an earlier generation."""


@dataclass(slots=True)
class Segments:
    """Segments as columns, which grow; see ``segment_index``."""

    conversation: array[int] = field(default_factory=lambda: array("q"))
    thread: array[int] = field(default_factory=lambda: array("q"))
    first: array[int] = field(default_factory=lambda: array("q", [0]))
    places: array[int] = field(default_factory=lambda: array("q"))
    keys: bytearray = field(default_factory=bytearray)

    def __len__(self) -> int:
        return len(self.conversation)

    def add(self, conversation: int, thread: int, places: Iterable[int], key: bytes) -> None:
        self.conversation.append(conversation)
        self.thread.append(thread)
        self.places.extend(places)
        self.first.append(len(self.places))
        self.keys += key

    def columns(self) -> dict[str, Array]:
        return {
            "keys": np.frombuffer(bytes(self.keys), np.uint8).reshape(-1, KEY_BYTES),
            "conversation": np.array(self.conversation, np.int64),
            "thread": np.array(self.thread, np.int64),
            "first": np.array(self.first, np.int64),
            "places": np.array(self.places, np.int64),
        }


def write_segments(
    staging: Path, encoder: Encoder, library: Library, log: VectorLog, old: Known, report: Progress
) -> tuple[int, tuple[str, ...]]:
    """Write all segments of the library into ``staging``; return how many there are, and the names of the files."""
    revision = library.revision
    talks = list(library.talks())
    found = Segments()
    waiting: dict[bytes, str] = {}
    for done, talk in enumerate(talks, 1):
        for thread, places, text in _cut(library, talk):
            key = text_key(text)
            found.add(talk.id, thread, places, key)
            if key not in old and key not in log.rows:
                waiting[key] = text
        if len(waiting) >= _AHEAD or done == len(talks):
            _embed(encoder, waiting, log)
            report("threads", done, len(talks))
    stated = found.columns() | {"revision": np.array([revision], np.int64)}
    vectors = _vectors(found, encoder.dim, log, old)
    write_artifact(staging / SEGMENTS_FILE, {"vectors": vectors, **stated}, encoder.fingerprint)
    if len(found) < EXACT_BELOW:
        return len(found), (SEGMENTS_FILE,)
    written = open_artifact(staging / SEGMENTS_FILE, encoder.fingerprint)
    index = TriggerIndex.build(written["vectors"]).serialised()
    write_artifact(staging / SEGMENT_INDEX_FILE, {"faiss": index}, encoder.fingerprint)
    return len(found), (SEGMENTS_FILE, SEGMENT_INDEX_FILE)


@dataclass(frozen=True, slots=True)
class SegmentChanges:
    """What changed since the file of all segments was written.

    Attributes:
        new: segments that it does not hold. texts: of these, by key.
        gone: its rows that are no more, ascending. kept: how many still are.
    """

    new: Segments
    texts: dict[bytes, str]
    gone: npt.NDArray[np.int64]
    kept: int


def segment_changes(folder: Path, fingerprint: str, library: Library) -> SegmentChanges | None:
    """What a delta beside the file in ``folder`` must say; None where there is none, or all had better be written.

    Raises:
        SpaceDamaged: the file is not whole.
    """
    if not (folder / SEGMENTS_FILE).is_file():
        return None
    base = open_artifact(folder / SEGMENTS_FILE, fingerprint)
    conversations, since = np.asarray(base["conversation"]), int(base["revision"][0])
    talks = list(library.talks())
    ids = np.fromiter((talk.id for talk in talks), np.int64, len(talks))
    changed = [talk for talk in talks if talk.changed > since]
    touched = np.fromiter((talk.id for talk in changed), np.int64, len(changed))
    suspect = np.flatnonzero(~np.isin(conversations, ids) | np.isin(conversations, touched))
    known = {_identity(base, row): row for row in suspect.tolist()}
    new, texts = Segments(), {}
    for talk in changed:
        for thread, places, text in _cut(library, talk):
            key = text_key(text)
            if known.pop((talk.id, thread, places, key), None) is None:
                new.add(talk.id, thread, places, key)
                texts[key] = text
    gone = np.array(sorted(known.values()), np.int64)
    if len(new) + len(gone) > max(_FEW, _SHARE * len(conversations)):
        return None
    return SegmentChanges(new, texts, gone, len(conversations) - len(gone))


def write_segment_delta(
    staging: Path, encoder: Encoder, changes: SegmentChanges, log: VectorLog, old: Known, report: Progress
) -> int:
    """Write the changes into ``staging``, beside the file of all; return how many segments both have together."""
    missing = {key: text for key, text in changes.texts.items() if key not in old and key not in log.rows}
    _embed(encoder, missing, log)
    new = changes.new
    stated = new.columns() | {"gone": changes.gone}
    vectors = _vectors(new, encoder.dim, log, old)
    write_artifact(staging / SEGMENTS_DELTA, {"vectors": vectors, **stated}, encoder.fingerprint)
    report("threads", 1, 1)
    return changes.kept + len(new)


def _cut(library: Library, talk: Talk) -> Iterator[tuple[int, tuple[int, ...], str]]:
    """Yield each segment of a conversation: where its thread begins, the places of its turns, its text, normalised.

    A thread of one turn is no conversation, and is left out.
    """
    placed = library.placed_turns(talk)
    place_of = {turn.message_keys[0]: place for place, turn in placed}
    turns = [turn for _, turn in placed]
    for thread in threads_in(talk.key, turns, scorer=shipped_scorer(), is_group=talk.is_group):
        if len(thread.turns) < 2:
            continue
        begin = place_of[thread.turns[0].message_keys[0]]
        for segment in segments_of(thread, rest=True):
            text = normalise(segment_text(segment))
            if text:
                yield begin, tuple(place_of[turn.message_keys[0]] for turn in segment.turns), text


def _identity(base: Mapping[str, Array], row: int) -> tuple[int, int, tuple[int, ...], bytes]:
    start, stop = base["first"][row : row + 2].tolist()
    places = tuple(base["places"][start:stop].tolist())
    return int(base["conversation"][row]), int(base["thread"][row]), places, base["keys"][row].tobytes()


def _embed(encoder: Encoder, texts: dict[bytes, str], log: VectorLog) -> None:
    """Embed ``texts`` into the log, those of like length together, and let them go."""
    keys = sorted(texts, key=lambda key: len(texts[key]))
    for start in range(0, len(keys), _BLOCK):
        block = keys[start : start + _BLOCK]
        log.append(block, encoder.embed([texts[key] for key in block]))
    texts.clear()


def _vectors(segments: Segments, dim: int, log: VectorLog, old: Known) -> Stream:
    """The vector of each segment, from the log or from the earlier generation."""
    logged = log.vectors()

    def blocks() -> Iterator[Vectors]:
        keys = split_keys(np.frombuffer(bytes(segments.keys), np.uint8))
        for start in range(0, len(keys), _BLOCK):
            block = keys[start : start + _BLOCK]
            yield np.stack([logged[log.rows[key]] if key in log.rows else old.vector(key) for key in block])

    return Stream((len(segments), dim), np.float32, blocks())
