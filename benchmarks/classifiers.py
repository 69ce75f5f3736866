"""Train the heads of models, score them on the gold validation labels, and with --ship put them into the package.

    python benchmarks/classifiers.py [MODEL…] [--precision int8] [--more FILE] [--ship] [--home HOME]

Every model of the list that is present, if none is named. Needs scikit-learn and chitchat-dataset.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import jarvis_embed as je
from jarvis_embed.evaluation import bootstrap, classifiers
from jarvis_embed.evaluation.bootstrap import Contributions
from jarvis_embed.evaluation.classifiers import Gold, load_gold, score_heads, score_labels
from jarvis_embed.home import home_folder
from jarvis_embed.labels.gold import Example, gold_examples, read_gold, read_labels
from jarvis_embed.labels.scheme import TASKS, Task
from jarvis_embed.models.store import all_models
from jarvis_embed.spaces import heads_store
from jarvis_embed.spaces.heads import Heads
from jarvis_embed.spaces.heads_store import ship_heads
from jarvis_embed.training import prior as prior_module
from jarvis_embed.training.heads import train_heads
from jarvis_embed.training.prior import learn_prior, ship_prior, texts_read
from jarvis_embed.training.silver import read_silver

SEED = 1


def microseconds(heads: Heads, encoder: je.Encoder, gold: Gold, number: int = 500) -> dict[str, float]:
    """Median time of labelling one message whose vector is there, by task."""
    spent: dict[str, float] = {}
    for task in TASKS:
        asked = gold.of(task)[:number]
        texts = [example.text for example in asked]
        triggers = [example.trigger for example in asked]
        vectors = encoder.read(texts)
        others = encoder.read(triggers) if task == "response" else vectors
        times = []
        for row, text in enumerate(texts):
            start = time.perf_counter()
            if task == "trigger":
                heads.label_triggers(vectors[row : row + 1], [text])
            else:
                heads.label_responses(others[row : row + 1], vectors[row : row + 1], [triggers[row]], [text])
            times.append(time.perf_counter() - start)
        spent[task] = float(np.median(times)) * 1e6
    return spent


def second_reader(task: Task) -> Contributions:
    """The second reading of the pairs that were read twice, scored as if it were a classifier."""
    found: dict[tuple[str, int], dict[int, str]] = {}
    for one in read_gold():
        if one.task == task:
            found.setdefault((one.conversation, one.turn), {})[one.reading] = one.label
    twice = {key: labels for key, labels in found.items() if {1, 2} <= set(labels)}
    truth = [Example(task, labels[1], "", "", conversation) for (conversation, _), labels in twice.items()]
    return score_labels(task, truth, [labels[2] for labels in twice.values()]).contributions


def shipped_prior(encoder: je.Encoder) -> str:
    """Learn the prior anew and put it into the package, for heads to be trained with; how long it took."""
    start = time.perf_counter()
    silver = read_silver()
    if silver is None:
        raise SystemExit("the prior needs chitchat-dataset")
    texts = texts_read(silver)
    prior = learn_prior(silver, dict(zip(texts, encoder.read(texts), strict=True)))
    ship_prior(prior, encoder, Path(prior_module.__file__).parent)
    return f"{time.perf_counter() - start:.1f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--home")
    parser.add_argument("--precision", choices=("int8", "fp32"), nargs="*", default=["int8"])
    parser.add_argument("--ship", action="store_true", help="put prior and heads into the package, both made anew")
    parser.add_argument("--more", type=Path, help="further labels to learn from, in the columns of labels.csv")
    arguments = parser.parse_args()
    home = home_folder(arguments.home)
    gold = load_gold()
    if arguments.more:
        more = read_labels(arguments.more.read_text(encoding="utf-8"), arguments.more.name)
        gold = replace(gold, learned=tuple(gold_examples("train", [*read_gold(), *more])))
    beside = classifiers.baselines(gold)
    for task in TASKS:
        for kind, found in {**beside[task], "second reader": second_reader(task)}.items():
            around = bootstrap.interval(found, SEED)
            print(f"{task:<9} {kind:<22} {found.value:.3f} ({around.low:.3f}–{around.high:.3f})", flush=True)
    names = arguments.models or [model.name for model in all_models(home) if model.folder]
    for name in names:
        for precision in arguments.precision:
            encoder = je.load_encoder(name, home=home, precision=precision, cache=0)
            if arguments.ship:
                print("shipped prior:", shipped_prior(encoder), flush=True)
            start = time.perf_counter()
            heads = train_heads(encoder, gold.learned, seed=SEED, home=home)
            spent = time.perf_counter() - start
            took = microseconds(heads, encoder, gold)
            for task, score in score_heads(heads, encoder, gold).items():
                around = bootstrap.interval(score.contributions, SEED)
                print(
                    f"{task:<9} {name + ' ' + precision:<22} {score.contributions.value:.3f} "
                    f"({around.low:.3f}–{around.high:.3f}), {took[task]:.0f} µs, "
                    f"answered {score.answered:.3f}, of these right {score.right:.3f}, {heads.facts[task]}"
                )
                print("          " + ", ".join(f"{label} {f1:.2f}" for label, f1 in score.by_label.items()))
            print(f"trained in {spent:.1f} s", flush=True)
            if arguments.ship:
                print("shipped:", ship_heads(heads, Path(heads_store.__file__).parent).name)


if __name__ == "__main__":
    main()
