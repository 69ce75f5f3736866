"""Make the silver labels of triggers anew, by a BERT that reads triggers alone and has seen all labels that were read.

    python benchmarks/trigger_teacher.py MODEL [--epochs 2] [--home HOME]

MODEL is what it begins with; the shipped labels began with a minilm-l6 that `train reference` had made. It learns from
the gold labels and ``more_labels.csv``, and one conversation in seven is held out, as for ``teacher.py``, whose labels
of responses stay as they are. About 40 minutes on one core. Needs torch, transformers, scikit-learn and
chitchat-dataset. Afterwards the shipped heads are made again:
python benchmarks/classifiers.py --ship --precision int8 fp32
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from uuid import UUID

import numpy as np
import torch
from pack_labels import TABLE
from safetensors.numpy import load_file
from sklearn.metrics import f1_score
from teacher import BATCH, labelled_pairs, like_lengths, split
from transformers import AutoModel, AutoTokenizer

from jarvis_embed.home import home_folder
from jarvis_embed.labels.gold import gold_examples, read_labels
from jarvis_embed.labels.scheme import LABELS
from jarvis_embed.models.store import find_model
from jarvis_embed.training import silver
from jarvis_embed.training.silver import read_silver, write_silver

TOKENS = 64
RATES = (1.5e-4, 1e-3)
"""Learning rates of the encoder and of the layer on top of it."""


class TriggerTeacher(torch.nn.Module):
    """Labels a trigger from the mean over its tokens and the first one."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.encoder = AutoModel.from_pretrained(folder)
        self.top = torch.nn.Linear(2 * self.encoder.config.hidden_size, len(LABELS["trigger"]))
        self.dropout = torch.nn.Dropout(0.1)

    def forward(self, texts: list[str]) -> torch.Tensor:
        plain = [text.replace("\n", " / ") for text in texts]
        tokens = self.tokenizer(plain, truncation=True, max_length=TOKENS, padding=True, return_tensors="pt")
        states = self.encoder(**tokens).last_hidden_state
        there = tokens["attention_mask"].unsqueeze(-1).float()
        mean = (states * there).sum(1) / there.sum(1)
        return self.top(self.dropout(torch.cat([mean, states[:, 0]], 1)))


def label(teacher: TriggerTeacher, texts: list[str]) -> np.ndarray:
    """The probability of each label, (n, 5)."""
    teacher.eval()
    found = np.zeros((len(texts), len(LABELS["trigger"])), np.float32)
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    with torch.no_grad():
        for start in range(0, len(order), 128):
            rows = order[start : start + 128]
            found[rows] = torch.softmax(teacher([texts[row] for row in rows]), 1).numpy()
    return found


def learn(teacher: TriggerTeacher, epochs: int) -> None:
    """Fine-tune on six gold conversations of seven and on all other labels; print macro F1 on the seventh."""
    pairs = labelled_pairs()
    truth = np.array([pair.truth for pair in pairs])
    inside, outside = split(pairs)
    held_out = {pairs[row].conversation for row in outside}
    more = gold_examples("train", read_labels(TABLE.read_text(encoding="utf-8"), TABLE.name))
    if held_out & {example.group for example in more}:
        raise ValueError("a conversation that is held out has further labels")
    learned = [(pairs[row].trigger, truth[row, 0]) for row in inside]
    learned += [(one.text, LABELS["trigger"].index(one.label)) for one in more if one.task == "trigger"]
    labels = np.array([number for _, number in learned])
    weights = torch.tensor((len(labels) / 5 / np.bincount(labels)) ** 0.5, dtype=torch.float32)
    parts = [{"params": teacher.encoder.parameters()}, {"params": teacher.top.parameters()}]
    optimiser = torch.optim.AdamW(parts, weight_decay=0.01)
    rng, step, start = np.random.default_rng(0), 0, time.perf_counter()
    steps = epochs * -(-len(learned) // BATCH)
    lengths = np.array([len(text) for text, _ in learned])
    for epoch in range(epochs):
        teacher.train()
        for batch in like_lengths(rng.permutation(len(learned)), lengths, rng):
            slope = min(1, step / 60) * max(0.02, 1 - step / steps)
            for group, rate in zip(optimiser.param_groups, RATES, strict=True):
                group["lr"] = rate * slope
            logits = teacher([learned[row][0] for row in batch])
            wanted = torch.tensor(labels[batch])
            loss = torch.nn.functional.cross_entropy(logits, wanted, weight=weights, label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            step += 1
        guess = label(teacher, [pairs[row].trigger for row in outside]).argmax(1)
        score = f1_score(truth[outside, 0], guess, average="macro")
        print(f"epoch {epoch + 1}: {score:.3f}, {time.perf_counter() - start:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--home")
    arguments = parser.parse_args()
    known = read_silver()
    if known is None:
        raise SystemExit("chitchat-dataset is not installed, or is another release")
    torch.manual_seed(0)
    teacher = TriggerTeacher(str(find_model(arguments.model, home_folder(arguments.home)).weights_path.parent))
    learn(teacher, arguments.epochs)
    folder = Path(silver.__file__).parent
    stored = load_file(folder / "silver.safetensors")
    names = [str(UUID(bytes=row.tobytes())) for row in stored["conversations"]]
    pairs = [(names[row], int(turn)) for row, turn in zip(stored["row"], stored["turn"], strict=True)]
    chances = {"trigger": label(teacher, list(known.triggers)), "response": known.chances["response"]}
    path = write_silver(folder, pairs, chances)
    print(f"{len(pairs):,} triggers labelled; written: {path.name}, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
