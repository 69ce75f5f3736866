"""How often a few words find the exchange that they are from: as a segment, and by their text alone.

    python benchmarks/thread_search.py [MODEL…] [--home HOME]

One to three turns are taken out of a segment of chitchat's validation part, and looked for among the segments of its
training and validation parts as a space has them, the one without them in place of its own; other segments of its
conversation do not count. The single turn is the longest. Recall@10 with 95 % intervals over conversations.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from jarvis_embed.conversations.segments import segments_of, text_of
from jarvis_embed.conversations.threads import exchanges_in
from jarvis_embed.evaluation import bootstrap, metrics
from jarvis_embed.evaluation.competitors import EncoderCompetitor
from jarvis_embed.evaluation.histories import chitchat_history
from jarvis_embed.messages import Conversation
from jarvis_embed.models.encoder import Encoder, load_encoder

SEED = 1
FOUND = 10
LEAST_TURNS, LEAST_WORDS = 5, 6
Turns = tuple[str, ...]


def cut(conversations: Iterable[Conversation]) -> list[tuple[str, Turns]]:
    """The segments of conversations, each with the key of its own, as a build cuts them."""
    return [
        (thread.conversation, tuple(segment.texts))
        for thread in exchanges_in(conversations)
        for segment in segments_of(thread, rest=True)
    ]


def taken(turns: Turns, number: int) -> tuple[Turns, Turns]:
    """So many turns of a segment, and what is left of it."""
    first = max(range(len(turns)), key=lambda place: len(turns[place].split())) if number == 1 else 1
    return turns[first : first + number], turns[:first] + turns[first + number :]


def measure(encoder: Encoder, held_out: list[tuple[str, Turns]], others: list[tuple[str, Turns]]) -> None:
    every = [*held_out, *others]
    asked = [
        (key, turns) for key, turns in held_out
        if len(turns) >= LEAST_TURNS and max(len(turn.split()) for turn in turns) >= LEAST_WORDS
    ]  # fmt: skip
    parts = {number: [taken(turns, number) for _, turns in asked] for number in (1, 2, 3)}
    who = EncoderCompetitor(encoder)
    segments = who.segments([turns for _, turns in every])
    keys, names = np.array([key for key, _ in every]), [key for key, _ in asked]
    print(f"{encoder.name}: {len(asked)} asked, among {len(every)}")
    for number, of_segments in parts.items():
        own = who.segments([rest for _, rest in of_segments])
        said = [query for query, _ in of_segments]
        for way, queries in (("a segment", who.segments(said)), ("their text", who.messages(list(map(text_of, said))))):
            cosines = queries @ segments.T
            cosines[np.array(names)[:, None] == keys] = -1
            found = (cosines > (queries * own).sum(1)[:, None]).sum(1) < FOUND
            recall = metrics.mean_of(found, names)
            interval = bootstrap.interval(recall, SEED)
            print(f"  {number} as {way:11s} {recall.value:.3f} ({interval.low:.3f}–{interval.high:.3f})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=["minilm-l6"])
    parser.add_argument("--home", type=Path)
    given = parser.parse_args()
    sides = chitchat_history()
    held_out, others = cut(sides.validation), cut(sides.train)
    for name in given.models:
        measure(load_encoder(name, home=given.home, precision="int8", cache=0), held_out, others)


if __name__ == "__main__":
    main()
