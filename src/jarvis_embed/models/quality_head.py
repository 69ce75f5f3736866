"""The quality head of a model: how good a reply is to the turns before it, 0 to 1, from vectors that are there already.

It reads what trigger and response are to each other, not what either is alone: cosines of the response with each turn,
the product and the difference of the two mapped vectors. The maps are those of the model
(``projections``), or, for an encoder that was not trained, maps of the head's own. On that stands one linear layer,
with a small layer beside it where that is worth it. Two files beside the weights: ``quality.safetensors``, and
``quality.json``, which says for which fingerprints it was made. Numpy only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..errors import WeightsDamaged
from ..home import write_json, write_private
from .engine import Vectors
from .projections import Projections, gelu, projections_of

HEAD_FILE, FACTS_FILE = "quality.safetensors", "quality.json"
FILES: Final = (HEAD_FILE, FACTS_FILE)
FORMAT: Final = 1

PARTS: Final = ("fit", "cosines", "product", "difference", "asked", "answered", "length")
"""What a head may read, in this order: cosine of asked and answered; of the bare response with each bare turn; their
product and absolute difference, (dim,) each; the two vectors; and how long the response is, as far as its bare vector
tells, with the square of that. *Asked* is the trigger with its context through the map for context, *answered* the
response through the map for responses."""

_INNER: Final = ("inner", "inner_bias", "inner_outer")
_LAYERS: Final = (*_INNER, "length")
_AGAIN: Final = "Train it again: jarvis-embed train quality"
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class QualityHead:
    """A trained head.

    Attributes:
        fingerprints: of the encoders it may be used with: the same weights in int8 and in fp32.
        parts: which of ``PARTS`` it reads. turns: how many turns, the trigger counted.
        outer: (f,) and ``bias``: the linear layer. inner: (w, f), inner_bias: (w,) and inner_outer: (w,): a layer with
            gelu beside it, whose log odds are added; None for a head that is linear.
        length: (dim + 1,): what a bare vector's product with it, with 1 behind, says of a reply's length (the logarithm
            of its tokens, in standard deviations); None for a head that does not ask.
        maps: maps of its own; None to use those of the model.
        facts: how it was made, and what it reached.
    """

    fingerprints: tuple[str, ...]
    parts: tuple[str, ...]
    turns: int
    outer: Floats
    bias: float
    inner: Floats | None = None
    inner_bias: Floats | None = None
    inner_outer: Floats | None = None
    length: Floats | None = None
    maps: Projections | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def scores(
        self,
        turns: Sequence[Vectors],
        responses: Vectors,
        projections: Projections,
        *,
        answered: Vectors | None = None,
    ) -> Floats:
        """How good each response is, (n,) float32, 0 to 1.

        Args:
            turns: the bare vectors of the trigger, of the turn before it, and so on, (n, dim) each, or (1, dim) where
                all responses have one context; zeros where nothing was said. More than ``self.turns`` are not read;
                fewer count as nothing said.
            responses: bare vectors, (n, dim).
            projections: the maps of the model.
            answered: (n, dim), what the model's map for replies made of ``responses``, where it is there already; a
                head with maps of its own does not read it.
        """
        logits = self.logits(turns, responses, projections, answered=answered)
        return np.asarray(1 / (1 + np.exp(-np.clip(logits, -30, 30))), np.float32)

    def logits(
        self,
        turns: Sequence[Vectors],
        responses: Vectors,
        projections: Projections,
        *,
        answered: Vectors | None = None,
    ) -> Floats:
        """The log odds of ``scores``."""
        inputs = self.inputs(turns, responses, projections, answered=answered)
        logits = inputs @ self.outer + self.bias
        if self.inner is not None and self.inner_bias is not None and self.inner_outer is not None:
            logits = logits + gelu(inputs @ self.inner.T + self.inner_bias) @ self.inner_outer
        return np.asarray(logits, np.float32)

    def inputs(
        self,
        turns: Sequence[Vectors],
        responses: Vectors,
        projections: Projections,
        *,
        answered: Vectors | None = None,
    ) -> Floats:
        """What the linear layers read, (n, f) float32."""
        maps, known = (projections, answered) if self.maps is None else (self.maps, None)
        return head_inputs(self.parts, self.turns, turns, responses, maps, known, self.length)


def head_inputs(
    parts: Sequence[str],
    read: int,
    turns: Sequence[Vectors],
    responses: Vectors,
    maps: Projections,
    answered: Vectors | None = None,
    length: Floats | None = None,
) -> Floats:
    """The parts of ``PARTS`` side by side, for ``read`` turns; ``answered`` is mapped here where it is None."""
    nothing = np.zeros_like(turns[0] if turns else responses)
    given = [*turns[:read], *[nothing] * max(0, max(read, 1 + maps.context_turns) - len(turns[:read]))]
    asked = given[0] if maps.context is None else maps.context(*given[: maps.context.inputs])
    if len(asked) != len(responses):  # one context for all: it was mapped once
        asked, given = np.broadcast_to(asked, responses.shape), [np.broadcast_to(t, responses.shape) for t in given]
    if answered is None:
        answered = responses if maps.response is None or not len(responses) else maps.response(responses)
    columns: dict[str, Callable[[], Floats]] = {
        "fit": lambda: np.einsum("nd,nd->n", asked, answered)[:, None],
        "cosines": lambda: np.stack([np.einsum("nd,nd->n", turn, responses) for turn in given[:read]], axis=1),
        "product": lambda: asked * answered,
        "difference": lambda: np.abs(asked - answered),
        "asked": lambda: asked,
        "answered": lambda: answered,
        "length": lambda: lengths_of(responses, length),
    }
    return np.concatenate([columns[part]() for part in PARTS if part in parts], axis=1).astype(np.float32, copy=False)


def lengths_of(responses: Vectors, length: Floats | None) -> Floats:
    """(n, 2): how long replies are, as far as their bare vectors tell, and the square of that."""
    if length is None:
        raise ValueError("the head does not know how long replies are")
    known = responses @ length[:-1] + length[-1]
    return np.stack([known, known**2], axis=1)


def width_of(parts: Sequence[str], turns: int, dim: int) -> int:
    """How many numbers ``head_inputs`` gives."""
    return sum({"fit": 1, "cosines": turns, "length": 2}.get(part, dim) for part in parts)


def write_head(folder: Path, head: QualityHead) -> None:
    """Write both files into ``folder``. The maps are kept in 16 bits, all else in 32.

    Raises:
        DiskFull, HomeNotWritable: as they say.
    """
    from safetensors.numpy import save

    tensors = {"outer": head.outer, "bias": np.array([head.bias], np.float32)}
    tensors |= {name: one for name in _LAYERS if (one := getattr(head, name)) is not None}
    for name in ("response", "context"):
        projection = None if head.maps is None else getattr(head.maps, name)
        if projection is not None:
            tensors |= {
                f"{name}.{part}": getattr(projection, part).astype(np.float16)
                for part in ("inner", "inner_bias", "outer", "outer_bias")
            }
    write_private(folder / HEAD_FILE, save({name: np.ascontiguousarray(one) for name, one in tensors.items()}))
    stated = {"format": FORMAT, "fingerprints": list(head.fingerprints), "parts": list(head.parts), "turns": head.turns}
    write_json(folder / FACTS_FILE, {**stated, "facts": dict(head.facts)})


def read_head(folder: Path, fingerprint: str, dim: int) -> QualityHead | None:
    """The head in ``folder`` for an encoder; None where there is none, or none for this fingerprint.

    Raises:
        WeightsDamaged: there is one and it is not whole.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = folder / FACTS_FILE
    if not path.is_file():
        return None
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
        if stated["format"] != FORMAT or fingerprint not in stated["fingerprints"]:
            return None
        tensors = load((folder / HEAD_FILE).read_bytes())
        return _head(stated, tensors, dim)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsDamaged(f"{path} or the file beside it is damaged", _AGAIN) from error


def _head(stated: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]], dim: int) -> QualityHead:
    parts, turns = tuple(map(str, stated["parts"])), int(stated["turns"])
    maps = projections_of(tensors, dim)
    inner, inner_bias, inner_outer = (tensors.get(name) for name in _INNER)
    outer, wide = np.asarray(tensors["outer"], np.float32), width_of(parts, turns, dim)
    if not parts or not set(parts) <= set(PARTS) or turns < 1:
        raise ValueError("unknown parts")
    layer = [one for one in (inner, inner_bias, inner_outer) if one is not None]
    shapes = [one.shape for one in layer]
    width = shapes[0][0] if shapes else 0
    if outer.shape != (wide,) or shapes not in ([], [(width, wide), (width,), (width,)]):
        raise ValueError("the layers do not fit")
    length = tensors.get("length")
    if ("length" in parts) != (length is not None) or (length is not None and length.shape != (dim + 1,)):
        raise ValueError("how long replies are does not fit")
    numbers = (tensors["bias"], outer, *layer, *([] if length is None else [length]))
    if not all(np.isfinite(one).all() for one in numbers):
        raise ValueError("a weight is no number")
    return QualityHead(
        fingerprints=tuple(stated["fingerprints"]),
        parts=parts,
        turns=turns,
        outer=outer,
        bias=float(tensors["bias"][0]),
        inner=None if inner is None else np.asarray(inner, np.float32),
        inner_bias=None if inner_bias is None else np.asarray(inner_bias, np.float32),
        inner_outer=None if inner_outer is None else np.asarray(inner_outer, np.float32),
        length=None if length is None else np.asarray(length, np.float32),
        maps=maps if maps.response is not None or maps.context is not None else None,
        facts=dict(stated["facts"]),
    )
