"""Confidence intervals: their types, and percentiles of draws.

Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), 13.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ..display.numbers import short as short
from .displays import estimate_html, interval_html

LEVEL = 0.95
"""The level of every interval for which no other is given."""
MIN_UNITS = 5
"""No interval is given from fewer documents, prompts or features than this."""

Doubles = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """The ends of an interval, at the level that its owner states (`LEVEL` otherwise); nan where there is none."""

    low: float
    high: float

    def _repr_html_(self) -> str:
        return interval_html(self)


@dataclass(frozen=True)
class Estimate:
    """A number with its interval and the number of units that the interval is over; nan where it is undefined, and
    then `reason` says why.

    >>> from saekit.statistics import Estimate
    >>> Estimate(0.5, 0.25, 0.75, n_units=20, unit="documents"), f"{Estimate(12.34, 11, 13):.3g}"
    (0.50 [0.25, 0.75], 20 documents, '12.3 [11, 13]')
    >>> Estimate(0.5, reason="no interval: 3 documents, at least 5 are needed", n_units=3, unit="documents")
    0.50 (no interval: 3 documents, at least 5 are needed)
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    level: float = LEVEL
    reason: str = ""
    """Why the value or the interval is undefined; empty when nothing is."""
    n_units: int | None = None
    """How many units the interval is over; None where it is not over units."""
    unit: str = ""
    """What they are: "documents", "prompts", "features"."""

    def __float__(self) -> float:
        return self.value

    def __format__(self, spec: str) -> str:
        def number(v: float) -> str:
            return format(v, spec) if spec else short(v)

        if math.isnan(self.value):
            return f"undefined: {self.reason}"
        if math.isnan(self.low):
            return f"{number(self.value)} ({self.reason})" if self.reason else number(self.value)
        units = "" if self.n_units is None else f", {self.n_units:,} {self.unit}"
        return f"{number(self.value)} [{number(self.low)}, {number(self.high)}]{units}"

    def __str__(self) -> str:
        return format(self)

    __repr__ = __str__
    _repr_html_ = estimate_html

    def row(self) -> dict[str, Any]:
        """value, low, high and n_units, for a table."""
        return {"value": self.value, "low": self.low, "high": self.high, "n_units": self.n_units}


def percentile_bounds(
    draws: npt.ArrayLike,
    level: float = LEVEL,
    *,
    axis: int = -1,
    max_undefined: float = 1.0,
    method: Literal["linear", "nearest"] = "linear",
) -> tuple[Doubles, Doubles]:
    """The (low, high) percentile bounds of draws over an axis.

    Draws that are nan are undefined and left out; where more than a fraction `max_undefined` of them is, or all, the
    bounds are nan. method="nearest" takes ends among the draws, so that infinite ones are allowed.

    >>> from saekit.statistics import percentile_bounds
    >>> low, high = percentile_bounds([[0.0, 1.0, 2.0], [5.0, float("nan"), 5.0]], 0.5)
    >>> low.tolist(), high.tolist()
    ([0.5, 5.0], [1.5, 5.0])
    """
    values = np.asarray(draws, dtype=np.float64)
    missing = np.isnan(values).sum(axis=axis)
    few = (missing > max_undefined * values.shape[axis]) | (missing == values.shape[axis])
    if not values.shape[axis]:
        return np.full(few.shape, np.nan), np.full(few.shape, np.nan)
    safe = np.where(np.expand_dims(few, axis), 0.0, values)
    quantile = np.nanquantile if missing.any() else np.quantile
    low, high = quantile(safe, [(1 - level) / 2, (1 + level) / 2], axis=axis, method=method)
    return np.where(few, np.nan, low), np.where(few, np.nan, high)
