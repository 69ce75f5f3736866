"""The times of several models in one run: they take turns, so that what else the machine does falls on all alike."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..config import Precision
from ..models.encoder import Encoder, load_encoder
from ..models.registry import REGISTRY
from ..models.store import all_models, find_model
from . import latency
from .latency import Progress, Spread, spread

ROUNDS: Final = 3
_MESSAGES: Final = 100
_BULK: Final = 500


@dataclass(frozen=True, slots=True)
class Speed:
    """One message in a warm process (ms), and many at once (messages a second)."""

    p50_ms: Spread
    p95_ms: Spread
    messages_per_s: Spread


@contextmanager
def shape_encoders(
    absent: Sequence[str], home: Path, precision: Precision, threads: int, seed: int
) -> Iterator[dict[str, Encoder]]:
    """Encoders of random weights in the shape of models that are not here; gone afterwards."""
    lender = next((p.name for p in all_models(home) if p.folder is not None and p.name in REGISTRY), None)
    if lender is None or not absent:
        yield {}
        return
    from .lanes import shape_of  # imports onnx, which a comparison of compiled models does not need

    with tempfile.TemporaryDirectory(prefix="compare-") as folder:
        drawn = {n: shape_of(REGISTRY[n], find_model(lender, home), Path(folder), seed) for n in absent}
        yield {
            name: load_encoder(Path(one.given), home=one.home, precision=precision, threads=threads, cache=0)
            for name, one in drawn.items()
        }


def time_models(encoders: Mapping[str, Encoder], texts: Sequence[str], seed: int, show: Progress) -> dict[str, Speed]:
    """Time every encoder, each taking turns with the others.

    Args:
        encoders: without a cache of single texts. texts: at least ``ROUNDS`` different ones.
    """
    size = min(_MESSAGES, max(len(texts) // ROUNDS, 1))
    rounds = [texts[start : start + size] for start in range(0, size * ROUNDS, size)]
    single = latency.time_single(
        {name: _alone(encoder) for name, encoder in encoders.items()}, rounds, seed=seed, progress=show
    )
    rates, _ = latency.time_bulk(
        {name: encoder.embed for name, encoder in encoders.items()}, texts[:_BULK], ROUNDS, seed=seed, progress=show
    )
    return {
        name: Speed(single[name].milliseconds(0.5), single[name].milliseconds(0.95), spread(rates[name]))
        for name in encoders
    }


def _alone(encoder: Encoder) -> Callable[[str], object]:
    return lambda text: encoder.embed([text])
