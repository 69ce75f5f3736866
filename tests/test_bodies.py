"""The text of an ``attributedBody``: the short way and the package agree, and nothing makes it raise."""

from __future__ import annotations

import random

import pytest
import typedstream
from hypothesis import given
from hypothesis import strategies as st

import apple
from jarvis_embed.sources import bodies
from jarvis_embed.sources.bodies import text_of_body

RUNS = [(2, {apple.PART: 0}), (1, {apple.FILE: "at_0_x", apple.PART: 1}), (4, {apple.PART: 2, apple.MENTION: "+1555"})]
TEXTS = {
    "short": ("hey", {}),
    "empty": ("", {}),
    "127 bytes": ("x" * 127, {}),
    "128 bytes": ("x" * 128, {}),
    "more than 127 bytes": ("é" * 100, {}),
    "more than 65,535 bytes": ("long " * 20_000, {}),
    "emoji": ("🤷🏽‍♀️ ok 😂", {}),
    "several runs, a file and a mention": ("😂\ufffc Anna", {"runs": RUNS}),
    "composed on a Mac": ("lunch?", {"mutable": True}),
}


def unarchived(body: bytes) -> str:
    """What the package makes of it."""
    return typedstream.unarchive_from_data(body).contents[0].values[0].value


@pytest.mark.parametrize(("text", "form"), TEXTS.values(), ids=TEXTS)
def test_the_short_way_the_events_and_the_unarchiver_agree(text: str, form: dict[str, object]) -> None:
    body = apple.body(text, **form)
    assert bodies._usual(body) == bodies._unusual(body) == unarchived(body) == text


@given(st.text(), st.booleans())
def test_they_agree_on_any_text(text: str, mutable: bool) -> None:
    text = text.encode("utf-8", "replace").decode()
    body = apple.body(text, mutable=mutable)
    assert bodies._usual(body) == bodies._unusual(body) == unarchived(body) == text


def test_they_agree_on_real_messages(messages: list[str]) -> None:
    for text in messages:
        body = apple.body(text, mutable=len(text) % 2 == 0)
        assert bodies._usual(body) == unarchived(body) == text


def test_what_is_not_laid_out_as_usual_is_read_by_the_package() -> None:
    writer = apple._Writer()  # a plain string, and one whose class comes from a string
    writer.text("hey")
    assert bodies._usual(bytes(writer.out)) is None
    assert text_of_body(bytes(writer.out)) == "hey"
    odd = apple.body("hey").replace(b"\x12NSAttributedString", b"\x12NSAttributedStrung")
    assert (bodies._usual(odd), text_of_body(odd)) == (None, "hey")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hey",
        apple.body("hey")[:70],
        apple.body("hey").replace(b"\x03hey", b"\x7fhey"),
        apple.body("hey").replace(b"\x03hey", b"\x82\xff\xff\xff\xffhey"),
        apple.body("hey").replace(b"hey", b"h\xff\xffy"[:3]),
        apple._HEADER + b"\x84\x0c[999999999!]",
    ],
    ids=["nothing", "text", "cut off", "too short", "4 GB announced", "not UTF-8", "a billion values"],
)
def test_what_cannot_be_read_is_none(body: bytes) -> None:
    assert text_of_body(body) is None


def test_no_bytes_make_it_raise() -> None:
    choose = random.Random(0)
    whole = [apple.body("lunch at noon?", mutable=mutable) for mutable in (False, True)]
    read = 0
    for number in range(20_000):
        body = bytearray(choose.choice(whole))
        if number % 4 == 0:
            body = bytearray(choose.randbytes(choose.randrange(200)))
        elif number % 4 == 1:
            for _ in range(choose.randrange(1, 6)):
                body[choose.randrange(len(body))] = choose.randrange(256)
        elif number % 4 == 2:
            del body[choose.randrange(len(body)) :]
        else:
            body[17:] = choose.randbytes(choose.randrange(80))
        read += isinstance(text_of_body(bytes(body)), str)
        bodies._unusual(bytes(body))
    assert 0 < read < 20_000
