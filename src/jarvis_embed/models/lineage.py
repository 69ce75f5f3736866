"""Where a trained model comes from, and whether its exam lets it be used: ``training.json`` beside its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from ..errors import ModelRefused, WeightsDamaged
from ..home import sha256_of, write_json
from .projections import projections_checksum
from .quality_head import HEAD_FILE
from .weights import ModelFolder

LINEAGE_FILE: Final = "training.json"
SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class Judged:
    """One figure before the gate.

    Attributes:
        metric: key of the exam's row. value, parent: of the model, and of the one it is examined beside.
        low, high: 95 % interval of their difference, paired over conversations.
        allowed: the difference may not be below this; the low end of the interval may not, where ``surely``.
    """

    metric: str
    value: float
    parent: float
    low: float
    high: float
    allowed: float
    surely: bool

    @property
    def difference(self) -> float:
        return self.value - self.parent

    @property
    def passed(self) -> bool:
        return self.low > self.allowed if self.surely else self.difference >= self.allowed


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate says: every figure it looked at, and those it wanted and that were not measured."""

    precision: str
    rows: tuple[Judged, ...]
    unmeasured: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the model gained what it was trained for, and lost no more than is allowed."""
        return any(row.surely for row in self.rows) and all(row.passed for row in self.rows)

    @property
    def reason(self) -> str:
        """One sentence with the figure that decided."""
        failed = [row for row in self.rows if not row.passed]
        gained = next((row for row in self.rows if row.surely), None)
        if gained is None:
            return "what it was trained for could not be measured"
        row = failed[0] if failed else gained
        figures = f"{row.metric} {row.value:.3f}, parent {row.parent:.3f} ({row.low:+.3f} to {row.high:+.3f})"
        if not failed:
            return f"better than its parent: {figures}"
        return f"not better than its parent: {figures}" if row.surely else f"loses too much: {figures}"


@dataclass(frozen=True, slots=True)
class Lineage:
    """How a model was made.

    Attributes:
        parent, parent_fingerprint: the model it was trained from.
        beside: the model it is examined beside, where that is not its parent, but its parent's.
        kind: ``pairs``, ``threads``, ``multitask``. recipe: as data. data: hash over what was learned from.
        weights: hash over weights and projections as they were examined, or, before that, as training left them;
            empty while it goes on.
        selection: what the selection of pairs left out. run: the course of the training.
        exam: the figures of its exam; empty before it.
    """

    parent: str
    parent_fingerprint: str
    kind: str
    recipe: Mapping[str, Any]
    data: str
    weights: str
    created: str
    selection: Mapping[str, Any] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)
    exam: Mapping[str, Any] = field(default_factory=dict)
    verdict: Verdict | None = None
    beside: str = ""

    @property
    def examined_beside(self) -> str:
        """The model whose figures stand beside its own."""
        return self.beside or self.parent


def weights_checksum(folder: Path) -> str:
    """Names the weights, projections and quality head in a folder."""
    head = folder / HEAD_FILE
    judges = sha256_of(head)[:32] if head.is_file() else ""
    return f"{sha256_of(folder / 'model.safetensors')[:32]}{projections_checksum(folder)[:32]}{judges}"


def learned_labels(folder: Path) -> bool:
    """Whether the model in a folder was trained to say beside its vector what kind of message a text is."""
    lineage = read_lineage(folder)
    return lineage is not None and bool(lineage.recipe.get("objectives", {}).get("labels"))


def write_lineage(folder: Path, lineage: Lineage) -> None:
    """Put it beside the weights."""
    write_json(folder / LINEAGE_FILE, {"schema": SCHEMA, **asdict(lineage)})


def read_lineage(folder: Path) -> Lineage | None:
    """How the model in ``folder`` was made; None for one that was not trained here.

    Raises:
        WeightsDamaged: the file is there and cannot be read.
    """
    path = folder / LINEAGE_FILE
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
        stated.pop("schema")
        verdict = stated.pop("verdict")
        if verdict is not None:
            rows = tuple(Judged(**row) for row in verdict["rows"])
            verdict = Verdict(verdict["precision"], rows, tuple(verdict["unmeasured"]))
        return Lineage(**stated, verdict=verdict)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsDamaged(f"{path} is not readable", "Train the model again") from error


def require_passed(model: ModelFolder) -> None:
    """Let an untrained model through, and a trained one whose exam was passed with these very weights.

    Raises:
        ModelRefused: it was not examined, or it is not better than its parent; says the figures.
    """
    lineage = read_lineage(model.folder)
    if lineage is None:
        return
    if lineage.verdict is None or lineage.weights != weights_checksum(model.folder):
        raise ModelRefused(f"{model.name} has passed no exam", f"Examine it: jarvis-embed train examine {model.name}")
    if not lineage.verdict.passed:
        raise ModelRefused(
            f"{model.name} did not pass its exam: {lineage.verdict.reason}",
            f"It is kept for inspection: jarvis-embed exam {model.name} --parent {lineage.examined_beside}",
        )
