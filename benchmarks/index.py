"""Compare index kinds over the triggers of a built space: recall@10 against exact search, time, size, build time.

    python benchmarks/index.py [--home HOME] [--model MODEL]

Queries are triggers of the validation part of chitchat, which no training space holds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np

import jarvis_embed as je
from jarvis_embed.conversations.pairs import pairs_of
from jarvis_embed.conversations.turns import turns_of
from jarvis_embed.spaces.index import TriggerIndex

K = 10


def queries(encoder: je.Encoder, number: int) -> np.ndarray:
    """Vectors of ``number`` held-out triggers, drawn with a fixed seed."""
    triggers = sorted(
        {
            pair.trigger
            for conversation in je.sources.open("chitchat", split="validation").conversations()
            for pair in pairs_of(conversation.key, list(turns_of(conversation.messages)))
        }
    )
    chosen = np.random.default_rng(0).choice(len(triggers), number, replace=False)
    return encoder.embed([triggers[i] for i in chosen])


def rescored(index: Any, vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    _, candidates = index.search(query, 4 * K)
    rows = candidates[0][candidates[0] >= 0]
    return rows[np.argsort(-(vectors[rows] @ query[0]))[:K]]


def report(
    name: str, search: Callable[[np.ndarray], np.ndarray], asked: np.ndarray, truth: np.ndarray, note: str
) -> None:
    times, hits = [], 0
    for query, true in zip(asked, truth, strict=True):
        start = time.perf_counter()
        found = search(query[None])
        times.append((time.perf_counter() - start) * 1e3)
        hits += len(set(found.tolist()) & set(true.tolist()))
    p50, p99 = np.percentile(times, [50, 99])
    print(f"| {name} | {hits / truth.size:.4f} | {p50:.2f} | {p99:.2f} | {note} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home")
    parser.add_argument("--model")
    arguments = parser.parse_args()
    with je.Space.open(arguments.model, home=arguments.home) as space:
        vectors = np.ascontiguousarray(space.vectors(range(space.manifest.triggers)))
        asked = queries(space.encoder, 500)
    rows, dim = vectors.shape
    exact = faiss.IndexFlatIP(dim)
    exact.add(vectors)
    truth = exact.search(asked, K)[1]
    print(f"{rows:,} triggers, {len(asked)} queries, {faiss.omp_get_max_threads()} threads\n")
    print("| index | recall@10 | p50 ms | p99 ms | build s, bytes a vector |\n|---|---|---|---|---|")
    report("exact", lambda q: exact.search(q, K)[1][0], asked, truth, f"0, {4 * dim}")
    start = time.perf_counter()
    ours = TriggerIndex.build(vectors)
    note = f"{time.perf_counter() - start:.1f}, {len(ours.serialised()) / rows:.0f}"
    report(f"ours ({ours.kind})", lambda q: ours.search(q, K)[1][0], asked, truth, note)
    for factor in (2, 4):
        start = time.perf_counter()
        lists = int(factor * np.sqrt(rows))
        coarse = faiss.IndexFlatIP(dim)
        ivf = faiss.IndexIVFScalarQuantizer(
            coarse, dim, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        )
        ivf.train(vectors[:65_536])
        ivf.add(vectors)
        note = f"{time.perf_counter() - start:.1f}, {len(faiss.serialize_index(ivf)) / rows:.0f}"
        for share in (0.05, 0.1, 0.2, 0.3):
            ivf.nprobe = round(share * lists)
            name = f"IVF {lists} lists, 8 bits, {share:.0%} probed, rescored"
            report(name, lambda q: rescored(ivf, vectors, q), asked, truth, note)  # noqa: B023  called at once
    for links in (16, 32):
        start = time.perf_counter()
        graph = faiss.IndexHNSWSQ(dim, faiss.ScalarQuantizer.QT_8bit, links, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = 100
        graph.train(vectors[:20_000])
        graph.add(vectors)
        note = f"{time.perf_counter() - start:.1f}, {len(faiss.serialize_index(graph)) / rows:.0f}"
        for breadth in (64, 128, 256):
            graph.hnsw.efSearch = breadth
            name = f"HNSW {links} links, 8 bits, breadth {breadth}, rescored"
            report(name, lambda q: rescored(graph, vectors, q), asked, truth, note)  # noqa: B023


if __name__ == "__main__":
    main()
