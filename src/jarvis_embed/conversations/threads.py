"""Turns → threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ..messages import Thread, Turn

GAP_MS: Final = 8 * 60 * 60 * 1000


def threads_in(conversation_key: str, turns: Sequence[Turn], *, vectors: Any = None) -> tuple[Thread, ...]:
    """Cut a conversation where it fell silent for a night."""
    threads: list[list[Turn]] = []
    for turn in turns:
        if not threads or turn.start_ms - threads[-1][-1].end_ms > GAP_MS:
            threads.append([])
        threads[-1].append(turn)
    return tuple(Thread(conversation_key, tuple(thread)) for thread in threads)
