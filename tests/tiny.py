"""Small stand-ins for large things: a random BERT of any shape, and a made-up history."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from jarvis_embed.config import load_settings, save_settings
from jarvis_embed.models.encoder import Encoder, load_encoder
from jarvis_embed.models.store import add_model
from jarvis_embed.models.weights import BertConfig, tensor_shapes
from jarvis_embed.spaces.manifest import read_manifest, write_manifest

WORDS = (
    "hey hi ok yes no lunch dinner movie tonight tomorrow today wanna grab get see you me we sure when where what how "
    "are is the a to at in on it was good great bad work home car dog cat game play late sorry thanks love haha lol"
).split()


def config(layers: int = 2, hidden: int = 32, heads: int = 4, inner: int = 64) -> BertConfig:
    """A BERT shape; the vocabulary is that of ``tokenizer``."""
    return BertConfig(layers, hidden, heads, inner, len(_vocabulary()), 64, 2, 1e-12, "gelu")


def _vocabulary() -> dict[str, int]:
    letters = [chr(c) for c in range(33, 127)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters), *WORDS]
    return {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}


def tokenizer() -> Tokenizer:
    """Word pieces as BERT's, over a few words and all ASCII letters."""
    made = Tokenizer(models.WordPiece(_vocabulary(), unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return made


def write_model(
    folder: Path,
    shape: BertConfig | None = None,
    *,
    pooling: str = "mean",
    dtype: torch.dtype = torch.float32,
    prefix: str = "",
    pooler: bool = False,
    max_length: int = 32,
    seed: int = 0,
) -> Path:
    """Write a random BERT in sentence-transformers layout, readable by sentence-transformers too."""
    shape = shape or config()
    rng = torch.Generator().manual_seed(seed)
    shapes = dict(tensor_shapes(shape))
    if pooler:
        shapes |= {"pooler.dense.weight": (shape.hidden, shape.hidden), "pooler.dense.bias": (shape.hidden,)}
    tensors = {
        prefix + name: (
            torch.randn(size, generator=rng) * (0.3 if len(size) == 2 else 0.1) + ("Norm.weight" in name)
        ).to(dtype)
        for name, size in shapes.items()
    }
    (folder / "1_Pooling").mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    tokenizer().save(str(folder / "tokenizer.json"))
    modes = {"cls": "cls_token", "mean": "mean_tokens"}
    for name, content in {
        "config.json": {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "num_hidden_layers": shape.layers,
            "hidden_size": shape.hidden,
            "num_attention_heads": shape.heads,
            "intermediate_size": shape.intermediate,
            "vocab_size": shape.vocabulary,
            "max_position_embeddings": shape.positions,
            "type_vocab_size": shape.token_types,
            "layer_norm_eps": shape.layer_norm_epsilon,
            "hidden_act": shape.activation,
        },
        "modules.json": [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ],
        "1_Pooling/config.json": {
            "word_embedding_dimension": shape.hidden,
            **{f"pooling_mode_{flag}": mode == pooling for mode, flag in modes.items()},
        },
        "sentence_bert_config.json": {"max_seq_length": max_length, "do_lower_case": False},
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": "[PAD]",
            "unk_token": "[UNK]",
            "cls_token": "[CLS]",
            "sep_token": "[SEP]",
            "model_max_length": max_length,
        },
    }.items():
        (folder / name).write_text(json.dumps(content))
    return folder


def write_history(path: Path, messages: int = 200, seed: int = 0) -> Path:
    """Write a made-up history of three conversations as JSON Lines."""
    draw = random.Random(seed)
    lines = []
    for number in range(messages):
        friend = ("anna", "ben", "cleo")[number % 3]
        lines.append(
            {
                "id": str(number),
                "conversation": friend,
                "sender": ("me", friend)[(number // 3) % 2],
                "time": 1_700_000_000 + number * 60,
                "text": " ".join(draw.choices(WORDS, k=draw.randint(1, 8))),
            }
        )
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return path


def unit_rows(rows: int, dim: int, clusters: int, seed: int) -> np.ndarray:
    """Random unit vectors in clusters, as sentence vectors are."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(clusters, dim))
    vectors = centres[rng.integers(clusters, size=rows)] + 0.7 * rng.normal(size=(rows, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def in_use(home: Path, folder: Path) -> Encoder:
    """A new home that uses the tiny model in ``folder``, in fp32."""
    home.mkdir()
    save_settings(home, load_settings(home).model_copy(update={"precision": "fp32", "model": "tiny"}))
    add_model("tiny", folder, home)
    return load_encoder("tiny", home=home)


def as_before(folder: Path, file: str) -> None:
    """Make the generation in ``folder`` one of an earlier version, which had no such file."""
    stated = read_manifest(folder)
    del stated.files[file]
    (folder / file).unlink()
    write_manifest(folder, stated)
