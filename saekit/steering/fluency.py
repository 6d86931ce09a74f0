"""How fluent a text is: the metrics of text that a steering study reports."""

from __future__ import annotations

from collections.abc import Sequence

MAX_NLL_INCREASE = 1.5
"""Nats per token that a recommended strength may cost."""


def repetition(tokens: Sequence[int], n: int = 4) -> float:
    """The fraction of n-grams of tokens that occurred before in the same text; 0 for a text shorter than n.

    >>> from saekit.steering.fluency import repetition
    >>> repetition([1, 2, 3, 4, 5, 6]), repetition([7] * 9)
    (0.0, 0.8333333333333334)
    """
    grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
