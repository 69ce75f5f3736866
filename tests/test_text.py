"""``normalise``: what every text goes through before it is embedded or compared."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jarvis_embed.text import normalise, well_formed

any_text = st.text(st.characters(), max_size=200)  # lone surrogates and controls too


@given(any_text)
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@given(any_text)
def test_the_result_can_always_be_stored_and_hashed(text: str) -> None:
    normalise(text).encode("utf-8")
    well_formed(text).encode("utf-8")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  wanna\tgrab\n\nlunch? ", "wanna grab lunch?"),
        ("ﬁne，ok", "fine,ok"),  # NFKC
        ("😂❤️", "😂❤️"),
        ("look \ufffc at this", "look at this"),  # the place of an attachment
        ("a\x00b", "ab"),
        ("a\ud800b", "ab"),
        (" \n ", ""),
        ("\ufffc", ""),
    ],
)
def test_examples(text: str, expected: str) -> None:
    assert normalise(text) == expected


@given(st.text(st.characters(codec="utf-8")))
def test_sound_text_is_stored_as_it_is(text: str) -> None:
    assert well_formed(text) == text
