"""Models side by side on one history: what each is worth, how fast it is, how large its space is.

Every model sits the same exam with the same seed, so differences are paired over conversations. All encoders are timed
in one run and take turns, with equal threads. A model without weights is named with the command that gets them; only
the time of its shape can be measured.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..config import Precision, load_settings
from ..errors import EvaluationError
from ..library import Library
from ..messages import Pair
from ..models.encoder import Encoder, load_encoder
from ..models.machine import processor, usable_cores
from ..models.registry import REGISTRY
from ..models.store import all_models, find_model, locate
from ..pipeline import Timing, suggest
from ..spaces.build import build
from ..spaces.space import Space
from . import bootstrap, latency
from .bootstrap import Contributions, Difference
from .comparison import SCHEMA, recommend
from .data import PublicData
from .exam import Exam, Metric, run_exam
from .latency import Spread, spread
from .material import prepare
from .speed import measure_search
from .splits import Sides

BASELINE: Final = "bge-small"
MAPPED: Final = 600
"""Triggers in the map of a space."""

_ROUNDS: Final = 3
_MESSAGES: Final = 100
_BULK: Final = 500
_ASKED: Final = 50
_BINS: Final = 50

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Speed:
    """One message in a warm process (ms), and many at once (messages a second)."""

    p50_ms: Spread
    p95_ms: Spread
    messages_per_s: Spread


@dataclass(frozen=True, slots=True)
class SpaceSize:
    """What a space holds and takes.

    Attributes:
        index: its kind. index_bytes: of the index alone. bytes: of the whole generation.
        recall_at_10: against comparing all triggers. search_ms: median of one search.
        build_s: None where a space was there already and up to date.
    """

    pairs: int
    triggers: int
    index: str
    index_bytes: int
    bytes: int
    recall_at_10: float
    search_ms: float
    build_s: float | None


@dataclass(frozen=True, slots=True)
class Histogram:
    """Cosines of segments, counted in equal bins from ``low`` to ``high``: of one thread, and of different ones."""

    on: str
    low: float
    high: float
    same: tuple[int, ...]
    other: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """A trigger of the space in the plane. ``pair``: the id of the newest pair that it began; the text stays out."""

    pair: int
    x: float
    y: float
    label: str | None = None


@dataclass(frozen=True, slots=True)
class TriggerMap:
    """Triggers drawn from a space, on its two first principal components, which hold ``explained`` of the variance."""

    explained: float
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often gold label ``labels[i]`` was taken for ``labels[j]``; a last column counts where none was given."""

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Model:
    """All that was measured of one model.

    Attributes:
        metrics: rows of its exam; those without a value say what they need.
        against: other model → key of the metric → how much higher this model's figure is.
        space, stages, map: of its space; None and empty where no history was ingested.
        stages: median time of each stage of ``suggest``.
        confusions: name of a classifier's metric → confusion on the gold labels.
    """

    name: str
    layers: int
    fingerprint: str
    precision: str
    engine: str
    speed: Speed
    metrics: tuple[Metric, ...]
    against: Mapping[str, Mapping[str, Difference]]
    threads: tuple[Histogram, ...]
    space: SpaceSize | None = None
    stages: tuple[Timing, ...] = ()
    map: TriggerMap | None = None
    confusions: Mapping[str, Confusion] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Absent:
    """A model without weights here. ``shape_speed`` is that of random weights: the time is real, nothing else is."""

    name: str
    layers: int
    next_step: str
    shape_speed: Speed | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A whole comparison; ``as_dict`` is the JSON. No text of a message, no name of a conversation.

    Attributes:
        baseline: the model that others are compared with.
        library: id of the library whose pairs the maps name; None where nothing was ingested.
        load: of the machine before this began. busy: it was above a quarter of the cores, so times may be too long.
    """

    date: str
    baseline: str
    source: str
    part: str
    seed: int
    draws: int
    threads: int
    processor: str
    load: float
    busy: bool
    library: str | None
    messages: int
    models: tuple[Model, ...]
    absent: tuple[Absent, ...]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        stated: dict[str, Any] = {"schema": SCHEMA, **asdict(self)}
        return {**stated, "recommendation": recommend(stated)}


def run_comparison(
    names: Sequence[str],
    sides: Sides | None,
    home: Path,
    *,
    source: str,
    data: Path | None = None,
    precision: Precision | None = None,
    threads: int | None = None,
    shapes: bool = True,
    seed: int = 1,
    progress: Progress | None = None,
) -> Comparison:
    """Measure models. Takes some minutes each; spaces that are up to date are used as they are.

    Args:
        names: models or folders; all known models if empty.
        sides: the history that is examined on, split; its validation part is measured.
        data: folder of public data files, as for ``run_exam``.
        threads: cores for every encoder; all if None.
        shapes: also time the shapes of models without weights.
        progress: called with (stage, done, total).

    Raises:
        UnknownModel: a name that is neither known nor a folder.
        EvaluationError: no model is present, or the history is too short.
    """
    start, load = time.perf_counter(), os.getloadavg()[0]  # before what follows makes the machine busy itself
    show = progress or (lambda _stage, _done, _total: None)
    precision, threads = precision or load_settings(home).precision, threads or usable_cores()
    present, absent = _sorted_out(names, home)
    pairs = prepare(sides, source, PublicData(), sealed=False, seed=seed).pairs
    texts = _shuffled([text for pair in pairs for text in (pair.trigger, pair.response)], seed)
    if len(texts) < _ROUNDS:
        raise EvaluationError("the history is too short to compare on", "Ingest more, or take --chitchat")
    encoders = {
        found.name: found
        for found in (load_encoder(name, home=home, precision=precision, threads=threads, cache=0) for name in present)
    }
    baseline = BASELINE if BASELINE in encoders else next(iter(encoders))
    built = _build_spaces(encoders, home, show)
    with _shapes(absent if shapes else (), home, precision, threads, seed) as shaped:
        speeds = _time({**encoders, **shaped}, texts, seed, show)
    exams = {
        name: run_exam(
            encoder, sides, source=source, data=data, home=home, precision=precision, baselines=False, timed=False,
            seed=seed, progress=_prefixed(show, name),
        )
        for name, encoder in encoders.items()
    }  # fmt: skip
    models = tuple(
        _model(encoder, find_model(given, home).config.layers, speeds[name], exams, built, pairs, home, seed)
        for given, (name, encoder) in zip(present, encoders.items(), strict=True)
    )
    return Comparison(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        baseline=baseline,
        source=source,
        part="validation",
        seed=seed,
        draws=bootstrap.DRAWS,
        threads=threads,
        processor=processor(),
        load=load,
        busy=load > usable_cores() / 4,
        library=_library_id(home) if built else None,
        messages=len(texts),
        models=models,
        absent=tuple(
            Absent(name, REGISTRY[name].layers, f"jarvis-embed models pull {name}", speeds.get(name)) for name in absent
        ),
        seconds=time.perf_counter() - start,
    )


def _sorted_out(names: Sequence[str], home: Path) -> tuple[list[str], list[str]]:
    """The models that are here, and those that are not; folders are here."""
    asked = list(dict.fromkeys(names)) or [presence.name for presence in all_models(home)]
    here = {name: os.sep in name or locate(name, home).folder is not None for name in asked}
    present, absent = [name for name in asked if here[name]], [name for name in asked if not here[name]]
    if not present:
        raise EvaluationError(
            f"no weights are here of {', '.join(absent)}", f"Get some: jarvis-embed models pull {absent[0]}"
        )
    return present, absent


def _build_spaces(encoders: Mapping[str, Encoder], home: Path, show: Progress) -> dict[str, float | None]:
    """Bring the space of every model up to date: model → seconds, None if it was; empty if nothing was ingested."""
    with Library.open(home) as library:
        if not library.counts().pairs:
            return {}
    seconds: dict[str, float | None] = {}
    for name, encoder in encoders.items():
        start = time.perf_counter()
        report = build(encoder, home, progress=_prefixed(show, name))
        seconds[name] = None if report.up_to_date else time.perf_counter() - start
    return seconds


@contextmanager
def _shapes(
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


def _time(encoders: Mapping[str, Encoder], texts: Sequence[str], seed: int, show: Progress) -> dict[str, Speed]:
    size = min(_MESSAGES, max(len(texts) // _ROUNDS, 1))
    rounds = [texts[start : start + size] for start in range(0, size * _ROUNDS, size)]
    single = latency.time_single(
        {name: _alone(encoder) for name, encoder in encoders.items()}, rounds, seed=seed, progress=show
    )
    rates, _ = latency.time_bulk(
        {name: encoder.embed for name, encoder in encoders.items()}, texts[:_BULK], _ROUNDS, seed=seed, progress=show
    )
    return {
        name: Speed(single[name].milliseconds(0.5), single[name].milliseconds(0.95), spread(rates[name]))
        for name in encoders
    }


def _alone(encoder: Encoder) -> Callable[[str], object]:
    return lambda text: encoder.embed([text])


def _model(
    encoder: Encoder,
    layers: int,
    speed: Speed,
    exams: Mapping[str, Exam],
    built: Mapping[str, float | None],
    pairs: Sequence[Pair],
    home: Path,
    seed: int,
) -> Model:
    exam = exams[encoder.name]
    space: SpaceSize | None = None
    stages: tuple[Timing, ...] = ()
    plane: TriggerMap | None = None
    if built:
        with Space.open(home=home, encoder=encoder) as opened:
            space = _size(opened, pairs, built[encoder.name])
            stages = _stages(opened, pairs, home)
            plane = map_triggers(opened, seed)
    return Model(
        name=encoder.name,
        layers=layers,
        fingerprint=encoder.fingerprint,
        precision=encoder.precision,
        engine=encoder.engine,
        speed=speed,
        metrics=exam.metrics,
        against={name: _differences(exam, other, seed) for name, other in exams.items() if other is not exam},
        threads=tuple(_histograms(exam)),
        space=space,
        stages=stages,
        map=plane,
    )


def _differences(exam: Exam, other: Exam, seed: int) -> dict[str, Difference]:
    return {
        key: bootstrap.difference(ours, other.contributions[key], seed)
        for key, ours in exam.contributions.items()
        if key in other.contributions and other.contributions[key].conversations == ours.conversations
    }


def _histograms(exam: Exam) -> Iterator[Histogram]:
    """From what segments contributed to the mean cosines: their cosines, each with its count beside it."""
    for row in exam.metrics:
        if row.name == "thread_similarity_same" and row.value is not None:
            same = _cosines(exam.contributions[row.key], 0)
            other = _cosines(exam.contributions[row.key.replace("_same", "_other", 1)], 2)
            low = float(np.floor(10 * min(same.min(), other.min())) / 10)
            counts = [np.histogram(cosines, _BINS, (low, 1.0))[0] for cosines in (same, other)]
            yield Histogram(row.on, low, 1.0, tuple(counts[0].tolist()), tuple(counts[1].tolist()))


def _cosines(contributions: Contributions, column: int) -> bootstrap.Floats:
    found: bootstrap.Floats = contributions.moments[contributions.moments[:, column + 1] == 1, column]
    return found


def _size(space: Space, pairs: Sequence[Pair], build_s: float | None) -> SpaceSize:
    queries = space.encoder.embed([pair.trigger for pair in pairs[:300]])
    found = measure_search(space.index, space.trigger_vectors, queries)
    return SpaceSize(
        pairs=space.manifest.pairs,
        triggers=space.manifest.triggers,
        index=space.manifest.index,
        index_bytes=round(found["bytes_per_vector"] * len(space.index)),
        bytes=sum(mark.bytes for mark in space.manifest.files.values()),
        recall_at_10=found["recall_at_10"],
        search_ms=found["p50_ms"],
        build_s=build_s,
    )


def _stages(space: Space, pairs: Sequence[Pair], home: Path) -> tuple[Timing, ...]:
    """Median time of each stage over held-out triggers, asked a second time: the first reads files from the disk."""
    asked = [pair for pair in pairs if len(pair.trigger) <= 200][:_ASKED] or list(pairs[:_ASKED])
    for _ in range(2):
        answers = [suggest(pair.trigger, pair.context, space=space, home=home).timings for pair in asked]
    return tuple(
        Timing(of_stage[0].stage, statistics.median(timing.ms for timing in of_stage))
        for of_stage in zip(*answers, strict=True)
    )


def map_triggers(space: Space, seed: int) -> TriggerMap | None:
    """Draw triggers of a space and lay them in the plane by principal components (Pearson 1901)."""
    many = space.manifest.triggers
    if many < 3:
        return None
    rows = np.sort(np.random.default_rng(seed).choice(many, min(MAPPED, many), replace=False))
    vectors = space.vectors(rows.tolist()).astype(np.float64)
    centred = vectors - vectors.mean(0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:2] * np.sign(axes[:2, np.abs(axes[:2]).argmax(1)].diagonal())[:, None]  # svd leaves the sign open
    plane = centred @ axes.T
    points = []
    for vector, (x, y) in zip(vectors.astype(np.float32), plane.tolist(), strict=True):
        (nearest, *_) = space.neighbours(vector, triggers=1, per_trigger=1)
        points.append(Point(nearest.pair_id, round(x, 4), round(y, 4)))
    return TriggerMap(float((sizes[:2] ** 2).sum() / (sizes**2).sum()), tuple(points))


def _shuffled(texts: Sequence[str], seed: int) -> list[str]:
    different = list(dict.fromkeys(texts))
    return [different[place] for place in np.random.default_rng(seed).permutation(len(different))]


def _prefixed(show: Progress, name: str) -> Progress:
    return lambda stage, done, total: show(f"{name} {stage}", done, total)


def _library_id(home: Path) -> str:
    with Library.open(home) as library:
        return library.id
