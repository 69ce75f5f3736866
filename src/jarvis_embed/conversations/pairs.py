"""Turns → pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ..messages import CONTEXT_TURNS, Conversation, Pair, Turn
from .turns import turns_of


def pair_positions(turns: Sequence[Turn]) -> Iterator[tuple[int, int]]:
    """Yield the positions (trigger, response) of every pair, each response once, in their order.

    A turn that replies to a message, as the source says, answers the turn which holds that message, however many
    turns stand between; if that message is not among ``turns``, what it answers is not known, and it is in no pair.
    Any other turn answers the one right before it, if that is by somebody else. A turn that its own sender follows
    up after a silence is no trigger so; the follow-up is, and has it as context. With an owner known, a response
    must be the owner's and its trigger must not be.
    """
    named = {turn.reply_to for turn in turns if turn.reply_to is not None}
    home = {key: position for position, turn in enumerate(turns) for key in turn.message_keys if key in named}
    for position, response in enumerate(turns):
        trigger = position - 1 if response.reply_to is None else home.get(response.reply_to, -1)
        if 0 <= trigger < position and _answers(turns[trigger], response):
            yield trigger, position


def _answers(trigger: Turn, response: Turn) -> bool:
    if trigger.sender == response.sender:
        return False
    return response.is_from_me is None or (response.is_from_me and not trigger.is_from_me)


def pairs_of(conversation: str, turns: Sequence[Turn], context_turns: int = CONTEXT_TURNS) -> Iterator[Pair]:
    """Yield every pair of a conversation, each with up to ``context_turns`` turns before its trigger."""
    for position, answer in pair_positions(turns):
        trigger, response = turns[position], turns[answer]
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
            holdout=trigger.holdout or response.holdout,
            quality=response.quality,
            flags=response.flags,
        )


def pairs_in(conversations: Iterable[Conversation]) -> Iterator[Pair]:
    """Yield every pair of some conversations, one after the other."""
    for conversation in conversations:
        yield from pairs_of(conversation.key, list(turns_of(conversation.messages)))
