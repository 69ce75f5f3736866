"""The manifest of a generation: what it was made of, with what, and the checksum of every file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from ..errors import SpaceDamaged
from ..home import sha256_of, write_json

FORMAT: Final = 1
_NAME: Final = "manifest.json"
_LIBRARIES: Final = ("jarvis-embed", "onnxruntime", "faiss-cpu", "numpy", "tokenizers")


@dataclass(frozen=True, slots=True)
class FileMark:
    """Size and sha256 of a file."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """Attributes:
    library, revision: which messages the generation was made of.
    pairs, triggers, texts: counts; the latter two of different texts.
    cut: how many texts were longer than the model reads.
    min_similarity: below this cosine, a message is unlike anything in this history (see ``build``).
    segments: how many segments of threads can be searched.
    delta: how many of the pairs stand in a delta beside the files of an earlier generation (see ``delta``).
    """

    format: int
    model: str
    fingerprint: str
    precision: str
    dim: int
    library: str
    revision: int
    pairs: int
    triggers: int
    texts: int
    cut: int
    index: str
    min_similarity: float
    created: str
    versions: dict[str, str]
    files: dict[str, FileMark]
    delta: int = 0
    segments: int = 0


def library_versions() -> dict[str, str]:
    """Versions of what took part in the build."""
    return {name: metadata.version(name) for name in _LIBRARIES}


def file_marks(folder: Path, names: Iterable[str]) -> dict[str, FileMark]:
    return {name: FileMark((folder / name).stat().st_size, sha256_of(folder / name)) for name in names}


def write_manifest(folder: Path, manifest: Manifest) -> None:
    write_json(folder / _NAME, asdict(manifest))


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a generation.

    Raises:
        SpaceDamaged: missing, unreadable, or of another format.
    """
    path = folder / _NAME
    again = "Build it again: jarvis-embed build"
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
        if stated["format"] != FORMAT:
            raise SpaceDamaged(f"{path} has format {stated['format']}, and this program reads {FORMAT}", again)
        files = {name: FileMark(**mark) for name, mark in stated.pop("files").items()}
        return Manifest(**stated, files=files)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise SpaceDamaged(f"{path} is missing or damaged", again) from error


def check_files(folder: Path, manifest: Manifest, *, checksums: bool) -> None:
    """Compare every file with the manifest: its size, and its checksum too if asked (about 1 s for 1 GB).

    Raises:
        SpaceDamaged: names the first file that differs.
    """
    for name, mark in manifest.files.items():
        path = folder / name
        whole = path.is_file() and path.stat().st_size == mark.bytes
        if not whole or (checksums and sha256_of(path) != mark.sha256):
            raise SpaceDamaged(f"{path} is missing or damaged", "Build it again: jarvis-embed build --force")
