"""Int8 for the encoder: every product of activations and weights becomes one of integers.

Inputs and weights are cut into groups of 64 along the dimension that is summed over, and each group is rounded to
signed 8 bits by a scale of its own: that of a weight's group is fixed here, that of an activation's group is found
when it comes. So a vector does not depend on what else is in its batch, and nothing has to be calibrated.

A few channels of a BERT are ten to a hundred times larger than the others, and their group would be rounded far too
coarsely. Therefore each group is multiplied by a Hadamard matrix first, which spreads every channel evenly over its
group and leaves the product as it was, since the weights are multiplied by the same matrix: (x H)(Hᵀ W) = x W
(QuIP, Chee et al. 2023; QuaRot, Ashkboos et al. 2024). For the weights that is done here, once. For the heads' mean
of values the matrices before and after take it up; for the other three inputs ``graph`` and ``kernel.c`` do it.

What was tried before, and what each gave: docs/quantisation.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ..errors import ModelUnsupported
from .weights import BertConfig, Tensors

Floats = npt.NDArray[np.float32]

GROUP: Final = 64
"""Numbers that share a scale: the fewer, the nearer to fp32, and the more scales to multiply by."""


@dataclass(frozen=True, slots=True)
class Product:
    """One product in integers: ``x @ W + bias``.

    Attributes:
        weight: (K, N) int8, the rotated and rounded W.
        scale: (K / group, N) float32: weight × scale is the rotated W.
        bias: (N,) float32.
        group: how many of the K share a scale; ``GROUP``, or less where K is no multiple of it.
        rotate: whether x must be rotated in groups before it is rounded; else its maker has done so.
    """

    weight: npt.NDArray[np.int8]
    scale: Floats
    bias: Floats
    group: int
    rotate: bool


def quantise(config: BertConfig, tensors: Tensors) -> dict[str, Product]:
    """Quantise all products of the encoder: name of ``product_names`` → product.

    Raises:
        ModelUnsupported: a dimension of the model is no multiple of 16.
    """
    products: dict[str, Product] = {}
    for number in range(config.layers):
        names = product_names(f"encoder.layer.{number}.")
        # Joined heads are a mean of values. So the value matrix can rotate them, within each head.
        head = _power_of_two_in(config.hidden // config.heads)
        weight, bias = joined_qkv(tensors, f"encoder.layer.{number}.")
        values = slice(2 * config.hidden, None)
        weight[:, values] = rotated(weight[:, values].T, head).T
        bias[values] = rotated(bias[values, None], head)[:, 0]
        products[names["qkv"]] = _product(weight, bias)
        weight, bias = linear(tensors, names["joined"])
        products[names["joined"]] = _product(rotated(weight, head), bias, rotate=False)
        products |= {names[part]: _product(*linear(tensors, names[part])) for part in ("inner", "outer")}
    return products


def product_names(prefix: str) -> dict[str, str]:
    """The four products of a layer: query, key and value at once; the joined heads; both of the feed-forward layer."""
    return {
        "qkv": prefix + "qkv",
        "joined": prefix + "attention.output.dense",
        "inner": prefix + "intermediate.dense",
        "outer": prefix + "output.dense",
    }


def joined_qkv(tensors: Tensors, prefix: str) -> tuple[Floats, Floats]:
    """Query, key and value side by side: weight (H, 3H) and bias (3H,)."""
    parts = [linear(tensors, f"{prefix}attention.self.{part}") for part in ("query", "key", "value")]
    return np.concatenate([weight for weight, _ in parts], axis=1), np.concatenate([bias for _, bias in parts])


def rounded_rows(table: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """A table (V, H) in 8 bits, and the scale (V, 1) of each row."""
    scale = np.abs(table).max(1, keepdims=True) / np.float32(127) + np.float32(1e-12)
    return np.rint(table / scale).astype(np.int8), scale


def hadamard(size: int) -> Floats:
    """The symmetric orthogonal matrix of this size, a power of two, whose numbers are all equal but for their sign."""
    matrix = np.ones((1, 1), np.float32)
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix / np.float32(size**0.5)


def rotated(weight: Floats, size: int) -> Floats:
    """Multiply each ``size`` rows of (K, N) by a Hadamard matrix."""
    grouped = weight.reshape(-1, size, weight.shape[1])
    turned: Floats = np.matmul(hadamard(size), grouped).reshape(weight.shape)
    return turned


def linear(tensors: Tensors, name: str) -> tuple[Floats, Floats]:
    """Weight (K, N) and bias (N,) of one product."""
    return tensors[name + ".weight"].T, tensors[name + ".bias"]


def _product(weight: Floats, bias: Floats, *, rotate: bool = True) -> Product:
    """Round to nearest, each group and output by its largest weight."""
    inputs, outputs = weight.shape
    group = _power_of_two_in(inputs)
    if group < 16:
        raise ModelUnsupported(f"a dimension of {inputs} cannot be multiplied in int8", "Use the precision fp32")
    groups = (rotated(weight, group) if rotate else weight).reshape(-1, group, outputs)
    scale = np.abs(groups).max(1) / np.float32(127) + np.float32(1e-12)
    integers = np.rint(groups / scale[:, None]).astype(np.int8).reshape(inputs, outputs)
    return Product(integers, scale, np.ascontiguousarray(bias), group, rotate)


def _power_of_two_in(number: int) -> int:
    """The largest power of two that divides ``number``, ``GROUP`` at most."""
    return min(number & -number, GROUP)
