"""Make the silver labels anew: fine-tune a BERT on the gold labels and let it label other pairs of the same part.

    python benchmarks/teacher.py [--base minilm-l6] [--epochs 5] [--pairs 40000] [--home HOME]

About a quarter of an hour on 2 cores. Needs torch, transformers, scikit-learn and chitchat-dataset. Only the training
part of the corpus is read; one conversation in seven is held out, and says how good the teacher is. Afterwards
``trigger_teacher.py`` makes the labels of triggers better, and the shipped heads are made again:
python benchmarks/classifiers.py --ship --precision int8 fp32
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedGroupKFold
from transformers import AutoModel, AutoTokenizer

import jarvis_embed as je
from jarvis_embed.conversations.pairs import pair_positions
from jarvis_embed.conversations.turns import turns_of
from jarvis_embed.home import home_folder
from jarvis_embed.labels.gold import gold_examples, read_gold
from jarvis_embed.labels.scheme import LABELS, TASKS
from jarvis_embed.models.store import find_model
from jarvis_embed.training import silver
from jarvis_embed.training.silver import write_silver

TOKENS = 88
BATCH = 32
RATES = (1.2e-4, 1e-3)
"""Learning rates of the encoder and of the two layers on top of it."""


@dataclass(frozen=True, slots=True)
class LabelledPair:
    conversation: str
    trigger: str
    response: str
    truth: tuple[int, int]


class Teacher(torch.nn.Module):
    """Reads trigger and response as one text; labels each from the mean over its own tokens, seen beside the other."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.encoder = AutoModel.from_pretrained(folder)
        width = self.encoder.config.hidden_size
        self.tops = torch.nn.ModuleList(torch.nn.Linear(width, len(LABELS[task])) for task in TASKS)
        self.dropout = torch.nn.Dropout(0.1)

    def forward(self, pairs: list[tuple[str, str]]) -> list[torch.Tensor]:
        first, second = ([text.replace("\n", " / ") for text in side] for side in zip(*pairs, strict=True))
        tokens = self.tokenizer(
            first, second, truncation="longest_first", max_length=TOKENS, padding=True, return_tensors="pt"
        )
        with torch.autocast("cpu", torch.bfloat16):
            states = self.encoder(**tokens).last_hidden_state
        there, later = tokens["attention_mask"].bool(), tokens["token_type_ids"].bool()
        found = []
        for top, mask in zip(self.tops, (there & ~later, there & later), strict=True):
            weights = mask.unsqueeze(-1).float()
            mean = (states.float() * weights).sum(1) / weights.sum(1).clamp(min=1)
            found.append(top(self.dropout(mean)))
        return found


def labelled_pairs() -> list[LabelledPair]:
    """The gold pairs of the training part, each with both labels."""
    examples = gold_examples("train")
    of_trigger = {(e.group, e.text): e.label for e in examples if e.task == "trigger"}
    return [
        LabelledPair(
            e.group,
            e.trigger,
            e.text,
            (LABELS["trigger"].index(of_trigger[e.group, e.trigger]), LABELS["response"].index(e.label)),
        )
        for e in examples
        if e.task == "response"
    ]


def learn(teacher: Teacher, pairs: list[LabelledPair], epochs: int) -> set[str]:
    """Fine-tune on six conversations of seven; print macro F1 on the others after each epoch; return their names."""
    truth = np.array([pair.truth for pair in pairs])
    inside, outside = split(pairs)
    weights = [
        torch.tensor(
            (len(inside) / len(LABELS[task]) / np.bincount(truth[inside, side], minlength=len(LABELS[task]))) ** 0.5,
            dtype=torch.float32,
        )
        for side, task in enumerate(TASKS)
    ]
    optimiser = torch.optim.AdamW(
        [{"params": teacher.encoder.parameters()}, {"params": teacher.tops.parameters()}], weight_decay=0.01
    )
    lengths = np.array([len(pair.trigger) + len(pair.response) for pair in pairs])
    rng = np.random.default_rng(0)
    steps, step, start = epochs * -(-len(inside) // BATCH), 0, time.perf_counter()
    for epoch in range(epochs):
        teacher.train()
        for batch in like_lengths(rng.permutation(inside), lengths, rng):
            slope = min(1, step / 40) * max(0.02, 1 - step / steps)
            for group, rate in zip(optimiser.param_groups, RATES, strict=True):
                group["lr"] = rate * slope
            logits = teacher([(pairs[i].trigger, pairs[i].response) for i in batch])
            loss = sum(
                torch.nn.functional.cross_entropy(
                    found, torch.tensor(truth[batch, side]), weight=weights[side], label_smoothing=0.05
                )
                for side, found in enumerate(logits)
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            step += 1
        guess = [
            chances.argmax(1) for chances in label(teacher, [(pairs[i].trigger, pairs[i].response) for i in outside])
        ]
        scores = [f1_score(truth[outside, side], guess[side], average="macro") for side in range(2)]
        print(f"epoch {epoch + 1}: {scores[0]:.3f} {scores[1]:.3f}, {time.perf_counter() - start:.0f} s", flush=True)
    return {pairs[i].conversation for i in outside}


def split(pairs: list[LabelledPair]) -> tuple[np.ndarray, np.ndarray]:
    """Which pairs are learned from, and which are of the conversation in seven that is held out."""
    responses, groups = [pair.truth[1] for pair in pairs], [pair.conversation for pair in pairs]
    splitter = StratifiedGroupKFold(7, shuffle=True, random_state=1)
    return next(iter(splitter.split(responses, responses, groups)))


def like_lengths(order: np.ndarray, lengths: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Batches of rows of like length, which waste no padding, in random order."""
    parts = [
        part[np.argsort(lengths[part], kind="stable")] for part in np.array_split(order, max(1, len(order) // 640))
    ]
    sorted_parts = np.concatenate(parts)
    batches = [sorted_parts[start : start + BATCH] for start in range(0, len(order), BATCH)]
    rng.shuffle(batches)
    return batches


def label(teacher: Teacher, pairs: list[tuple[str, str]]) -> tuple[np.ndarray, np.ndarray]:
    """The probability of each label of both tasks, (n, 5) and (n, 10)."""
    teacher.eval()
    found = tuple(np.zeros((len(pairs), len(LABELS[task])), np.float32) for task in TASKS)
    order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0]) + len(pairs[i][1]))
    with torch.no_grad():
        for start in range(0, len(order), 64):
            rows = order[start : start + 64]
            for chances, logits in zip(found, teacher([pairs[i] for i in rows]), strict=True):
                chances[rows] = torch.softmax(logits, 1).numpy()
    return found[0], found[1]


def unlabelled(held_out: set[str]) -> Iterator[tuple[str, int, str, str]]:
    """The other pairs of the training part, whole conversations in random order; none of a gold label's.

    Each is (conversation, turn of the trigger, trigger, response).
    """
    gold = {(one.conversation, one.turn) for one in read_gold() if one.task == "trigger"}
    conversations = [
        one for one in je.sources.open("chitchat", split="train").conversations() if one.key not in held_out
    ]
    random.Random(0).shuffle(conversations)
    for conversation in conversations:
        turns = list(turns_of(conversation.messages))
        for position, answer in pair_positions(turns):
            trigger, response = turns[position].text, turns[answer].text
            follows = answer == position + 1 and (conversation.key, position) not in gold
            if follows and max(len(trigger), len(response)) <= 300:
                yield conversation.key, position, trigger, response


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="minilm-l6")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=40_000, help="how many the teacher labels")
    parser.add_argument("--home")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    teacher = Teacher(str(find_model(arguments.base, home_folder(arguments.home)).weights_path.parent))
    held_out = learn(teacher, labelled_pairs(), arguments.epochs)
    pairs = list(islice(unlabelled(held_out), arguments.pairs))
    chances = label(teacher, [pair[2:] for pair in pairs])
    path = write_silver(
        Path(silver.__file__).parent, [pair[:2] for pair in pairs], dict(zip(TASKS, chances, strict=True))
    )
    print(f"{len(pairs):,} pairs labelled; written: {path.name}, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
