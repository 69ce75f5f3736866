"""How good replies are to what was said before, by the quality head of a space's model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .errors import InputError
from .spaces.space import Space
from .text import normalise


def quality(space: Space, exchanges: Sequence[tuple[str | Sequence[str], str]]) -> npt.NDArray[np.float32]:
    """Score each response in its context.

    Args:
        exchanges: (context, response) each; a context is the turns before the response, oldest first, the one that it
            answers last, or that one alone as a text.

    Returns:
        (n,) float32, 0 to 1, in their order.

    Raises:
        HeadsMissing: the model of the space has no quality head; says how to train one.
        InputError: a response, or the turn that it answers, is empty.
    """
    space.encoder.require_quality_head()
    contexts = [[one] if isinstance(one, str) else list(one) for one, _ in exchanges]
    responses = [response for _, response in exchanges]
    for turns, response in zip(contexts, responses, strict=True):
        if not turns or not normalise(turns[-1]) or not normalise(response):
            raise InputError("a response or the turn that it answers is empty", "Give both as texts")
    triggers, before = [turns[-1] for turns in contexts], [turns[:-1] for turns in contexts]
    return space.encoder.reply_quality(triggers, before, space.encoder.embed(responses))
