"""Messages databases in Apple's own schemas, and the typedstream bodies in them, written from scratch for tests.

The tables, columns and indexes are those of three generations: OS X 10.11 (before tapbacks), macOS 14 and macOS 15 (the
same as 26). Facts about the last two were checked against the package ``imessage-data-foundry`` (MIT), which generates
such databases.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

Generation = Literal["10.11", "14", "15"]
GENERATIONS: Final[tuple[Generation, ...]] = ("10.11", "14", "15")

EPOCH_MS: Final = 978_307_200_000
URL_PREVIEW: Final = "com.apple.messages.URLBalloonProvider"

_MESSAGE_1011: Final = (
    "ROWID INTEGER PRIMARY KEY AUTOINCREMENT, guid TEXT UNIQUE NOT NULL, text TEXT, replace INTEGER DEFAULT 0, "
    "service_center TEXT, handle_id INTEGER DEFAULT 0, subject TEXT, country TEXT, attributedBody BLOB, "
    "version INTEGER DEFAULT 0, type INTEGER DEFAULT 0, service TEXT, account TEXT, account_guid TEXT, "
    "error INTEGER DEFAULT 0, date INTEGER, date_read INTEGER, date_delivered INTEGER, "
    "is_delivered INTEGER DEFAULT 0, is_finished INTEGER DEFAULT 0, is_emote INTEGER DEFAULT 0, "
    "is_from_me INTEGER DEFAULT 0, is_empty INTEGER DEFAULT 0, is_delayed INTEGER DEFAULT 0, "
    "is_auto_reply INTEGER DEFAULT 0, is_prepared INTEGER DEFAULT 0, is_read INTEGER DEFAULT 0, "
    "is_system_message INTEGER DEFAULT 0, is_sent INTEGER DEFAULT 0, has_dd_results INTEGER DEFAULT 0, "
    "is_service_message INTEGER DEFAULT 0, is_forward INTEGER DEFAULT 0, was_downgraded INTEGER DEFAULT 0, "
    "is_archive INTEGER DEFAULT 0, cache_has_attachments INTEGER DEFAULT 0, cache_roomnames TEXT, "
    "was_data_detected INTEGER DEFAULT 0, was_deduplicated INTEGER DEFAULT 0, is_audio_message INTEGER DEFAULT 0, "
    "is_played INTEGER DEFAULT 0, date_played INTEGER, item_type INTEGER DEFAULT 0, other_handle INTEGER DEFAULT 0, "
    "group_title TEXT, group_action_type INTEGER DEFAULT 0, share_status INTEGER, share_direction INTEGER, "
    "is_expirable INTEGER DEFAULT 0, expire_state INTEGER DEFAULT 0, message_action_type INTEGER DEFAULT 0, "
    "message_source INTEGER DEFAULT 0"
)
_MESSAGE_14: Final = _MESSAGE_1011 + (
    ", associated_message_guid TEXT DEFAULT NULL, balloon_bundle_id TEXT DEFAULT NULL, payload_data BLOB, "
    "associated_message_type INTEGER DEFAULT 0, expressive_send_style_id TEXT DEFAULT NULL, "
    "associated_message_range_location INTEGER DEFAULT 0, associated_message_range_length INTEGER DEFAULT 0, "
    "time_expressive_send_played INTEGER DEFAULT 0, message_summary_info BLOB DEFAULT NULL, "
    "ck_sync_state INTEGER DEFAULT 0, ck_record_id TEXT DEFAULT NULL, ck_record_change_tag TEXT DEFAULT NULL, "
    "destination_caller_id TEXT DEFAULT NULL, sr_ck_sync_state INTEGER DEFAULT 0, sr_ck_record_id TEXT DEFAULT NULL, "
    "sr_ck_record_change_tag TEXT DEFAULT NULL, is_corrupt INTEGER DEFAULT 0, reply_to_guid TEXT DEFAULT NULL, "
    "sort_id INTEGER DEFAULT 0, is_spam INTEGER DEFAULT 0, has_unseen_mention INTEGER DEFAULT 0, "
    "thread_originator_guid TEXT DEFAULT NULL, thread_originator_part TEXT DEFAULT NULL, "
    "syndication_ranges TEXT DEFAULT NULL, was_delivered_quietly INTEGER DEFAULT 0, "
    "did_notify_recipient INTEGER DEFAULT 0, synced_syndication_ranges TEXT DEFAULT NULL, "
    "date_retracted INTEGER DEFAULT 0, date_edited INTEGER DEFAULT 0, was_detonated INTEGER DEFAULT 0, "
    "part_count INTEGER, is_stewie INTEGER DEFAULT 0, is_kt_verified INTEGER DEFAULT 0, is_sos INTEGER DEFAULT 0, "
    "is_critical INTEGER DEFAULT 0, bia_reference_id TEXT DEFAULT NULL, fallback_hash TEXT DEFAULT NULL"
)
_MESSAGE_15: Final = _MESSAGE_14 + (
    ", associated_message_emoji TEXT DEFAULT NULL, is_pending_satellite_send INTEGER DEFAULT 0, "
    "needs_relay INTEGER DEFAULT 0, schedule_type INTEGER DEFAULT 0, schedule_state INTEGER DEFAULT 0, "
    "sent_or_received_off_grid INTEGER DEFAULT 0, date_recovered INTEGER DEFAULT 0"
)
_HANDLE_1011: Final = (
    "ROWID INTEGER PRIMARY KEY AUTOINCREMENT UNIQUE, id TEXT NOT NULL, country TEXT, service TEXT NOT NULL, "
    "uncanonicalized_id TEXT"
)
_CHAT_1011: Final = (
    "ROWID INTEGER PRIMARY KEY AUTOINCREMENT, guid TEXT UNIQUE NOT NULL, style INTEGER, state INTEGER, "
    "account_id TEXT, properties BLOB, chat_identifier TEXT, service_name TEXT, room_name TEXT, account_login TEXT, "
    "is_archived INTEGER DEFAULT 0, last_addressed_handle TEXT, display_name TEXT"
)
_CHAT_14: Final = _CHAT_1011 + (
    ", group_id TEXT, is_filtered INTEGER DEFAULT 0, successful_query INTEGER DEFAULT 1, engram_id TEXT, "
    "server_change_token TEXT, ck_sync_state INTEGER DEFAULT 0, last_read_message_timestamp INTEGER DEFAULT 0, "
    "original_group_id TEXT DEFAULT NULL, sr_server_change_token TEXT, sr_ck_sync_state INTEGER DEFAULT 0, "
    "cloudkit_record_id TEXT DEFAULT NULL, sr_cloudkit_record_id TEXT DEFAULT NULL, "
    "last_addressed_sim_id TEXT DEFAULT NULL, is_blackholed INTEGER DEFAULT 0, syndication_date INTEGER DEFAULT 0, "
    "syndication_type INTEGER DEFAULT 0, is_recovered INTEGER DEFAULT 0, "
    "is_deleting_incoming_messages INTEGER DEFAULT 0"
)
_JOINS: Final = (
    "CREATE TABLE chat_handle_join (chat_id INTEGER REFERENCES chat (ROWID) ON DELETE CASCADE, "
    "handle_id INTEGER REFERENCES handle (ROWID) ON DELETE CASCADE, UNIQUE(chat_id, handle_id))",
    "CREATE TABLE message_attachment_join (message_id INTEGER REFERENCES message (ROWID) ON DELETE CASCADE, "
    "attachment_id INTEGER, UNIQUE(message_id, attachment_id))",
    "CREATE TABLE _SqliteDatabaseProperties (key TEXT, value TEXT, UNIQUE(key))",
    "CREATE INDEX chat_handle_join_idx_handle_id ON chat_handle_join(handle_id)",
    "CREATE INDEX chat_message_join_idx_chat_id ON chat_message_join(chat_id)",
    "CREATE INDEX message_idx_handle ON message(handle_id, date)",
    "CREATE INDEX message_idx_failed ON message(is_finished, is_from_me, error)",
)
_JOINS_1011: Final = (
    "CREATE TABLE chat_message_join (chat_id INTEGER REFERENCES chat (ROWID) ON DELETE CASCADE, "
    "message_id INTEGER REFERENCES message (ROWID) ON DELETE CASCADE, PRIMARY KEY (chat_id, message_id))",
)
_JOINS_14: Final = (
    "CREATE TABLE chat_message_join (chat_id INTEGER REFERENCES chat (ROWID) ON DELETE CASCADE, "
    "message_id INTEGER REFERENCES message (ROWID) ON DELETE CASCADE, message_date INTEGER DEFAULT 0, "
    "PRIMARY KEY (chat_id, message_id))",
    "CREATE TABLE chat_recoverable_message_join (chat_id INTEGER REFERENCES chat (ROWID) ON DELETE CASCADE, "
    "message_id INTEGER REFERENCES message (ROWID) ON DELETE CASCADE, delete_date INTEGER, "
    "ck_sync_state INTEGER DEFAULT 0, PRIMARY KEY (chat_id, message_id), CHECK (delete_date != 0))",
    "CREATE TABLE deleted_messages (ROWID INTEGER PRIMARY KEY AUTOINCREMENT UNIQUE, guid TEXT NOT NULL)",
    "CREATE INDEX chat_message_join_idx_message_id_only ON chat_message_join(message_id)",
    "CREATE INDEX chat_message_join_idx_message_date_id_chat_id "
    "ON chat_message_join(chat_id, message_date, message_id)",
    "CREATE INDEX chat_recoverable_message_join_message_id_idx ON chat_recoverable_message_join(message_id)",
    "CREATE INDEX message_idx_date ON message(date)",
    "CREATE INDEX message_idx_thread_originator_guid ON message(thread_originator_guid)",
    "CREATE INDEX message_idx_associated_message2 ON message(associated_message_guid) "
    "WHERE associated_message_guid IS NOT NULL",
    "CREATE TRIGGER add_to_deleted_messages AFTER DELETE ON message BEGIN "
    "INSERT INTO deleted_messages (guid) VALUES (OLD.guid); END",
)


def schema(generation: Generation) -> list[str]:
    """The statements that make an empty database of one generation."""
    message = {"10.11": _MESSAGE_1011, "14": _MESSAGE_14, "15": _MESSAGE_15}[generation]
    new = generation != "10.11"
    return [
        f"CREATE TABLE message ({message})",
        f"CREATE TABLE handle ({_HANDLE_1011}{', person_centric_id TEXT DEFAULT NULL' * new}, UNIQUE (id, service))",
        f"CREATE TABLE chat ({_CHAT_14 if new else _CHAT_1011})",
        *(_JOINS_14 if new else _JOINS_1011),
        *_JOINS,
    ]


def nanoseconds(sent_ms: int) -> int:
    """Apple's time since macOS 10.13."""
    return (sent_ms - EPOCH_MS) * 1_000_000


@dataclass
class ChatDb:
    """A database that a test fills: one connection in WAL mode, as Messages has it."""

    path: Path
    generation: Generation = "15"
    clock: int = field(default=1_700_000_000_000)
    exists: bool = False

    def __post_init__(self) -> None:
        self.db = sqlite3.connect(self.path, isolation_level=None)
        self.db.execute("PRAGMA journal_mode = WAL")
        for statement in () if self.exists else schema(self.generation):
            self.db.execute(statement)
        self.columns = {name for _, name, *_ in self.db.execute("PRAGMA table_info(message)")}

    def close(self) -> None:
        self.db.close()

    def insert(self, table: str, **values: object) -> int:
        marks = ",".join("?" * len(values))
        names = ",".join(values)
        return self.db.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(values.values())).lastrowid or 0

    def handle(self, identifier: str, service: str = "iMessage", person: str | None = None) -> int:
        values = {"id": identifier, "service": service}
        return self.insert("handle", **values, **({"person_centric_id": person} if person else {}))

    def chat(self, identifier: str, *handles: int, service: str = "iMessage", **values: object) -> int:
        group = len(handles) > 1
        row = self.insert(
            "chat",
            **{
                "guid": f"{service};{'+' if group else '-'};{identifier}",
                "style": 45 if group else 43,
                "chat_identifier": identifier,
                "service_name": service,
                **values,
            },
        )
        for handle in handles:
            self.insert("chat_handle_join", chat_id=row, handle_id=handle)
        return row

    def say(self, chat: int | None, text: str | None, sender: int | None = None, **values: object) -> int:
        """One message, a second after the one before; by the owner where ``sender`` is None. Columns by name."""
        self.clock += 1000
        number = self.db.execute("SELECT coalesce(max(ROWID), 0) + 1 FROM message").fetchone()[0]
        columns: dict[str, object] = {
            "guid": f"GUID-{number}",
            "text": text,
            "handle_id": sender or 0,
            "is_from_me": int(sender is None),
            "date": nanoseconds(self.clock),
            "service": "iMessage",
        } | values
        row = self.insert("message", **{name: value for name, value in columns.items() if name in self.columns})
        if chat is not None:
            self.join(chat, row)
        return row

    def join(self, chat: int, row: int) -> None:
        self.insert("chat_message_join", chat_id=chat, message_id=row)

    def guid(self, row: int) -> str:
        return str(self.db.execute("SELECT guid FROM message WHERE ROWID = ?", (row,)).fetchone()[0])

    def tapback(
        self, chat: int, target: int, kind: int, sender: int | None = None, prefix: str = "p:0/", **values: object
    ) -> int:
        reference = {"associated_message_guid": prefix + self.guid(target), "associated_message_type": kind}
        return self.say(chat, "Loved “…”", sender, **(reference | values))

    def reply(self, chat: int, text: str, to: int, sender: int | None = None, **values: object) -> int:
        return self.say(chat, text, sender, thread_originator_guid=self.guid(to), **values)

    def update(self, row: int, **values: object) -> None:
        names = ", ".join(f"{name} = ?" for name in values)
        self.db.execute(f"UPDATE message SET {names} WHERE ROWID = ?", [*values.values(), row])

    def edit(self, row: int, text: str) -> None:
        """The body gets the new text; the ``text`` column keeps the old one, as it may happen."""
        self.clock += 1000
        self.update(row, attributedBody=body(text), date_edited=nanoseconds(self.clock))

    def unsend(self, row: int) -> None:
        self.clock += 1000
        self.update(row, text=None, attributedBody=None, date_edited=nanoseconds(self.clock), is_empty=1)

    def delete(self, row: int) -> None:
        self.db.execute("DELETE FROM chat_message_join WHERE message_id = ?", (row,))
        self.db.execute("DELETE FROM message WHERE ROWID = ?", (row,))

    def recently_delete(self, chat: int, row: int) -> None:
        self.db.execute("DELETE FROM chat_message_join WHERE message_id = ?", (row,))
        self.insert("chat_recoverable_message_join", chat_id=chat, message_id=row, delete_date=1)


# Typedstreams

_HEADER: Final = b"\x04\x0bstreamtyped\x81\xe8\x03"
_NEW: Final = b"\x84"
_NIL: Final = b"\x85"
_END: Final = b"\x86"


class _Writer:
    """NSArchiver's side of the format: strings and classes are written once, and then as references."""

    def __init__(self) -> None:
        self.out = bytearray(_HEADER)
        self._strings: dict[bytes, int] = {}
        self._objects: dict[object, int] = {}
        self._count = 0

    def number(self, value: int) -> None:
        if -110 <= value <= 127:
            self.out += value.to_bytes(1, "little", signed=True)
        elif -32_768 <= value <= 65_535:
            self.out += b"\x81" + (value & 0xFFFF).to_bytes(2, "little")
        else:
            self.out += b"\x82" + (value & 0xFFFFFFFF).to_bytes(4, "little")

    def reference(self, number: int) -> None:
        self.number(number - 110)

    def string(self, value: bytes) -> None:
        if value in self._strings:
            self.reference(self._strings[value])
            return
        self._strings[value] = len(self._strings)
        self.out += _NEW
        self.number(len(value))
        self.out += value

    def begin(self, *classes: tuple[bytes, int]) -> None:
        """Begin an object of a class, its superclasses after it."""
        self.out += _NEW
        self._count += 1
        for name, version in classes:
            if name in self._objects:
                self.reference(self._objects[name])
                return
            self._objects[name] = self._count
            self._count += 1
            self.out += _NEW
            self.string(name)
            self.number(version)
        self.out += _NIL

    def end(self) -> None:
        self.out += _END

    def text(self, value: str, mutable: bool = False) -> None:
        self.string(b"@")
        classes = ((b"NSMutableString", 1),) if mutable else ()
        self.begin(*classes, (b"NSString", 1), (b"NSObject", 0))
        self.string(b"+")
        encoded = value.encode()
        self.number(len(encoded))
        self.out += encoded
        self.end()

    def whole_number(self, value: int) -> None:
        self.string(b"@")
        self.begin((b"NSNumber", 0), (b"NSValue", 0), (b"NSObject", 0))
        self.string(b"*")
        self.out += _NEW
        self._count += 1
        self.string(b"i")
        self.string(b"i")
        self.number(value)
        self.end()

    def attributes(self, attributes: dict[str, str | int]) -> None:
        self.string(b"@")
        self.begin((b"NSDictionary", 0), (b"NSObject", 0))
        self.string(b"i")
        self.number(len(attributes))
        for name, value in attributes.items():
            self.text(name)
            self.text(value) if isinstance(value, str) else self.whole_number(value)
        self.end()


PART: Final = "__kIMMessagePartAttributeName"
FILE: Final = "__kIMFileTransferGUIDAttributeName"
MENTION: Final = "__kIMMentionConfirmedMention"


def body(text: str, runs: list[tuple[int, dict[str, str | int]]] | None = None, *, mutable: bool = False) -> bytes:
    """An ``attributedBody``: an NSAttributedString as NSArchiver writes it.

    Args:
        runs: length in UTF-16 units and attributes of each part; one run over all of it if None.
        mutable: NSMutableAttributedString and NSMutableString, as in messages that were composed on the Mac.
    """
    writer = _Writer()
    writer.string(b"@")
    classes = ((b"NSMutableAttributedString", 0),) if mutable else ()
    writer.begin(*classes, (b"NSAttributedString", 0), (b"NSObject", 0))
    writer.text(text, mutable)
    known: dict[tuple[tuple[str, str | int], ...], int] = {}
    for length, attributes in runs or [(len(text.encode("utf-16-le")) // 2, {PART: 0})]:
        writer.string(b"iI")
        key = tuple(attributes.items())
        new = key not in known
        known.setdefault(key, len(known) + 1)
        writer.number(known[key])
        writer.number(length)
        if new:
            writer.attributes(attributes)
    writer.end()
    return bytes(writer.out)
