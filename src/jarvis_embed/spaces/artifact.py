"""The one file format of a space: safetensors, with the fingerprint of the model that made it in its header.

All models of the registry have equal dimensions, so nothing about the numbers tells whose they are. Therefore no
artifact is read without saying which fingerprint is expected. Format: https://huggingface.co/docs/safetensors,
"8 bytes N, little-endian; N bytes of JSON; then the tensors".
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..errors import FingerprintMismatch, SpaceDamaged
from ..home import open_private, reported

Array = npt.NDArray[Any]

_KINDS: Final = {"F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32, "U8": np.uint8}
_NAMES: Final = {np.dtype(kind): name for name, kind in _KINDS.items()}


@dataclass(frozen=True, slots=True)
class Stream:
    """A tensor that is written block by block, so that it never has to be in memory as a whole."""

    shape: tuple[int, ...]
    dtype: npt.DTypeLike
    blocks: Iterable[Array]


def write_artifact(path: Path, tensors: Mapping[str, Array | Stream], fingerprint: str) -> None:
    """Write ``tensors`` to ``path`` (0600), synced. The caller writes beside and renames.

    Raises:
        DiskFull, HomeNotWritable: what is at ``path`` is not whole.
    """
    streams = {n: t if isinstance(t, Stream) else Stream(t.shape, t.dtype, [t]) for n, t in tensors.items()}
    header: dict[str, object] = {"__metadata__": {"fingerprint": fingerprint}}
    end = 0
    for name, stream in streams.items():
        dtype = np.dtype(stream.dtype)
        start, end = end, end + dtype.itemsize * int(np.prod(stream.shape, dtype=np.int64))
        header[name] = {"dtype": _NAMES[dtype], "shape": list(stream.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode("ascii")
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8, so they can be mapped as they are
    with reported(path):
        path.unlink(missing_ok=True)  # never written over: another generation may share the file that is there
    with reported(path), os.fdopen(open_private(path, os.O_WRONLY | os.O_TRUNC), "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for stream in streams.values():
            for block in stream.blocks:
                file.write(np.ascontiguousarray(block, dtype=stream.dtype).data)
        file.flush()
        os.fsync(file.fileno())


def open_artifact(path: Path, fingerprint: str) -> dict[str, Array]:
    """Map ``path`` into memory, read-only: name → array. Nothing is read until it is touched.

    Raises:
        SpaceDamaged: missing, truncated, or no safetensors file.
        FingerprintMismatch: made by another model; names both.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header: dict[str, Any] = json.loads(file.read(length)) if 0 < length < size else {}
        found = header.pop("__metadata__")["fingerprint"]
        begin = 8 + length
        arrays = {name: _map(path, begin, size, stated) for name, stated in header.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SpaceDamaged(f"{path} is missing or damaged", "Build it again: jarvis-embed build") from error
    if found != fingerprint:
        raise FingerprintMismatch(
            f"{path} was made with fingerprint {found}, and the model has {fingerprint}",
            "Build it again: jarvis-embed build",
        )
    return arrays


def _map(path: Path, begin: int, size: int, stated: Mapping[str, Any]) -> Array:
    start, end = stated["data_offsets"]
    shape, dtype = tuple(stated["shape"]), np.dtype(_KINDS[stated["dtype"]])
    if end - start != dtype.itemsize * int(np.prod(shape, dtype=np.int64)) or begin + end > size:
        raise ValueError("a tensor does not fit its file")
    if start == end:  # an empty file region cannot be mapped
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", begin + start, shape)
