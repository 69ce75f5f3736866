"""How engines are timed against each other so that the comparison is fair.

All engines of a run live in one process and get the same texts and the same number of threads. They take turns in
blocks of messages, and before each block there is a pause: the threads of an engine that has just worked go on
spinning for a while in case more work comes, and would take the cores from the next one. The order of turns is drawn
anew for each block. A round is one pass over its messages; what is reported is the median over rounds, with the
lowest and the highest. Each round has messages of its own.

Nothing here knows what an engine is: an engine is a function, a clock and a pause are functions too.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

BLOCK: Final = 50
"""Messages that one engine embeds before the next one takes its turn."""

PAUSE_S: Final = 0.1
"""Seconds before each turn, in which the threads of the engine before fall asleep."""

WARM_UP: Final = 2
"""Messages at the start of each turn that are not timed: the engine's weights left the caches meanwhile."""

Vectors = npt.NDArray[np.float32]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure measured once a round: its median, and the lowest and highest of all rounds."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of single messages of one engine, one tuple a round."""

    rounds: tuple[tuple[float, ...], ...]

    def milliseconds(self, quantile: float) -> Spread:
        """The quantile (0..1) of each round, over the rounds, in ms."""
        return spread([float(np.quantile(seconds, quantile)) * 1e3 for seconds in self.rounds])

    def p50s(self) -> list[float]:
        """Median seconds of one message, one figure a round."""
        return [statistics.median(seconds) for seconds in self.rounds]


def spread(values: Sequence[float]) -> Spread:
    """Sum up one value a round.

    Raises:
        ValueError: there is none.
    """
    return Spread(statistics.median(values), min(values), max(values))


def ratio(ours: Sequence[float], other: Sequence[float]) -> Spread:
    """``other / ours`` round by round: how many times less time, or (the other way about) more messages."""
    return spread([theirs / mine for mine, theirs in zip(ours, other, strict=True)])


def turns(names: Sequence[str], blocks: int, rng: random.Random) -> Iterator[tuple[int, str]]:
    """Yield (block, engine): every engine once for each block, in an order drawn for it."""
    for block in range(blocks):
        for name in rng.sample(names, len(names)):
            yield block, name


def time_single(
    engines: Mapping[str, Callable[[str], object]],
    rounds: Sequence[Sequence[str]],
    *,
    seed: int,
    block: int = BLOCK,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], object] = time.sleep,
) -> dict[str, Times]:
    """Time each message alone, end to end, in every engine.

    Args:
        engines: name → function of one text.
        rounds: the messages of each round.
    """
    rng, names = random.Random(seed), list(engines)  # noqa: S311  an order of turns is no secret
    gathered: dict[str, list[tuple[float, ...]]] = {name: [] for name in names}
    total, done = len(rounds) * len(names), 0
    for texts in rounds:
        of_round: dict[str, list[float]] = {name: [] for name in names}
        for number, name in turns(names, -(-len(texts) // block), rng):
            part, embed = texts[number * block : (number + 1) * block], engines[name]
            sleep(PAUSE_S)
            for text in part[:WARM_UP]:
                embed(text)
            for text in part:
                start = clock()
                embed(text)
                of_round[name].append(clock() - start)
        for name in names:
            gathered[name].append(tuple(of_round[name]))
        done += len(names)
        if progress:
            progress("single", done, total)
    return {name: Times(tuple(of_rounds)) for name, of_rounds in gathered.items()}


def time_bulk(
    engines: Mapping[str, Callable[[Sequence[str]], Any]],
    texts: Sequence[str],
    rounds: int,
    *,
    seed: int,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], object] = time.sleep,
) -> tuple[dict[str, list[float]], dict[str, Vectors]]:
    """Embed all of ``texts`` in one call, once a round in every engine.

    Returns:
        messages per second, one figure a round; and the vectors of each engine, (n, dim).
    """
    rates: dict[str, list[float]] = {name: [] for name in engines}
    vectors: dict[str, Vectors] = {}
    rng = random.Random(seed)  # noqa: S311
    for done, (_, name) in enumerate(turns(list(engines), rounds, rng), 1):
        sleep(PAUSE_S)
        start = clock()
        vectors[name] = engines[name](texts)
        rates[name].append(len(texts) / (clock() - start))
        if progress:
            progress("bulk", done, rounds * len(engines))
    return rates, vectors


def best_batch(
    embed: Callable[[Sequence[str], int], object],
    texts: Sequence[str],
    sizes: Sequence[int],
    *,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], object] = time.sleep,
) -> int:
    """The batch size with which an engine embeds ``texts`` fastest: better of two tries for each size."""
    seconds: dict[int, float] = {}
    for size in [*sizes, *sizes]:
        sleep(PAUSE_S)
        start = clock()
        embed(texts, size)
        seconds[size] = min(clock() - start, seconds.get(size, float("inf")))
    return min(seconds, key=seconds.__getitem__)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How near an engine's vectors are to the reference's.

    Attributes:
        cosine_mean, cosine_min: of each text's two vectors.
        recall_at_10: share of the reference's ten nearest neighbours, among the same texts, that are found again.
        texts: how many there were.
    """

    cosine_mean: float
    cosine_min: float
    recall_at_10: float
    texts: int


def agreement(vectors: Vectors, reference: Vectors, k: int = 10) -> Agreement:
    """Compare (n, dim) unit vectors row by row, and by the neighbours that they find."""
    cosines = np.einsum("nd,nd->n", vectors.astype(np.float64), reference.astype(np.float64))
    k = min(k, len(vectors) - 1)
    found, wanted = _neighbours(vectors, k), _neighbours(reference, k)
    hits = sum(len(np.intersect1d(a, b)) for a, b in zip(found, wanted, strict=True))
    recall = hits / (k * len(vectors)) if k > 0 else 1.0
    return Agreement(float(cosines.mean()), float(cosines.min()), recall, len(vectors))


def _neighbours(vectors: Vectors, k: int) -> npt.NDArray[np.intp]:
    """The ``k`` rows nearest to each row, itself left out, in no order: (n, k)."""
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    return np.argpartition(-scores, max(k - 1, 0), axis=1)[:, :k]
