"""Learning the light maps alone, on vectors that stay as they are: minutes of work, for no text need be embedded.

Before the encoder learns, on the parent's vectors: it then begins with maps that know already where replies lie. And
after it has learned, on its own: then they see every pair many times, and each beside a thousand others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  its usual name

from ..errors import TrainingError
from ..models.engine import Vectors
from ..models.prototypes import Prototypes, crowding_of, means_of
from ..models.words import SHARE, Words, quiet_directions, rarity
from . import objectives
from .material import LabelSet, Material
from .network import Network
from .recipe import Recipe
from .ridge import ridge
from .segments import SegmentDraw, SegmentSet, segment_draws
from .texts import Halves, Rows

Progress = Callable[[str, int, int], None]

PAIRS: Final = 1024
"""Pairs in a step; each is set against the responses of all others."""

SEGMENTS: Final = 512
"""Pairs of segments in a step."""

_COOLER: Final = 0.9
"""Times the temperature, where words stand beside a map: what they add is the same for all that have none in common."""

_LEAST_STEPS: Final = 8
"""In a pass: where there are few segments, steps are smaller."""

RATE: Final = 1e-3
_RIDGE: Final = 20.0
_BLOCK: Final = 2048
_DRAWS: Final = 3
_SEEN: Final = 100_000
"""Pairs from which the first guess of the expected answers is made."""


def learn_projections(
    network: Network, material: Material, vectors: Halves, recipe: Recipe, passes: float, show: Progress, stage: str
) -> None:
    """Learn the maps of replies and of context.

    Args:
        vectors: (texts, dim) of the material's texts. passes: over the pairs.
    """
    fixed = torch.from_numpy(np.concatenate([vectors, np.zeros_like(vectors[:1])]))  # -1: nothing was said
    near = torch.from_numpy(material.near)
    triggers, responses, contexts = map(torch.from_numpy, _pairs_of(material, recipe.mapped))
    size = min(PAIRS, len(triggers))
    draw = torch.Generator().manual_seed(recipe.seed)

    def loss() -> Tensor:
        rows = torch.randint(len(triggers), (size,), generator=draw)
        asking, answering = triggers[rows], responses[rows]
        masked = unfair(near, asking, answering).to(network.device)
        asked, answered, *before = (
            fixed[places].float().to(network.device) for places in (asking, answering, *contexts[rows].T)
        )
        answers = network.response(answered)
        alone = objectives.contrast(asked, answers, masked, recipe.temperature)
        return alone + objectives.contrast(network.context(asked, *before), answers, masked, recipe.temperature)

    steps = int(passes * (len(triggers) // size))
    _learn([network.response, network.context], loss, steps, recipe, lambda done: show(stage, done, steps))


def learn_segments(
    network: Network,
    material: Material,
    vectors: Halves,
    recipe: Recipe,
    passes: float,
    show: Progress,
    stage: str,
    beside: Callable[[Tensor, Rows], Tensor] | None = None,
) -> None:
    """Learn the map of segments: of all in the step, the nearest to one is the other one of its thread.

    Those that are hard to tell from each other do not come together: among so many there are enough by chance, and
    where all are alike, the map draws all together (docs/segments.md).

    Args:
        vectors: (texts, dim) of the material's texts. passes: over the segments.
        beside: what is compared in place of (n, dim) meanings of (n,) texts: those with their words.
    """
    segments = material.segments
    if not recipe.objectives.threads or segments is None or not len(segments):
        return
    size = min(SEGMENTS, max(len(segments) // _LEAST_STEPS, 2))
    draws = segment_draws(segments, size, np.random.default_rng(recipe.seed), hard=False)
    temperature = recipe.thread_temperature if beside is None else _COOLER * recipe.thread_temperature

    def loss() -> Tensor:
        draw = next(draws)
        whole = torch.from_numpy(vectors[draw.texts]).float().to(network.device)
        found = network.segment(whole, *fixed_turns(vectors, draw.turns, network.device))
        return thread_loss(found if beside is None else beside(found, draw.texts), draw, temperature, recipe.sharpness)

    steps = math.ceil(passes * len(segments) / size)
    _learn([network.segment], loss, steps, recipe, lambda done: show(stage, done, steps))


def learn_beside_words(
    network: Network, material: Material, vectors: Halves, recipe: Recipe, show: Progress, stage: str
) -> None:
    """Let the map of segments learn once more, each beside its words, as they are compared from now on: it leaves to
    words what these tell already, and gives up the room that they take (docs/segments.md).

    That is done three times from the same weights, with other draws, over the segments once at most each time. Kept is
    the mean of what these give (model soups, Wortsman et al. 2022) and of what they began with, in equal parts (WiSE-FT
    of the same authors), which finds more and tells threads apart as well as before.
    """
    segments, words = material.segments, network.words
    if words is None or segments is None:
        return
    rows = np.unique(segments.texts)
    counted = words([material.tokens[row] for row in rows.tolist()]).astype(np.float16)
    room = torch.from_numpy(words.room).to(network.device)

    def beside(meanings: Tensor, texts: Rows) -> Tensor:
        rest = F.normalize(meanings - meanings @ room.T @ room / SHARE, dim=-1)
        said = torch.from_numpy(counted[np.searchsorted(rows, texts)]).float().to(network.device)
        return F.normalize(rest + said, dim=-1)

    before, learned = weights_of(network.segment), list[list[Tensor]]()
    passes = min(recipe.segment_map_passes, 1.0)
    for draw in range(_DRAWS):
        draw_back(network.segment, before, 0.0)
        drawn = recipe.model_copy(update={"seed": recipe.seed + draw})
        learn_segments(network, material, vectors, drawn, passes, show, f"{stage}, {draw + 1} of {_DRAWS}", beside)
        learned.append(weights_of(network.segment))
    draw_back(network.segment, [torch.stack(one).mean(0) for one in zip(*learned, strict=True)], 0.0)
    draw_back(network.segment, before, 0.5)


def weights_of(part: nn.Module) -> list[Tensor]:
    """Its weights as they are now, for ``draw_back``."""
    return [one.detach().clone() for one in part.parameters()]


@torch.no_grad()
def draw_back(part: nn.Module, before: Sequence[Tensor], kept: float) -> None:
    """Keep a share of what its weights have changed since ``before``: they become a mean of both, and those at 0."""
    for now, then in zip(part.parameters(), before, strict=True):
        now.lerp_(then, 1 - kept)


@torch.no_grad()
def words_beside(network: Network, material: Material, vectors: Halves) -> Words | None:
    """What the words of the material's segments count, and where in the space their map leaves room for them; None
    where there are no segments.

    Args:
        vectors: (texts, dim) of the material's texts.
    """
    segments = material.segments
    if segments is None or not len(segments):
        return None
    tokens = [material.tokens[row] for row in segments.texts.tolist()]
    found = mapped_segments(network, segments, vectors)
    return Words(rarity(tokens, network.vocabulary), quiet_directions(found))


@torch.no_grad()
def prototypes_among(
    network: Network, segments: SegmentSet, vectors: Halves, sources: Sequence[int], pull: float
) -> Prototypes:
    """The mean of every thread's segments of some sources, and how much they attract those of all sources.

    Args:
        vectors: (texts, dim) of the material's texts. sources: their numbers in ``SegmentSamples.sources``.

    Raises:
        TrainingError: segments are not apart by source.
    """
    if segments.samples.sources is None:
        raise TrainingError(
            "prototypes are of some sources, and segments are mixed", "Let them be apart: segments_apart"
        )
    found = mapped_segments(network, segments, vectors)
    chosen = np.tile(np.isin(segments.samples.sources, sources), 2)
    places = means_of(found[chosen], np.tile(segments.samples.threads, 2)[chosen])
    return Prototypes(places, crowding_of(places, found), pull)


def mapped_segments(network: Network, segments: SegmentSet, vectors: Halves) -> Vectors:
    """(2n, dim): what the map makes of all segments, from the vectors of the material's texts."""
    found = []
    for start in range(0, len(segments.texts), _BLOCK):
        rows = slice(start, start + _BLOCK)
        whole = torch.from_numpy(vectors[segments.texts[rows]]).float().to(network.device)
        found.append(network.segment(whole, *fixed_turns(vectors, segments.turns[rows], network.device)).cpu().numpy())
    return np.concatenate(found)


def thread_loss(segments: Tensor, draw: SegmentDraw, temperature: float, sharpness: float) -> Tensor:
    """How far the (2n, dim) segments of a draw are from lying as their teachers say, or, where there is none, as their
    threads do."""
    negatives = torch.from_numpy(draw.negatives).to(segments.device)
    if draw.taught is None:
        return objectives.segment_contrast(segments, negatives, temperature)
    taught = torch.from_numpy(draw.taught).float().to(segments.device)
    return objectives.following(segments, taught, negatives, temperature, sharpness)


def fixed_turns(vectors: Halves, turns: Rows, device: torch.device) -> tuple[Tensor, Tensor]:
    """What the map of segments reads beside their texts: the turns' vectors, which stay as they are, and which of them
    are there.

    Args:
        turns: (segments, turns) rows of ``vectors``, −1 where there is none.
    """
    return torch.from_numpy(vectors[turns]).float().to(device), torch.from_numpy(turns >= 0).to(device)


def label_loss(network: Network, labels: LabelSet, rows: Rows, triggers: Tensor, responses: Tensor) -> Tensor:
    """How far labels that are read off lie from those that were given, the mean over both tasks.

    Args:
        rows: (n,) numbers of labelled pairs. triggers, responses: (n, READ · dim), their readings.
    """
    read = network.labelled(triggers, responses)
    parts = []
    for task, logits in read.items():
        every = labels.chances[task]
        balance = torch.from_numpy(every.mean(0).clip(min=1e-3) ** -0.5).to(network.device)
        parts.append(objectives.labelling(logits, torch.from_numpy(every[rows]).to(network.device), balance))
    return torch.stack(parts).mean()


def expect_answers(network: Network, material: Material, recipe: Recipe) -> None:
    """Set the map that expects answers to the best linear one on the parent's vectors (ridge regression)."""
    rng = np.random.default_rng(recipe.seed)
    triggers, responses, _ = _pairs_of(material, recipe.related)
    seen = rng.permutation(len(triggers))[:_SEEN]
    asked = material.parent[triggers[seen]].astype(np.float64)
    given, counts = material.reference[responses[seen]].astype(np.float64), np.ones(len(seen))
    if material.records is not None:
        asked = np.concatenate([asked, material.parent[material.records.triggers]])
        given = np.concatenate([given, material.records.likeness])
        counts = np.concatenate([counts, np.full(len(asked) - len(counts), max(recipe.objectives.records, 1e-6))])
    weight, bias = ridge(asked, given, counts, _RIDGE)
    with torch.no_grad():
        network.expectation.weight.copy_(torch.from_numpy(weight.T))
        network.expectation.bias.copy_(torch.from_numpy(bias))


def _pairs_of(material: Material, read: Callable[[str], bool]) -> tuple[Rows, Rows, Rows]:
    """Triggers, responses and contexts of the sources that are read, or of all where none of these is there."""
    sets = [one for one in material.pairs if read(one.name)] or material.pairs
    triggers, responses, contexts = (
        np.concatenate([getattr(one, part) for one in sets]) for part in ("triggers", "responses", "contexts")
    )
    return triggers, responses, contexts


def _learn(
    maps: Sequence[nn.Module], loss: Callable[[], Tensor], steps: int, recipe: Recipe, show: Callable[[int], None]
) -> None:
    """Take ``steps`` steps down ``loss``, which draws anew whenever it is asked."""
    parameters = [one for part in maps for one in part.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.01)
    torch.manual_seed(recipe.seed)
    for part in maps:
        part.train()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = RATE * schedule(step / steps, recipe.warm_up)
        optimiser.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        show(step + 1)
    for part in maps:
        part.eval()


def unfair(near: Tensor, triggers: Tensor, responses: Tensor) -> Tensor:
    """(n, n): where another pair's response is no fair negative: a near-duplicate of the own one, or of the trigger."""
    masked = (near[responses][:, None] == near[responses]) | (near[triggers][:, None] == near[responses])
    return masked.fill_diagonal_(fill_value=False)


def schedule(done: float, warm_up: float) -> float:
    """Share of the highest rate: a straight rise, then half a cosine down to a fiftieth."""
    rise = min(1.0, (done + 1e-3) / warm_up) if warm_up else 1.0
    return rise * (0.02 + 0.49 * (1 + math.cos(math.pi * done)))
