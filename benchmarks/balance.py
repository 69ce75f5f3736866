"""How hard each objective of a recipe pulls at the encoder: the norm of its weighted gradient, over some batches.

    python benchmarks/balance.py --data DIR [--recipe reference] [--parent minilm-l6] [--batches 6]

The weights of a recipe are swept constants (docs/training-log.md); this is what they come to at the parent, before any
step. A part of the pairs is enough to see it.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from jarvis_embed.models.store import add_model, find_model
from jarvis_embed.training.batches import batches
from jarvis_embed.training.ground import gather, stand
from jarvis_embed.training.maps import expect_answers, learn_projections, learn_segments
from jarvis_embed.training.network import network_of
from jarvis_embed.training.recipe import load_recipe
from jarvis_embed.training.runner import losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--recipe", default="reference")
    parser.add_argument("--parent", default="minilm-l6", help="a model's name, or its folder")
    parser.add_argument("--pairs", type=int, default=4000)
    parser.add_argument("--batches", type=int, default=6)
    given = parser.parse_args()
    recipe = load_recipe(given.recipe).model_copy(
        update={"pairs": given.pairs, "segments": given.pairs // 2, "projection_passes": 10.0}
    )
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        if Path(given.parent).is_dir():
            add_model("parent", Path(given.parent), home)
            given.parent = "parent"
        material, _ = gather(stand(recipe, given.data, home), recipe, given.parent, given.data, home)
        network = network_of(find_model(given.parent, home), recipe, material.reference.shape[1])
    show = lambda *_: None  # noqa: E731
    learn_projections(network, material, material.parent, recipe, recipe.projection_passes, show, "")
    learn_segments(network, material, material.parent, recipe, recipe.projection_passes, show, "")
    expect_answers(network, material, recipe)
    encoder = [parameter for parameter in network.bert.parameters() if parameter.requires_grad]
    norms: dict[str, list[float]] = {}
    values: dict[str, list[float]] = {}
    for _, batch in zip(range(given.batches), batches(material, recipe), strict=False):
        found = losses(network, material, batch, recipe)
        for name, loss in found.items():
            if not loss.requires_grad:
                continue
            pulls = torch.autograd.grad(loss, encoder, retain_graph=True, allow_unused=True)
            norm = sum(float(one.square().sum()) for one in pulls if one is not None) ** 0.5
            norms.setdefault(name, []).append(norm)
            values.setdefault(name, []).append(float(loss.detach()))
    print(f"{'objective':<12} {'weighted loss':>14} {'gradient norm':>14} {'spread':>8}")
    for name, found in sorted(norms.items(), key=lambda item: -float(np.mean(item[1]))):
        print(f"{name:<12} {np.mean(values[name]):>14.3f} {np.mean(found):>14.3f} {np.std(found):>8.3f}")


if __name__ == "__main__":
    main()
