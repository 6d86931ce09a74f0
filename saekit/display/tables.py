"""Tables: columns of words, numbers, bars, and values with their intervals on one axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .blocks import Block, ends_html, value_html
from .escaping import escape
from .numbers import MISSING, column, is_number, number

MAX_ROWS = 20


@dataclass(frozen=True)
class Words:
    """A column of words; the first of a table names its rows."""

    title: str
    values: Sequence[Any]


@dataclass(frozen=True)
class Numbers:
    """A column of numbers, with as many decimals each."""

    title: str
    values: Sequence[Any]
    digits: int = 3
    percent: bool = False
    by_row: bool = False
    """Whether rows are of different kinds, each with decimals of its own."""


@dataclass(frozen=True)
class Bars(Numbers):
    """A column of numbers with a bar beside each, from 0 to `top` (the largest of them)."""

    top: float | None = None
    activation: bool = False
    """Whether it is about a feature's activation, which is orange everywhere."""


@dataclass(frozen=True)
class Intervals(Numbers):
    """A column of numbers with [low, high] beside each and a whisker on an axis that all rows share."""

    low: Sequence[Any] = ()
    high: Sequence[Any] = ()
    axis: tuple[float, float] | None = None
    picture: bool = True
    reasons: Sequence[str] = field(default=())
    """Why a value or its interval is missing, by row; shown below the table."""
    n_drawn: int | None = None
    """Rows that have a whisker, from the first; None for all."""


Column = Words | Numbers | Bars | Intervals


def table(
    columns: Sequence[Column], *, caption: str = "", n_rows: int | None = None, all_at: str = ".to_frame() has all"
) -> Block | None:
    """A table of columns, the first of which names the rows; None without rows.

    Shows at most `MAX_ROWS`; `n_rows` says how many there are where the columns hold fewer, `all_at` where the rest is.

    >>> from saekit.display import Intervals, Words, table
    >>> html = table([Words("", ["recall"]), Intervals("value", [0.5], low=[0.25], high=[0.75])])
    >>> "[0.250, 0.750]" in html, 'style="left:25%;width:50%"' in html
    (True, True)
    """
    length = max((len(c.values) for c in columns), default=0)
    if not length:
        return None
    shown = min(length, MAX_ROWS)
    cells = [_cells(c, shown, first=i == 0) for i, c in enumerate(columns)]
    head = "".join(_head(c, shown) for c in columns)
    body = "".join(f"<tr>{''.join(c[i] for c in cells)}</tr>" for i in range(shown))
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    thead = f"<thead><tr>{head}</tr></thead>" if any(c.title or isinstance(c, Intervals) for c in columns) else ""
    rest = (n_rows or length) - shown
    more = f'<p class="saekit-muted">… {rest:,} more; {escape(all_at)}</p>' if rest > 0 else ""
    inside = f'<table class="saekit-table">{title}{thead}<tbody>{body}</tbody></table>'
    wide = ' tabindex="0" role="group" aria-label="table"' if len(columns) > 2 else ""
    return Block(f'<div class="saekit-scroll"{wide}>{inside}</div>{more}{_footnotes(columns, shown)}')


def _marks(c: Intervals, n: int) -> dict[str, str]:
    """A mark for each reason there is; none where it is one for all rows."""
    distinct = list(dict.fromkeys(r for r in list(c.reasons)[:n] if r))
    alone = len(distinct) == 1 and all(list(c.reasons)[:n])
    return {reason: "" if alone else "abcdefghijklmnopqrst"[i] for i, reason in enumerate(distinct)}


def _footnotes(columns: Sequence[Column], n: int) -> str:
    """The reasons, each once."""
    lines = []
    for c in columns:
        for reason, mark in _marks(c, n).items() if isinstance(c, Intervals) else ():
            lines.append(f"{f'<sup>{mark}</sup> ' if mark else ''}{escape(reason)}")
    return f'<p class="saekit-muted">{"<br>".join(lines)}</p>' if lines else ""


def _head(c: Column, n: int) -> str:
    title = escape(c.title)
    if isinstance(c, Words):
        return f'<th scope="col">{title}</th>' if title else "<td></td>"
    head = f'<th scope="col" class="saekit-num">{title}</th>' if title else "<td></td>"
    if isinstance(c, Intervals):
        head += '<th scope="col" class="saekit-ci">95 %</th>' if _any(c.low, n) else "<td></td>"
        if _drawn(c, n):
            low, high = _axis(c, n)
            ends = [number(100 * v) + "%" if c.percent else number(v) for v in (low, high)]
            head += f'<td class="saekit-pic" aria-hidden="true">{ends_html(*ends)}</td>'
    elif isinstance(c, Bars):
        head += '<td class="saekit-pic" aria-hidden="true"></td>'
    return head


def _cells(c: Column, n: int, *, first: bool) -> list[str]:
    if isinstance(c, Words):
        named = first and not any(isinstance(v, Block) for v in c.values[:n])
        tag, scope = ("th", ' scope="row"') if named else ("td", "")
        kind = "saekit-name" if all(len(str(v)) <= 32 for v in c.values[:n]) else "saekit-long"
        kind = "saekit-wide" if any(isinstance(v, Block) for v in c.values[:n]) else kind
        return [f'<{tag}{scope} class="{kind}">{"" if v is None else value_html(v, 160)}</{tag}>' for v in c.values[:n]]
    if isinstance(c, Intervals):
        return _interval_cells(c, n)
    texts = [number(v, c.digits) for v in c.values[:n]] if c.by_row else _texts(c, c.values[:n])
    cells = [f'<td class="saekit-num">{escape(t)}</td>' for t in texts]
    if isinstance(c, Bars):
        top = c.top or max((float(v) for v in c.values[:n] if _finite(v)), default=0.0) or 1.0
        cells = [cell + _bar(v, top, c.activation) for cell, v in zip(cells, c.values, strict=False)]
    return cells


def _interval_cells(c: Intervals, n: int) -> list[str]:
    ends = [(c.low[i] if i < len(c.low) else None, c.high[i] if i < len(c.high) else None) for i in range(n)]
    flat = _texts(c, [*c.values[:n], *(v for pair in ends for v in pair)])
    texts, bounds = flat[:n], flat[n:]
    if c.by_row:
        rows = [_texts(c, [c.values[i], *ends[i]]) for i in range(n)]
        texts, bounds = [row[0] for row in rows], [end for row in rows for end in row[1:]]
    drawn, axis, marks = _drawn(c, n), _axis(c, n), _marks(c, n)
    cells = []
    for i in range(n):
        low, high = ends[i]
        between = f"[{bounds[2 * i]}, {bounds[2 * i + 1]}]" if _known(low) and _known(high) else ""
        reason = c.reasons[i] if i < len(c.reasons) else ""
        between = escape(between) if between else f"none<sup>{marks[reason]}</sup>" if reason else ""
        between = f'<span class="saekit-muted">{between}</span>' if between else ""
        cell = f'<td class="saekit-num">{escape(texts[i])}</td><td class="saekit-ci">{between}</td>'
        picture = "" if c.n_drawn is not None and i >= c.n_drawn else _whisker(c.values[i], low, high, axis)
        cells.append(cell + (f'<td class="saekit-pic">{picture}</td>' if drawn else ""))
    return cells


def _texts(c: Numbers, values: Sequence[Any]) -> list[str]:
    if not c.percent:
        return column(values, c.digits)
    scaled = [100 * float(v) if _finite(v) else None for v in values]
    return [t if t == MISSING else f"{t}%" for t in column([None if s is None else s for s in scaled], c.digits)]


def _whisker(value: Any, low: Any, high: Any, axis: tuple[float, float]) -> str:
    if not _finite(value):
        return ""

    def place(v: float) -> float:
        return 100 * min(max((v - axis[0]) / ((axis[1] - axis[0]) or 1.0), 0.0), 1.0)

    line = ""
    if _known(low) and _known(high):
        left, right = place(float(low)), place(float(high))
        line = f'<i style="left:{left:.4g}%;width:{right - left:.4g}%"></i>'
    point = f'<b style="left:{place(float(value)):.4g}%"></b>'
    return f'<span class="saekit-axis" aria-hidden="true">{line}{point}</span>'


def _bar(value: Any, top: float, activation: bool) -> str:
    width = 100 * min(max(float(value) / top, 0.0), 1.0) if _finite(value) else 0.0
    kind = "saekit-bar saekit-acts" if activation else "saekit-bar"
    bar = f'<span class="{kind}" aria-hidden="true"><b style="width:{width:.4g}%"></b></span>'
    return f'<td class="saekit-pic">{bar if _finite(value) else ""}</td>'


def _axis(c: Intervals, n: int) -> tuple[float, float]:
    """The axis's ends: as asked; 0 to 1 for fractions that are not all small; else what holds every interval."""
    if c.axis is not None:
        return c.axis
    ends = [float(v) for part in (c.values, c.low, c.high) for v in list(part)[:n] if _finite(v)]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    if low >= 0 and high <= 1:
        return (0.0, 1.0) if high > 0.25 else (0.0, _nice(high))
    low = min(low, 0.0) if low < 0.5 * abs(high) else low
    return low, high if high > low else low + 1.0


def _nice(high: float) -> float:
    """The next of 1, 2 and 5 times a power of ten."""
    if high <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(high))
    return next((step * power for step in (1, 2, 5) if high <= step * power), 10 * power)


def _drawn(c: Intervals, n: int) -> bool:
    return c.picture and _any(c.low, n)


def _any(values: Sequence[Any], n: int) -> bool:
    return any(_known(v) for v in list(values)[:n])


def _finite(value: Any) -> bool:
    return is_number(value) and math.isfinite(float(value))


def _known(value: Any) -> bool:
    return is_number(value) and not math.isnan(float(value))
