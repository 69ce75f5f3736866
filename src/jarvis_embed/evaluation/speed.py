"""The exam's questions about time: one query, a bulk, a cold start, and the search that follows.

A light version of ``bench``, which compares with other people's engines in the same run. No figure here decides
whether a model passes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from ..models.encoder import Encoder
from ..models.engine import Vectors
from ..models.machine import usable_cores
from ..spaces.index import TriggerIndex
from . import latency, metrics, peers
from .lanes import fresh_process

_ROUNDS: Final = 3
_MESSAGES: Final = 100
_BULK: Final = 500
_QUERIES: Final = 300
_TOP: Final = 10


def measure_latency(
    encoder: Encoder, given: str | None, home: Path, texts: Sequence[str], seed: int
) -> dict[str, float]:
    """Time one message end to end (ms, warm: median of the rounds), a bulk (messages/s), and a fresh process.

    Args:
        encoder: without a cache of single texts.
        given: the name or folder that a fresh process loads the model by; None to leave that out.
        texts: different ones, as they are really sent.
    """
    size = min(_MESSAGES, max(len(texts) // _ROUNDS, 1))
    rounds = [texts[start : start + size] for start in range(0, size * _ROUNDS, size) if texts[start : start + size]]
    times = latency.time_single({"ours": lambda text: encoder.embed([text])}, rounds, seed=seed)["ours"]
    rates, _ = latency.time_bulk({"ours": encoder.embed}, texts[:_BULK], _ROUNDS, seed=seed)
    found = {f"p{round(100 * q)}_ms": times.milliseconds(q).median for q in (0.5, 0.95, 0.99)}
    found["messages_per_s"] = latency.spread(rates["ours"]).median
    if given is not None:
        fresh = fresh_process(peers.job(_spec(encoder, given, home), texts[0], texts[:_BULK], 1))
        if fresh is not None:
            found["cold_ms"], found["peak_mb"] = fresh
    return found


def measure_search(
    index: TriggerIndex, vectors: Vectors, queries: Vectors, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Recall@10 against comparing all rows, time of one search (ms), and the index's bytes for each vector.

    Args:
        vectors: (n, dim) that the index was built over.
        queries: (q, dim) of held-out triggers.
    """
    queries = queries[:_QUERIES]
    found, seconds = [], []
    for query in queries:
        start = clock()
        _, rows = index.search(query[None], _TOP)
        seconds.append(clock() - start)
        found.append(rows[0])
    return {
        "recall_at_10": metrics.recall(np.stack(found), queries, np.asarray(vectors)),
        "p50_ms": float(np.quantile(seconds, 0.5)) * 1e3,
        "p99_ms": float(np.quantile(seconds, 0.99)) * 1e3,
        "bytes_per_vector": index.serialised().nbytes / len(index),
    }


def _spec(encoder: Encoder, given: str, home: Path) -> peers.EngineSpec:
    return peers.EngineSpec(
        kind="ours",
        precision=f"{encoder.precision} {encoder.engine}",
        model=str(Path(given).absolute()) if os.sep in given else given,
        folder="",  # what other people's engines are opened by
        home=str(home),
        pooling="",
        dim=encoder.dim,
        max_length=encoder.max_length,
        threads=usable_cores(),
    )
