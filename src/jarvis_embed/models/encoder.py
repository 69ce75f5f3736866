"""The encoder: texts in, unit vectors out, by onnxruntime or the kernel; torch is never needed.

A vector depends on its text alone: not on the batch it was in, nor on the order of the batch.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from ..config import EngineName, Precision, load_settings
from ..errors import HeadsMissing, InputError, ModelError, ModelUnsupported
from ..home import home_folder
from ..text import normalise
from .compiled import Identity, compiled_graph, compiled_kernel, identify, plain_graph
from .engine import READ, Engine, Vectors
from .kernel import KernelEngine, is_supported
from .kernel_build import kernel_library, kernel_state
from .lineage import learned_labels
from .machine import usable_cores
from .projections import Projections, read_projections
from .quality_head import QualityHead
from .quality_store import find_head
from .runtime import OnnxEngine
from .store import find_model
from .tokens import load_tokenizer
from .tuning import remembered
from .weights import ModelFolder

if TYPE_CHECKING:
    import tokenizers

_log = logging.getLogger(__name__)

_BLOCK: Final = 4096
"""Texts whose tokens are held at once: it bounds the memory that a million texts take, beside their vectors."""

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
        engine: what computes: ``"kernel"`` or ``"onnx"``. It does not change the fingerprint, for both compute the
            same from the same numbers; their vectors differ by rounding (cosine ≥ 0.999 in int8, 0.999999 in fp32).
        reads_context: whether ``embed_with_context`` gives another vector than ``embed``.
        has_response_side: whether ``embed_responses`` does.
        has_segment_side: whether ``embed_segments`` reads a segment's turns beside its text.
        read_width: length of what classifiers read, see ``read``.
        quality_head: what says how good a reply is to what was said; None for a model without one.
    """

    def __init__(
        self,
        name: str,
        fingerprint: str,
        precision: Precision,
        prompt: str,
        max_length: int,
        tokenizer: tokenizers.Tokenizer,
        engine: Engine,
        cache: int = 0,
        projections: Projections | None = None,
        quality_head: QualityHead | None = None,
        labelled: bool = False,
    ) -> None:
        self.name, self.fingerprint, self.precision, self.max_length = name, fingerprint, precision, max_length
        self.engine, self.dim = engine.name, engine.dim
        self._prompt, self._tokenizer, self._engine = prompt, tokenizer, engine
        self._projections = projections or Projections()
        self.reads_context = self._projections.context is not None
        self.has_response_side = self._projections.response is not None
        self.has_segment_side = self._projections.segment is not None
        self.quality_head = quality_head
        self.read_width = READ * self.dim if labelled else self.dim
        self._query = lru_cache(maxsize=cache)(self._embed_one)

    def __repr__(self) -> str:
        how = f"{self.precision}, {self.engine}, dim={self.dim}"
        return f"Encoder({self.name!r}, {how}, fingerprint={self.fingerprint[:8]}…)"

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
        return self._read(texts, self.dim, progress)

    def read(self, texts: Sequence[str], progress: Callable[[int, int], None] | None = None) -> Vectors:
        """What classifiers read of each text, (n, read_width) float32.

        That is its vector, and of a model that was trained on labels also those beside it (``engine.Engine``).

        Raises:
            InputError: as ``embed``.
        """
        return self._read(texts, self.read_width, progress)

    def _read(self, texts: Sequence[str], width: int, progress: Callable[[int, int], None] | None) -> Vectors:
        """So much of each text's reading."""
        if isinstance(texts, str):
            raise InputError("embed() takes a list of texts, and got one text", "Put it in a list: embed([text])")
        if not all(isinstance(text, str) for text in texts):
            raise InputError("embed() takes texts, and got something else among them", "Convert it to str first")
        if len(texts) == 1:
            return self._query(normalise(texts[0]))[:, :width].copy()
        unique: dict[str, int] = {}
        rows = [unique.setdefault(normalise(text), len(unique)) for text in texts]
        different = list(unique)
        vectors = np.empty((len(different), width), np.float32)
        done = 0

        def count(more: int) -> None:
            nonlocal done
            done += more
            if progress:
                progress(done, len(different))

        for start in range(0, len(different), _BLOCK):
            block = [self._prompt + text for text in different[start : start + _BLOCK]]
            tokens = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(block)]
            vectors[start : start + _BLOCK] = self._engine.many(tokens, count)[:, :width]
        return vectors if len(different) == len(rows) else vectors[rows]

    def embed_with_context(self, trigger: str, context: Sequence[str]) -> Vectors:
        """Embed a trigger with the turns before it, oldest first; (dim,) float32.

        A model that was not trained to read context embeds the trigger alone. One that was reads the last
        two turns, or as many as it was trained with; an assistant that has embedded them before finds them in
        the cache.
        """
        vector: Vectors = self.embed_in_context([trigger], [context])[0]
        return vector

    def embed_in_context(self, triggers: Sequence[str], contexts: Sequence[Sequence[str]]) -> Vectors:
        """``embed_with_context`` for many: (n, dim) float32; ``contexts`` holds the turns before each trigger."""
        project = self._projections.context
        if project is None or not len(triggers):
            return self._each(triggers)
        return project(*self.embed_turns(triggers, contexts, self._projections.context_turns))

    def embed_turns(self, triggers: Sequence[str], contexts: Sequence[Sequence[str]], before: int) -> list[Vectors]:
        """Triggers, the turns right before them, and so on, ``before`` steps back: (n, dim) float32 each.

        A row is zeros where nothing was said before.
        """
        turns = [self._each(triggers)]
        for back in range(1, before + 1):
            there = [row for row, context in enumerate(contexts) if len(context) >= back]
            earlier = np.zeros_like(turns[0])
            earlier[there] = self._each([contexts[row][-back] for row in there])
            turns.append(earlier)
        return turns

    def reply_quality(self, triggers: Sequence[str], contexts: Sequence[Sequence[str]], replies: Vectors) -> Vectors:
        """How good each reply is to its trigger, by the quality head: (n,) float32, 0 to 1.

        Args:
            contexts: the turns before each trigger, oldest first. replies: (n, dim), what ``embed`` made of them.

        Raises:
            HeadsMissing: the model has no quality head; says how to train one.
        """
        head = self.require_quality_head()
        if not len(triggers):
            return np.zeros(0, np.float32)
        return head.scores(self.embed_turns(triggers, contexts, head.turns - 1), replies, self._projections)

    def require_quality_head(self) -> QualityHead:
        """The quality head.

        Raises:
            HeadsMissing: there is none; says how to train one.
        """
        if self.quality_head is None:
            raise HeadsMissing(
                f"{self.name} has no quality head", f"Train one: jarvis-embed train quality {self.name} --data DIR"
            )
        return self.quality_head

    @property
    def projections(self) -> Projections:
        """The maps that training added."""
        return self._projections

    def embed_responses(self, texts: Sequence[str]) -> Vectors:
        """Embed the reply side: equal to ``embed`` for a model without a projection of its own for replies."""
        return self.as_responses(self.embed(texts))

    def as_responses(self, vectors: Vectors) -> Vectors:
        """What ``embed_responses`` makes of texts, from what ``embed`` made of them: (n, dim) float32."""
        project = self._projections.response
        return vectors if project is None or not len(vectors) else project(vectors)

    def embed_segments(self, segments: Sequence[Sequence[str]]) -> Vectors:
        """Embed segments of threads, each the texts of its turns, oldest first: (n, dim) float32.

        A model that was not trained on threads embeds the joined text.

        Raises:
            InputError: a segment has no turn.
        """
        if not all(segments):
            raise InputError("a segment without turns has no vector", "Leave it out")
        whole = self.embed(["\n".join(turns) for turns in segments])
        if not self.has_segment_side:
            return whole
        turns = self.embed([text for turns in segments for text in turns])
        return self.as_segments(whole, turns, segments)

    def as_segments(self, whole: Vectors, turns: Vectors, segments: Sequence[Sequence[str]]) -> Vectors:
        """What ``embed_segments`` makes of segments, from what ``embed`` made of their joined texts and of their turns,
        one behind the other, for a model that has a segment side: (segments, dim) float32."""
        project = self._projections.segment
        if project is None:
            raise InputError(f"{self.name} was not trained on threads", "Ask has_segment_side before")
        if not len(segments):
            return np.zeros((0, self.dim), np.float32)
        sizes = list(map(len, segments))
        found, words = project(whole, turns, sizes), self._projections.words
        if words is None:
            return found
        said = self._tokenizer.encode_batch_fast(
            [normalise(text) for turns in segments for text in turns], add_special_tokens=False
        )
        each = iter(said)
        return words.beside(found, [[token for _ in turns for token in next(each).ids] for turns in segments])

    def _each(self, texts: Sequence[str]) -> Vectors:
        """``embed``, where one text or two are single queries, which are kept."""
        return np.concatenate([self.embed([text]) for text in texts]) if 0 < len(texts) < 3 else self.embed(texts)

    def tokens(self, text: str) -> list[int]:
        """The numbers of the tokens that are read of ``text``, the two special ones included."""
        found: list[int] = self._tokenizer.encode(self._prompt + normalise(text)).ids
        return found

    def is_cut(self, text: str) -> bool:
        """Whether ``text`` has more than ``max_length`` tokens, so that its end is not read."""
        if len(text) < self.max_length - 2:  # a token has at least one character
            return False
        return bool(self._tokenizer.encode(self._prompt + normalise(text)).overflowing)

    def _embed_one(self, normalised: str) -> Vectors:
        reading = self._engine.one(self._tokenizer.encode(self._prompt + normalised).ids)
        return reading[:, : self.read_width].copy()  # the cache keeps no more than is asked for


def load_encoder(
    model: str | os.PathLike[str] | None = None,
    *,
    home: str | os.PathLike[str] | None = None,
    precision: Precision | None = None,
    threads: int | None = None,
    engine: EngineName | None = None,
    cache: int = CACHED_QUERIES,
) -> Encoder:
    """Load a model: from its compiled file, or compiled first if there is none.

    Args:
        model: a name, or a folder in sentence-transformers layout; the model of the settings if None.
        home: where compiled files and settings lie; ``JARVIS_HOME`` or ``~/.jarvis`` if None.
        precision: ``"fp32"`` or ``"int8"``; that of the settings if None.
        threads: cores for one call; what ``models tune`` found best for one message if None, else all.
        engine: ``"kernel"``, ``"onnx"`` or ``"auto"``; that of the settings if None. Auto is what ``models tune``
            found best, else the kernel where it can be had.
        cache: how many of the last single texts keep their vectors; 0 for none, as in a benchmark.

    Raises:
        UnknownModel, WeightsMissing, WeightsDamaged: the model cannot be had; says what to do.
        ModelUnsupported: nor can it be run in this way; ``engine="kernel"`` without a kernel is one.
    """
    root = home_folder(home)
    settings = load_settings(root)
    found = find_model(model if model is not None else settings.model, root)
    precision = precision or settings.precision
    tuned = remembered(found.name, precision, root)
    engine = engine or settings.engine
    if engine == "auto" and tuned is not None:
        engine = tuned.engine
    many = threads or usable_cores()
    alone = tuned.threads if threads is None and tuned is not None and tuned.engine == engine else many
    identity = identify(found, precision)
    tokenizer = load_tokenizer(found)
    return Encoder(
        name=found.name,
        fingerprint=identity.fingerprint,
        precision=precision,
        prompt=found.prompt,
        max_length=found.max_length,
        tokenizer=tokenizer,
        engine=_start(found, precision, identity, root, engine, alone, many),
        cache=cache,
        projections=read_projections(found.folder, found.config.hidden, tokenizer.get_vocab_size()),
        quality_head=find_head(found, identity.fingerprint, root),
        labelled=learned_labels(found.folder),
    )


def _start(
    model: ModelFolder,
    precision: Precision,
    identity: Identity,
    home: Path,
    wanted: EngineName,
    alone: int,
    many: int,
) -> Engine:
    """The kernel where it is wanted and can be had, else onnxruntime; ``alone`` threads for one text.

    Where onnxruntime lacks its own operators, fp32 runs on standard ones, more slowly.
    """
    if wanted != "onnx" and is_supported(model.config):
        library = kernel_library(home)
        if library is not None:
            packed = compiled_kernel(model, precision, identity, home)
            return KernelEngine(library, model.config, model.pooling, packed, threads=many, team=alone)
    if wanted == "kernel":
        raise ModelUnsupported(
            f"the kernel cannot run {model.name} in {precision} here: {kernel_state(home)}",
            "Use the engine auto, which takes onnxruntime then",
        )
    try:
        return OnnxEngine(compiled_graph(model, precision, identity, home), alone)
    except ModelError as error:
        if precision != "fp32":
            raise
        _log.warning("standard operators are used, several times slower: %s", error.problem)
        return OnnxEngine(plain_graph(model), alone)
