"""Threading on trial: against annotated logs, and against conversations that were run together on purpose."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..conversations.links import REACH, LinkScorer, shipped_scorer
from ..conversations.threads import Embed, components, links_in, thread_numbers
from ..conversations.turns import turns_of
from ..errors import SourceError
from ..messages import Conversation, Turn
from ..sources import open_source
from .bootstrap import Interval, interval
from .data import ChatLog, read_dialogues, read_logs
from .entangled import KINDS, Kind, Said, Stream, said_in, said_in_dialogues, streams, turns_of_log
from .threading import (
    BoundaryScores,
    Found,
    Link,
    ThreadScores,
    added,
    boundary_scores,
    link_counts,
    link_f1,
    thread_scores,
)

Progress = Callable[[str, int, int], None]
SEED: Final = 1


@dataclass(frozen=True, slots=True)
class System:
    """A way to find threads; ``previous`` links every turn to the one before."""

    name: str
    scored: bool = False
    semantic: bool = False
    previous: bool = False


SYSTEMS: Final = (
    System("previous", previous=True),
    System("rules"),
    System("rules + vectors", semantic=True),
    System("scorer", scored=True),
    System("scorer + vectors", scored=True, semantic=True),
)


@dataclass(frozen=True, slots=True)
class LogResult:
    """One system on annotated logs."""

    system: str
    links: Found
    interval: Interval
    threads: ThreadScores

    def as_dict(self) -> dict[str, Any]:
        found = (("links", self.links), ("exact", self.threads.exact))
        rates = {name: {"precision": f.precision, "recall": f.recall, "f1": f.f1} for name, f in found}
        return {"system": self.system, **rates, "links_interval": asdict(self.interval)} | {
            name: getattr(self.threads, name) for name in ("variation", "one_to_one", "shen")
        }


@dataclass(frozen=True, slots=True)
class StreamResult:
    """One system on conversations run together. ``boundaries`` only where they follow each other."""

    corpus: str
    kind: Kind
    system: str
    streams: int
    turns: int
    threads: ThreadScores
    boundaries: BoundaryScores | None

    def as_dict(self) -> dict[str, Any]:
        scores = {name: getattr(self.threads, name) for name in ("variation", "one_to_one", "shen")}
        stated = {name: getattr(self, name) for name in ("corpus", "kind", "system", "streams", "turns")}
        return (
            stated | scores | {"exact_f1": self.threads.exact.f1} | (asdict(self.boundaries) if self.boundaries else {})
        )


@dataclass(frozen=True, slots=True)
class Trial:
    """What was measured. ``speed``: messages a second without the encoder, on one core."""

    model: str | None
    logs: tuple[LogResult, ...]
    log_count: int
    message_count: int
    streams: tuple[StreamResult, ...]
    speed: dict[str, float]
    missing: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {
            "logs": [result.as_dict() for result in self.logs],
            "streams": [result.as_dict() for result in self.streams],
        }


def run_trial(data: Path, *, model: str | None, embed: Embed | None, progress: Progress) -> Trial:
    """Measure every system on what is there of annotated logs, chitchat validation and DailyDialog validation.

    Args:
        data: folder of public data files. model: name of what embeds. embed: without it, nothing with vectors.

    Raises:
        SourceError: there is no such folder, a file in it is broken, or there is nothing to measure on.
    """
    if not data.is_dir():
        raise SourceError(f"there is no folder {data}", "Give the folder of the data files with --data")
    systems = [system for system in SYSTEMS if embed is not None or not system.semantic]
    scorer = shipped_scorer()
    missing = []
    logs = read_logs(data, "dev")
    if logs is None:
        missing.append("irc_threads_dev")
    corpora: dict[str, list[Said]] = {}
    chitchat: list[Conversation] = []
    try:
        chitchat = list(open_source("chitchat", split="validation").conversations())
        corpora["chitchat"] = said_in(chitchat)
    except SourceError:
        missing.append("chitchat")
    dialogues = read_dialogues(data)
    if dialogues is None:
        missing.append("dailydialog")
    else:
        corpora["dailydialog"] = said_in_dialogues([one for one in dialogues if one.split == "validation"])
    if logs is None and not corpora:
        raise SourceError(f"{data} holds nothing to measure threads on", "See docs/threads.md for the files")
    known = _Known(embed, progress)
    known.read([turn.text for log in logs or () for turn in _cut(log)[0]])
    known.read([text for said in corpora.values() for conversation in said for _, text in conversation])
    on_logs = [_on_logs(logs, system, scorer, known) for system in systems] if logs else []
    on_streams: list[StreamResult] = []
    total = len(corpora) * len(KINDS)
    for corpus, said in corpora.items():
        for kind in KINDS:
            progress("streams", len(on_streams) // len(systems), total)
            together = list(streams(said, kind, seed=SEED))
            on_streams += [_on_streams(corpus, kind, together, system, scorer, known) for system in systems]
    progress("streams", total, total)
    messages = sum(len(log.said) - log.annotated_from for log in logs or ())
    return Trial(
        model,
        tuple(on_logs),
        len(logs or ()),
        messages,
        tuple(on_streams),
        _speed(chitchat, scorer),
        tuple(missing),
    )


class _Known:
    """Vectors of texts, each embedded once."""

    def __init__(self, embed: Embed | None, progress: Progress) -> None:
        self._embed, self._progress = embed, progress
        self._rows: dict[str, int] = {}
        self._vectors: list[Any] = []

    def read(self, texts: Sequence[str]) -> None:
        new = [text for text in dict.fromkeys(texts) if text not in self._rows]
        if self._embed is None:
            return
        for start in range(0, len(new), 500):
            block = new[start : start + 500]
            for text, vector in zip(block, self._embed(block), strict=True):
                self._rows[text] = len(self._vectors)
                self._vectors.append(vector)
            self._progress("embed", start + len(block), len(new))

    def of(self, turns: Sequence[Turn], system: System) -> Any:
        return np.stack([self._vectors[self._rows[turn.text]] for turn in turns]) if system.semantic else None


def _numbers(turns: Sequence[Turn], system: System, scorer: LinkScorer, known: _Known) -> list[int]:
    if system.previous:
        return [0] * len(turns)
    return thread_numbers(turns, vectors=known.of(turns, system), scorer=scorer if system.scored else None)


def _cut(log: ChatLog) -> tuple[list[Turn], list[int], int]:
    """The annotated turns of a log and as many before as they can depend on; their lines; where the annotated begin."""
    turns, lines = turns_of_log(log)
    first = next((at for at, line in enumerate(lines) if line >= log.annotated_from), len(turns))
    begin = max(first - REACH, 0)
    return turns[begin:], lines[begin:], first - begin


def _on_logs(logs: Sequence[ChatLog], system: System, scorer: LinkScorer, known: _Known) -> LogResult:
    """Lines of the system are held to be threads of their own; so are they in the annotation, but for a few."""
    gold, said, threads, found = [], [], [], []
    for log in logs:
        turns, lines, first = _cut(log)
        if system.previous:
            links = [(at, max(at - 1, 0)) for at in range(len(turns))]
        else:
            vectors = known.of(turns, system)
            links = links_in(turns, vectors=vectors, scorer=scorer if system.scored else None)
        claimed: set[Link] = {(lines[at], lines[parent]) for at, parent in links if at >= first}
        claimed |= {(line, line) for line in range(log.annotated_from, len(log.said)) if log.said[line][1] is None}
        gold.append(set(log.links))
        said.append(claimed)
        threads.append(_components(gold[-1], log))
        found.append(_components(claimed, log))
    counts = link_counts(gold, said)
    sure = interval(link_f1([log.id for log in logs], counts), seed=SEED)
    return LogResult(system.name, added(counts), sure, thread_scores(threads, found))


def _components(links: set[Link], log: ChatLog) -> list[int]:
    """The thread of each annotated line; what is connected only through lines before is one thread too."""
    return components(len(log.said), links)[log.annotated_from :]


def _on_streams(
    corpus: str, kind: Kind, together: Sequence[Stream], system: System, scorer: LinkScorer, known: _Known
) -> StreamResult:
    gold = [stream.threads for stream in together]
    found = [_numbers(stream.turns, system, scorer, known) for stream in together]
    in_a_row = kind in ("no pauses", "pauses")
    return StreamResult(
        corpus,
        kind,
        system.name,
        len(together),
        sum(len(threads) for threads in gold),
        thread_scores(gold, found),
        boundary_scores(gold, found) if in_a_row else None,
    )


def _speed(conversations: Sequence[Conversation], scorer: LinkScorer) -> dict[str, float]:
    """Messages a second, in processor time, of real turns put into one long conversation."""
    turns = [turn for conversation in conversations for turn in turns_of(conversation.messages)]
    messages = sum(len(turn.message_keys) for turn in turns)
    speeds = {}
    for name, is_group, by in (
        ("two people", False, None),
        ("group, rules", True, None),
        ("group, scorer", True, scorer),
    ):
        start = time.process_time()
        thread_numbers(turns, scorer=by, is_group=is_group)
        speeds[name] = messages / max(time.process_time() - start, 1e-9)
    return speeds if turns else {}
