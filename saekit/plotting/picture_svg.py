"""Elements of an SVG as text: shapes, words, pixels. Knows nothing of figures; everything written is escaped."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from .picture_text import Run, lines_of

MANY = 3000
"""Points of a line from which it is thinned."""
DASHES = {"dash": "7 5", "dot": "2 3", "dashdot": "7 4 2 4", "longdash": "11 5", "longdashdot": "11 4 2 4"}


def n(value: float) -> str:
    """A coordinate with a tenth of a pixel.

    >>> from saekit.plotting.picture_svg import n
    >>> n(12.04), n(-0.01), n(3.25)
    ('12', '0', '3.2')
    """
    text = f"{value:.1f}"
    return "0" if text == "-0.0" else text.removesuffix(".0")


def element(tag: str, inside: str = "", **attributes: Any) -> str:
    """An element; attributes that are None are left out, an underscore in a name is a hyphen."""
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(n(value) if isinstance(value, float) else str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return f"<{tag}{written}>{inside}</{tag}>" if inside else f"<{tag}{written}/>"


def stroke(colour: str, width: float, dash: str | None = None) -> dict[str, Any]:
    """Attributes of a line."""
    return {"stroke": colour, "stroke_width": float(width), "stroke_dasharray": DASHES.get(dash or "")}


def text_plain(
    words: str, x: float, y: float, size: float, *, anchor: str = "start", turned: bool = False, bold: bool = False
) -> str:
    """Words letter by letter, the baseline at y."""
    return element(
        "text",
        escape(words, quote=False),
        x=float(x),
        y=float(y),
        font_size=float(size),
        text_anchor=None if anchor == "start" else anchor,
        font_weight="bold" if bold else None,
        transform=f"rotate(-90 {n(x)} {n(y)})" if turned else None,
    )


def text(
    markup: object,
    x: float,
    y: float,
    size: float,
    *,
    colour: str | None = None,
    anchor: str = "start",
    turned: bool = False,
    spacing: float = 1.25,
    from_below: bool = False,
) -> str:
    """Words in plotly's markup, the first line's baseline (the last one's with `from_below`) at y."""
    lines = lines_of(markup)
    if not any(lines):
        return ""
    turn = f"rotate(-90 {n(x)} {n(y)})" if turned else None
    y -= (len(lines) - 1) * size * spacing if from_below else 0
    many = len(lines) > 1
    inside = "".join(
        element("tspan", _runs(line), x=float(x), dy=None if i == 0 else float(size * spacing)) if many else _runs(line)
        for i, line in enumerate(lines)
    )
    anchor_ = None if anchor == "start" else anchor
    return element(
        "text", inside, x=float(x), y=float(y), font_size=float(size), fill=colour, text_anchor=anchor_, transform=turn
    )


def _runs(line: Sequence[Run]) -> str:
    return "".join(
        f'<tspan font-weight="bold">{escape(run.text, quote=False)}</tspan>'
        if run.bold
        else escape(run.text, quote=False)
        for run in line
    )


def path(x: np.ndarray, y: np.ndarray, *, closed: bool = False) -> str:
    """The data of a line through the points, broken where one is missing."""
    if len(x) > MANY and not closed:
        x, y = _thinned(x, y)
    parts: list[str] = []
    begin, last = True, ""
    for a, b in zip(x.tolist(), y.tolist(), strict=True):
        if not (math.isfinite(a) and math.isfinite(b)):
            begin = True
            continue
        point = f"{n(a)} {n(b)}"
        if begin or point != last:
            parts.append(("M" if begin else "L") + point)
        begin, last = False, point
    return "".join(parts) + ("Z" if closed and parts else "")


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each run of points in one column of pixels the lowest and the highest: the line looks the same."""
    column = np.where(np.isfinite(x) & np.isfinite(y), np.rint(np.nan_to_num(x)), np.nan)
    begins = np.flatnonzero(np.append(True, column[1:] != column[:-1])).tolist()
    kept: list[int] = []
    for start, end in zip(begins, [*begins[1:], len(x)], strict=True):
        if np.isfinite(column[start]):
            low, high = start + int(np.argmin(y[start:end])), start + int(np.argmax(y[start:end]))
            kept += sorted({start, low, high, end - 1})
        else:
            kept.append(start)
    return x[kept], y[kept]


def pixels(rgba: np.ndarray) -> str:
    """A PNG of [height, width, 4] bytes as a data URI."""
    height, width = rgba.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in rgba.astype(np.uint8))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
