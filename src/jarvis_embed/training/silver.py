"""Silver labels: what a teacher thinks of 40,000 pairs of chitchat that nobody labelled by hand.

5,080 pairs labelled by hand are few for the many words that chat has. So a BERT was fine-tuned on them and labelled
other pairs of the same training conversations (``benchmarks/teacher.py``). ``silver.safetensors`` names each pair by
conversation and turn and holds the teacher's probabilities; the text comes from the installed corpus. So does
``read.safetensors`` with 27,200 pairs more whose labels were read, once each (``benchmarks/more_labels.csv``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final
from uuid import UUID

import numpy as np
import numpy.typing as npt

from ..conversations.turns import turns_of
from ..errors import LabelError, SourceError
from ..labels.scheme import LABELS, TASKS, Task
from ..sources.chitchat import ChitchatSource, split_of
from ..spaces.heads import Floats

_SILVER, _READ = "silver.safetensors", "read.safetensors"
_STEPS: Final = 255


@dataclass(frozen=True, slots=True)
class Silver:
    """Pairs with a teacher's opinion.

    Attributes:
        chances: for each task the probability of each label, (n, c) float32; a row adds up to 1.
    """

    triggers: tuple[str, ...]
    responses: tuple[str, ...]
    chances: Mapping[Task, Floats]


def read_silver() -> Silver | None:
    """What the teacher said, with the texts; see ``read_pairs``."""
    return read_pairs(_SILVER)


def read_by_hand() -> Silver | None:
    """What one reader said of further pairs, taken to be right 19 times in 20; see ``read_pairs``."""
    return read_pairs(_READ)


def read_pairs(name: str) -> Silver | None:
    """The labels in a file of this package, with their texts.

    Returns:
        None where the corpus is not installed, or is another release, which has not those turns.

    Raises:
        LabelError: a pair is not of the training part.
    """
    from safetensors.numpy import load_file

    with resources.as_file(resources.files(__package__).joinpath(name)) as path:
        stored = load_file(path)
    names = [str(UUID(bytes=row.tobytes())) for row in stored["conversations"]]
    for conversation in names:
        if split_of(conversation) != "train":
            raise LabelError(
                f"conversation {conversation} is held out, and has silver labels", "Reinstall jarvis-embed"
            )
    try:
        turns = _turns(set(names))
        asked = [turns[names[row]][turn : turn + 2] for row, turn in zip(stored["row"], stored["turn"], strict=True)]
        triggers, responses = (tuple(side) for side in zip(*asked, strict=True))
    except (SourceError, KeyError, ValueError):
        return None
    chances = {task: stored[task].astype(np.float32) for task in TASKS}
    return Silver(triggers, responses, {task: rows / rows.sum(1, keepdims=True) for task, rows in chances.items()})


def write_silver(
    folder: Path, pairs: Sequence[tuple[str, int]], chances: Mapping[Task, Floats], name: str = _SILVER
) -> Path:
    """Write labels to where ``read_pairs`` finds them; ``folder`` is that of this package in a checkout.

    Args:
        pairs: (conversation, turn of the trigger); its response is the next turn.
        chances: for each task the probability of each label, (n, c).
    """
    from safetensors.numpy import save_file

    names = list(dict.fromkeys(name for name, _ in pairs))
    place = {name: row for row, name in enumerate(names)}
    stored: dict[str, npt.NDArray[np.uint8] | npt.NDArray[np.uint16]] = {
        "conversations": np.stack([np.frombuffer(UUID(name).bytes, np.uint8) for name in names]),
        "row": np.array([place[name] for name, _ in pairs], np.uint16),
        "turn": np.array([turn for _, turn in pairs], np.uint16),
    }
    for task in TASKS:
        if chances[task].shape != (len(pairs), len(LABELS[task])):
            raise ValueError(f"the labels of {task} do not fit the pairs")
        stored[task] = np.rint(_STEPS * chances[task]).astype(np.uint8)
    save_file(stored, folder / name)
    return folder / name


def _turns(names: set[str]) -> dict[str, list[str]]:
    return {
        conversation.key: [turn.text for turn in turns_of(conversation.messages)]
        for conversation in ChitchatSource(split="train").conversations()
        if conversation.key in names
    }
