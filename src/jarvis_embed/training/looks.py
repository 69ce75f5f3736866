"""What is looked at while a model learns: some of the exam, on held-out texts, by which the best weights are chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Final

import numpy as np
import torch

from ..conversations.segments import text_of
from ..evaluation import metrics
from ..evaluation.competitors import EncoderCompetitor
from ..evaluation.data import Replies
from ..evaluation.material import Material as Examined
from ..evaluation.material import Threads
from ..evaluation.questions import mean_rows
from ..messages import Pair
from ..models.encoder import Encoder
from ..models.engine import Vectors
from .material import numbered_pairs
from .network import Network
from .runner import Watch
from .texts import Texts, Tokens

PAIRS: Final = 2000
SEGMENTS: Final = 400
_BLOCK: Final = 1024


def watch_of(
    examined: Examined,
    tokens: Callable[[str], Tokens],
    reference: Encoder,
    *,
    threads: bool = False,
) -> Watch:
    """Some of the exam: 1-of-100 on held-out pairs, alone and with context; where there are held-out triggers with
    several known responses, the correlation of their nearness with that of the responses; and, for ``threads``,
    how well segments of one thread are told from others (AUC).

    The texts are read at the first look: a run that never looks does without."""

    @cache
    def looks() -> tuple[Watch, ...]:
        return tuple(_looks(examined, tokens, reference, threads=threads))

    return lambda network: {name: value for look in looks() for name, value in look(network).items()}


def _looks(
    examined: Examined, tokens: Callable[[str], Tokens], reference: Encoder, *, threads: bool
) -> Iterator[Watch]:
    pairs, records = examined.pairs[:PAIRS], examined.replies or ()
    if len(pairs) >= metrics.CANDIDATES:
        yield _accuracy(pairs, tokens)
    if len(records) >= metrics.CANDIDATES:
        yield _correlation(records, tokens, reference)
    if threads:
        for name, held_out in (("threads", examined.threads), ("threads of dailydialog", examined.daily)):
            if held_out is not None and len(set(held_out.names[:SEGMENTS])) > 1:
                yield _threads(name, held_out, tokens)


def _accuracy(pairs: Sequence[Pair], tokens: Callable[[str], Tokens]) -> Watch:
    names = [pair.conversation for pair in pairs]
    texts = Texts()
    numbered = numbered_pairs("watched", pairs, texts, 3, 1.0)
    of_text = [tokens(text) for text in texts.rows]

    def look(network: Network) -> dict[str, float]:
        vectors = _embedded(network, of_text)
        rows = torch.from_numpy(numbered.triggers).to(vectors.device)
        contexts = torch.from_numpy(np.ascontiguousarray(numbered.contexts[:, : network.context_turns]))
        asked = network.in_context(vectors, rows, contexts.to(vectors.device)).cpu().numpy()
        alone = vectors[rows].cpu().numpy()
        answers = network.response(vectors[torch.from_numpy(numbered.responses).to(vectors.device)]).cpu().numpy()
        return {
            "single turn": metrics.response_accuracy(alone, answers, names, seed=0).value,
            "with context": metrics.response_accuracy(asked, answers, names, seed=0).value,
        }

    return look


def _correlation(records: Sequence[Replies], tokens: Callable[[str], Tokens], reference: Encoder) -> Watch:
    wanted = mean_rows(EncoderCompetitor(reference), [record.positives for record in records])
    of_text = [tokens(record.context[-1]) for record in records]
    names = [record.id for record in records]
    drawn = metrics.draw_trigger_pairs(wanted, seed=0)

    def look(network: Network) -> dict[str, float]:
        vectors: Vectors = _embedded(network, of_text).cpu().numpy()
        return {"correlation": metrics.trigger_correlation(vectors, wanted, names, drawn).value}

    return look


def _threads(name: str, threads: Threads, tokens: Callable[[str], Tokens]) -> Watch:
    texts = Texts()
    segments = threads.segments[:SEGMENTS]
    rows = torch.from_numpy(texts.padded(segments, max(map(len, segments))))
    whole = torch.from_numpy(texts.of(map(text_of, segments)))
    of_text = [tokens(text) for text in texts.rows]
    names = threads.names[:SEGMENTS]

    def look(network: Network) -> dict[str, float]:
        vectors = _embedded(network, of_text)
        turns, there = vectors[rows.to(vectors.device)], (rows >= 0).to(vectors.device)
        found = network.segment(vectors[whole.to(vectors.device)], turns, there).cpu().numpy()
        return {name: metrics.thread_similarity(found, names, seed=0).auc.value}

    return look


def _embedded(network: Network, of_text: Sequence[Tokens]) -> torch.Tensor:
    blocks = [of_text[start : start + _BLOCK] for start in range(0, len(of_text), _BLOCK)]
    return torch.cat([network(block) for block in blocks])
