"""What takes part in a benchmark: models, and for each of them the engines, opened and ready.

A lane is one engine with one model. Models without weights take part as shapes: random weights in a scratch folder.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal, cast

from ..config import Precision
from ..errors import InputError, ModelError
from ..models.compiled import compiled_graph, compiled_kernel, identify
from ..models.kernel import is_supported
from ..models.kernel_build import kernel_library, kernel_state
from ..models.registry import REGISTRY, ModelSpec
from ..models.store import all_models, find_model
from ..models.weights import ModelFolder, read_model_folder
from . import peer_files, peers
from .latency import PAUSE_S
from .peers import EngineSpec

Shapes = Literal["also", "only", "none"]
"""Whether models without weights take part as shapes: with the others, alone, or not at all."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model to be measured.

    Attributes:
        given: what ``load_encoder`` is given: a name, or the path of a folder.
        home: where its compiled files lie.
        shape_only: its weights are random.
    """

    model: ModelFolder
    given: str
    home: Path
    shape_only: bool

    @property
    def name(self) -> str:
        return self.model.name


@dataclass(slots=True)
class Lane:
    """One engine with one model while it is measured.

    Attributes:
        batch: best batch size for bulk; None where the engine chooses.
        cold: ms of each fresh process until its first vector.
        peak_mb: of a fresh process that embedded all bulk messages.
    """

    candidate: Candidate
    spec: EngineSpec
    embed: peers.Embed
    file_mb: float
    batch: int | None = None
    cold: list[float] = field(default_factory=list)
    peak_mb: float | None = None

    @property
    def engine(self) -> str:
        return f"{self.spec.kind} {self.spec.precision}"

    @property
    def key(self) -> str:
        return f"{self.candidate.name} {self.engine}"


def choose_models(
    names: Sequence[str], shapes: Shapes, home: Path, scratch: Path, seed: int
) -> tuple[list[Candidate], list[str]]:
    """Find the models to measure, shapes last; and what there is to say about those left out.

    Args:
        names: names or folders; all models that are present, and the shapes of the absent ones, if empty.
        scratch: a folder that is thrown away afterwards, for the shapes.

    Raises:
        UnknownModel, WeightsMissing: a name that is neither here nor a shape.
        InputError: nothing is left to measure.
    """
    known = all_models(home)
    present = [presence.name for presence in known if presence.folder is not None]
    absent = [presence.name for presence in known if presence.folder is None]
    wanted = list(names) or [name for name in [*present, *absent] if name in present or shapes != "none"]
    drawn = [name for name in wanted if name in absent and shapes != "none"]
    notes = []
    chosen = [
        Candidate(find_model(name, home), name, home, shape_only=False)
        for name in wanted
        if name not in drawn and shapes != "only"
    ]
    lender = next((name for name in present if name in REGISTRY), None)
    if drawn and lender is None:
        notes.append(f"{', '.join(drawn)}: no model of the registry is here to lend a shape its tokenizer.")
    elif drawn and lender is not None:
        tokens_of = find_model(lender, home)
        chosen += [shape_of(REGISTRY[name], tokens_of, scratch, seed) for name in drawn]
    if not chosen:
        raise InputError("there is no model to measure", "See: jarvis-embed models")
    return chosen, notes


def shape_of(spec: ModelSpec, lender: ModelFolder, scratch: Path, seed: int) -> Candidate:
    """A shape to be measured: random weights, the tokenizer of ``lender``, a home that is thrown away."""
    folder = scratch / "shapes" / spec.name
    peer_files.random_model(spec, lender.tokenizer_path, lender.config.vocabulary, folder, seed)
    return Candidate(read_model_folder(folder, spec.name), str(folder), scratch / "home", shape_only=True)


def open_lanes(
    candidate: Candidate, threads: int, scratch: Path, notes: list[str], *, with_peers: bool
) -> Iterator[Lane]:
    """Open every engine for a model; one that cannot be had is left out, and ``notes`` says why.

    Shapes run in our engines only.
    """
    for kind, precision in _engines(with_peers and not candidate.shape_only):
        if precision.endswith("kernel") and not _has_kernel(candidate):
            note = f"There is no kernel here: {kernel_state(candidate.home)}."
            if note not in notes:
                notes.append(note)
            continue
        missing = peers.missing_packages(kind)
        if missing:
            note = f"{kind} was left out: {' and '.join(missing)} not installed."
            if note not in notes:
                notes.append(note)
            continue
        try:
            spec, size = _prepare(candidate, kind, precision, threads, scratch)
            yield Lane(candidate, spec, peers.open_engine(spec), size / 1e6)
        except Exception as error:  # the errors of other people's engines share no base of their own
            if kind == "ours" and not isinstance(error, ModelError):
                raise
            notes.append(f"{candidate.name} {kind} {precision} was left out ({type(error).__name__}).")


def _engines(with_peers: bool) -> Iterator[tuple[peers.Kind, str]]:
    yield from (("ours", form) for form in peers.OUR_FORMS)
    if with_peers:
        yield "torch", "fp32"
        yield from (("fastembed", form) for form in peer_files.FORMS)


def _has_kernel(candidate: Candidate) -> bool:
    return is_supported(candidate.model.config) and kernel_library(candidate.home) is not None


def _prepare(
    candidate: Candidate, kind: peers.Kind, precision: str, threads: int, scratch: Path
) -> tuple[EngineSpec, int]:
    """Make the file that the engine reads, if it is not there; return how to open it, and its size in bytes."""
    model, folder = candidate.model, candidate.model.folder
    if kind == "torch":
        size = model.weights_path.stat().st_size
    elif kind == "fastembed":
        folder = peer_files.fastembed_folder(model, precision, scratch)
        size = (folder / "model.onnx").stat().st_size
    else:
        ours = cast(Precision, precision.split()[0])
        identity = identify(model, ours)
        if precision.endswith("kernel"):
            size = sum(array.nbytes for array in compiled_kernel(model, ours, identity, candidate.home).values())
        else:
            size = len(compiled_graph(model, ours, identity, candidate.home))
    spec = EngineSpec(
        kind=kind,
        precision=precision,
        model=candidate.given,
        folder=str(folder),
        home=str(candidate.home),
        pooling=model.pooling,
        dim=model.config.hidden,
        max_length=model.max_length,
        threads=threads,
    )
    return spec, size


def fresh_process(job: bytes) -> tuple[float, float] | None:
    """Run ``peers`` as a script: (ms until its first vector, its peak memory in MB), or None if it failed."""
    command = [sys.executable, "-P", peers.__file__]
    time.sleep(PAUSE_S)
    start = time.perf_counter()
    with subprocess.Popen(  # noqa: S603  our own file
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        stdin, stdout = cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout)
        with contextlib.suppress(BrokenPipeError):  # it died before it had read its job
            stdin.write(job)
            stdin.close()
        # What a library prints while it loads comes before our own two lines.
        first = next((line for line in stdout if line.strip() == b"first"), None)
        passed = time.perf_counter() - start
        rest = stdout.read().split()
    return (passed * 1e3, float(rest[-1])) if first and rest and process.returncode == 0 else None
