"""Structural patterns: messages whose kind is plain from their form alone.

They stand before the classifier heads (``spaces/heads.py``). A pattern earns its place when heads are trained: where
fewer than 95 % of the labelled turns that it matches have its label, it is left out of these heads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ..labels.scheme import Task
from ..text import folded


@dataclass(frozen=True, slots=True)
class Pattern:
    """``name`` is stable: trained heads refer to it. ``form`` matches the whole folded text."""

    name: str
    label: str
    form: re.Pattern[str]


def _whole(expression: str) -> re.Pattern[str]:
    return re.compile(rf"(?:{expression})[\s.!~,)(:;]*", re.DOTALL)


_LAUGH: Final = r"(?:(?:a?ha(?:ha)+h?|hah|haha\w*|l+o+l+|lmf?ao+|rofl|hehe+|😂|🤣)[\s,.!]*)+"
_BYE: Final = (
    r"(?:ok(?:ay)?,? |well,? |alright,? )?(?:(?:good ?)?bye+(?: bye)?|see (?:ya|you)(?: later| soon| around)?"
    r"|ttyl|(?:talk|chat) to (?:you|ya) later|good ?night|have a (?:good|great|nice) (?:day|one|night|evening|weekend))"
)
_HELLO: Final = r"(?:hi+|hey+|hello+|hiya|howdy|good (?:morning|evening|afternoon))(?: there| again| friend)?"
_THANKS: Final = r"(?:oh |ok |okay )?(?:thanks|thank you|thx|ty)(?: so much| a lot| very much)?"
_ASKS: Final = (
    r"(?:(?:so|and|but|oh|ok|okay|cool|nice|haha|wow|well|hey|hi|hello)[,!. ]+)*"
    r"(?:what(?:'s|s)?|where|when|who|why|which|how(?! about we)|do you|did you|are you|were you|have you|is it|is that"
    r"|does (?:it|he|she)|hbu|wbu)\b[^?]*\?+"
)

_SEEN: Final = r"ok(?:ay)?|k+|got it|gotcha|i see|oh ok(?:ay)?|alright|sure|true|yep|yeah"
_ALSO_SEEN: Final = r"(?:ah+|oh+|ok(?:ay)?)?,? ?(?:i see|gotcha|got it)|(?:ah+|oh+) (?:ok(?:ay)?|alright|nice|cool)"
_HOW_ARE_YOU: Final = (
    r"(?:how (?:are|r) (?:you|u)|what'?s up|how'?s it going|sup\b)(?: (?:today|doing|going|man|dude|my friend))?[?!. ]*"
)
_AND_YOU: Final = r"(?:(?:and |how about |what about )(?:you|u|urs|yours?|yourself)|hbu|wbu)[?!. ]*"
_SORRY: Final = r"(?:oh |aww? |oh no,? )*(?:i'?m )?(?:so |really )?sorry to hear (?:that|about that)"
_SAD: Final = (
    r"(?:(?:oh(?: no+)?|aww?|dang|man|ugh)[,.! ]+)*that(?:'?s)? (?:really |so )?"
    r"(?:sucks|too bad|rough|sad|awful|terrible)"
)
_UNSURE: Final = (
    r"(?:hm+,? |honestly,? |oh,? )?(?:i'?m not (?:really |too )?sure|idk|i don'?t know|maybe|possibly|perhaps"
    r"|(?:it )?depends)(?: yet| tbh| honestly)?"
)
_SAME: Final = (
    r"(?:(?:yeah|yes|haha|oh)[,. ]+)?"
    r"(?:me too|same(?: here)?|i agree|agreed|exactly|for sure|definitely|absolutely|of course)"
)
_TAPBACK: Final = r"(?:loved|liked|emphasi[sz]ed|laughed at|disliked) [“\"].*[”\"]"

PATTERNS: Final[Mapping[Task, tuple[Pattern, ...]]] = {
    "trigger": (
        Pattern("tapback", "SOCIAL", re.compile(_TAPBACK, re.DOTALL)),
        Pattern("greeting", "SOCIAL", _whole(_HELLO)),
        Pattern("goodbye", "SOCIAL", _whole(_BYE)),
        Pattern("thanks", "SOCIAL", _whole(_THANKS)),
        Pattern("acknowledgement", "SOCIAL", _whole(_SEEN)),
        Pattern("laughter", "REACTION", _whole(_LAUGH)),
        Pattern("how are you", "QUESTION", re.compile(rf"(?:{_HELLO}[,.! ]+)?{_HOW_ARE_YOU}")),
        Pattern("question", "QUESTION", re.compile(_ASKS)),
        Pattern("and you", "QUESTION", re.compile(_AND_YOU)),
    ),
    "response": (
        Pattern("greeting", "GREETING", _whole(_HELLO)),
        Pattern("goodbye", "GREETING", _whole(_BYE)),
        Pattern("laughter", "REACT_POSITIVE", _whole(_LAUGH)),
        Pattern("sorry for you", "REACT_SYMPATHY", _whole(_SORRY)),
        Pattern("that is sad", "REACT_SYMPATHY", _whole(_SAD)),
        Pattern("oh no", "REACT_SYMPATHY", _whole(r"oh no+")),
        Pattern("do not know", "DEFER", _whole(_UNSURE)),
        Pattern("acknowledgement", "ACKNOWLEDGE", _whole(_ALSO_SEEN)),
        Pattern("me too", "AGREE", _whole(_SAME)),
        Pattern("question", "QUESTION", re.compile(_ASKS)),
    ),
}
"""For each task, in the order in which they are tried."""


def matched(task: Task, text: str) -> Pattern | None:
    """The first pattern of ``task`` that the text is a case of."""
    plain = folded(text)
    return next((pattern for pattern in PATTERNS[task] if pattern.form.fullmatch(plain)), None)
