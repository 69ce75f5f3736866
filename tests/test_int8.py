"""Int8: near to fp32, independent of the batch, small."""

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
from jarvis_embed.models.calibration import calibration_texts
from jarvis_embed.models.encoder import Encoder, load_encoder
from jarvis_embed.models.quantise import _copies, _rounded
from jarvis_embed.models.store import model_home

BATCH_BOUND = 1e-5
"""What is promised: no number of a vector moves by more, whatever else is in its batch."""


def cosines(folder: Path | str, home: Path, texts: list[str]) -> np.ndarray:
    exact, integer = (load_encoder(folder, home=home, precision=p).embed(texts) for p in ("fp32", "int8"))
    return np.asarray((exact * integer).sum(1))


def test_minilm_stays_near_fp32_on_messages_that_calibration_did_not_see(
    minilm_home: Path, messages: list[str]
) -> None:
    near = cosines(
        "minilm-l6", minilm_home, [*messages, "привет, как ты?", "明日会える?", "😂😂", " ".join(messages[:40])]
    )
    assert near.mean() >= 0.998
    assert near.min() >= 0.985


def test_bge_small_stays_near_fp32(bge_small_folder: Path, home: Path, messages: list[str]) -> None:
    near = cosines(bge_small_folder, home, messages[::2])
    assert near.mean() >= 0.995
    assert near.min() >= 0.985


def test_the_file_of_six_layers_is_small(minilm_home: Path) -> None:
    load_encoder("minilm-l6", home=minilm_home, precision="int8")
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


@pytest.fixture(scope="module", params=["fp32", "int8"])
def minilm(request: pytest.FixtureRequest, minilm_home: Path) -> Encoder:
    return load_encoder("minilm-l6", home=minilm_home, precision=request.param, cache=0)


@cache
def alone(encoder: Encoder, text: str) -> np.ndarray:
    return encoder.embed([text])[0]


some_texts = ["hey", "wanna grab lunch tomorrow?", "ok", "😂", "this is a rather long story " * 12, "no " * 400, ""]


@settings(deadline=None, max_examples=25)
@given(texts=st.lists(st.sampled_from(some_texts), min_size=1, max_size=12))
def test_no_batch_changes_a_vector(minilm: Encoder, texts: list[str]) -> None:
    vectors = minilm.embed(texts)
    assert not np.isnan(vectors).any()
    for text, vector in zip(texts, vectors, strict=True):
        assert np.abs(vector - alone(minilm, text)).max() <= BATCH_BOUND


def test_padding_holds_nothing_that_a_vector_sees(minilm: Encoder) -> None:
    """Whatever token stands in a padded place."""
    ids = np.array([[101, 7592, 102, 0, 0], [101, 7592, 102, 999, 5]], np.int32)
    mask = np.array([[1, 1, 1, 0, 0]] * 2, np.int32)
    (vectors,) = minilm._session.run(None, {"input_ids": ids, "attention_mask": mask})
    assert np.abs(vectors[0] - vectors[1]).max() <= BATCH_BOUND
    assert np.abs(vectors[0] - alone(minilm, "hello")).max() <= BATCH_BOUND


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_changes_nothing(minilm_home: Path, threads: int) -> None:
    encoder = load_encoder("minilm-l6", home=minilm_home, precision="int8", threads=threads, cache=0)
    reference = load_encoder("minilm-l6", home=minilm_home, precision="int8", cache=0)
    assert np.allclose(encoder.embed(some_texts), reference.embed(some_texts), atol=BATCH_BOUND)


def test_calibration_is_always_the_same_and_made_up() -> None:
    texts = calibration_texts()
    assert texts == calibration_texts()
    assert 200 < len(texts) < 1000


class TestParts:
    def test_rounding_passes_its_errors_on(self) -> None:
        rng = np.random.default_rng(0)
        inputs = (rng.normal(size=(500, 8)) @ rng.normal(size=(8, 40))).astype(
            np.float32
        )  # strongly dependent channels
        weight = rng.normal(size=(40, 16)).astype(np.float32)
        scale = (np.abs(weight).max(0) / 7).astype(np.float32)  # coarse, so that the difference shows
        moments = inputs.T @ inputs / len(inputs)
        nearest = np.rint(weight / scale)
        passed_on = _rounded(weight, scale, moments)
        error = [np.square(inputs @ (weight - rounded * scale)).mean() for rounded in (nearest, passed_on)]
        assert error[1] < 0.5 * error[0]

    def test_the_channel_that_stands_out_is_split(self) -> None:
        inputs = np.random.default_rng(0).normal(size=(100, 48)).astype(np.float32)
        inputs[:, 7] *= 50
        copies = _copies(inputs, np.ones((48, 4), np.float32))
        assert copies[7] == copies.max() > 1
        assert copies.sum() == 48 + 2
