"""Which side everything is on, so that no number lies; and the check that training never saw what is examined."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from ..conversations.selection import examined_keys
from ..errors import TextLeak
from ..messages import Conversation, Message, Pair
from ..text import folded

TRAIN_SHARE: Final = 0.8
VALIDATION_SHARE: Final = 0.1

EXCHANGE_GAP_MS: Final = 8 * 60 * 60 * 1000
"""A silence as long as a night ends an exchange."""


@dataclass(frozen=True, slots=True)
class Sides:
    """A history in three parts, oldest first."""

    train: tuple[Conversation, ...]
    validation: tuple[Conversation, ...]
    test: tuple[Conversation, ...]


def exchanges(conversation: Conversation, gap_ms: int = EXCHANGE_GAP_MS) -> Iterator[Conversation]:
    """Cut a conversation where it fell silent for more than ``gap_ms``; a piece is named by its number.

    A reply link across a silence holds the two pieces together.
    """
    piece: list[Message] = []
    number = 0
    latest_reply = _latest_replies(conversation.messages)
    reach = -1
    for position, message in enumerate(conversation.messages):
        silent = bool(piece) and message.sent_ms - piece[-1].sent_ms > gap_ms
        if silent and reach < position:
            yield Conversation(f"{conversation.key}#{number}", tuple(piece))
            piece, number = [], number + 1
        piece.append(message)
        reach = max(reach, latest_reply.get(message.key, -1))
    if piece:
        yield Conversation(f"{conversation.key}#{number}", tuple(piece))


def contact_of(key: str) -> str:
    """The key of the conversation that an exchange (KEY#NUMBER) is a piece of; any other key as it is."""
    return key.rpartition("#")[0] or key


def split_history(conversations: Iterable[Conversation]) -> Sides:
    """Split a history by time: the oldest 80 % of its messages train, the next 10 % validation, the newest test.

    What is put on a side is a whole exchange (see ``exchanges``), by the time of its last message. So no exchange is on
    both sides, and nothing that is trained on was sent after what it is examined on had ended.
    """
    pieces = [piece for conversation in conversations for piece in exchanges(conversation)]
    pieces.sort(key=lambda piece: (piece.messages[-1].sent_ms, piece.key))
    total = sum(len(piece.messages) for piece in pieces)
    sides: tuple[list[Conversation], ...] = ([], [], [])
    done = 0
    for piece in pieces:
        done += len(piece.messages)
        share = done / total
        sides[0 if share <= TRAIN_SHARE else 1 if share <= TRAIN_SHARE + VALIDATION_SHARE else 2].append(piece)
    return Sides(*map(tuple, sides))


def in_evaluation(identity: str) -> bool:
    """Whether a record of ``dailydialog_pp`` is evaluation: the sha1 of its id begins with 0, 1 or 2."""
    return hashlib.sha1(identity.encode("utf-8"), usedforsecurity=False).hexdigest()[0] in "012"


def free_of(dialogues: Iterable[Sequence[str]], examined: Iterable[Sequence[str]]) -> Iterator[Sequence[str]]:
    """Yield the dialogues that share no two adjacent turns with any of ``examined``: these may be trained on.

    Args:
        dialogues: turn texts; of ``dailydialog``.
        examined: turn texts; of an evaluation record of ``dailydialog_pp``, its context and each good reply.
    """
    taken = {pair for turns in examined for pair in _adjacent(turns)}
    for turns in dialogues:
        if taken.isdisjoint(_adjacent(turns)):
            yield turns


def pair_texts(pairs: Iterable[Pair]) -> Iterator[str]:
    """Every text of some pairs: context, trigger, response."""
    for pair in pairs:
        yield from pair.context
        yield pair.trigger
        yield pair.response


@dataclass(frozen=True, slots=True)
class Overlap:
    """What two sides share.

    Attributes:
        texts: different texts on both sides ("ok", "how are you").
        pairs: held-out pairs that are word for word in training too; they count there, and are not examined.
    """

    texts: int
    pairs: int


def held_out_once(held_out: Sequence[Pair], training: Sequence[Pair]) -> tuple[tuple[Pair, ...], Overlap]:
    """Leave out of the examined pairs those that training has too, and say how much the two sides share."""
    seen = {(folded(pair.trigger), folded(pair.response)) for pair in training}
    kept = tuple(pair for pair in held_out if (folded(pair.trigger), folded(pair.response)) not in seen)
    texts = {text for pair in seen for text in pair}
    examined = {folded(text) for pair in held_out for text in (pair.trigger, pair.response)}
    return kept, Overlap(len(texts & examined), len(held_out) - len(kept))


def assert_disjoint(training: Iterable[str], held_out: Iterable[str], *, common_words: int = 0) -> None:
    """Check that no examined text is among the training texts. Trainers call this before their first step.

    Args:
        common_words: texts of up to so many words are common property ("how are you") and may be on both sides.

    Raises:
        TextLeak: says how many are; never which.
    """
    keys = examined_keys(held_out, common_words)
    found = len(keys & {folded(text) for text in training})
    if found:
        raise TextLeak(
            f"{found} of {len(keys)} examined texts are also in the training data",
            "Leave them out of training: conversations.selection.select_pairs(pairs, held_out=texts)",
        )


def assert_conversations_disjoint(training: Iterable[str], held_out: Iterable[str]) -> None:
    """Check that no conversation is on both sides.

    Raises:
        TextLeak: says how many are.
    """
    both = len(set(training) & set(held_out))
    if both:
        raise TextLeak(f"{both} conversations are in training and in the exam", "Split by conversation")


def _adjacent(turns: Sequence[str]) -> set[tuple[str, str]]:
    keys = [folded(turn) for turn in turns]
    return set(pairwise(keys))


def _latest_replies(messages: Sequence[Message]) -> dict[str, int]:
    """Key of a message → position of the last message that answers it."""
    return {message.reply_to: position for position, message in enumerate(messages) if message.reply_to is not None}
