"""How near the first reply that would be suggested is to the true one, ranked by agreement alone and × quality.

    python benchmarks/suggestions.py [MODEL…] [--home HOME] [--parent minilm-l6] [--triggers 1000] [--neighbours 50]

Validation triggers of chitchat, against pairs of its training part: the mean cosine, under the frozen reference, of the
first reply to the one that was given. Candidates are the replies to the nearest triggers, and, for a model with a side
for replies, as many that fit the message best, as ``suggest`` takes them. Relative gains are over the parent ranked by
agreement, with 95 % intervals over conversations. Pairs have no quality of their own here: it is what the model says of
a reply that is measured.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from jarvis_embed.conversations.pairs import pairs_in
from jarvis_embed.evaluation import bootstrap
from jarvis_embed.evaluation.exam import REFERENCE
from jarvis_embed.evaluation.histories import chitchat_history
from jarvis_embed.messages import Pair
from jarvis_embed.models.encoder import Encoder, load_encoder
from jarvis_embed.models.engine import Vectors
from jarvis_embed.pipeline import PER_TRIGGER, rank
from jarvis_embed.spaces.build import min_similarity_of
from jarvis_embed.spaces.index import TriggerIndex, nearest_rows
from jarvis_embed.spaces.space import Neighbour

SEED = 1


def of_model(encoder: Encoder, known: Sequence[Pair], asked: Sequence[Pair], neighbours: int) -> dict[str, list[str]]:
    """The first reply to each of ``asked``, by the way of ranking."""
    answered: dict[str, list[int]] = defaultdict(list)
    for row, pair in enumerate(known):
        answered[pair.trigger].append(row)
    texts = list(answered)
    vectors_of_triggers = encoder.embed(texts)
    index = TriggerIndex.build(vectors_of_triggers)
    threshold = min_similarity_of(index, vectors_of_triggers)
    replies = encoder.embed([pair.response for pair in known])
    place = {text: row for row, text in enumerate(texts)}
    triggers = vectors_of_triggers[[place[pair.trigger] for pair in known]]
    queries = encoder.embed([pair.trigger for pair in asked])
    fitting = latest(encoder.as_responses(replies), known) if encoder.has_response_side else None
    scores, rows = index.search(queries, neighbours)
    first = defaultdict(list)
    for pair, query, near, places in zip(asked, queries, scores, rows, strict=True):
        found = [
            Neighbour(one, float(score), one, 0)
            for score, place in zip(near, places, strict=True)
            for one in answered[texts[place]][-PER_TRIGGER:]
        ]
        for way, chosen, fit, now in ways(encoder, pair, query, found, fitting, replies, triggers, neighbours):
            vectors = replies[[one.response_row for one in chosen]]
            best = rank(chosen, vectors, threshold=threshold, half_life_days=365.0, fit=fit, now=now)[0]
            first[way].append(known[best.neighbour.pair_id].response)
    return dict(first)


def latest(vectors: Vectors, known: Sequence[Pair]) -> tuple[Vectors, np.ndarray]:
    """Of equal replies the last: vectors, and which pairs they are."""
    rows = np.array(sorted({pair.response: row for row, pair in enumerate(known)}.values()))
    return vectors[rows], rows


def ways(
    encoder: Encoder,
    pair: Pair,
    query: Vectors,
    near: list[Neighbour],
    fitting: tuple[Vectors, np.ndarray] | None,
    replies: Vectors,
    triggers: Vectors,
    neighbours: int,
) -> Iterator[tuple[str, list[Neighbour], Vectors | None, Vectors | None]]:
    """Each way of ranking: its name, the candidates, how well each fits, and the quality of each."""

    def judged(chosen: list[Neighbour]) -> Vectors:
        rows = [one.response_row for one in chosen]
        return encoder.reply_quality([pair.trigger] * len(rows), [pair.context] * len(rows), replies[rows])

    yield "agreement", near, None, None
    if encoder.quality_head is not None:
        yield "agreement × head", near, None, judged(near)
    if fitting is None:
        return
    said = encoder.embed_with_context(pair.trigger, pair.context)

    def fit(chosen: list[Neighbour]) -> Vectors:
        return encoder.as_responses(replies[[one.response_row for one in chosen]]) @ said

    yield "agreement × fit", near, None, np.clip(fit(near), 0, 1)
    there = {one.pair_id for one in near}
    more = [int(fitting[1][row]) for _, row in nearest_rows(fitting[0], said, neighbours)]
    every = near + [Neighbour(row, float(triggers[row] @ query), row, 0) for row in more if row not in there]
    fits = fit(every)
    yield "with replies that fit: agreement", every, fits, None
    yield "with replies that fit: agreement × fit", every, fits, np.clip(fits, 0, 1)
    if encoder.quality_head is not None:
        yield "with replies that fit: agreement × head", every, fits, judged(every)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="besides the parent")
    parser.add_argument("--home", type=Path)
    parser.add_argument("--parent", default="minilm-l6")
    parser.add_argument("--pairs", type=int, default=60_000)
    parser.add_argument("--triggers", type=int, default=1000)
    parser.add_argument("--neighbours", type=int, default=50)
    given = parser.parse_args()
    sides, draw = chitchat_history(), np.random.default_rng(SEED)
    every, held = list(pairs_in(sides.train)), list(pairs_in(sides.validation))
    known = [every[row] for row in np.sort(draw.permutation(len(every))[: given.pairs])]
    asked = [held[row] for row in np.sort(draw.permutation(len(held))[: given.triggers])]
    reference = load_encoder(REFERENCE, home=given.home, precision="fp32", cache=0)
    wanted = reference.embed([pair.response for pair in asked])
    names, group = bootstrap.of_groups([pair.conversation for pair in asked])
    base: np.ndarray | None = None
    for name in (given.parent, *given.models):
        encoder = load_encoder(name, home=given.home, cache=0)
        for way, said in of_model(encoder, known, asked, given.neighbours).items():
            cosines = (reference.embed(said) * wanted).sum(1).astype(np.float64)
            base = cosines if base is None else base
            both = np.stack([cosines, base], 1)
            gain = bootstrap.Contributions(names, group, both, lambda sums: sums[..., 0] / sums[..., 1] - 1)
            low_high = bootstrap.interval(gain, SEED)
            apart = f"{gain.value:+.1%} ({low_high.low:+.1%} to {low_high.high:+.1%})"
            print(f"{name:20s} {way:42s} {cosines.mean():.3f}  {apart}", flush=True)


if __name__ == "__main__":
    main()
