"""Compiled encoders: the files of a model at one precision, made once and kept under the model's folder.

A compiled file is used only if it was made from these very weights, with this precision, by this version of the
arithmetic and for this onnxruntime, and if its checksum is right; otherwise it is made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from ..config import Precision
from ..errors import HomeError
from ..home import sha256_of, write_json, write_private
from ..text import TEXT_VERSION
from .packed import Arrays, serialised, views
from .projections import projections_checksum
from .store import model_home
from .weights import ModelFolder, load_tensors

GRAPH_VERSION: Final = 2
"""Raise this when the same weights give other vectors."""

_GRAPH_LAYOUT: Final = 2
"""Raise this when the graph gives something else beside its vectors."""

_KERNEL_LAYOUT: Final = 2
"""Raise this when the kernel's file is laid out in another way, and no vector changes."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """Everything that changes a vector. Two encoders with one fingerprint give the same vectors.

    Attributes:
        weights, tokenizer: sha256 of the files, hexadecimal.
        recipe: the precision and the version of its arithmetic.
        projections: sha256 of the maps that training added; empty where there are none.
    """

    weights: str
    tokenizer: str
    pooling: str
    prompt: str
    max_length: int
    recipe: str
    normalisation: str = "l2"
    text_version: int = TEXT_VERSION
    projections: str = ""

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits."""
        named = {name: value for name, value in asdict(self).items() if value != "" or name != "projections"}
        stated = json.dumps(named, sort_keys=True).encode("utf-8")
        return hashlib.blake2b(stated, digest_size=16).hexdigest()


def identify(model: ModelFolder, precision: Precision) -> Identity:
    """Read both large files of ``model`` and say what its vectors depend on."""
    return Identity(
        weights=sha256_of(model.weights_path),
        tokenizer=sha256_of(model.tokenizer_path),
        pooling=model.pooling,
        prompt=model.prompt,
        max_length=model.max_length,
        recipe=f"{precision}/{GRAPH_VERSION}",
        projections=projections_checksum(model.folder),
    )


def compiled_folder(name: str, precision: Precision, home: Path) -> Path:
    """Where that is kept which a model gives once and for all."""
    return model_home(name, home) / "compiled" / precision


def fingerprints(model: ModelFolder) -> tuple[str, str]:
    """Those of ``model`` in int8 and in fp32: a quality head is bound to both."""
    return identify(model, "int8").fingerprint, identify(model, "fp32").fingerprint


def compiled_graph(model: ModelFolder, precision: Precision, identity: Identity, home: Path) -> bytes:
    """Return the ONNX file of ``model``, from the cache or freshly made and put there.

    A home that cannot be written costs the cache, not the answer.

    Raises:
        WeightsDamaged: the weights cannot be read.
    """
    import onnxruntime

    path = compiled_folder(model.name, precision, home) / "model.onnx"
    wanted = {
        "identity": asdict(identity),
        "config": asdict(model.config),
        "onnxruntime": onnxruntime.__version__,
        "layout": _GRAPH_LAYOUT,
    }
    kept = _kept(path, wanted)
    if kept is not None:
        return kept.tobytes()
    content = _compile(model, precision)
    _keep(path, wanted, content)
    return content


def compiled_kernel(model: ModelFolder, precision: Precision, identity: Identity, home: Path) -> Arrays:
    """Return what the kernel reads of ``model``: arrays in a file that is kept like the graph, and used where it lies.

    Raises:
        WeightsDamaged: the weights cannot be read.
    """
    path = compiled_folder(model.name, precision, home) / "kernel.safetensors"
    wanted = {"identity": asdict(identity), "config": asdict(model.config), "layout": _KERNEL_LAYOUT}
    kept = _kept(path, wanted)
    if kept is None:
        content = _pack(model, precision)
        _keep(path, wanted, content)
        kept = _kept(path, wanted)
        if kept is None:
            kept = np.frombuffer(content, np.uint8)
    return views(kept)


def plain_graph(model: ModelFolder) -> bytes:
    """The fp32 encoder in standard ONNX operators; not cached, for hardly anybody needs it."""
    from .graph import bert_graph

    return bert_graph(model.config, load_tensors(model), model.pooling, fused=False)


def _kept(path: Path, wanted: dict[str, object]) -> npt.NDArray[np.uint8] | None:
    """The file, mapped into memory, if it is what is wanted, whole and undamaged. The note is written last: it vouches.

    A file is only ever replaced, never written to, so what is mapped stays as it was.
    """
    try:
        note = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        checksum = note.pop("sha256")
        if note != wanted:
            return None
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != checksum:
                return None
            return np.asarray(np.memmap(file, np.uint8, "r"))
    except (OSError, ValueError, KeyError, AttributeError):
        return None


def _keep(path: Path, wanted: dict[str, object], content: bytes) -> None:
    """Put ``content`` there, if that can be done."""
    try:
        write_private(path, content)
        write_json(path.with_suffix(".json"), {**wanted, "sha256": hashlib.sha256(content).hexdigest()})
    except HomeError as error:
        _log.warning("the compiled model is not kept: %s", error)


def _compile(model: ModelFolder, precision: Precision) -> bytes:
    from .graph import bert_graph  # onnx is needed here only, and is slow to import
    from .quantise import quantise

    tensors = load_tensors(model)
    products = quantise(model.config, tensors) if precision == "int8" else None
    return bert_graph(model.config, tensors, model.pooling, products=products)


def _pack(model: ModelFolder, precision: Precision) -> bytes:
    from .kernel import pack
    from .quantise import quantise

    tensors = load_tensors(model)
    products = quantise(model.config, tensors) if precision == "int8" else None
    return serialised(pack(model.config, tensors, products))
