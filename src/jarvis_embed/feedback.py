"""What the owner says of replies, as the library keeps it: beside the pairs, by their ids."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence

from .records import blocks


def read_feedback(db: sqlite3.Connection, ids: Sequence[int] | None = None) -> dict[int, bool]:
    """What the owner said of these pairs, or of all: id → whether it was good. Most have no entry."""
    if ids is None:
        return {pair: bool(good) for pair, good in db.execute("SELECT pair_id, good FROM feedback")}
    found: dict[int, bool] = {}
    for marked, block in blocks(ids):
        statement = f"SELECT pair_id, good FROM feedback WHERE pair_id IN ({marked})"  # noqa: S608
        found |= {pair: bool(good) for pair, good in db.execute(statement, block)}
    return found


def write_feedback(db: sqlite3.Connection, pair: int, good: bool | None) -> None:
    """Keep what the owner says of a pair, in the place of what they said before; None takes it back."""
    if good is None:
        db.execute("DELETE FROM feedback WHERE pair_id = ?", (pair,))
    else:
        told = (pair, good, time.time_ns() // 1_000_000)
        db.execute("INSERT OR REPLACE INTO feedback VALUES (?, ?, ?)", told)
