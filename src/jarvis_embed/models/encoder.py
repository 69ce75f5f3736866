"""The encoder: texts in, unit vectors out, by onnxruntime and tokenizers; torch is never needed.

A vector depends on its text alone: not on the batch it was in, nor on the order of the batch.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from ..config import Precision, load_settings
from ..errors import InputError, ModelError
from ..home import home_folder
from ..text import normalise
from .compiled import Identity, compiled_graph, identify, plain_graph
from .runtime import start_session
from .store import find_model
from .tokens import load_tokenizer
from .tune import remembered_threads
from .weights import ModelFolder

if TYPE_CHECKING:
    import onnxruntime
    import tokenizers

_log = logging.getLogger(__name__)

Vectors = npt.NDArray[np.float32]

TOKEN_BUDGET: Final = 1024
"""Tokens in one batch, padding included: enough to fill the cores, few enough to stay in their caches."""

CACHED_QUERIES: Final = 1024
"""Single texts whose vectors are kept: about 2 MB. An assistant asks for the same message several times."""


class Encoder:
    """One model at one precision, ready to embed. Safe to call from several threads at once.

    Attributes:
        name: registry name, name of an added or trained model, or the folder's name.
        fingerprint: 32 hexadecimal digits; equal for two encoders only if all their vectors are equal.
        dim: length of a vector.
        max_length: tokens of a text that are read, the two special ones included; the rest is cut off.
        precision: ``"fp32"`` or ``"int8"``.
    """

    def __init__(
        self,
        name: str,
        fingerprint: str,
        precision: Precision,
        prompt: str,
        max_length: int,
        tokenizer: tokenizers.Tokenizer,
        session: onnxruntime.InferenceSession,
        cache: int = 0,
    ) -> None:
        self.name, self.fingerprint, self.precision, self.max_length = name, fingerprint, precision, max_length
        self.dim = int(session.get_outputs()[0].shape[1])
        self._prompt, self._tokenizer, self._session = prompt, tokenizer, session
        self._query = lru_cache(maxsize=cache)(self._embed_one)

    def __repr__(self) -> str:
        return f"Encoder({self.name!r}, {self.precision}, dim={self.dim}, fingerprint={self.fingerprint[:8]}…)"

    def embed(self, texts: Sequence[str], progress: Callable[[int, int], None] | None = None) -> Vectors:
        """Embed each text; equal texts are computed once.

        Args:
            texts: any strings; what they hold besides text is normalised away (see ``text.normalise``).
            progress: called with (done, total) after each batch.

        Returns:
            (n, dim) float32 in the order of ``texts``, each row of length 1; (0, dim) for no text.

        Raises:
            InputError: ``texts`` is a single string, or holds something that is none.
        """
        if isinstance(texts, str):
            raise InputError("embed() takes a list of texts, and got one text", "Put it in a list: embed([text])")
        if not all(isinstance(text, str) for text in texts):
            raise InputError("embed() takes texts, and got something else among them", "Convert it to str first")
        if len(texts) == 1:
            return self._query(normalise(texts[0])).copy()
        unique: dict[str, int] = {}
        rows = [unique.setdefault(normalise(text), len(unique)) for text in texts]
        if not rows:
            return np.empty((0, self.dim), np.float32)
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch_fast([self._prompt + t for t in unique])]
        vectors = np.empty((len(unique), self.dim), np.float32)
        done = 0
        for batch in batches([len(ids) for ids in tokens], TOKEN_BUDGET):
            vectors[batch] = self._run([tokens[i] for i in batch])
            done += len(batch)
            if progress:
                progress(done, len(unique))
        return vectors if len(unique) == len(rows) else vectors[rows]

    def embed_with_context(self, trigger: str, context: Sequence[str]) -> Vectors:
        """Embed a trigger with the turns before it, oldest first; (dim,) float32.

        A model that was not trained to read context embeds the trigger alone.
        """
        del context
        vector: Vectors = self.embed([trigger])[0]
        return vector

    def embed_responses(self, texts: Sequence[str]) -> Vectors:
        """Embed the reply side: equal to ``embed`` for a model without a projection of its own for replies."""
        return self.embed(texts)

    def is_cut(self, text: str) -> bool:
        """Whether ``text`` has more than ``max_length`` tokens, so that its end is not read."""
        if len(text) < self.max_length - 2:  # a token has at least one character
            return False
        return bool(self._tokenizer.encode(self._prompt + normalise(text)).overflowing)

    def _embed_one(self, normalised: str) -> Vectors:
        """The short way for one text, (1, dim): nothing to sort, nothing to pad."""
        ids = np.array([self._tokenizer.encode(self._prompt + normalised).ids], np.int32)
        (vector,) = self._session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        return vector  # type: ignore[no-any-return]

    def _run(self, tokens: Sequence[Sequence[int]]) -> Vectors:
        """One batch through the graph: padded at the right with zeros, which the mask keeps out."""
        longest = max(map(len, tokens))
        ids = np.zeros((len(tokens), longest), np.int32)
        mask = np.zeros_like(ids)
        for row, of_text in enumerate(tokens):
            ids[row, : len(of_text)] = of_text
            mask[row, : len(of_text)] = 1
        (vectors,) = self._session.run(None, {"input_ids": ids, "attention_mask": mask})
        return vectors  # type: ignore[no-any-return]


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Group positions so that like lengths meet and no group, padded, holds more than ``budget`` tokens.

    Longest first: then the most memory is asked for at once, at the beginning. A text longer than the budget is a
    group of its own.
    """
    group: list[int] = []
    longest = 0
    for position in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        longest = longest or lengths[position]
        if group and longest * (len(group) + 1) > budget:
            yield group
            group, longest = [], lengths[position]
        group.append(position)
    if group:
        yield group


def load_encoder(
    model: str | os.PathLike[str] | None = None,
    *,
    home: str | os.PathLike[str] | None = None,
    precision: Precision | None = None,
    threads: int | None = None,
    cache: int = CACHED_QUERIES,
) -> Encoder:
    """Load a model: from its compiled file, or compiled first if there is none.

    Args:
        model: a name, or a folder in sentence-transformers layout; the model of the settings if None.
        home: where compiled files and settings lie; ``JARVIS_HOME`` or ``~/.jarvis`` if None.
        precision: ``"fp32"`` or ``"int8"``; that of the settings if None.
        threads: cores for one call; what ``models tune`` found best for one message if None, else all.
        cache: how many of the last single texts keep their vectors; 0 for none, as in a benchmark.

    Raises:
        UnknownModel, WeightsMissing, WeightsDamaged, ModelUnsupported: the model cannot be had; says what to do.
    """
    root = home_folder(home)
    settings = load_settings(root)
    found = find_model(model if model is not None else settings.model, root)
    precision = precision or settings.precision
    threads = threads or remembered_threads(found.name, precision, root)
    identity = identify(found, precision)
    return Encoder(
        name=found.name,
        fingerprint=identity.fingerprint,
        precision=precision,
        prompt=found.prompt,
        max_length=found.max_length,
        tokenizer=load_tokenizer(found),
        session=_start(found, precision, identity, root, threads),
        cache=cache,
    )


def _start(
    model: ModelFolder, precision: Precision, identity: Identity, home: Path, threads: int | None
) -> onnxruntime.InferenceSession:
    """Start the compiled model; where onnxruntime lacks its own operators, fp32 runs on standard ones, more slowly."""
    try:
        return start_session(compiled_graph(model, precision, identity, home), threads)
    except ModelError as error:
        if precision != "fp32":
            raise
        _log.warning("standard operators are used, several times slower: %s", error.problem)
        return start_session(plain_graph(model), threads)
