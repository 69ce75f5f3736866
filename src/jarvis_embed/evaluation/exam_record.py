"""The record of an exam: its rows, and where it lies. Figures only, neither texts nor names of conversations."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ..errors import EvaluationError, SpaceError
from ..home import home_folder, write_json
from ..models.store import model_home
from ..spaces.generations import current_folder
from ..spaces.manifest import read_manifest
from .bootstrap import Contributions, Difference, Interval
from .classifiers import Confusion
from .quality import CalibrationBin

SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class Baseline:
    """What somebody else reaches, and how much higher the examined model is (paired over conversations)."""

    who: str
    value: float
    interval: Interval
    difference: Difference


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table.

    Attributes:
        name: as in docs/exam.md. on: what it was measured on. variant: how, where there are several ways.
        value: None where it was not measured; ``needs`` says what for.
        interval: of 95 %, over conversations; None for a figure of time.
        n: how many of ``unit`` took part, from so many ``conversations``.
        beside: figures without which this one says nothing, by name.
        baselines: the same figure of others: ``random``, ``tf-idf``, ``parent``, ``map``.
    """

    name: str
    on: str
    variant: str = ""
    value: float | None = None
    interval: Interval | None = None
    n: int = 0
    unit: str = ""
    conversations: int = 0
    beside: dict[str, float] = field(default_factory=dict)
    baselines: dict[str, Baseline] = field(default_factory=dict)
    needs: str = ""

    @property
    def key(self) -> str:
        """Names the row; equal in the exams of two models on the same material."""
        return " · ".join(part for part in (self.name, self.on, self.variant) if part)


@dataclass(frozen=True, slots=True)
class Exam:
    """The measured report of a model.

    Attributes:
        reference: fingerprint of the frozen encoder that judged responses.
        parent: the model that this one was trained from, if that was said.
        source, part: which history, and which side of it.
        material: counts of what was measured on.
        contributions: key of a metric → what each conversation contributed; for paired differences between models
            that are examined in one process. Never stored: it names conversations.
        confusions: name of a classifier's metric → its confusion on the gold labels.
        calibration: predicted quality beside human ratings, part by part; empty for a model without a quality head.
    """

    schema: int
    date: str
    model: str
    fingerprint: str
    precision: str
    reference: str
    parent: str | None
    source: str
    part: str
    seed: int
    draws: int
    level: float
    material: dict[str, int]
    metrics: tuple[Metric, ...]
    seconds: float
    contributions: Mapping[str, Contributions] = field(default_factory=dict, repr=False, compare=False)
    confusions: Mapping[str, Confusion] = field(default_factory=dict)
    calibration: tuple[CalibrationBin, ...] = ()

    def metric(self, name: str, on: str = "", variant: str = "") -> Metric:
        """The first row of that name whose ``on`` and ``variant`` begin as given.

        Raises:
            EvaluationError: there is none.
        """
        for row in self.metrics:
            if row.name == name and row.on.startswith(on) and row.variant.startswith(variant):
                return row
        raise EvaluationError(f"this exam has no row {name} {on} {variant}".rstrip())

    def as_dict(self) -> dict[str, Any]:
        """What is stored and printed for machines."""
        stated = asdict(replace(self, contributions={}))
        del stated["contributions"]
        return stated


def store_exam(exam: Exam, home: str | os.PathLike[str] | None = None) -> Path:
    """Write the exam as JSON: into the current generation of the model's space, or beside it if there is none of it.

    Returns:
        where it lies. A second exam on the same part of the same history replaces the first.
    """
    folder = model_home(exam.model, home_folder(home))
    generation = generation_of(folder, exam.fingerprint)
    path = (generation or folder) / _file_name(exam.source, exam.part)
    write_json(path, exam.as_dict())
    return path


def stored_exam(
    model: str, fingerprint: str, source: str, part: str, home: str | os.PathLike[str] | None = None
) -> dict[str, Any] | None:
    """The stored exam of a model as it is now, as ``Exam.as_dict`` made it; None if there is none."""
    folder = model_home(model, home_folder(home))
    for place in (generation_of(folder, fingerprint), folder):
        try:
            if place is not None:
                stated: dict[str, Any] = json.loads((place / _file_name(source, part)).read_text(encoding="utf-8"))
                if stated["fingerprint"] == fingerprint and stated["schema"] == SCHEMA:
                    return stated
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _file_name(source: str, part: str) -> str:
    return f"exam-{source}-{part.replace(' ', '-')}.json"


def generation_of(folder: Path, fingerprint: str) -> Path | None:
    """The current generation, if it was made with this fingerprint."""
    try:
        current = current_folder(folder)
        return current if current is not None and read_manifest(current).fingerprint == fingerprint else None
    except SpaceError:
        return None
