"""What is learned from: texts as tokens, each once, and who answers whom as rows of them. None of it is examined."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..conversations.pairs import pairs_in
from ..conversations.selection import Selection, SelectionRules, examined_keys, near_key, select_pairs
from ..errors import SourceError
from ..evaluation.data import Replies, ScoredPair, read_chats, read_dialogues, read_replies, read_scored
from ..evaluation.metrics import NEIGHBOURS, nearest_rows
from ..evaluation.splits import assert_disjoint, free_of, in_evaluation
from ..messages import Conversation, Message, Pair
from ..models.encoder import Encoder
from ..models.engine import Vectors
from ..text import folded, normalise

Tokens = Sequence[int]
Rows = npt.NDArray[np.int64]

COMMON_WORDS: Final = 3
"""Texts of up to so many words ("how are you") are nobody's: they may be learned from although they are examined."""


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
class Material:
    """Everything a run learns from.

    Attributes:
        texts: normalised, each once. tokens: of each. near: (n,) equal for near-duplicates.
        reference: (n, dim) under the frozen reference. parent: (n, dim) under the parent. float16.
    """

    texts: tuple[str, ...]
    tokens: tuple[Tokens, ...]
    near: Rows
    reference: npt.NDArray[np.float16]
    parent: npt.NDArray[np.float16]
    pairs: tuple[PairSet, ...]
    records: RecordSet | None = None
    sentences: SentenceSet | None = None


class Texts:
    """Numbers texts, each once, in the order in which they come."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}

    def row(self, text: str) -> int:
        return self.rows.setdefault(normalise(text), len(self.rows))

    def of(self, texts: Iterable[str]) -> Rows:
        return np.array([self.row(text) for text in texts], np.int64)


def chosen_pairs(
    conversations: Iterable[Conversation], held_out: Iterable[str], limit: int, seed: int, min_quality: float
) -> Selection:
    """The pairs of some conversations that are worth learning from; see ``conversations.selection``.

    The exchanges of one conversation, which ``evaluation.splits`` names KEY#NUMBER, count as one contact.
    """
    given = list(conversations)
    return select_pairs(
        (pair for pair in pairs_in(given) if not pair.holdout),
        SelectionRules(limit=limit),
        held_out=held_out,
        common_words=COMMON_WORDS,
        min_quality=min_quality,
        contacts={one.key: one.key.rpartition("#")[0] or one.key for one in given},
        seed=seed,
    )


def dailydialog_conversations(data: Path, examined: Sequence[Replies]) -> Iterator[Conversation]:
    """The dialogues of ``dailydialog`` that may be trained on: none shares two adjacent turns with what is examined.

    Raises:
        SourceError: the file is missing or broken.
    """
    dialogues = _needed(read_dialogues(data), data, "dailydialog")
    taken = [(*record.context, reply) for record in examined for reply in record.positives]
    taken += [one.turns for one in dialogues if one.split == "validation"]
    free = free_of((one.turns for one in dialogues if one.split == "train"), taken)
    for number, turns in enumerate(free):
        yield _conversation(f"dailydialog {number}", [("AB"[place % 2], text) for place, text in enumerate(turns)])


def samsum_conversations(data: Path) -> Iterator[Conversation]:
    """The chats of ``samsum`` between two people.

    Raises:
        SourceError: the file is missing or broken.
    """
    for chat in _needed(read_chats(data), data, "samsum"):
        if len({speaker for speaker, _ in chat.said}) == 2:
            yield _conversation(f"samsum {chat.id}", chat.said)


def training_records(data: Path, held_out: Iterable[str]) -> list[Replies]:
    """The records of ``dailydialog_pp`` that may be trained on and share no text with what is examined.

    Raises:
        SourceError: the file is missing or broken.
    """
    taken = examined_keys(held_out, COMMON_WORDS)
    records = _needed(read_replies(data), data, "dailydialog_pp")
    return [
        record
        for record in records
        if not in_evaluation(record.id) and taken.isdisjoint(map(folded, (record.context[-1], *record.positives)))
    ]


def training_sentences(data: Path, held_out: Iterable[str]) -> list[ScoredPair]:
    """The pairs of ``stsb_train`` that share no sentence with what is examined.

    Raises:
        SourceError: the file is missing or broken.
    """
    taken = examined_keys(held_out, COMMON_WORDS)
    scored = _needed(read_scored(data, "stsb_train"), data, "stsb_train")
    return [one for one in scored if taken.isdisjoint((folded(one.a), folded(one.b)))]


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


def assembled(
    texts: Texts,
    pairs: Sequence[PairSet],
    records: Sequence[Replies],
    sentences: Sequence[ScoredPair],
    *,
    parent: Encoder,
    reference: Encoder,
    max_tokens: int,
    held_out: Iterable[str],
    progress: Any = None,
) -> Material:
    """Everything in numbers: tokens by the parent's tokenizer, vectors under the parent and the reference.

    Raises:
        TextLeak: an examined text is among the texts.
    """
    replies = min((len(record.positives) for record in records), default=0)
    trigger_rows = texts.of(record.context[-1] for record in records)
    reply_rows = texts.of(text for record in records for text in record.positives[:replies]).reshape(-1, replies or 1)
    left, right = texts.of(one.a for one in sentences), texts.of(one.b for one in sentences)
    every = tuple(texts.rows)
    assert_disjoint(every, held_out, common_words=COMMON_WORDS)
    under_parent = parent.embed(every, progress)
    same = parent.fingerprint == reference.fingerprint
    under_reference = under_parent if same else reference.embed(every, progress)
    record_set = None
    if len(records) > NEIGHBOURS:
        means = under_reference[reply_rows].mean(axis=1)
        means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
        record_set = RecordSet(trigger_rows, means, nearest_rows(means, NEIGHBOURS))
    groups: dict[str, int] = {}
    return Material(
        texts=every,
        tokens=tuple(parent.tokens(text)[:max_tokens] for text in every),
        near=np.array([groups.setdefault(near_key(text), len(groups)) for text in every], np.int64),
        reference=under_reference.astype(np.float16),
        parent=under_parent.astype(np.float16),
        pairs=tuple(pairs),
        records=record_set,
        sentences=SentenceSet(left, right, np.array([one.score for one in sentences], np.float32))
        if len(sentences)
        else None,
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


def _conversation(key: str, said: Sequence[tuple[str, str]]) -> Conversation:
    """Messages of somebody without times: one a second, so that a speaker's consecutive ones are a turn."""
    return Conversation(
        key, tuple(Message(str(place), who, 1000 * place, text) for place, (who, text) in enumerate(said))
    )


def _needed(found: tuple[Any, ...] | None, data: Path, name: str) -> tuple[Any, ...]:
    if found is None:
        raise SourceError(f"there is no {name}.jsonl.gz in {data}", "Give the folder that holds it with --data")
    return found
