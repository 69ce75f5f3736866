"""The kernel: the graph's vectors without the graph, and never a reason for something not to work."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import tiny
from jarvis_embed.errors import ModelUnsupported, WeightsDamaged
from jarvis_embed.library import Library
from jarvis_embed.models import kernel_build
from jarvis_embed.models.encoder import load_encoder
from jarvis_embed.models.kernel import is_supported
from jarvis_embed.models.kernel_build import find_compiler, kernel_library, kernel_state
from jarvis_embed.sources import open_source
from jarvis_embed.spaces.build import build
from jarvis_embed.spaces.space import Space

TEXTS = ["hey", "wanna grab lunch tomorrow?", "", "x" * 40, "the movie was great and " * 20]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of a shape that the kernel can run."""
    return tiny.write_model(tmp_path / "model", tiny.config(3, 64, 4, 128))


@pytest.fixture
def kernel(home: Path) -> None:
    if kernel_library(home) is None:
        pytest.skip(f"no kernel here: {kernel_state(home)}")


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize(("layers", "hidden", "heads"), [(12, 384, 12), (6, 384, 12), (3, 384, 12), (2, 64, 2)])
def test_kernel_and_graph_agree(
    tmp_path: Path, home: Path, kernel: None, layers: int, hidden: int, heads: int, pooling: str
) -> None:
    shape = tiny.config(layers, hidden, heads, 2 * hidden)
    folder = tiny.write_model(tmp_path / "model", shape, pooling=pooling, max_length=64)
    ours, graph = (load_encoder(folder, home=home, engine=engine) for engine in ("kernel", "onnx"))  # type: ignore[arg-type]
    assert ours.fingerprint == graph.fingerprint
    assert (ours.embed(TEXTS) * graph.embed(TEXTS)).sum(1).min() >= 0.99


def test_on_real_messages_they_are_the_same_but_for_rounding(minilm_home: Path, messages: list[str]) -> None:
    if kernel_library(minilm_home) is None:
        pytest.skip(f"no kernel here: {kernel_state(minilm_home)}")
    ours, graph = (load_encoder("minilm-l6", home=minilm_home, engine=e) for e in ("kernel", "onnx"))  # type: ignore[arg-type]
    assert (ours.embed(messages) * graph.embed(messages)).sum(1).min() >= 0.999


def test_a_space_built_by_the_one_is_open_to_the_other(folder: Path, home: Path, kernel: None, history: Path) -> None:
    with Library.open(home) as library:
        library.ingest(open_source(history))
    build(load_encoder(folder, home=home, engine="kernel"), home)
    with Space.open(encoder=load_encoder(folder, home=home, engine="onnx"), home=home) as space:
        assert space.search("lunch?")


def test_eight_threads_at_once_get_the_same_vectors_bit_for_bit(folder: Path, home: Path, kernel: None) -> None:
    encoder = load_encoder(folder, home=home, engine="kernel", threads=2, cache=0)
    texts = [f"lunch {number} " * (number % 9) for number in range(200)]
    expected = encoder.embed(texts)
    results: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: results.append(encoder.embed(texts))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert all(np.array_equal(result, expected) for result in results)


@pytest.mark.parametrize("threads", [2, 3, 4])
def test_a_message_shared_out_among_a_team_is_the_same_bit_for_bit(
    folder: Path, home: Path, kernel: None, threads: int
) -> None:
    alone = load_encoder(folder, home=home, engine="kernel", threads=1, cache=0)
    team = load_encoder(folder, home=home, engine="kernel", threads=threads, cache=0)
    for text in [*TEXTS, *(f"lunch {n} " * (n % 7) for n in range(300))]:
        assert np.array_equal(team.embed([text]), alone.embed([text]))


def test_a_team_serves_one_caller_and_the_others_do_without(folder: Path, home: Path, kernel: None) -> None:
    encoder = load_encoder(folder, home=home, engine="kernel", threads=2, cache=0)
    texts = [f"lunch {number} " * (number % 9) for number in range(150)]
    expected = [encoder.embed([text]) for text in texts]
    wrong: list[str] = []

    def ask() -> None:
        wrong.extend(t for t, v in zip(texts, expected, strict=True) if not np.array_equal(encoder.embed([t]), v))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_fork_embeds_too_and_ends(folder: Path, home: Path, kernel: None) -> None:
    script = (
        "import os, sys, numpy as np, jarvis_embed as je\n"
        "encoder = je.load_encoder(sys.argv[1], engine='kernel', threads=2, cache=0)\n"
        "texts = [f'lunch {n} ' * 20 for n in range(200)]\n"
        "expected = encoder.embed(['hey']), encoder.embed(texts)\n"
        "if os.fork():\n"
        "    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))\n"
        "got = encoder.embed(['hey']), encoder.embed(texts)\n"
        "os._exit(0 if all(map(np.array_equal, got, expected)) else 3)"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script, folder], timeout=60, check=False)
    assert done.returncode == 0


def test_a_token_that_the_model_does_not_have_is_refused(folder: Path, home: Path, kernel: None) -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.add_tokens(["brunch"])
    tokenizer.save(str(folder / "tokenizer.json"))
    encoder = load_encoder(folder, home=home, engine="kernel")
    encoder.embed(["lunch"])
    with pytest.raises(WeightsDamaged, match="another model"):
        encoder.embed(["brunch"])


def test_an_encoder_takes_its_threads_with_it(folder: Path, home: Path, kernel: None) -> None:
    """Counted by the system, for these are no threads of Python's."""
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        pytest.skip("this system does not list its threads")
    load_encoder(folder, home=home, engine="kernel", threads=4)  # whatever else a first load starts
    gc.collect()
    before = len(list(tasks.iterdir()))
    encoder = load_encoder(folder, home=home, engine="kernel", threads=4)
    assert len(list(tasks.iterdir())) >= before + 3
    del encoder
    gc.collect()
    assert len(list(tasks.iterdir())) <= before


def test_it_is_built_once_and_again_when_damaged(
    folder: Path, home: Path, kernel: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(kernel_build, "_compile", lambda *_: pytest.fail("built again"))
        assert kernel_library(home) is not None
    built = home / "embeddings" / "kernel" / "kernel.so"
    built.unlink()  # not overwritten in place: it is loaded
    built.write_bytes(b"\x7fELF nothing")
    assert load_encoder(folder, home=home, engine="kernel").embed(["hey"]).shape == (1, 64)


def test_without_a_compiler_onnxruntime_does_the_work(
    folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_build, "find_compiler", lambda: None)
    assert load_encoder(folder, home=home).engine == "onnx"
    with pytest.raises(ModelUnsupported, match="no C compiler"):
        load_encoder(folder, home=home, engine="kernel")


@pytest.mark.parametrize("compiler", ["false", "true", "no-such-program"])
def test_a_compiler_that_fails_is_asked_once(
    folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch, compiler: str
) -> None:
    monkeypatch.setattr(kernel_build, "find_compiler", lambda: [compiler])
    assert load_encoder(folder, home=home).engine == "onnx"
    monkeypatch.setattr(kernel_build, "_compile", lambda *_: pytest.fail("asked again"))
    assert load_encoder(folder, home=home).engine == "onnx"
    assert compiler in kernel_state(home)


def test_a_kernel_that_computes_something_else_is_not_used(
    folder: Path, home: Path, kernel: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = kernel_build._SOURCE.read_text(encoding="utf-8")
    wrong = tmp_path / "kernel.c"
    wrong.write_text(source.replace("total += e;", "total += e * 2.f;"), encoding="utf-8")
    assert wrong.read_text(encoding="utf-8") != source
    monkeypatch.setattr(kernel_build, "_SOURCE", wrong)
    assert load_encoder(folder, home=home / "other").engine == "onnx"
    assert "does not compute what it should" in kernel_state(home / "other")


def test_a_model_of_another_shape_runs_in_onnxruntime(tiny_folder: Path, home: Path) -> None:
    assert not is_supported(tiny.config(2, 32, 4, 64))
    assert load_encoder(tiny_folder, home=home, precision="int8").engine == "onnx"


def test_the_settings_choose_the_engine(folder: Path, home: Path) -> None:
    home.mkdir(parents=True)
    (home / "config.json").write_text('{"embedding": {"version": 2, "engine": "onnx"}}')
    assert load_encoder(folder, home=home).engine == "onnx"


def test_a_compiler_is_found_on_a_machine_that_has_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "cc"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    assert find_compiler() == [str(program)]
