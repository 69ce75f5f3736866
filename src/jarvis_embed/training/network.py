"""The model while it is trained: a BERT encoder under torch with its projections, and how it becomes a folder again."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  its usual name

from ..errors import TrainingError
from ..home import make_private_folder, reported, write_private
from ..labels.scheme import LABELS, TASKS, Task
from ..models.engine import READ
from ..models.lineage import LINEAGE_FILE
from ..models.projections import PROJECTIONS_FILE, Projections, read_projections
from ..models.prototypes import Prototypes
from ..models.quality_head import FACTS_FILE
from ..models.runtime import TOKEN_BUDGET, batches
from ..models.weights import ModelFolder, load_tensors
from ..models.words import Words
from .judgements import Replies
from .projections import Projection, SegmentProjection, array_of
from .quality_head import HeadNetwork, HeadRecipe
from .recipe import Recipe
from .texts import Tokens

_OF_THE_PARENT: Final = (LINEAGE_FILE, FACTS_FILE)
"""What a trained parent has beside its weights and a child does not inherit: its course and exam, its quality head."""

_SHARP: Final = 20.0
"""Vectors of length 1 say little to a linear map whose weights begin near 0."""


class Network(nn.Module):
    """Tokens in, unit vectors out, with gradients.

    Args:
        model: where training starts.
        context_turns: how many turns before a trigger are read.
        width: of the projections' hidden layer.
        answer_dim: of the reference, under which answers are expected; that of the model if None.
        frozen_layers: the lowest layers that stay as they are; the word embeddings always do.
        judges: whether it has a quality head, which reads what the maps of replies and of context give.
        labels: whether it has the maps from which the objective of that name reads labels.
        bf16: multiply in bfloat16; faster on processors that can.
    """

    def __init__(
        self,
        model: ModelFolder,
        *,
        context_turns: int,
        width: int,
        answer_dim: int | None = None,
        frozen_layers: int = 0,
        dropout: float = 0.1,
        judges: bool = False,
        labels: bool = False,
        bf16: bool = False,
    ) -> None:
        super().__init__()
        self.bert = _bert(model, dropout)
        dim = model.config.hidden
        self.response = Projection(1, dim, width)
        self.context = Projection(1 + context_turns, dim, width)
        self.segment = SegmentProjection(dim, width)
        self.expectation = nn.Linear(dim, answer_dim or dim)  # of the answer, by the reference; it serves training only
        self.labels = _label_maps(dim) if labels else None  # of what a classifier should say; it serves training only
        self.quality = HeadNetwork(dim, HeadRecipe(width=width), maps=False) if judges else None
        self.words: Words | None = None  # of segments; counted, and not learned by steps
        self.prototypes: Prototypes | None = None  # of segments, likewise
        self.context_turns, self.pooling, self.bf16 = context_turns, model.pooling, bf16
        self.bert.embeddings.word_embeddings.weight.requires_grad_(False)
        if frozen_layers:
            self.bert.embeddings.requires_grad_(False)
        for layer in self.bert.encoder.layer[:frozen_layers]:
            layer.requires_grad_(False)

    @property
    def device(self) -> torch.device:
        return self.response.inner.weight.device

    @property
    def vocabulary(self) -> int:
        """How many different tokens there are."""
        return int(self.bert.config.vocab_size)

    def projections(self) -> list[nn.Parameter]:
        """The parameters beside the encoder."""
        parts = (self.response, self.context, self.segment, self.expectation, self.quality, self.labels)
        return [parameter for part in parts if part is not None for parameter in part.parameters()]

    def take(self, stored: Projections) -> None:
        """Go on from the maps of a trained model, where they are made as ours are."""
        pairs = ((self.response, stored.response), (self.context, stored.context))
        for mine, theirs in pairs:
            if theirs is not None and theirs.inner.shape == tuple(mine.inner.weight.shape):
                mine.take(theirs)
        segment = stored.segment
        if segment is not None and segment.projection.inner.shape == tuple(self.segment.projection.inner.weight.shape):
            self.segment.take(segment)
            self.words, self.prototypes = stored.words, segment.prototypes

    def forward(self, texts: Sequence[Tokens]) -> Tensor:
        """(n, dim), rows of length 1, in the order of ``texts``."""
        return self.vectors_of(self.readings(texts))

    def vectors_of(self, readings: Tensor) -> Tensor:
        """(n, dim), the vectors of texts out of their readings."""
        return readings[:, : readings.shape[1] // READ]

    def readings(self, texts: Sequence[Tokens]) -> Tensor:
        """(n, READ · dim), as an engine gives them, in the order of ``texts``; like lengths pass side by side."""
        groups = list(batches(list(map(len, texts)), TOKEN_BUDGET))
        rows = [self._pooled([texts[row] for row in group]) for group in groups]
        order = torch.tensor([row for group in groups for row in group], device=self.device)
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order), device=self.device)
        return torch.cat(rows)[back]

    def in_context(self, vectors: Tensor, triggers: Tensor, contexts: Tensor) -> Tensor:
        """(n, dim): triggers with the turns before them.

        Args:
            vectors: (texts, dim). triggers: (n,) rows of it.
            contexts: (n, context_turns) rows of it, the latest turn first; -1 where nothing was said.
        """
        with_nothing = _with_nothing(vectors)
        return cast(Tensor, self.context(vectors[triggers], *(with_nothing[rows] for rows in contexts.T)))

    def labelled(self, triggers: Tensor, responses: Tensor) -> dict[Task, Tensor]:
        """For each task (n, labels) logits, by what stands in readings beside the vectors, which stay what they are; of
        responses by their triggers' too.

        Args:
            triggers, responses: (n, READ · dim).

        Raises:
            TrainingError: the network was made without these maps.
        """
        if self.labels is None:
            raise TrainingError("labels are wanted of a network without maps for them", "Give it some: labels=True")
        asked, answered = (one[:, one.shape[1] // READ :] for one in (triggers, responses))
        inputs: dict[Task, Tensor] = {"trigger": asked, "response": torch.cat([answered, asked], -1)}
        return {task: self.labels[task](_SHARP * read) for task, read in inputs.items()}

    def of_replies(self, vectors: Tensor, replies: Replies) -> tuple[Tensor, Tensor, list[Tensor], Tensor]:
        """What the quality head reads: asked and answered, (n, dim), the bare turns, and the bare responses.

        Args:
            vectors: (texts, dim). replies: rows of it.
        """
        with_nothing = _with_nothing(vectors)
        rows = torch.from_numpy(replies.turns).to(self.device)
        turns, responses = [with_nothing[column] for column in rows.T], with_nothing[replies.responses]
        said = [*turns, *[torch.zeros_like(responses)] * (1 + self.context_turns - len(turns))]
        return self.context(*said[: 1 + self.context_turns]), self.response(responses), turns, responses

    def _pooled(self, texts: Sequence[Tokens]) -> Tensor:
        longest = max(map(len, texts))
        ids = np.zeros((len(texts), longest), np.int64)
        mask = np.zeros((len(texts), longest), np.int64)
        for row, tokens in enumerate(texts):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        there = torch.from_numpy(mask).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            found = self.bert(input_ids=torch.from_numpy(ids).to(self.device), attention_mask=there).last_hidden_state
        found = found.float()
        first, mean = found[:, 0], (found * there[:, :, None]).sum(1) / there.sum(1, keepdim=True)
        last = found[torch.arange(len(found), device=self.device), there.sum(1) - 1]
        parts = (first, mean, last) if self.pooling == "cls" else (mean, first, last)
        return torch.cat([F.normalize(part, dim=-1) for part in parts], -1)


def network_of(parent: ModelFolder, recipe: Recipe, answer_dim: int, place: str = "cpu") -> Network:
    """The network that a run by this recipe begins with, on the device of that name; with the maps of a parent that has
    some of its own."""
    torch.manual_seed(recipe.seed)
    network = Network(
        parent,
        context_turns=recipe.context_turns,
        width=recipe.width,
        answer_dim=answer_dim,
        frozen_layers=recipe.frozen_layers,
        dropout=recipe.dropout,
        judges=bool(recipe.objectives.quality),
        labels=bool(recipe.objectives.labels),
        bf16=place == "cuda" or (place == "cpu" and _multiplies_bf16()),
    )
    network.take(read_projections(parent.folder, parent.config.hidden))
    return network.to(place)


def save_network(network: Network, parent: ModelFolder, folder: Path) -> None:
    """Write a folder in sentence-transformers layout: the parent's small files, our weights, our projections.

    Raises:
        DiskFull, HomeNotWritable: as they say.
    """
    from safetensors.numpy import save

    make_private_folder(folder)
    with reported(folder):
        for path in parent.folder.rglob("*"):
            if path.suffix in (".json", ".txt") and path.is_file() and path.name not in _OF_THE_PARENT:
                copy = folder / path.relative_to(parent.folder)
                make_private_folder(copy.parent)
                shutil.copyfile(path, copy)
                copy.chmod(0o600)
    weights = {name: array_of(value) for name, value in network.bert.state_dict().items()}
    write_private(folder / "model.safetensors", save(weights))
    sides = {
        f"{side}.{part}{'_bias' if of == 'bias' else ''}": array_of(getattr(getattr(projection, part), of))
        for side, projection in (
            ("response", network.response),
            ("context", network.context),
            ("segment", network.segment.projection),
        )
        if projection.learned
        for part in ("inner", "outer")
        for of in ("weight", "bias")
    }
    if network.segment.projection.learned:
        sides["segment.attention"] = array_of(network.segment.attention)
    if network.words is not None:
        sides |= {"words.weights": network.words.weights, "words.room": network.words.room}
    if network.prototypes is not None:
        known = network.prototypes
        sides |= {"prototypes.places": known.places.astype(np.float16), "prototypes.crowding": known.crowding}
        sides |= {"prototypes.pull": np.array([known.pull], np.float32)}
    if sides:
        write_private(folder / PROJECTIONS_FILE, save(sides))


def _multiplies_bf16() -> bool:
    """Whether this processor multiplies in bfloat16 itself: a step then takes 40 % of the time (docs/training.md)."""
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def _bert(model: ModelFolder, dropout: float) -> Any:
    """The encoder under torch, from weights that were read and checked by ourselves (fp16 and bf16 become fp32)."""
    from transformers import BertConfig, BertModel

    config: Any = BertConfig.from_pretrained(model.folder)
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout
    bert: Any = BertModel(config, add_pooling_layer=False)
    bert.load_state_dict({name: torch.from_numpy(array) for name, array in load_tensors(model).items()}, strict=False)
    return bert.float()


def _label_maps(dim: int) -> nn.ModuleDict:
    """For ``Network.labelled``: linear maps of what stands beside one vector, or beside two."""
    beside = (READ - 1) * dim
    inputs = {"trigger": beside, "response": 2 * beside}
    return nn.ModuleDict({task: nn.Linear(inputs[task], len(LABELS[task])) for task in TASKS})


def _with_nothing(vectors: Tensor) -> Tensor:
    """A row of zeros behind the others: -1 leads there, where nothing was said."""
    return torch.cat([vectors, vectors.new_zeros(1, vectors.shape[1])])
