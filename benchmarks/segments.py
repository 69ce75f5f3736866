"""What the vector of a segment is best made of: its text, embedded as a whole, or the vectors of its turns.

    python benchmarks/segments.py [MODEL] --data DIR

For both: mean cosine of two segments of 5 turns of one thread and of two threads, with the AUC; and how often one half
of a conversation finds the other among 1,000. On the validation parts of chitchat and of ``dailydialog`` in DIR.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from jarvis_embed.conversations.segments import text_of, windows
from jarvis_embed.conversations.turns import turns_of
from jarvis_embed.evaluation import bootstrap, metrics
from jarvis_embed.evaluation.data import read_dialogues
from jarvis_embed.evaluation.histories import chitchat_history
from jarvis_embed.evaluation.material import RETRIEVED
from jarvis_embed.models.encoder import Encoder, load_encoder

SEED = 1
Turns = Sequence[str]
Named = list[tuple[str, Turns]]


def whole(encoder: Encoder, segments: Sequence[Turns]) -> np.ndarray:
    return encoder.embed([text_of(turns) for turns in segments])


def mean_of_turns(encoder: Encoder, segments: Sequence[Turns], weight: Callable[[str], float]) -> np.ndarray:
    every = [turn for turns in segments for turn in turns]
    weighted = encoder.embed(every) * np.array([weight(turn) for turn in every], np.float32)[:, None]
    sums = np.add.reduceat(weighted, np.cumsum([0, *map(len, segments)])[:-1], axis=0)
    return np.asarray(sums / np.linalg.norm(sums, axis=1, keepdims=True), np.float32)


WAYS: dict[str, Callable[[Encoder, Sequence[Turns]], np.ndarray]] = {
    "the text as a whole": whole,
    "mean of the turns": lambda encoder, segments: mean_of_turns(encoder, segments, lambda _: 1.0),
    "mean, weighted by √length": lambda encoder, segments: mean_of_turns(encoder, segments, lambda t: len(t) ** 0.5),
}


def measure(encoder: Encoder, name: str, held_out: Named, training: Named) -> None:
    cuts = [(key, [turns[w.start : w.stop] for w in windows(len(turns))]) for key, turns in held_out]
    segments = [(key, cut) for key, several in cuts if len(several) > 1 for cut in several]
    asked = [one for one in held_out if len(one[1]) >= 4][:RETRIEVED]
    others = [one for one in training if len(one[1]) >= 4]
    pool = asked + random.Random(SEED).sample(others, min(RETRIEVED - len(asked), len(others)))
    halves = [(turns[: len(turns) // 2], turns[len(turns) // 2 :]) for _, turns in pool]
    print(f"{name}: {len(segments)} segments; {len(asked)} conversations asked, among {len(pool)}")
    for way, vectors in WAYS.items():
        start = time.process_time()
        same = metrics.thread_similarity(
            vectors(encoder, [cut for _, cut in segments]), [key for key, _ in segments], seed=SEED
        )
        first, second = vectors(encoder, [one for one, _ in halves]), vectors(encoder, [two for _, two in halves])
        found = metrics.thread_retrieval(first, second, [key for key, _ in asked])
        low_high = bootstrap.interval(found, SEED)
        print(
            f"  {way:26s} same {same.same.value:.3f}, other {same.other.value:.3f}, AUC {same.auc.value:.3f}; "
            f"recall@1 {found.value:.3f} ({low_high.low:.3f}–{low_high.high:.3f}); {time.process_time() - start:.0f} s",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="minilm-l6")
    parser.add_argument("--data", type=Path, help="folder with dailydialog.jsonl.gz")
    parser.add_argument("--precision", default="int8", choices=["int8", "fp32"])
    given = parser.parse_args()
    encoder = load_encoder(given.model, precision=given.precision, cache=0)
    dialogues = (read_dialogues(given.data) if given.data else None) or ()
    if dialogues:
        parts = [
            [(one.id, one.turns) for one in dialogues if (one.split == "validation") is held] for held in (True, False)
        ]
        measure(encoder, "dailydialog", *parts)
    sides = chitchat_history()
    read = [[(c.key, [t.text for t in turns_of(c.messages)]) for c in part] for part in (sides.validation, sides.train)]
    measure(encoder, "chitchat", *read)


if __name__ == "__main__":
    main()
