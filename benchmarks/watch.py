"""How long a new message takes from being written to being found, in a home whose space is already large.

    python benchmarks/watch.py HOME [--rounds 20]

HOME has a space of the model in use (``jarvis-embed ingest chitchat && jarvis-embed build``). Its library gets one
more source, a file that this program appends to while ``jarvis-embed watch`` follows it; each message is asked for
until a freshly opened space answers with it.
"""

from __future__ import annotations

import argparse
import json
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jarvis_embed as je

RUN = secrets.token_hex(3)
"""Makes the texts new: those of an earlier run are in the library."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args()
    encoder = je.load_encoder(home=given.home)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "live.jsonl"
        append(file, 0)
        command = [sys.executable, "-m", "jarvis_embed", "watch", str(file), "--home", str(given.home), "--json"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            print("first:", json.loads(process.stdout.readline())["built"]["pairs"], "pairs")
            seconds = [one_round(given.home, encoder, file, number) for number in range(1, given.rounds + 1)]
        finally:
            process.terminate()
            process.wait()
    median, worst = statistics.median(seconds), max(seconds)
    print(f"written → found, {len(seconds)} messages: median {median:.2f} s, worst {worst:.2f} s")


def append(file: Path, number: int) -> None:
    """Write a message and its answer."""
    now = time.time()
    with file.open("a") as more:
        for sender, text in (
            ("a", f"did the parcel {RUN} number {number} arrive?"),
            ("b", f"it did, {RUN} at {number}"),
        ):
            line = {"conversation": "live", "sender": sender, "time": now, "text": text}
            more.write(json.dumps(line) + "\n")


def one_round(home: Path, encoder: je.Encoder, file: Path, number: int) -> float:
    append(file, number)
    start = time.perf_counter()
    while True:
        with je.Space.open(home=home, encoder=encoder) as space:
            found = space.search(f"did the parcel {RUN} number {number} arrive?", k=1)
        if found and found[0].pair.response.startswith(f"it did, {RUN} at {number}"):
            return time.perf_counter() - start
        time.sleep(0.02)


if __name__ == "__main__":
    main()
