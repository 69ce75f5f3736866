"""What is fastest for one message on this machine: measured once, remembered, read at every load.

There are two engines, and more threads are not always faster: a product over a dozen tokens is done before the last
thread has woken up. What was found holds for one model at one precision, one kind of machine and one onnxruntime. It
lies in ``tuning.json`` in our folder of the home; a damaged or foreign file counts as none, and the next measurement
replaces it.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from ..config import Precision
from ..errors import ModelUnsupported
from ..home import embeddings_folder, write_json
from .kernel import TEAM
from .machine import processor, usable_cores

_TEXTS: Final = (
    "ok", "haha yes", "wanna grab lunch?", "on my way, be there in 10", "did you see the game last night?",
    "can you send me the address of the restaurant again please",
    "sorry I missed your call, I was in a meeting all morning and my phone was off",
    "I was thinking we could drive up on Friday after work and come back on Sunday evening, what do you think?",
)  # fmt: skip
_PASSES: Final = 4
_PAUSE_S: Final = 0.1
_CLEAR_GAIN: Final = 0.97
"""More threads must be at least this much faster than fewer: the cores have other work too."""


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


def tune(
    model: str,
    home: Path,
    precision: Precision,
    *,
    rounds: int = 5,
    cores: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Tuning:
    """Measure one message by the kernel and by onnxruntime with 1, 2, … ``cores`` threads; remember the best.

    Takes seconds.

    Args:
        cores: the highest number that is tried; all usable ones if None.

    Raises:
        UnknownModel, WeightsMissing, WeightsDamaged, ModelUnsupported: see ``load_encoder``.
        HomeNotWritable, DiskFull: it was measured and cannot be kept.
    """
    from .encoder import load_encoder  # that module reads what this one remembers

    ways = [Way("onnx", threads) for threads in candidates(cores or usable_cores())]
    encoders = {
        way: load_encoder(model, home=home, precision=precision, engine="onnx", threads=way.threads, cache=0)
        for way in ways
    }
    with contextlib.suppress(ModelUnsupported):
        for threads in candidates(min(cores or usable_cores(), TEAM)):
            kernel = load_encoder(model, home=home, precision=precision, engine="kernel", threads=threads, cache=0)
            encoders[Way("kernel", threads)] = kernel
    seconds: dict[Way, list[float]] = {way: [] for way in encoders}
    for done in range(rounds):
        for way, encoder in encoders.items():
            time.sleep(_PAUSE_S)  # the threads of the one before must fall asleep first
            encoder.embed([_TEXTS[0]])
            for text in _TEXTS * _PASSES:
                start = time.perf_counter()
                encoder.embed([text])
                seconds[way].append(time.perf_counter() - start)
        if progress:
            progress("tune", done + 1, rounds)
    found = {way: round(statistics.median(of_way) * 1e3, 4) for way, of_way in seconds.items()}
    tuning = Tuning(encoders[ways[0]].name, precision, choose(found), found)
    remember(tuning, home)
    return tuning


def candidates(cores: int) -> list[int]:
    """Numbers of threads worth a try: all up to four, then doubling, and all cores."""
    doubling = [2**power for power in range(3, cores.bit_length() + 1)]
    return sorted({n for n in (1, 2, 3, 4, *doubling, cores) if n <= cores})


def choose(milliseconds: dict[Way, float]) -> Way:
    """The way with the fewest threads than which none with more is clearly faster."""
    best = min(milliseconds.values())
    good = [way for way, ms in milliseconds.items() if ms * _CLEAR_GAIN <= best]
    return min(good, key=lambda way: (way.threads, milliseconds[way]))


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
