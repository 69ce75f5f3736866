"""Engines to be timed: ours and other people's, opened alike, called alike.

This file is also a script. ``python -P peers.py`` is the fresh process whose first query and memory are measured: it
reads what to do from standard input, so that no text stands in a list of processes. As a script it must not cost the
other engines our imports; therefore it imports nothing of this package unless the engine is ours.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Kind = Literal["ours", "torch", "fastembed"]
Embed = Callable[[Sequence[str], int], Any]
"""(texts, batch size) → (n, dim) float32 of unit rows. Ours makes its own batches and ignores the size."""

OUR_FORMS = ("fp32 kernel", "fp32 onnx", "int8 kernel", "int8 onnx")


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What it takes to open an engine, in plain values that can be sent to another process.

    Attributes:
        precision: ``fp32`` or ``int8``; of ours with the engine behind it (``int8 kernel``). ``int8 fused`` is
            fastembed on a file whose operators were fused first.
        model: for ours, a name or the path of a folder.
        folder: for torch the model's folder; for fastembed the folder of its ONNX file.
        home: where ours finds its compiled files.
        max_length: tokens of a text that are read.
        threads: cores for one call.
    """

    kind: Kind
    precision: str
    model: str
    folder: str
    home: str
    pooling: str
    dim: int
    max_length: int
    threads: int


def missing_packages(kind: Kind) -> list[str]:
    """The packages that an engine of this kind needs and that are not installed, by the names pip knows."""
    # fastembed reads ONNX files; torch writes the one that it is given here.
    needed = {"ours": (), "torch": ("sentence-transformers", "torch"), "fastembed": ("fastembed", "torch", "onnx")}
    return [name for name in needed[kind] if importlib.util.find_spec(name.replace("-", "_")) is None]


def open_engine(spec: EngineSpec) -> Embed:
    """Load an engine with its weights. What it imports is imported here and nowhere else."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # everything that is needed lies in the folders
    return {"ours": _ours, "torch": _torch, "fastembed": _fastembed}[spec.kind](spec)


def _ours(spec: EngineSpec) -> Embed:
    encoder = importlib.import_module("jarvis_embed.models.encoder")
    model = Path(spec.model) if os.sep in spec.model else spec.model
    precision, _, engine = spec.precision.partition(" ")
    loaded = encoder.load_encoder(
        model, home=spec.home, precision=precision, engine=engine, threads=spec.threads, cache=0
    )
    return lambda texts, _batch: loaded.embed(texts)


def _torch(spec: EngineSpec) -> Embed:
    torch = importlib.import_module("torch")
    torch.set_num_threads(spec.threads)
    talk = importlib.import_module("transformers").utils.logging
    talk.disable_progress_bar()
    talk.set_verbosity_error()
    model = importlib.import_module("sentence_transformers").SentenceTransformer(spec.folder, device="cpu")
    model.float()  # weights stored as float16 are loaded as such, and that is slow on most processors
    model.max_seq_length = spec.max_length
    return lambda texts, batch: model.encode(list(texts), batch_size=batch, show_progress_bar=False)


def _fastembed(spec: EngineSpec) -> Embed:
    numpy, fastembed = importlib.import_module("numpy"), importlib.import_module("fastembed")
    described = importlib.import_module("fastembed.common.model_description")
    name = f"local/{spec.folder}"
    if all(name.lower() != known["model"].lower() for known in fastembed.TextEmbedding.list_supported_models()):
        fastembed.TextEmbedding.add_custom_model(
            model=name,
            pooling=described.PoolingType.CLS if spec.pooling == "cls" else described.PoolingType.MEAN,
            normalization=True,
            sources=described.ModelSource(hf=name),  # must be stated, and is never asked
            dim=spec.dim,
            model_file="model.onnx",
        )
    model = fastembed.TextEmbedding(
        name, threads=spec.threads, providers=["CPUExecutionProvider"], specific_model_path=spec.folder
    )
    return lambda texts, batch: numpy.asarray(list(model.embed(list(texts), batch_size=batch)))


def job(spec: EngineSpec, first: str, bulk: Sequence[str], batch: int) -> bytes:
    """What the fresh process reads: two lines, so that the first query does not wait for the bulk texts."""
    lines = {"spec": asdict(spec), "first": first}, {"bulk": list(bulk), "batch": batch}
    return "".join(json.dumps(line) + "\n" for line in lines).encode("ascii")


def peak_memory_mb() -> float:
    """Most memory that this process ever held, in MB (10^6 bytes)."""
    try:  # Linux's getrusage counts what the parent held when it started this process; this file does not
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
    except (OSError, IndexError, ValueError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes on macOS


def main() -> None:
    """Open an engine, embed one text, say so; embed the others, say how much memory it took."""
    first = json.loads(sys.stdin.readline())
    embed = open_engine(EngineSpec(**first["spec"]))
    embed([first["first"]], 1)
    print("first", flush=True)  # noqa: T201  this is how a process speaks
    second = json.loads(sys.stdin.readline())
    if second["bulk"]:
        embed(second["bulk"], second["batch"])
    print(peak_memory_mb(), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
