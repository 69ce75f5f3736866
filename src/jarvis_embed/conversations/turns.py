"""Messages → turns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..messages import TURN_GAP_MS, Message, Turn


def turns_of(messages: Iterable[Message], gap_ms: int = TURN_GAP_MS) -> Iterator[Turn]:
    """Join consecutive messages of one sender into turns.

    A new turn begins with another sender or after more than ``gap_ms`` of silence. Messages are taken in the
    order given. Texts are stripped and joined by line ends; a message of white space alone is skipped, so that
    it neither makes a turn nor splits one.
    """
    current: list[Message] = []
    for message in messages:
        if not message.text.strip():
            continue
        if current and (message.sender != current[-1].sender or message.sent_ms - current[-1].sent_ms > gap_ms):
            yield _joined(current)
            current = []
        current.append(message)
    if current:
        yield _joined(current)


def _joined(messages: list[Message]) -> Turn:
    first, last = messages[0], messages[-1]
    return Turn(
        sender=first.sender,
        start_ms=first.sent_ms,
        end_ms=last.sent_ms,
        text="\n".join(message.text.strip() for message in messages),
        is_from_me=first.is_from_me,
        message_keys=tuple(message.key for message in messages),
    )
