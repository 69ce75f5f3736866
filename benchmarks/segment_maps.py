"""What the map of segments had better read: a segment's text, its turns, or both. On the parent's fixed vectors.

    python benchmarks/segment_maps.py --data DIR [--parent minilm-l6] [--segments 14000] [--temperatures 0.05 0.1 0.2]

For each: mean cosine of two segments of one thread and of two, with the AUC, and how often one half of a conversation
finds the other among 1,000, on the validation parts of chitchat and ``dailydialog``. Some 20 minutes on one core.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from jarvis_embed.conversations.segments import text_of
from jarvis_embed.evaluation import metrics
from jarvis_embed.evaluation.material import Turns
from jarvis_embed.models.encoder import Encoder, load_encoder
from jarvis_embed.models.store import add_model, find_model
from jarvis_embed.training.ground import gather, stand
from jarvis_embed.training.maps import learn_segments
from jarvis_embed.training.material import Material
from jarvis_embed.training.network import Network, network_of
from jarvis_embed.training.recipe import Objectives, load_recipe
from jarvis_embed.training.texts import Texts

READINGS = ("both", "the text", "the turns")
Read = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def mean_of_turns(vectors: np.ndarray, turns: np.ndarray) -> np.ndarray:
    there = (turns >= 0)[:, :, None]
    sums = (vectors[turns].astype(np.float32) * there).sum(1)
    return np.asarray(sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9), np.float16)


def as_read(reading: str, material: Material) -> tuple[Material, np.ndarray]:
    """The material with segments that say only this, and the vectors that their rows lead to."""
    segments, vectors = material.segments, material.parent
    assert segments is not None
    if reading == "the text":
        segments = replace(segments, turns=segments.texts[:, None])
    elif reading == "the turns":
        segments = replace(segments, texts=len(vectors) + np.arange(len(segments.texts)))
        vectors = np.concatenate([vectors, mean_of_turns(vectors, segments.turns)])
    return replace(material, segments=segments), vectors


def held_out(encoder: Encoder, segments: list[Turns], reading: str) -> Read:
    texts = Texts()
    rows = texts.padded(segments, max(map(len, segments)))
    whole = texts.of(map(text_of, segments))
    vectors = encoder.embed(list(texts.rows))
    if reading == "the text":
        rows = whole[:, None]
    said = mean_of_turns(vectors, rows) if reading == "the turns" else vectors[whole]
    return torch.from_numpy(said.astype(np.float32)), torch.from_numpy(vectors[rows]), torch.from_numpy(rows >= 0)


def figures(network: Network, asked: dict[str, Read], names: dict[str, tuple[str, ...]]) -> str:
    with torch.no_grad():
        found = {part: network.segment(*read).numpy() for part, read in asked.items()}
    told = []
    for source in ("chitchat", "dailydialog"):
        same = metrics.thread_similarity(found[source], names[source], seed=1)
        again = metrics.thread_retrieval(found[f"{source} 1"], found[f"{source} 2"], names[f"{source} 1"])
        told.append(
            f"{source}: {same.same.value:.3f} / {same.other.value:.3f}, AUC {same.auc.value:.3f}, "
            f"recall@1 {again.value:.3f}"
        )
    return "; ".join(told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--parent", default="minilm-l6", help="a model's name, or its folder")
    parser.add_argument("--segments", type=int, default=14_000)
    parser.add_argument("--passes", type=float, default=10.0)
    parser.add_argument("--temperatures", type=float, nargs="+", default=[0.05, 0.1, 0.2])
    given = parser.parse_args()
    recipe = load_recipe("reference").model_copy(
        update={"objectives": Objectives(relation=0.0), "pairs": 400, "segments": given.segments}
    )
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        if Path(given.parent).is_dir():
            add_model("parent", Path(given.parent), home)
            given.parent = "parent"
        ground = stand(recipe, given.data, home)
        material, _ = gather(ground, recipe, given.parent, given.data, home)
        encoder = load_encoder(given.parent, home=home, precision="int8", cache=0)
        begun = find_model(given.parent, home)
        examined = ground.examined
        assert examined.daily is not None
        assert examined.daily_halves is not None
        parts = {"chitchat": examined.threads.segments, "dailydialog": examined.daily.segments}
        names = {"chitchat": examined.threads.names, "dailydialog": examined.daily.names}
        for source, halves in (("chitchat", examined.halves), ("dailydialog", examined.daily_halves)):
            parts |= {f"{source} 1": halves.first, f"{source} 2": halves.second}
            names[f"{source} 1"] = halves.names
        for reading in READINGS:
            asked = {part: held_out(encoder, list(segments), reading) for part, segments in parts.items()}
            read, vectors = as_read(reading, material)
            fresh = network_of(begun, recipe, encoder.dim).eval()
            print(f"{reading:10s} before: {figures(fresh, asked, names)}", flush=True)
            for temperature in given.temperatures:
                network = network_of(begun, recipe, encoder.dim)
                learning = recipe.model_copy(update={"thread_temperature": temperature})
                learn_segments(network, read, vectors, learning, given.passes, lambda *_: None, "")
                print(f"{reading:10s} {temperature:6.2f}: {figures(network, asked, names)}", flush=True)


if __name__ == "__main__":
    main()
