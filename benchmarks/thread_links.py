"""Learn the scorer of conversations/links.py anew, from annotated chat-room logs and chitchat run together.

    python benchmarks/thread_links.py --data DIR [--model minilm-l6] [--home HOME] [--ship]

DIR holds irc_threads_train (docs/threads.md). A minute on one core, after some minutes in which 97,000 texts are
embedded. Needs chitchat-dataset, of which the training part is read. Without --ship nothing is written. Afterwards:
jarvis-embed threads measure --data DIR
"""

from __future__ import annotations

import argparse
from pathlib import Path

import jarvis_embed as je
from jarvis_embed.conversations import links
from jarvis_embed.evaluation.data import read_logs
from jarvis_embed.evaluation.entangled import Kind, said_in, streams
from jarvis_embed.sources import open_source
from jarvis_embed.training.thread_links import joined, learn, of_log, of_stream, write_scorer

KINDS: tuple[Kind, ...] = ("own people", "shared people")
EVERY = 8
"""Of the conversations of chitchat, one in so many, so that the logs outweigh what no person annotated."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="minilm-l6")
    parser.add_argument("--home")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ship", action="store_true", help="write it into the package")
    arguments = parser.parse_args()
    logs = read_logs(arguments.data, "train")
    if logs is None:
        parser.error(f"{arguments.data} holds no irc_threads_train")
    embed = je.load_encoder(arguments.model, home=arguments.home, precision="int8").embed
    said = said_in(list(open_source("chitchat", split="train").conversations())[::EVERY])
    parts = []
    for number, log in enumerate(logs, 1):
        parts.append(of_log(log, embed))
        print(f"\r{number} of {len(logs)} logs", end="", flush=True)
    for number, kind in enumerate(KINDS):
        parts += [of_stream(stream, embed) for stream in streams(said, kind, seed=5 + number)]
    examples = joined(parts)
    print(f"\n{len(examples.turns):,} turns with their links", flush=True)
    scorer = learn(
        examples, seed=arguments.seed, progress=lambda done, total: print(f"epoch {done} of {total}", flush=True)
    )
    if arguments.ship:
        path = Path(links.__file__).with_name(links.FILE)
        write_scorer(scorer, path)
        print(f"written: {path.name}, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
