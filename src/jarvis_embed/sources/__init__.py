"""Sources: read-only readers. Each yields conversations of messages and counts what it could not read."""

from .base import Source, Unreadable
from .kinds import READERS, open_source

open = open_source  # noqa: A001  the public name: ``je.sources.open("chat.db")``

__all__ = ["READERS", "Source", "Unreadable", "open", "open_source"]
