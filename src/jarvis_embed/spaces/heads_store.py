"""Where heads lie: in the generation of their space, so that index, heads and thresholds switch in one step.

A generation gets its heads from the one before it, or from those that the package ships for its fingerprint; training
makes a generation that differs from the current one in its heads alone.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Final

from ..errors import FingerprintMismatch, HeadsMissing, SpaceDamaged, SpaceMissing
from ..home import locked, make_private_folder, remove_folder
from ..models.encoder import Encoder
from ..models.store import model_home
from .generations import building_folder, current_folder, promote
from .heads import FILES, Heads, read_heads, write_heads
from .manifest import check_files, file_marks, library_versions, read_manifest, write_manifest
from .update import share_file

_SHIPPED: Final = "shipped"


def shipped_heads(fingerprint: str) -> Heads | None:
    """The heads that the package ships for this fingerprint: made of the gold labels alone."""
    with resources.as_file(resources.files(__package__).joinpath(_SHIPPED)) as folder:
        if not (folder / fingerprint).is_dir():
            return None
        try:
            return read_heads(folder / fingerprint, fingerprint)
        except HeadsMissing:  # of an earlier version of the features
            return None


def carry_heads(staging: Path, current: Path | None, fingerprint: str, *, forget: bool) -> tuple[str, ...]:
    """Put into ``staging`` the heads of ``current`` if they fit, else the shipped ones.

    Args:
        forget: something that is not to be remembered may be in what the user's own labels taught; then only the
            shipped ones will do.

    Returns:
        the names of the files; none where there are no heads.
    """
    heads = None if current is None else _heads_in(current, fingerprint)
    if heads is None or (forget and heads.facts.get("own")):
        heads = shipped_heads(fingerprint)
    if heads is None:
        return ()
    write_heads(staging, heads)
    return FILES


def replace_heads(encoder: Encoder, home: Path, heads: Heads) -> str:
    """Make a generation with these heads and everything else of the current one, and switch to it.

    Returns:
        its name; ``rollback`` goes back to the one before.

    Raises:
        SpaceMissing: there is no space to put them into. SpaceDamaged: it is not whole.
        FingerprintMismatch: the heads are another space's, or the space was made by another model.
        HomeLocked: a build is going on.
    """
    folder = model_home(encoder.name, home)
    with locked(folder / "build.lock", f"the space of {encoder.name}"):
        return _replaced(encoder, folder, require_space(encoder, home), heads)


def require_space(encoder: Encoder, home: Path) -> Path:
    """The folder of the current generation, which heads are put into.

    Raises:
        SpaceMissing: nothing was built for this model.
    """
    current = current_folder(model_home(encoder.name, home))
    if current is None:
        raise SpaceMissing(f"there is no space of {encoder.name} in {home}", _again(encoder))
    return current


def refresh_heads(encoder: Encoder, folder: Path) -> bool:
    """Give the current generation in ``folder`` the shipped heads, if it has none that this version can use.

    So that a space which an earlier version built classifies again. Whoever calls this holds the lock of the build.

    Returns:
        whether it did; not where nothing is shipped, or the space is another model's or not whole.
    """
    current, heads = current_folder(folder), shipped_heads(encoder.fingerprint)
    if current is None or heads is None or _heads_in(current, encoder.fingerprint) is not None:
        return False
    try:
        _replaced(encoder, folder, current, heads)
    except (FingerprintMismatch, SpaceDamaged):
        return False
    return True


def _replaced(encoder: Encoder, folder: Path, current: Path, heads: Heads) -> str:
    manifest = read_manifest(current)
    if manifest.fingerprint != heads.fingerprint:
        raise FingerprintMismatch(
            f"the heads have fingerprint {heads.fingerprint}, and the space in {current} {manifest.fingerprint}",
            _again(encoder),
        )
    check_files(current, manifest, checksums=True)
    remove_folder(building_folder(folder))
    staging = make_private_folder(building_folder(folder))
    shared = {name: mark for name, mark in manifest.files.items() if name not in FILES}
    for name in shared:
        share_file(current / name, staging / name)
    for exam in current.glob("exam-*.json"):  # what the model is worth does not depend on the heads
        share_file(exam, staging / exam.name)
    write_heads(staging, heads)
    made = datetime.now(UTC).isoformat(timespec="seconds")
    files = shared | file_marks(staging, FILES)
    write_manifest(staging, replace(manifest, created=made, versions=library_versions(), files=files))
    check_files(staging, read_manifest(staging), checksums=True)
    read_heads(staging, heads.fingerprint)
    return promote(folder)


def _again(encoder: Encoder) -> str:
    return f"Build it: jarvis-embed build {encoder.name}"


def ship_heads(heads: Heads, folder: Path) -> Path:
    """Write heads where ``shipped_heads`` finds them; ``folder`` is that of this package in a checkout."""
    place = make_private_folder(folder / _SHIPPED / heads.fingerprint)
    write_heads(place, heads)
    return place


def _heads_in(folder: Path, fingerprint: str) -> Heads | None:
    try:
        return read_heads(folder, fingerprint)
    except (HeadsMissing, FingerprintMismatch, SpaceDamaged):
        return None
