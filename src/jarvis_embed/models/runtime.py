"""onnxruntime: sessions started in one place, with one clear error; and the engine that runs a graph in one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from ..errors import ModelError
from .engine import READ, Progress, Tokens, Vectors
from .machine import usable_cores

if TYPE_CHECKING:
    import onnxruntime

TOKEN_BUDGET: Final = 1024
"""Tokens in one batch, padding included: enough to fill the cores, few enough to stay in their caches."""


class OnnxEngine:
    """An encoder as an ONNX graph, see ``graph``."""

    name = "onnx"

    def __init__(self, graph: bytes, threads: int | None = None) -> None:
        self._session = start_session(graph, threads)
        self.dim = int(self._session.get_outputs()[0].shape[1]) // READ

    def one(self, tokens: Tokens) -> Vectors:
        """Nothing to sort, nothing to pad."""
        ids = np.array([tokens], np.int32)
        (reading,) = self._session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        return reading  # type: ignore[no-any-return]

    def many(self, tokens: Sequence[Tokens], progress: Progress) -> Vectors:
        """Texts of like length together, padded at the right with zeros, which the mask keeps out."""
        readings = np.empty((len(tokens), READ * self.dim), np.float32)
        for batch in batches([len(of_text) for of_text in tokens], TOKEN_BUDGET):
            ids = np.zeros((len(batch), max(len(tokens[i]) for i in batch)), np.int32)
            mask = np.zeros_like(ids)
            for row, i in enumerate(batch):
                ids[row, : len(tokens[i])] = tokens[i]
                mask[row, : len(tokens[i])] = 1
            (readings[batch],) = self._session.run(None, {"input_ids": ids, "attention_mask": mask})
            progress(len(batch))
        return readings


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Group positions so that like lengths meet and no group, padded, holds more than ``budget`` tokens.

    Longest first: then the most memory is asked for at once, at the beginning. A text longer than the budget is a
    group of its own.
    """
    group: list[int] = []
    longest = 0
    for position in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        longest = longest or lengths[position]
        if group and longest * (len(group) + 1) > budget:
            yield group
            group, longest = [], lengths[position]
        group.append(position)
    if group:
        yield group


def start_session(graph: bytes, threads: int | None = None) -> onnxruntime.InferenceSession:
    """Start a session for a serialised ONNX model.

    Args:
        threads: cores for one call; all if None.

    Raises:
        ModelError: this onnxruntime lacks an operator of the graph, or cannot run it for another reason.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base of their own
        raise ModelError(
            f"onnxruntime {onnxruntime.__version__} cannot run the compiled model ({type(error).__name__})",
            "Install a current one (pip install --upgrade onnxruntime), or use the settings key precision: fp32",
        ) from error
