"""Readers: what they yield, and what they count instead of raising."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import jarvis_embed as je
from jarvis_embed.errors import SourceError
from jarvis_embed.messages import Conversation
from jarvis_embed.sources.chitchat import split_of
from jarvis_embed.sources.jsonl import JsonlSource

LINE = {"conversation": "anna", "sender": "Anna", "time": "2026-03-01T12:00:00Z", "text": "lunch?"}


def read(path: Path, *lines: object, me: str | None = None) -> tuple[list[Conversation], dict[str, int]]:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    source = JsonlSource(path, me=me)
    return list(source.conversations()), dict(source.unreadable)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "messages.jsonl"


def test_a_message_a_line(file: Path) -> None:
    (conversation,), unreadable = read(file, LINE, {**LINE, "sender": "Ben", "text": "sure", "is_from_me": True})
    assert conversation.key == "anna"
    assert [(m.sender, m.text, m.is_from_me) for m in conversation.messages] == [
        ("Anna", "lunch?", None),
        ("Ben", "sure", True),
    ]
    assert conversation.messages[0].sent_ms == 1_772_366_400_000
    assert unreadable == {}


def test_a_conversation_a_line_and_other_ways_to_write_the_same(file: Path) -> None:
    message = {"from": "Anna", "time": 1772366400, "text": "lunch?"}
    (one,), _ = read(file, {"id": "anna", "messages": [message]})
    (other,), _ = read(file, {**LINE, "time": "2026-03-01T13:00:00+01:00"})
    assert one == other


def test_messages_are_ordered_by_time_and_ties_as_in_the_file(file: Path) -> None:
    lines = [{**LINE, "text": text, "time": time} for text, time in (("c", 2), ("a", 1), ("b", 1))]
    (conversation,), _ = read(file, *lines)
    assert [m.text for m in conversation.messages] == ["a", "b", "c"]


def test_what_cannot_be_read_is_counted_by_cause(file: Path) -> None:
    bad = [
        "{not json",
        "[1]",
        {**LINE, "text": None},
        {**LINE, "text": " "},
        {**LINE, "sender": 3},
        {**LINE, "time": "yesterday"},
        {**LINE, "time": 1e300},
        {**LINE, "is_from_me": "yes"},
        {"id": "x", "messages": ["hey"]},
        "[" * 10_000,
    ]
    conversations, unreadable = read(file, LINE, *bad)
    assert [len(c.messages) for c in conversations] == [1]
    assert unreadable == {
        "not JSON": 2,
        "not an object": 1,
        "no text": 1,
        "empty text": 1,
        "no sender": 1,
        "no usable time": 2,
        "is_from_me is not true or false": 1,
        "message is not an object": 1,
    }


@given(st.binary(max_size=300))
def test_no_bytes_make_the_reader_raise_anything_but_its_own_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "file.jsonl"
    path.write_bytes(content)
    try:
        list(JsonlSource(path).conversations())
    except SourceError as error:
        assert "\n" not in str(error)


def test_keys_are_distinct_and_the_same_at_every_reading(file: Path) -> None:
    lines = [LINE, LINE, {**LINE, "id": 7}, {**LINE, "id": 7}]
    first, second = read(file, *lines), read(file, *lines)
    assert first == second
    keys = [m.key for m in first[0][0].messages]
    assert len(set(keys)) == 4


def test_the_owner_can_be_named(file: Path) -> None:
    (conversation,), _ = read(file, LINE, {**LINE, "sender": "Ben"}, me="Ben")
    assert [m.is_from_me for m in conversation.messages] == [False, True]


def test_a_compressed_file_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "messages.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(LINE).encode()))
    assert len(list(je.sources.open(path).conversations())) == 1
    path.write_bytes(gzip.compress(json.dumps(LINE).encode() * 1000)[:-9])
    with pytest.raises(SourceError, match="cannot be read"):
        list(je.sources.open(path).conversations())


@pytest.mark.parametrize(
    ("location", "options", "said"),
    [
        ("nowhere.jsonl", {}, "there is no file"),
        ("file.txt", {}, "--as"),
        ("file.txt", {"kind": "csvx"}, "Known readers"),
        ("file.txt", {"kind": "jsonl", "split": "train"}, "--split means nothing"),
    ],
)
def test_what_cannot_be_opened_is_explained(tmp_path: Path, location: str, options: dict[str, str], said: str) -> None:
    (tmp_path / "file.txt").write_text("hey")
    with pytest.raises(SourceError, match=said):
        je.sources.open(tmp_path / location, **options)


class TestChitchat:
    """The corpus as a history, and its three parts."""

    pytestmark = pytest.mark.usefixtures("_corpus")

    @pytest.fixture
    def _corpus(self) -> None:
        pytest.importorskip("chitchat_dataset")

    def test_the_parts_are_by_first_hex_digit_and_cover_the_corpus(self) -> None:
        sizes = {
            split: len(je.sources.open("chitchat", split=split)) for split in ("train", "validation", "sealed", "all")
        }
        assert sizes["all"] == 7168 == sizes["train"] + sizes["validation"] + sizes["sealed"]
        assert (split_of("f0"), split_of("e9"), split_of("0f")) == ("sealed", "validation", "train")

    def test_the_default_part_is_train(self) -> None:
        keys = {c.key[0] for c in je.sources.open("chitchat").conversations()}
        assert keys == set("0123456789abcd")

    def test_messages_are_real_and_in_order(self) -> None:
        source = je.sources.open("chitchat", split="validation")
        for conversation in source.conversations():
            times = [m.sent_ms for m in conversation.messages]
            assert times == sorted(times)
        assert set(source.unreadable) <= {"empty text"}

    def test_one_participant_as_the_owner(self) -> None:
        me = "720840be-e522-47ba-9e9f-143f66372673"
        conversations = list(je.sources.open("chitchat", me=me).conversations())
        assert len(conversations) > 100
        for conversation in conversations:
            assert any(m.is_from_me for m in conversation.messages)
            assert all(m.is_from_me == (m.sender == me) for m in conversation.messages)

    def test_an_unknown_participant_or_part_is_explained(self) -> None:
        with pytest.raises(SourceError, match="nobody"):
            je.sources.open("chitchat", me="nobody-of-this-name")
        with pytest.raises(SourceError, match="train, validation"):
            je.sources.open("chitchat", split="test")
