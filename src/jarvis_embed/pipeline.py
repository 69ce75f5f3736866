"""One message in, ranked replies out: embed → search → classify → rank → fetch, each stage timed.

The replies are the history's own: those to messages like this one, and, with a model that was trained on pairs, those
that would answer it, whatever they were said to. What ranks them is match times quality. Match: how near their trigger
is to the message and how well they fit it, how much the other neighbours' replies agree with them, and how recent they
are. Quality: how good the reply was then, and how good it would be now.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Final

import numpy as np
import numpy.typing as npt

from .config import Precision, SuggestSettings, load_settings
from .conversations.running import turns_before
from .errors import InputError
from .home import home_folder
from .labels.scheme import Label
from .messages import Pair, Turn
from .models.engine import Vectors
from .spaces.space import Neighbour, Space
from .text import normalise

SAME_REPLY: Final = 0.9
"""Replies with at least this cosine are one reply, and the best of them stands for all."""

THEN: Final = 0.25
"""How much what a history shows of a reply counts, beside what the model says of it now (docs/quality.md)."""

_TEMPERATURE: Final = 0.2
PER_TRIGGER: Final = 10
"""Pairs of one trigger that are looked at, the newest."""

_MS_PER_DAY: Final = 86_400_000
_LOOKED_BACK: Final = 200
"""Turns of a conversation in which the running thread is looked for; they also tell its usual pace."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply that was given before.

    Attributes:
        pair: where it comes from; ``pair.trigger`` is what it answered then.
        score: what it was ranked by, 0 to 1: match times quality (see ``rank``).
        match: how well it goes with the message and with what else was replied, 0 to 1.
        quality: how good it is as a reply, 0 to 1; None where neither history nor model can tell.
        similarity: cosine of the message and the old trigger.
        agreement: how much the neighbours' replies resemble this one, 0 to 1.
        support: how many neighbours gave this reply, near-duplicates counted.
    """

    text: str
    pair: Pair
    score: float
    similarity: float
    agreement: float
    support: int
    match: float
    quality: float | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a stage took, in milliseconds."""

    stage: str
    ms: float


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What the history has to say to a message.

    Attributes:
        replies: best first; empty where nothing in the history is near enough.
        trigger_label: what kind of message it is; None where the space has no classifiers.
        timings: one for each stage, in order.
        nearest: cosine of the nearest trigger of the history.
        threshold: the cosine below which nothing is suggested.
        notes: what the user should know, such as that the text was cut.
        context: the turns before the message that were given, or found in its thread, oldest first.
    """

    replies: tuple[Reply, ...]
    trigger_label: Label | None
    timings: tuple[Timing, ...]
    nearest: float
    threshold: float
    notes: tuple[str, ...] = ()
    context: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Draft:
    """What is known so far of one message; each stage returns it with more filled in.

    Attributes:
        known: quality of the neighbours' replies in the history; NaN where there is none.
        poor: how many near neighbours were left out for it.
        vector: of the message, in the shared space. asked: where a trained model looks for the reply, with the turns
            before in it; None for a model without a side for replies.
    """

    text: str
    context: tuple[str, ...]
    k: int
    threshold: float
    vector: Vectors | None = None
    asked: Vectors | None = None
    neighbours: tuple[Neighbour, ...] = ()
    known: Vectors | None = None
    poor: int = 0
    nearest: float = -1.0
    ranked: tuple[_Ranked, ...] = ()
    replies: tuple[Reply, ...] = ()
    trigger_label: Label | None = None


@dataclass(frozen=True, slots=True)
class _Ranked:
    """A group of like replies, by its best member."""

    neighbour: Neighbour
    score: float
    agreement: float
    support: int
    match: float
    quality: float | None


Doubles = npt.NDArray[np.float64]
Stage = Callable[[Space, SuggestSettings, _Draft], _Draft]


def _embed(space: Space, _settings: SuggestSettings, draft: _Draft) -> _Draft:
    encoder = space.encoder
    asked = encoder.embed_with_context(draft.text, draft.context) if encoder.has_response_side else None
    return replace(draft, vector=encoder.embed([draft.text])[0], asked=asked)


def _search(space: Space, settings: SuggestSettings, draft: _Draft) -> _Draft:
    assert draft.vector is not None  # noqa: S101  the stage before has put it there
    found = space.neighbours(draft.vector, triggers=settings.neighbours, per_trigger=PER_TRIGGER)
    near = [n for n in found if n.score >= draft.threshold]
    if near and draft.asked is not None:  # the history knows such messages: then also replies that fit, to any other
        there = {n.pair_id for n in near}
        fitting = space.answering(draft.asked, draft.vector, settings.neighbours)
        near += [n for n in fitting if n.pair_id not in there]
    known = space.pair_quality([n.pair_id for n in near])
    good = [row for row, quality in enumerate(known.tolist()) if not quality < settings.min_quality]  # NaN is not worse
    return replace(
        draft,
        nearest=max((n.score for n in found), default=-1.0),
        neighbours=tuple(near[row] for row in good),
        known=known[good],
        poor=len(near) - len(good),
    )


def _classify(space: Space, _settings: SuggestSettings, draft: _Draft) -> _Draft:
    if space.heads is None or draft.vector is None:
        return draft
    (label,) = space.heads.label_triggers(space.encoder.read([draft.text]), [draft.text])
    return replace(draft, trigger_label=label)


def _rank(space: Space, settings: SuggestSettings, draft: _Draft) -> _Draft:
    if not draft.neighbours:
        return draft
    vectors = space.vectors([n.response_row for n in draft.neighbours])
    answered = fit = None
    if draft.asked is not None:
        answered = space.encoder.as_responses(vectors)
        fit = answered @ draft.asked
    ranked = rank(
        draft.neighbours,
        vectors,
        threshold=draft.threshold,
        half_life_days=settings.half_life_days,
        fit=fit,
        now=_quality_now(space, draft, vectors, answered, fit),
        then=draft.known,
    )
    return replace(draft, ranked=tuple(ranked))


def _quality_now(
    space: Space, draft: _Draft, vectors: Vectors, answered: Vectors | None, fit: Vectors | None
) -> Vectors | None:
    """How good each neighbour's reply would be to this message, 0 to 1; None where the model cannot tell."""
    head = space.encoder.quality_head
    if head is None:
        return None if fit is None else np.clip(fit, 0, 1)
    turns = space.encoder.embed_turns([draft.text], [draft.context], head.turns - 1)
    return head.scores(turns, vectors, space.encoder.projections, answered=answered)


def _fetch(space: Space, _settings: SuggestSettings, draft: _Draft) -> _Draft:
    """Read the texts of as many of the best as are asked for; a pair that is gone since the build is passed over."""
    replies: list[Reply] = []
    for start in range(0, len(draft.ranked), draft.k):
        block = draft.ranked[start : start + draft.k]
        pairs = {pair.id: pair for pair in space.library.pairs([r.neighbour.pair_id for r in block])}
        replies += [_reply(r, pairs[r.neighbour.pair_id]) for r in block if r.neighbour.pair_id in pairs]
        if len(replies) >= draft.k:
            break
    return replace(draft, replies=tuple(replies[: draft.k]))


STAGES: Final[tuple[tuple[str, Stage], ...]] = (
    ("embed", _embed),
    ("search", _search),
    ("classify", _classify),
    ("rank", _rank),
    ("fetch", _fetch),
)
"""The pipeline. A stage takes what is known of a message and returns it with more; its time is measured for it."""


def suggest(
    text: str,
    context: Sequence[str] | Sequence[Turn] = (),
    *,
    contact: str | None = None,
    sent_ms: int | None = None,
    k: int = 3,
    space: Space | None = None,
    home: str | PathLike[str] | None = None,
    model: str | None = None,
    precision: Precision | None = None,
) -> Suggestion:
    """Find how messages like ``text`` were answered before.

    Args:
        text: the message to answer.
        context: the turns before it, oldest first; used by a model that was trained to read them. Texts are taken as
            they are given. Of turns with times, those are taken that are in the thread of the message.
        contact: take the context from the library: the running thread of the conversation with this contact.
        sent_ms: when the message was sent, in milliseconds since 1970-01-01 UTC; now if None. By it and the times of
            the turns before it is known whether a thread goes on.
        k: how many replies at most.
        space: an open space; a process that answers many messages opens it once. Else ``home`` and ``model``
            say which is opened, as in ``Space.open``.

    Raises:
        InputError: the text is empty, ``k`` is below 1, or there is no conversation with the contact.
        SpaceMissing, FingerprintMismatch, WeightsMissing: there is nothing to ask; says what to do.
    """
    if not normalise(text):
        raise InputError("the text is empty", "Give the message to answer")
    if k < 1:
        raise InputError(f"cannot suggest {k} replies", "Ask for 1 or more")
    if space is None:
        with Space.open(model, home=home, precision=precision) as opened:
            return suggest(text, context, contact=contact, sent_ms=sent_ms, k=k, space=opened, home=home)
    settings = load_settings(home_folder(home)).suggest
    threshold = space.manifest.min_similarity if settings.min_similarity is None else settings.min_similarity
    timings = []
    start = time.perf_counter_ns()
    before = _before(space, text, context, contact, sent_ms)
    if contact is not None:
        timings.append(Timing("thread", (time.perf_counter_ns() - start) / 1e6))
    draft = _Draft(text, before, k, threshold)
    for name, stage in STAGES:
        start = time.perf_counter_ns()
        draft = stage(space, settings, draft)
        timings.append(Timing(name, (time.perf_counter_ns() - start) / 1e6))
    notes = _notes(space, text)
    if contact is not None and not space.encoder.reads_context:
        notes.append(f"{space.encoder.name} was not trained to read what was said before, and did not")
    if draft.poor and not draft.replies:
        notes.append(f"what is near enough was answered poorly ({draft.poor} replies below {settings.min_quality:.2f})")
    return Suggestion(
        draft.replies, draft.trigger_label, tuple(timings), draft.nearest, threshold, tuple(notes), before
    )


def _before(
    space: Space, text: str, context: Sequence[str] | Sequence[Turn], contact: str | None, sent_ms: int | None
) -> tuple[str, ...]:
    """The turns before a message, as texts: as they are given, or cut where its thread begins."""
    turns, is_group = [turn for turn in context if isinstance(turn, Turn)], None
    if contact is not None:
        if context:
            raise InputError("the context is given, and a contact to take it from too", "Give one of the two")
        talk = space.library.latest_with(contact)
        if talk is None:
            raise InputError(f"there is no conversation with {contact}", "Give the name or number as the source has it")
        turns = [turn for _, turn in space.library.placed_turns(talk, _LOOKED_BACK)]
        is_group = talk.is_group
    elif not turns:
        return tuple(said for said in context if isinstance(said, str))
    return turns_before(turns, text, time.time_ns() // 1_000_000 if sent_ms is None else sent_ms, is_group)


def rank(
    neighbours: Sequence[Neighbour],
    vectors: Vectors,
    *,
    threshold: float,
    half_life_days: float,
    fit: Vectors | None = None,
    now: Vectors | None = None,
    then: Vectors | None = None,
) -> list[_Ranked]:
    """Order the replies of ``neighbours``, like ones merged.

    A reply scores ``match × quality``, and its match is ``agreement × recency``. Agreement is the mean cosine of its
    vector with the replies of all neighbours, its own among them, each weighted by the nearness of its trigger, or,
    where the model knows how well replies fit, by the mean of that and of the nearness: so the nearest neighbour begins
    ahead, and a reply that others gave too overtakes it. (On 1,500 held-out chitchat triggers the first reply's cosine
    to the true one rose from 0.171 ± 0.004 for the nearest neighbour's to 0.245 ± 0.005.)
    Recency is 1 for the newest neighbour and falls to 0.9 with age, halfway each ``half_life_days``: an old answer is
    still an answer.

    Args:
        vectors: (n, dim) float32, of the response of each neighbour.
        fit: (n,) cosine of asked and answered, of a model that has a side for replies.
        now: (n,) how good the reply would be to this message, 0 to 1: what the quality head says, or, where a model
            has a side for replies and no head, their cosine (docs/quality.md: the first reply's cosine to the true one
            rises by 5 %).
        then: (n,) how good the reply was by what the history shows, 0 to 1; NaN where it does not. It counts little
            beside ``now``, and alone it decides between replies that agree as much.
        threshold: the space's; nearness is measured in its scale, for cosines of one model mean nothing in another.
    """
    similarity = np.array([n.score for n in neighbours], np.float64)
    if fit is not None:
        similarity = (similarity + fit) / 2
    nearness = np.exp((similarity - similarity.max()) / (_TEMPERATURE * max(1 - threshold, 0.01)))
    likeness = np.clip(vectors @ vectors.T, 0, 1).astype(np.float64)
    agreement = likeness @ nearness / nearness.sum()
    quality, weight = _quality(len(neighbours), now, then)
    times = np.array([n.response_ms for n in neighbours], np.float64)
    recency = 0.9 + 0.1 * 0.5 ** ((times.max() - times) / (_MS_PER_DAY * half_life_days))
    return _merged(neighbours, agreement * recency, quality, weight, agreement, likeness)


def _quality(number: int, now: Vectors | None, then: Vectors | None) -> tuple[Doubles, Doubles]:
    """Quality of each reply, NaN where nothing is known, and what of it counts in the score: both (n,)."""
    history = np.full(number, np.nan) if then is None else np.asarray(then, np.float64)
    if now is None:
        return history, np.where(np.isnan(history), 1.0, np.maximum(history, 1e-6) ** THEN)
    chance = np.clip(np.asarray(now, np.float64), 1e-6, 1)
    both = chance ** (1 - THEN) * np.maximum(history, 1e-6) ** THEN
    quality = np.where(np.isnan(history), chance, both)
    return quality, quality


def _merged(
    neighbours: Sequence[Neighbour],
    match: Doubles,
    quality: Doubles,
    weight: Doubles,
    agreement: Doubles,
    likeness: Doubles,
) -> list[_Ranked]:
    """Take replies best first, and with each all that say the same."""
    scores = match * weight
    free = np.ones(len(neighbours), bool)
    groups = []
    for best in np.argsort(-scores, kind="stable"):
        if free[best]:
            group = free & (likeness[best] >= SAME_REPLY)
            group[best] = True
            free &= ~group
            known = None if np.isnan(quality[best]) else float(quality[best])
            figures = (float(scores[best]), float(agreement[best]), int(group.sum()), float(match[best]), known)
            groups.append(_Ranked(neighbours[best], *figures))
    return groups


def _reply(ranked: _Ranked, pair: Pair) -> Reply:
    figures = (ranked.score, ranked.neighbour.score, ranked.agreement, ranked.support, ranked.match, ranked.quality)
    return Reply(pair.response, pair, *figures)


def _notes(space: Space, text: str) -> list[str]:
    notes = []
    if space.encoder.is_cut(text):
        notes.append(f"the text is longer than {space.encoder.max_length} tokens; only its beginning was read")
    if space.is_stale:
        again = f"jarvis-embed build {space.encoder.name}"
        notes.append(f"messages have changed since the space was built; bring it up to date: {again}")
    return notes
