"""Messages, turns and pairs as rows of the library."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Final

from .messages import Conversation, Message, Tapback, Turn, place_of
from .text import well_formed

StoredMessage = tuple[object, ...]
"""A message without its key and row, as the columns hold it."""

MESSAGE: Final = "key, sender, sent_ms, text, is_from_me, reply_to, edited_ms, tapbacks, holdout, quality, flags"
"""The columns of a message: its key, and a ``StoredMessage``."""

TEXT: Final = 2
"""Where the text stands in a ``StoredMessage``."""

_IDS: Final = 500

TURN: Final = "sender, start_ms, end_ms, text, is_from_me, reply_to, holdout, quality, flags"


def insert(db: sqlite3.Connection, table: str, values: tuple[object, ...]) -> int:
    """Insert a row into ``table (columns)``; return its id."""
    statement = f"INSERT INTO {table} VALUES ({marks(len(values))})"  # noqa: S608
    return int(db.execute(statement, values).lastrowid or 0)


def marks(number: int) -> str:
    """Place holders of a statement."""
    return ",".join("?" * number)


def blocks(ids: Sequence[int]) -> Iterator[tuple[str, list[int]]]:
    """Yield ids a few hundred at a time, each with its ``marks``: a statement takes only so many."""
    for start in range(0, len(ids), _IDS):
        block = list(ids[start : start + _IDS])
        yield marks(len(block)), block


def position_of(message: Message, index: int) -> int:
    """Its place in the order of its conversation; there may be gaps."""
    return index if message.row is None else place_of(message.sent_ms, message.row)


def about(conversation: Conversation) -> tuple[str, bool | None, str | None]:
    """The columns people, is_group and name."""
    people = json.dumps([well_formed(person) for person in conversation.people], ensure_ascii=False)
    return people, conversation.is_group, well_formed_or_none(conversation.name)


def stored(message: Message) -> StoredMessage:
    """The columns of ``MESSAGE`` after the key."""
    tapbacks = [(well_formed(t.sender), well_formed(t.kind), t.sent_ms) for t in message.tapbacks]
    return (
        well_formed(message.sender),
        message.sent_ms,
        well_formed(message.text),
        message.is_from_me,
        well_formed_or_none(message.reply_to),
        message.edited_ms,
        json.dumps(tapbacks, ensure_ascii=False) if tapbacks else None,
        message.holdout,
        message.quality,
        _listed(message.flags),
    )


def message_of(  # the columns of ``MESSAGE`` in their order, and ``row``
    key: str,
    sender: str,
    sent_ms: int,
    text: str,
    is_from_me: int | None,
    reply_to: str | None,
    edited_ms: int | None,
    tapbacks: str | None,
    holdout: int,
    quality: float | None,
    flags: str | None,
    row: int | None,
) -> Message:
    """The message that ``stored`` made these columns of."""
    reactions = tuple(Tapback(*tapback) for tapback in json.loads(tapbacks)) if tapbacks else ()
    mine, held = truth(is_from_me), bool(holdout)
    judged = (quality, flags_of(flags))
    return Message(key, sender, sent_ms, text, mine, reply_to, edited_ms, reactions, held, row, *judged)


def stored_turn(turn: Turn) -> tuple[object, ...]:
    """The columns of ``TURN``."""
    return (
        well_formed(turn.sender),
        turn.start_ms,
        turn.end_ms,
        well_formed(turn.text),
        turn.is_from_me,
        well_formed_or_none(turn.reply_to),
        turn.holdout,
        turn.quality,
        _listed(turn.flags),
    )


def flags_of(column: str | None) -> tuple[str, ...]:
    """The flags that a column ``flags`` holds."""
    return tuple(json.loads(column)) if column else ()


def _listed(flags: tuple[str, ...]) -> str | None:
    return json.dumps([well_formed(flag) for flag in flags], ensure_ascii=False) if flags else None


def truth(column: int | None) -> bool | None:
    return None if column is None else bool(column)


def well_formed_or_none(text: str | None) -> str | None:
    return None if text is None else well_formed(text)


def digest_of(conversation: Conversation) -> bytes:
    """A hash over all that would be stored of a conversation."""
    rated = () if conversation.rating is None else (conversation.rating,)
    digest = hashlib.blake2b(repr((*about(conversation), *rated)).encode("utf-8", "surrogatepass"), digest_size=16)
    for message in conversation.messages:
        digest.update(repr((message.key, message.row, *stored(message))).encode("utf-8", "surrogatepass"))
    return digest.digest()


def conversation_id(origin: int, key: str) -> int:
    """63 bits of a hash over source and key, which stay when a conversation is written anew."""
    digest = hashlib.blake2b(repr((origin, key)).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def pair_id(origin: int, conversation: str, trigger: Turn, response: Turn) -> int:
    """63 bits of a hash over the pair's content.

    A message key is unique in its conversation, and at most one turn comes right after a trigger, so the id is
    unique too; turns that reply to it from afar may be many, and are told apart by their first message.
    """
    content: tuple[object, ...]
    content = (origin, conversation, trigger.message_keys[0], trigger.text, response.text, response.start_ms)
    if response.reply_to is not None:
        content = (*content, response.message_keys[0])
    digest = hashlib.blake2b(repr(content).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) >> 1
