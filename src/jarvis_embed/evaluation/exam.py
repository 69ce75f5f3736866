"""The exam: everything that is measured of a model on conversations it has not seen, with intervals and baselines."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from ..config import DEFAULT_MODEL, Precision
from ..conversations.selection import SelectionRules, select_pairs
from ..errors import EvaluationError, LabelError, SourceError
from ..home import home_folder
from ..labels.scheme import TASKS
from ..messages import Conversation
from ..models.encoder import Encoder, load_encoder
from ..models.store import model_home
from ..spaces.index import TriggerIndex
from ..spaces.space import Space
from . import bootstrap, classifiers, competitors
from .bootstrap import Contributions
from .classifiers import Confusion, load_gold
from .competitors import Competitor, EncoderCompetitor
from .data import read_folder
from .exam_record import SCHEMA, Baseline, Exam, Metric, generation_of
from .material import Material, prepare
from .quality import calibration
from .questions import QUESTIONS, Measured, Question, Room, reference_texts, texts_of
from .splits import Sides, split_history

REFERENCE: Final = DEFAULT_MODEL
"""The frozen model that judges how alike two responses are: untuned, fp32, the same in every exam."""

Progress = Callable[[str, int, int], None]


def run_exam(
    model: str | os.PathLike[str] | Encoder | None = None,
    conversations: Sides | Iterable[Conversation] | None = None,
    *,
    source: str = "own",
    data: str | os.PathLike[str] | None = None,
    home: str | os.PathLike[str] | None = None,
    precision: Precision | None = None,
    parent: str | os.PathLike[str] | None = None,
    sealed: bool = False,
    baselines: bool = True,
    timed: bool = True,
    classified: bool = True,
    seed: int = 1,
    progress: Progress | None = None,
) -> Exam:
    """Examine a model.

    Args:
        model: a name, a folder, or an encoder without a cache; the model of the settings if None.
        conversations: a history, which is split by time, or one that is split already (see ``splits``); None to
            measure on public data only.
        source: what the history is called in the report.
        data: folder of public data files; a metric whose file is missing is not measured, and says so.
        parent: the model that this one was trained from; it becomes a baseline. None for an untuned model.
        sealed: examine on the newest part (of chitchat: ``f``), which nothing may be tuned to.
        baselines: also random vectors, TF-IDF, the parent, and the parent with a learned linear map.
        classified: also the classifiers of messages, which are trained for the model first (half a minute).
        timed: also latency and search, whose figures differ from run to run. All others depend on the seed alone.
        progress: called with (stage, done, total).

    Raises:
        EvaluationError: scikit-learn is missing, which the baselines need.
        TextLeak: a conversation of the history is on two sides.
        UnknownModel, WeightsMissing: of the model, its parent, or the reference.
    """
    start = time.perf_counter()
    root, show = home_folder(home), progress or (lambda _stage, _done, _total: None)
    if baselines:
        competitors.require_scikit_learn()
    public = read_folder(None if data is None else Path(data))
    sides = conversations if isinstance(conversations, Sides | None) else split_history(conversations)
    material = prepare(sides, source, public, sealed=sealed, seed=seed)
    if not (material.pairs or any((public.dailydialog, public.dailydialog_pp, public.quality_dev, public.stsb_dev))):
        raise EvaluationError(
            "there is nothing to measure on", "Ingest a longer history, or take other material: --chitchat, --data DIR"
        )
    encoder = model if isinstance(model, Encoder) else load_encoder(model, home=root, precision=precision, cache=0)
    candidate = _seated(encoder, material, show)
    reference = _reference(candidate, material, root, show)
    room = Room(material, reference, seed)
    others: dict[str, Competitor] = {}
    if baselines:
        others = _baselines(candidate, parent, room, root, show)
    rows: list[Metric] = []
    contributions: dict[str, Contributions] = {}
    for done, question in enumerate(QUESTIONS, 1):
        for row, found in _asked(question, candidate, others, room):
            rows.append(row)
            contributions |= {row.key: found} if found else {}
        show("measure", done, len(QUESTIONS))
    confusions: dict[str, Confusion] = {}
    for row, found, confusion in _classifiers(candidate, others, room, root, show) if classified else ():
        rows.append(row)
        contributions |= {row.key: found} if found else {}
        confusions |= {row.name: confusion} if confusion else {}
    if timed:
        given = None if isinstance(model, Encoder) else os.fspath(model) if model is not None else encoder.name
        rows += _times(candidate, given, room, root)
    return Exam(
        schema=SCHEMA,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        model=encoder.name,
        fingerprint=encoder.fingerprint,
        precision=encoder.precision,
        reference=reference.encoder.fingerprint,
        parent=None if parent is None else os.fspath(parent),
        source=material.source,
        part=material.part,
        seed=seed,
        draws=bootstrap.DRAWS,
        level=bootstrap.LEVEL,
        material={
            "conversations": material.conversations,
            "pairs": len(material.pairs),
            "training_pairs": len(material.training),
            "texts_on_both_sides": material.overlap.texts,
            "pairs_on_both_sides": material.overlap.pairs,
        },
        metrics=tuple(rows),
        seconds=time.perf_counter() - start,
        contributions=contributions,
        confusions=confusions,
        calibration=calibration(candidate, public.quality_dev or ()),
    )


def _seated(encoder: Encoder, material: Material, show: Progress) -> EncoderCompetitor:
    """The examined encoder with every text embedded already, in one go: so batches are full and texts not repeated."""
    candidate = EncoderCompetitor(encoder, lambda done, total: show("embed", done, total))
    head = encoder.quality_head
    texts = texts_of(
        material,
        in_context=not candidate.reads_context,
        turn_by_turn=encoder.has_segment_side,
        quality_turns=1 if head is None else head.turns,
    )
    candidate.messages(texts)
    return candidate


def _reference(candidate: EncoderCompetitor, material: Material, home: Path, show: Progress) -> EncoderCompetitor:
    encoder = load_encoder(REFERENCE, home=home, precision="fp32", cache=0)
    if encoder.fingerprint == candidate.encoder.fingerprint:
        return candidate
    reference = EncoderCompetitor(encoder, lambda done, total: show("judge", done, total))
    texts = reference_texts(material)
    if texts:
        reference.messages(texts)
    return reference


def _baselines(
    candidate: EncoderCompetitor, parent: str | os.PathLike[str] | None, room: Room, home: Path, show: Progress
) -> dict[str, Competitor]:
    """Kind → competitor. An untuned model is its own frozen parent, and no baseline to itself."""
    frozen = candidate
    others: dict[str, Competitor] = {
        "random": competitors.RandomCompetitor(room.seed),
        "tf-idf": competitors.TfidfCompetitor([*texts_of(room.material), *reference_texts(room.material)]),
    }
    if parent is not None:
        encoder = load_encoder(parent, home=home, precision=candidate.encoder.precision, cache=0)
        frozen = EncoderCompetitor(encoder, lambda done, total: show("parent", done, total))
        frozen.messages(texts_of(room.material))
        others["parent"] = frozen
    chosen = select_pairs(room.material.training, SelectionRules(), seed=room.seed).pairs
    if len(chosen) >= competitors.MAP_PAIRS:
        weights = competitors.learn_map(
            frozen.triggers([pair.trigger for pair in chosen]),
            frozen.responses([pair.response for pair in chosen]),
            seed=room.seed,
        )
        others["map"] = competitors.MappedCompetitor(frozen, weights)
    return others


def _asked(
    question: Question, candidate: Competitor, others: Mapping[str, Competitor], room: Room
) -> Iterator[tuple[Metric, Contributions | None]]:
    """Ask everybody, and put the answers into rows."""
    on = question.on(room.material)
    needs = question.needs(room.material)
    ours = {} if needs else question.measure(candidate, room)
    theirs = (
        {} if needs else {kind: question.measure(others[kind], room) for kind in question.baselines if kind in others}
    )
    for name in question.names:
        if name in ours:
            baselines = {
                kind: _baseline(others[kind].name, ours[name], found[name], room.seed)
                for kind, found in theirs.items()
                if name in found
            }
            yield _row(question, name, room, ours[name], baselines), ours[name].contributions
        else:
            yield (
                Metric(
                    name, on, question.variant, needs=needs or "needs triggers whose nearest other text has cosine 0.9"
                ),
                None,
            )


def _row(question: Question, name: str, room: Room, found: Measured, baselines: dict[str, Baseline]) -> Metric:
    return Metric(
        name=name,
        on=question.on(room.material),
        variant=question.variant,
        value=found.contributions.value,
        interval=bootstrap.interval(found.contributions, room.seed),
        n=found.n,
        unit=found.unit,
        conversations=found.contributions.groups,
        beside=found.beside,
        baselines=baselines,
    )


def _baseline(who: str, ours: Measured, theirs: Measured, seed: int) -> Baseline:
    return _beside(who, ours.contributions, theirs.contributions, seed)


def _beside(who: str, ours: Contributions, theirs: Contributions, seed: int) -> Baseline:
    return Baseline(who, theirs.value, bootstrap.interval(theirs, seed), bootstrap.difference(ours, theirs, seed))


def _classifiers(
    candidate: EncoderCompetitor, others: Mapping[str, Competitor], room: Room, home: Path, show: Progress
) -> Iterator[tuple[Metric, Contributions | None, Confusion | None]]:
    """Macro F1 of the two classifiers of messages, trained on gold labels for this encoder."""
    try:
        gold = load_gold()
        heads = classifiers.heads_for(candidate.encoder, gold, room.seed, home, show)
    except (SourceError, LabelError) as error:
        needs = f"{error.problem}; {error.next_step}" if error.next_step else error.problem
        for task in TASKS:
            yield Metric(f"{task}_f1", classifiers.ON, needs=needs), None, None
        return
    scores = classifiers.score_heads(heads, candidate.encoder, gold)
    theirs = classifiers.baselines(gold) if others else {}
    parent = others.get("parent")
    if isinstance(parent, EncoderCompetitor):
        frozen = classifiers.heads_for(parent.encoder, gold, room.seed, home, show)
        for task, score in classifiers.score_heads(frozen, parent.encoder, gold).items():
            theirs[task]["parent"] = score.contributions
    for task, score in scores.items():
        ours = score.contributions
        beside = {
            **score.by_label,
            "answered when unsure ones are withheld": score.answered,
            "of these right": score.right,
        }
        row = Metric(
            f"{task}_f1",
            classifiers.ON,
            value=ours.value,
            interval=bootstrap.interval(ours, room.seed),
            n=len(ours.group),
            unit="messages",
            conversations=ours.groups,
            beside={name: value for name, value in beside.items() if value is not None},
            baselines={kind: _beside(kind, ours, found, room.seed) for kind, found in theirs.get(task, {}).items()},
        )
        yield row, ours, score.confusion


def _times(candidate: EncoderCompetitor, given: str | None, room: Room, home: Path) -> list[Metric]:
    from .speed import measure_latency, measure_search  # opens engines: imports what answering a message does not need

    turns = [text for pair in room.material.pairs for text in (pair.trigger, pair.response)]
    texts = list(dict.fromkeys(turns or texts_of(room.material, in_context=False)))
    order = np.random.default_rng(room.seed).permutation(len(texts))
    spent = measure_latency(candidate.encoder, given, home, [texts[i] for i in order], room.seed)
    rows = [_timed("latency", "this machine", spent, "p50_ms", len(texts))]
    triggers = [pair.trigger for pair in room.material.pairs]
    folder = generation_of(model_home(candidate.encoder.name, home), candidate.encoder.fingerprint)
    if not triggers:
        return [*rows, Metric("search", "index of the space", needs="needs held-out pairs")]
    queries = candidate.messages(triggers)
    if folder is not None:
        with Space.open(home=home, encoder=candidate.encoder) as space:
            found = measure_search(space.index, space.trigger_vectors, queries)
            return [*rows, _timed("search", f"the space, {len(space.index):,} triggers", found, "recall_at_10", 0)]
    known = list(dict.fromkeys(pair.trigger for pair in room.material.training))
    if not known:
        return [*rows, Metric("search", "index of the space", needs="needs a space, or training pairs")]
    vectors = candidate.messages(known)
    index = TriggerIndex.build(vectors)
    found = measure_search(index, vectors, queries)
    return [*rows, _timed("search", f"{len(index):,} training triggers ({index.kind} index)", found, "recall_at_10", 0)]


def _timed(name: str, on: str, found: dict[str, float], main: str, n: int) -> Metric:
    beside = {what: value for what, value in found.items() if what != main}
    return Metric(name, on, value=found[main], n=n, unit="texts" if n else "", beside=beside)
