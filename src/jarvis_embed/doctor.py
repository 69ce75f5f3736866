"""What is wrong here, and what to do about it: home, settings, library, models, spaces, sources, disk.

Everything is looked at and nothing is changed, but for the modes of our files if that is asked for. No finding quotes
a message.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from .config import Precision, load_settings
from .errors import JarvisEmbedError, SourceMissing, SpaceDamaged
from .home import FILE_MODE, FOLDER_MODE, embeddings_folder
from .library import Coverage, Library
from .models.compiled import compiled_folder, identify
from .models.encoder import load_encoder
from .models.store import find_model, locate
from .purge import space_folders
from .sources.chat_db import ChatDbSource
from .sources.chat_rows import NOT_READABLE
from .sources.kinds import READERS, open_source, require_access
from .spaces.generations import building_folder, generations_folder, read_pointer
from .spaces.manifest import Manifest, check_files, read_manifest

MESSAGES: Final = Path("~/Library/Messages/chat.db")
"""Where macOS keeps the history of Messages."""

_SPARE: Final = 200_000_000
"""Bytes that a disk should have left beside what a build writes."""

Verdict = Literal["good", "note", "broken"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        verdict: ``broken`` where something does not work or must be done, ``note`` where something could be.
        next_step: what to do; empty where it is good.
    """

    area: str
    verdict: Verdict
    said: str
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class Examination:
    """All findings, and what the library holds of each source."""

    findings: tuple[Finding, ...]
    coverage: tuple[Coverage, ...]

    @property
    def healthy(self) -> bool:
        return all(finding.verdict != "broken" for finding in self.findings)


Progress = Callable[[str, int, int], None]


def examine(home: Path, *, fix: bool = False, progress: Progress | None = None) -> Examination:
    """Look at everything; a database of Messages is read as a whole.

    Args:
        fix: set the modes of our files and folders right.
        progress: called with (stage, conversations done, their number) while a history is read.
    """
    coverage: list[Coverage] = []
    findings = [
        *_reported("home", lambda: _home(home, fix)),
        *_reported("settings", lambda: _settings(home)),
        *_reported("library", lambda: _library(home, coverage)),
        *_reported("model", lambda: _model(home)),
        *_reported("space", lambda: _spaces(home)),
        *_reported("source", lambda: _sources(coverage, progress)),
        *_reported("disk", lambda: _disk(home)),
    ]
    return Examination(tuple(findings), tuple(coverage))


def _reported(area: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings of ``look``; an error of ours is one of them."""
    try:
        yield from look()
    except JarvisEmbedError as error:
        yield Finding(area, "broken", error.problem, error.next_step)


def _home(home: Path, fix: bool) -> Iterator[Finding]:
    folder = embeddings_folder(home)
    if not folder.is_dir():
        yield Finding("home", "note", f"nothing is stored in {home} yet", "Begin: jarvis-embed ingest SOURCE")
        return
    if not os.access(folder, os.W_OK | os.X_OK):
        yield Finding("home", "broken", f"{folder} cannot be written by this user", "Give it to this user: chown")
    wrong = list(_open_to_others([folder, home / "demo"]))
    if wrong and fix:
        for path, mode in wrong:
            path.chmod(mode)
        yield Finding(
            "home", "good", f"{len(wrong)} files and folders in {home} could be read by others; they cannot now"
        )
    elif wrong:
        said = f"{len(wrong)} files and folders in {home} can be read by others, {wrong[0][0].name} for one"
        yield Finding("home", "broken", said, "Close them: jarvis-embed doctor --fix")
    else:
        yield Finding("home", "good", f"{home}: all our files are private")


def _open_to_others(folders: list[Path]) -> Iterator[tuple[Path, int]]:
    """Each of our files and folders that another user may touch, with the mode that it should have."""
    for folder in folders:
        for path in [folder, *sorted(folder.rglob("*"))] if folder.is_dir() else []:
            mode = path.lstat().st_mode
            if not stat.S_ISLNK(mode) and stat.S_IMODE(mode) & 0o077:
                yield path, FOLDER_MODE if stat.S_ISDIR(mode) else FILE_MODE


def _settings(home: Path) -> Iterator[Finding]:
    settings = load_settings(home)
    yield Finding("settings", "good", f"{settings.model} answers, in {settings.precision}")


def _library(home: Path, coverage: list[Coverage]) -> Iterator[Finding]:
    if not (embeddings_folder(home) / "library.db").exists():
        yield Finding("library", "note", "there is no library yet", "Begin: jarvis-embed ingest SOURCE")
        return
    with Library.open(home) as library:
        library.check()
        counts, rules = library.counts(), library.rules()
        coverage += library.coverage()
    said = f"{counts.messages:,} messages, {counts.pairs:,} pairs"
    if counts.messages and not counts.pairs:
        step = "Ingest with --me NAME as the source writes it: only replies of the owner make pairs"
        yield Finding("library", "broken", f"{said}: nobody ever answers", step)
    else:
        yield Finding("library", "good", said)
    if rules:
        number = len(rules.contacts) + (rules.before_ms is not None)
        yield Finding("library", "good", f"rules of earlier purges that keep messages out: {number}")


def _model(home: Path) -> Iterator[Finding]:
    settings = load_settings(home)
    model = find_model(settings.model, home)
    way = locate(settings.model, home).way
    if not any(compiled_folder(model.name, settings.precision, home).glob("*")):
        yield Finding("model", "good", f"{model.name} ({way}) is whole; the first build compiles it")
        return
    dim = load_encoder(home=home).embed(["hey"]).shape[1]
    yield Finding("model", "good", f"{model.name} ({way}) runs: {dim} numbers a text")


def _spaces(home: Path) -> Iterator[Finding]:
    folders = space_folders(home)
    if not folders:
        yield Finding("space", "note", "no space was built yet", "Build it: jarvis-embed build")
        return
    with Library.open(home) as library:
        for folder in folders:
            yield from _reported("space", lambda folder=folder: _space(home, folder, library))  # type: ignore[misc]


def _space(home: Path, folder: Path, library: Library) -> Iterator[Finding]:
    name, again = folder.name, f"jarvis-embed build {folder.name}"
    pointer = read_pointer(folder)
    if any(building_folder(folder).glob("*.log")):
        yield Finding("space", "note", f"a build of {name} was broken off", f"It goes on where it was: {again}")
    if pointer is None:
        return
    current = generations_folder(folder) / pointer.current
    manifest = read_manifest(current)
    check_files(current, manifest, checksums=True)
    kept = [manifest, *_previous(folder, pointer.previous)]
    state = (manifest.library, manifest.revision)
    precision: Precision = "fp32" if manifest.precision == "fp32" else "int8"
    if identify(find_model(name, home), precision).fingerprint != manifest.fingerprint:
        yield Finding("space", "broken", f"the space of {name} was made by another version of it", f"Build it: {again}")
        return
    if any(old.library != library.id or old.revision < library.forgot_revision for old in kept):
        said = f"the space of {name} still holds vectors of messages that were removed or edited"
        yield Finding("space", "broken", said, f"Build it: {again}")
    elif state != (library.id, library.revision):
        said = f"the space of {name} was built before the messages changed"
        yield Finding("space", "note", said, f"Bring it up to date: {again}")
    else:
        said = f"{name}: generation {pointer.current}, {manifest.pairs:,} pairs, whole and up to date"
        yield Finding("space", "good", said)


def _previous(folder: Path, name: str | None) -> list[Manifest]:
    try:
        return [read_manifest(generations_folder(folder) / name)] if name else []
    except SpaceDamaged:
        return []  # only the way back is gone


def _sources(coverage: list[Coverage], progress: Progress | None) -> Iterator[Finding]:
    kinds = {Path(known.location): known.kind for known in coverage if os.sep in known.location}
    if sys.platform == "darwin":
        kinds.setdefault(MESSAGES.expanduser(), ChatDbSource.kind)
    for path, kind in kinds.items():
        yield from _reported("source", lambda path=path, kind=kind: _source(path, kind, progress))  # type: ignore[misc]


def _source(path: Path, kind: str, progress: Progress | None) -> Iterator[Finding]:
    try:
        require_access(path)
        if kind in READERS and not READERS[kind].uses:  # a database, which tells itself how it is to be read
            source = open_source(path, kind=kind)
            if isinstance(source, ChatDbSource):
                yield _covered(source, progress)
                return
    except SourceMissing as error:  # an export that was read may well be deleted afterwards
        yield Finding("source", "note", error.problem, error.next_step)
    else:
        yield Finding("source", "good", f"{path} can be read")


def _covered(source: ChatDbSource, progress: Progress | None) -> Finding:
    """Read all of it, and count."""
    for number, _ in enumerate(source.conversations(), 1):
        if progress:
            progress("reading", number, len(source))
    total, lost = source.text_from.total(), {cause: source.unreadable[cause] for cause in NOT_READABLE}
    places = {f"from `{column}`": number for column, number in source.text_from.items()}
    parts = [f"{source.location}: {total:,} messages; text {_listed(places) or 'none'}"]
    if any(lost.values()):
        parts.append(f"not readable {sum(lost.values()):,}: {_listed(lost)}")
    left = {cause: number for cause, number in source.unreadable.items() if cause not in lost}
    if any(left.values()):
        parts.append(f"left out on purpose {sum(left.values()):,}: {_listed(left)}")
    return Finding("source", "good", "; ".join(parts))


def _listed(counts: Mapping[str, int]) -> str:
    """Names and numbers, the largest first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {number:,}" for name, number in ordered if number)


def _disk(home: Path) -> Iterator[Finding]:
    there = next(folder for folder in (home, *home.parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    spaces = [sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) for folder in space_folders(home)]
    needed = max(spaces, default=0) + _SPARE
    said = f"{free / 1e9:.1f} GB are free"
    if free < needed:
        step = f"A build needs up to {needed / 1e9:.1f} GB: free some space"
        yield Finding("disk", "broken", said, step)
    else:
        yield Finding("disk", "good", said)
