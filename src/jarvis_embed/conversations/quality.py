"""How good a reply was, by what a history shows of it: named signals, and what people said of it themselves.

A *signal* is a number that may go with quality and has to be weighed: how late the reply came, whether the other person
went on. What a signal is worth is fitted to human ratings (``training/quality.py``) and readable. A *judgement* is
somebody's word on this very reply: the owner's feedback, a tapback, the host's score. It is not weighed against the
signals but counted beside them, as raters are. A signal that a source cannot show is not available: it is then neither
zero nor the mean, but counts what the fit found replies without it to be worth, which is nothing for most.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ..messages import EARLIER, Conversation, Message, Turn
from ..text import folded
from .pairs import pair_positions
from .patterns import matched
from .selection import NO_REPLY, begins_topic, is_tapback
from .turns import turns_of

PACE_REPLIES: Final = 5
"""Replies of a conversation below which it has no pace that a delay could be held against."""

GOES_ON_MS: Final = 8 * 60 * 60 * 1000
"""A silence as long as a night: what comes after it does not go on from the reply."""

_SECOND_MS: Final = 1000
_KIND: Final = frozenset({"loved", "liked", "laughed", "emphasised", "❤️", "👍", "😂", "❤", "🔥", "🎉", "😍", "🥰"})
_UNKIND: Final = frozenset({"disliked", "questioned", "👎", "😡", "🙄", "😠"})

_WARM: Final = re.compile(
    r"\b(thanks?|thank you|thx|ty|love (?:it|that|this|you)|lo+l|lmao|(?:ha){2,}|hehe|awesome|amazing|great|perfect|"
    r"wonderful|sweet|yay|nice|cool|exactly|so true|good (?:idea|point|one)|glad|appreciate)\b"
    r"|[❤😂🤣😊😍🥰👍🎉😄🙂]|<3|:\)"
)
_REPAIR: Final = re.compile(
    r"(?:(?:wait|um+|uh+|ok|sorry|lol|haha)[,. ]+)*"
    r"(?:what\s*[?!]+|what|huh\b.*|wh?at do (?:you|u) mean.*|wdym.*|come again.*|pardon.*|sorry\s*\?+|\?+|eh\s*\?+|"
    r"i (?:don'?t|do not) (?:understand|get it|follow).*|i'?m confused.*|that(?:'s| is) not what i.*|i meant\b.*|"
    r"are you (?:a bot|even|listening).*|(?:that|this) (?:makes|doesn'?t make) no? ?sense.*|not what i asked.*)",
    re.DOTALL,
)
_WORD: Final = re.compile(r"\w+(?:['’]\w+)*")


@dataclass(frozen=True, slots=True)
class Exchange:
    """A pair with its surroundings. None says that the source cannot show it.

    Attributes:
        linked: whether the reply names the message it answers; None where nobody of the conversation does that.
        delay_ms: from the end of the trigger to the begin of the reply. pace_ms: the median of the conversation.
        goes_on: whether somebody else wrote again before a night had passed; None for the newest turn of all.
        following: what they wrote; None where they did not.
        tapbacks: kinds of the reactions of others to the reply; None where nobody of the conversation reacts.
        edited: whether it was edited; None where no message of the conversation is known to be.
        host_quality, host_flags: what the source says of the reply; flags are None where it says nothing at all.
        rating: what people gave the whole conversation, 0 to 1, and how many replies they gave it for.
        feedback: the owner's own word on it: True for good.
        topic: how much nearer trigger and reply are than random pairs of this space, in their standard deviations.
        fit: what the model's quality head says of the texts, 0 to 1.
    """

    trigger: str
    response: str
    linked: bool | None = None
    delay_ms: int | None = None
    pace_ms: float | None = None
    goes_on: bool | None = None
    following: str | None = None
    tapbacks: tuple[str, ...] | None = None
    edited: bool | None = None
    host_quality: float | None = None
    host_flags: tuple[str, ...] | None = None
    rating: tuple[float, int] | None = None
    feedback: bool | None = None
    topic: float | None = None
    fit: float | None = None


@dataclass(frozen=True, slots=True)
class Signal:
    """``read`` gives its value of an exchange, or None where it is not available."""

    name: str
    meaning: str
    read: Callable[[Exchange], float | None]


@dataclass(frozen=True, slots=True)
class Judgement:
    """Somebody's word on a reply: ``value`` 0 to 1, worth that of so many ``raters``."""

    name: str
    value: float
    raters: float


def length(exchange: Exchange) -> float | None:
    """ln(1 + words) of the reply."""
    return math.log1p(len(_words(exchange.response)))


def length_ratio(exchange: Exchange) -> float | None:
    """ln of the reply's words by the trigger's, one added to both."""
    return math.log((1 + len(_words(exchange.response))) / (1 + len(_words(exchange.trigger))))


def copied(exchange: Exchange) -> float | None:
    """Share of the reply's words that stand in the trigger."""
    said, answered = set(_words(exchange.trigger)), _words(exchange.response)
    return sum(word in said for word in answered) / len(answered) if answered else None


def no_words(exchange: Exchange) -> float | None:
    """1 where the reply holds no word, or is a reaction that had to be sent as a text."""
    wordless = not any(letter.isalpha() for letter in exchange.response)
    return float(wordless or is_tapback(exchange.response))


def acknowledges(exchange: Exchange) -> float | None:
    """1 for a bare acknowledgement: "ok", "I see"."""
    found = (matched("trigger", exchange.response), matched("response", exchange.response))
    return float(any(pattern is not None and pattern.name == "acknowledgement" for pattern in found))


def asks(exchange: Exchange) -> float | None:
    """1 where the reply asks something back."""
    return float("?" in exchange.response)


def shifts_topic(exchange: Exchange) -> float | None:
    """1 where the reply says of itself that it begins another topic."""
    return float(begins_topic(exchange.response))


def topic(exchange: Exchange) -> float | None:
    """How much nearer than random pairs the two texts are."""
    return exchange.topic


def fit(exchange: Exchange) -> float | None:
    """The log odds of what the model's quality head says."""
    if exchange.fit is None:
        return None
    chance = min(max(exchange.fit, 0.001), 0.999)
    return math.log(chance / (1 - chance))


def linked(exchange: Exchange) -> float | None:
    """1 where the reply names the message it answers."""
    return None if exchange.linked is None else float(exchange.linked)


def delay(exchange: Exchange) -> float | None:
    """log2 of the delay by the conversation's median, a second added to both."""
    if exchange.delay_ms is None or exchange.pace_ms is None:
        return None
    return math.log2((max(exchange.delay_ms, 0) + _SECOND_MS) / (exchange.pace_ms + _SECOND_MS))


def goes_on(exchange: Exchange) -> float | None:
    """1 where the other person wrote again before a night had passed."""
    return None if exchange.goes_on is None else float(exchange.goes_on)


def following_length(exchange: Exchange) -> float | None:
    """ln(1 + words) of what they wrote."""
    return None if exchange.following is None else math.log1p(len(_words(exchange.following)))


def warmth(exchange: Exchange) -> float | None:
    """1 where what they wrote thanks, laughs or praises."""
    return None if exchange.following is None else float(_WARM.search(folded(exchange.following)) is not None)


def repair(exchange: Exchange) -> float | None:
    """1 where what they wrote says that they did not understand: "what?"."""
    return None if exchange.following is None else float(_REPAIR.fullmatch(folded(exchange.following)) is not None)


def edited(exchange: Exchange) -> float | None:
    """1 where the reply was edited. (What is unsent leaves the library, and has no quality.)"""
    return None if exchange.edited is None else float(exchange.edited)


SIGNALS: Final[tuple[Signal, ...]] = (
    Signal("fit", "what the quality head of the model says of the two texts, log odds", fit),
    Signal("topic", "how near the two texts are, beside random pairs, in standard deviations", topic),
    Signal("length", "words of the reply, ln", length),
    Signal("length_ratio", "words of the reply by those of the message, ln", length_ratio),
    Signal("copied", "share of its words that stand in the message", copied),
    Signal("no_words", "it has no words, or is a reaction", no_words),
    Signal("acknowledges", "it is a bare acknowledgement", acknowledges),
    Signal("asks", "it asks something back", asks),
    Signal("shifts_topic", "it says that it begins another topic", shifts_topic),
    Signal("linked", "it names the message it answers", linked),
    Signal("delay", "how late it came, beside the pace of the conversation, log2", delay),
    Signal("goes_on", "the other person went on", goes_on),
    Signal("following_length", "words of what they wrote next, ln", following_length),
    Signal("warmth", "what they wrote next is warm", warmth),
    Signal("repair", "what they wrote next asks what was meant", repair),
    Signal("edited", "it was edited", edited),
)
"""Every signal, in the order of tables."""


def values(exchange: Exchange) -> list[float | None]:
    """The value of each of ``SIGNALS``; None where it is not available."""
    return [signal.read(exchange) for signal in SIGNALS]


def judgements(exchange: Exchange, machine: float) -> list[Judgement]:
    """What people, and the host, said of the reply itself.

    The owner's feedback and each tapback count as a rater. The rating of a conversation speaks of all its replies, so
    to each it is worth its share of one. The host's score is a program's, as ours is; where it flags a text as no reply
    at all, that is taken for a fact.

    Args:
        machine: raters that the word of a program is worth.
    """
    found = []
    if exchange.feedback is not None:
        found.append(Judgement("feedback", float(exchange.feedback), 1.0))
    kind = sum(one in _KIND for one in exchange.tapbacks or ())
    unkind = sum(one in _UNKIND for one in exchange.tapbacks or ())
    if kind + unkind:
        found.append(Judgement("tapbacks", kind / (kind + unkind), float(kind + unkind)))
    if exchange.host_quality is not None:
        found.append(Judgement("host_quality", min(max(exchange.host_quality, 0.0), 1.0), machine))
    if not NO_REPLY.isdisjoint(exchange.host_flags or ()):
        found.append(Judgement("host_flags", 0.0, 1.0))
    if exchange.rating is not None:
        value, replies = exchange.rating
        found.append(Judgement("rating", value, 1 / max(replies, 1)))
    return found


JUDGEMENTS: Final = ("feedback", "tapbacks", "host_quality", "host_flags", "rating")


def exchanges_of(conversation: Conversation) -> Iterator[tuple[int, int, list[Turn], Exchange]]:
    """Yield every pair of a conversation with its surroundings: positions of its turns, all turns, the exchange."""
    turns = list(turns_of(conversation.messages))
    pairs = list(pair_positions(turns))
    by_key = {message.key: message for message in conversation.messages}
    messages = [message for message in conversation.messages if message.sender != EARLIER]
    links = any(message.reply_to is not None for message in messages)
    edits = any(message.edited_ms is not None for message in messages)
    reactions = any(message.tapbacks for message in messages)
    judged = any(message.quality is not None or message.flags for message in messages)
    delays = [max(turns[answer].start_ms - turns[asked].end_ms, 0) for asked, answer in pairs]
    pace = statistics.median(delays) if len(delays) >= PACE_REPLIES else None
    rating = None if conversation.rating is None else (conversation.rating, len(pairs))
    for (asked, answer), waited in zip(pairs, delays, strict=True):
        response = turns[answer]
        own = [by_key[key] for key in response.message_keys]
        after = _next_of_another(turns, answer)
        went_on = None if answer == len(turns) - 1 else after is not None
        yield (
            asked,
            answer,
            turns,
            Exchange(
                trigger=turns[asked].text,
                response=response.text,
                linked=response.reply_to is not None if links else None,
                delay_ms=None if pace is None else waited,
                pace_ms=pace,
                goes_on=went_on,
                following=None if after is None else after.text,
                tapbacks=_reactions(own) if reactions else None,
                edited=any(message.edited_ms is not None for message in own) if edits else None,
                host_quality=response.quality,
                host_flags=response.flags if judged else None,
                rating=rating,
            ),
        )


def _next_of_another(turns: Sequence[Turn], answer: int) -> Turn | None:
    """The first turn by somebody else after a reply, if no night lies between."""
    response = turns[answer]
    for turn in turns[answer + 1 :]:
        if turn.sender not in (response.sender, EARLIER):
            return turn if turn.start_ms - response.end_ms <= GOES_ON_MS else None
    return None


def _reactions(messages: Sequence[Message]) -> tuple[str, ...]:
    """Kinds of the reactions to these messages by others than their sender."""
    return tuple(
        tapback.kind for message in messages for tapback in message.tapbacks if tapback.sender != message.sender
    )


def _words(text: str) -> list[str]:
    return _WORD.findall(folded(text))
