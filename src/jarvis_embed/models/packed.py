"""A file of arrays that is used where it lies: mapped into memory, never copied, shared by all who have it open.

It is a safetensors file of a stricter kind: its arrays stand in the order in which they are used, and each begins where
a line of the processor's cache does. The library for such files sorts arrays when it writes, and copies when it reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Arrays = Mapping[str, npt.NDArray[Any]]

LINE: Final = 64
"""Bytes that are fetched from memory at once."""

_KINDS: Final[Mapping[str, np.dtype[Any]]] = {"F32": np.dtype("<f4"), "I32": np.dtype("<i4"), "I8": np.dtype("i1")}


def serialised(arrays: Arrays) -> bytes:
    """Write float32, int32 and int8 arrays in their order; one of a size that is no multiple of ``LINE`` comes last."""
    names = {dtype: name for name, dtype in _KINDS.items()}
    described: dict[str, object] = {}
    parts: list[memoryview] = []
    end = 0
    for name, array in arrays.items():
        start, end = end, end + array.nbytes
        described[name] = {"dtype": names[array.dtype], "shape": array.shape, "data_offsets": [start, end]}
        parts.append(np.ascontiguousarray(array).data.cast("B"))
    header = json.dumps(described).encode("ascii")
    header += b" " * (-(8 + len(header)) % LINE)
    return b"".join([len(header).to_bytes(8, "little"), header, *parts])


def views(content: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
    """The arrays in ``content``, which holds what ``serialised`` gave or another safetensors file of such arrays."""
    start = 8 + int.from_bytes(content[:8].tobytes(), "little")
    described = json.loads(content[8:start].tobytes())
    return {
        name: content[start:][slice(*about["data_offsets"])].view(_KINDS[about["dtype"]]).reshape(about["shape"])
        for name, about in described.items()
    }
