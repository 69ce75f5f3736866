"""How near int8 is to fp32: cosines on unlike kinds of text, neighbours among 50,000 triggers, and STS-B.

    python benchmarks/int8.py [MODEL] [--data DIR]

DIR holds the public corpora that CONTRIBUTING.md names; without it, chitchat and odd texts are all.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np

from jarvis_embed import load_encoder
from jarvis_embed.conversations.turns import turns_of
from jarvis_embed.sources import open_source
from jarvis_embed.text import normalise

ODD = [
    "", "?", "ok", "😂😂😂", "👍🏽", "привет, как дела?", "今晚一起吃饭吗", "おはよう", "كيف حالك", "안녕", "שלום",
    "¿qué tal?",
    "CALL NOW!!! u won £1000 claim @ http://x.example/z?id=8891", "0x7fff 3.14159 10:45pm", "a" * 300, "lol " * 200,
]  # fmt: skip


def turns(split: str) -> list[str]:
    chats = open_source("chitchat", split=split).conversations()
    texts = (normalise(turn.text) for chat in chats for turn in turns_of(chat.messages))
    return [text for text in dict.fromkeys(texts) if text]


def records(path: Path) -> Iterator[dict]:  # type: ignore[type-arg]
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def kinds(data: Path | None) -> dict[str, list[str]]:
    """Kind of text → texts that neither precision has seen; nothing here is calibrated on anything."""
    draw = random.Random(1)
    found = {"chat turns": draw.sample(turns("validation"), 1000), "odd texts": ODD}
    if data is not None:
        room = [m["text"] for r in records(data / "irc_threads_dev.jsonl.gz") for m in r["messages"]]
        short = [t["text"] for r in records(data / "samsum.jsonl.gz") for t in r["turns"]]
        long = [" ".join(t["text"] for t in r["turns"]) for r in records(data / "dailydialog.jsonl.gz")]
        found["lines of a chat room"] = draw.sample(room, 300)
        found["messenger messages"] = draw.sample(short, 600)
        found["long paragraphs"] = draw.sample([text for text in long if len(text) > 600], 300)
    return found


def neighbours(index: np.ndarray, queries: np.ndarray, rows: np.ndarray) -> list[set[int]]:
    """The ten nearest of each query, itself left out."""
    flat = faiss.IndexFlatIP(index.shape[1])
    flat.add(index)
    _, found = flat.search(queries, 11)
    return [set([n for n in of_one.tolist() if n != row][:10]) for of_one, row in zip(found, rows, strict=True)]


def recall(found: list[set[int]], true: list[set[int]]) -> float:
    return float(np.mean([len(a & b) / 10 for a, b in zip(found, true, strict=True)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="minilm-l6")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--triggers", type=int, default=50_000)
    asked = parser.parse_args()
    exact, integer = (load_encoder(asked.model, precision=p, cache=0) for p in ("fp32", "int8"))
    print(exact, integer, sep="\n")
    cosines = []
    for kind, texts in kinds(asked.data).items():
        near = (exact.embed(texts) * integer.embed(texts)).sum(1)
        cosines.append(near)
        print(f"{kind:22} {len(texts):6,} texts  cosine {near.mean():.5f}  minimum {near.min():.4f}")
    near = np.concatenate(cosines)
    print(f"{'all':22} {len(near):6,} texts  cosine {near.mean():.5f}  minimum {near.min():.4f}")

    triggers = random.Random(2).sample(turns("train"), asked.triggers)
    a, b = exact.embed(triggers), integer.embed(triggers)
    rows = np.random.default_rng(3).choice(len(triggers), 2000, replace=False)
    true = neighbours(a, a[rows], rows)
    print(f"recall@10 of {len(triggers):,}: {recall(neighbours(b, b[rows], rows), true):.4f}", end=", ")
    print(f"with the query alone in int8 {recall(neighbours(a, b[rows], rows), true):.4f}")
    if asked.data is not None:
        from scipy.stats import spearmanr

        pairs = list(records(asked.data / "stsb_dev.jsonl.gz"))
        score = [pair["score"] for pair in pairs]
        for encoder in (exact, integer):
            left, right = (encoder.embed([pair[side] for pair in pairs]) for side in "ab")
            print(f"STS-B dev {encoder.precision}: Spearman {spearmanr((left * right).sum(1), score).statistic:.4f}")


if __name__ == "__main__":
    main()
