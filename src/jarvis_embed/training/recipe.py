"""Recipes: everything that decides what a training run learns, as data. A model states the recipe that made it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..conversations.selection import MIN_QUALITY
from ..errors import InputError
from ..evaluation.gate import Gate

Source = Literal["own", "chitchat", "dailydialog", "samsum"]
Public = Literal["dailydialog", "samsum"]


class Objectives(BaseModel):
    """How much each objective counts; 0 leaves it out. See ``objectives`` for what they are.

    Attributes:
        single: a trigger alone finds its response (projected) among those of the batch.
        context: a trigger with the turns before it does.
        relation: triggers are as near to each other as the responses to be expected, under the frozen reference.
        threads: of all segments of the batch, the nearest is the one of the same thread.
        quality: the head tells a reply from those to other triggers.
        judged: what public judgements count in ``quality``, beside that: right and wrong replies (``dailydialog_pp``),
            and the order in which people rated replies (``quality_train``).
        triplets: a trigger is nearer to one with like responses than to a like one with other responses.
        records: what a trigger with several known responses (``dailydialog_pp``) counts in ``relation``, beside a pair.
        sentences: sentences are ordered as people ordered them (``stsb_train``).
        labels: what stands beside a vector in a reading (``models.engine``) says what kind of message a text is, as
            read by people (``silver.read_by_hand``).
        hold: vectors stay near the parent's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    single: float = Field(default=1.0, ge=0)
    context: float = Field(default=1.0, ge=0)
    relation: float = Field(default=1.0, ge=0)
    threads: float = Field(default=0.5, ge=0)
    quality: float = Field(default=0.0, ge=0)
    judged: float = Field(default=0.0, ge=0)
    triplets: float = Field(default=0.0, ge=0)
    records: float = Field(default=0.0, ge=0)
    sentences: float = Field(default=0.0, ge=0)
    labels: float = Field(default=0.0, ge=0)
    hold: float = Field(default=0.2, ge=0)


class Recipe(BaseModel):
    """A training run.

    Attributes:
        sources: conversations to learn from → how often a pair of each is drawn.
        relation_sources: those whose pairs ``relation`` reads; all where it is None.
        map_sources: those whose pairs the maps of replies learn from alone; all where it is None.
        segment_sources: those whose threads are cut, and their weights; ``sources`` where it is None.
        pairs: of each source, at most. segments: pairs of segments of all sources together, at most.
        segment_turns: of the windows in which threads are cut for them, at least.
        segments_apart: whether the segments of a step are of one source. Sources then have shares by their weights.
        hold_segments: whether ``hold`` counts the texts of segments too, and not only messages.
        passes: how often the encoder sees a pair of the first source; 0 leaves it as it is.
        batch_pairs: pairs in a step; each is set against the responses of all others.
        run_pairs: consecutive pairs of one conversation that are drawn together: their turns are embedded once.
        seeds: triggers with several known responses in a step; three neighbours come with each.
        expected: how far ``relation`` trusts what is expected, and not what is known, where several responses are.
        batch_triplets, batch_segments, batch_judged: in a step, where they count: triplets, pairs of segments (0: their
            map learns, and the encoder does not), contexts with right and wrong replies; of rated ones twice as many.
        batch_labelled: labelled pairs in a step, where they count.
        rate, projection_rate: highest learning rates of the encoder and of the projections.
        projection_passes: over the pairs, in which the projections learn alone, at the end and, of a parent without
            such maps, 3 in 10 of these before. segment_passes: over the segments, likewise, and then beside words,
            three times once at most (docs/segments.md); as many where it is None.
        head_steps: in which the quality head goes on learning once the encoder is done; 0: the model gets none.
        kept_change: how much of what the steps changed in the encoder's weights is kept; with less than 1 they are a
            mean of those before and after (WiSE-FT, Wortsman et al. 2022).
        context_turns: turns before the trigger that are read.
        width: of the projections' hidden layer.
        max_tokens, max_segment_tokens: of a text, and of a segment's, in training; the rest is cut off.
        temperature, thread_temperature: of the contrast of pairs, and of segments.
        teachers: finished models, whose cosines of segments ``threads`` follows (``objectives.following``); with none,
            the nearest of a step shall be the one of the same thread. sharpness: their temperature.
        words: whether a segment's vector has its words beside its meaning (docs/segments.md).
        prototypes: sources of segments towards whose threads vectors of segments are drawn; one's own messages are
            never kept so. pull: how far (``models.prototypes``).
        min_quality: pairs whose reply is known to be worse are left out; see ``conversations.selection``.
        looks: how often held-out texts are looked at, by which the best weights are kept; 0 keeps the last.
        gate: what the model must reach to be used.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: dict[Source, float] = Field(default={"own": 1.0}, min_length=1)
    objectives: Objectives = Objectives()
    relation_sources: tuple[Source, ...] | None = None
    map_sources: tuple[Source, ...] | None = None
    segment_sources: dict[Source, float] | None = None
    pairs: int = Field(default=50_000, ge=1)
    segments: int = Field(default=200_000, ge=2)
    segment_turns: int = Field(default=1, ge=1, le=4)
    segments_apart: bool = False
    hold_segments: bool = True
    passes: float = Field(default=1.0, ge=0)
    batch_pairs: int = Field(default=192, ge=2)
    run_pairs: int = Field(default=8, ge=1)
    seeds: int = Field(default=32, ge=1)
    expected: float = Field(default=0.7, ge=0, le=1)
    batch_triplets: int = Field(default=32, ge=2)
    batch_segments: int = Field(default=24, ge=0)
    batch_judged: int = Field(default=24, ge=2)
    batch_labelled: int = Field(default=64, ge=2)
    rate: float = Field(default=1e-4, gt=0)
    projection_rate: float = Field(default=3e-4, gt=0)
    projection_passes: float = Field(default=10.0, ge=0)
    segment_passes: float | None = Field(default=None, ge=0)
    head_steps: int = Field(default=1000, ge=0)
    kept_change: float = Field(default=1.0, gt=0, le=1)
    warm_up: float = Field(default=0.05, ge=0, lt=1)
    temperature: float = Field(default=0.05, gt=0)
    thread_temperature: float = Field(default=0.1, gt=0)
    teachers: tuple[str, ...] = ()
    sharpness: float = Field(default=0.05, gt=0)
    words: bool = True
    prototypes: tuple[Public, ...] = ()
    pull: float = Field(default=0.35, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    frozen_layers: int = Field(default=0, ge=0)
    context_turns: int = Field(default=2, ge=1, le=3)
    width: int = Field(default=768, ge=1)
    max_tokens: int = Field(default=48, ge=3)
    max_segment_tokens: int = Field(default=128, ge=3)
    min_quality: float = Field(default=MIN_QUALITY, ge=0, le=1)
    looks: int = Field(default=6, ge=0)
    seed: int = 1
    gate: Gate = Gate()

    @model_validator(mode="after")
    def _prototypes_are_public(self) -> Self:
        """So that none of one's own exchanges gets among them, sources must have been told apart."""
        if self.prototypes and not (self.segments_apart and set(self.prototypes) <= set(self.cut)):
            raise ValueError("prototypes are of the sources of segments, and need segments_apart")
        return self

    @property
    def cut(self) -> dict[Source, float]:
        """Whose threads are cut into segments, and their weights."""
        return {name: weight for name, weight in (self.segment_sources or self.sources).items() if weight}

    @property
    def segment_map_passes(self) -> float:
        """Passes over the segments in which their map learns alone."""
        return self.projection_passes if self.segment_passes is None else self.segment_passes

    def related(self, source: str) -> bool:
        """Whether ``relation`` reads the pairs of a source."""
        return self.relation_sources is None or source in self.relation_sources

    def mapped(self, source: str) -> bool:
        """Whether the maps of replies learn from the pairs of a source."""
        return self.map_sources is None or source in self.map_sources


_THREADS: Final = "thread_similarity_auc"
_REPLIES: Final = "response_accuracy"
_QUALITY: Final = "quality_correlation"

_WITH_THREADS: Final[dict[Source, float]] = {"chitchat": 1.0, "dailydialog": 2.0, "samsum": 1.0}
"""Where the public models learn of threads."""

_FINISHED: Final = Gate(
    gains=(_REPLIES, "trigger_correlation · dailydialog_pp", _THREADS, "thread_retrieval", _QUALITY)
)
"""What the last of several recipes must reach: all that they are for."""

RECIPES: Final[dict[str, Recipe]] = {
    "own": Recipe(objectives=Objectives(threads=0.3)),
    "frozen": Recipe(objectives=Objectives(threads=0.3), passes=0.0),
    "labels": Recipe(
        sources={"chitchat": 1.0},
        objectives=Objectives(single=0.0, context=0.0, relation=0.0, threads=0.0, labels=2.0, hold=10.0),
        pairs=12_000,
        batch_pairs=24,
        batch_labelled=64,
        rate=1.2e-4,
        projection_rate=1e-3,
        projection_passes=0.0,
        looks=0,
        gate=Gate(
            gains=("trigger_f1",),
            tolerances={
                "response_f1": 0.01,
                "general_similarity": 0.01,
                "response_accuracy": 0.01,
                "trigger_correlation": 0.01,
                "thread_similarity_auc": 0.01,
            },
        ),
    ),
    "threads": Recipe(
        objectives=Objectives(single=0.0, context=0.0, relation=0.0, threads=1.0), gate=Gate(gains=(_THREADS,))
    ),
    "threads-and-pairs": Recipe(objectives=Objectives(threads=1.0), gate=Gate(gains=(_THREADS, _REPLIES))),
    "multitask": Recipe(objectives=Objectives(quality=0.5, judged=1.5), gate=Gate(gains=(_REPLIES, _QUALITY))),
    "chitchat": Recipe(
        sources={"chitchat": 1.0},
        objectives=Objectives(quality=0.3),
        segments=14_000,
        batch_pairs=224,
        batch_segments=28,
        rate=1.2e-4,
        thread_temperature=0.07,
        max_tokens=32,
    ),
    "reference": Recipe(
        sources={"chitchat": 1.0, "dailydialog": 0.5},
        objectives=Objectives(relation=1.5, records=2.0, sentences=1.0, quality=0.3, judged=1.0),
        pairs=120_000,
        segments=14_000,
        passes=0.5,
        projection_passes=6.0,
        gate=Gate(gains=(_REPLIES, "trigger_correlation", "reply_similarity · dailydialog_pp", _QUALITY)),
        batch_pairs=288,
        seeds=24,
        batch_segments=28,
        batch_judged=12,
        rate=1.2e-4,
        thread_temperature=0.07,
        max_tokens=32,
    ),
    "reference-further": Recipe(
        sources=_WITH_THREADS,
        relation_sources=("dailydialog",),
        objectives=Objectives(
            single=0.3,
            context=0.3,
            relation=1.5,
            threads=1.5,
            records=2.0,
            sentences=0.5,
            quality=0.1,
            judged=1.0,
            hold=2.0,
        ),
        pairs=120_000,
        segments=60_000,
        segment_turns=2,
        segments_apart=True,
        hold_segments=False,
        passes=0.0375,
        projection_passes=0.0,
        head_steps=0,
        batch_pairs=64,
        seeds=24,
        batch_segments=96,
        batch_judged=12,
        rate=8e-5,
        thread_temperature=0.05,
        frozen_layers=3,
        max_tokens=32,
        looks=4,
    ),
    "reference-last": Recipe(
        sources={"chitchat": 1.0, "dailydialog": 1.0},
        segment_sources=_WITH_THREADS,
        objectives=Objectives(
            single=0.0,
            context=0.0,
            relation=1.5,
            threads=1.0,
            records=2.0,
            sentences=0.5,
            quality=0.1,
            judged=1.0,
            hold=1.0,
        ),
        pairs=120_000,
        segments=60_000,
        segment_turns=2,
        segments_apart=True,
        hold_segments=False,
        passes=0.0563,
        kept_change=0.3,
        projection_passes=6.0,
        segment_passes=1.0,
        gate=_FINISHED,
        batch_pairs=96,
        seeds=24,
        batch_segments=0,
        batch_judged=12,
        rate=5e-5,
        thread_temperature=0.05,
        max_tokens=32,
        looks=0,
    ),
    "reference-taught": Recipe(
        sources={"chitchat": 1.0, "dailydialog": 1.0},
        segment_sources=_WITH_THREADS,
        objectives=Objectives(
            single=0.0, context=0.0, relation=0.0, threads=1.0, quality=0.1, judged=1.0, records=0.0, hold=1.0
        ),
        pairs=120_000,
        segments=60_000,
        segment_turns=2,
        segments_apart=True,
        passes=0.075,
        projection_passes=6.0,
        segment_passes=8.0,
        words=False,
        prototypes=("dailydialog", "samsum"),
        pull=0.325,
        gate=_FINISHED,
        batch_pairs=16,
        batch_segments=96,
        batch_judged=12,
        rate=1e-4,
        thread_temperature=0.068,
        frozen_layers=3,
        max_tokens=32,
        looks=0,
    ),
}
"""What the package brings: for a history, and, last, for the models of docs/training-log.md: ``reference``, with many
pairs in a step, ``reference-further``, with many segments, ``reference-last``, with triggers, and ``reference-taught``,
with teachers, which are named where it is asked for."""


def load_recipe(name: str) -> Recipe:
    """A recipe of the package by its name, or one from a JSON file by its path.

    Raises:
        InputError: there is none, or it says something that cannot be; names the field.
    """
    if name in RECIPES:
        return RECIPES[name]
    try:
        return Recipe.model_validate(json.loads(Path(name).read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"there is no recipe {name!r}", f"Take one of {', '.join(RECIPES)}, or give a JSON file"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"the recipe in {name} cannot be: {where}: {first['msg']}", "See docs/training.md") from error
    except ValueError as error:
        raise InputError(f"{name} is not JSON", "See docs/training.md") from error
