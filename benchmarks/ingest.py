"""Time the ingest of a Messages database of 400,000 messages: from empty, and again with 100 new ones.

    python benchmarks/ingest.py [--messages 400000] [--conversations 250] [--json]

The database is made in Apple's schema of macOS 15 from the training part of chitchat, in a temporary folder:
conversations of very different length, with replies and tapbacks. Once the text is in the column ``text``, once every
text is in an ``attributedBody``. Each ingest runs in a process of its own, whose peak memory is reported. (The database
is written in another one: a process inherits the peak of the one that started it.)
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import apple
import jarvis_embed as je

TAPBACKS, REPLIES = 0.05, 0.02


def write_database(path: Path, number: int, conversations: int, bodies: bool) -> None:
    """Fill a new database with ``number`` messages."""
    choose = random.Random(0)
    texts = [m.text for c in je.sources.open("chitchat").conversations() for m in c.messages]
    made = apple.ChatDb(path)
    made.db.execute("BEGIN")
    chats = []
    for person in range(conversations):
        handle = made.handle(f"+1555{person:07}")
        chats.append((made.chat(f"+1555{person:07}", handle), handle))
    weights = [1 / (rank + 3) for rank in range(conversations)]
    made.clock -= 60_000 * number
    rows = []
    row = 0
    last: dict[int, int] = {}
    joins = []
    for _ in range(number):
        chat, handle = choose.choices(chats, weights)[0]
        row += 1
        made.clock += choose.choice((1_000, 20_000, 60_000, 400_000))
        mine = choose.random() < 0.5
        text = texts[choose.randrange(len(texts))]
        reply = f"GUID-{last[chat]}" if chat in last and choose.random() < REPLIES else None
        rows.append(_row(row, None if bodies else text, apple.body(text), handle, mine, made.clock, reply, None, 0))
        joins.append((chat, row, apple.nanoseconds(made.clock)))
        last[chat] = row
        if choose.random() < TAPBACKS:
            row += 1
            target = f"p:0/GUID-{last[chat]}"
            rows.append(_row(row, None, None, handle, not mine, made.clock + 500, None, target, 2000))
            joins.append((chat, row, apple.nanoseconds(made.clock + 500)))
        if len(rows) > 5000:
            _write(made, rows, joins)
    _write(made, rows, joins)
    made.db.execute("COMMIT")
    made.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    made.close()


_COLUMNS = (
    "ROWID, guid, text, attributedBody, handle_id, is_from_me, date, service, thread_originator_guid, "
    "associated_message_guid, associated_message_type, account, account_guid, is_finished, is_sent"
)


def _row(
    row: int,
    text: str | None,
    body: bytes | None,
    handle: int,
    mine: bool,
    sent_ms: int,
    reply: str | None,
    target: str | None,
    kind: int,
) -> tuple[object, ...]:
    account = ("E:robin@example.com", "8B3F8C4E-5D2A-4A3B-9C1D-0123456789AB", 1, 1)
    date = apple.nanoseconds(sent_ms)
    return (row, f"GUID-{row}", text, body, handle, int(mine), date, "iMessage", reply, target, kind, *account)


def _write(made: apple.ChatDb, rows: list[tuple[object, ...]], joins: list[tuple[int, int, int]]) -> None:
    made.db.executemany(f"INSERT INTO message ({_COLUMNS}) VALUES ({','.join('?' * 15)})", rows)
    made.db.executemany("INSERT INTO chat_message_join VALUES (?, ?, ?)", joins)
    rows.clear()
    joins.clear()


def add_messages(path: Path, number: int) -> None:
    """Append ``number`` messages, each to any of the conversations."""
    choose = random.Random(1)
    made = apple.ChatDb(path, exists=True)
    made.clock = 1_750_000_000_000
    chats = made.db.execute("SELECT ROWID FROM chat").fetchall()
    with made.db:
        for count in range(number):
            (chat,) = choose.choice(chats)
            made.say(chat, f"new message {count}", chat if count % 2 else None)
    made.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    made.close()


def ingest(path: Path, home: Path) -> dict[str, float]:
    """Ingest in this process; return seconds, counts and peak memory."""
    start = time.perf_counter()
    with je.Library.open(home) as library:
        report = library.ingest(je.sources.open(path))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    return {"seconds": seconds, "read": report.read, "new": report.new, "peak_mb": peak}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--messages", type=int, default=400_000)
    arguments.add_argument("--json", action="store_true")
    arguments.add_argument("--conversations", type=int, default=250)
    arguments.add_argument("--write", nargs=2, metavar=("DATABASE", "BODIES"), help=argparse.SUPPRESS)
    arguments.add_argument("--add", metavar="DATABASE", help=argparse.SUPPRESS)
    arguments.add_argument("--ingest", nargs=2, metavar=("DATABASE", "HOME"), help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.ingest:
        print(json.dumps(ingest(Path(given.ingest[0]), Path(given.ingest[1]))))
        return
    if given.write:
        write_database(Path(given.write[0]), given.messages, given.conversations, given.write[1] == "attributedBody")
        return
    if given.add:
        add_messages(Path(given.add), 100)
        return
    results = {}
    sizes = ["--messages", str(given.messages), "--conversations", str(given.conversations)]
    for name in ("text", "attributedBody"):
        with tempfile.TemporaryDirectory() as folder:
            path, home = Path(folder) / "chat.db", Path(folder) / "home"
            subprocess.run([sys.executable, __file__, "--write", str(path), name, *sizes], check=True)
            for step in ("from empty", "nothing new", "100 new"):
                if step == "100 new":
                    subprocess.run([sys.executable, __file__, "--add", str(path)], check=True)
                command = [sys.executable, __file__, "--ingest", str(path), str(home)]
                told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                results[f"{name}, {step}"] = result = json.loads(told)
                if not given.json:
                    print(
                        f"{name:15} {step:12} {result['seconds']:7.2f} s   {result['read']:7,} read   "
                        f"{result['new']:7,} new   peak {result['peak_mb']:.0f} MB",
                        flush=True,
                    )
    if given.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
