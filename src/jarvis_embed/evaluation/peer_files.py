"""Files for the benchmark: the ONNX files that fastembed is given, and models of random weights.

What fastembed gets is what is usually published for it. ``fp32`` is the encoder as torch exports it, up to the last
hidden state, with int64 inputs; ``int8`` is that file through onnxruntime's ``quantize_dynamic`` with signed 8-bit
weights; ``int8 fused`` is the same after onnxruntime's transformer optimiser has fused its operators, which not all
publishers do. fastembed pools and normalises; it reads as many tokens as ours.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..models.registry import ModelSpec
from ..models.weights import BertConfig, ModelFolder, tensor_shapes

FORMS: Final = ("fp32", "int8", "int8 fused")
_OPSET: Final = 17


def fastembed_folder(model: ModelFolder, form: str, root: Path) -> Path:
    """Write what fastembed needs to run ``model``: its ONNX file and tokenizer. Return the folder, under ``root``."""
    folder = root / f"{model.name}-{form.replace(' ', '-')}"
    if (folder / "model.onnx").is_file():
        return folder
    folder.mkdir(parents=True)
    shutil.copyfile(model.tokenizer_path, folder / "tokenizer.json")
    _write_json(folder / "config.json", {"pad_token_id": 0})
    _write_json(folder / "tokenizer_config.json", {"model_max_length": model.max_length, "pad_token": "[PAD]"})
    with _quiet():
        if form == "fp32":
            _export(model, folder / "model.onnx")
            return folder
        source = fastembed_folder(model, "fp32", root) / "model.onnx"
        if form == "int8 fused":
            source = _fuse(model.config, source, folder / "fused.onnx")
        _quantise(source, folder / "model.onnx")
    return folder


def _export(model: ModelFolder, path: Path) -> None:
    torch, transformers = importlib.import_module("torch"), importlib.import_module("transformers")
    bert = transformers.AutoModel.from_pretrained(str(model.folder), attn_implementation="eager").float().eval()
    names = ["input_ids", "attention_mask", "token_type_ids"]

    class LastHiddenState(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.bert = bert

        def forward(self, ids: Any, mask: Any, types: Any) -> Any:
            return self.bert(input_ids=ids, attention_mask=mask, token_type_ids=types).last_hidden_state

    example = torch.ones(2, 7, dtype=torch.int64)
    torch.onnx.export(
        LastHiddenState(),
        (example, example, torch.zeros_like(example)),
        str(path),
        input_names=names,
        output_names=["last_hidden_state"],
        dynamic_axes={name: {0: "B", 1: "T"} for name in [*names, "last_hidden_state"]},
        opset_version=_OPSET,
        dynamo=False,
    )


def _fuse(config: BertConfig, source: Path, path: Path) -> Path:
    optimizer = importlib.import_module("onnxruntime.transformers.optimizer")
    fused = optimizer.optimize_model(str(source), model_type="bert", num_heads=config.heads, hidden_size=config.hidden)
    fused.save_model_to_file(str(path))
    return path


def _quantise(source: Path, path: Path) -> None:
    onnx, quantization = importlib.import_module("onnx"), importlib.import_module("onnxruntime.quantization")
    quantization.quantize_dynamic(
        source,
        path,
        weight_type=quantization.QuantType.QInt8,
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},  # shapes do not pass through fused operators
    )


def random_model(spec: ModelSpec, tokenizer: Path, vocabulary: int, folder: Path, seed: int) -> Path:
    """Write a model of the shape of ``spec`` with random weights. Its vectors mean nothing; its speed is the real one.

    Args:
        tokenizer: the ``tokenizer.json`` of another model with the same word pieces.
        vocabulary: how many word pieces that one has.
    """
    import safetensors.numpy

    config = BertConfig(
        spec.layers, spec.hidden, spec.heads, spec.intermediate, vocabulary, spec.max_length, 2, 1e-12, "gelu"
    )
    rng = np.random.default_rng(seed)
    tensors = {
        name: (rng.normal(0, 0.05, shape) + name.endswith("LayerNorm.weight")).astype(np.float32)
        for name, shape in tensor_shapes(config).items()
    }
    folder.mkdir(parents=True)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    shutil.copyfile(tokenizer, folder / "tokenizer.json")
    stated = {
        "model_type": "bert",
        "num_hidden_layers": config.layers,
        "hidden_size": config.hidden,
        "num_attention_heads": config.heads,
        "intermediate_size": config.intermediate,
        "vocab_size": config.vocabulary,
        "max_position_embeddings": config.positions,
        "type_vocab_size": config.token_types,
        "layer_norm_eps": config.layer_norm_epsilon,
        "hidden_act": config.activation,
    }
    _write_json(folder / "config.json", stated)
    types = ("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")
    _write_json(folder / "modules.json", [{"path": path, "type": f"sentence_transformers.{t}"} for path, t in types])
    (folder / "1_Pooling").mkdir()
    _write_json(folder / "1_Pooling" / "config.json", {"pooling_mode": spec.pooling})
    _write_json(folder / "sentence_bert_config.json", {"max_seq_length": spec.max_length})
    return folder


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Exporters print, warn and log; what they say is about their own future, not about the file."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
