"""What is learned from: texts as tokens, each once, and who answers whom as rows of them. None of it is examined."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from ..conversations.segments import SegmentSamples
from ..conversations.selection import examined_keys, near_key
from ..evaluation.data import Replies, ScoredPair
from ..evaluation.metrics import NEIGHBOURS, nearest_rows
from ..evaluation.splits import assert_disjoint
from ..labels.scheme import Task
from ..messages import Pair
from ..models.encoder import Encoder
from ..models.engine import Vectors, of_length_1
from ..text import folded
from .corpora import COMMON_WORDS
from .judgements import NO_JUDGEMENTS, Judgements
from .segments import SegmentSet, numbered_segments, segment_set
from .silver import Silver
from .teachers import taught_by
from .texts import Halves, Rows, Texts, Tokens


@dataclass(frozen=True, slots=True)
class PairSet:
    """Pairs of one source, as rows of texts.

    Attributes:
        triggers, responses: (n,). contexts: (n, turns), the latest turn before the trigger first; -1 for none.
        conversations: (n,) numbers; the pairs of a conversation stand together, in their order.
        triplets: (t, 3) rows of texts: a trigger, a similar and a dissimilar one; see ``mining``.
        weight: how often a pair is drawn, beside those of other sources.
    """

    name: str
    triggers: Rows
    responses: Rows
    contexts: Rows
    conversations: Rows
    weight: float = 1.0
    triplets: Rows = field(default_factory=lambda: np.zeros((0, 3), np.int64))


@dataclass(frozen=True, slots=True)
class RecordSet:
    """Triggers with several known responses.

    Attributes:
        triggers: (n,) rows of texts.
        likeness: (n, dim) mean reference vector of the replies. near: (n, 20) nearest others by it.
    """

    triggers: Rows
    likeness: Vectors
    near: Rows


@dataclass(frozen=True, slots=True)
class SentenceSet:
    """Pairs of sentences, (n,) rows each, and how alike people find them."""

    left: Rows
    right: Rows
    scores: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LabelSet:
    """Pairs that were labelled: (n,) rows of texts each, and for each task the probability of each label."""

    triggers: Rows
    responses: Rows
    chances: Mapping[Task, npt.NDArray[np.float32]]

    def __len__(self) -> int:
        return len(self.triggers)


@dataclass(frozen=True, slots=True)
class Material:
    """Everything a run learns from.

    Attributes:
        texts: normalised, each once. tokens: of each. near: (n,) equal for near-duplicates.
        reference: (n, dim) under the frozen reference; zeros for what answers nothing. float16.
        parent: (n, dim) under the parent. float16.
    """

    texts: tuple[str, ...]
    tokens: tuple[Tokens, ...]
    near: Rows
    reference: Halves
    parent: Halves
    pairs: tuple[PairSet, ...]
    records: RecordSet | None = None
    sentences: SentenceSet | None = None
    segments: SegmentSet | None = None
    judgements: Judgements = NO_JUDGEMENTS
    labels: LabelSet | None = None


def numbered_pairs(name: str, pairs: Sequence[Pair], texts: Texts, context_turns: int, weight: float) -> PairSet:
    """Pairs as rows of ``texts``, which grow by theirs."""
    contexts = np.full((len(pairs), context_turns), -1, np.int64)
    for row, pair in enumerate(pairs):
        for back, text in enumerate(reversed(pair.context[-context_turns:])):
            contexts[row, back] = texts.row(text)
    conversations: dict[str, int] = {}
    return PairSet(
        name,
        texts.of(pair.trigger for pair in pairs),
        texts.of(pair.response for pair in pairs),
        contexts,
        np.array([conversations.setdefault(pair.conversation, len(conversations)) for pair in pairs], np.int64),
        weight,
    )


def numbered_labels(said: Silver, held_out: Iterable[str], texts: Texts) -> LabelSet:
    """What was said of pairs, as rows of ``texts``, which grow by theirs; pairs with an examined text are out."""
    taken = examined_keys(held_out, COMMON_WORDS)
    sides = zip(said.triggers, said.responses, strict=True)
    kept = [row for row, both in enumerate(sides) if not any(folded(text) in taken for text in both)]
    triggers, responses = (texts.of(side[row] for row in kept) for side in (said.triggers, said.responses))
    return LabelSet(triggers, responses, {task: rows[kept] for task, rows in said.chances.items()})


def assembled(
    texts: Texts,
    pairs: Sequence[PairSet],
    records: Sequence[Replies],
    sentences: Sequence[ScoredPair],
    samples: SegmentSamples | None = None,
    judgements: Judgements = NO_JUDGEMENTS,
    labels: LabelSet | None = None,
    *,
    parent: Encoder,
    reference: Encoder,
    teachers: Sequence[Encoder] = (),
    max_tokens: int,
    max_segment_tokens: int,
    held_out: Iterable[str],
    progress: Callable[[str, int, int], None] | None = None,
) -> Material:
    """Everything in numbers: tokens by the parent's tokenizer, vectors under the parent and the reference.

    Args:
        teachers: whom segments are asked of; see ``teachers``.
        progress: called with the stage (``embed``, ``judge`` for what the reference embeds, ``ask`` for what a teacher
            does), done, and total.

    Raises:
        TextLeak: an examined text is among the texts.
    """
    replies = min((len(record.positives) for record in records), default=0)
    trigger_rows = texts.of(record.context[-1] for record in records)
    reply_rows = texts.of(text for record in records for text in record.positives[:replies]).reshape(-1, replies or 1)
    left, right = texts.of(one.a for one in sentences), texts.of(one.b for one in sentences)
    segments = None if samples is None else numbered_segments(samples, texts)
    every = tuple(texts.rows)
    assert_disjoint(every, held_out, common_words=COMMON_WORDS)
    show = progress or (lambda _stage, _done, _total: None)
    under_parent = parent.embed(every, lambda done, total: show("embed", done, total))
    halves = under_parent.astype(np.float16)
    same = parent.fingerprint == reference.fingerprint
    under_reference = under_parent
    if not same:
        answers = np.unique(np.concatenate([reply_rows.ravel(), *(one.responses for one in pairs)]))
        under_reference = np.zeros((len(every), reference.dim), np.float32)
        under_reference[answers] = reference.embed(
            [every[row] for row in answers.tolist()], lambda done, total: show("judge", done, total)
        )
    record_set = None
    if len(records) > NEIGHBOURS:
        means = of_length_1(under_reference[reply_rows].mean(axis=1))
        record_set = RecordSet(trigger_rows, means, nearest_rows(means, NEIGHBOURS))
    limits = np.full(len(every), max_tokens, np.int64)
    drawn = None
    if samples and segments:
        limits[segments[0]] = max_segment_tokens
        drawn = segment_set(samples, *segments, halves, taught_by(teachers, samples, segments, every, show))
    groups: dict[str, int] = {}
    return Material(
        texts=every,
        tokens=tuple(parent.tokens(text)[:limit] for text, limit in zip(every, limits.tolist(), strict=True)),
        near=np.array([groups.setdefault(near_key(text), len(groups)) for text in every], np.int64),
        reference=under_reference.astype(np.float16),
        parent=halves,
        pairs=tuple(pairs),
        records=record_set,
        sentences=SentenceSet(left, right, np.array([one.score for one in sentences], np.float32))
        if len(sentences)
        else None,
        segments=drawn,
        judgements=judgements,
        labels=labels,
    )


def shuffled_responses(material: Material, seed: int) -> Material:
    """The same material with every response given to another trigger: what must not be learned from."""
    rng = np.random.default_rng(seed)
    return replace(
        material, pairs=tuple(replace(one, responses=rng.permutation(one.responses)) for one in material.pairs)
    )


def material_checksum(texts: Iterable[str], pairs: Sequence[PairSet]) -> str:
    """A hash over what is learned from; equal only for equal material."""
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    for one in pairs:
        digest.update(one.name.encode() + one.triggers.tobytes() + one.responses.tobytes() + one.contexts.tobytes())
    return digest.hexdigest()
