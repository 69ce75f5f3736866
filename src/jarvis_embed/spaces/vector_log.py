"""What a build has embedded so far: an append-only file that survives being killed at any byte.

A record is the key of a text and its vector. A kill can only leave the last record short, and it is cut off.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..home import open_private, reported
from ..models.engine import Vectors
from ..text import normalise

KEY_BYTES = 16


def text_key(normalised: str) -> bytes:
    """The key of a normalised text: 16 bytes of its hash. The text itself is in no file of a space."""
    return hashlib.blake2b(normalised.encode("utf-8"), digest_size=KEY_BYTES).digest()


def segment_key(turns: Iterable[str]) -> bytes:
    """The key of a segment, by its turn texts: never that of a text which reads the same in one turn."""
    return text_key("\x1e".join(map(normalise, turns)))


def split_keys(keys: npt.NDArray[np.uint8]) -> list[bytes]:
    """The rows of an (n, 16) array of keys, as bytes."""
    raw = keys.tobytes()
    return [raw[start : start + KEY_BYTES] for start in range(0, len(raw), KEY_BYTES)]


class VectorLog:
    """Key → vector, in the order of appending.

    Attributes:
        rows: key → record number.
    """

    def __init__(self, path: Path, dim: int) -> None:
        self._path = path
        self._record = np.dtype([("key", np.uint8, KEY_BYTES), ("vector", np.float32, dim)])
        with reported(path):
            os.close(open_private(path, os.O_WRONLY))
            self._count = path.stat().st_size // self._record.itemsize
            os.truncate(path, self._count * self._record.itemsize)
        self.rows = {key.tobytes(): row for row, key in enumerate(self._records()["key"])}

    def append(self, keys: list[bytes], vectors: Vectors) -> None:
        """Add records and wait until the disk has them.

        Raises:
            DiskFull: no room; what was appended before stays.
        """
        records = np.empty(len(keys), self._record)
        records["key"] = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY_BYTES)
        records["vector"] = vectors
        with reported(self._path), self._path.open("ab") as file:
            file.write(records.tobytes())
            file.flush()
            os.fsync(file.fileno())
        first = self._count
        self.rows |= {key: first + i for i, key in enumerate(keys)}
        self._count += len(keys)

    def vectors(self) -> Vectors:
        """All vectors so far, mapped: (n, dim) float32."""
        return self._records()["vector"]

    def _records(self) -> npt.NDArray[np.void]:
        if self._count == 0:
            return np.empty(0, self._record)
        return np.memmap(self._path, self._record, "r")
