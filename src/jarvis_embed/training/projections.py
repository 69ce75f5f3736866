"""The maps of ``models/projections.py``, learnable."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  its usual name

from ..models.projections import Projection as StoredProjection
from ..models.projections import SegmentProjection as StoredSegmentProjection


class Projection(nn.Module):
    """``models.projections.Projection``, learnable. It begins as the identity: training starts at the parent."""

    def __init__(self, inputs: int, dim: int, width: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(inputs * dim, width), nn.Linear(width, dim)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    @property
    def inputs(self) -> int:
        return self.inner.in_features // self.outer.out_features

    @property
    def learned(self) -> bool:
        """Whether it is a map, and not the identity still."""
        return bool(self.outer.weight.any() or self.outer.bias.any())

    def take(self, stored: StoredProjection) -> None:
        """Become the map that a trained model has."""
        layers = ((self.inner, stored.inner, stored.inner_bias), (self.outer, stored.outer, stored.outer_bias))
        with torch.no_grad():
            for layer, weight, bias in layers:
                layer.weight.copy_(torch.from_numpy(weight))
                layer.bias.copy_(torch.from_numpy(bias))

    def forward(self, *vectors: Tensor) -> Tensor:
        mixed = self.outer(F.gelu(self.inner(torch.cat(vectors, -1)), approximate="tanh"))
        return F.normalize(vectors[0] + mixed, dim=-1)


class SegmentProjection(nn.Module):
    """``models.projections.SegmentProjection``, learnable. It begins as the text's own vector."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.attention = nn.Parameter(torch.zeros(dim))
        self.projection = Projection(3, dim, width)

    def take(self, stored: StoredSegmentProjection) -> None:
        """Become the map that a trained model has."""
        self.projection.take(stored.projection)
        with torch.no_grad():
            self.attention.copy_(torch.from_numpy(stored.attention))

    def forward(self, whole: Tensor, turns: Tensor, there: Tensor) -> Tensor:
        """(n, dim) from the texts' vectors, (n, dim), and the turns', (n, longest, dim); ``there``: (n, longest), False
        for no turn."""
        weights = (turns @ self.attention).masked_fill(~there, float("-inf")).softmax(1)
        weighted, plain = (turns * weights[:, :, None]).sum(1), (turns * there[:, :, None]).sum(1)
        return cast(Tensor, self.projection(whole, F.normalize(weighted, dim=-1), F.normalize(plain, dim=-1)))


def array_of(tensor: Tensor) -> Any:
    """A parameter as a float32 array of its own."""
    return np.ascontiguousarray(tensor.detach().cpu().float().numpy())
