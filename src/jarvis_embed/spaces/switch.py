"""Which space answers: ``use`` another model, and undo the last switch."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from ..config import Settings, load_settings, save_settings
from ..errors import SpaceError, SpaceStale
from ..library import Library
from ..models.encoder import load_encoder
from ..models.lineage import require_passed
from ..models.store import find_model, model_home
from .generations import generations_folder, read_pointer, roll_back
from .manifest import check_files
from .space import Space


@dataclass(frozen=True, slots=True)
class Switch:
    """What changed: the model that answers, or the generation of one model's space."""

    what: str
    before: str
    after: str


def use_model(name: str, home: Path) -> Switch:
    """Make ``name`` the model that answers, if its space is whole and up to date, and it passed its exam if trained.

    Raises:
        ModelRefused: it did not.
        SpaceMissing, SpaceStale, SpaceDamaged, FingerprintMismatch: it is not; nothing was changed. The message
            says how to build it.
    """
    settings = load_settings(home)
    require_passed(find_model(name, home))
    _ready(name, home, settings)
    _answer_with(name, home, settings)
    return Switch("model", settings.model, name)


def undo_switch(home: Path) -> Switch:
    """Undo the last switch, be it ``use`` or the ``build`` of a new generation. Done twice, it redoes it.

    Raises:
        SpaceError: there is nothing to undo, or what was before cannot be used; nothing was changed.
    """
    settings = load_settings(home)
    folder = model_home(settings.model, home)
    pointer = read_pointer(folder)
    if settings.previous_model and (pointer is None or settings.switched_ms > pointer.switched_ms):
        _ready(settings.previous_model, home, settings, stale_too=True)
        _answer_with(settings.previous_model, home, settings)
        return Switch("model", settings.model, settings.previous_model)
    if pointer is None or pointer.previous is None:
        raise SpaceError(f"there is nothing before the current space of {settings.model}", "Nothing was changed")
    before = generations_folder(folder) / pointer.previous
    encoder = load_encoder(settings.model, home=home, precision=settings.precision)
    with Library.open(home) as library:
        check_files(before, Space.at(before, encoder, library).manifest, checksums=True)
    turned = roll_back(folder)
    return Switch(f"generation of {settings.model}", pointer.current, turned.current)


def _ready(name: str, home: Path, settings: Settings, *, stale_too: bool = False) -> None:
    with Space.open(name, home=home, precision=settings.precision) as space:
        check_files(space.folder, space.manifest, checksums=True)
        if space.is_stale and not stale_too:
            raise SpaceStale(
                f"the space of {name} was built before the messages changed", f"Build it: jarvis-embed build {name}"
            )


def _answer_with(name: str, home: Path, settings: Settings) -> None:
    changed = {"model": name, "previous_model": settings.model, "switched_ms": time.time_ns() // 1_000_000}
    save_settings(home, settings.model_copy(update=changed))
