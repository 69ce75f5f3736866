"""Turns → pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from ..messages import CONTEXT_TURNS, Pair, Turn


def pair_positions(turns: Sequence[Turn]) -> Iterator[int]:
    """Yield each position whose turn is a trigger: the turn after it is by somebody else and answers it.

    With an owner known, a response must be the owner's and its trigger must not be. A turn that its own sender
    follows up after a silence is no trigger; the follow-up is, and has it as context.
    """
    for position, (trigger, response) in enumerate(pairwise(turns)):
        if trigger.sender == response.sender:
            continue
        if response.is_from_me is None or (response.is_from_me and not trigger.is_from_me):
            yield position


def pairs_of(conversation: str, turns: Sequence[Turn], context_turns: int = CONTEXT_TURNS) -> Iterator[Pair]:
    """Yield every pair of a conversation, each with up to ``context_turns`` turns before its trigger."""
    for position in pair_positions(turns):
        trigger, response = turns[position], turns[position + 1]
        yield Pair(
            id=0,
            conversation=conversation,
            trigger=trigger.text,
            response=response.text,
            context=tuple(turn.text for turn in turns[max(0, position - context_turns) : position]),
            trigger_sender=trigger.sender,
            response_sender=response.sender,
            trigger_ms=trigger.start_ms,
            response_ms=response.start_ms,
        )
