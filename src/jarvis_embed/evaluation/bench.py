"""The benchmark: every model, every engine, one run. What is measured how stands in ``latency`` and ``limits``."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..errors import InputError
from ..home import home_folder
from ..models.tokens import load_tokenizer
from ..models.weights import ModelFolder
from ..sources import open_source
from ..text import normalise
from . import latency, limits, peers
from .lanes import Candidate, Lane, Shapes, choose_models, fresh_process, open_lanes
from .latency import Agreement, Progress, Spread, Vectors, spread

SCHEMA: Final = 1
BATCHES: Final = (8, 16, 32, 64, 128)
"""Batch sizes that are tried for peers; ours chooses by itself."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run does.

    Attributes:
        messages: single ones in each round.
        bulk: how many different messages are embedded at once.
        threads: cores that each engine may use.
        source: what ``open_source`` opens.
        shapes: whether models whose weights are absent take part as shapes.
        peers: also other people's engines.
    """

    rounds: int = 5
    messages: int = 300
    bulk: int = 3000
    threads: int = 1
    seed: int = 1
    source: str = "chitchat"
    shapes: Shapes = "also"
    peers: bool = True


@dataclass(frozen=True, slots=True)
class Against:
    """How many times faster ours is: one message, bulk, cold start."""

    single: Spread
    bulk: Spread
    cold: Spread | None


@dataclass(frozen=True, slots=True)
class Row:
    """Everything about one engine with one model. Times of single messages in ms, memory and files in MB (10^6).

    Attributes:
        cold_ms: fresh process to first vector, imports included; None if the process failed.
        bulk_rate: messages per second, with ``batch`` messages at a time (None: chosen by the engine).
        peak_mb: most memory of a fresh process that embeds all bulk messages.
        quality: against the reference; None for a shape, whose vectors mean nothing, and for the reference itself.
        against: peer → how many times faster this row is; rows of ours only.
    """

    model: str
    engine: str
    precision: str
    shape_only: bool
    layers: int
    p50_ms: Spread
    p95_ms: Spread
    p99_ms: Spread
    cold_ms: Spread | None
    bulk_rate: Spread
    batch: int | None
    peak_mb: float | None
    file_mb: float
    quality: Agreement | None
    reference: str | None
    against: dict[str, Against]
    limit: limits.Limit | None


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run; ``dataclasses.asdict`` of it is the JSON."""

    schema: int
    date: str
    settings: Settings
    machine: limits.Machine
    texts: dict[str, Any]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Texts:
    """What is embedded: the messages of each round, and those embedded in one call. All normalised, none empty."""

    rounds: tuple[tuple[str, ...], ...]
    bulk: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Measured:
    """What the rounds gave, by the key of a lane; and the bounds, by (model, precision)."""

    single: Mapping[str, latency.Times]
    rates: Mapping[str, Sequence[float]]
    vectors: Mapping[str, Vectors]
    bounds: Mapping[tuple[str, str], limits.Limit]


def run_bench(
    names: Sequence[str] = (),
    settings: Settings | None = None,
    home: Path | None = None,
    progress: Progress | None = None,
) -> Report:
    """Measure. Takes minutes; another busy process spoils it, and a note in the report says so.

    Args:
        names: models or folders; all models that are known if empty.
        progress: called with (stage, done, total).

    Raises:
        UnknownModel, WeightsMissing: a name without weights that is no shape either.
        InputError: too few messages, or no model at all.
    """
    settings, root = settings or Settings(), home_folder(home)
    show = progress or (lambda _stage, _done, _total: None)
    machine, texts = limits.describe_machine(), sample_texts(settings)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        candidates, notes = choose_models(names, settings.shapes, root, scratch, settings.seed)
        if machine.load > machine.cores / 4:
            notes.append(f"The machine was not idle when this began (load {machine.load:.2f}): run it again.")
        lanes: list[Lane] = []
        for done, candidate in enumerate(candidates, 1):
            lanes += open_lanes(candidate, settings.threads, scratch, notes, with_peers=settings.peers)
            show("open", done, len(candidates))
        for lane in lanes:
            if lane.spec.kind != "ours":
                lane.batch = latency.best_batch(lane.embed, texts.bulk[:256], BATCHES)
        single = latency.time_single(
            {lane.key: partial(_one, lane.embed) for lane in lanes}, texts.rounds, seed=settings.seed, progress=show
        )
        many = {lane.key: partial(_many, lane.embed, lane.batch or 1) for lane in lanes}
        rates, vectors = latency.time_bulk(many, texts.bulk, settings.rounds, seed=settings.seed, progress=show)
        _fresh_processes(lanes, texts, notes, show)
        tokens = {candidate.name: median_tokens(candidate.model, texts.bulk) for candidate in candidates}
        bounds = _bounds(candidates, tokens, settings.threads, show)
        measured = _Measured(single, rates, vectors, bounds)
        rows = tuple(_row(lane, lanes, measured) for lane in lanes)
    described = {
        "source": "chitchat, validation part" if settings.source == "chitchat" else "a history of the user",
        "different_messages": len(set(texts.bulk).union(*texts.rounds)),
        "median_characters": float(np.median([len(text) for text in texts.bulk])),
        "median_tokens": tokens,
    }
    stated = settings if settings.source == "chitchat" else replace(settings, source="a file")
    return Report(SCHEMA, datetime.now(UTC).date().isoformat(), stated, machine, described, rows, tuple(notes))


def sample_texts(settings: Settings) -> Texts:
    """Draw different messages of the source by the seed; of chitchat, its validation part and no other."""
    split = "validation" if settings.source == "chitchat" else None
    source = open_source(settings.source, split=split)
    messages = (normalise(message.text) for chat in source.conversations() for message in chat.messages)
    different = [text for text in dict.fromkeys(messages) if text]
    if len(different) < 20:
        raise InputError(f"the source has {len(different)} different messages", "Give one with at least 20")
    random.Random(settings.seed).shuffle(different)  # noqa: S311
    count, size = len(different), settings.messages
    rounds = [[different[(r * size + i) % count] for i in range(size)] for r in range(settings.rounds)]
    return Texts(tuple(map(tuple, rounds)), tuple(different[: settings.bulk]))


def median_tokens(model: ModelFolder, texts: Sequence[str]) -> int:
    """Tokens of the text of median length, the special ones included."""
    encodings = load_tokenizer(model).encode_batch_fast(list(texts))
    return round(float(np.median([len(encoding.ids) for encoding in encodings])))


def _one(embed: peers.Embed, text: str) -> object:
    return embed([text], 1)


def _many(embed: peers.Embed, batch: int, texts: Sequence[str]) -> Vectors:
    return np.asarray(embed(texts, batch), np.float32)


def _fresh_processes(lanes: Sequence[Lane], texts: Texts, notes: list[str], show: Progress) -> None:
    """Start each engine in a new process, once a round: time to the first vector; memory of the first one's bulk."""
    total, done = len(texts.rounds) * len(lanes), 0
    for number, messages in enumerate(texts.rounds):
        for lane in lanes:
            bulk = texts.bulk if number == 0 else ()
            measured = fresh_process(peers.job(lane.spec, messages[0], bulk, lane.batch or 1))
            if measured is None:
                notes.append(f"{lane.key}: a fresh process of it failed.")
            else:
                lane.cold.append(measured[0])
                lane.peak_mb = measured[1] if bulk else lane.peak_mb
            done += 1
            show("cold", done, total)


def _bounds(
    candidates: Sequence[Candidate], tokens: Mapping[str, int], threads: int, show: Progress
) -> dict[tuple[str, str], limits.Limit]:
    """(model, precision) → its bound for a message of median length."""
    bounds: dict[tuple[str, str], limits.Limit] = {}
    for precision in ("fp32", "int8"):
        peak = limits.peak_rate(precision, threads)
        for candidate in candidates:
            config, length = candidate.model.config, tokens[candidate.name]
            bandwidth = limits.read_rate(limits.work_of(config, length, precision).weight_bytes, threads)
            bound = limits.limit_of(config, length, precision, threads, peak, bandwidth)
            bounds[candidate.name, precision] = bound
            show("limits", len(bounds), 2 * len(candidates))
    return bounds


def _row(lane: Lane, lanes: Sequence[Lane], measured: _Measured) -> Row:
    """Put together what was measured of one lane, and its ratios to the peers with the same model."""
    same = {other.engine: other for other in lanes if other.candidate is lane.candidate}
    # An engine of others is the better witness; a shape's vectors mean nothing.
    witness = None if lane.candidate.shape_only else same.get("torch fp32", same.get("ours fp32 onnx"))
    reference = None if witness is lane else witness
    times, rates, ours = measured.single[lane.key], measured.rates[lane.key], lane.spec.kind == "ours"
    against = {
        name: Against(
            single=latency.ratio(times.p50s(), measured.single[peer.key].p50s()),
            bulk=latency.ratio(measured.rates[peer.key], rates),
            cold=latency.ratio(lane.cold, peer.cold) if len(lane.cold) == len(peer.cold) > 0 else None,
        )
        for name, peer in same.items()
        if ours and peer.spec.kind != "ours"
    }
    return Row(
        model=lane.candidate.name,
        engine=lane.spec.kind,
        precision=lane.spec.precision,
        shape_only=lane.candidate.shape_only,
        layers=lane.candidate.model.config.layers,
        p50_ms=times.milliseconds(0.5),
        p95_ms=times.milliseconds(0.95),
        p99_ms=times.milliseconds(0.99),
        cold_ms=spread(lane.cold) if lane.cold else None,
        bulk_rate=spread(rates),
        batch=lane.batch,
        peak_mb=lane.peak_mb,
        file_mb=lane.file_mb,
        quality=latency.agreement(measured.vectors[lane.key], measured.vectors[reference.key]) if reference else None,
        reference=reference.engine if reference else None,
        against=against,
        limit=measured.bounds[lane.candidate.name, lane.spec.precision.split()[0]] if ours else None,
    )
