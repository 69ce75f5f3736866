"""The scorer of ``conversations/links.py`` learns which earlier turn a turn answers.

From annotated logs (``irc_threads_train``) and from conversations run together on purpose, whose links are known. The
softmax over the last turns and none is trained as one choice, as Kummerfeld et al. (ACL 2019) found better than to
judge pairs alone. In half of the examples the vectors are hidden, so that one scorer serves with and without them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..conversations.links import (
    FEATURES_VERSION,
    PAIR_FEATURES,
    PARTS,
    REACH,
    TURN_FEATURES,
    WINDOW,
    Floats,
    LinkScorer,
    features,
    rounded_weights,
)
from ..conversations.threads import Embed
from ..errors import TrainingError
from ..evaluation.data import ChatLog
from ..evaluation.entangled import Stream, turns_of_log
from ..messages import Turn

HIDDEN: Final = 48
EPOCHS: Final = 16
_BATCH: Final = 256
_RATE: Final = 3e-3
_DECAY: Final = 1e-5
_MOMENTS: Final = (0.9, 0.999)
_LEAST: Final = 1000


@dataclass(frozen=True, slots=True)
class Examples:
    """What is seen of n turns, and what they answer.

    Attributes:
        turns: (n, ``TURN_FEATURES``). pairs: (n, ``WINDOW``, ``PAIR_FEATURES``) float16.
        there: (n, ``WINDOW`` + 1), what may be chosen. wanted: (n, ``WINDOW`` + 1), what is right; the last is none.
    """

    turns: Floats
    pairs: npt.NDArray[np.float16]
    there: npt.NDArray[np.bool_]
    wanted: npt.NDArray[np.bool_]


def of_log(log: ChatLog, embed: Embed | None = None) -> Examples:
    """The annotated lines of a log; those whose answered lines are all too far back teach nothing."""
    turns, lines = turns_of_log(log)
    place = {line: at for at, line in enumerate(lines)}
    parents: dict[int, set[int]] = {}
    for line, parent in log.links:
        if line in place and parent in place:
            parents.setdefault(place[line], set()).add(place[parent])
    first = next((at for at, line in enumerate(lines) if line >= log.annotated_from), len(turns))
    return _examples(turns, first, parents, embed)


def of_stream(stream: Stream, embed: Embed | None = None) -> Examples:
    """The turns of a stream, each answering the turn before it in its thread."""
    last: dict[int, int] = {}
    parents = {}
    for at, thread in enumerate(stream.threads):
        parents[at] = {last.get(thread, at)}
        last[thread] = at
    return _examples(stream.turns, 0, parents, embed)


def _examples(turns: Sequence[Turn], first: int, parents: dict[int, set[int]], embed: Embed | None) -> Examples:
    begin = max(first - REACH, 0)
    near = turns[begin:]
    vectors = None if embed is None or not near else embed([turn.text for turn in near])
    of_turns, of_pairs, there = features(near, first - begin, vectors)
    wanted = np.zeros((len(of_turns), WINDOW + 1), bool)
    for row, at in enumerate(range(first, len(turns))):
        for parent in parents.get(at, ()):
            if at - parent <= WINDOW:
                wanted[row, at - parent - 1] = True  # -1, the last column, where it answers none
    allowed = np.concatenate([there, np.ones((len(there), 1), bool)], 1)
    useful = wanted.any(1)
    seen = of_pairs.transpose(1, 2, 0)[useful].astype(np.float16)
    return Examples(of_turns[useful], seen, allowed[useful], wanted[useful])


def joined(parts: Iterable[Examples]) -> Examples:
    found = [part for part in parts if len(part.turns)]
    if sum(len(part.turns) for part in found) < _LEAST:
        raise TrainingError(f"fewer than {_LEAST:,} links to learn from", "Give more logs")
    return Examples(
        np.concatenate([part.turns for part in found]),
        np.concatenate([part.pairs for part in found]),
        np.concatenate([part.there for part in found]),
        np.concatenate([part.wanted for part in found]),
    )


def learn(
    examples: Examples,
    *,
    hidden: int = HIDDEN,
    epochs: int = EPOCHS,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> LinkScorer:
    """Fit the scorer: cross-entropy of the right links, Adam (Kingma and Ba, 2015), a rate that falls to 0.

    The same examples and seed give the same scorer on the same machine.
    """
    draw = np.random.default_rng(seed)
    weights = {
        "turn": draw.normal(0, 0.3, (TURN_FEATURES, hidden)),
        "pair": draw.normal(0, 0.3, (PAIR_FEATURES, hidden)),
        "none": draw.normal(0, 0.3, hidden),
        "bias": np.zeros(hidden),
        "out": draw.normal(0, 0.3, hidden),
    }
    weights = {name: values.astype(np.float32) for name, values in weights.items()}
    first, second = ({name: np.zeros_like(values) for name, values in weights.items()} for _ in range(2))
    count = len(examples.turns)
    steps = epochs * (count // _BATCH)
    step = 0
    for epoch in range(epochs):
        order = draw.permutation(count)
        for start in range(0, count - _BATCH + 1, _BATCH):
            rows = order[start : start + _BATCH]
            pairs = examples.pairs[rows].astype(np.float32)
            pairs[draw.random(len(rows)) < 0.5, :, -2:] = 0
            slopes = _slopes(weights, examples.turns[rows], pairs, examples.there[rows], examples.wanted[rows])
            step += 1
            rate = _RATE * (1 - step / steps) * min(1.0, step / 100)
            for name, slope in slopes.items():
                slope += _DECAY * weights[name]
                first[name] += (1 - _MOMENTS[0]) * (slope - first[name])
                second[name] += (1 - _MOMENTS[1]) * (slope * slope - second[name])
                mean, spread = first[name] / (1 - _MOMENTS[0] ** step), second[name] / (1 - _MOMENTS[1] ** step)
                weights[name] -= rate * mean / (np.sqrt(spread) + 1e-8)
        progress(epoch + 1, epochs)
    return LinkScorer(**{name: rounded_weights(values) for name, values in weights.items()})


def _slopes(weights: dict[str, Any], turns: Floats, pairs: Floats, there: Any, wanted: Any) -> dict[str, Any]:
    """The gradient of the mean loss of a batch."""
    n, hidden = len(turns), len(weights["bias"])
    inner = np.empty((n, WINDOW + 1, hidden), np.float32)
    np.matmul(pairs, weights["pair"], out=inner[:, :-1])
    inner[:, -1] = weights["none"]
    inner += (turns @ weights["turn"] + weights["bias"])[:, None]
    active = (inner > 0) & (inner < 4)
    value = np.clip(inner, 0, 4)
    scores = np.where(there, value @ weights["out"], -np.inf)
    chances = np.exp(scores - scores.max(1, keepdims=True))
    chances /= chances.sum(1, keepdims=True)
    right = np.where(wanted, chances, 0)
    right /= np.maximum(right.sum(1, keepdims=True), 1e-9)
    slope = ((chances - right) / n).astype(np.float32)
    back = (slope[:, :, None] * weights["out"]) * active
    of_turn = back.sum(1)
    return {
        "turn": turns.T @ of_turn,
        "pair": pairs.reshape(-1, PAIR_FEATURES).T @ back[:, :-1].reshape(-1, hidden),
        "none": back[:, -1].sum(0),
        "bias": of_turn.sum(0),
        "out": value.reshape(-1, hidden).T @ slope.reshape(-1),
    }


def write_scorer(scorer: LinkScorer, path: Path) -> None:
    """Write it as ``links.shipped_scorer`` reads it: 16-bit integers of 1/256, no text."""
    from safetensors.numpy import save_file

    tensors = {name: np.rint(getattr(scorer, name) * 256).astype(np.int16) for name in PARTS}
    save_file(tensors, path, metadata={"features": str(FEATURES_VERSION)})
