"""Where quality heads lie: beside the weights of a trained model, under the home, or in this package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Final

from ..home import make_private_folder
from .quality_head import FILES, QualityHead, read_head, write_head
from .store import model_home
from .weights import ModelFolder

_SHIPPED: Final = "shipped"


def find_head(model: ModelFolder, fingerprint: str, home: Path) -> QualityHead | None:
    """The head of a model: the user's own first, then the one trained with the weights, then the shipped one.

    Raises:
        WeightsDamaged: a head is there and it is not whole.
    """
    dim = model.config.hidden
    for folder in (own_folder(model.name, home), model.folder):
        if (head := read_head(folder, fingerprint, dim)) is not None:
            return head
    with resources.as_file(resources.files(__package__).joinpath(_SHIPPED)) as shipped:
        folders = sorted(shipped.iterdir()) if shipped.is_dir() else []
        found = (read_head(folder, fingerprint, dim) for folder in folders)
        return next((head for head in found if head is not None), None)


def own_folder(name: str, home: Path) -> Path:
    """Where ``train quality`` puts the head of a model."""
    return model_home(name, home) / "quality"


def store_head(head: QualityHead, name: str, home: Path) -> Path:
    """Keep a head for the model of that name; it answers from the next start on."""
    folder = make_private_folder(own_folder(name, home))
    write_head(folder, head)
    return folder


def remove_own_head(name: str, home: Path) -> bool:
    """Go back to the head that came with the model. Return whether there was another."""
    folder = own_folder(name, home)
    there = [folder / file for file in FILES if (folder / file).exists()]
    for path in there:
        path.unlink()
    return bool(there)
