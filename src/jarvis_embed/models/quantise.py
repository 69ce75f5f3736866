"""Int8 weights for the encoder, and the scales of what flows between them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

_SHORT: Final = (
    "ok", "k", "yes", "no", "lol", "haha", "thanks!", "hey", "hi there", "omg", "sure", "maybe?", "good night", "yep",
    "on my way", "what?", "no way!!", "brb", "call me", "where are you", "happy birthday!!", "miss you", "see you soon",
    "😂", "❤️❤️", "👍", "🎉🎉🎉", "😭 nooo", "ok 👌", "🙏 thank you", "🤔", "?", "...", "!!!", "5", "7:30", "100%",
    "привет, как дела?", "я буду дома через час", "спокойной ночи", "你好吗?", "我马上到", "今晚一起吃饭吧", "おはよう!",
    "今どこにいるの", "안녕, 잘 지내?", "곧 도착해", "كيف حالك؟", "أراك غدا", "मैं ठीक हूँ", "שבת שלום", "καλημέρα σε όλους",
    "¿qué tal estás?", "nos vemos mañana", "bis später!", "ich bin gleich da", "à demain, bisous", "c'est pas grave",
    "https://example.org/photos/2291?view=full", "wifi code: 4F-9931-XK", "CALL NOW to claim ur FREE prize!! txt STOP to end",
)  # fmt: skip

_WHO: Final = ("my sister", "the plumber", "our neighbour", "grandpa", "the whole team", "Priya", "that guy from work", "u", "the landlord", "nobody")  # fmt: skip
_DOES: Final = ("forgot to buy", "really wants", "can't find", "is asking about", "broke", "just sold", "loves", "never got", "wont stop talking about", "is bringing")  # fmt: skip
_WHAT: Final = ("the blue jacket", "two tickets for the match", "a puppy", "the wedding photos", "that noisy engine", "some oat milk", "the rent", "an old guitar", "my charger", "the chemistry exam")  # fmt: skip
_WHEN: Final = ("right now", "on Friday at 6", "after the storm", "in March 2019", "before dinner", "every single day", "since the surgery", "tmrw morning", "last summer in Lisbon", "again")  # fmt: skip
_LEAD: Final = ("", "", "honestly ", "Do you know why ", "I heard ", "sorry but ", "lol ", "Well, ", "Did you say ", "i think ")  # fmt: skip
_TAIL: Final = ("", "", "?", "!", " :)", ", what should I do?", " and I am so tired of it.", " haha", " 😅", ". Please call me back when you can.")  # fmt: skip


def calibration_texts() -> list[str]:
    """A few hundred made-up messages: chat, texting, long paragraphs, other scripts, emoji. Always the same."""
    chosen = random.Random(20181011)  # noqa: S311 - repeatable, not secret
    sentences = [_sentence(chosen) for _ in range(300)]
    return [*_SHORT, *sentences[:220], *_paragraphs(sentences[220:], chosen)]


def _sentence(chosen: random.Random) -> str:
    parts = (_LEAD, _WHO, (" ",), _DOES, (" ",), _WHAT, (" ",), _WHEN, _TAIL)
    return "".join(chosen.choice(part) for part in parts)


def _paragraphs(sentences: list[str], chosen: random.Random) -> Iterator[str]:
    while sentences:
        length = chosen.randint(3, 12)
        yield " ".join(sentences[:length])
        sentences = sentences[length:]
