"""What ``models tune`` found on this machine: which engine answers one message fastest, and with how many cores.

It holds for one model at one precision, one kind of machine and one onnxruntime, and lies in ``tuning.json`` in our
folder of the home. A damaged or foreign file counts as none, and the next measurement replaces it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..config import Precision
from ..home import embeddings_folder, write_json
from .machine import processor, usable_cores


@dataclass(frozen=True, slots=True, order=True)
class Way:
    """An engine and the cores that it uses for one message."""

    engine: Literal["kernel", "onnx"]
    threads: int

    def __str__(self) -> str:
        return f"{self.engine} {self.threads}"


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was found for one model on this machine.

    Attributes:
        best: the choice.
        milliseconds: way → median ms of one message.
    """

    model: str
    precision: Precision
    best: Way
    milliseconds: dict[Way, float]


def remembered(model: str, precision: str, home: Path) -> Way | None:
    """What ``tune`` found for this model on this machine, or None. One small file is read; nothing is raised."""
    found = _machine_entry(_read(home)).get(f"{model}/{precision}")
    if not isinstance(found, dict):
        return None
    threads, engine = found.get("threads"), found.get("engine")
    # A container may have been given fewer cores since: the key holds their number, but a file can hold anything.
    if type(threads) is int and 1 <= threads <= usable_cores() and engine in ("kernel", "onnx"):
        return Way(engine, threads)
    return None


def remember(tuning: Tuning, home: Path) -> None:
    """Add ``tuning`` to what is remembered, for this machine."""
    kept = _read(home)
    found = {str(way): ms for way, ms in tuning.milliseconds.items()}
    entry = {"engine": tuning.best.engine, "threads": tuning.best.threads, "milliseconds": found}
    of_machine = {**_machine_entry(kept), f"{tuning.model}/{tuning.precision}": entry}
    write_json(_path(home), {**kept, machine_key(): of_machine})


def machine_key() -> str:
    """What a measurement depends on besides the model: processor, cores, and onnxruntime."""
    import onnxruntime

    return f"{processor()} · {usable_cores()} cores · onnxruntime {onnxruntime.__version__}"


def _path(home: Path) -> Path:
    return embeddings_folder(home) / "tuning.json"


def _read(home: Path) -> dict[str, Any]:
    try:
        kept = json.loads(_path(home).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _machine_entry(kept: dict[str, Any]) -> dict[str, Any]:
    entry = kept.get(machine_key())
    return entry if isinstance(entry, dict) else {}
