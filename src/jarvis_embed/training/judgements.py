"""What people said of replies, as rows of texts: right ones beside wrong ones, and ratings. None of it is examined."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from ..conversations.selection import examined_keys
from ..evaluation.data import RatedReply, read_rated
from ..evaluation.data import Replies as Record
from ..text import folded, normalise
from .corpora import COMMON_WORDS
from .texts import Rows, Texts

TURNS: Final = 3
"""Turns of a context that are read, the trigger counted."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Replies:
    """Replies in context, as rows of texts: ``turns`` (n, TURNS), the trigger first, -1 for none; responses (n,)."""

    turns: Rows
    responses: Rows

    def __len__(self) -> int:
        return len(self.responses)

    def at(self, rows: Rows) -> Replies:
        return Replies(self.turns[rows], self.responses[rows])

    @classmethod
    def of_pairs(cls, triggers: Rows, contexts: Rows, responses: Rows) -> Replies:
        """From (n,) triggers and responses and (n, turns) of what was said before, the latest first."""
        turns = np.full((len(triggers), TURNS), -1, np.int64)
        said = np.column_stack([triggers, contexts])[:, :TURNS]
        turns[:, : said.shape[1]] = said
        return cls(turns, responses)


@dataclass(frozen=True, slots=True)
class Contrasted:
    """A right reply, one that reuses words of the context and is wrong, and one by chance; (n,) each, to one context.

    Attributes:
        turns: (n, TURNS) of the context.
    """

    turns: Rows
    good: Rows
    adversarial: Rows
    random: Rows

    def __len__(self) -> int:
        return len(self.good)

    @property
    def learned(self) -> int:
        """From so many, the first, encoder and hidden layer learn."""
        return max(int(0.75 * len(self)), 1)

    @property
    def kept(self) -> Rows:
        """The others, to which those few numbers are fitted that weigh what was learned; all if there are no others."""
        return np.arange(self.learned if len(self) > self.learned else 0, len(self))

    def at(self, rows: Rows) -> tuple[Replies, Replies, Replies]:
        """The three kinds, each with the same contexts."""
        turns = self.turns[rows]
        return (
            Replies(turns, self.good[rows]),
            Replies(turns, self.adversarial[rows]),
            Replies(turns, self.random[rows]),
        )


@dataclass(frozen=True, slots=True)
class Ratings:
    """Replies that people rated.

    Attributes:
        scores: (n,) in standard deviations of their source. sources: (n,) numbers. raters: (n,) how many gave one.
    """

    replies: Replies
    scores: Floats
    sources: Rows
    raters: Floats

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def of(cls, replies: Replies, records: Sequence[RatedReply]) -> Ratings:
        """Bring every source to one scale."""
        _, sources = np.unique([one.source for one in records], return_inverse=True)
        scores = np.array([one.score for one in records], np.float32)
        for source in range(int(sources.max(initial=-1)) + 1):
            rows = sources == source
            scores[rows] = (scores[rows] - scores[rows].mean()) / max(float(scores[rows].std()), 1e-6)
        raters = np.array([one.raters or 1 for one in records], np.float32)
        return cls(replies, scores, sources.astype(np.int64), raters)


@dataclass(frozen=True, slots=True)
class Judgements:
    """What is known of good and bad replies; each is None where there is none."""

    contrasted: Contrasted | None = None
    rated: Ratings | None = None


NO_JUDGEMENTS: Final = Judgements()


def in_clean_context(records: Iterable[Record], held_out: Iterable[str]) -> list[Record]:
    """The records of which no turn that is read is examined."""
    taken = examined_keys(held_out, COMMON_WORDS)
    return [record for record in records if taken.isdisjoint(map(folded, record.context[-TURNS:]))]


def numbered_judgements(records: Iterable[Record], data: Path, held_out: Iterable[str], texts: Texts) -> Judgements:
    """Right and wrong replies of ``dailydialog_pp`` and the ratings of ``quality_train``, without what is examined.

    Args:
        records: that may be trained on and whose context is clean, see ``in_clean_context``.

    Raises:
        SourceError: a file is broken.
    """
    taken = examined_keys(held_out, COMMON_WORDS)
    triples = [
        (record.context, three)
        for record in records
        for three in zip(record.positives, record.adversarial, record.random, strict=False)
        if taken.isdisjoint(map(folded, three))
    ]
    contrasted = None
    if triples:
        good = numbered_replies(texts, [(context, three[0]) for context, three in triples])
        adversarial, random = (texts.of(three[kind] for _, three in triples) for kind in (1, 2))
        contrasted = Contrasted(good.turns, good.responses, adversarial, random)
    scored = rated_for_training(data, held_out)
    rated = numbered_replies(texts, [(one.context, one.response) for one in scored])
    return Judgements(contrasted, Ratings.of(rated, scored) if scored else None)


def rated_for_training(data: Path, held_out: Iterable[str]) -> list[RatedReply]:
    """The replies of ``quality_train`` that share no text with what is examined.

    Raises:
        SourceError: the file is broken.
    """
    taken = examined_keys(held_out, COMMON_WORDS)
    return [
        one
        for one in read_rated(data, "quality_train") or ()
        if taken.isdisjoint(map(folded, (*one.context[-TURNS:], one.response)))
    ]


def numbered_replies(texts: Texts, exchanges: Sequence[tuple[Sequence[str], str]]) -> Replies:
    """Number (context, response), of the context the turns that are read with it."""
    turns = np.full((len(exchanges), TURNS), -1, np.int64)
    responses = np.empty(len(exchanges), np.int64)
    for row, (context, response) in enumerate(exchanges):
        for back, text in enumerate(reversed(context[-TURNS:])):
            if normalise(text):
                turns[row, back] = texts.row(text)
        responses[row] = texts.row(response)
    return Replies(turns, responses)
