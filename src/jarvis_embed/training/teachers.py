"""Models that teach another: how near segments are for them is what it shall follow (``objectives.following``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from ..conversations.segments import SegmentSamples
from ..models.encoder import Encoder
from ..models.engine import of_length_1
from .texts import Halves, Rows

_BLOCK: Final = 2048


def taught_by(
    teachers: Sequence[Encoder],
    samples: SegmentSamples,
    numbered: tuple[Rows, Rows],
    texts: Sequence[str],
    progress: Callable[[str, int, int], None],
) -> Halves | None:
    """(2n, teachers · dim) of length 1: the anchors of n samples, and after them the positives, under each teacher,
    side by side. So the product of two rows is the mean of the teachers' cosines. None where there is no teacher.

    Args:
        numbered: what ``numbered_segments`` says of the samples, as rows of ``texts``.
        progress: called with the stage (``ask`` and the teacher's name), done, and total.
    """
    if not teachers:
        return None
    said = [one.texts for one in (*samples.anchors, *samples.positives)]
    found = [_segments(teacher, said, *numbered, texts, progress) for teacher in teachers]
    return of_length_1(np.concatenate(found, axis=1).astype(np.float32)).astype(np.float16)


def _segments(
    teacher: Encoder,
    said: Sequence[Sequence[str]],
    wholes: Rows,
    turns: Rows,
    texts: Sequence[str],
    progress: Callable[[str, int, int], None],
) -> Halves:
    """(2n, dim): ``Encoder.embed_segments``, with every text embedded once, though threads were cut several times."""
    there = turns >= 0
    used = np.unique(np.concatenate([wholes, turns[there]]))
    asked = [texts[row] for row in used.tolist()]
    vectors = teacher.embed(asked, lambda done, total: progress(f"ask {teacher.name}", done, total)).astype(np.float16)
    found = np.zeros((len(said), teacher.dim), np.float16)
    for start in range(0, len(said), _BLOCK):
        rows = slice(start, start + _BLOCK)
        whole = vectors[np.searchsorted(used, wholes[rows])].astype(np.float32)
        if teacher.has_segment_side:
            each = vectors[np.searchsorted(used, turns[rows][there[rows]])].astype(np.float32)
            whole = teacher.as_segments(whole, each, said[rows])
        found[rows] = whole
    return found
