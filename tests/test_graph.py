"""The graph: the same numbers with and without ONNX Runtime's own operators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import tiny
from jarvis_embed.errors import ModelError
from jarvis_embed.models import encoder
from jarvis_embed.models.engine import READ
from jarvis_embed.models.graph import bert_graph
from jarvis_embed.models.weights import load_tensors, read_model_folder

IDS = np.array([[2, 100, 150, 3, 0, 0], [2, 120, 130, 140, 150, 3], [2, 3, 0, 0, 0, 0]], np.int32)
MASK = (IDS > 0).astype(np.int32)


def run(graph: bytes, ids: np.ndarray = IDS, mask: np.ndarray = MASK) -> np.ndarray:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (readings,) = session.run(None, {"input_ids": ids, "attention_mask": mask})
    return np.asarray(readings).reshape(len(ids), READ, -1)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_fused_and_plain_operators_agree(tmp_path: Path, pooling: str) -> None:
    model = read_model_folder(tiny.write_model(tmp_path / "model", tiny.config(3, 48, 4, 96), pooling=pooling), "m")
    tensors = load_tensors(model)
    fused = bert_graph(model.config, tensors, model.pooling)
    plain = bert_graph(model.config, tensors, model.pooling, fused=False)
    assert np.allclose(run(fused), run(plain), atol=1e-5)
    onnx.checker.check_model(onnx.load_from_string(plain))
    assert {node.domain for node in onnx.load_from_string(plain).graph.node} == {""}


def test_every_vector_has_length_one_also_of_a_text_without_words(tmp_path: Path) -> None:
    model = read_model_folder(tiny.write_model(tmp_path / "model"), "m")
    vectors = run(bert_graph(model.config, load_tensors(model), model.pooling))
    assert np.allclose(np.linalg.norm(vectors, axis=2), 1, atol=1e-5)


def test_beside_a_vector_stand_the_other_pooling_and_the_last_token(tmp_path: Path) -> None:
    """Whatever the padding: so a text alone has the same ones."""
    made = {}
    for pooling in ("cls", "mean"):
        folder = tiny.write_model(tmp_path / pooling, tiny.config(3, 48, 4, 96), pooling=pooling)
        model = read_model_folder(folder, "m")
        made[pooling] = bert_graph(model.config, load_tensors(model), model.pooling)
    first, mean, last = run(made["cls"]).swapaxes(0, 1)
    assert np.allclose(run(made["mean"]).swapaxes(0, 1), [mean, first, last], atol=1e-5)
    for row, length in enumerate(MASK.sum(1)):
        alone = run(made["cls"], IDS[row : row + 1, :length], MASK[row : row + 1, :length])[0]
        assert np.allclose(alone, [first[row], mean[row], last[row]], atol=1e-5)
        if length > 1:
            assert not np.allclose(first[row], last[row], atol=1e-3)


def test_nothing_in_no_vector_out_and_never_nan(tmp_path: Path) -> None:
    model = read_model_folder(tiny.write_model(tmp_path / "model"), "m")
    graph = bert_graph(model.config, load_tensors(model), model.pooling)
    assert not np.isnan(run(graph, IDS, np.zeros_like(MASK))).any()


def test_an_onnxruntime_without_the_operators_gets_the_plain_ones(
    tiny_folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The contrib operators are taken away by pretending that a session with them cannot be made."""
    real = onnxruntime.InferenceSession
    expected = encoder.load_encoder(tiny_folder, home=home / "a", precision="fp32").embed(["lunch?"])

    def without(graph: bytes, *rest: object, **options: object) -> onnxruntime.InferenceSession:
        if any(node.domain for node in onnx.load_from_string(graph).graph.node):
            raise RuntimeError("com.microsoft:Attention is not a registered function/op")
        return real(graph, *rest, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", without)
    got = encoder.load_encoder(tiny_folder, home=home / "b", precision="fp32").embed(["lunch?"])
    assert np.allclose(got, expected, atol=1e-5)
    with pytest.raises(ModelError, match="pip install --upgrade onnxruntime"):
        encoder.load_encoder(tiny_folder, home=home / "b", precision="int8")
