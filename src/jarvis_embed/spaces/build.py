"""Library + encoder → a generation: embed what is new, index, check, switch.

What was embedded is kept in a log as it comes, so a build that was killed goes on where it stopped. Vectors of the
current generation are used again where the fingerprint is the same. Where little has changed, the current
generation's files are shared and only the difference is written (see ``update``).
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from ..conversations.quality_score import forget_own_weights, read_weights
from ..errors import LibraryEmpty, SpaceDamaged
from ..home import home_folder, locked, make_private_folder, reported
from ..library import Library
from ..models.encoder import Encoder
from ..models.engine import Vectors
from ..models.store import model_home
from .answers import lacks_answers, write_answers
from .artifact import Stream, open_artifact, write_artifact
from .generations import building_folder, current_folder, promote, prune, remove_generations
from .heads_store import carry_heads, refresh_heads
from .index import TriggerIndex
from .known import Known, gathered
from .manifest import FORMAT, Manifest, check_files, file_marks, library_versions, read_manifest, write_manifest
from .quality import QUALITY_FILE, judged, open_quality, quality_mark, random_scale, relation, write_quality
from .segment_build import write_segments
from .segment_index import SEGMENTS_FILE
from .space import INDEX_FILE, PAIRS_FILE, VECTORS_FILE, Space, write_pairs
from .update import DELTA_FILES, Changes, changes_since, keyed_pairs, write_delta
from .vector_log import KEY_BYTES, VectorLog

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""

_BLOCK: Final = 1024
"""Texts that are embedded between two writes to the log: about a second of work."""

_PROBES: Final = 8
_FOUND: Final = 0.99
_UNLIKE_QUANTILE: Final = 0.05
_UNLIKE_SAMPLE: Final = 2000


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did.

    Attributes:
        embedded, reused: texts computed now, and texts whose vectors were there already.
        cut: texts longer than the model reads.
        segments: of threads, which ``search_threads`` looks through.
        delta: pairs that stand in a delta beside the files of an earlier generation.
        up_to_date: nothing had changed, and nothing was built.
    """

    model: str
    generation: str
    pairs: int
    triggers: int
    texts: int
    embedded: int
    reused: int
    cut: int
    index: str
    delta: int = 0
    segments: int = 0
    up_to_date: bool = False


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Every different text of the library by its key, triggers first; and the pairs as numbers.

    Attributes:
        keys: of the texts. texts: by their keys; let go once they are embedded, for the index needs the room.
        triggers: how many of ``keys`` are.
    """

    keys: list[bytes]
    texts: dict[bytes, str]
    triggers: int
    ids: npt.NDArray[np.int64]
    trigger_rows: npt.NDArray[np.int64]
    response_rows: npt.NDArray[np.int64]
    response_ms: npt.NDArray[np.int64]


def build(
    encoder: Encoder, home: Path | str | None = None, *, force: bool = False, progress: Progress | None = None
) -> BuildReport:
    """Build the space of ``encoder`` from the library of ``home``, check it, and make it current.

    Args:
        force: build also if nothing has changed, write all files, and embed everything anew.

    Raises:
        HomeLocked: another process is building this space; names its pid.
        LibraryEmpty: it holds no pair. If it held some before, the space goes too.
        SpaceDamaged: the new generation failed its check; the current one stays.
        DiskFull, HomeNotWritable: what was embedded so far is kept for the next try.
    """
    root = home_folder(home)
    model_folder = model_home(encoder.name, root)
    report = progress or (lambda _stage, _done, _total: None)
    with locked(model_folder / "build.lock", f"the space of {encoder.name}"), Library.open(root) as library:
        prune(model_folder)
        refresh_heads(encoder, model_folder)
        current = current_folder(model_folder)
        if current is not None and not force and (same := _unchanged(current, encoder, library)):
            return same
        staging = make_private_folder(building_folder(model_folder))
        _clear(staging)
        log = VectorLog(staging / f"{encoder.fingerprint}.log", encoder.dim)
        keep = current is not None and _may_stay(current, library)
        if current is not None and not keep:
            forget_own_weights(root)  # a text is gone, and feedback on it may be in them
        if not keep and library.is_empty:
            remove_generations(model_folder)  # whatever it holds was removed from the library
        changes = None if force or current is None else changes_since(current, encoder, library)
        if changes is None:
            manifest, missing = _build_whole(
                staging, encoder, library, log, current, report, anew=force, forget=not keep
            )
        else:
            manifest, missing = _build_delta(staging, encoder, library, log, changes, report)
        for leftover in staging.glob("*.log"):
            leftover.unlink()
        name = promote(model_folder, keep_previous=keep)
        if current is not None and not keep:
            library.clear_log()
    return BuildReport(
        model=encoder.name,
        generation=name,
        pairs=manifest.pairs,
        triggers=manifest.triggers,
        texts=manifest.texts,
        embedded=missing,
        reused=manifest.texts - missing,
        cut=manifest.cut,
        index=manifest.index,
        delta=manifest.delta,
        segments=manifest.segments,
    )


def _build_whole(
    staging: Path,
    encoder: Encoder,
    library: Library,
    log: VectorLog,
    current: Path | None,
    report: Progress,
    *,
    anew: bool,
    forget: bool,
) -> tuple[Manifest, int]:
    """Write all files anew, with the heads of ``current`` and, unless ``anew``, its vectors; also how many texts were
    embedded."""
    wanted = _read_library(library, report)
    if not len(wanted.ids):
        raise LibraryEmpty("the library holds no pair of messages", "Ingest some first: jarvis-embed ingest SOURCE")
    old = Known.of_generation(None if anew else current, encoder.fingerprint)
    missing = [key for key in wanted.keys if key not in old and key not in log.rows]
    _embed(encoder, {key: wanted.texts[key] for key in missing}, log, report)
    cut = sum(map(encoder.is_cut, wanted.texts.values()))
    wanted.texts.clear()
    heads = carry_heads(staging, current, encoder.fingerprint, forget=forget)
    manifest = _write(staging, encoder, library, wanted, log, old, heads, cut, report)
    check_files(staging, read_manifest(staging), checksums=True)
    _check(staging, encoder, library, wanted.ids[:: max(1, len(wanted.ids) // _PROBES)].tolist())
    return manifest, len(missing)


def _build_delta(
    staging: Path, encoder: Encoder, library: Library, log: VectorLog, changes: Changes, report: Progress
) -> tuple[Manifest, int]:
    """Write a delta beside the files of the current generation; also how many texts were embedded."""
    known = changes.rows.keys() | changes.known.keys() | log.rows.keys()
    missing = changes.texts.keys() - known
    _embed(encoder, {key: text for key, text in changes.texts.items() if key in missing}, log, report)
    manifest = write_delta(staging, encoder, library, changes, log, report)
    # The shared files were checked when they were made.
    own = replace(manifest, files={name: read_manifest(staging).files[name] for name in DELTA_FILES})
    check_files(staging, own, checksums=True)
    _check(staging, encoder, library, [pair[0] for pair in changes.pairs[:: max(1, len(changes.pairs) // _PROBES)]])
    return manifest, len(missing)


def _clear(staging: Path) -> None:
    """Leave nothing of a build that was killed but what it has embedded."""
    with reported(staging):
        for leftover in staging.iterdir():
            if leftover.suffix != ".log":
                leftover.unlink()


def _may_stay(folder: Path, library: Library) -> bool:
    """Whether a generation may be kept for rollback: it holds no text that was removed or edited since."""
    try:
        old = read_manifest(folder)
    except SpaceDamaged:
        return False
    return old.library == library.id and old.revision >= library.forgot_revision


def _unchanged(folder: Path, encoder: Encoder, library: Library) -> BuildReport | None:
    """The report of a build that has nothing to do; None if there is something."""
    try:
        m = read_manifest(folder)
        if (m.fingerprint, m.library, m.revision) != (encoder.fingerprint, library.id, library.revision):
            return None
        if SEGMENTS_FILE not in m.files:  # built when conversations could not be searched
            return None
        if lacks_answers(encoder, m.files):
            return None
        check_files(folder, m, checksums=True)
        quality = open_quality(folder, m.files, encoder.fingerprint)
        if quality is None or quality.made_with != quality_mark(read_weights(library.home), encoder):
            return None
    except SpaceDamaged:
        return None
    counts = (m.pairs, m.triggers, m.texts, 0, m.texts, m.cut, m.index, m.delta, m.segments)
    return BuildReport(m.model, folder.name, *counts, up_to_date=True)


def _read_library(library: Library, report: Progress) -> _Wanted:
    """Number the library's texts: a row for each different one, triggers before texts that are only responses."""
    total = library.counts().pairs
    triggers: dict[bytes, str] = {}
    responses: dict[bytes, str] = {}
    ids, times = array("q"), array("q")
    said_keys, answered_keys = bytearray(), bytearray()  # numbers and bytes: tuples of a million pairs weigh half a GB
    for done, (identity, (said_key, said), (answered_key, answered), response_ms) in enumerate(keyed_pairs(library), 1):
        triggers.setdefault(said_key, said)
        responses.setdefault(answered_key, answered)
        ids.append(identity)
        times.append(response_ms)
        said_keys += said_key
        answered_keys += answered_key
        if done % 10_000 == 0:
            report("read", done, total)
    report("read", total, total)
    number = len(triggers)
    texts = triggers
    for key, text in responses.items():
        texts.setdefault(key, text)
    row_of = {key: row for row, key in enumerate(texts)}
    return _Wanted(
        keys=list(texts),
        texts=texts,
        triggers=number,
        ids=np.array(ids, np.int64),
        trigger_rows=_rows_of(said_keys, row_of),
        response_rows=_rows_of(answered_keys, row_of),
        response_ms=np.array(times, np.int64),
    )


def _rows_of(keys: bytearray, row_of: Mapping[bytes, int]) -> npt.NDArray[np.int64]:
    every = range(0, len(keys), KEY_BYTES)
    return np.fromiter((row_of[bytes(keys[at : at + KEY_BYTES])] for at in every), np.int64, len(every))


def _embed(encoder: Encoder, texts: dict[bytes, str], log: VectorLog, report: Progress) -> None:
    """Embed ``texts`` block by block into the log.

    A block holds texts of like length, which wastes no padding; the blocks come in random order, so that the rate
    so far tells the time left.
    """
    keys = sorted(texts, key=lambda key: len(texts[key]))
    blocks = [keys[start : start + _BLOCK] for start in range(0, len(keys), _BLOCK)]
    random.Random(0).shuffle(blocks)  # noqa: S311  no secret depends on it
    done = 0
    report("embed", 0, len(keys))
    for block in blocks:
        log.append(block, encoder.embed([texts[key] for key in block]))
        done += len(block)
        report("embed", done, len(keys))


def _write(
    staging: Path,
    encoder: Encoder,
    library: Library,
    wanted: _Wanted,
    log: VectorLog,
    old: Known,
    heads: Sequence[str],
    cut: int,
    report: Progress,
) -> Manifest:
    """Write all files of the generation; the manifest, which vouches for the others and for ``heads``, last."""
    keys = wanted.keys
    fingerprint = encoder.fingerprint
    report("index", 0, 3)
    write_artifact(
        staging / VECTORS_FILE,
        {
            "vectors": Stream((len(keys), encoder.dim), np.float32, gathered(keys, log, old, _BLOCK)),
            "keys": np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY_BYTES),
        },
        fingerprint,
    )
    pairs = write_pairs(wanted.ids, wanted.trigger_rows, wanted.response_rows, wanted.response_ms, wanted.triggers)
    write_artifact(staging / PAIRS_FILE, pairs, fingerprint)
    report("index", 1, 3)
    vectors = open_artifact(staging / VECTORS_FILE, fingerprint)["vectors"]
    _write_quality(staging, encoder, library, wanted, vectors)
    index = TriggerIndex.build(vectors[: wanted.triggers])
    write_artifact(staging / INDEX_FILE, {"faiss": index.serialised()}, fingerprint)
    answer_files = write_answers(staging, encoder, vectors, pairs)
    report("index", 2, 3)
    segments, segment_files = write_segments(staging, encoder, library, log, old, report)
    manifest = Manifest(
        format=FORMAT,
        model=encoder.name,
        fingerprint=fingerprint,
        precision=encoder.precision,
        dim=encoder.dim,
        library=library.id,
        revision=library.revision,
        pairs=len(wanted.ids),
        triggers=wanted.triggers,
        texts=len(keys),
        cut=cut,
        index=index.kind,
        min_similarity=min_similarity_of(index, vectors[: wanted.triggers]),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=library_versions(),
        files=file_marks(
            staging, (VECTORS_FILE, PAIRS_FILE, INDEX_FILE, QUALITY_FILE, *answer_files, *segment_files, *heads)
        ),
        segments=segments,
    )
    write_manifest(staging, manifest)
    report("index", 3, 3)
    return manifest


def _write_quality(staging: Path, encoder: Encoder, library: Library, wanted: _Wanted, vectors: Vectors) -> None:
    """The quality of every pair, by all conversations."""
    weights = read_weights(library.home)
    rows = wanted.trigger_rows, wanted.response_rows
    scale = random_scale(vectors.__getitem__, *rows)
    related = relation(encoder, wanted.ids, vectors.__getitem__, *rows, scale)
    found = judged(library.conversations(), library, weights, related)
    write_quality(staging, found, scale, encoder.fingerprint, quality_mark(weights, encoder))


def min_similarity_of(index: TriggerIndex, triggers: Vectors) -> float:
    """How near the nearest other trigger is, for all but the loneliest 5 % of this history's triggers.

    A new message that is farther than this from everything is unlike this history, in the scale of this model:
    cosines of one model mean nothing for another. 0 for a history too small to tell.
    """
    if len(triggers) < 100:
        return 0.0
    sample = np.random.default_rng(0).choice(len(triggers), min(len(triggers), _UNLIKE_SAMPLE), replace=False)
    scores, rows = index.search(np.ascontiguousarray(triggers[np.sort(sample)]), 2)
    nearest_other = np.where(rows[:, 0] == np.sort(sample), scores[:, 1], scores[:, 0])
    return float(np.quantile(nearest_other, _UNLIKE_QUANTILE))


def _check(staging: Path, encoder: Encoder, library: Library, probes: list[int]) -> None:
    """Open the new generation as a reader would, and ask it for triggers that it must know.

    Raises:
        SpaceDamaged: a trigger does not find itself.
    """
    space = Space.at(staging, encoder, library)
    for pair in library.pairs(probes):
        matches = space.search(pair.trigger, k=1)
        if not matches or matches[0].score < _FOUND:
            raise SpaceDamaged(
                f"the new generation of {encoder.name} does not find its own messages",
                "The current one stays. Build it again: jarvis-embed build --force",
            )
