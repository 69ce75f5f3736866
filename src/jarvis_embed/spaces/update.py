"""A generation that shares the large files of the current one and adds a delta (see ``delta``).

It is built beside, checked and switched like any other. A whole build takes its place where a delta would not do:
another model or library, more changes than are quickly compared one by one, or a text that must be forgotten, whose
vector would stay in the shared files.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from ..conversations.quality_score import read_weights
from ..errors import SpaceDamaged
from ..home import FILE_MODE, reported
from ..library import Library
from ..models.encoder import Encoder
from ..models.engine import Vectors
from ..text import normalise
from .answers import lacks_answers
from .artifact import Array, open_artifact, write_artifact
from .delta import DELTA_FILE, Delta
from .known import Known
from .manifest import Manifest, check_files, file_marks, library_versions, read_manifest, write_manifest
from .quality import QUALITY_FILE, judged, open_quality, quality_mark, random_scale, relation, write_quality
from .segment_build import Progress, SegmentChanges, segment_changes, write_segment_delta
from .segment_index import SEGMENTS_DELTA, SEGMENTS_FILE
from .space import PAIRS_FILE, VECTORS_FILE, write_pairs
from .vector_log import KEY_BYTES, VectorLog, split_keys, text_key

_FEW: Final = 50
_SHARE: Final = 0.05
"""A delta may hold so many changes, or this part of the base's pairs (docs/index.md has what that costs a search)."""


_SEGMENTS: Final = (SEGMENTS_FILE, SEGMENTS_DELTA)

DELTA_FILES: Final = (DELTA_FILE, SEGMENTS_DELTA, QUALITY_FILE)
"""What a generation that shares the files of another has of its own."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What a delta must say.

    Attributes:
        folder, manifest: the generation whose large files are shared.
        pairs: (id, trigger key, response key, response time in ms) of every pair that the base does not hold.
        texts: the texts of these pairs by key.
        gone: ids of pairs of the base that are no more, ascending.
        rows: key → row, of the base.
        known: key → vector, of an earlier delta.
        segments: what has changed of them.
    """

    folder: Path
    manifest: Manifest
    pairs: list[tuple[int, bytes, bytes, int]]
    texts: dict[bytes, str]
    gone: npt.NDArray[np.int64]
    rows: dict[bytes, int]
    known: Mapping[bytes, Vectors]
    segments: SegmentChanges


def changes_since(folder: Path, encoder: Encoder, library: Library) -> Changes | None:
    """What a delta beside the generation in ``folder`` must say; None where a whole build is needed."""
    try:
        manifest = read_manifest(folder)
        if (manifest.fingerprint, manifest.library) != (encoder.fingerprint, library.id):
            return None
        if manifest.revision < library.forgot_revision:
            return None
        if lacks_answers(encoder, manifest.files):
            return None
        check_files(folder, manifest, checksums=True)  # what is shared must be whole
        base = np.asarray(open_artifact(folder / PAIRS_FILE, encoder.fingerprint)["pair_id"])
        keys = open_artifact(folder / VECTORS_FILE, encoder.fingerprint)["keys"]
        known: dict[bytes, Vectors] = {}
        if DELTA_FILE in manifest.files:
            delta = open_artifact(folder / DELTA_FILE, encoder.fingerprint)
            known = dict(zip(split_keys(delta["keys"]), delta["vectors"], strict=True))
    except SpaceDamaged:
        return None
    now = np.fromiter(library.pair_ids(), np.int64)
    new = np.setdiff1d(now, base, assume_unique=True)
    gone = np.setdiff1d(base, now, assume_unique=True)
    if len(new) + len(gone) > max(_FEW, _SHARE * len(base)):
        return None
    segments = segment_changes(folder, encoder.fingerprint, library)
    if segments is None:
        return None
    pairs: list[tuple[int, bytes, bytes, int]] = []
    texts: dict[bytes, str] = {}
    for identity, (said_key, said), (answered_key, answered), response_ms in keyed_pairs(library, new.tolist()):
        texts |= {said_key: said, answered_key: answered}
        pairs.append((identity, said_key, answered_key, response_ms))
    rows = {key: row for row, key in enumerate(split_keys(keys))}
    return Changes(folder, manifest, pairs, texts, gone, rows, known, segments)


def keyed_pairs(
    library: Library, ids: Sequence[int] | None = None
) -> Iterator[tuple[int, tuple[bytes, str], tuple[bytes, str], int]]:
    """Yield (id, (key, trigger), (key, response), response time in ms) of pairs, texts normalised, ordered by id.

    A turn of nothing but attachments has no text to find it by, and its pair is left out.
    """
    for identity, trigger, response, response_ms in library.pair_texts(ids):
        said, answered = normalise(trigger), normalise(response)
        if said and answered:
            yield identity, (text_key(said), said), (text_key(answered), answered), response_ms


def write_delta(
    staging: Path, encoder: Encoder, library: Library, changes: Changes, log: VectorLog, report: Progress
) -> Manifest:
    """Write the generation: the shared files as links, the deltas, and the manifest last."""
    old = changes.manifest
    shared = {name: mark for name, mark in old.files.items() if name not in DELTA_FILES}
    for name in shared:
        share_file(changes.folder / name, staging / name)
    keys = [key for key in changes.texts if key not in changes.rows]
    row_of = changes.rows | {key: len(changes.rows) + row for row, key in enumerate(keys)}
    logged = log.vectors()
    vectors = [changes.known[key] if key in changes.known else logged[log.rows[key]] for key in keys]
    ids, trigger_rows, response_rows, response_ms = (
        np.array(column, np.int64)
        for column in (
            [pair[0] for pair in changes.pairs],
            [row_of[pair[1]] for pair in changes.pairs],
            [row_of[pair[2]] for pair in changes.pairs],
            [pair[3] for pair in changes.pairs],
        )
    )
    triggers, places = np.unique(trigger_rows, return_inverse=True)
    write_artifact(
        staging / DELTA_FILE,
        {
            "keys": np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY_BYTES),
            "vectors": np.stack(vectors) if vectors else np.empty((0, encoder.dim), np.float32),
            "trigger_row": triggers,
            **write_pairs(ids, places, response_rows, response_ms, len(triggers)),
            "gone": changes.gone,
        },
        encoder.fingerprint,
    )
    _write_quality(staging, encoder, library, changes, (ids, trigger_rows, response_rows))
    counts = _counts(
        open_artifact(staging / PAIRS_FILE, encoder.fingerprint), changes.gone, trigger_rows, response_rows
    )
    embedded = [open_artifact(changes.folder / n, encoder.fingerprint) for n in _SEGMENTS if n in old.files]
    segments = write_segment_delta(staging, encoder, changes.segments, log, Known(embedded), report)
    fresh = [text for key, text in changes.texts.items() if key in log.rows]
    manifest = replace(
        old,
        revision=library.revision,
        pairs=counts[0],
        triggers=counts[1],
        texts=counts[2],
        cut=old.cut + sum(map(encoder.is_cut, fresh)),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=library_versions(),
        files=shared | file_marks(staging, DELTA_FILES),
        delta=len(ids),
        segments=segments,
    )
    write_manifest(staging, manifest)
    return manifest


def _write_quality(
    staging: Path, encoder: Encoder, library: Library, changes: Changes, new: tuple[npt.NDArray[np.int64], ...]
) -> None:
    """The quality of all pairs: anew in conversations that changed, for what follows a reply speaks of it, and what
    people said of it may be new where no text is."""
    fingerprint, weights = encoder.fingerprint, read_weights(library.home)
    mark = quality_mark(weights, encoder)
    before = open_quality(changes.folder, changes.manifest.files, fingerprint)
    if before is not None and before.made_with != mark:
        before = None
    base = open_artifact(staging / PAIRS_FILE, fingerprint)
    in_base = np.repeat(np.arange(len(base["first"]) - 1), np.diff(base["first"]))
    old = np.asarray(base["pair_id"]), in_base, np.asarray(base["response_row"])
    ids, trigger_rows, response_rows = (np.concatenate([one, two]) for one, two in zip(old, new, strict=True))
    vectors = Delta.open(staging, fingerprint, open_artifact(staging / VECTORS_FILE, fingerprint)["vectors"]).vectors
    scale = random_scale(vectors, trigger_rows, response_rows) if before is None else before.scale
    changed = library.conversations_since(changes.manifest.revision)
    conversations = list(changed) if before is not None else library.conversations()
    if before is not None:
        places = (library.response_places(one.key).values() for one in conversations)
        there = np.isin(ids, [identity for found in places for identity in found])
        ids, trigger_rows, response_rows = ids[there], trigger_rows[there], response_rows[there]
    related = relation(encoder, ids, vectors, trigger_rows, response_rows, scale)
    found = judged(conversations, library, weights, related)
    write_quality(staging, found, scale, fingerprint, mark, before, changes.gone.tolist())


def share_file(source: Path, target: Path) -> None:
    """Give a file that is never written to again a second name; a copy where the file system has no such thing.

    Raises:
        DiskFull, HomeNotWritable: as they say.
    """
    with reported(target):
        target.unlink(missing_ok=True)
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)
            target.chmod(FILE_MODE)


def _counts(
    base: Mapping[str, Array],
    gone: npt.NDArray[np.int64],
    trigger_rows: npt.NDArray[np.int64],
    response_rows: npt.NDArray[np.int64],
) -> tuple[int, int, int]:
    """How many pairs, different triggers and different texts base and delta have together."""
    live = ~np.isin(base["pair_id"], gone)
    rows = np.repeat(np.arange(len(base["first"]) - 1), np.diff(base["first"]))
    triggers = np.union1d(rows[live], trigger_rows)
    texts = np.union1d(triggers, np.union1d(base["response_row"][live], response_rows))
    return int(live.sum()) + len(trigger_rows), len(triggers), len(texts)
