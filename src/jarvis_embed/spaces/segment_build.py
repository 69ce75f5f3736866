"""Library + encoder → the segments of a generation.

A segment's vector is that of its joined text (docs/segments.md compares it with the mean of its turns' vectors), which
costs a build about as much as the turns do. A model that was trained on threads mixes those of the turns in, which are
known mostly. What was embedded once is known by its key, and only conversations that have changed are cut into
threads anew.
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
from ..conversations.segments import segments_of, text_of
from ..conversations.threads import threads_in
from ..library import Library
from ..models.encoder import Encoder
from ..models.engine import Vectors
from ..talks import Talk
from ..text import normalise
from .artifact import Array, Stream, open_artifact, write_artifact
from .index import EXACT_BELOW, TriggerIndex
from .known import Known, gathered
from .segment_index import SEGMENT_INDEX_FILE, SEGMENTS_DELTA, SEGMENTS_FILE
from .vector_log import KEY_BYTES, VectorLog, segment_key, split_keys, text_key

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
    waiting: dict[bytes, tuple[str, ...]] = {}
    for done, talk in enumerate(talks, 1):
        for thread, places, turns in _cut(library, talk):
            key = segment_key(turns)
            found.add(talk.id, thread, places, key)
            if key not in old and key not in log.rows:
                waiting[key] = turns
        if len(waiting) >= _AHEAD or done == len(talks):
            _embed(encoder, waiting, log, old)
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
        new: segments that it does not hold. turns: the texts of these, by key.
        gone: its rows that are no more, ascending. kept: how many still are.
    """

    new: Segments
    turns: dict[bytes, tuple[str, ...]]
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
    new, turns_of_new = Segments(), {}
    for talk in changed:
        for thread, places, turns in _cut(library, talk):
            key = segment_key(turns)
            if known.pop((talk.id, thread, places, key), None) is None:
                new.add(talk.id, thread, places, key)
                turns_of_new[key] = turns
    gone = np.array(sorted(known.values()), np.int64)
    if len(new) + len(gone) > max(_FEW, _SHARE * len(conversations)):
        return None
    return SegmentChanges(new, turns_of_new, gone, len(conversations) - len(gone))


def write_segment_delta(
    staging: Path, encoder: Encoder, changes: SegmentChanges, log: VectorLog, old: Known, report: Progress
) -> int:
    """Write the changes into ``staging``, beside the file of all; return how many segments both have together."""
    missing = {key: turns for key, turns in changes.turns.items() if key not in old and key not in log.rows}
    _embed(encoder, missing, log, old)
    new = changes.new
    stated = new.columns() | {"gone": changes.gone}
    vectors = _vectors(new, encoder.dim, log, old)
    write_artifact(staging / SEGMENTS_DELTA, {"vectors": vectors, **stated}, encoder.fingerprint)
    report("threads", 1, 1)
    return changes.kept + len(new)


def _cut(library: Library, talk: Talk) -> Iterator[tuple[int, tuple[int, ...], tuple[str, ...]]]:
    """Yield each segment of a conversation: where its thread begins, the places of its turns, their texts.

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
            if any(map(normalise, segment.texts)):
                yield begin, tuple(place_of[turn.message_keys[0]] for turn in segment.turns), segment.texts


def _identity(base: Mapping[str, Array], row: int) -> tuple[int, int, tuple[int, ...], bytes]:
    start, stop = base["first"][row : row + 2].tolist()
    places = tuple(base["places"][start:stop].tolist())
    return int(base["conversation"][row]), int(base["thread"][row]), places, base["keys"][row].tobytes()


def _embed(encoder: Encoder, segments: dict[bytes, tuple[str, ...]], log: VectorLog, old: Known) -> None:
    """Embed ``segments`` into the log, those of like length together, and let them go."""
    keys = sorted(segments, key=lambda key: sum(map(len, segments[key])))
    for start in range(0, len(keys), _BLOCK):
        block = keys[start : start + _BLOCK]
        turns = [segments[key] for key in block]
        whole = encoder.embed(list(map(text_of, turns)))
        log.append(block, _with_turns(encoder, whole, turns, log, old) if encoder.has_segment_side else whole)
    segments.clear()


def _with_turns(
    encoder: Encoder, whole: Vectors, segments: list[tuple[str, ...]], log: VectorLog, old: Known
) -> Vectors:
    """The vectors of segments from ``whole``, those of their texts, and those of their turns, most of which were
    triggers or responses and are known."""
    logged = log.vectors()
    said = [normalise(turn) for turns in segments for turn in turns]
    texts = list(dict.fromkeys(said))
    vectors = np.empty((len(texts), encoder.dim), np.float32)
    unknown = []
    for row, text in enumerate(texts):
        key = text_key(text)
        if key in log.rows:
            vectors[row] = logged[log.rows[key]]
        elif key in old:
            vectors[row] = old.vector(key)
        else:
            unknown.append(row)
    if unknown:
        vectors[unknown] = encoder.embed([texts[row] for row in unknown])
    row_of = {text: row for row, text in enumerate(texts)}
    return encoder.as_segments(whole, vectors[[row_of[text] for text in said]], segments)


def _vectors(segments: Segments, dim: int, log: VectorLog, old: Known) -> Stream:
    """The vector of each segment, from the log or from the earlier generation."""
    keys = split_keys(np.frombuffer(bytes(segments.keys), np.uint8))
    return Stream((len(segments), dim), np.float32, gathered(keys, log, old, _BLOCK))
