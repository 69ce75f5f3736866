"""Calibration: what flows through the fp32 encoder when it reads ordinary messages.

The texts are made up, so neither private text nor that of a corpus has a part in a compiled file; and only scales do.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import numpy as np

from .graph import ATTENTION_MASK, INPUT_IDS, bert_graph
from .quantise import Floats
from .registry import Pooling
from .runtime import start_session
from .weights import BertConfig, Tensors

if TYPE_CHECKING:
    import onnx
    import tokenizers

_SHORT: Final = (
    "ok",
    "k",
    "yes",
    "no",
    "lol",
    "haha",
    "thanks!",
    "hey",
    "hi there",
    "omg",
    "sure",
    "maybe?",
    "good night",
    "yep",
    "on my way",
    "what?",
    "no way!!",
    "brb",
    "call me",
    "where are you",
    "happy birthday!!",
    "miss you",
    "see you soon",
    "😂",
    "❤️❤️",
    "👍",
    "🎉🎉🎉",
    "😭 nooo",
    "ok 👌",
    "🙏 thank you",
    "🤔",
    "?",
    "...",
    "!!!",
    "5",
    "7:30",
    "100%",
    "привет, как дела?",
    "я буду дома через час",
    "спокойной ночи",
    "你好吗?",
    "我马上到",
    "今晚一起吃饭吧",
    "おはよう!",
    "今どこにいるの",
    "안녕, 잘 지내?",
    "곧 도착해",
    "كيف حالك؟",
    "أراك غدا",
    "मैं ठीक हूँ",
    "שבת שלום",
    "καλημέρα σε όλους",
    "¿qué tal estás?",
    "nos vemos mañana",
    "bis später!",
    "ich bin gleich da",
    "à demain, bisous",
    "c'est pas grave",
    "https://example.org/photos/2291?view=full",
    "wifi code: 4F-9931-XK",
    "CALL NOW to claim ur FREE prize!! txt STOP to end",
)

_WHO: Final = (
    "my sister",
    "the plumber",
    "our neighbour",
    "grandpa",
    "the whole team",
    "Priya",
    "that guy from work",
    "u",
    "the landlord",
    "nobody",
)
_DOES: Final = (
    "forgot to buy",
    "really wants",
    "can't find",
    "is asking about",
    "broke",
    "just sold",
    "loves",
    "never got",
    "wont stop talking about",
    "is bringing",
)
_WHAT: Final = (
    "the blue jacket",
    "two tickets for the match",
    "a puppy",
    "the wedding photos",
    "that noisy engine",
    "some oat milk",
    "the rent",
    "an old guitar",
    "my charger",
    "the chemistry exam",
)
_WHEN: Final = (
    "right now",
    "on Friday at 6",
    "after the storm",
    "in March 2019",
    "before dinner",
    "every single day",
    "since the surgery",
    "tmrw morning",
    "last summer in Lisbon",
    "again",
)
_LEAD: Final = (
    "",
    "",
    "honestly ",
    "Do you know why ",
    "I heard ",
    "sorry but ",
    "lol ",
    "Well, ",
    "Did you say ",
    "i think ",
)
_TAIL: Final = (
    "",
    "",
    "?",
    "!",
    " :)",
    ", what should I do?",
    " and I am so tired of it.",
    " haha",
    " 😅",
    ". Please call me back when you can.",
)


def captured_activations(
    config: BertConfig, tensors: Tensors, pooling: Pooling, tokenizer: tokenizers.Tokenizer
) -> dict[str, Floats]:
    """Run the fp32 encoder over the calibration texts, and keep what flows into each product.

    Args:
        tokenizer: of the model, cutting at its length and not padding.

    Returns:
        product name → (tokens of all texts, channels) float32; about 360 MB for a model of 6 layers × 384.
    """
    import onnx

    model = onnx.load_from_string(bert_graph(config, tensors, pooling))
    inputs = product_inputs(model.graph)
    for value in dict.fromkeys(inputs.values()):
        model.graph.output.append(onnx.helper.make_tensor_value_info(value, onnx.TensorProto.FLOAT, None))
    session = start_session(model.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    seen: defaultdict[str, list[Floats]] = defaultdict(list)
    for encoding in tokenizer.encode_batch_fast(calibration_texts()):
        ids = np.array([encoding.ids], np.int32)
        values = dict(zip(names, session.run(None, {INPUT_IDS: ids, ATTENTION_MASK: np.ones_like(ids)}), strict=True))
        for name, value in inputs.items():
            seen[name].append(values[value][0])
    return {name: np.concatenate(parts) for name, parts in seen.items()}


def product_inputs(graph: onnx.GraphProto) -> dict[str, str]:
    """Product name → the value that flows into it, in a graph of ``bert_graph``: its weight tells a product's name."""
    return {
        weight.removesuffix(".weight"): node.input[0]
        for node in graph.node
        if node.op_type in ("Attention", "MatMul")
        for weight in node.input
        if weight.endswith(".weight")
    }


def calibration_texts() -> list[str]:
    """A few hundred made-up messages: chat, texting, long paragraphs, other scripts, emoji. Always the same."""
    chosen = random.Random(20181011)  # noqa: S311 - repeatable, not secret
    sentences = [_sentence(chosen) for _ in range(300)]
    return [*_SHORT, *sentences[:220], *_paragraphs(sentences[220:], chosen)]


def _sentence(chosen: random.Random) -> str:
    parts = (_LEAD, _WHO, (" ",), _DOES, (" ",), _WHAT, (" ",), _WHEN, _TAIL)
    return "".join(chosen.choice(part) for part in parts)


def _paragraphs(sentences: list[str], chosen: random.Random) -> Iterator[str]:
    while sentences:
        length = chosen.randint(3, 12)
        yield " ".join(sentences[:length])
        sentences = sentences[length:]
