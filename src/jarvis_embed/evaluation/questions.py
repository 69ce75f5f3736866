"""The questions of the exam: which metric, on which material, against which baselines.

A question is a row of ``QUESTIONS``. Adding one is adding a function there that measures a competitor and returns what
each conversation contributes; intervals, differences to the baselines, table and JSON follow from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from ..conversations.segments import text_of
from ..models.engine import of_length_1
from ..text import folded
from . import metrics, quality
from .bootstrap import Contributions
from .competitors import CONTEXT_READ, Competitor, EncoderCompetitor, in_one_text
from .material import Halves, Material, Turns, known_responses
from .metrics import CANDIDATES, Vectors


@dataclass(frozen=True, slots=True)
class Measured:
    """One figure of one competitor. ``n`` counts ``unit``; ``beside`` are figures without which it says nothing."""

    contributions: Contributions
    n: int
    unit: str
    beside: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Room:
    """What everybody in the exam gets: the material, the seed, and the frozen reference that judges responses."""

    material: Material
    reference: EncoderCompetitor
    seed: int


Answers = Mapping[str, Measured]
"""Name of the metric → figure."""


@dataclass(frozen=True, slots=True)
class Question:
    """One part of the exam.

    Attributes:
        names: of the metrics that ``measure`` returns.
        on: what it is measured on. variant: how, where there are several ways.
        needs: why it cannot be measured with this material; empty where it can.
        baselines: who else answers it; the others would only repeat a figure, or have none.
    """

    names: tuple[str, ...]
    on: Callable[[Material], str]
    needs: Callable[[Material], str]
    measure: Callable[[Competitor, Room], Answers]
    variant: str = ""
    baselines: tuple[str, ...] = ("random", "tf-idf", "parent", "map")


def _response_accuracy(who: Competitor, room: Room) -> Answers:
    return _accuracy(who, room, with_context=False)


def _response_accuracy_in_context(who: Competitor, room: Room) -> Answers:
    return _accuracy(who, room, with_context=True)


def _accuracy(who: Competitor, room: Room, *, with_context: bool) -> Answers:
    pairs = room.material.pairs
    contexts = [pair.context for pair in pairs] if with_context else None
    found = metrics.response_accuracy(
        who.triggers([pair.trigger for pair in pairs], contexts),
        who.responses([pair.response for pair in pairs]),
        [pair.conversation for pair in pairs],
        seed=room.seed,
    )
    return {"response_accuracy": Measured(found, len(found.group), "pairs")}


def _trigger_correlation_public(who: Competitor, room: Room) -> Answers:
    records = room.material.replies or ()
    wanted = mean_rows(room.reference, [record.positives for record in records])
    return _correlated(who, room, [record.context[-1] for record in records], wanted, [record.id for record in records])


def _trigger_correlation(who: Competitor, room: Room) -> Answers:
    pairs = room.material.pairs
    known = list(known_responses(pairs).values())
    wanted = mean_rows(room.reference, [[pairs[row].response for row in rows] for rows in known])
    first = [pairs[rows[0]] for rows in known]
    return _correlated(who, room, [pair.trigger for pair in first], wanted, [pair.conversation for pair in first])


def _correlated(who: Competitor, room: Room, triggers: list[str], wanted: Vectors, groups: list[str]) -> Answers:
    drawn = metrics.draw_trigger_pairs(wanted, seed=room.seed)
    found = metrics.trigger_correlation(who.messages(triggers), wanted, groups, drawn)
    return {"trigger_correlation": Measured(found, len(triggers), "triggers")}


def _reply_similarity_public(who: Competitor, room: Room) -> Answers:
    records = room.material.replies or ()
    wanted = mean_rows(room.reference, [record.positives for record in records])
    triggers = who.messages([record.context[-1] for record in records])
    return _shown(metrics.reply_similarity(triggers, wanted, [record.id for record in records]))


def _reply_similarity(who: Competitor, room: Room) -> Answers:
    pairs, index = room.material.pairs, room.material.training
    found = metrics.reply_similarity(
        who.messages([pair.trigger for pair in pairs]),
        room.reference.messages([pair.response for pair in pairs]),
        [pair.conversation for pair in pairs],
        who.messages([pair.trigger for pair in index]),
        room.reference.messages([pair.response for pair in index]),
    )
    return _shown(found)


def _shown(found: metrics.ReplySimilarity) -> Answers:
    beside = {"floor": found.floor.value, "ceiling": found.ceiling.value}
    n = len(found.value.group)
    return {
        "reply_similarity": Measured(found.value, n, "triggers", beside),
        "reply_similarity_share": Measured(found.share, n, "triggers", {"value": found.value.value, **beside}),
    }


def _match_agreement(who: Competitor, room: Room) -> Answers:
    pairs, index = room.material.pairs, room.material.training
    found = metrics.match_agreement(
        who.messages([pair.trigger for pair in pairs]),
        who.responses([pair.response for pair in pairs]),
        [pair.conversation for pair in pairs],
        [folded(pair.trigger) for pair in pairs],
        who.messages([pair.trigger for pair in index]),
        who.responses([pair.response for pair in index]),
        [folded(pair.trigger) for pair in index],
        seed=room.seed,
    )
    if found.near is None:
        return {}
    beside = {"random pairs": found.random.value, "share of triggers": found.share}
    return {"match_agreement": Measured(found.near, found.agreeing, "triggers", beside)}


def _thread_similarity(who: Competitor, room: Room) -> Answers:
    return _threads(who, room, room.material.threads.segments, room.material.threads.names)


def _thread_similarity_public(who: Competitor, room: Room) -> Answers:
    daily = room.material.daily
    return _threads(who, room, daily.segments, daily.names) if daily else {}


def _threads(who: Competitor, room: Room, segments: Sequence[Turns], names: Sequence[str]) -> Answers:
    found = metrics.thread_similarity(who.segments(segments), names, seed=room.seed)
    parts = {"same": found.same, "other": found.other, "auc": found.auc}
    values = {part: figure.value for part, figure in parts.items()}
    return {
        f"thread_similarity_{part}": Measured(
            figure, len(segments), "segments", {name: values[name] for name in values if name != part}
        )
        for part, figure in parts.items()
    }


def _thread_retrieval(who: Competitor, room: Room) -> Answers:
    return _retrieved(who, room.material.halves)


def _thread_retrieval_public(who: Competitor, room: Room) -> Answers:
    return _retrieved(who, room.material.daily_halves)


def _retrieved(who: Competitor, halves: Halves) -> Answers:
    first, second = who.segments(halves.first), who.segments(halves.second)
    many = len(halves.names)
    found = metrics.thread_retrieval(first, second, halves.names)
    alone = metrics.thread_retrieval(first[:many], second[:many], halves.names)
    beside = {"among": float(len(halves.first)), "among held-out ones alone": alone.value}
    return {"thread_retrieval": Measured(found, many, "threads", beside)}


def _quality_correlation(who: Competitor, room: Room) -> Answers:
    rated = room.material.public.quality_dev or ()
    found, each = quality.correlation(who, rated)
    answers = {"quality_correlation": Measured(found, len(rated), "replies", each)}
    if (order := quality.ranking(who, rated)) is not None:
        answers["quality_ranking"] = Measured(order, len(order.group), "pairs of replies")
    return answers


def _quality_auc(who: Competitor, room: Room) -> Answers:
    records = [one for one in room.material.replies or () if one.adversarial and one.random]
    found = quality.told_apart(who, records)
    number = sum(len(one.positives) for one in records)
    return {f"quality_auc_{kind}": Measured(figure, number, "good replies") for kind, figure in found.items()}


def _general_similarity(who: Competitor, room: Room) -> Answers:
    scored = room.material.public.stsb_dev or ()
    predicted = metrics.cosines(who.messages([one.a for one in scored]), who.messages([one.b for one in scored]))
    found = metrics.spearman(predicted, [one.score for one in scored], [str(row) for row in range(len(scored))])
    return {"general_similarity": Measured(found, len(scored), "sentence pairs")}


def mean_rows(reference: EncoderCompetitor, texts: Sequence[Sequence[str]]) -> Vectors:
    """The mean reference vector of each group of texts, of length 1: (groups, dim)."""
    flat = reference.messages([text for group in texts for text in group])
    first = np.cumsum([0, *map(len, texts)])[:-1]
    return of_length_1(np.add.reduceat(flat, first, axis=0))


def _here(material: Material) -> str:
    return material.on


def _named(what: str) -> Callable[[Material], str]:
    return lambda _material: what


def _pairs_needed(number: int, *, index: bool = False) -> Callable[[Material], str]:
    def needs(material: Material) -> str:
        if len(material.pairs) < number:
            return f"needs {number} held-out pairs, and there are {len(material.pairs)}"
        return "needs training pairs to look triggers up in" if index and not material.training else ""

    return needs


def _threads_needed(material: Material) -> str:
    threads = len(set(material.threads.names))
    return "" if threads > 1 else f"needs two threads of 10 turns, and there are {threads}"


def _halves_needed(material: Material) -> str:
    many = len(material.halves.first)
    return "" if many >= CANDIDATES else f"needs {CANDIDATES} threads of 4 turns, and there are {many}"


def _file_needed(name: str, has: Callable[[Material], object]) -> Callable[[Material], str]:
    return lambda material: "" if has(material) else f"needs {name}.jsonl.gz in --data DIR"


def _wrong_replies_needed(material: Material) -> str:
    if any(one.adversarial and one.random for one in material.replies or ()):
        return ""
    return "needs dailydialog_pp.jsonl.gz with wrong replies in --data DIR"


QUESTIONS: Final[tuple[Question, ...]] = (
    Question(("response_accuracy",), _here, _pairs_needed(100), _response_accuracy, "single turn"),
    Question(("response_accuracy",), _here, _pairs_needed(100), _response_accuracy_in_context, "with context"),
    Question(
        ("trigger_correlation",),
        _named("dailydialog_pp, evaluation records"),
        _file_needed("dailydialog_pp", lambda m: m.replies),
        _trigger_correlation_public,
    ),
    Question(("trigger_correlation",), _here, _pairs_needed(100), _trigger_correlation),
    Question(
        ("reply_similarity", "reply_similarity_share"),
        _named("dailydialog_pp, evaluation records"),
        _file_needed("dailydialog_pp", lambda m: m.replies),
        _reply_similarity_public,
    ),
    Question(
        ("reply_similarity", "reply_similarity_share"),
        _here,
        _pairs_needed(100, index=True),
        _reply_similarity,
    ),
    Question(("match_agreement",), _here, _pairs_needed(100, index=True), _match_agreement, baselines=("parent",)),
    Question(
        ("thread_similarity_same", "thread_similarity_other", "thread_similarity_auc"),
        _named("dailydialog, validation"),
        _file_needed("dailydialog", lambda m: m.daily),
        _thread_similarity_public,
        baselines=("random", "tf-idf", "parent"),
    ),
    Question(
        ("thread_similarity_same", "thread_similarity_other", "thread_similarity_auc"),
        _here,
        _threads_needed,
        _thread_similarity,
        baselines=("random", "tf-idf", "parent"),
    ),
    Question(
        ("thread_retrieval",),
        _named("dailydialog, validation"),
        _file_needed("dailydialog", lambda m: m.daily_halves.names),
        _thread_retrieval_public,
        baselines=("random", "tf-idf", "parent"),
    ),
    Question(("thread_retrieval",), _here, _halves_needed, _thread_retrieval, baselines=("random", "tf-idf", "parent")),
    Question(
        ("quality_correlation", "quality_ranking"),
        _named("quality_dev, mean over sources"),
        _file_needed("quality_dev", lambda m: m.public.quality_dev),
        _quality_correlation,
    ),
    Question(
        ("quality_auc_random", "quality_auc_adversarial"),
        _named("dailydialog_pp, evaluation records"),
        _wrong_replies_needed,
        _quality_auc,
    ),
    Question(
        ("general_similarity",),
        _named("stsb_dev"),
        _file_needed("stsb_dev", lambda m: m.public.stsb_dev),
        _general_similarity,
        baselines=("random", "tf-idf", "parent"),
    ),
)
"""The exam, in the order of its table."""


def texts_of(
    material: Material, *, in_context: bool = True, turn_by_turn: bool = False, quality_turns: int = 1
) -> list[str]:
    """Every text that a competitor is going to be asked about: embedded in one go, and the words of TF-IDF.

    Args:
        in_context: also each trigger with its context as one text.
        turn_by_turn: segments also by their turns, and not as one text each alone.
        quality_turns: how many turns of a rated reply's context its quality head reads; 1 without a head.
    """
    public = material.public
    texts = [text for pair in (*material.pairs, *material.training) for text in (pair.trigger, pair.response)]
    if in_context:
        texts += [in_one_text(pair.trigger, pair.context[-CONTEXT_READ:]) for pair in material.pairs]
    segments = [*material.threads.segments, *(material.daily.segments if material.daily else ())]
    segments += [one for halves in (material.halves, material.daily_halves) for one in (*halves.first, *halves.second)]
    texts += map(text_of, segments)
    texts += [turn for segment in segments for turn in segment] if turn_by_turn else []
    texts += [record.context[-1] for record in material.replies or ()]
    texts += quality.texts_of(public.quality_dev or (), material.replies or (), quality_turns)
    texts += [text for one in public.stsb_dev or () for text in (one.a, one.b)]
    return texts


def reference_texts(material: Material) -> list[str]:
    """Every text that the reference is going to be asked about: responses."""
    texts = [pair.response for pair in (*material.pairs, *material.training)]
    return texts + [text for record in material.replies or () for text in record.positives]
