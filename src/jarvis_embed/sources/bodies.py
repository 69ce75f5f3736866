"""``attributedBody`` → text: the typedstream in which Messages keeps a formatted text.

The stream is an archived NSAttributedString; its first object is the string, the rest is attributes. Nearly every body
begins with the same bytes up to the string, so that the text is a slice; any other is read by the package
``pytypedstream``, event by event. A test compares both with the package's full unarchiver.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from typedstream.stream import BeginObject, InvalidTypedStreamError, SingleClass, TypedStreamReader

_HEADER: Final = b"\x04\x0bstreamtyped\x81\xe8\x03\x84\x01@\x84\x84\x84"
_STARTS: Final = (
    _HEADER + b"\x12NSAttributedString\x00\x84\x84\x08NSObject\x00\x85\x92\x84\x84\x84\x08NSString\x01\x94\x84\x01+",
    _HEADER
    + b"\x19NSMutableAttributedString\x00\x84\x84\x12NSAttributedString\x00\x84\x84\x08NSObject\x00\x85\x92\x84\x84\x84"
    + b"\x0fNSMutableString\x01\x84\x84\x08NSString\x01\x95\x84\x01+",
)
"""What stands before the length of the string: NSAttributedString, and its mutable form."""

_END_OF_OBJECT: Final = 0x86
_SIZES: Final = {0x81: 2, 0x82: 4}
"""Tag → bytes of the length that follows; a tag below 128 is the length itself."""

_EVENTS: Final = 1000
"""The string comes within the first dozen; a hostile stream may announce billions."""


def text_of_body(body: bytes) -> str | None:
    """The text of an ``attributedBody``, with U+FFFC where an attachment stands; None if it cannot be read."""
    text = _usual(body)
    return text if text is not None else _unusual(body)


def _usual(body: bytes) -> str | None:
    for start in _STARTS:
        if body.startswith(start):
            break
    else:
        return None
    at = len(start) + 1
    if at > len(body):
        return None
    length = body[at - 1]
    if length > 0x7F:
        if length not in _SIZES:
            return None
        size = _SIZES[length]
        length = int.from_bytes(body[at : at + size], "little")
        at += size
    end = at + length
    if end >= len(body) or body[end] != _END_OF_OBJECT:
        return None
    try:
        return body[at:end].decode()
    except UnicodeDecodeError:
        return None


def _unusual(body: bytes) -> str | None:
    try:
        with TypedStreamReader.from_data(body) as events:
            inside = False  # the first object whose class is a string, or comes from one
            classes: list[bytes] = []
            for event in islice(events, _EVENTS):
                if isinstance(event, BeginObject):
                    classes = []
                elif isinstance(event, SingleClass):
                    classes.append(event.name)
                    inside = b"NSString" in classes
                elif inside and isinstance(event, bytes):
                    return event.decode()
    except (InvalidTypedStreamError, ValueError, IndexError, EOFError, RecursionError):
        pass
    return None
