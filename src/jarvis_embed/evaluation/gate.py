"""The gate: no exam, no promotion. A trained model must gain what it was trained for, and pay little for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from ..models.lineage import Judged, Verdict
from .exam_record import Exam, Metric

_PARENT: Final = "parent"


class Gate(BaseModel):
    """What a trained model must reach.

    Attributes:
        gains: rows of the exam, by the begin of their keys, of which each must be above the parent's beyond the
            interval.
        tolerances: rows that may lose so much at most.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    gains: tuple[str, ...] = ("response_accuracy",)
    tolerances: dict[str, float] = Field(
        default_factory=lambda: {"trigger_f1": 0.01, "response_f1": 0.01, "general_similarity": 0.02}
    )


def judge(exam: Exam, gate: Gate) -> Verdict:
    """Hold an exam with its parent's figures beside it against the gate."""
    rows: list[Judged] = []
    unmeasured: list[str] = []
    for wanted, surely, allowed in [
        *((name, True, 0.0) for name in gate.gains),
        *((name, False, -lost) for name, lost in gate.tolerances.items()),
    ]:
        found = list(_measured(exam, wanted))
        if not found:
            unmeasured.append(wanted)
        for row in found:
            parent = row.baselines[_PARENT]
            interval = parent.difference.interval
            assert row.value is not None  # noqa: S101  ``_measured`` yields no other
            rows.append(Judged(row.key, row.value, parent.value, interval.low, interval.high, allowed, surely))
    return Verdict(exam.precision, tuple(rows), tuple(unmeasured))


def _measured(exam: Exam, begin: str) -> Iterator[Metric]:
    for row in exam.metrics:
        if row.key.startswith(begin) and row.value is not None and _PARENT in row.baselines:
            yield row
