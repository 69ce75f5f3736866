"""A model's tokenizer, cutting at the model's length."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import WeightsDamaged
from .weights import ModelFolder

if TYPE_CHECKING:
    import tokenizers


def load_tokenizer(model: ModelFolder) -> tokenizers.Tokenizer:
    """Load the tokenizer; padding and truncation that the file states are replaced by none and ``max_length``.

    Raises:
        WeightsDamaged: the file is no tokenizer.
    """
    import tokenizers

    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(model.tokenizer_path))
    except Exception as error:  # tokenizers raises nothing narrower
        raise WeightsDamaged(f"{model.tokenizer_path} is not a tokenizer", "Get the model again") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(model.max_length)
    return tokenizer
