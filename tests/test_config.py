"""The settings live in the host's file, and the host's part of it is not ours to touch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jarvis_embed.config import VERSION, Settings, config_path, load_settings, remove_settings, save_settings
from jarvis_embed.errors import ConfigError, DiskFull

HOST = """{
  "theme": "dark",   "big": 123456789012345678901234567890,
  "pi": 3.14159265358979323846, "nested": {"embedding": {"model": "not ours"}},
  "embedding": {"version": 2, "model": "bge-small", "host_note": [1, 2.50]},
  "last": null
}
"""

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def written(home: Path, text: str) -> Path:
    home.mkdir(parents=True, exist_ok=True)
    config_path(home).write_text(text, encoding="utf-8")
    return config_path(home)


def test_without_a_file_the_defaults_hold(home: Path) -> None:
    assert load_settings(home) == Settings()
    assert not home.exists()


def test_all_but_our_value_stays_byte_for_byte(home: Path) -> None:
    path = written(home, HOST)
    save_settings(home, load_settings(home).model_copy(update={"model": "gte-tiny"}))
    before, after = HOST.split('{"version"')[0], HOST.split("2.50]}")[1]
    text = path.read_text()
    assert text.startswith(before)
    assert text.endswith(after)
    assert load_settings(home).model == "gte-tiny"


def test_keys_of_our_part_that_we_do_not_know_are_kept(home: Path) -> None:
    path = written(home, HOST)
    save_settings(home, load_settings(home))
    assert json.loads(path.read_text())["embedding"]["host_note"] == [1, 2.5]


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(st.text().filter(lambda key: key != "embedding"), json_values, max_size=5),
    st.sampled_from([None, 1, 4]),
)
def test_saving_and_removing_leave_any_host_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, host: dict[str, object], indent: int | None
) -> None:
    home = tmp_path_factory.mktemp("home")
    path = written(home, json.dumps(host, indent=indent))
    save_settings(home, Settings(model="gte-tiny"))
    assert load_settings(home).model == "gte-tiny"
    assert {k: v for k, v in json.loads(path.read_text()).items() if k != "embedding"} == host
    assert remove_settings(home)
    assert (json.loads(path.read_text()) if path.exists() else {}) == host


def test_the_host_s_own_entry_of_old_is_migrated(home: Path) -> None:
    written(home, '{"embedding": {"model_name": "BAAI/bge-small-en-v1.5", "other": 1}}')
    migrated = load_settings(home)
    assert (migrated.model, migrated.version) == ("bge-small", VERSION)
    assert migrated.model_extra == {"other": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1,\n  "b": }', "line 2, column 8"),
        ("[1]", "does not hold a JSON object"),
        ('{"embedding": {"version": 99}}', "Upgrade jarvis-embed"),
        ('{"embedding": {"version": true}}', "not a version number"),
        ('{"embedding": 3}', "is not an object"),
        ('{"embedding": {"version": 2, "precision": "fp8"}}', "embedding.precision"),
        ('{"embedding": {}, "embedding": {}}', "2 times"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_file_that_cannot_be_used_is_explained_and_never_overwritten(home: Path, text: str, said: str) -> None:
    path = written(home, text)
    with pytest.raises(ConfigError, match=said):
        load_settings(home)
    if "embedding" not in text:
        with pytest.raises(ConfigError):
            save_settings(home, Settings())
    assert path.read_text() == text


def test_bytes_that_are_not_utf_8_are_explained(home: Path) -> None:
    written(home, "{}")
    config_path(home).write_bytes(b'{"a": "\xff"}')
    with pytest.raises(ConfigError, match="byte 7"):
        load_settings(home)


def test_a_full_disk_leaves_the_old_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(home, HOST)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DiskFull, match="Free some space"):
        save_settings(home, Settings())
    assert path.read_text() == HOST
    assert [entry.name for entry in home.iterdir()] == ["config.json"]
