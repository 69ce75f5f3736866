"""Settings: the key ``embedding`` of ``~/.jarvis/config.json``.

The file belongs to the host assistant. We read and replace the value of our one key inside its text and leave
every other byte of it as it was. Our part carries its own ``version``; ``MIGRATIONS`` brings an older one up.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from json import JSONDecodeError
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import ConfigError
from .home import reported, write_private

KEY: Final = "embedding"
DEFAULT_MODEL: Final = "minilm-l6"
_BY_HAND: Final = "Correct it by hand; it was left as it is"
Precision = Literal["fp32", "int8"]
EngineName = Literal["auto", "kernel", "onnx"]


class SuggestSettings(BaseModel):
    """When a suggestion is worth showing, and how replies are ranked (see ``pipeline``).

    Attributes:
        min_similarity: cosine below which nothing is suggested; None for what the build found for its space.
        neighbours: how many of the nearest triggers take part.
        half_life_days: how fast a reply's recency fades.
        min_quality: a reply that is known to be worse, 0 to 1, is never suggested.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    min_similarity: float | None = Field(default=None, ge=-1, le=1)
    neighbours: int = Field(default=50, ge=1, le=1000)
    half_life_days: float = Field(default=365.0, gt=0)
    min_quality: float = Field(default=0.2, ge=0, le=1)


class Settings(BaseModel):
    """What a user or the host can set. Keys that we do not know are kept.

    Attributes:
        version: of this part of the file; not of the host's.
        model: the model that answers, by its name.
        previous_model, switched_ms: which one answered before ``use``, and when that was; for ``rollback``.
        precision: of the compiled encoder.
        engine: what runs it: the kernel, onnxruntime, or whichever is faster here.
        folders: weights that ``models add`` registered, name → folder.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    version: int = 2
    model: str = DEFAULT_MODEL
    previous_model: str | None = None
    switched_ms: int = 0
    precision: Precision = "int8"
    engine: EngineName = "auto"
    folders: dict[str, Path] = Field(default_factory=dict)
    suggest: SuggestSettings = Field(default_factory=SuggestSettings)


def _from_1(old: dict[str, Any]) -> dict[str, Any]:
    """Version 1 was the host's own: one name under ``model_name``, as a hub id or one of our names."""
    names = {"BAAI/bge-small-en-v1.5": "bge-small", "TaylorAI/gte-tiny": "gte-tiny"}
    names |= {"sentence-transformers/all-MiniLM-L6-v2": "minilm-l6", "TaylorAI/bge-micro-v2": "bge-micro"}
    name = old.pop("model_name", None)
    return old if name is None else {"model": names.get(name, name), **old}


MIGRATIONS: Final[tuple[Callable[[dict[str, Any]], dict[str, Any]], ...]] = (_from_1,)
"""``MIGRATIONS[i]`` turns version ``i + 1`` into version ``i + 2``."""

VERSION: Final = len(MIGRATIONS) + 1


def config_path(home: Path) -> Path:
    return home / "config.json"


def load_settings(home: Path) -> Settings:
    """Read the settings; a missing file or key gives the defaults.

    Raises:
        ConfigError: broken JSON (with line and column), a value that cannot be, or a version from the future.
    """
    path = config_path(home)
    text = _read(path)
    entry = _find_entry(text, path)
    if entry is None:
        return Settings()
    stated = json.loads(text[entry.value : entry.end])
    if not isinstance(stated, dict):
        raise ConfigError(f'{path}: "{KEY}" is not an object', "Correct it by hand, or remove the key")
    return _validated(_migrated(stated, path), path)


def save_settings(home: Path, settings: Settings) -> None:
    """Put ``settings`` into the file; everything else in it stays byte for byte. One atomic replace.

    Raises:
        ConfigError: the file there is broken; it is left as it is.
        DiskFull, HomeNotWritable: the old file stands.
    """
    path = config_path(home)
    text = _read(path)
    ours = json.dumps(settings.model_dump(mode="json"), indent=2, ensure_ascii=False).replace("\n", "\n  ")
    entry = _find_entry(text, path)
    if entry is not None:
        new = text[: entry.value] + ours + text[entry.end :]
    else:
        brace = text.index("{") + 1
        rest = text[brace:].lstrip()
        new = f'{text[:brace]}\n  "{KEY}": {ours}' + ("\n" + rest if rest.startswith("}") else "," + text[brace:])
    write_private(path, new.encode("utf-8"))


def remove_settings(home: Path) -> bool:
    """Take our key out of the file, or the file away if nothing else is in it. Return whether there was a key.

    Raises:
        ConfigError: the file there is broken; it is left as it is.
    """
    path = config_path(home)
    text = _read(path)
    entry = _find_entry(text, path)
    if entry is None:
        return False
    before, after = text[: entry.key].rstrip(), text[entry.end :].lstrip()
    if after.startswith(","):
        after = after[1:]
    else:
        before, after = before.removesuffix(","), "\n" + after
    if json.loads(before + after):
        write_private(path, (before + after).encode("utf-8"))
    else:
        with reported(path):
            path.unlink()
    return True


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where our key, its value, and the end of its value stand in the text."""

    key: int
    value: int
    end: int


def _read(path: Path) -> str:
    with reported(path):
        try:
            text = path.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            return "{\n}\n"
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path} is not UTF-8 (byte {error.start})", _BY_HAND) from error
    return text if text.strip() else "{\n}\n"


def _find_entry(text: str, path: Path) -> _Entry | None:
    """Find our key among the keys of the whole object, which is checked on the way."""
    try:
        whole = json.loads(text)
        if not isinstance(whole, dict):
            raise ConfigError(f"{path} does not hold a JSON object", _BY_HAND)
        entries = [entry for key, entry in _entries(text) if key == KEY]
    except JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ConfigError(f"{path} is broken JSON at {where}: {error.msg}", _BY_HAND) from error
    except RecursionError as error:
        raise ConfigError(f"{path} is nested too deeply", _BY_HAND) from error
    if len(entries) > 1:
        raise ConfigError(f'{path} has the key "{KEY}" {len(entries)} times', "Remove all but one")
    return entries[0] if entries else None


def _entries(text: str) -> Iterator[tuple[str, _Entry]]:
    """Yield each key of the object that ``text`` is. ``text`` is known to be sound."""
    decoder = json.JSONDecoder()
    position = _skip(text, text.index("{") + 1)
    while text[position] != "}":
        start = position
        key, position = decoder.raw_decode(text, start)
        value = _skip(text, _skip(text, position) + 1)
        _, end = decoder.raw_decode(text, value)
        yield key, _Entry(start, value, end)
        position = _skip(text, end)
        if text[position] == ",":
            position = _skip(text, position + 1)


def _skip(text: str, position: int) -> int:
    while text[position] in " \t\r\n":
        position += 1
    return position


def _migrated(stated: dict[str, Any], path: Path) -> dict[str, Any]:
    version = stated.get("version", 1)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ConfigError(f'{path}: "{KEY}.version" is not a version number', "Correct it by hand")
    if version > VERSION:
        raise ConfigError(
            f'{path}: "{KEY}" has version {version}, and this program knows versions up to {VERSION}',
            "Upgrade jarvis-embed",
        )
    for migrate in MIGRATIONS[version - 1 :]:
        stated = migrate(dict(stated))
    return {**stated, "version": VERSION}


def _validated(stated: Mapping[str, Any], path: Path) -> Settings:
    try:
        return Settings.model_validate(stated)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([KEY, *map(str, first["loc"])])
        raise ConfigError(f'{path}: "{where}": {first["msg"]}', _BY_HAND) from error
