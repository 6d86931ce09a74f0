"""The HTML displays of an estimate and of an interval."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..display import Intervals, document, note, number, shown, table

if TYPE_CHECKING:
    from .intervals import Estimate, Interval


@shown
def estimate_html(e: Estimate) -> str:
    """The value, its interval and what that is over; or why there is none."""
    over = f"{e.level:.0%} interval over {e.n_units:,} {e.unit}" if e.n_units is not None else f"{e.level:.0%} interval"
    known = e.low == e.low or e.high == e.high
    return document(
        "Estimate",
        over if known else "",
        table([Intervals("", [e.value], low=[e.low], high=[e.high])]),
        note(e.reason) if e.reason else None,
    )


@shown
def interval_html(interval: Interval) -> str:
    """Its ends."""
    low, high = interval
    return document("Interval", f"{number(low)} to {number(high)}" if low == low or high == high else "none")
