"""The user's own labels: read from a file row by row, kept under the home, given their texts from the library.

A row names a turn (``conversation``, ``turn``) or holds a ``text`` (and, for a response, its ``trigger``). A label by
turn is stored without text, but with a hash of it: so it finds its turn again where messages before it came or went,
and is left out where the turn itself is gone. What is wrong with a row is said by its line, never by its content.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import LabelError, SpaceDamaged
from ..home import embeddings_folder, reported, write_private
from ..text import normalise, well_formed
from .gold import Example
from .scheme import LABELS, TASKS, Task, tasks_of

Turns = Callable[[str], Sequence[Sequence[str]]]
"""Conversation → the turn texts of each conversation of that name in the library."""


@dataclass(frozen=True, slots=True)
class OwnLabel:
    """A label of the user's. ``turn`` is None where the text itself is given; ``digest`` is the turn's hash."""

    task: Task
    label: str
    conversation: str = ""
    turn: int | None = None
    digest: str = ""
    text: str = ""
    trigger: str = ""

    @property
    def key(self) -> tuple[object, ...]:
        """What it labels: a later label with the same key takes its place."""
        return self.task, self.conversation, self.digest, normalise(self.text), normalise(self.trigger)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that could not be taken, by its line in the file."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class LabelsImported:
    """What an import did, in rows; ``bad`` were left out."""

    read: int
    new: int
    changed: int
    bad: tuple[BadRow, ...]


class _Refused(Exception):
    """Why a row is not taken."""


def import_labels(path: Path, home: Path, turns: Turns, *, task: Task | None = None) -> LabelsImported:
    """Read a CSV or JSON Lines file and keep its good rows. Again: nothing is doubled.

    Args:
        turns: the library's, to check the turns that rows name.
        task: of rows without a ``task`` whose label both tasks have.

    Raises:
        LabelError: the file cannot be read, has not the columns, or has no good row; nothing was changed.
    """
    kept = {label.key: label for label in own_labels(home)}
    bad: list[BadRow] = []
    read = new = changed = 0
    for line, row in _rows(path):
        read += 1
        try:
            if isinstance(row, str):
                raise _Refused(row)
            label = _checked(row, turns, task)
        except _Refused as refused:
            bad.append(BadRow(line, str(refused)))
            continue
        new += label.key not in kept
        changed += label.key in kept and kept[label.key].label != label.label
        kept[label.key] = label
    if read == len(bad):
        first = f"; line {bad[0].line}: {bad[0].reason}" if bad else ""
        raise LabelError(f"{path} has no row that can be used{first}", "See docs/labels.md for the format")
    _store(home, kept.values())
    return LabelsImported(read, new, changed, tuple(bad))


def own_labels(home: Path) -> list[OwnLabel]:
    """The labels that were imported so far.

    Raises:
        SpaceDamaged: the file they are kept in cannot be read.
    """
    path = _kept_in(home)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [OwnLabel(**json.loads(line)) for line in lines]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        raise SpaceDamaged(f"{path} cannot be read", "Remove it, and import the labels again") from error


def clear_labels(home: Path) -> int:
    """Forget all labels that were imported; return how many there were."""
    number = len(own_labels(home))
    with reported(_kept_in(home)):
        _kept_in(home).unlink(missing_ok=True)
    return number


def own_examples(labels: Sequence[OwnLabel], turns: Turns) -> tuple[list[Example], int]:
    """The user's labels with their texts, and how many name a turn that the library no longer has."""
    found: list[Example] = []
    gone = 0
    for label in labels:
        if label.turn is None:
            group = f"text {normalise(label.text)}"
            found.append(Example(label.task, label.label, label.text, label.trigger, group))
            continue
        held = turns(label.conversation)
        place = _place(label, held[0]) if len(held) == 1 else None
        if place is None:
            gone += 1
            continue
        before = held[0][place - 1] if label.task == "response" else ""
        found.append(Example(label.task, label.label, held[0][place], before, label.conversation))
    return found, gone


def _place(label: OwnLabel, texts: Sequence[str]) -> int | None:
    """Where the labelled turn is now: at its number if it still has its text, else wherever else that text is."""
    places = [place for place, text in enumerate(texts) if _digest(text) == label.digest]
    if label.task == "response" and places[:1] == [0]:
        places = places[1:]
    return label.turn if label.turn in places else places[0] if places else None


def _digest(text: str) -> str:
    return hashlib.blake2b(normalise(text).encode("utf-8"), digest_size=16).hexdigest()


def _store(home: Path, labels: Iterable[OwnLabel]) -> None:
    lines = [json.dumps(asdict(label), ensure_ascii=False) for label in labels]
    write_private(_kept_in(home), ("\n".join(lines) + "\n").encode("utf-8"))


def _kept_in(home: Path) -> Path:
    return embeddings_folder(home) / "labels.jsonl"


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    """Yield (line, row), or (line, reason) for a line that is no row."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise LabelError(f"there is no file {path}", "Give a CSV or JSON Lines file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(f"{path} cannot be read as UTF-8 text", "Save it as UTF-8") from error
    if path.suffix.lower() in (".jsonl", ".ndjson", ".json"):
        yield from _json_rows(text)
        return
    reader = csv.DictReader(io.StringIO(text), restkey="")
    columns = {(name or "").strip().lower() for name in reader.fieldnames or ()}
    if "label" not in columns or not ("text" in columns or {"conversation", "turn"} <= columns):
        raise LabelError(
            f"{path} has not the columns conversation,turn,label or text,label",
            "Name them in its first line; docs/labels.md has examples",
        )
    for row in reader:
        yield reader.line_num, {(name or "").strip().lower(): value for name, value in row.items()}


def _json_rows(text: str) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            yield number, row if isinstance(row, dict) else "no JSON object"


def _checked(row: Mapping[str, Any], turns: Turns, default: Task | None) -> OwnLabel:
    label = _cell(row, "label").upper().replace(" ", "_")
    if not label:
        raise _Refused("the label is empty")
    task = _task_of(label, _cell(row, "task").lower(), default)
    conversation, text, trigger = (well_formed(_cell(row, name)) for name in ("conversation", "text", "trigger"))
    if conversation and _cell(row, "turn"):
        held = turns(conversation)
        turn = _turn(_cell(row, "turn"), held, task)
        return OwnLabel(task, label, conversation, turn, _digest(held[0][turn]))
    if not normalise(text):
        raise _Refused("neither conversation and turn nor a text")
    if task == "response" and not normalise(trigger):
        raise _Refused("a response needs its trigger: add the column trigger")
    return OwnLabel(task, label, text=text, trigger=trigger if task == "response" else "")


def _task_of(label: str, stated: str, default: Task | None) -> Task:
    tasks = tasks_of(label)
    if not tasks:
        raise _Refused(f"unknown label; known: {', '.join(sorted({name for task in TASKS for name in LABELS[task]}))}")
    if stated:
        task = next((task for task in TASKS if task == stated), None)
        if task is None:
            raise _Refused("the task is neither trigger nor response")
        if task not in tasks:
            raise _Refused(f"{label} is no {task} label")
        return task
    if len(tasks) == 1:
        return tasks[0]
    if default is None:
        raise _Refused(f"{label} is a label of triggers and of responses: add the column task, or --task")
    return default


def _turn(stated: str, held: Sequence[Sequence[str]], task: Task) -> int:
    if not stated.isdecimal():
        raise _Refused("the turn is no number (they count from 0)")
    turn = int(stated)
    if not held:
        raise _Refused("the library has no such conversation")
    if len(held) > 1:
        raise _Refused(f"{len(held)} sources have a conversation of this name: give the text instead")
    if turn >= len(held[0]):
        raise _Refused(f"there is no turn {turn}: the conversation has {len(held[0])}, counted from 0")
    if task == "response" and turn == 0:
        raise _Refused("turn 0 answers nothing, and cannot be a response")
    return turn


def _cell(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    return "" if value is None or isinstance(value, (dict, list)) else str(value).strip()
