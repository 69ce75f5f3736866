"""From a folder in sentence-transformers layout to checked BERT weights.

Everything that the folder states is read, nothing is guessed: the shape from ``config.json``, pooling and
normalisation from ``modules.json`` and the files it points to, the numbers from ``model.safetensors`` (fp32, fp16
or bf16, with or without a pooler, with or without a name prefix such as ``bert.``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

from ..errors import ModelUnsupported, WeightsDamaged
from .registry import Pooling

Tensors = Mapping[str, npt.NDArray[np.float32]]

_ADD_AGAIN: Final = "Get the model again, or point `jarvis-embed models add` at a complete folder"
_POOLINGS: Final[Mapping[str, Pooling]] = {"cls_token": "cls", "mean_tokens": "mean"}


@dataclass(frozen=True, slots=True)
class BertConfig:
    """The shape of a BERT encoder, as its ``config.json`` states it (Devlin et al. 2018, section 3)."""

    layers: int
    hidden: int
    heads: int
    intermediate: int
    vocabulary: int
    positions: int
    token_types: int
    layer_norm_epsilon: float
    activation: str


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model on disk: what it says about itself, and its two large files."""

    name: str
    folder: Path
    config: BertConfig
    pooling: Pooling
    prompt: str
    max_length: int

    @property
    def tokenizer_path(self) -> Path:
        return self.folder / "tokenizer.json"

    @property
    def weights_path(self) -> Path:
        return self.folder / "model.safetensors"


def read_model_folder(folder: Path, name: str) -> ModelFolder:
    """Read and check all small files of a model; the weights themselves are left for ``load_tensors``.

    Raises:
        WeightsDamaged: a file is missing or is not what its name says.
        ModelUnsupported: not a BERT encoder with CLS or mean pooling.
    """
    if not folder.is_dir():
        raise WeightsDamaged(f"{folder} is not a folder", _ADD_AGAIN)
    for needed in ("config.json", "modules.json", "tokenizer.json", "model.safetensors"):
        if not (folder / needed).is_file():
            raise WeightsDamaged(f"{folder} has no {needed}, so it is not a sentence-transformers model", _ADD_AGAIN)
    config = _read_config(folder / "config.json")
    pooling, max_length = _read_modules(folder, config)
    return ModelFolder(name, folder, config, pooling, _read_prompt(folder), max_length)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsDamaged(f"{path} is not readable JSON", _ADD_AGAIN) from error


def _read_config(path: Path) -> BertConfig:
    stated = _read_json(path)
    if stated.get("model_type") != "bert":
        raise ModelUnsupported(
            f"{path} describes a {stated.get('model_type', 'nameless')!r} model", "Only BERT encoders can be run"
        )
    if stated.get("position_embedding_type", "absolute") != "absolute":
        raise ModelUnsupported(f"{path} asks for relative positions", "Only absolute positions can be run")
    activation = stated.get("hidden_act")
    if activation != "gelu":
        raise ModelUnsupported(f"{path} asks for the activation {activation!r}", "Only gelu can be run")
    try:
        return BertConfig(
            layers=int(stated["num_hidden_layers"]),
            hidden=int(stated["hidden_size"]),
            heads=int(stated["num_attention_heads"]),
            intermediate=int(stated["intermediate_size"]),
            vocabulary=int(stated["vocab_size"]),
            positions=int(stated["max_position_embeddings"]),
            token_types=int(stated["type_vocab_size"]),
            layer_norm_epsilon=float(stated["layer_norm_eps"]),
            activation=activation,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsDamaged(f"{path} lacks a usable {error}", _ADD_AGAIN) from error


def _read_modules(folder: Path, config: BertConfig) -> tuple[Pooling, int]:
    """Walk the chain of modules: Transformer → Pooling → Normalize is what an ``Encoder`` computes."""
    modules = {str(m["type"]).rsplit(".", 1)[-1]: str(m["path"]) for m in _read_json(folder / "modules.json")}
    unknown = set(modules) - {"Transformer", "Pooling", "Normalize"}
    if unknown or "Pooling" not in modules:
        raise ModelUnsupported(
            f"{folder / 'modules.json'} lists {', '.join(sorted(modules))}",
            "Only Transformer → Pooling → Normalize can be run",
        )
    stated = _read_json(folder / modules["Pooling"] / "config.json")
    if "pooling_mode" in stated:  # sentence-transformers ≥ 5.2 names the mode
        chosen = [str(stated["pooling_mode"])]
        poolings: list[Pooling] = [cast(Pooling, mode) for mode in chosen if mode in ("cls", "mean")]
    else:  # before, a flag for each mode
        chosen = [
            key.removeprefix("pooling_mode_") for key, on in stated.items() if key.startswith("pooling_mode_") and on
        ]
        poolings = [_POOLINGS[mode] for mode in chosen if mode in _POOLINGS]
    if len(chosen) != 1 or len(poolings) != 1:
        raise ModelUnsupported(f"{folder} pools by {' and '.join(chosen) or 'nothing'}", "Only CLS or mean can be run")
    sentence_config = folder / modules.get("Transformer", "") / "sentence_bert_config.json"
    max_length = config.positions
    if sentence_config.is_file():
        max_length = min(int(_read_json(sentence_config).get("max_seq_length") or max_length), max_length)
    return poolings[0], max_length


def _read_prompt(folder: Path) -> str:
    """The prompt that the model puts before every input unless told otherwise; mostly none."""
    path = folder / "config_sentence_transformers.json"
    stated = _read_json(path) if path.is_file() else {}
    return str((stated.get("prompts") or {}).get(stated.get("default_prompt_name") or "", ""))


def load_tensors(model: ModelFolder) -> Tensors:
    """Load the encoder's weights as float32, under the names of a bare BertModel, every shape checked.

    Returns:
        name → array; linear weights are (out, in) as in the file. Pooler and task heads are left out.

    Raises:
        WeightsDamaged: truncated file, missing tensor, wrong shape, or a value that is not a finite number.
    """
    from safetensors import SafetensorError, safe_open

    expected = tensor_shapes(model.config)
    tensors: dict[str, npt.NDArray[np.float32]] = {}
    try:
        with safe_open(model.weights_path, framework="numpy") as file:
            names = set(file.keys())
            anchor = "embeddings.word_embeddings.weight"
            prefix = next((n.removesuffix(anchor) for n in names if n.endswith(anchor)), "")
            for name, shape in expected.items():
                if prefix + name not in names:
                    raise WeightsDamaged(f"{model.weights_path} has no tensor {prefix + name}", _ADD_AGAIN)
                array = _as_float32(file, prefix + name)
                if array.shape != shape:
                    raise WeightsDamaged(
                        f"{model.weights_path}: {prefix + name} is {array.shape}, config.json says {shape}", _ADD_AGAIN
                    )
                if not np.isfinite(array).all():
                    raise WeightsDamaged(f"{model.weights_path}: {prefix + name} holds NaN or infinity", _ADD_AGAIN)
                tensors[name] = array
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsDamaged(f"{model.weights_path} is not a whole safetensors file", _ADD_AGAIN) from error
    return tensors


def _as_float32(file: Any, name: str) -> npt.NDArray[np.float32]:
    if file.get_slice(name).get_dtype() == "BF16":
        import ml_dtypes  # noqa: F401  numpy knows bfloat16 once this is imported
    return np.ascontiguousarray(file.get_tensor(name).astype(np.float32))


def tensor_shapes(config: BertConfig) -> Mapping[str, tuple[int, ...]]:
    """Every tensor of a BERT encoder of this shape, by its name in a bare BertModel."""
    hidden, inner = config.hidden, config.intermediate
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config.vocabulary, hidden),
        "embeddings.position_embeddings.weight": (config.positions, hidden),
        "embeddings.token_type_embeddings.weight": (config.token_types, hidden),
        "embeddings.LayerNorm.weight": (hidden,),
        "embeddings.LayerNorm.bias": (hidden,),
    }
    linears = {
        "attention.self.query": (hidden, hidden),
        "attention.self.key": (hidden, hidden),
        "attention.self.value": (hidden, hidden),
        "attention.output.dense": (hidden, hidden),
        "intermediate.dense": (inner, hidden),
        "output.dense": (hidden, inner),
    }
    for layer in range(config.layers):
        prefix = f"encoder.layer.{layer}."
        for name, shape in linears.items():
            shapes[f"{prefix}{name}.weight"] = shape
            shapes[f"{prefix}{name}.bias"] = shape[:1]
        for norm in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"{prefix}{norm}.weight"] = shapes[f"{prefix}{norm}.bias"] = (hidden,)
    return shapes
