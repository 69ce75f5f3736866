"""Messages → turns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..messages import TURN_GAP_MS, Message, Turn


def turns_of(messages: Iterable[Message], gap_ms: int = TURN_GAP_MS) -> Iterator[Turn]:
    """Join consecutive messages of one sender into turns.

    A new turn begins with another sender, after more than ``gap_ms`` of silence, or with a reply to another message
    than the turn so far replies to: each turn answers one thing. A message that is held out of training shares no
    turn with one that is not. Messages are taken in the order given. Texts are stripped and joined by line ends; a
    message of white space alone is skipped, so that it neither makes a turn nor splits one.
    """
    current: list[Message] = []
    for message in messages:
        if not message.text.strip():
            continue
        if current and not _goes_on(current, message, gap_ms):
            yield _joined(current)
            current = []
        current.append(message)
    if current:
        yield _joined(current)


def _goes_on(turn: list[Message], message: Message, gap_ms: int) -> bool:
    first, last = turn[0], turn[-1]
    return (
        message.sender == last.sender
        and message.sent_ms - last.sent_ms <= gap_ms
        and message.reply_to in (None, first.reply_to)
        and message.holdout == first.holdout
    )


def _joined(messages: list[Message]) -> Turn:
    first, last = messages[0], messages[-1]
    return Turn(
        sender=first.sender,
        start_ms=first.sent_ms,
        end_ms=last.sent_ms,
        text="\n".join(message.text.strip() for message in messages),
        is_from_me=first.is_from_me,
        message_keys=tuple(message.key for message in messages),
        reply_to=first.reply_to,
        holdout=first.holdout,
        quality=min((message.quality for message in messages if message.quality is not None), default=None),
        flags=tuple(sorted({flag for message in messages for flag in message.flags})),
    )
