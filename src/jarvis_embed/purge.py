"""Forgetting: delete what was stored, and nothing that is the host's."""

from __future__ import annotations

from pathlib import Path

from .config import config_path, remove_settings
from .home import embeddings_folder, remove_folder


def purge_all(home: Path) -> list[str]:
    """Delete library, spaces, pulled and compiled models, the demo, and our key of the settings.

    Returns:
        what was removed, as paths.

    Raises:
        HomeNotWritable: something could not be deleted.
    """
    removed = []
    for folder in (embeddings_folder(home), home / "demo"):
        if folder.exists():
            remove_folder(folder)
            removed.append(str(folder))
    if remove_settings(home):
        removed.append(f'the key "embedding" of {config_path(home)}')
    return removed
