"""What a person asked to be forgotten, as rules that hold at every later ingest.

A rule says what never to store again: a contact, a conversation, or all that is older than a day. Contacts and
conversations stand as salted digests, so the library holds no name of whom it has forgotten. (Whoever has the library
can still test a guess: a digest with its salt keeps a phone number from being read, not from being tried.)
"""

from __future__ import annotations

import hashlib
import re
import secrets
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import is_
from typing import Final

from .messages import EARLIER, Conversation, Message

SALT_BYTES: Final = 16
_NUMBER: Final = re.compile(r"\+?[\d\s()./-]{5,}")


@dataclass(frozen=True, slots=True)
class Wish:
    """What to forget: everything with ``contact``, or everything sent before ``before_ms``."""

    contact: str | None = None
    before_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """Every wish so far.

    Attributes:
        contacts, conversations: digests (see ``digest``).
        before_ms: what was sent before is not stored; None if there is no such rule.
    """

    salt: bytes
    contacts: frozenset[bytes] = frozenset()
    conversations: frozenset[bytes] = frozenset()
    before_ms: int | None = None

    def __bool__(self) -> bool:
        return bool(self.contacts or self.conversations or self.before_ms is not None)

    def with_wish(self, wish: Wish) -> Rules:
        """These rules and one for ``wish``."""
        contacts, before = self.contacts, self.before_ms
        if wish.contact is not None:
            contacts = contacts | {digest(self.salt, wish.contact)}
        if wish.before_ms is not None:
            before = max(wish.before_ms, before if before is not None else wish.before_ms)
        return replace(self, contacts=contacts, before_ms=before)

    def with_aliases(self, persons: Iterable[Sequence[str]]) -> Rules:
        """These rules, holding for every name of a contact.

        Args:
            persons: for each, all the names by which the source knows them.
        """
        if not self.contacts:
            return self
        known = (name for names in persons if any(map(self._is_contact, names)) for name in names)
        return replace(self, contacts=self.contacts | {digest(self.salt, name) for name in known})

    def knows(self, wish: Wish) -> bool:
        """Whether there is a rule for ``wish`` already."""
        if wish.contact is not None:
            return digest(self.salt, wish.contact) in self.contacts
        return wish.before_ms is not None and self.before_ms is not None and self.before_ms >= wish.before_ms

    def applied(self, conversation: Conversation) -> Conversation:
        """The conversation without what is to be forgotten: the same object if there is nothing; it may be empty.

        A conversation with nobody but the contact goes as a whole, with the owner's part. Elsewhere, only what the
        contact wrote goes, with their reactions and their place among the people; and what was said by nobody knows
        whom, for it may be theirs.
        """
        if not self:
            return conversation
        if self._is_with_contact(conversation):
            return replace(conversation, messages=(), people=(), name=None)
        if self._cuts_by_date(conversation):
            conversation = _with_people(conversation)
        messages: Iterable[Message] = conversation.messages
        if any(map(self._is_contact, {*conversation.people, *_senders(conversation)})):
            messages = (message for message in messages if message.sender != EARLIER)
        kept = [self._without_tapbacks(message) for message in messages if not self._forgets(message)]
        people = tuple(person for person in conversation.people if not self._is_contact(person))
        same = len(kept) == len(conversation.messages) and all(map(is_, kept, conversation.messages))
        if same and people == conversation.people:
            return conversation
        return replace(conversation, messages=tuple(kept), people=people)

    def _is_contact(self, name: str) -> bool:
        return bool(self.contacts) and digest(self.salt, name) in self.contacts

    def _forgets(self, message: Message) -> bool:
        too_old = self.before_ms is not None and message.sent_ms < self.before_ms
        return too_old or self._is_contact(message.sender)

    def _cuts_by_date(self, conversation: Conversation) -> bool:
        if self.before_ms is None:
            return False
        return any(m.sent_ms < self.before_ms and not self._is_contact(m.sender) for m in conversation.messages)

    def _without_tapbacks(self, message: Message) -> Message:
        if not any(self._is_contact(tapback.sender) for tapback in message.tapbacks):
            return message
        return replace(message, tapbacks=tuple(t for t in message.tapbacks if not self._is_contact(t.sender)))

    def _is_with_contact(self, conversation: Conversation) -> bool:
        if not self.contacts:
            return False
        if digest(self.salt, conversation.key) in self.conversations or self._is_contact(conversation.key):
            return True
        if conversation.name is not None and not conversation.is_group and self._is_contact(conversation.name):
            return True
        if conversation.people:  # without a group, all of them are names of one person
            every = any if conversation.is_group is False else all
            return every(map(self._is_contact, conversation.people))
        if conversation.is_group:  # a part of it tells nothing of who else is there
            return False
        senders = _senders(conversation)
        forgotten = {sender for sender in senders if self._is_contact(sender)}
        others = {sender for sender, mine in senders.items() if not mine}
        unknown_owner = all(mine is None for mine in senders.values())
        return bool(forgotten) and (others <= forgotten or (unknown_owner and len(senders) <= 2))


def _with_people(conversation: Conversation) -> Conversation:
    """The conversation with the people that its senders tell of, where the source names none.

    Once old messages are gone, the senders do not tell any more whom the rest was written to; and a later wish to
    forget that contact must still find it. Of two people of whom neither is known to be the owner, both are meant.
    """
    if conversation.people or conversation.is_group is not None:
        return conversation
    senders = _senders(conversation)
    others = tuple(sender for sender, mine in senders.items() if not mine)
    unknown_pair = len(senders) <= 2 and all(mine is None for mine in senders.values())
    return replace(conversation, people=others, is_group=False if unknown_pair else None)


def _senders(conversation: Conversation) -> dict[str, bool | None]:
    """Everybody who wrote in it → whether that is the owner."""
    return {message.sender: message.is_from_me for message in conversation.messages if message.sender != EARLIER}


@lru_cache(maxsize=65_536)
def digest(salt: bytes, name: str) -> bytes:
    """Salted hash of a contact or conversation, the same however a name's letters or a number's parts are written."""
    return hashlib.blake2b(plain(name).encode("utf-8", "surrogatepass"), key=salt, digest_size=16).digest()


def plain(name: str) -> str:
    """A name without differences of writing: letter case, spaces around it, and all but the digits of a number."""
    name = name.strip()
    if _NUMBER.fullmatch(name):
        return ("+" if name.startswith("+") else "") + "".join(filter(str.isdigit, name))
    return " ".join(name.casefold().split())


def read_rules(db: sqlite3.Connection) -> Rules:
    """The rules of a library, from its table of facts."""
    facts = dict(db.execute("SELECT name, value FROM fact WHERE name LIKE 'forget.%'"))
    digests: defaultdict[str, set[bytes]] = defaultdict(set)
    for name in facts:
        _, kind, *value = name.split(".")
        if value:
            digests[kind].add(bytes.fromhex(value[0]))
    return Rules(
        salt=facts.get("forget.salt") or b"",
        contacts=frozenset(digests["contact"]),
        conversations=frozenset(digests["conversation"]),
        before_ms=facts.get("forget.before"),
    )


def store_wish(db: sqlite3.Connection, wish: Wish) -> Rules:
    """Add a wish to the rules of a library; return a rule for it alone, with the library's salt."""
    known = read_rules(db)
    salt = known.salt or secrets.token_bytes(SALT_BYTES)
    after = replace(known, salt=salt).with_wish(wish)
    _set_fact(db, "forget.salt", salt)
    if wish.contact is not None:
        _set_fact(db, f"forget.contact.{digest(salt, wish.contact).hex()}", 1)
    if wish.before_ms is not None:
        _set_fact(db, "forget.before", after.before_ms)
    return Rules(salt).with_wish(wish)


def store_conversation(db: sqlite3.Connection, rules: Rules, key: str, contact: str) -> None:
    """Add a conversation with ``contact`` to the rules: by the owner's part alone, it would not be recognised later."""
    _set_fact(db, f"forget.conversation.{digest(rules.salt, key).hex()}", digest(rules.salt, contact))


def drop_wish(db: sqlite3.Connection, wish: Wish) -> bool:
    """Take a wish out of the rules. Return whether it was there."""
    before = db.total_changes
    if wish.before_ms is not None:
        db.execute("DELETE FROM fact WHERE name = 'forget.before' AND value = ?", (wish.before_ms,))
    if wish.contact is not None and (salt := read_rules(db).salt):
        contact = digest(salt, wish.contact)
        db.execute("DELETE FROM fact WHERE name = ?", (f"forget.contact.{contact.hex()}",))
        db.execute("DELETE FROM fact WHERE name LIKE 'forget.conversation.%' AND value = ?", (contact,))
    return db.total_changes > before


def _set_fact(db: sqlite3.Connection, name: str, value: object) -> None:
    db.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, value))
