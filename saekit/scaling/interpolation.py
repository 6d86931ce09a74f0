"""Curves through values at knots, for bands that are found at a few places only."""

from __future__ import annotations

import numpy as np

from .forms import Doubles


def between(at: Doubles, knots: Doubles, values: Doubles) -> Doubles:
    """Positive values at knots, interpolated in the logarithms (pchip); nan beside a knot where the value is nan."""
    from scipy.interpolate import PchipInterpolator

    if len(at) == len(knots) and (at == knots).all():
        return values
    x, known = np.log(np.clip(at, knots[0], knots[-1])), np.isfinite(values)
    if known.sum() < 2:
        return np.full(len(at), np.nan)
    smooth = np.exp(PchipInterpolator(np.log(knots[known]), np.log(values[known]), extrapolate=False)(x))
    return np.where(np.isnan(np.interp(x, np.log(knots), values)), np.nan, smooth)
