"""Int8 for the encoder: every product of activations and weights becomes one of integers, with fixed scales.

A product ``x @ W + b`` is computed as ``(round(x · inverse / scale) @ Q) · scale · weight_scale + bias`` with unsigned
8-bit activations and signed 8-bit weights. The scales are found once, from the activations of calibration texts, so
a vector never depends on what else is in its batch. Six things keep it near the fp32 one:

- ``_smoothing``: channels whose activations are large lend size to their weights, which have room for it
  (SmoothQuant, Xiao et al. 2022). Where the product before is linear, it does the division and nothing is left to do.
- ``_copies``: a channel that is still far larger than the others is split into several, each with an equal part of
  its weights (outlier channel splitting, Zhao et al. 2019).
- ``_rounded``: weights are rounded one input channel after the other, and the error of each is passed on to those
  not rounded yet, as far as the activations make them exchangeable (GPTQ, Frantar et al. 2022).
- what rounding loses of the activations after GELU, which lose most, is multiplied as well in every other layer.
- the bias takes back the mean of the error that is left (Nagel et al. 2019).
- the range is a little wider than what calibration saw: clipping hurts one text much, coarseness hurts all little.

What was tried and what each gave: docs/quantisation.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from .weights import BertConfig, Tensors

Floats = npt.NDArray[np.float32]
Activations = Mapping[str, Floats]
"""Name of a product → what flowed into it: (tokens, channels)."""

_STRENGTH: Final = 0.7
_STRENGTH_AFTER_GELU: Final = 0.5
_MARGIN: Final = 1.05
_SPLIT_SHARE: Final = 24  # one more channel for every so many
_REFINED_EVERY: Final = 2
_DAMPING: Final = 0.01
_BLOCK: Final = 128


@dataclass(frozen=True, slots=True)
class Product:
    """One product in integers.

    Attributes:
        weight: (K, N) int8.
        weight_scale: (N,) float32, one for each output.
        bias: (N,) float32, added after the product.
        scale, zero_point: an activation x stands as the uint8 ``round(x · inverse / scale) + zero_point``.
        inverse: (K,) float32, or None where the product before has this factor in its weights.
        refined: what rounding the activations loses is multiplied too, in a second product with the same weights.
    """

    weight: npt.NDArray[np.int8]
    weight_scale: Floats
    bias: Floats
    scale: np.float32
    zero_point: np.uint8
    inverse: Floats | None
    refined: bool = False


def quantise(config: BertConfig, tensors: Tensors, activations: Activations) -> dict[str, Product]:
    """Quantise all products of the encoder.

    Args:
        activations: for each name of ``product_names``, what flowed into it in the fp32 encoder.

    Returns:
        name → product. The first product of a feed-forward layer gives, and the second takes, some channels twice.
    """
    products: dict[str, Product] = {}
    for number in range(config.layers):
        prefix = f"encoder.layer.{number}."
        products |= _attention(tensors, prefix, activations)
        feed_forward = _feed_forward(tensors, prefix, activations)
        if number % _REFINED_EVERY == 0:
            outer = product_names(prefix)["outer"]
            feed_forward[outer] = replace(feed_forward[outer], refined=True)
        products |= feed_forward
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
    names = [f"{prefix}attention.self.{part}" for part in ("query", "key", "value")]
    weight = np.concatenate([tensors[name + ".weight"].T for name in names], axis=1)
    return weight, np.concatenate([tensors[name + ".bias"] for name in names])


def _attention(tensors: Tensors, prefix: str, activations: Activations) -> dict[str, Product]:
    """Joined heads first: they are a mean of values, so their smoothing can be done by the value matrix."""
    names = product_names(prefix)
    inputs = activations[names["joined"]]
    weight = tensors[names["joined"] + ".weight"].T
    smoothing = _smoothing(inputs, weight, _STRENGTH)
    joined = _product(weight, tensors[names["joined"] + ".bias"], inputs, smoothing)
    weight, bias = joined_qkv(tensors, prefix)
    hidden = weight.shape[0]
    weight[:, 2 * hidden :] /= smoothing
    bias[2 * hidden :] /= smoothing
    inputs = activations[names["qkv"]]
    qkv = _product(weight, bias, inputs, _smoothing(inputs, weight, _STRENGTH))
    return {names["qkv"]: qkv, names["joined"]: replace(joined, inverse=None)}


def _feed_forward(tensors: Tensors, prefix: str, activations: Activations) -> dict[str, Product]:
    names = product_names(prefix)
    inner, outer = activations[names["inner"]], activations[names["outer"]]
    first, second = tensors[names["inner"] + ".weight"].T, tensors[names["outer"] + ".weight"].T
    copies = _copies(outer, second)
    channel = np.repeat(np.arange(len(copies)), copies)
    first = first[:, channel]
    second = np.divide(second[channel], copies[channel, None], dtype=np.float32)
    outer = outer[:, channel]
    return {
        names["inner"]: _product(
            first, tensors[names["inner"] + ".bias"][channel], inner, _smoothing(inner, first, _STRENGTH)
        ),
        names["outer"]: _product(
            second,
            tensors[names["outer"] + ".bias"],
            outer,
            _smoothing(outer, second, _STRENGTH_AFTER_GELU),
        ),
    }


def _smoothing(inputs: Floats, weight: Floats, strength: float) -> Floats:
    """What each input channel is divided by: largest activation ** strength / largest weight ** (1 − strength)."""
    largest_input = np.abs(inputs).max(0) * _MARGIN + 1e-6
    largest_weight = np.abs(weight).max(1) + 1e-6
    smoothing = largest_input**strength / largest_weight ** (1 - strength)
    smoothing /= np.exp(np.log(smoothing).mean())
    return np.asarray(np.maximum(smoothing, 1e-3), np.float32)


def _copies(inputs: Floats, weight: Floats) -> npt.NDArray[np.int64]:
    """How often each channel shall stand: copies go where range × weight, and so the rounding error, is largest."""
    error = (np.ptp(inputs, axis=0) * np.linalg.norm(weight, axis=1)) ** 2
    copies = np.ones(len(error), np.int64)
    for _ in range(len(error) // _SPLIT_SHARE):
        copies[np.argmax(error / copies**2)] += 1
    return copies


def _product(weight: Floats, bias: Floats, inputs: Floats, smoothing: Floats) -> Product:
    """Quantise one product whose inputs are divided by ``smoothing`` first."""
    smooth_inputs, smooth_weight = inputs / smoothing, weight * smoothing[:, None]
    low = min(0.0, float(smooth_inputs.min())) * _MARGIN
    high = max(1e-6, float(smooth_inputs.max())) * _MARGIN
    scale = np.float32((high - low) / 255)
    zero_point = np.uint8(np.clip(round(-low / float(scale)), 0, 255))
    steps = np.clip(np.rint(smooth_inputs / scale) + np.float32(zero_point), 0, 255) - np.float32(zero_point)
    seen = (steps * scale).astype(np.float32)  # what the integers make of the inputs
    weight_scale = (np.abs(smooth_weight).max(0) / 127 + 1e-12).astype(np.float32)
    rounded = _rounded(smooth_weight, weight_scale, seen.T @ seen / np.float32(len(seen)))
    lost = smooth_inputs.mean(0) @ smooth_weight - seen.mean(0) @ (rounded * weight_scale)
    return Product(
        rounded, weight_scale, (bias + lost).astype(np.float32), scale, zero_point, np.float32(1) / smoothing
    )


def _rounded(weight: Floats, scale: Floats, moments: Floats) -> npt.NDArray[np.int8]:
    """Round ``weight`` / ``scale`` to int8 so that the product, not each weight, errs least.

    Args:
        moments: (K, K), the mean of x xᵀ over the inputs x.
    """
    order = np.argsort(-np.diag(moments), kind="stable")  # large channels first: others can still make good for them
    rest = weight[order].astype(np.float64)
    damped = moments[order][:, order].astype(np.float64)
    damped[np.diag_indices_from(damped)] += _DAMPING * np.diag(damped).mean() + 1e-12
    passing_on = np.linalg.cholesky(np.linalg.inv(damped)).T  # upper triangle: how an error is spread over later rows
    result = np.empty(weight.shape, np.int8)
    for start in range(0, len(rest), _BLOCK):
        end = min(start + _BLOCK, len(rest))
        errors = np.empty((end - start, rest.shape[1]))
        for row in range(start, end):
            result[row] = np.clip(np.rint(rest[row] / scale), -127, 127)
            errors[row - start] = (rest[row] - result[row] * scale) / passing_on[row, row]
            rest[row + 1 : end] -= np.outer(passing_on[row, row + 1 : end], errors[row - start])
        rest[end:] -= passing_on[start:end, end:].T @ errors
    unordered = np.empty_like(result)
    unordered[order] = result
    return unordered
