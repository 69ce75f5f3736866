"""BERT, written out as an ONNX graph straight from its weights.

Read it from top to bottom and you have read the encoder (Devlin et al. 2018; Vaswani et al. 2017):

    word pieces → embeddings → [ attention → add & norm → feed-forward → add & norm ] × layers → pooling → unit length

ONNX Runtime has one operator for most of these steps (its "contrib" operators, domain ``com.microsoft``), so a
layer is seven nodes instead of about forty; with few tokens the cost of a node is what one pays for. Where a
runtime lacks them, ``fused=False`` writes the same arithmetic in standard operators.

Shapes: B texts, T tokens of the longest one, H hidden size, I size of the feed-forward layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from .quantise import Product, hadamard, joined_qkv, rounded_rows
from .registry import Pooling
from .weights import BertConfig, Tensors

INPUT_IDS: Final = "input_ids"
ATTENTION_MASK: Final = "attention_mask"
READINGS: Final = "readings"

_OPSET: Final = 17  # LayerNormalization is standard from here on; every onnxruntime since 1.12 reads it
_IR_VERSION: Final = 8
_CONTRIB: Final = "com.microsoft"
_MASKED: Final = -1e4  # added to the score of padding: exp(score - 1e4) is exactly 0 in float32


def bert_graph(
    config: BertConfig,
    tensors: Tensors,
    pooling: Pooling,
    *,
    products: Mapping[str, Product] | None = None,
    fused: bool = True,
) -> bytes:
    """Write the whole encoder, text tokens to unit vectors, as a serialised ``onnx.ModelProto``.

    The graph's inputs are ``input_ids`` and ``attention_mask``, both int32 of shape (B, T): 1 for a token and 0 for
    padding, which stands at the right. Its output is ``readings``, float32 (B, 3 · H): of each text
    three vectors of length 1, see ``engine``. What stands in a padded place never reaches one.

    Args:
        tensors: named and shaped as ``weights.tensor_shapes`` states, linear weights (out, in).
        pooling: the vector of the first token, or the mean over all tokens.
        products: of ``quantise``, for an encoder that multiplies in int8; fp32 if None.
        fused: use ONNX Runtime's contrib operators; else standard ones only (several times slower, fp32 only).
    """
    graph = _Graph()
    layer = (_FusedLayer if fused else _PlainLayer)(graph, config, tensors)
    if products is not None:
        layer = _IntegerLayer(graph, config, tensors, products)
    hidden = layer.embeddings()
    for number in range(config.layers):
        hidden = layer.encode(hidden, f"encoder.layer.{number}.")
    other: Pooling = "cls" if pooling == "mean" else "mean"
    parts = (_pool(graph, hidden, pooling), _pool(graph, hidden, other), _last(graph, hidden))
    graph.node("Concat", *(_unit_length(graph, part) for part in parts), axis=-1, output=READINGS)
    return graph.serialised(len(parts) * config.hidden)


def _pool(graph: _Graph, hidden: str, pooling: Pooling) -> str:
    """(B, T, H) → (B, H): one vector for each text."""
    if pooling == "cls":
        return graph.node("Gather", hidden, graph.constant("first", np.int64(0)), axis=1)
    # The sum stands for the mean: they differ in length only, and length is what the next step removes.
    mask = graph.node("Cast", ATTENTION_MASK, to=TensorProto.FLOAT)
    row = graph.node("Unsqueeze", mask, graph.constant("axis_1", np.array([1])))  # (B, 1, T)
    total = graph.node("MatMul", row, hidden)  # (B, 1, H)
    return graph.node("Squeeze", total, graph.constant("axis_1", np.array([1])))


def _last(graph: _Graph, hidden: str) -> str:
    """(B, T, H) → (B, H): the vector of each text's last token, before the padding."""
    mask = graph.node("Cast", ATTENTION_MASK, to=TensorProto.FLOAT)
    axis = graph.constant("axis_1", np.array([1]))
    place = graph.node("CumSum", mask, graph.constant("along_1", np.array(1)))  # 1, 2, …, and as it is in padding
    length = graph.node("ReduceSum", mask, axis, keepdims=1)
    reached = graph.node("Cast", graph.node("Equal", place, length), to=TensorProto.FLOAT)
    row = graph.node("Unsqueeze", graph.node("Mul", reached, mask), axis)  # (B, 1, T), a single 1 in each
    return graph.node("Squeeze", graph.node("MatMul", row, hidden), axis)


def _unit_length(graph: _Graph, pooled: str) -> str:
    """Divide each row by its length, so that a dot product is a cosine; a row of zeros stays zeros."""
    return graph.node("LpNormalization", pooled, axis=-1, p=2)


class _FusedLayer:
    """The parts of BERT in contrib operators."""

    def __init__(self, graph: _Graph, config: BertConfig, tensors: Tensors) -> None:
        self.graph, self.config, self.tensors = graph, config, tensors

    def embeddings(self) -> str:
        """What a token is, plus where it stands, normalised: (B, T) → (B, T, H)."""
        graph, tensors = self.graph, self.tensors
        return graph.node(
            "EmbedLayerNormalization",
            INPUT_IDS,
            "",
            graph.constant("words", tensors["embeddings.word_embeddings.weight"]),
            graph.constant("positions", _positions(tensors)),
            "",
            graph.constant("embeddings.gamma", tensors["embeddings.LayerNorm.weight"]),
            graph.constant("embeddings.beta", tensors["embeddings.LayerNorm.bias"]),
            epsilon=self.config.layer_norm_epsilon,
            unused=1,
            domain=_CONTRIB,
        )

    def encode(self, hidden: str, prefix: str) -> str:
        """One layer: tokens look at each other, then each is transformed on its own."""
        mixed = self.attention(hidden, prefix)
        hidden = self.add_and_norm(mixed, hidden, prefix + "attention.output")
        inner = self.gelu(self.product(hidden, prefix + "intermediate.dense"), prefix + "intermediate.dense")
        outer = self.product(inner, prefix + "output.dense")
        return self.add_and_norm(outer, hidden, prefix + "output")

    def attention(self, hidden: str, prefix: str) -> str:
        """Scaled dot-product attention over all heads, and the product that joins the heads again."""
        graph = self.graph
        # Query, key and value are one product with the three matrices side by side: (H, 3H).
        weight, bias = joined_qkv(self.tensors, prefix)
        mixed = graph.node(
            "Attention",
            hidden,
            graph.constant(prefix + "qkv.weight", weight),
            graph.constant(prefix + "qkv.bias", bias),
            ATTENTION_MASK,
            num_heads=self.config.heads,
            mask_filter_value=_MASKED,
            domain=_CONTRIB,
        )
        return self.product(mixed, prefix + "attention.output.dense")

    def product(self, value: str, name: str) -> str:
        """``value`` times a weight matrix. The bias waits for the next operator, which adds it for nothing."""
        weight = self.tensors[name + ".weight"]
        return self.graph.node("MatMul", value, self.graph.constant(name + ".weight", weight.T))

    def gelu(self, value: str, name: str) -> str:
        """The bias, then x · Φ(x) with the exact Φ (Hendrycks & Gimpel 2016)."""
        bias = self.graph.constant(name + ".bias", self.tensors[name + ".bias"])
        return self.graph.node("BiasGelu", value, bias, domain=_CONTRIB)

    def add_and_norm(self, value: str, residual: str, name: str) -> str:
        """LayerNorm(residual + value + bias of the product that made ``value``).

        There is an operator for all of it, SkipLayerNormalization, and it takes three times as long as these.
        """
        graph = self.graph
        bias = graph.constant(name + ".dense.bias", self.tensors[name + ".dense.bias"])
        total = graph.node("Add", graph.node("Add", value, bias), residual)
        return _norm(graph, self.tensors, self.config, total, name)


class _IntegerLayer(_FusedLayer):
    """The fused parts, with every product in 8-bit integers and the word vectors stored in 8 bits."""

    def __init__(self, graph: _Graph, config: BertConfig, tensors: Tensors, products: Mapping[str, Product]) -> None:
        super().__init__(graph, config, tensors)
        self.products = products

    def embeddings(self) -> str:
        """A row of the table is read as integers and multiplied by the row's own scale."""
        graph = self.graph
        integers, scale = rounded_rows(self.tensors["embeddings.word_embeddings.weight"])
        word = graph.node(
            "Mul",
            graph.node(
                "Cast", graph.node("Gather", graph.constant("words", integers), INPUT_IDS), to=TensorProto.FLOAT
            ),
            graph.node("Gather", graph.constant("words.scale", scale), INPUT_IDS),
        )
        return _norm(
            graph, self.tensors, self.config, graph.node("Add", word, _places(graph, self.tensors)), "embeddings"
        )

    def attention(self, hidden: str, prefix: str) -> str:
        graph = self.graph
        thirds = graph.constant("thirds", np.array([self.config.hidden] * 3))
        query, key, value = graph.nodes("Split", 3, self.product(hidden, prefix + "qkv"), thirds, axis=-1)
        mixed = graph.node(
            "MultiHeadAttention",
            *(query, key, value, "", ATTENTION_MASK),
            num_heads=self.config.heads,
            mask_filter_value=_MASKED,
            domain=_CONTRIB,
        )
        return self.product(mixed, prefix + "attention.output.dense")

    def product(self, value: str, name: str) -> str:
        """Rotated, rounded by groups, multiplied in integers; the bias is added here."""
        graph, product = self.graph, self.products[name]
        (inputs, outputs), group = product.weight.shape, product.group
        if product.rotate:
            grouped = graph.node("Reshape", value, graph.constant(f"groups_of_{group}", np.array([0, 0, -1, group])))
            turned = graph.node("MatMul", grouped, graph.constant(f"hadamard_{group}", hadamard(group)))
            value = graph.node("Reshape", turned, graph.constant(f"rows_of_{inputs}", np.array([0, 0, inputs])))
        # The operator wants unsigned weights around 128, all of an output together.
        unsigned = (product.weight.T.astype(np.int16) + 128).astype(np.uint8)
        return graph.node(
            "MatMulNBits",
            value,
            graph.constant(name + ".weight", unsigned.reshape(outputs, inputs // group, group)),
            graph.constant(name + ".scale", product.scale.T.reshape(-1)),
            "",
            "",
            graph.constant(name + ".bias", product.bias),
            K=inputs,
            N=outputs,
            bits=8,
            block_size=group,
            accuracy_level=4,  # activations in 8 bits too, each group of a row by a scale of its own
            domain=_CONTRIB,
        )

    def gelu(self, value: str, name: str) -> str:
        del name  # the bias is in the product
        return self.graph.node("Gelu", value, domain=_CONTRIB)

    def add_and_norm(self, value: str, residual: str, name: str) -> str:
        return _norm(self.graph, self.tensors, self.config, self.graph.node("Add", value, residual), name)


class _PlainLayer(_FusedLayer):
    """The same parts in standard operators, for a runtime without the contrib ones."""

    def embeddings(self) -> str:
        graph, tensors = self.graph, self.tensors
        word = graph.node("Gather", graph.constant("words", tensors["embeddings.word_embeddings.weight"]), INPUT_IDS)
        return _norm(
            graph, self.tensors, self.config, graph.node("Add", word, _places(graph, self.tensors)), "embeddings"
        )

    def attention(self, hidden: str, prefix: str) -> str:
        graph, heads, size = self.graph, self.config.heads, self.config.hidden // self.config.heads
        split = graph.constant("split_heads", np.array([0, 0, heads, size]))
        query, key, value = (
            graph.node("Reshape", self._linear(hidden, prefix + "attention.self." + part), split)  # (B, T, heads, size)
            for part in ("query", "key", "value")
        )
        scores = graph.node(
            "MatMul",
            graph.node("Transpose", query, perm=[0, 2, 1, 3]),
            graph.node("Transpose", key, perm=[0, 2, 3, 1]),
        )  # (B, heads, T, T): how much each token wants of each other
        scaled = graph.node("Mul", scores, graph.constant("scale", np.float32(size**-0.5)))
        weights = graph.node("Softmax", graph.node("Add", scaled, self._mask()), axis=-1)
        mixed = graph.node("MatMul", weights, graph.node("Transpose", value, perm=[0, 2, 1, 3]))
        joined = graph.node("Transpose", mixed, perm=[0, 2, 1, 3])
        join = graph.constant("join_heads", np.array([0, 0, heads * size]))
        return self.product(graph.node("Reshape", joined, join), prefix + "attention.output.dense")

    def gelu(self, value: str, name: str) -> str:
        graph = self.graph
        x = graph.node("Add", value, graph.constant(name + ".bias", self.tensors[name + ".bias"]))
        root = graph.node("Mul", x, graph.constant("half_root", np.float32(0.5**0.5)))
        phi_twice = graph.node("Add", graph.node("Erf", root), graph.constant("one", np.float32(1)))
        return graph.node("Mul", graph.node("Mul", x, graph.constant("half", np.float32(0.5))), phi_twice)

    def _linear(self, value: str, name: str) -> str:
        return self.graph.node(
            "Add", self.product(value, name), self.graph.constant(name + ".bias", self.tensors[name + ".bias"])
        )

    def _mask(self) -> str:
        """0 for a token and a large negative number for padding, to be added to scores: (B, 1, 1, T)."""
        graph = self.graph
        present = graph.node("Cast", ATTENTION_MASK, to=TensorProto.FLOAT)
        absent = graph.node("Sub", graph.constant("one", np.float32(1)), present)
        lowered = graph.node("Mul", absent, graph.constant("masked", np.float32(_MASKED)))
        return graph.node("Unsqueeze", lowered, graph.constant("axes_1_2", np.array([1, 2])))


def _norm(graph: _Graph, tensors: Tensors, config: BertConfig, value: str, name: str) -> str:
    gamma = graph.constant(name + ".gamma", tensors[name + ".LayerNorm.weight"])
    beta = graph.constant(name + ".beta", tensors[name + ".LayerNorm.bias"])
    return graph.node("LayerNormalization", value, gamma, beta, epsilon=config.layer_norm_epsilon)


def _places(graph: _Graph, tensors: Tensors) -> str:
    """The vectors of the first T positions: (T, H)."""
    length = graph.node("Shape", INPUT_IDS, start=1, end=2)
    zero, axis = graph.constant("zero", np.array([0])), graph.constant("axis_0", np.array([0]))
    return graph.node("Slice", graph.constant("positions", _positions(tensors)), zero, length, axis)


def _positions(tensors: Tensors) -> npt.NDArray[np.float32]:
    """Position vectors with the vector of token type 0 added once and for all: every token here is of type 0."""
    of_type_0: npt.NDArray[np.float32] = tensors["embeddings.token_type_embeddings.weight"][0]
    return tensors["embeddings.position_embeddings.weight"] + of_type_0


class _Graph:
    """Nodes and constants as they are written; every value is known by its name."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: npt.ArrayLike) -> str:
        """Add a constant unless one of this name is there."""
        if name not in self._constants:
            array = np.asarray(value)
            self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
        return name

    def node(
        self, operator: str, *inputs: str, output: str = "", unused: int = 0, domain: str = "", **attributes: Any
    ) -> str:
        """Add a node and return the name of its first output. ``""`` stands for an input left out.

        Args:
            unused: how many more outputs the operator insists on.
        """
        output = output or f"{operator}_{len(self._nodes)}"
        outputs = [output, *(f"{output}_unused_{number}" for number in range(unused))]
        self._nodes.append(helper.make_node(operator, inputs, outputs, domain=domain, **attributes))
        return output

    def nodes(self, operator: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node of several outputs and return their names."""
        outputs = [f"{operator}_{len(self._nodes)}_{number}" for number in range(count)]
        self._nodes.append(helper.make_node(operator, inputs, outputs, **attributes))
        return outputs

    def serialised(self, hidden: int) -> bytes:
        """Close the graph around what was added."""
        graph = helper.make_graph(
            self._nodes,
            "bert",
            [_tensor(INPUT_IDS, TensorProto.INT32, ("B", "T")), _tensor(ATTENTION_MASK, TensorProto.INT32, ("B", "T"))],
            [_tensor(READINGS, TensorProto.FLOAT, ("B", hidden))],
            list(self._constants.values()),
        )
        domains = sorted({node.domain for node in self._nodes} | {""})
        opsets = [helper.make_opsetid(domain, 1 if domain else _OPSET) for domain in domains]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="jarvis-embed")
        serialised: bytes = model.SerializeToString()
        return serialised


def _tensor(name: str, kind: int, shape: Sequence[str | int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)
