"""What is fastest for one message on this machine: measured once, and remembered (``models/tuning.py``).

There are two engines, and more threads are not always faster: a product over a dozen tokens is done before the last
thread has woken up.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ..config import Precision
from ..errors import ModelUnsupported
from .encoder import load_encoder
from .kernel import TEAM
from .machine import usable_cores
from .tuning import Tuning, Way, remember

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
