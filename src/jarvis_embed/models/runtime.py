"""Sessions of onnxruntime: started in one place, with one clear error."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..errors import ModelError

if TYPE_CHECKING:
    import onnxruntime


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


def usable_cores() -> int:
    """How many cores this process may use: a container often gives fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
