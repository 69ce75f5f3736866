"""Generations: immutable builds of a space, one of them current.

    {model}/generations/000001/     a finished build; never changed again
    {model}/generations/building/   the next one, until it is finished
    {model}/current.json            which one is current, and which was before it

A generation becomes current when ``current.json`` is replaced, which is one rename. Whatever instant a process is
killed at, that file names a finished build.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from ..errors import SpaceDamaged, SpaceError
from ..home import make_private_folder, remove_folder, reported, sync_folder, write_json

BUILDING: Final = "building"


@dataclass(frozen=True, slots=True)
class Pointer:
    """Which generation of a space is current. ``switched_ms`` says since when, for ``rollback``."""

    current: str
    previous: str | None
    switched_ms: int


def generations_folder(model_folder: Path) -> Path:
    return model_folder / "generations"


def building_folder(model_folder: Path) -> Path:
    return generations_folder(model_folder) / BUILDING


def read_pointer(model_folder: Path) -> Pointer | None:
    """Read which generation is current; None where none was ever built.

    Raises:
        SpaceDamaged: the file is there and cannot be read.
    """
    path = model_folder / "current.json"
    try:
        pointer = Pointer(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise SpaceDamaged(f"{path} cannot be read", "Build it again: jarvis-embed build") from error
    return pointer


def current_folder(model_folder: Path) -> Path | None:
    """The folder of the current generation; None where none was ever built."""
    pointer = read_pointer(model_folder)
    return None if pointer is None else generations_folder(model_folder) / pointer.current


def promote(model_folder: Path, *, keep_previous: bool = True) -> str:
    """Make the finished build current, drop all generations but it and the one before, and return its name.

    Args:
        keep_previous: False drops the one before too, which holds the vectors of texts that must be forgotten.
    """
    folder = generations_folder(model_folder)
    numbers = [int(entry.name) for entry in folder.iterdir() if entry.name.isdigit()]
    name = f"{max(numbers, default=0) + 1:06d}"
    with reported(folder):
        building_folder(model_folder).rename(folder / name)
        sync_folder(folder)
    old = read_pointer(model_folder)
    _point(model_folder, Pointer(name, old.current if old and keep_previous else None, _now_ms()))
    prune(model_folder)
    return name


def roll_back(model_folder: Path) -> Pointer:
    """Make the generation before the current one current again; doing it twice undoes it.

    Raises:
        SpaceError: there is none.
    """
    pointer = read_pointer(model_folder)
    if pointer is None or pointer.previous is None:
        raise SpaceError(f"{model_folder.name} has no earlier generation", "Nothing was changed")
    if not (generations_folder(model_folder) / pointer.previous).is_dir():
        raise SpaceDamaged(f"generation {pointer.previous} of {model_folder.name} is gone", "Nothing was changed")
    turned = Pointer(pointer.previous, pointer.current, _now_ms())
    _point(model_folder, turned)
    return turned


def prune(model_folder: Path) -> None:
    """Delete every finished generation that the pointer does not name, such as one whose switch was killed."""
    pointer = read_pointer(model_folder)
    kept = {pointer.current, pointer.previous} if pointer else set()
    for entry in make_private_folder(generations_folder(model_folder)).iterdir():
        if entry.name.isdigit() and entry.name not in kept:
            remove_folder(entry)


def remove_generations(model_folder: Path) -> None:
    """Remove all generations of a space, the unfinished one too; the model's compiled files and weights stay."""
    with reported(model_folder):
        (model_folder / "current.json").unlink(missing_ok=True)
    remove_folder(generations_folder(model_folder))


def _point(model_folder: Path, pointer: Pointer) -> None:
    write_json(model_folder / "current.json", asdict(pointer))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
