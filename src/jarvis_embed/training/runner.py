"""The training loop: steps, a checkpoint that survives anything, and the best weights by a watched figure.

We keep a loop of our own rather than a library's trainer: its checkpoints are pickles, which this project never writes
nor reads, and it embeds each text of a pair by itself, where here a turn is embedded once for all it takes part in.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  its usual name

from ..errors import InputError, TrainingError
from ..home import make_private_folder, write_private
from . import objectives
from .batches import Batch, batches, steps_of
from .judgements import Replies
from .maps import (
    Progress,
    expect_answers,
    fixed_turns,
    label_loss,
    learn_projections,
    learn_segments,
    schedule,
    thread_loss,
    unfair,
)
from .material import Material
from .network import Network
from .quality_head import told_from_others
from .recipe import Recipe
from .texts import Rows

CHECKPOINT_FILE: Final = "checkpoint.safetensors"
PREPARED: Final = 0.3
"""Share of the maps' passes that they make before the encoder learns; the encoder moves, and they with it. Maps that a
parent has learned already go on as they are: at the first rate they would forget some of it."""

Watch = Callable[[Network], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Look:
    """The state of a run at a step: smoothed losses, and what was watched. ``score`` is the mean of the latter."""

    step: int
    seconds: float
    losses: dict[str, float]
    watched: dict[str, float]

    @property
    def score(self) -> float:
        return sum(self.watched.values()) / max(len(self.watched), 1)


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run did: ``looks`` at its course; ``best`` is the step whose weights were kept."""

    steps: int
    seconds: float
    best: int
    stopped_early: bool
    looks: tuple[Look, ...]


@dataclass(slots=True)
class _State:
    """What changes during a run, and is in a checkpoint."""

    step: int = 0
    seconds: float = 0.0
    losses: dict[str, float] = field(default_factory=dict)
    looks: list[Look] = field(default_factory=list)
    best: int = 0
    best_score: float = -math.inf
    best_weights: dict[str, Tensor] = field(default_factory=dict)


def run(
    network: Network,
    material: Material,
    recipe: Recipe,
    *,
    folder: Path,
    identity: str,
    watch: Watch | None = None,
    patience: int = 3,
    checkpoint_minutes: float = 5.0,
    resume: bool = False,
    progress: Progress | None = None,
) -> RunReport:
    """Train ``network``; afterwards it has the weights of its best look.

    Args:
        folder: where the checkpoint lies; it is removed when the run is through.
        identity: of recipe and material; a checkpoint of another one is refused.
        watch: measures the network on held-out texts; called as often as the recipe says, and stops the run when its
            mean has not risen ``patience`` times.
        resume: go on from the checkpoint, to the very weights that an unbroken run would have reached.

    Raises:
        InputError: there is nothing to go on from, or it belongs to another run.
        DiskFull, HomeNotWritable: a checkpoint could not be written; the last good one is whole.
    """
    show = progress or (lambda _stage, _done, _total: None)
    if not resume:
        _prepare(network, material, recipe, show)
    optimiser, rates = _optimiser(network, recipe)
    total = steps_of(material, recipe)
    path = make_private_folder(folder) / CHECKPOINT_FILE
    state = _loaded(path, network, optimiser, identity) if resume else _State()
    feed = batches(material, recipe)
    for _ in range(state.step):
        next(feed)
    watch = watch if recipe.looks else None
    look_every = max(total // max(recipe.looks, 1), 1)
    saved = time.monotonic()
    stopped = False
    network.train()
    while state.step < total and not stopped:
        start = time.monotonic()
        torch.manual_seed(recipe.seed * 1_000_003 + state.step)  # dropout is the same when a run is gone on with
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * schedule(state.step / total, recipe.warm_up)
        found = losses(network, material, next(feed), recipe)
        optimiser.zero_grad()
        torch.stack(list(found.values())).sum().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_([p for p in network.parameters() if p.requires_grad], 1.0)
        optimiser.step()
        state.step += 1
        for name, value in found.items():
            now = float(value.detach())
            state.losses[name] = 0.95 * state.losses.get(name, now) + 0.05 * now
        state.seconds += time.monotonic() - start
        show("train", state.step, total)
        if watch is not None and (state.step % look_every == 0 or state.step == total):
            stopped = _look(network, state, watch, patience)
        if time.monotonic() - saved > 60 * checkpoint_minutes and state.step < total:
            _save(path, network, optimiser, state, identity)
            saved = time.monotonic()
    if state.best_weights:
        network.load_state_dict(state.best_weights, strict=False)
    network.eval()
    path.unlink(missing_ok=True)
    return RunReport(state.step, state.seconds, state.best if watch else state.step, stopped, tuple(state.looks))


def _prepare(network: Network, material: Material, recipe: Recipe, show: Progress) -> None:
    """Let the maps learn on the parent's vectors, and what answers are to be expected there."""
    share = PREPARED if recipe.passes else 1.0
    if not (recipe.passes and network.response.learned):
        passes = share * recipe.projection_passes
        learn_projections(network, material, material.parent, recipe, passes, show, "prepare")
    if not (recipe.passes and network.segment.projection.learned) or recipe.teachers:  # what these say is new to it
        passes = share * recipe.segment_map_passes
        learn_segments(network, material, material.parent, recipe, passes, show, "prepare threads")
    expect_answers(network, material, recipe)


def losses(network: Network, material: Material, batch: Batch, recipe: Recipe) -> dict[str, Tensor]:
    """Every objective of the recipe for one batch, weighted."""
    wanted, device = recipe.objectives, network.device
    readings = network.readings([material.tokens[row] for row in batch.rows])
    vectors = network.vectors_of(readings)
    near = torch.from_numpy(material.near[batch.rows]).to(device)
    triggers, responses = (torch.from_numpy(rows).to(device) for rows in (batch.triggers, batch.responses))
    masked = unfair(near, triggers, responses)
    answers = network.response(vectors[responses])
    found: dict[str, Tensor] = {}
    if wanted.single:
        found["single"] = objectives.contrast(vectors[triggers], answers, masked, recipe.temperature)
    if wanted.context:
        asked = network.in_context(vectors, triggers, torch.from_numpy(batch.contexts).to(device))
        found["context"] = objectives.contrast(asked, answers, masked, recipe.temperature)
    if wanted.relation:
        found |= _relation(network, material, batch, recipe, vectors, near)
    if wanted.threads and len(batch.segments.texts):
        # The turns are read as the parent gave them: their own vectors belong to the other objectives, which lose
        # where they are drawn to their thread (docs/training-log.md); the map learns them anew at the end.
        whole = vectors[torch.from_numpy(batch.segments.texts).to(device)]
        segments = network.segment(whole, *fixed_turns(material.parent, batch.segments.turns, device))
        found["threads"] = thread_loss(segments, batch.segments, recipe.thread_temperature, recipe.sharpness)
    if wanted.quality:
        found["quality"] = _quality(network, material, batch, recipe, vectors, masked)
    if wanted.labels and material.labels is not None:
        read, said = (
            readings[torch.from_numpy(rows).to(device)] for rows in (batch.labelled_triggers, batch.labelled_responses)
        )
        found["labels"] = label_loss(network, material.labels, batch.labelled, read, said)
    if wanted.triplets and len(batch.triplets):
        anchors, similar, dissimilar = torch.from_numpy(batch.triplets).to(device).T
        candidates = torch.cat([similar, dissimilar])
        alike = near[anchors][:, None] == near[candidates]
        alike |= near[similar][:, None] == near[candidates]
        alike[:, : len(anchors)].fill_diagonal_(fill_value=False)
        found["triplets"] = objectives.contrast(vectors[anchors], vectors[candidates], alike, recipe.temperature)
    if wanted.hold:
        held = _held(batch, recipe)
        before = torch.from_numpy(material.parent[batch.rows[held]]).float().to(device)
        found["hold"] = objectives.hold(vectors[torch.from_numpy(held).to(device)], before)
    if wanted.sentences and len(batch.scores):
        left, right = (vectors[torch.from_numpy(rows).to(device)] for rows in (batch.left, batch.right))
        found["sentences"] = objectives.order(left, right, torch.from_numpy(batch.scores).to(device))
    scale = wanted.model_dump() | {"answers": wanted.relation}
    return {name: scale[name] * value for name, value in found.items()}


def _held(batch: Batch, recipe: Recipe) -> Rows:
    """Places of the texts that shall stay near the parent's vectors."""
    every = np.arange(len(batch.rows))
    return every if recipe.hold_segments else np.setdiff1d(every, batch.segments.texts)


def _relation(
    network: Network, material: Material, batch: Batch, recipe: Recipe, vectors: Tensor, near: Tensor
) -> dict[str, Tensor]:
    """``answers``: a linear map learns which response is to be expected. ``relation``: triggers are as near to each
    other as those are. One given response is mostly chance; the expected one is learned from all triggers of its kind.
    """
    device, records = network.device, material.records
    triggers, responses = batch.triggers[batch.related], batch.responses[batch.related]
    rows = torch.from_numpy(np.concatenate([triggers, batch.record_triggers])).to(device)
    if len(rows) < 3:
        return {}
    given = material.reference[batch.rows[responses]].astype(np.float32)
    counts = np.ones(len(rows), np.float32)
    if records is not None:
        given = np.concatenate([given, records.likeness[batch.records]])
        counts[len(triggers) :] = recipe.objectives.records
    answers = torch.from_numpy(given).to(device)
    asked = vectors[rows]
    expected = network.expectation(asked)
    guesses = F.normalize(expected.detach(), dim=-1)
    likeness = guesses @ guesses.T
    known = len(triggers)
    likeness[known:, known:] *= recipe.expected
    likeness[known:, known:] += (1 - recipe.expected) * answers[known:] @ answers[known:].T
    same = near[rows][:, None] == near[rows]
    return {
        "answers": objectives.expectation(expected, answers, torch.from_numpy(counts).to(device)),
        "relation": objectives.relation(asked, likeness, objectives.relation_weights(likeness, same, share=1 / 50)),
    }


def _quality(
    network: Network, material: Material, batch: Batch, recipe: Recipe, vectors: Tensor, masked: Tensor
) -> Tensor:
    """The head tells the batch's replies from each other's, and what people said of replies, step by step."""
    head, known = network.quality, material.judgements.rated
    if head is None:
        raise TrainingError("quality is wanted of a network without a head", "Give it one: judges=True")
    replies = Replies.of_pairs(batch.triggers, batch.contexts, batch.responses)
    loss = told_from_others(head, *network.of_replies(vectors, replies), masked)
    weight = recipe.objectives.judged
    if batch.judged:
        good, *bad = (head(*network.of_replies(vectors, one)) for one in batch.judged)
        loss = loss + weight * objectives.told_apart(good, bad)
    if batch.rated and known is not None:
        rows = batch.ratings
        given = (known.scores[rows], known.sources[rows], known.raters[rows])
        scores, sources, raters = (torch.from_numpy(one).to(network.device) for one in given)
        logits = head(*network.of_replies(vectors, batch.rated[0]))
        loss = loss + weight * objectives.rating_order(logits, scores, sources, raters)
    return loss


def _look(network: Network, state: _State, watch: Watch, patience: int) -> bool:
    """Measure, keep the weights if they are the best so far; return whether to stop."""
    network.eval()
    with torch.no_grad():
        look = Look(state.step, state.seconds, dict(state.losses), dict(watch(network)))
    network.train()
    state.looks.append(look)
    if look.score > state.best_score:
        state.best, state.best_score = state.step, look.score
        state.best_weights = {name: value.detach().clone() for name, value in _trained(network).items()}
    since = [one for one in state.looks if one.step > state.best]
    return len(since) >= patience


def _optimiser(network: Network, recipe: Recipe) -> tuple[torch.optim.Optimizer, list[float]]:
    """AdamW; the projections are new and learn faster, and norms and biases do not decay."""
    encoder = [p for p in network.bert.parameters() if p.requires_grad]
    projections = network.projections()
    groups: list[dict[str, Any]] = [
        {"params": [p for p in encoder if p.ndim > 1], "weight_decay": 0.01},
        {"params": [p for p in encoder if p.ndim < 2], "weight_decay": 0.0},
        {"params": projections, "weight_decay": 0.01},
    ]
    rates = [recipe.rate, recipe.rate, recipe.projection_rate]
    kept = [(group, rate) for group, rate in zip(groups, rates, strict=True) if group["params"]]
    return torch.optim.AdamW([group for group, _ in kept], lr=recipe.rate), [rate for _, rate in kept]


def _trained(network: Network) -> dict[str, Tensor]:
    return {name: value for name, value in network.named_parameters() if value.requires_grad}


def _save(path: Path, network: Network, optimiser: torch.optim.Optimizer, state: _State, identity: str) -> None:
    """Write everything as one safetensors file beside the last one, then put it in its place."""
    from safetensors.torch import save

    weights = _trained(network)
    tensors = {f"weights.{name}": value.detach().contiguous() for name, value in weights.items()}
    tensors |= {f"best.{name}": value for name, value in state.best_weights.items()}
    for name, value in weights.items():
        for part, kept in optimiser.state[value].items():
            tensors[f"adam.{part}.{name}"] = kept.contiguous()
    stated = {
        "identity": identity,
        "step": state.step,
        "seconds": state.seconds,
        "losses": state.losses,
        "best": state.best,
        "best_score": state.best_score,
        "looks": [[one.step, one.seconds, one.losses, one.watched] for one in state.looks],
    }
    content = save({name: value.cpu() for name, value in tensors.items()}, {"run": json.dumps(stated)})
    write_private(path, content)


def _loaded(path: Path, network: Network, optimiser: torch.optim.Optimizer, identity: str) -> _State:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            stated = json.loads(file.metadata()["run"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
    except FileNotFoundError as error:
        raise InputError(f"there is no run to go on with in {path.parent}", "Start it without --resume") from error
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is not a whole checkpoint", "Start again without --resume") from error
    if stated["identity"] != identity:
        raise InputError(
            f"the checkpoint in {path.parent} is of another recipe or other messages", "Start without --resume"
        )
    with torch.no_grad():
        for name, value in _trained(network).items():
            value.copy_(tensors[f"weights.{name}"])
            if f"adam.step.{name}" not in tensors:
                continue  # no objective of the recipe has asked it yet
            parts = ("step", "exp_avg", "exp_avg_sq")
            optimiser.state[value] = {
                part: tensors[f"adam.{part}.{name}"].to("cpu" if part == "step" else value.device) for part in parts
            }
    return _State(
        step=stated["step"],
        seconds=stated["seconds"],
        losses=stated["losses"],
        looks=[Look(*one) for one in stated["looks"]],
        best=stated["best"],
        best_score=stated["best_score"],
        best_weights={
            name.removeprefix("best."): value.to(network.device)
            for name, value in tensors.items()
            if name.startswith("best.")
        },
    )
