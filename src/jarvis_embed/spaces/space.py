"""A space: one generation opened for search, with the encoder whose fingerprint it has."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from ..config import Precision
from ..conversations.quality_score import Explanation, explain, read_weights
from ..errors import FingerprintMismatch, HeadsMissing, InputError, SpaceMissing, SpaceStale
from ..home import home_folder
from ..library import Library
from ..messages import EARLIER, Pair, Turn
from ..models.encoder import Encoder, load_encoder
from ..models.engine import Vectors
from ..models.store import model_home
from ..talks import Talk
from ..text import normalise
from .answers import Answers
from .artifact import Array, open_artifact
from .delta import DELTA_FILE, Delta, StoredPair, stored_pair, stored_pairs
from .generations import current_folder
from .heads import HEADS_FILE, Heads, read_heads
from .index import TriggerIndex, nearest_rows
from .manifest import Manifest, check_files, read_manifest
from .quality import Floats, PairQuality, Relation, exchanges_with, open_quality, relation
from .segment_index import SegmentIndex, StoredSegment
from .vector_log import segment_key

VECTORS_FILE, PAIRS_FILE, INDEX_FILE = "vectors.safetensors", "pairs.safetensors", "index.safetensors"


_UNKNOWN: Final = PairQuality(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.float32), (0.0, 1.0), b"")


@dataclass(frozen=True, slots=True)
class Match:
    """A pair of the history whose trigger is near the text that was asked about.

    Attributes:
        score: the cosine. quality: how good the reply was, 0 to 1; None where that is not known.
    """

    pair: Pair
    score: float
    quality: float | None = None


@dataclass(frozen=True, slots=True)
class ThreadMatch:
    """A past exchange like the one that was asked about, by that segment of it which is nearest.

    Attributes:
        conversation: its key in its source; ``name`` is what the source calls it.
        people: who wrote in the segment, besides the owner.
        turns: those of the segment, in their order; without the keys of their messages.
        start_ms: when the first of them was, in milliseconds since 1970-01-01 UTC.
        score: the cosine.
    """

    conversation: str
    name: str | None
    people: tuple[str, ...]
    turns: tuple[Turn, ...]
    start_ms: int
    score: float


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A match that is still numbers: enough to rank by, before any text is read from the library.

    Attributes:
        response_row: row of the response's vector; equal rows are equal texts.
    """

    pair_id: int
    score: float
    response_row: int
    response_ms: int


class Space:
    """Open for reading; safe to use from one thread at a time (its library connection is bound to its thread).

    Attributes:
        encoder: the encoder that made it.
        manifest: what it was made of.
        is_stale: whether the library has changed since. A stale space answers, without what is new or gone.
        heads: its classifiers; None where none were trained, or by an earlier version of the features.
    """

    def __init__(self, folder: Path, manifest: Manifest, encoder: Encoder, library: Library) -> None:
        self.folder, self.manifest, self.encoder, self.library = folder, manifest, encoder, library
        vectors = open_artifact(folder / VECTORS_FILE, encoder.fingerprint)
        pairs = open_artifact(folder / PAIRS_FILE, encoder.fingerprint)
        index = open_artifact(folder / INDEX_FILE, encoder.fingerprint)
        self._vectors: Vectors = vectors["vectors"]
        self._pairs: dict[str, Array] = pairs
        self._triggers = len(pairs["first"]) - 1
        self._index = TriggerIndex.load(index["faiss"], self._vectors[: self._triggers])
        self._delta = None
        if DELTA_FILE in manifest.files:
            self._delta = Delta.open(folder, encoder.fingerprint, self._vectors)
        self.heads = _heads_of(folder, manifest)
        self._segments: SegmentIndex | None = None
        self._quality = open_quality(folder, manifest.files, encoder.fingerprint)
        self._answers = Answers.open(folder, manifest.files, encoder.fingerprint)
        self._new_answers: Vectors | None = None

    @classmethod
    def open(
        cls,
        model: str | os.PathLike[str] | None = None,
        *,
        home: str | os.PathLike[str] | None = None,
        precision: Precision | None = None,
        encoder: Encoder | None = None,
    ) -> Self:
        """Open the current generation of ``model``; the model of the settings if None.

        Raises:
            SpaceMissing: never built. SpaceDamaged: a file is missing or has the wrong size.
            FingerprintMismatch: built by other weights, another precision, or another version of the arithmetic.
        """
        root = home_folder(home)
        encoder = encoder or load_encoder(model, home=root, precision=precision)
        folder = current_folder(model_home(encoder.name, root))
        if folder is None:
            raise SpaceMissing(
                f"there is no space of {encoder.name} in {root}", f"Build it: jarvis-embed build {encoder.name}"
            )
        return cls.at(folder, encoder, Library.open(root))

    @classmethod
    def at(cls, folder: Path, encoder: Encoder, library: Library) -> Self:
        """Open the generation in ``folder``; see ``open`` for the errors."""
        manifest = read_manifest(folder)
        if manifest.fingerprint != encoder.fingerprint:
            raise FingerprintMismatch(
                f"the space in {folder} has fingerprint {manifest.fingerprint} "
                f"({manifest.model}, {manifest.precision}), "
                f"and the encoder has {encoder.fingerprint} ({encoder.name}, {encoder.precision})",
                f"Build it again: jarvis-embed build {encoder.name}",
            )
        check_files(folder, manifest, checksums=False)
        return cls(folder, manifest, encoder, library)

    @property
    def is_stale(self) -> bool:
        return (self.manifest.library, self.manifest.revision) != (self.library.id, self.library.revision)

    @property
    def index(self) -> TriggerIndex:
        """The index over the triggers' vectors; its row numbers are those of ``trigger_vectors``."""
        return self._index

    @property
    def trigger_vectors(self) -> Vectors:
        """The vectors of the different triggers, (triggers, dim) float32, mapped from the file."""
        return self._vectors[: self.manifest.triggers]

    def close(self) -> None:
        self.library.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def search(self, text: str, k: int = 5, min_quality: float = 0.0) -> list[Match]:
        """Find the ``k`` pairs whose triggers are nearest to ``text``, best first, the newest first among equals.

        Pairs with the same trigger and the same response count once.

        Args:
            min_quality: leave out pairs whose reply is known to be worse, 0 to 1.

        Raises:
            InputError: the text is empty, or ``k`` is below 1.
        """
        if not normalise(text):
            raise InputError("the text is empty", "Give the message to look for")
        if k < 1:
            raise InputError(f"cannot find {k} matches", "Ask for 1 or more")
        vector = self.encoder.embed([text])[0]
        wanted = k
        per_trigger = len(self._pairs["pair_id"]) if min_quality else k  # the good replies may be the older ones
        while True:  # a stale space may name pairs that are gone from the library: then look further
            found = self.neighbours(vector, triggers=wanted, per_trigger=per_trigger)
            quality = self.pair_quality([n.pair_id for n in found]).tolist()
            good = [(n, q) for n, q in zip(found, quality, strict=True) if not q < min_quality]  # NaN is not worse
            pairs = {pair.id: pair for pair in self.library.pairs([n.pair_id for n, _ in good])}
            matches = [
                Match(pairs[n.pair_id], n.score, None if np.isnan(q) else q) for n, q in good if n.pair_id in pairs
            ]
            if len(matches) >= k or wanted >= len(self._index) + len(self._delta or ()):
                return matches[:k]
            wanted *= 4

    @property
    def segments(self) -> SegmentIndex:
        """The index over segments of threads, opened when it is first asked for.

        Raises:
            SpaceStale: the generation was built before there were segments.
        """
        if self._segments is None:
            self._segments = SegmentIndex.open(self.folder, self.manifest)
        if self._segments is None:
            raise SpaceStale(
                f"this generation of {self.encoder.name} was built before conversations could be searched",
                f"Build again: jarvis-embed build {self.encoder.name}",
            )
        return self._segments

    def search_threads(self, said: str | Sequence[str], k: int = 5) -> list[ThreadMatch]:
        """Find the ``k`` past exchanges that are most like what is said, best first, each once.

        Args:
            said: a text, or turns, oldest first.

        Raises:
            InputError: nothing is said, or ``k`` is below 1.
            SpaceStale: the generation was built before there were segments.
        """
        turns = [said] if isinstance(said, str) else list(said)
        if not any(map(normalise, turns)):
            raise InputError("the text is empty", "Give what the conversation was about")
        if k < 1:
            raise InputError(f"cannot find {k} conversations", "Ask for 1 or more")
        # One turn is no segment: a map that learned to read several says little of it, and the text alone finds its
        # exchange several times as often (docs/segments.md).
        vector = (self.encoder.embed(turns) if len(turns) == 1 else self.encoder.embed_segments([turns]))[0]
        talks = {talk.id: talk for talk in self.library.talks()}
        wanted = 4 * k
        while True:  # several segments may be of one thread, and what has changed since the build is passed over
            matches: dict[tuple[int, int], ThreadMatch] = {}
            for score, row in self.segments.nearest(vector, wanted):
                segment = self.segments.segment(row)
                thread = (segment.conversation, segment.thread)
                if thread not in matches and (match := self._read(segment, score, talks)) is not None:
                    matches[thread] = match
                if len(matches) == k:
                    break
            if len(matches) == k or wanted >= len(self.segments):
                return list(matches.values())
            wanted *= 4

    def _read(self, segment: StoredSegment, score: float, talks: Mapping[int, Talk]) -> ThreadMatch | None:
        """The segment with what was said in it; None if the library does not hold that any more."""
        talk = talks.get(segment.conversation)
        turns = () if talk is None else tuple(self.library.turns_at(talk, segment.places))
        if talk is None or segment_key(turn.text for turn in turns) != segment.key:
            return None
        people = dict.fromkeys(turn.sender for turn in turns if not turn.is_from_me and turn.sender != EARLIER)
        return ThreadMatch(talk.key, talk.name, tuple(people), turns, turns[0].start_ms, score)

    def neighbours(self, vector: Vectors, triggers: int, per_trigger: int) -> list[Neighbour]:
        """Find the pairs behind the ``triggers`` nearest trigger texts, at most ``per_trigger`` newest of each.

        Args:
            vector: (dim,) float32 of length 1.
        """
        scores, rows = self._index.search(vector[None], triggers)
        found = list(zip(scores[0].tolist(), rows[0].tolist(), strict=True))
        if self._delta is not None:
            found = self._delta.nearest(found, vector, triggers)
        return [neighbour for score, row in found for neighbour in self._neighbours_of(row, score, per_trigger)]

    def answering(self, asked: Vectors, vector: Vectors, k: int) -> list[Neighbour]:
        """Find the ``k`` pairs whose replies fit a message best, whatever they answered then; of equal replies the
        newest. None for a model without a side for replies, or a generation that was built without it.

        Args:
            asked: (dim,) float32 of length 1, ``Encoder.embed_with_context``. vector: (dim,), the message by itself.
        """
        if self._answers is None:
            return []
        found: dict[int, tuple[float, int, StoredPair]] = {}
        gone = 0 if self._delta is None else self._delta.gone
        for score, position in self._answers.nearest(asked, k + gone):
            if (there := self._still_there(position)) is not None:
                trigger, pair = there
                found[pair[1]] = score, trigger, pair
        if self._delta is not None:
            if self._new_answers is None:  # few, and not in a file
                self._new_answers = self.encoder.as_responses(self._delta.responses())
            for score, position in nearest_rows(self._new_answers, asked, k):
                trigger, pair = self._delta.pair(position)
                if pair[1] not in found or found[pair[1]][2][2] <= pair[2]:
                    found[pair[1]] = score, trigger, pair
        best = sorted(found.values(), key=lambda one: (-one[0], one[2][0]))[:k]
        near = self.vectors([trigger for _, trigger, _ in best]) @ vector if best else ()
        return [Neighbour(pair[0], float(cosine), *pair[1:]) for cosine, (*_, pair) in zip(near, best, strict=True)]

    def vectors(self, rows: Sequence[int]) -> Vectors:
        """The vectors of text rows: (len(rows), dim) float32."""
        wanted = np.asarray(rows, np.int64)
        return np.asarray(self._vectors[wanted]) if self._delta is None else self._delta.vectors(wanted)

    def pair_quality(self, ids: Sequence[int]) -> Floats:
        """How good the reply of each pair was, 0 to 1, the owner's feedback counted: (len(ids),) float32.

        NaN for a pair of which the generation holds none, as one of an earlier version does not.
        """
        known = self._quality or _UNKNOWN
        return known.of(ids, self.library.feedback(ids))

    def explain_quality(self, identity: int) -> Explanation:
        """Why a pair has the quality that it has: by the library as it is now.

        Raises:
            InputError: there is no such pair.
        """
        found = exchanges_with(self.library, [identity], self.relation_of([identity]))
        if identity not in found:
            raise InputError(f"there is no pair {identity}", "Its number stands in: jarvis-embed suggest TEXT --json")
        return explain(found[identity], read_weights(self.library.home))

    def relation_of(self, ids: Sequence[int]) -> Relation:
        """What the vectors of pairs say of them, embedded as the library has them now."""
        pairs = list(self.library.pairs(list(dict.fromkeys(ids))))
        vectors = self.encoder.embed([*(pair.trigger for pair in pairs), *(pair.response for pair in pairs)])
        places = np.arange(len(pairs))
        scale = (self._quality or _UNKNOWN).scale
        own = np.array([pair.id for pair in pairs], np.int64)
        return relation(self.encoder, own, vectors.__getitem__, places, places + len(pairs), scale)

    def _still_there(self, position: int) -> tuple[int, StoredPair] | None:
        """The pair of the base at ``position``, with the row of its trigger; if it is gone, the newest other that has
        its response."""
        trigger, pair = stored_pair(self._pairs, position)
        if self._delta is None or not self._delta.is_gone(pair[0]):
            return trigger, pair
        same = np.flatnonzero(self._pairs["response_row"] == pair[1]).tolist()
        others = [stored_pair(self._pairs, other) for other in same]
        left = [one for one in others if not self._delta.is_gone(one[1][0])]
        return min(left, key=lambda one: (-one[1][2], one[1][0]), default=None)

    def _neighbours_of(self, row: int, score: float, limit: int) -> Iterator[Neighbour]:
        """The pairs of a trigger row, newest first, each response text once."""
        pairs = stored_pairs(self._pairs, row) if 0 <= row < self._triggers else iter(())
        if self._delta is not None:
            pairs = self._delta.pairs_of(row, pairs)
        seen: set[int] = set()
        for pair_id, response_row, response_ms in pairs:
            if response_row not in seen:
                seen.add(response_row)
                yield Neighbour(pair_id, score, response_row, response_ms)
            if len(seen) == limit:
                return


def _heads_of(folder: Path, manifest: Manifest) -> Heads | None:
    try:
        return read_heads(folder, manifest.fingerprint) if HEADS_FILE in manifest.files else None
    except HeadsMissing:
        return None


def write_pairs(
    ids: npt.NDArray[np.int64],
    trigger_rows: npt.NDArray[np.int64],
    response_rows: npt.NDArray[np.int64],
    response_ms: npt.NDArray[np.int64],
    triggers: int,
) -> dict[str, Array]:
    """Lay pairs out as ``Space`` reads them: grouped by trigger row, the newest of a group first.

    ``first`` of the result has where the pairs of each trigger begin, and the end of the last.
    """
    order = np.lexsort((ids, -response_ms, trigger_rows))
    first = np.searchsorted(trigger_rows[order], np.arange(triggers + 1))
    return {
        "pair_id": ids[order],
        "response_row": response_rows[order],
        "response_ms": response_ms[order],
        "first": first.astype(np.int64),
    }
