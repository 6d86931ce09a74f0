"""Floating-point operations of training an SAE."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .forms import Doubles

if TYPE_CHECKING:
    pass


FLOP_PER_WEIGHT_AND_TOKEN = 6


def training_flop(width: Doubles | float, n_tokens: Doubles | float, d_in: int) -> Doubles:
    """FLOP of training an SAE: 6 * n_tokens * 2 * d_in * width.

    >>> from saekit.scaling.flop import training_flop
    >>> training_flop(4096, 1_000_000, d_in=512).item()
    25165824000000.0
    """
    weights = 2.0 * d_in * np.asarray(width, float)
    return np.asarray(FLOP_PER_WEIGHT_AND_TOKEN * weights * np.asarray(n_tokens, float), float)
