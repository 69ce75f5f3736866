"""Who sits the exam: an encoder, and the baselines that stand beside it. Each turns texts into rows to be compared.

A figure means nothing alone. Random vectors show what chance reaches, words in common (TF-IDF) what no learning
reaches, the frozen parent where training began, and a linear map on it what the cheapest training reaches.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from ..conversations.segments import text_of
from ..errors import EvaluationError
from ..models.encoder import Encoder
from ..models.engine import of_length_1
from ..text import normalise
from .metrics import Vectors

CONTEXT_READ: Final = 2
"""Turns before the trigger that "with context" means."""

MAP_PAIRS: Final = 500
"""Training pairs below which no linear map is learned."""

Dense = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]


class Competitor(Protocol):
    """Texts in, rows of length 1 out, which are compared by cosine.

    Attributes:
        name: what the table calls it.
    """

    name: str

    def messages(self, texts: Sequence[str]) -> Vectors:
        """Texts that are compared with their like: triggers with triggers, sentences."""
        ...

    def segments(self, segments: Sequence[Sequence[str]]) -> Vectors:
        """Segments of threads, each by its turn texts, which are compared with each other."""
        ...

    def triggers(self, texts: Sequence[str], contexts: Sequence[Sequence[str]] | None = None) -> Vectors:
        """Texts that are compared with responses; with the turns before each, oldest first, if given."""
        ...

    def responses(self, texts: Sequence[str]) -> Vectors:
        """Texts that are compared with triggers."""
        ...


class EncoderCompetitor:
    """An encoder that embeds every text once, however many metrics ask for it.

    Attributes:
        reads_context: whether the turns before a trigger change its vector, which is so if it was trained to.
    """

    def __init__(self, encoder: Encoder, progress: Progress | None = None, name: str | None = None) -> None:
        self.name = name or encoder.name
        self.encoder = encoder
        self._messages = _Remembered(lambda texts: encoder.embed(texts, progress))
        self._responses = _Remembered(encoder.embed_responses)
        self.reads_context = encoder.reads_context
        self._same_sides = not encoder.has_response_side

    def messages(self, texts: Sequence[str]) -> Dense:
        return self._messages(texts)

    def segments(self, segments: Sequence[Sequence[str]]) -> Dense:
        """A model that was trained on threads reads them in its own way; any other, as one text."""
        whole = self.messages(list(map(text_of, segments)))
        if not self.encoder.has_segment_side:
            return whole
        turns = self.messages([turn for segment in segments for turn in segment])
        return self.encoder.as_segments(whole, turns, segments)

    def triggers(self, texts: Sequence[str], contexts: Sequence[Sequence[str]] | None = None) -> Dense:
        """A model that was trained to read context gets it in its own way; any other, as one text with the trigger."""
        if contexts is None:
            return self.messages(texts)
        last = [tuple(context[-CONTEXT_READ:]) for context in contexts]
        if self.reads_context:
            return self.encoder.embed_in_context(texts, last)
        return self.messages([in_one_text(text, context) for text, context in zip(texts, last, strict=True)])

    def responses(self, texts: Sequence[str]) -> Dense:
        return self.messages(texts) if self._same_sides else self._responses(texts)


class RandomCompetitor:
    """A random direction for each text, equal for equal texts."""

    name = "random"

    def __init__(self, seed: int, dim: int = 64) -> None:
        self._seed, self._dim = seed, dim
        self._vectors = _Remembered(lambda texts: np.stack([self._draw(text) for text in texts]))

    def messages(self, texts: Sequence[str]) -> Dense:
        return self._vectors(texts)

    def segments(self, segments: Sequence[Sequence[str]]) -> Dense:
        return self.messages(list(map(text_of, segments)))

    def triggers(self, texts: Sequence[str], contexts: Sequence[Sequence[str]] | None = None) -> Dense:
        return self.messages(texts if contexts is None else _joined(texts, contexts))

    def responses(self, texts: Sequence[str]) -> Dense:
        return self.messages(texts)

    def _draw(self, text: str) -> Dense:
        digest = hashlib.blake2b(f"{self._seed}\0{text}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
        vector = np.random.default_rng(int.from_bytes(digest)).standard_normal(self._dim)
        return np.asarray(vector / np.linalg.norm(vector), np.float32)


class TfidfCompetitor:
    """Words in common: cosine of TF-IDF vectors over words, by scikit-learn.

    Args:
        texts: what the words are counted in: everything the exam compares, as a search engine knows its own index.

    Raises:
        EvaluationError: scikit-learn is not installed.
    """

    name = "tf-idf"

    def __init__(self, texts: Iterable[str]) -> None:
        require_scikit_learn()
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._words: Any = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\w+", dtype=np.float32)  # noqa: S106
        self._words.fit([*map(normalise, texts), "a"])  # an empty vocabulary is an error there

    def messages(self, texts: Sequence[str]) -> Vectors:
        return self._words.transform([normalise(text) for text in texts])

    def segments(self, segments: Sequence[Sequence[str]]) -> Vectors:
        return self.messages(list(map(text_of, segments)))

    def triggers(self, texts: Sequence[str], contexts: Sequence[Sequence[str]] | None = None) -> Vectors:
        return self.messages(texts if contexts is None else _joined(texts, contexts))

    def responses(self, texts: Sequence[str]) -> Vectors:
        return self.messages(texts)


class MappedCompetitor:
    """A frozen encoder whose trigger vectors go through a linear map that was learned on training pairs."""

    def __init__(self, frozen: EncoderCompetitor, weights: Dense) -> None:
        self.name = f"{frozen.name} + linear map"
        self._frozen, self._weights = frozen, weights

    def messages(self, texts: Sequence[str]) -> Dense:
        return self.triggers(texts)

    def segments(self, segments: Sequence[Sequence[str]]) -> Dense:
        return self.messages(list(map(text_of, segments)))

    def triggers(self, texts: Sequence[str], contexts: Sequence[Sequence[str]] | None = None) -> Dense:
        return of_length_1(self._frozen.triggers(texts, contexts) @ self._weights)

    def responses(self, texts: Sequence[str]) -> Dense:
        return self._frozen.responses(texts)


def learn_map(triggers: Dense, responses: Dense, *, seed: int, passes: int = 10, rate: float = 3e-4) -> Dense:
    """Learn the square map after which a trigger is nearest to its own response among those of its batch.

    Softmax over the batch's cosines at temperature 0.05 (the in-batch contrast of Henderson et al. 2017), Adam, from
    the identity. Numpy does it in a second; a least-squares map, which shrinks towards the mean reply, does worse than
    no map at all (0.20 against 0.32 in 1-of-100).

    Args:
        triggers, responses: (n, dim) of length 1, row by row a pair.
    """
    rng = np.random.default_rng(seed)
    rows, dim = triggers.shape
    size = min(500, rows)
    weights = np.eye(dim, dtype=np.float32)
    first, second = np.zeros_like(weights), np.zeros_like(weights)
    step = 0
    for _ in range(passes):
        order = rng.permutation(rows)
        for start in range(0, rows - size + 1, size):
            batch = order[start : start + size]
            gradient = _contrast_gradient(triggers[batch], responses[batch], weights)
            step += 1
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            weights -= rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return weights


def in_one_text(trigger: str, context: Sequence[str]) -> str:
    """The turns before a trigger and the trigger, as one text: how a model that knows no context reads it."""
    return "\n".join([*context, trigger])


def require_scikit_learn() -> None:
    """Raise the error that says what to install.

    Raises:
        EvaluationError: scikit-learn is not installed.
    """
    if importlib.util.find_spec("sklearn") is None:
        raise EvaluationError(
            "the exam compares with TF-IDF, and scikit-learn is not installed",
            "Install it: pip install 'jarvis-embed[train]', or leave the baselines out: --no-baselines",
        )


class _Remembered:
    """Rows of texts, each computed once."""

    def __init__(self, embed: Callable[[list[str]], Dense]) -> None:
        self._embed = embed
        self._row: dict[str, int] = {}
        self._rows: Dense | None = None

    def __call__(self, texts: Sequence[str]) -> Dense:
        wanted = [normalise(text) for text in texts]
        new = [text for text in dict.fromkeys(wanted) if text not in self._row]
        if new:
            rows = self._embed(new)
            self._row |= {text: len(self._row) + place for place, text in enumerate(new)}
            self._rows = rows if self._rows is None else np.concatenate([self._rows, rows])
        assert self._rows is not None  # noqa: S101  the exam never asks for no text at all
        return self._rows[[self._row[text] for text in wanted]]


def _contrast_gradient(triggers: Dense, responses: Dense, weights: Dense, temperature: float = 0.05) -> Dense:
    size = len(triggers)
    mapped = triggers @ weights
    length = np.linalg.norm(mapped, axis=1, keepdims=True)
    unit = mapped / length
    logits = unit @ responses.T / temperature
    chances = np.exp(logits - logits.max(1, keepdims=True))
    chances /= chances.sum(1, keepdims=True)
    chances[np.arange(size), np.arange(size)] -= 1
    towards = chances @ responses / (temperature * size)
    return np.asarray(triggers.T @ ((towards - unit * (towards * unit).sum(1, keepdims=True)) / length), np.float32)


def _joined(texts: Sequence[str], contexts: Sequence[Sequence[str]]) -> list[str]:
    return [in_one_text(text, context[-CONTEXT_READ:]) for text, context in zip(texts, contexts, strict=True)]
