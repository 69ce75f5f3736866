"""Forgetting: what was stored of a contact, of a time, or at all; and nothing that is the host's.

A purge of a part takes the messages out of the library and builds the spaces anew. The generation before the current
one goes too: it holds vectors of what was removed, and from a vector much of a text can be guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from .config import config_path, remove_settings
from .conversations.quality_score import forget_own_weights
from .errors import InputError, ModelError, SpaceError
from .evaluation.comparison import comparison_path, report_path
from .forgetting import Wish, plain
from .home import embeddings_folder, locked, remove_folder, reported
from .library import Forgotten, Library
from .models.encoder import load_encoder
from .spaces.build import build
from .spaces.generations import building_folder, current_folder, generations_folder, remove_generations
from .spaces.manifest import read_manifest

WATCH_LOCK: Final = "watch.lock"
"""Held in the folder of the library while ``watch`` runs: it would bring back what is being removed."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class PurgeReport:
    """What was taken away.

    Attributes:
        rebuilt, removed: models whose spaces were built anew, or removed because they could not be.
    """

    messages: int
    conversations: int
    rebuilt: tuple[str, ...]
    removed: tuple[str, ...]


def would_forget(home: Path, wish: Wish) -> Forgotten:
    """Count what a purge would take away.

    Raises:
        InputError: nothing; a misspelt contact is not made a rule.
    """
    with Library.open(home) as library:
        counted = library.would_forget(wish)
        known = library.rules().knows(wish)  # a purge that was broken off may be finished
        if wish.contact is not None and not counted.messages and not known:
            like = get_close_matches(plain(wish.contact), [plain(name) for name in library.senders()], n=5, cutoff=0.5)
            meant = f"Did you mean {', '.join(like)}?" if like else "Give the name or number as the source has it"
            raise InputError(f"there is no message of {wish.contact}", meant)
    return counted


def forget(home: Path, wish: Wish, progress: Progress | None = None) -> PurgeReport:
    """Take away what ``wish`` says from library and spaces, for good; later ingests leave it out.

    Killed in between, the same purge, or a build, finishes it.

    Raises:
        HomeLocked: another process ingests, builds, watches, or has the library open.
        DiskFull, HomeNotWritable: as they say.
    """
    with _alone(home):
        with Library.open(home) as library:
            forgotten = library.forget(wish)
        for path in (comparison_path(home), report_path(home)):  # they are about what was, and a page may show it
            with reported(path):
                path.unlink(missing_ok=True)
        forget_own_weights(home)  # feedback on what is forgotten may be in them
        rebuilt, removed = [], []
    for folder in space_folders(home):
        if building_folder(folder).exists():
            remove_folder(building_folder(folder))
        try:
            manifest = read_manifest(current_folder(folder) or folder)
            encoder = load_encoder(folder.name, home=home, precision="fp32" if manifest.precision == "fp32" else "int8")
            build(encoder, home, progress=progress)
            rebuilt.append(folder.name)
        except (ModelError, SpaceError):  # without its weights, or without a pair that is left, there is no space
            remove_generations(folder)
            removed.append(folder.name)
    with Library.open(home) as library:
        library.overwrite_free_space()
    return PurgeReport(forgotten.messages, forgotten.conversations, tuple(rebuilt), tuple(removed))


def space_folders(home: Path) -> list[Path]:
    """The folders of models that have a space, or the beginning of one."""
    folder = embeddings_folder(home)
    return sorted(entry for entry in folder.iterdir() if generations_folder(entry).is_dir()) if folder.is_dir() else []


def purge_all(home: Path) -> list[str]:
    """Delete library, spaces, pulled and compiled models, the demo, and our key of the settings.

    Returns:
        what was removed, as paths.

    Raises:
        HomeLocked: another process is using it. HomeNotWritable: something could not be deleted.
    """
    removed = []
    with _alone(home):
        for folder in (embeddings_folder(home), home / "demo"):
            if folder.exists():
                remove_folder(folder)
                removed.append(str(folder))
    if remove_settings(home):
        removed.append(f'the key "embedding" of {config_path(home)}')
    return removed


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Hold every lock that ingesting, building or watching processes hold."""
    folder = embeddings_folder(home)
    with ExitStack() as stack:
        if folder.is_dir():
            stack.enter_context(locked(folder / WATCH_LOCK, "the library"))
            for space in space_folders(home):
                stack.enter_context(locked(space / "build.lock", f"the space of {space.name}"))
        yield
