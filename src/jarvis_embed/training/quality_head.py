"""Learn a quality head (``models/quality_head.py``) on vectors that stay as they are.

Two steps. First by contrast, without ratings: maps take a trigger with its context to where its own reply is nearest of
a batch (a trained model has such maps, others learn them here), and a hidden layer tells replies from replies to
something else and from adversarial ones. Then by judgements: what two cosines weigh (that of the maps, and that of
trigger and response), the hidden layer's log odds and the length of the reply, so that right replies have a higher
score than wrong ones, and of two replies of one source the better-rated. More than these six numbers is not fitted, and
to right and wrong replies that nothing has learned from: what is fitted learns its sources by heart (docs/quality.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  its usual name

from ..models.projections import Projection as Map
from ..models.projections import Projections
from ..models.quality_head import PARTS, QualityHead, lengths_of, width_of
from .judgements import NO_JUDGEMENTS, TURNS, Floats, Judgements, Replies
from .objectives import contrast, rating_order, told_apart
from .projections import Projection, array_of
from .ridge import ridge
from .texts import Halves, Rows

Progress = Callable[[str, int, int], None]

_READ: Final = ("fit", "cosines", "product", "difference")
_TEMPERATURE: Final = 0.05
_JUDGED: Final = 80
_COSINES: Final = 2
"""So many, the first, count: that of the maps, and that of trigger and response."""
_CHANCE: Final = 2.0
"""What a wrong reply by chance counts in the judgements, beside one that reuses words of the context."""
_LENGTHS: Final = 50_000
"""Replies from which it is learned how a vector tells the length of its text."""
_RIDGE: Final = 10.0
_FIT_RATE: Final = 5e-2
_RATED: Final = 512
_NO_CONTEXT: Final = 0.3
"""Share of examples whose context is hidden, so that the head can do without."""


@dataclass(frozen=True, slots=True)
class HeadMaterial:
    """What a head learns from.

    Attributes:
        vectors: (texts, dim) of the bare encoder. lengths: (texts,), tokens of each.
        pairs: real replies by source, and how often one of each is drawn.
        judgements: right and wrong replies, and rated ones.
    """

    vectors: Halves
    lengths: Rows
    pairs: Sequence[tuple[Replies, float]]
    judgements: Judgements = NO_JUDGEMENTS


@dataclass(frozen=True, slots=True)
class HeadRecipe:
    """How a head is learned; ``steps`` by contrast, then ``rating_steps`` by judgements."""

    steps: int = 1500
    rating_steps: int = 600
    batch: int = 512
    width: int = 192
    hidden: int = 32
    rate: float = 2e-3
    decay: float = 2e-2
    dropout: float = 0.15
    seed: int = 0


class HeadNetwork(nn.Module):
    """``QualityHead`` with gradients: also for an encoder that is trained together with it.

    Args:
        maps: whether it has maps; False while a model is trained, whose projections give ``asked`` and ``answered``.

    Attributes:
        learns_maps: whether the maps are its own. A trained model's, see ``head_over``, stay as they are.
        length, longer: how a bare vector tells the length of its reply, (dim + 1,), and what that and its square weigh,
            (2,); fitted at the end, None before.
    """

    def __init__(self, dim: int, recipe: HeadRecipe, *, maps: bool = True) -> None:
        super().__init__()
        self.dim, self.learns_maps = dim, maps
        self.length: Floats | None = None
        self.longer: Floats | None = None
        self.context = Projection(TURNS, dim, recipe.width) if maps else None
        self.response = Projection(1, dim, recipe.width) if maps else None
        self.inner = nn.Linear(width_of(_READ, TURNS, dim), recipe.hidden)
        self.inner_outer = nn.Linear(recipe.hidden, 1, bias=False)
        self.outer = nn.Linear(1 + TURNS, 1)
        self.dropout = nn.Dropout(recipe.dropout)
        nn.init.zeros_(self.inner_outer.weight)
        nn.init.constant_(self.outer.weight, 2.0)

    def mapped(self, turns: Sequence[Tensor], responses: Tensor) -> tuple[Tensor, Tensor]:
        """Asked and answered, (n, dim) each, of turns (the trigger first) and responses."""
        if self.context is None or self.response is None:
            raise ValueError("this head has no maps")
        read = [*turns, responses]
        if self.learns_maps:
            read = list(map(self.dropout, read))
        return self.context(*read[:-1]), self.response(read[-1])

    def forward(self, asked: Tensor, answered: Tensor, turns: Sequence[Tensor], responses: Tensor) -> Tensor:
        """Log odds, (n,)."""
        few, every = self._inputs(asked, answered, turns, responses)
        found = self.outer(few) + self.inner_outer(self.dropout(F.gelu(self.inner(every), approximate="tanh")))
        return torch.squeeze(found, 1)

    def _inputs(
        self, asked: Tensor, answered: Tensor, turns: Sequence[Tensor], responses: Tensor
    ) -> tuple[Tensor, Tensor]:
        cosines = [(asked * answered).sum(1), *((turn * responses).sum(1) for turn in turns)]
        few = torch.stack(cosines, 1)
        scale = self.dim**0.5  # a product of unit vectors is small, and weights are not
        return few, torch.cat([few, asked * answered * scale, (asked - answered).abs() * scale / 4], 1)

    def exported(self, fingerprints: Sequence[str], facts: dict[str, Any]) -> QualityHead:
        """The head as numpy runs it."""
        parts = _READ if self.longer is None else (*_READ, "length")
        scale = np.ones(width_of(_READ, TURNS, self.dim), np.float32)
        scale[1 + TURNS : 1 + TURNS + self.dim] = self.dim**0.5
        scale[1 + TURNS + self.dim :] = self.dim**0.5 / 4
        inner, behind = array_of(self.inner.weight) * scale, width_of(parts, TURNS, self.dim) - len(scale)
        outer = np.zeros(len(scale) + behind, np.float32)
        outer[: 1 + TURNS] = array_of(self.outer.weight)[0]
        if self.longer is not None:
            outer[-behind:] = self.longer
        maps = None
        if self.learns_maps and self.context is not None and self.response is not None:
            maps = Projections(response=_map(self.response), context=_map(self.context))
        return QualityHead(
            fingerprints=tuple(fingerprints),
            parts=tuple(part for part in PARTS if part in parts),
            turns=TURNS,
            outer=outer,
            bias=float(array_of(self.outer.bias)[0]),
            inner=np.pad(inner, ((0, 0), (0, behind))),
            inner_bias=array_of(self.inner.bias),
            inner_outer=array_of(self.inner_outer.weight)[0],
            length=None if self.longer is None else self.length,
            maps=maps,
            facts=facts,
        )


def head_over(projections: Projections, dim: int, recipe: HeadRecipe) -> HeadNetwork | None:
    """A network over the maps of a trained model, which stay as they are; None for a model without, or with others."""
    response, context = projections.response, projections.context
    if response is None or context is None or context.inputs != TURNS or len(response.inner) != len(context.inner):
        return None
    network = HeadNetwork(dim, replace(recipe, width=len(context.inner)))
    network.learns_maps = False
    for mine, stored in ((network.context, context), (network.response, response)):
        assert mine is not None  # noqa: S101  it was made with maps
        mine.take(stored)
        mine.requires_grad_(False)
    return network


def told_from_others(
    head: HeadNetwork,
    asked: Tensor,
    answered: Tensor,
    turns: Sequence[Tensor],
    responses: Tensor,
    same: Tensor,
) -> Tensor:
    """Loss: a reply is told from one to something else, by chance, and from one that would nearly fit.

    Args:
        asked, answered, responses: (n, dim); turns: each of these too.
        same: (n, n) bool, where another's reply is no fair negative.
    """
    rows = torch.arange(len(asked), device=asked.device)
    with torch.no_grad():
        near = (asked @ answered.T / (5 * _TEMPERATURE)).masked_fill(same, float("-inf"))
        near[rows, rows] = float("-inf")
        near[near.max(1).values == float("-inf")] = 0.0  # nothing is fair beside it
        hard = torch.multinomial(near.softmax(1), 1)[:, 0]
        chance = torch.randperm(len(asked), device=asked.device)
    good = head(asked, answered, turns, responses)
    return told_apart(good, [head(asked, answered[one], turns, responses[one]) for one in (chance, hard)])


def fit_head(
    material: HeadMaterial,
    fingerprints: Sequence[str],
    recipe: HeadRecipe | None = None,
    *,
    facts: dict[str, Any] | None = None,
    begin: HeadNetwork | None = None,
    progress: Progress | None = None,
) -> QualityHead:
    """Learn a head for an encoder that stays as it is. Equal seed and material: equal heads.

    Args:
        begin: the network to go on with; a new one, whose maps are learned, where it is None.
    """
    recipe, show = recipe or HeadRecipe(), progress or (lambda _stage, _done, _total: None)
    torch.manual_seed(recipe.seed)
    network = begin or HeadNetwork(material.vectors.shape[1], recipe)
    learner = _Learner(material, recipe, network)
    learner.by_contrast(show)
    if material.judgements.contrasted is not None:
        learner.by_judgements(show)
    network.eval()
    return network.exported(fingerprints, facts or {})


class _Learner:
    """One fit: material, network, and the numbers that are drawn."""

    def __init__(self, material: HeadMaterial, recipe: HeadRecipe, network: HeadNetwork) -> None:
        self.material, self.recipe, self.network = material, recipe, network
        self._rng = np.random.default_rng(recipe.seed)
        weights = np.array([weight for _, weight in material.pairs])
        self._sizes = np.maximum(np.round(recipe.batch * weights / weights.sum()), 1).astype(int).tolist()

    def by_contrast(self, show: Progress) -> None:
        recipe, network = self.recipe, self.network
        steps = recipe.steps
        learned = [one for one in network.parameters() if one.requires_grad]
        optimiser = torch.optim.AdamW(learned, lr=recipe.rate, weight_decay=recipe.decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=max(steps, 2))
        network.train()
        for step in range(steps):
            loss = self._contrast() + self._adversarial()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            if step % 20 == 19:
                show("contrast", step + 1, steps)

    def by_judgements(self, show: Progress) -> None:
        """What two cosines, the hidden layer, and the length of a reply with its square weigh, and the bias."""
        network, steps = self.network, self.recipe.rating_steps
        known, rated = self.material.judgements.contrasted, self.material.judgements.rated
        assert known is not None  # noqa: S101  the caller asked
        network.eval()  # what is not fitted here does not drop out
        network.length = self._told_length()
        right, adversarial, random = map(self._parts, known.at(known.kept))
        said = None if rated is None else self._parts(rated.replies)
        few = nn.Parameter(torch.tensor([2.0, 2.0, 1.0, 0.0, 0.0, 0.0]))
        optimiser = torch.optim.Adam([few], lr=_FIT_RATE)
        for step in range(steps):
            optimiser.param_groups[0]["lr"] = _FIT_RATE * (1 - step / steps)
            loss = told_apart(right @ few, [adversarial @ few]) + _CHANCE * told_apart(right @ few, [random @ few])
            if rated is not None and said is not None:
                rows = self._rng.choice(len(rated), min(_RATED, len(rated)), replace=False)
                scores, sources, raters = map(
                    torch.from_numpy, (rated.scores[rows], rated.sources[rows], rated.raters[rows])
                )
                loss = loss + rating_order(said[rows] @ few, scores, sources, raters)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            if step % 20 == 19:
                show("judgements", step + 1, steps)
        with torch.no_grad():
            network.outer.weight.zero_()
            network.outer.weight[0, :_COSINES] = few[:_COSINES]
            network.inner_outer.weight *= few[_COSINES]
            network.longer = array_of(few[_COSINES + 1 : -1])
            network.outer.bias.fill_(few[-1])

    def _told_length(self) -> Floats:
        """(dim + 1,): a vector's product with it, with 1 behind, is the logarithm of its reply's tokens, in standard
        deviations (ridge regression)."""
        rows = np.unique(np.concatenate([replies.responses for replies, _ in self.material.pairs]))
        rows = self._rng.permutation(rows)[:_LENGTHS]
        lengths = np.log(np.maximum(self.material.lengths[rows], 1))
        wanted = (lengths - lengths.mean()) / max(float(lengths.std()), 1e-6)
        vectors = self.material.vectors[rows].astype(np.float64)
        return np.append(*ridge(vectors, wanted, np.ones(len(rows)), _RIDGE)).astype(np.float32)

    def _contrast(self) -> Tensor:
        turns, responses, rows = self._drawn()
        asked, answered = self.network.mapped(turns, responses)
        same = torch.from_numpy(rows[:, None] == rows[None, :])
        same.fill_diagonal_(False)
        loss = 0.5 * told_from_others(self.network, asked, answered, turns, responses, same)
        return loss + contrast(asked, answered, same, _TEMPERATURE) if self.network.learns_maps else loss

    def _adversarial(self) -> Tensor:
        known = self.material.judgements.contrasted
        if known is None:
            return torch.zeros(())
        good, *bad = (self._logits(one) for one in known.at(self._rng.integers(known.learned, size=_JUDGED)))
        return 0.7 * told_apart(good, bad)

    def _logits(self, replies: Replies) -> Tensor:
        turns, responses = self._vectors(replies)
        return self.network(*self.network.mapped(turns, responses), turns, responses)  # type: ignore[no-any-return]

    @torch.no_grad()
    def _parts(self, replies: Replies) -> Tensor:
        """(n, 6): two cosines, the log odds of the hidden layer, the length and its square, and 1 for the bias."""
        network, (turns, responses) = self.network, self._vectors(replies)
        few, every = network._inputs(*network.mapped(turns, responses), turns, responses)
        hidden = network.inner_outer(F.gelu(network.inner(every), approximate="tanh"))
        lengths = torch.from_numpy(lengths_of(responses.numpy(), network.length))
        return torch.cat([few[:, :_COSINES], hidden, lengths, torch.ones_like(hidden)], 1)

    def _drawn(self) -> tuple[list[Tensor], Tensor, Rows]:
        """A batch of real replies: vectors of turns and responses, and the rows of the responses."""
        chosen = [
            source.at(self._rng.integers(len(source), size=size))
            for (source, _), size in zip(self.material.pairs, self._sizes, strict=True)
        ]
        turns = np.concatenate([one.turns for one in chosen])
        turns[self._rng.random(len(turns)) < _NO_CONTEXT, 1:] = -1
        both = Replies(turns, np.concatenate([one.responses for one in chosen]))
        return *self._vectors(both), both.responses

    def _vectors(self, replies: Replies) -> tuple[list[Tensor], Tensor]:
        vectors = self.material.vectors
        there = (replies.turns >= 0)[:, :, None]
        turns = vectors[np.maximum(replies.turns, 0)].astype(np.float32) * there
        responses = vectors[replies.responses].astype(np.float32)
        return [torch.from_numpy(np.ascontiguousarray(turns[:, k])) for k in range(TURNS)], torch.from_numpy(responses)


def _map(projection: Projection) -> Map:
    inner, outer = projection.inner, projection.outer
    return Map(*map(array_of, (inner.weight, inner.bias, outer.weight, outer.bias)))
