"""Models side by side on one history: what each is worth, how fast it is, how large its space is.

Every model sits the same exam with the same seed, so differences are paired over conversations. All encoders are timed
in one run and take turns, with equal threads. A model without weights is named with the command that gets them; only
the time of its shape can be measured.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..config import Precision, load_settings
from ..errors import EvaluationError, LabelError, SourceError
from ..library import Library
from ..messages import Pair
from ..models.encoder import Encoder, load_encoder
from ..models.lineage import read_lineage
from ..models.machine import processor, usable_cores
from ..models.registry import REGISTRY
from ..models.store import all_models, find_model, locate
from ..models.weights import ModelFolder
from ..pipeline import Timing, suggest
from ..spaces.build import build
from ..spaces.heads_store import replace_heads, shipped_heads
from ..spaces.space import Space
from . import bootstrap, classifiers
from .bootstrap import Contributions, Difference, Interval
from .classifiers import Confusion
from .comparison import SCHEMA, recommend
from .data import PublicData
from .exam import run_exam
from .exam_record import Exam, Metric
from .material import prepare
from .model_times import ROUNDS, Speed, shape_encoders, time_models
from .quality import CalibrationBin
from .speed import measure_search
from .splits import Sides
from .thread_map import ThreadMap, map_threads
from .trigger_map import TriggerMap, map_triggers

BASELINE: Final = "bge-small"

_ASKED: Final = 50
_BINS: Final = 50

Progress = Callable[[str, int, int], None]


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
class LabelFigure:
    """F1 of one label, with its interval."""

    label: str
    value: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class Model:
    """All that was measured of one model.

    Attributes:
        metrics: rows of its exam; those without a value say what they need.
        against: other model → key of the metric → how much higher this model's figure is.
        parent: the model that it was trained from; None if it was not trained here.
        space, stages, map, thread_map: of its space; None and empty where no history was ingested.
        stages: median time of each stage of ``suggest``.
        calibration: predicted quality beside human ratings; empty without a quality head, or without ``quality_dev``.
        labels, confusions: name of a classifier's metric → F1 of each label, and confusion, on the gold labels.
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
    thread_map: ThreadMap | None = None
    parent: str | None = None
    labels: Mapping[str, tuple[LabelFigure, ...]] = field(default_factory=dict)
    confusions: Mapping[str, Confusion] = field(default_factory=dict)
    calibration: tuple[CalibrationBin, ...] = ()


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
    if len(texts) < ROUNDS:
        raise EvaluationError("the history is too short to compare on", "Ingest more, or take --chitchat")
    encoders = {
        found.name: found
        for found in (load_encoder(name, home=home, precision=precision, threads=threads, cache=0) for name in present)
    }
    baseline = BASELINE if BASELINE in encoders else next(iter(encoders))
    built = _build_spaces(encoders, home, seed, show)
    with shape_encoders(absent if shapes else (), home, precision, threads, seed) as shaped:
        speeds = time_models({**encoders, **shaped}, texts, seed, show)
    exams = {
        name: run_exam(
            encoder, sides, source=source, data=data, home=home, precision=precision, baselines=False, timed=False,
            seed=seed, progress=_prefixed(show, name),
        )
        for name, encoder in encoders.items()
    }  # fmt: skip
    models = tuple(
        _model(encoder, find_model(given, home), speeds[name], exams, built, pairs, home, seed)
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
    """The models that are here, and those that are not; folders are here. A trained model brings its parent."""
    asked = list(dict.fromkeys(names)) or [presence.name for presence in all_models(home)]
    asked = list(dict.fromkeys([*asked, *(parent for name in asked if (parent := _parent_of(name, home)))]))
    here = {name: os.sep in name or locate(name, home).folder is not None for name in asked}
    present, absent = [name for name in asked if here[name]], [name for name in asked if not here[name]]
    if not present:
        raise EvaluationError(
            f"no weights are here of {', '.join(absent)}", f"Get some: jarvis-embed models pull {absent[0]}"
        )
    return present, absent


def _parent_of(name: str, home: Path) -> str | None:
    """The model that a trained model is examined beside, if it is still known by that name."""
    folder = Path(name) if os.sep in name else locate(name, home).folder
    lineage = None if folder is None else read_lineage(folder)
    known = {presence.name for presence in all_models(home)}
    return lineage.examined_beside if lineage is not None and lineage.examined_beside in known else None


def _build_spaces(encoders: Mapping[str, Encoder], home: Path, seed: int, show: Progress) -> dict[str, float | None]:
    """Bring the space of every model up to date, classifiers with it; nothing happens if nothing was ingested.

    Returns:
        model → seconds that its build took; None if it was up to date.
    """
    with Library.open(home) as library:
        if not library.counts().pairs:
            return {}
    seconds: dict[str, float | None] = {}
    for name, encoder in encoders.items():
        start = time.perf_counter()
        report = build(encoder, home, progress=_prefixed(show, name))
        seconds[name] = None if report.up_to_date else time.perf_counter() - start
        with Space.open(home=home, encoder=encoder) as space:
            headless = space.heads is None
        if headless:
            with suppress(SourceError, LabelError):  # without gold labels there are none; the exam says what it needs
                heads = shipped_heads(encoder.fingerprint) or classifiers.heads_for(
                    encoder, classifiers.load_gold(), seed, home, _prefixed(show, name)
                )
                replace_heads(encoder, home, heads)
    return seconds


def _model(
    encoder: Encoder,
    files: ModelFolder,
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
    thread_plane: ThreadMap | None = None
    if built:
        with Space.open(home=home, encoder=encoder) as opened:
            space = _size(opened, pairs, built[encoder.name])
            stages = _stages(opened, pairs, home)
            plane, thread_plane = map_triggers(opened, seed), map_threads(opened, seed)
    return Model(
        name=encoder.name,
        layers=files.config.layers,
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
        thread_map=thread_plane,
        parent=None if (lineage := read_lineage(files.folder)) is None else lineage.examined_beside,
        labels={
            row.name: tuple(_label_figures(exam, row, seed)) for row in exam.metrics if row.name in exam.confusions
        },
        confusions=exam.confusions,
        calibration=exam.calibration,
    )


def _differences(exam: Exam, other: Exam, seed: int) -> dict[str, Difference]:
    return {
        key: bootstrap.difference(ours, other.contributions[key], seed)
        for key, ours in exam.contributions.items()
        if key in other.contributions and other.contributions[key].conversations == ours.conversations
    }


def _label_figures(exam: Exam, row: Metric, seed: int) -> Iterator[LabelFigure]:
    """F1 of each label out of what the macro F1 is made of."""
    for place, label in enumerate(exam.confusions[row.name].labels):
        found = replace(exam.contributions[row.key], statistic=classifiers.f1_of_label(place))
        yield LabelFigure(label, found.value, bootstrap.interval(found, seed))


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


def _shuffled(texts: Sequence[str], seed: int) -> list[str]:
    different = list(dict.fromkeys(texts))
    return [different[place] for place in np.random.default_rng(seed).permutation(len(different))]


def _prefixed(show: Progress, name: str) -> Progress:
    return lambda stage, done, total: show(f"{name} {stage}", done, total)


def _library_id(home: Path) -> str:
    with Library.open(home) as library:
        return library.id
