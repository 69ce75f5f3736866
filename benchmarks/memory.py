"""How much memory and time 400,000 messages take: ingest and build, each in a process of its own.

    python benchmarks/memory.py [--messages N]

The messages are those of chitchat's training part, again and again, each time with a number behind it, so that all
are different. Memory is the most that a process held of its own, looked at ten times a second, less what it holds with
nothing but the encoder loaded. Pages of mapped files (vectors, index) are the system's cache and are not counted.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from jarvis_embed.sources import open_source

STEPS = {
    "compile": "je.load_encoder(home=home)",
    "encoder": "je.load_encoder(home=home).embed(['hey'])",
    "ingest": "je.Library.open(home).ingest(je.sources.open(file))",
    "build": "je.build(je.load_encoder(home=home), home)",
}


def write_history(path: Path, messages: int) -> None:
    chats = list(open_source("chitchat", split="train").conversations())
    written = 0
    with path.open("w", encoding="utf-8") as file:
        for again in itertools.count():
            for chat in chats:
                for message in chat.messages:
                    if written == messages:
                        return
                    stated = {
                        "conversation": f"{chat.key}/{again}",
                        "id": message.key,
                        "sender": message.sender,
                        "time": message.sent_ms / 1000,
                        "text": f"{message.text} {written}",
                    }
                    file.write(json.dumps(stated) + "\n")
                    written += 1


def own_memory_mb(process: int) -> float:
    """What a process holds that is in no file, in MB (10^6 bytes); Linux only."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("RssAnon:")[2].split()[0]) * 1024 / 1e6
    except (OSError, IndexError):
        return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=400_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        history = Path(folder) / "history.jsonl"
        write_history(history, asked.messages)
        base = 0.0
        for step, code in STEPS.items():
            program = f"import sys, jarvis_embed as je; home, file = sys.argv[1:]; {code}"
            command = [sys.executable, "-c", program, str(Path(folder) / "home"), str(history)]
            start, peak = time.perf_counter(), 0.0
            with subprocess.Popen(command) as process:
                while process.poll() is None:
                    peak = max(peak, own_memory_mb(process.pid))
                    time.sleep(0.1)
            if process.returncode:
                sys.exit(f"{step} failed")
            base = peak if step == "encoder" else base or peak
            seconds = time.perf_counter() - start
            print(
                f"{step:8} {seconds:7.1f} s  peak {peak:6.0f} MB  above the encoder {peak - base:6.0f} MB", flush=True
            )


if __name__ == "__main__":
    main()
