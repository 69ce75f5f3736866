"""Int8: near to fp32, independent of the batch, small; by onnxruntime and by the kernel."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from conftest import SHARED
from jarvis_embed.models.encoder import Encoder, load_encoder
from jarvis_embed.models.kernel_build import kernel_library, kernel_state
from jarvis_embed.models.quantise import hadamard, rotated
from jarvis_embed.models.store import model_home

BATCH_BOUND = 1e-5
"""What is promised of fp32: no number of a vector moves by more, whatever else is in its batch."""

INT8_BATCH_BOUND = 1e-3
"""What is promised of int8 in onnxruntime, as 1 - cosine: rounding falls to either side. The kernel is exact."""


def cosines(folder: Path | str, home: Path, texts: list[str], engine: str = "auto") -> np.ndarray:
    exact = load_encoder(folder, home=home, precision="fp32").embed(texts)
    integer = load_encoder(folder, home=home, precision="int8", engine=engine).embed(texts)  # type: ignore[arg-type]
    return np.asarray((exact * integer).sum(1))


@pytest.mark.parametrize("engine", ["onnx", "auto"])
def test_minilm_stays_near_fp32(minilm_home: Path, messages: list[str], engine: str) -> None:
    texts = [*messages, "привет, как ты?", "明日会える?", "😂😂", " ".join(messages[:40])]
    near = cosines("minilm-l6", minilm_home, texts, engine)
    assert near.mean() >= 0.9995
    assert near.min() >= 0.995


def test_bge_small_stays_near_fp32(bge_small_folder: Path, home: Path, messages: list[str]) -> None:
    near = cosines(bge_small_folder, home, messages[::2])
    assert near.mean() >= 0.999
    assert near.min() >= 0.99


def test_the_file_of_six_layers_is_small(minilm_home: Path) -> None:
    load_encoder("minilm-l6", home=minilm_home, precision="int8", engine="onnx")
    assert (model_home("minilm-l6", minilm_home) / "compiled" / "int8" / "model.onnx").stat().st_size <= 25_000_000


def test_general_similarity_is_kept(minilm_home: Path) -> None:
    """Spearman on STS-B within 0.3 points of fp32."""
    file = SHARED / "data" / "stsb_dev.jsonl.gz"
    if not file.is_file():
        pytest.skip("no STS-B beside the checkout")
    from scipy.stats import spearmanr

    with gzip.open(file, "rt", encoding="utf-8") as lines:
        pairs = [json.loads(line) for line in lines]
    rho = {}
    for precision in ("fp32", "int8"):
        encoder = load_encoder("minilm-l6", home=minilm_home, precision=precision)
        a, b = encoder.embed([pair["a"] for pair in pairs]), encoder.embed([pair["b"] for pair in pairs])
        rho[precision] = spearmanr((a * b).sum(1), [pair["score"] for pair in pairs]).statistic
    assert rho["int8"] >= rho["fp32"] - 0.003


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize(("layers", "heads"), [(12, 12), (6, 12), (3, 12)])
def test_random_models_of_each_shape_can_be_quantised(
    tmp_path: Path, home: Path, layers: int, heads: int, pooling: str
) -> None:
    folder = tiny.write_model(tmp_path / "model", tiny.config(layers, 96, heads, 192), pooling=pooling)
    assert cosines(folder, home, ["hey", "wanna grab lunch?", "", "x" * 500]).min() >= 0.95


@pytest.fixture(scope="module", params=["fp32 onnx", "fp32 kernel", "int8 onnx", "int8 kernel"])
def minilm(request: pytest.FixtureRequest, minilm_home: Path) -> Encoder:
    precision, engine = request.param.split()
    if engine == "kernel" and kernel_library(minilm_home) is None:
        pytest.skip(f"no kernel here: {kernel_state(minilm_home)}")
    return load_encoder("minilm-l6", home=minilm_home, precision=precision, engine=engine, cache=0)


@cache
def alone(encoder: Encoder, text: str) -> np.ndarray:
    return encoder.embed([text])[0]


def assert_same(encoder: Encoder, vector: np.ndarray, expected: np.ndarray) -> None:
    """As the same as is promised of this precision and engine."""
    if encoder.engine == "kernel":
        assert np.array_equal(vector, expected)
    elif encoder.precision == "int8":
        assert vector @ expected >= 1 - INT8_BATCH_BOUND
    else:
        assert np.abs(vector - expected).max() <= BATCH_BOUND


some_texts = ["hey", "wanna grab lunch tomorrow?", "ok", "😂", "this is a rather long story " * 12, "no " * 400, ""]


@settings(deadline=None, max_examples=25)
@given(texts=st.lists(st.sampled_from(some_texts), min_size=1, max_size=12))
def test_no_batch_changes_a_vector(minilm: Encoder, texts: list[str]) -> None:
    vectors = minilm.embed(texts)
    assert not np.isnan(vectors).any()
    for text, vector in zip(texts, vectors, strict=True):
        assert_same(minilm, vector, alone(minilm, text))


def test_padding_holds_nothing_that_a_vector_sees(minilm: Encoder) -> None:
    """Whatever token stands in a padded place."""
    if minilm.engine == "kernel":
        pytest.skip("the kernel does not pad")
    ids = np.array([[101, 7592, 102, 0, 0], [101, 7592, 102, 999, 5]], np.int32)
    mask = np.array([[1, 1, 1, 0, 0]] * 2, np.int32)
    (readings,) = minilm._engine._session.run(None, {"input_ids": ids, "attention_mask": mask})
    for one, other in readings.reshape(2, -1, minilm.dim).swapaxes(0, 1):
        assert_same(minilm, one, other)
    assert_same(minilm, readings[0, : minilm.dim], alone(minilm, "hello"))


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_changes_nothing(minilm_home: Path, minilm: Encoder, threads: int) -> None:
    other = load_encoder(
        "minilm-l6", home=minilm_home, precision=minilm.precision, engine=minilm.engine, threads=threads, cache=0
    )
    for vector, expected in zip(other.embed(some_texts), minilm.embed(some_texts), strict=True):
        assert_same(minilm, vector, expected)


class TestParts:
    def test_a_hadamard_matrix_is_its_own_inverse_and_weighs_all_alike(self) -> None:
        matrix = hadamard(64)
        assert np.allclose(matrix @ matrix, np.eye(64), atol=1e-6)
        assert np.allclose(np.abs(matrix), 1 / 8)

    def test_rotation_leaves_a_product_as_it_was(self) -> None:
        rng = np.random.default_rng(0)
        x, weight = rng.normal(size=(5, 128)).astype(np.float32), rng.normal(size=(128, 7)).astype(np.float32)
        assert np.allclose(rotated(x.T, 64).T @ rotated(weight, 64), x @ weight, atol=1e-4)

    def test_a_channel_that_stands_out_costs_little_after_rotation(self) -> None:
        rng = np.random.default_rng(0)
        x = rng.normal(size=(200, 64)).astype(np.float32)
        x[:, 7] *= 50

        def rounded(values: np.ndarray) -> np.ndarray:
            scale = np.abs(values).max(1, keepdims=True) / 127
            return np.rint(values / scale) * scale

        turned = rotated(x.T, 64).T
        plain, spread = (np.square(values - rounded(values)).mean() for values in (x, turned))
        assert spread < 0.3 * plain
