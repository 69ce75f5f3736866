"""The thread that a new message goes on with: what was said before it, and no more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..messages import Turn
from ..text import folded
from .links import shipped_scorer
from .threads import threads_in

_NEW: Final = "\0new"
"""Key of the new message: no source has it."""


def turns_before(turns: Sequence[Turn], text: str, sent_ms: int, is_group: bool | None = None) -> tuple[str, ...]:
    """The texts of the turns that a message goes on with: those before it in its own thread, oldest first.

    Args:
        turns: of its conversation, oldest first, with the keys of their messages. If the latest turn is the message, or
            ends with it, then that is the message, at its own time.
        sent_ms: when the message was sent, in milliseconds since 1970-01-01 UTC.
        is_group: whether more than two take part; None: what the senders tell.
    """
    if not turns:
        return ()
    said = _said_before(turns[-1], text)
    new = () if said is not None else (Turn(_writer(turns), sent_ms, sent_ms, text, False, (_NEW,)),)
    known = [*turns, *new]
    threads = threads_in("", known, scorer=shipped_scorer(), is_group=is_group)
    thread = next(thread for thread in threads if thread.turns[-1] is known[-1])
    before = tuple(turn.text for turn in thread.turns[:-1])
    return (*before, said) if said else before


def _said_before(turn: Turn, text: str) -> str | None:
    """What stands before ``text`` in a turn that ends with it; None if it does not end so."""
    lines = turn.text.split("\n")
    many = len(text.strip().split("\n"))
    if folded("\n".join(lines[-many:])) != folded(text):
        return None
    return "\n".join(lines[:-many])


def _writer(turns: Sequence[Turn]) -> str:
    """Who is likely to have sent a message that is to be answered."""
    theirs = (turn.sender for turn in reversed(turns) if turn.is_from_me is False)
    others = (turn.sender for turn in reversed(turns) if turn.sender != turns[-1].sender)
    return next(theirs, None) or next(others, turns[-1].sender)
