"""The HTML displays of an estimate and of an interval."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..display import document, number, shown
from ..display.numbers import column

if TYPE_CHECKING:
    from .intervals import Estimate, Interval


@shown
def estimate_html(e: Estimate) -> str:
    """The value, its interval and what that is over; or why there is none."""
    value, low, high = column([e.value, e.low, e.high])
    known = e.low == e.low or e.high == e.high
    over = f"{e.level:.0%} interval" + (f" over {e.n_units:,} {e.unit}" if e.n_units is not None else "")
    return document(f"{value} [{low}, {high}]" if known else value, over if known else e.reason)


@shown
def interval_html(interval: Interval) -> str:
    """Its ends."""
    low, high = interval
    return document("Interval", f"{number(low)} to {number(high)}" if low == low or high == high else "there is none")
