"""The replies of a generation, laid out to be found by what they would answer, whatever they answered then.

A model that was trained on pairs has a side for replies: the nearest of all replies there, seen from a message, are
those that fit it best. So a reply can be suggested whose own trigger is far from the message. The file is laid out by
the different response texts:

    vectors     (n, dim) float32: each text on the side of replies
    place       (n,) int64: where the newest pair with this response stands in the file of pairs

A second file has an index over the vectors, where comparing all of them would be slow. Replies of a delta are few, and
stand in no file: a space maps them when they are first asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from ..models.encoder import Encoder
from ..models.engine import Vectors
from .artifact import Array, Stream, open_artifact, write_artifact
from .index import EXACT_BELOW, TriggerIndex, nearest_rows

ANSWERS_FILE, ANSWERS_INDEX_FILE = "answers.safetensors", "answers-index.safetensors"

_BLOCK: Final = 4096


class Answers:
    """The replies of a whole build, opened for search."""

    def __init__(
        self, vectors: Vectors, place: npt.NDArray[np.int64], index: npt.NDArray[np.uint8] | None = None
    ) -> None:
        self._vectors, self._place, self._stored = vectors, place, index

    @cached_property
    def _index(self) -> TriggerIndex | None:
        """Read when it is first searched: what opens a space need not suggest anything."""
        return None if self._stored is None else TriggerIndex.load(self._stored, self._vectors)

    @classmethod
    def open(cls, folder: Path, files: Mapping[str, object], fingerprint: str) -> Answers | None:
        """Open those of a generation; None if its model has no side for replies, or had none when it was built."""
        if ANSWERS_FILE not in files:
            return None
        arrays, index = open_artifact(folder / ANSWERS_FILE, fingerprint), None
        if ANSWERS_INDEX_FILE in files:
            index = open_artifact(folder / ANSWERS_INDEX_FILE, fingerprint)["faiss"]
        return cls(arrays["vectors"], arrays["place"], index)

    def nearest(self, asked: Vectors, k: int) -> list[tuple[float, int]]:
        """The ``k`` replies that fit best: (cosine, place of the pair), best first.

        Args:
            asked: (dim,) float32 of length 1: the message on the side of replies, ``Encoder.embed_with_context``.
        """
        found = nearest_rows(self._vectors, asked, k, self._index)
        return [(score, int(self._place[row])) for score, row in found]


def lacks_answers(encoder: Encoder, files: Mapping[str, object]) -> bool:
    """Whether a generation of this model was built when replies could not be found by what they answer."""
    return encoder.has_response_side and ANSWERS_FILE not in files


def write_answers(staging: Path, encoder: Encoder, vectors: Vectors, pairs: Mapping[str, Array]) -> tuple[str, ...]:
    """Write the files into ``staging``; return their names, and none for a model without a side for replies.

    Args:
        vectors: (texts, dim), of all texts. pairs: as ``space.write_pairs`` gives them.
    """
    if not encoder.has_response_side:
        return ()
    newest_first = np.lexsort((-pairs["response_ms"], pairs["response_row"]))
    rows, first = np.unique(pairs["response_row"][newest_first], return_index=True)
    blocks = (encoder.as_responses(np.asarray(vectors[rows[at : at + _BLOCK]])) for at in range(0, len(rows), _BLOCK))
    answers = Stream((len(rows), encoder.dim), np.float32, blocks)
    write_artifact(staging / ANSWERS_FILE, {"vectors": answers, "place": newest_first[first]}, encoder.fingerprint)
    if len(rows) < EXACT_BELOW:
        return (ANSWERS_FILE,)
    written = open_artifact(staging / ANSWERS_FILE, encoder.fingerprint)["vectors"]
    write_artifact(
        staging / ANSWERS_INDEX_FILE, {"faiss": TriggerIndex.build(written).serialised()}, encoder.fingerprint
    )
    return ANSWERS_FILE, ANSWERS_INDEX_FILE
