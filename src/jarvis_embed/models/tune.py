"""How many threads are best for one message on this machine: measured once, remembered, read at every load.

More threads are not always faster: a product over a dozen tokens is done before the last thread has woken up. What was
found holds for one model at one precision, one kind of machine and one onnxruntime. It lies in ``tuning.json`` in our
folder of the home; a damaged or foreign file counts as none, and the next measurement replaces it.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..config import Precision
from ..home import embeddings_folder, write_json
from .runtime import usable_cores

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


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was found for one model on this machine.

    Attributes:
        threads: the choice.
        milliseconds: threads → median ms of one message.
    """

    model: str
    precision: Precision
    threads: int
    milliseconds: dict[int, float]


def tune(
    model: str,
    home: Path,
    precision: Precision,
    *,
    rounds: int = 5,
    cores: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Tuning:
    """Measure one message with 1, 2, … ``cores`` threads, and remember the best number. Takes seconds.

    Args:
        cores: the highest number that is tried; all usable ones if None.

    Raises:
        UnknownModel, WeightsMissing, WeightsDamaged, ModelUnsupported: see ``load_encoder``.
        HomeNotWritable, DiskFull: it was measured and cannot be kept.
    """
    from .encoder import load_encoder  # that module reads what this one remembers

    counts = candidates(cores or usable_cores())
    encoders = {n: load_encoder(model, home=home, precision=precision, threads=n, cache=0) for n in counts}
    seconds: dict[int, list[float]] = {n: [] for n in counts}
    for done in range(rounds):
        for n, encoder in encoders.items():
            time.sleep(_PAUSE_S)  # the threads of the one before must fall asleep first
            encoder.embed([_TEXTS[0]])
            for text in _TEXTS * _PASSES:
                start = time.perf_counter()
                encoder.embed([text])
                seconds[n].append(time.perf_counter() - start)
        if progress:
            progress("tune", done + 1, rounds)
    found = {n: statistics.median(of_n) * 1e3 for n, of_n in seconds.items()}
    name = encoders[counts[0]].name
    tuning = Tuning(name, precision, choose(found), {n: round(ms, 4) for n, ms in found.items()})
    remember(tuning, home)
    return tuning


def candidates(cores: int) -> list[int]:
    """Numbers of threads worth a try: all up to four, then doubling, and all cores."""
    doubling = [2**power for power in range(3, cores.bit_length() + 1)]
    return sorted({n for n in (1, 2, 3, 4, *doubling, cores) if n <= cores})


def choose(milliseconds: dict[int, float]) -> int:
    """The fewest threads than which no larger number is clearly faster."""
    best = min(milliseconds.values())
    return min(n for n, ms in milliseconds.items() if ms * _CLEAR_GAIN <= best)


def remembered_threads(model: str, precision: str, home: Path) -> int | None:
    """What ``tune`` found for this model on this machine, or None. One small file is read; nothing is raised."""
    found = _machine_entry(_read(home)).get(f"{model}/{precision}")
    threads = found.get("threads") if isinstance(found, dict) else None
    # A container may have been given fewer cores since: the key holds their number, but a file can hold anything.
    return threads if type(threads) is int and 1 <= threads <= usable_cores() else None


def remember(tuning: Tuning, home: Path) -> None:
    """Add ``tuning`` to what is remembered, for this machine."""
    kept = _read(home)
    entry = {"threads": tuning.threads, "milliseconds": tuning.milliseconds}
    of_machine = {**_machine_entry(kept), f"{tuning.model}/{tuning.precision}": entry}
    write_json(_path(home), {**kept, machine_key(): of_machine})


def machine_key() -> str:
    """What a measurement depends on besides the model: processor, cores, and onnxruntime."""
    import onnxruntime

    return f"{_processor()} · {usable_cores()} cores · onnxruntime {onnxruntime.__version__}"


def _processor() -> str:
    """The processor's name, as far as it can be had without starting a process."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:  # noqa: PTH123  only a few lines of it
            named = next((line for line in file if line.startswith("model name")), "")
    except OSError:
        named = ""
    return named.partition(":")[2].strip() or platform.processor() or platform.machine()


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
