"""What surrounds the data of a static picture: axes, title, legend, notes, lines and colour scales."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from . import picture_marks as marks
from . import picture_svg as svg
from .picture_axes import Axis, CannotDrawError
from .picture_heatmap import colours, limits
from .picture_text import line_width, lines_of, number, plain, shortened, width_of

Layout = Mapping[str, Any]
Entry = tuple[str, marks.Trace, str]
Pixel = Callable[[Any], float]
TURNED = 120.0
"""Pixels of a turned label at most."""


class Frame(Protocol):
    """The room that panels have."""

    left: float
    right: float
    top: float
    bottom: float
    width: float
    height: float


def draw_axis(axis: Axis, other: Axis, size: float, colour: str, labelled: bool) -> str:
    """Grid, line, ticks, labels and title of an axis of a panel."""
    layout = axis.layout
    if layout.get("visible") is False:
        return ""
    parts: list[str] = []
    low, high = sorted((other.start, other.end))
    on_far_side = layout.get("side") in ("top", "right")
    if axis.horizontal:
        edge, out = (low, -1.0) if on_far_side else (high, 1.0)
    else:
        edge, out = (high, 1.0) if on_far_side else (low, -1.0)
    ticks = [(float(axis.pixel(place)), label) for place, label in axis.ticks()]
    length = float(layout.get("ticklen", 5)) if layout.get("ticks") else 0.0
    grid, marked = [], []
    for at, _ in ticks:
        if axis.horizontal:
            grid.append(f"M{svg.n(at)} {svg.n(low)}V{svg.n(high)}")
            marked.append(f"M{svg.n(at)} {svg.n(edge)}v{svg.n(out * length)}")
        else:
            grid.append(f"M{svg.n(low)} {svg.n(at)}H{svg.n(high)}")
            marked.append(f"M{svg.n(edge)} {svg.n(at)}h{svg.n(out * length)}")
    if layout.get("showgrid") is not False and grid and axis.kind != "category":
        line = svg.stroke(layout.get("gridcolor") or "rgba(128,128,128,0.18)", float(layout.get("gridwidth") or 1))
        parts.append(svg.element("path", d="".join(grid), fill="none", **line))
    line = svg.stroke(layout.get("linecolor") or "rgba(128,128,128,0.55)", 1.0)
    if length and marked:
        parts.append(svg.element("path", d="".join(marked), fill="none", **line))
    if layout.get("showline"):
        start, end = svg.n(min(axis.start, axis.end)), svg.n(max(axis.start, axis.end))
        d = f"M{start} {svg.n(edge)}H{end}" if axis.horizontal else f"M{svg.n(edge)} {start}V{end}"
        parts.append(svg.element("path", d=d, fill="none", **line))
    size_ = float((layout.get("tickfont") or {}).get("size") or size)
    room = 0.0
    if labelled:
        drawn, room = _labels(axis, ticks, edge, out, length, size_)
        parts.append(drawn)
    return "".join([*parts, _axis_title(axis, edge, out, length, room, size, colour)])


def _labels(
    axis: Axis, ticks: Sequence[tuple[float, str]], edge: float, out: float, length: float, size: float
) -> tuple[str, float]:
    """Labels of ticks, and how much room they take across the axis. Those that would touch are left out or turned."""
    if not axis.horizontal:
        anchor = "start" if out > 0 else "end"
        most = 300.0
        shown = [(at, shortened(label, size, most)) for at, label in ticks]
        drawn = [
            svg.text_plain(word, edge + out * (length + 4), at + size * 0.35, size, anchor=anchor) for at, word in shown
        ]
        return "".join(drawn), max((width_of(word, size) for _, word in shown), default=0.0)
    baseline = edge + length + size + 1 if out > 0 else edge - length - 5
    gap = gap_of(ticks)
    if axis.kind == "category" and axis.layout.get("tickangle") != 0:
        wrapped = [wrap(label, size, gap - 6) for _, label in ticks]
        if any(lines is None for lines in wrapped):
            drawn = [
                svg.text_plain(word, at + size * 0.35, baseline - size * 0.6, size, anchor="end", turned=True)
                for at, word in ((at, shortened(label, size, TURNED)) for at, label in ticks)
            ]
            return "".join(drawn), turned_room(ticks, size)
        parts = [
            svg.text_plain(line, at, baseline + k * (size + 2), size, anchor="middle")
            for (at, _), lines in zip(ticks, wrapped, strict=True)
            for k, line in enumerate(lines or [])
        ]
        return "".join(parts), max((len(lines or []) for lines in wrapped), default=1) * (size + 2)
    occupied, parts = -1e9, []
    for at, label in sorted(ticks):
        half = width_of(label, size) / 2
        if at - half < occupied + 4:
            continue
        occupied = at + half
        parts.append(svg.text_plain(label, at, baseline, size, anchor="middle"))
    return "".join(parts), size


def _axis_title(axis: Axis, edge: float, out: float, length: float, room: float, size: float, colour: str) -> str:
    title = axis.layout.get("title") or {}
    if not title.get("text"):
        return ""
    size = float((title.get("font") or {}).get("size") or size)
    middle = (axis.start + axis.end) / 2
    if axis.horizontal:
        y = edge + length + room + 8 + size if out > 0 else edge - length - room - 12
        return svg.text(title["text"], middle, y, size, anchor="middle")
    x = edge + out * (length + room + 14) + (size if out > 0 else 0)
    return svg.text(title["text"], x, middle, size, anchor="middle", turned=True, from_below=True)


def gap_of(ticks: Sequence[tuple[float, str]]) -> float:
    """Pixels between the two nearest ticks."""
    at = sorted(place for place, _ in ticks)
    return min((b - a for a, b in pairwise(at)), default=1e9)


def turned_room(ticks: Sequence[tuple[float, str]], size: float) -> float:
    """Pixels below an axis whose labels are turned."""
    return min(max((width_of(label, size) for _, label in ticks), default=0.0), TURNED)


def label_room(axis: Axis, size: float) -> float:
    """Pixels below a horizontal axis that its labels take."""
    ticks = [(float(axis.pixel(place)), label) for place, label in axis.ticks()]
    return _labels(axis, ticks, 0.0, 1.0, 0.0, size)[1] if ticks else 0.0


def wrap(label: str, size: float, most: float) -> list[str] | None:
    """The label on at most three lines of `most` pixels, None where that is too narrow."""
    lines: list[str] = []
    for word in label.split() or [""]:
        if lines and width_of(f"{lines[-1]} {word}", size) <= most:
            lines[-1] += f" {word}"
        elif width_of(word, size) <= most:
            lines.append(word)
        else:
            return None
    return lines if len(lines) <= 3 else None


def draw_title(title: Layout, width: float, size: float, colour: str) -> str:
    """The title and the subtitle at the upper left, made smaller or cut where they are wider than the picture."""
    if not title.get("text"):
        return ""
    pad = title.get("pad") or {}
    left, y = float(pad.get("l") or 16), float(pad.get("t") or 14)
    parts = []
    subtitle = title.get("subtitle") or {}
    for words, font in ((title["text"], title.get("font")), (subtitle.get("text"), subtitle.get("font"))):
        for line in lines_of(words or ""):
            if not line:
                continue
            own = float((font or {}).get("size") or size)
            wide = line_width(line, own)
            fitted = max(own * min(1.0, (width - left - 8) / (wide or 1)), 0.75 * own)
            text = "".join(run.text for run in line)
            text = shortened(text, fitted, (width - left - 4) / (1.06 if line[0].bold else 1.0))
            y += own + 2
            parts.append(svg.text_plain(text, left, y, fitted, bold=line[0].bold))
            y += 4
    return "".join(parts)


def legend_entries(layout: Layout, traces: Sequence[marks.Trace], colours_: Sequence[str]) -> list[Entry]:
    """Name, trace and colour of what the legend names, each name of a group once."""
    if layout.get("showlegend") is False:
        return []
    named = [t for t in traces if t.get("showlegend") is not False and marks.kind_of(t) != "heatmap"]
    if len(traces) < 2 and not any(t.get("showlegend") for t in traces) and not layout.get("showlegend"):
        return []
    way = layout.get("colorway") or ["#7C7C7C"]
    found = []
    for i, trace in enumerate(traces):
        if any(trace is t for t in named):
            found.append((plain(trace.get("name") or f"trace {i}"), trace, way[i % len(way)]))
    return found


def draw_legend(entries: Sequence[Entry], layout: Layout, frame: Frame, size: float, colour: str) -> str:
    """The legend where the layout puts it, in rows or in a column."""
    if not entries:
        return ""
    width, row = frame.right - frame.left, size + 8
    lying = layout.get("orientation") == "h"
    cells: list[tuple[float, float, str, marks.Trace, str]] = []
    x, y, longest = 0.0, 0.0, 0.0
    for name, trace, own in entries:
        name = shortened(name, size, width - 60)
        wide = 36 + width_of(name, size) + 18
        if cells and (not lying or x + wide > width + 20):
            x, y = 0.0, y + row
        cells.append((x, y, name, trace, own))
        x += wide
        longest = max(longest, x)
    high = y + row
    at_x = frame.left + float(layout.get("x", 1.02)) * width
    at_y = frame.bottom - float(layout.get("y", 1.0)) * (frame.bottom - frame.top)
    anchor_x, anchor_y = layout.get("xanchor") or "left", layout.get("yanchor") or "top"
    if anchor_x == "auto":
        anchor_x = "right" if float(layout.get("x", 1.02)) > 0.66 and not lying else "left"
    left = at_x - {"left": 0.0, "center": 0.5, "right": 1.0}.get(anchor_x, 0.0) * longest
    top = at_y - {"top": 0.0, "middle": 0.5, "bottom": 1.0}.get(anchor_y, 0.0) * high
    left, top = max(2.0, min(left, frame.width - longest)), max(2.0, min(top, frame.height - high))
    parts = []
    for x, y, name, trace, own in cells:
        parts.append(_swatch(trace, own, left + x, top + y + row / 2))
        parts.append(svg.text_plain(name, left + x + 36, top + y + row / 2 + size * 0.35, size))
    return "".join(parts)


def _swatch(trace: marks.Trace, colour: str, x: float, y: float) -> str:
    if marks.kind_of(trace) == "bar":
        fill = marks.marker_of({**trace, "marker": {**(trace.get("marker") or {}), "size": 6}}, colour)[0]
        return svg.element("rect", x=x + 10, y=y - 5, width=12.0, height=10.0, fill=fill)
    mode, parts = marks.mode_of(trace), []
    stroke, width, dash = marks.line_of(trace, colour)
    if "lines" in mode and width > 0:
        parts.append(
            svg.element("path", d=f"M{svg.n(x)} {svg.n(y)}h30", fill="none", **svg.stroke(stroke, width, dash))
        )
    if "markers" in mode:
        fill, size, name, edge, edge_width = marks.marker_of(trace, colour)
        hollow = name.endswith("-open")
        line = svg.stroke(fill if hollow else str(edge or fill), edge_width) if edge_width else {}
        d = marks.symbol(name, x + 15, y, min(size, 12.0))
        parts.append(svg.element("path", d=d, fill="none" if hollow else fill, **line))
    return "".join(parts)


def draw_note(note: Layout, x: Pixel, y: Pixel, size: float, width: float) -> str:
    """An annotation's words, and its arrow as a line."""
    if note.get("visible") is False:
        return ""
    font = note.get("font") or {}
    size = float(font.get("size") or size)
    at_x, at_y = x(note.get("x", 0)), y(note.get("y", 0))
    parts = []
    if note.get("showarrow") is not False and note.get("text"):
        far_x, far_y = at_x + float(note.get("ax") or 0), at_y + float(-30 if note.get("ay") is None else note["ay"])
        d = f"M{svg.n(far_x)} {svg.n(far_y)}L{svg.n(at_x)} {svg.n(at_y)}"
        parts.append(svg.element("path", d=d, fill="none", **svg.stroke(note.get("arrowcolor") or "#8A8A8A", 1.2)))
        at_x, at_y = far_x, far_y
    anchor = {"left": "start", "right": "end"}.get(note.get("xanchor") or "", "middle")
    n_lines = len(lines_of(note.get("text") or ""))
    tall = size * (1 + 1.25 * (n_lines - 1))
    rise = {"bottom": -tall + size * 0.75, "top": size}.get(note.get("yanchor") or "", size * 0.85 - tall / 2)
    own = font.get("color")
    if anchor == "start":  # the end of a long note stays in the picture
        longest = max(line_width(line, size) for line in lines_of(note.get("text") or ""))
        fitted = max(0.8 * size, min(size, size * (width - at_x - 4) / (longest or 1)))
        at_x, size = max(4.0, min(at_x, width - 4 - longest * fitted / size)), fitted
    at = at_x + float(note.get("xshift") or 0), at_y + rise - float(note.get("yshift") or 0)
    return "".join([*parts, svg.text(note.get("text") or "", *at, size, colour=own, anchor=anchor)])


def draw_shape(shape: Layout, x: Pixel, y: Pixel) -> str:
    """A line or a rectangle."""
    if shape.get("visible") is False:
        return ""
    kind, line = shape.get("type"), shape.get("line") or {}
    if kind not in ("line", "rect"):
        raise CannotDrawError(f"a shape of type {kind}")
    x0, x1, y0, y1 = x(shape["x0"]), x(shape["x1"]), y(shape["y0"]), y(shape["y1"])
    drawn = svg.stroke(
        line.get("color") or "#8A8A8A", float(2 if line.get("width") is None else line["width"]), line.get("dash")
    )
    if kind == "line":
        return svg.element("path", d=f"M{svg.n(x0)} {svg.n(y0)}L{svg.n(x1)} {svg.n(y1)}", fill="none", **drawn)
    box: dict[str, Any] = {"x": min(x0, x1), "y": min(y0, y1), "width": abs(x1 - x0), "height": abs(y1 - y0)}
    return svg.element("rect", fill=shape.get("fillcolor") or "none", opacity=shape.get("opacity"), **box, **drawn)


def draw_colour_bar(trace: marks.Trace, x: float, top: float, bottom: float, size: float) -> str:
    """A heatmap's colour scale at the right of its panel."""
    low, high = limits(trace)
    bar = trace.get("colorbar") or {}
    ramp = colours(trace, np.linspace(1, 0, 64))[:, None, :]
    place: dict[str, Any] = {"x": x + 14, "y": top, "width": float(bar.get("thickness") or 12), "height": bottom - top}
    parts = [svg.element("image", href=svg.pixels(ramp), preserveAspectRatio="none", **place)]
    for fraction in (0.0, 0.5, 1.0):
        label = number(float(f"{low + fraction * (high - low):.2g}"))
        y = bottom - fraction * (bottom - top) + size * 0.35
        parts.append(svg.text_plain(label, place["x"] + place["width"] + 5, y, size - 1))
    title = (bar.get("title") or {}).get("text")
    if title:
        parts.append(svg.text(title, place["x"], top - 6, size - 1))
    return "".join(parts)
