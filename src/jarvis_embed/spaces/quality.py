"""How good each reply of a history was, as a generation keeps it: numbers beside pair ids, no text.

Computed when a generation is built, from the signals of the whole conversation (``conversations/quality.py``), the
space's own vectors and the quality head of its model. The owner's feedback is not in these numbers: it is laid over
them when they are read, so that it counts at once and goes when it is taken back.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from ..conversations.quality import Exchange, exchanges_of, judgements
from ..conversations.quality_score import QualityWeights, signal_table, stated
from ..library import Library
from ..messages import Conversation
from ..models.encoder import Encoder
from ..models.engine import Vectors
from .artifact import Array, open_artifact, write_artifact

QUALITY_FILE: Final = "quality.safetensors"
_BLOCK: Final = 4096
_RANDOM: Final = 5000

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Relation:
    """What vectors say of trigger and response of some pairs, row by row of ``ids``, which ascend.

    Attributes:
        topics: (n,) as ``Exchange.topic``. fits: (n,) what the quality head says; NaN where there is no head.
    """

    ids: Ids
    topics: Floats
    fits: Floats

    def laid_on(self, identity: int, exchange: Exchange) -> Exchange:
        """The exchange of a pair with what its vectors say; as it is where they are not here."""
        place = int(np.searchsorted(self.ids, identity))
        if place == len(self.ids) or self.ids[place] != identity:
            return exchange
        fit = float(self.fits[place])
        return replace(exchange, topic=float(self.topics[place]), fit=None if np.isnan(fit) else fit)


NO_RELATION: Final = Relation(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.float32))
"""Of no pair."""


@dataclass(frozen=True, slots=True)
class PairQuality:
    """The quality of pairs.

    Attributes:
        ids: (n,) ascending. scores: (n,) 0 to 1, without feedback. raters: (n,) how many raters each is worth.
        scale: mean and standard deviation of the cosine of random triggers and responses of this space.
        made_with: names the weights and the head that made it (see ``quality_mark``).
    """

    ids: Ids
    scores: Floats
    raters: Floats
    scale: tuple[float, float]
    made_with: bytes

    def of(self, ids: Sequence[int], feedback: Mapping[int, bool]) -> Floats:
        """The quality of each pair, 0 to 1, feedback counted as a rater; NaN for a pair that is not known."""
        wanted = np.asarray(ids, np.int64)
        if not len(self.ids):
            return np.full(len(wanted), np.nan, np.float32)
        place = np.minimum(np.searchsorted(self.ids, wanted), len(self.ids) - 1)
        found = np.where(self.ids[place] == wanted, self.scores[place], np.float32(np.nan)).astype(np.float32)
        for row, identity in enumerate(ids) if feedback else ():
            if identity in feedback:
                raters = 0.0 if np.isnan(found[row]) else float(self.raters[place[row]])
                known = 0.0 if np.isnan(found[row]) else float(found[row])
                found[row] = (raters * known + float(feedback[identity])) / (raters + 1)
        return found


def relation(
    encoder: Encoder,
    ids: Ids,
    vectors: Callable[[Ids], Vectors],
    trigger_rows: Ids,
    response_rows: Ids,
    scale: tuple[float, float],
) -> Relation:
    """What vectors say of pairs; ``vectors`` gives those of rows, which are read block by block."""
    order = np.argsort(ids, kind="stable")
    topics, fits = np.empty(len(ids), np.float32), np.full(len(ids), np.nan, np.float32)
    for start in range(0, len(order), _BLOCK):
        rows = order[start : start + _BLOCK]
        asked, answered = vectors(trigger_rows[rows]), vectors(response_rows[rows])
        topics[start : start + len(rows)] = (np.einsum("nd,nd->n", asked, answered) - scale[0]) / scale[1]
        if encoder.quality_head is not None:
            fits[start : start + len(rows)] = encoder.quality_head.scores([asked], answered, encoder.projections)
    return Relation(ids[order], topics, fits)


def random_scale(vectors: Callable[[Ids], Vectors], trigger_rows: Ids, response_rows: Ids) -> tuple[float, float]:
    """Mean and standard deviation of the cosine of triggers and responses that have nothing to do with each other."""
    rng = np.random.default_rng(0)
    left, right = (rng.choice(rows, _RANDOM) for rows in (trigger_rows, response_rows))
    cosines = np.einsum("nd,nd->n", vectors(left), vectors(right))
    return float(cosines.mean()), max(float(cosines.std()), 0.01)


def judged(
    conversations: Iterable[Conversation], library: Library, weights: QualityWeights, vectors: Relation
) -> Iterator[tuple[int, float, float]]:
    """Yield (pair, score, raters) of every reply of some conversations of the library, without feedback."""
    for conversation in conversations:
        found = list(_exchanges(conversation, library, vectors))
        if not found:
            continue
        estimates = weights.estimates(signal_table([exchange for _, exchange in found]))
        for (identity, exchange), estimate in zip(found, estimates.tolist(), strict=True):
            said = judgements(exchange, weights.prior_raters)
            yield identity, weights.joined(estimate, said), weights.prior_raters + sum(one.raters for one in said)


def exchanges_with(library: Library, ids: Sequence[int], vectors: Relation) -> dict[int, Exchange]:
    """Pairs of the library with their surroundings and the owner's feedback, without those that are gone."""
    feedback, wanted = library.feedback(ids), set(ids)
    return {
        identity: replace(exchange, feedback=feedback.get(identity))
        for conversation in library.conversations_of(ids)
        for identity, exchange in _exchanges(conversation, library, vectors)
        if identity in wanted
    }


def _exchanges(conversation: Conversation, library: Library, vectors: Relation) -> Iterator[tuple[int, Exchange]]:
    places = library.response_places(conversation.key)
    for _, answer, turns, exchange in exchanges_of(conversation):
        identity = places.get(turns[answer].message_keys[0])
        if identity is not None:
            yield identity, vectors.laid_on(identity, exchange)


def quality_mark(weights: QualityWeights, encoder: Encoder) -> bytes:
    """16 bytes that differ where weights or head do: then all of a generation's quality is computed anew."""
    digest = hashlib.blake2b(json.dumps(stated(weights), sort_keys=True).encode(), digest_size=16)
    head = encoder.quality_head
    if head is not None:
        digest.update(repr((head.parts, head.turns, head.bias)).encode())
        digest.update(head.outer.tobytes())
        if head.inner is not None:
            digest.update(head.inner.tobytes())
    return digest.digest()


def write_quality(
    folder: Path,
    found: Iterable[tuple[int, float, float]],
    scale: tuple[float, float],
    fingerprint: str,
    mark: bytes,
    before: PairQuality | None = None,
    gone: Sequence[int] = (),
) -> None:
    """Write the quality of pairs into a generation, with that of an earlier one for pairs that are not among them."""
    known: dict[int, tuple[float, float]] = {}
    if before is not None:
        known = dict(
            zip(before.ids.tolist(), zip(before.scores.tolist(), before.raters.tolist(), strict=True), strict=True)
        )
        for identity in gone:
            known.pop(identity, None)
    for identity, score, raters in found:
        known[identity] = (score, raters)
    ids = np.array(sorted(known), np.int64)
    tensors: dict[str, Array] = {
        "pair_id": ids,
        "score": np.array([known[identity][0] for identity in ids.tolist()], np.float32),
        "raters": np.array([known[identity][1] for identity in ids.tolist()], np.float32),
        "scale": np.array(scale, np.float32),
        "made_with": np.frombuffer(mark, np.uint8),
    }
    write_artifact(folder / QUALITY_FILE, tensors, fingerprint)


def open_quality(folder: Path, files: Mapping[str, object], fingerprint: str) -> PairQuality | None:
    """The quality that a generation holds; None for one of an earlier version, which holds none.

    Raises:
        SpaceDamaged, FingerprintMismatch: as ``open_artifact``.
    """
    if QUALITY_FILE not in files:
        return None
    arrays = open_artifact(folder / QUALITY_FILE, fingerprint)
    mean, spread = np.asarray(arrays["scale"]).tolist()
    made_with = np.asarray(arrays["made_with"]).tobytes()
    return PairQuality(arrays["pair_id"], arrays["score"], arrays["raters"], (mean, spread), made_with)
