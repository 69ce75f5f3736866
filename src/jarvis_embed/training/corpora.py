"""What may be learned from, source by source: whatever is examined, or held out, is left out here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from ..conversations.pairs import pairs_in
from ..conversations.selection import Selection, SelectionRules, examined_keys, select_pairs
from ..errors import SourceError
from ..evaluation.data import Replies, ScoredPair, read_chats, read_dialogues, read_replies, read_scored
from ..evaluation.splits import contact_of, free_of, in_evaluation
from ..messages import Conversation, Message
from ..text import folded

COMMON_WORDS: Final = 3
"""Texts of up to so many words ("how are you") are nobody's: they may be learned from although they are examined."""


def chosen_pairs(
    conversations: Iterable[Conversation], held_out: Iterable[str], limit: int, seed: int, min_quality: float
) -> Selection:
    """The pairs of some conversations that are worth learning from; see ``conversations.selection``.

    The exchanges of one conversation count as one contact.
    """
    given = list(conversations)
    return select_pairs(
        (pair for pair in pairs_in(given) if not pair.holdout),
        SelectionRules(limit=limit),
        held_out=held_out,
        common_words=COMMON_WORDS,
        min_quality=min_quality,
        contacts={one.key: contact_of(one.key) for one in given},
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


def _conversation(key: str, said: Sequence[tuple[str, str]]) -> Conversation:
    """Messages of somebody without times: one a second, so that a speaker's consecutive ones are a turn."""
    return Conversation(
        key, tuple(Message(str(place), who, 1000 * place, text) for place, (who, text) in enumerate(said))
    )


def _needed(found: tuple[Any, ...] | None, data: Path, name: str) -> tuple[Any, ...]:
    if found is None:
        raise SourceError(f"there is no {name}.jsonl.gz in {data}", "Give the folder that holds it with --data")
    return found
