"""Sources: read-only readers. Each yields conversations of messages and counts what it could not read."""

from .base import ORDERS, DateOrder, ReadOptions, Source, Unreadable
from .kinds import READERS, kind_of, open_source

open = open_source  # noqa: A001  the public name: ``je.sources.open("chat.db")``

__all__ = ["ORDERS", "READERS", "DateOrder", "ReadOptions", "Source", "Unreadable", "kind_of", "open", "open_source"]
