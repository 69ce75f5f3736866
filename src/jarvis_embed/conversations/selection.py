"""Pairs worth learning from: clean, not too often the same, spread over contacts; and a report of what was left out.

A learner believes what it is shown. A thousand times "ok" teaches that everything is answered by "ok"; a tapback is no
reply; a message that begins a new topic is a wrong answer to the one before it.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from ..messages import Pair
from ..text import folded

_DAY_MS: Final = 24 * 60 * 60 * 1000

_TAPBACK: Final = re.compile(
    r"(liked|loved|disliked|laughed at|emphasi[sz]ed|questioned|reacted .{1,12} to|removed an? .{1,24} from)"
    r" ([“\"‘'«].*|an? (image|photo|video|movie|attachment|audio message|link|sticker|contact|location))",
    re.DOTALL,
)
"""How messengers write a reaction where it had to be sent as a text, folded."""

_SHIFT: Final = re.compile(
    r"(anyways?|btw|by the way|on another note|on a different note|changing the subject|to change the subject|"
    r"unrelated|off topic|oh and|random question|quick question|speaking of which)\b"
)
"""How people begin another topic, folded; at the start of a reply it says that this is none."""

NO_REPLY: Final = frozenset(
    {
        "ack_trigger_substantive_response",
        "automated",
        "is_reaction",
        "low_quality",
        "spam",
        "stale_response",
        "topic_shift",
    }
)
"""Flags by which a source says that a response is none, or by no person. That the two texts are little alike is no such
thing: an answer need not look like its question, and how it does not is what is to be learnt."""

MIN_QUALITY: Final = 0.2
"""The host multiplies one factor for each fault; below this is what it finds to be no reply, or bad in several ways."""

STRETCH: Final = 8
"""So many consecutive pairs of a contact stay, or give way, together."""

_LINK: Final = re.compile(r"(https?://|www\.)\S+")
_NOT_WORD: Final = re.compile(r"[^\w\s]|_")
_DIGITS: Final = re.compile(r"\d+")
_STRETCHED: Final = re.compile(r"(.)\1{2,}")


@dataclass(frozen=True, slots=True)
class SelectionRules:
    """What a pair must be like.

    Attributes:
        limit: how many pairs at most; the contacts with most of them give way first.
        max_words: of the trigger and of the response; more is a letter or something pasted.
        max_delay_ms: a response that came later hardly answers the trigger.
        same_text: how often a text may occur as a trigger, and how often as a response, near-duplicates counted.
        alphabet: of the letters of each side, the share that must be of this script (its name in Unicode); an encoder
            for English reads other scripts letter by letter. None for any.
        alphabet_share: that share.
    """

    limit: int = 50_000
    max_words: int = 100
    max_delay_ms: int = _DAY_MS
    same_text: int = 20
    alphabet: str | None = "LATIN"
    alphabet_share: float = 0.7


@dataclass(frozen=True, slots=True)
class SelectionReport:
    """What became of the pairs: ``dropped`` is reason → count, each pair counted for the first reason that holds."""

    seen: int
    kept: int
    contacts: int
    largest_contact: float
    dropped: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Selection:
    """The chosen pairs in the order given, each with its context, and the report."""

    pairs: tuple[Pair, ...]
    report: SelectionReport


def select_pairs(
    pairs: Iterable[Pair],
    rules: SelectionRules | None = None,
    *,
    held_out: Iterable[str] = (),
    common_words: int = 0,
    contacts: Mapping[str, str] | None = None,
    min_quality: float = MIN_QUALITY,
    seed: int = 0,
) -> Selection:
    """Choose the pairs to learn from.

    Args:
        held_out: texts that are examined; a pair that has one, in its context too, is left out.
        common_words: held-out texts of up to so many words are common property and do not count.
        contacts: conversation → contact; each conversation is a contact of its own where it is None.
        min_quality: a pair is out if the source says that its quality, 0 to 1, is below.
        seed: which of too many equal or like pairs stay.

    Returns:
        the same selection for the same pairs, rules and seed, whatever order equal pairs come in.
    """
    rules = rules or SelectionRules()
    given = list(pairs)
    examined = examined_keys(held_out, common_words)
    dropped: Counter[str] = Counter()
    clean = []
    for position, pair in enumerate(given):
        reason = _fault(pair, rules, examined)
        if reason is None and pair.quality is not None and pair.quality < min_quality:
            reason = "low quality"
        if reason is None:
            clean.append(position)
        else:
            dropped[reason] += 1
    random.Random(seed).shuffle(clean)  # noqa: S311  which of equals stays is no secret
    capped = _capped(given, clean, rules.same_text, dropped)
    of = contacts or {}
    chosen = _balanced(capped, [of.get(given[i].conversation, given[i].conversation) for i in capped], rules.limit)
    dropped["over the limit of its contact"] = len(capped) - len(chosen)
    kept = [given[i] for i in sorted(chosen)]
    sizes = Counter(of.get(pair.conversation, pair.conversation) for pair in kept)
    largest = max(sizes.values(), default=0) / max(len(kept), 1)
    counted = {reason: count for reason, count in sorted(dropped.items()) if count}
    return Selection(tuple(kept), SelectionReport(len(given), len(kept), len(sizes), largest, counted))


def examined_keys(texts: Iterable[str], common_words: int) -> set[str]:
    """The examined texts, folded, without those of up to ``common_words`` words, which are common property."""
    return {key for text in texts if len((key := folded(text)).split()) > common_words}


def near_key(text: str) -> str:
    """Equal for near-duplicates: punctuation, emoji, numbers and stretched letters ("heyyy") do not count."""
    words = _DIGITS.sub("0", _STRETCHED.sub(r"\1\1", _NOT_WORD.sub(" ", folded(text))))
    return " ".join(words.split()) or folded(text)


def is_tapback(text: str) -> bool:
    """Whether the text is a reaction ("Loved “see you at 8”") and not a message of its own."""
    return _TAPBACK.match(folded(text)) is not None


def begins_topic(text: str) -> bool:
    """Whether the text says of itself that it begins another topic."""
    return _SHIFT.match(folded(text)) is not None


def _fault(pair: Pair, rules: SelectionRules, examined: set[str]) -> str | None:
    """The first reason against a pair, or None."""
    sides = (pair.trigger, pair.response)
    if not NO_REPLY.isdisjoint(pair.flags):
        return "flagged by the source"
    if any(is_tapback(text) for text in sides):
        return "tapback"
    if not all(_has_word(text) for text in sides):
        return "no words"
    if any(len(text.split()) > rules.max_words for text in sides):
        return "too long"
    if rules.alphabet and any(_share_of(rules.alphabet, text) < rules.alphabet_share for text in sides):
        return "another alphabet"
    if folded(pair.trigger) == folded(pair.response):
        return "response repeats the trigger"
    if pair.response_ms - pair.trigger_ms > rules.max_delay_ms:
        return "answered too late"
    if begins_topic(pair.response):
        return "begins another topic"
    if examined and any(folded(text) in examined for text in (*pair.context, *sides)):
        return "text of the exam"
    return None


def _capped(pairs: Sequence[Pair], order: Sequence[int], same_text: int, dropped: Counter[str]) -> list[int]:
    """Of equal pairs the first stays; of like triggers and of like responses, the first ``same_text``."""
    seen: set[tuple[str, str]] = set()
    triggers: Counter[str] = Counter()
    responses: Counter[str] = Counter()
    kept = []
    for position in order:
        key = near_key(pairs[position].trigger), near_key(pairs[position].response)
        if key in seen:
            dropped["the same pair again"] += 1
        elif triggers[key[0]] >= same_text or responses[key[1]] >= same_text:
            dropped["a text too often"] += 1
        else:
            seen.add(key)
            triggers[key[0]] += 1
            responses[key[1]] += 1
            kept.append(position)
    return kept


def _balanced(positions: Sequence[int], contacts: Sequence[str], limit: int) -> list[int]:
    """Take at most ``limit``: one of each contact in turn, until there is room for no more.

    Of a contact, consecutive pairs come one after the other: their turns serve more than one pair each, so they cost a
    training run half of what as many scattered ones do.
    """
    if len(positions) <= limit:
        return list(positions)
    of_contact: defaultdict[str, list[int]] = defaultdict(list)
    for position, contact in sorted(zip(positions, contacts, strict=True)):
        of_contact[contact].append(position)
    place = {position: place for place, position in enumerate(positions)}
    ordered = []
    for mine in of_contact.values():
        stretches = [mine[start : start + STRETCH] for start in range(0, len(mine), STRETCH)]
        stretches.sort(key=lambda stretch: place[stretch[0]])
        first = place[stretches[0][0]]
        ordered += [(turn, first, one) for turn, one in enumerate(chain.from_iterable(stretches))]
    return [position for *_, position in sorted(ordered)[:limit]]


def _has_word(text: str) -> bool:
    return any(letter.isalpha() for letter in _LINK.sub(" ", text))


def _share_of(alphabet: str, text: str) -> float:
    letters = [letter for letter in _LINK.sub(" ", text) if letter.isalpha()]
    if text.isascii() and alphabet == "LATIN":
        return 1.0
    return sum(unicodedata.name(letter, "").startswith(alphabet) for letter in letters) / max(len(letters), 1)
