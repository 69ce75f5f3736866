"""Pack the labels of ``more_labels.csv`` into the file that ``train labels`` reads: python benchmarks/pack_labels.py"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jarvis_embed.labels.gold import read_labels
from jarvis_embed.labels.scheme import LABELS, TASKS, Task
from jarvis_embed.training import silver
from jarvis_embed.training.silver import write_silver

SURE = 0.95
"""How often one reader is right: of 480 known pairs among these, 452 triggers and 446 responses were."""

TABLE = Path(__file__).with_name("more_labels.csv")


def main() -> None:
    said = read_labels(TABLE.read_text(encoding="utf-8"), TABLE.name)
    label = {(one.conversation, one.turn, one.task): one.label for one in said}
    pairs = [(one.conversation, one.turn) for one in said if one.task == "trigger"]
    steps: dict[Task, int] = {"trigger": 0, "response": 1}  # a response is the turn after its trigger
    chances = {}
    for task in TASKS:
        names = LABELS[task]
        rows = [names.index(label[conversation, turn + steps[task], task]) for conversation, turn in pairs]
        chances[task] = ((1 - SURE) / len(names) + SURE * np.eye(len(names)))[rows].astype(np.float32)
    path = write_silver(Path(silver.__file__).parent, pairs, chances, "read.safetensors")
    print(f"{len(pairs):,} pairs written: {path.name}, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
