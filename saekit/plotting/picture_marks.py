"""What the traces of a figure leave on a static picture: lines, bands, markers, error bars, words, bars and pixels.

A trace is a plain dict as plotly writes it. `add_to_axes` says which values it shows, `draw` what is drawn once the
axes are fixed. A trace of another type, or an option that would change what a reader sees, is CannotDrawError.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import picture_svg as svg
from .picture_axes import Axis, CannotDrawError, nice_step, numbers, values
from .picture_heatmap import add_heatmap, heatmap

Trace = Mapping[str, Any]
KINDS = ("scatter", "scattergl", "bar", "histogram", "heatmap")
BARS = ("bar", "histogram")


def kind_of(trace: Trace) -> str:
    """scatter, bar or heatmap; CannotDrawError for a type that has no static form."""
    kind = str(trace.get("type") or "scatter")
    if kind not in KINDS:
        raise CannotDrawError(f"a trace of type {kind}")
    return "scatter" if kind == "scattergl" else kind


def counted(trace: Trace) -> Trace:
    """A histogram as the bars that it draws; any other trace as it is."""
    if trace.get("type") != "histogram":
        return trace
    across = "x" if "x" in trace else "y"
    if trace.get("histfunc") or trace.get("histnorm") or trace.get("cumulative"):
        raise CannotDrawError("a histogram that does not count")
    data = numbers(trace.get(across))
    data = data[np.isfinite(data)]
    most = int(trace.get(f"nbins{across}") or 0) or max(1, min(50, round(math.sqrt(len(data) or 1)) * 2))
    low, high = (float(data.min()), float(data.max())) if len(data) else (0.0, 1.0)
    size = nice_step(max((high - low) / most, 1e-12 * max(abs(high), 1.0)))
    edges = size * np.arange(math.floor(low / size), math.floor(high / size) + 2)
    counts, _ = np.histogram(data, bins=edges)
    orientation = "v" if across == "x" else "h"
    middle = (edges[:-1] + edges[1:]) / 2
    found = {**trace, "type": "bar", "orientation": orientation, "width": size * 0.96}
    return found | ({"x": middle, "y": counts} if across == "x" else {"y": middle, "x": counts})


def points(trace: Trace) -> tuple[list[Any], list[Any]]:
    """The x and y of a trace; one that is not given counts from x0 by dx."""
    x, y = values(trace.get("x")), values(trace.get("y"))
    if not x:
        x = [trace.get("x0", 0) + i * trace.get("dx", 1) for i in range(len(y))]
    if not y:
        y = [trace.get("y0", 0) + i * trace.get("dy", 1) for i in range(len(x))]
    return x[: len(y)], y[: len(x)]


def add_to_axes(trace: Trace, x: Axis, y: Axis, width: float) -> None:
    """Lets the axes show all of a trace; `width` is that of a bar without one."""
    kind = kind_of(trace)
    if kind == "heatmap":
        add_heatmap(trace, x, y)
        return
    along, across = (x, y) if trace.get("orientation") != "h" else (y, x)
    data = dict(zip("xy", points(trace), strict=True))
    at_x, at_y = x.places(data["x"]), y.places(data["y"])
    places = {x.name[0]: at_x, y.name[0]: at_y}
    places[along.name[0]] = places[along.name[0]] + float(trace.get("_shift") or 0)
    if kind == "bar":
        middle = places[along.name[0]]
        half = np.array(_bar_widths(trace, len(middle), width)) / 2
        along.add(np.concatenate([middle - half, middle + half]))
        across.add(places[across.name[0]], from_zero=True)
        if trace.get("text") is not None:
            across.padded = True
    else:
        mode = mode_of(trace)
        for axis, at in ((x, at_x), (y, at_y)):
            axis.add(at, padded="markers" in mode or "text" in mode, from_zero=False)
        if trace.get("fill") == "tozeroy":
            y.from_zero = True
    for axis, letter in ((x, "x"), (y, "y")):
        for end in _error_ends(trace, letter, data[letter]):
            axis.add(axis.places(end.tolist()))


def draw(trace: Trace, x: Axis, y: Axis, colour: str, width: float) -> str:
    """The trace as SVG."""
    kind = kind_of(trace)
    if kind == "heatmap":
        return heatmap(trace, x, y)
    opacity = trace.get("opacity")
    inside = _bars(trace, x, y, colour, width) if kind == "bar" else _scatter(trace, x, y, colour)
    inside += _error_bars(trace, x, y, colour)
    return svg.element("g", inside, opacity=opacity) if opacity is not None and inside else inside


def words(trace: Trace, x: Axis, y: Axis, colour: str) -> str:
    """Words at the points of a trace, which may reach over the edge of the panel."""
    kind, texts = kind_of(trace), trace.get("text")
    if texts is None or (kind == "scatter" and "text" not in mode_of(trace)):
        return ""
    given_x, given_y = points(trace)
    texts = [texts] * len(given_x) if isinstance(texts, str) else values(texts)
    font = trace.get("textfont") or {}
    size = float(font.get("size") or 12)
    place = str(trace.get("textposition") or ("top center" if kind == "bar" else "middle center"))
    place = {"outside": "top center", "inside": "middle center", "auto": "top center"}.get(place, place)
    vertical, sideways = place.split()
    if kind == "bar" and trace.get("orientation") == "h":
        vertical, sideways = "middle", "right"
    dy = {"top": -6.0, "middle": size * 0.35, "bottom": size + 4.0}[vertical]
    dx = {"left": -7.0, "center": 0.0, "right": 7.0}[sideways]
    anchor = {"left": "end", "center": "middle", "right": "start"}[sideways]
    at = zip(texts, x.pixel(x.places(given_x)), y.pixel(y.places(given_y)), strict=False)
    return "".join(
        svg.text(word, a + dx, b + dy, size, colour=_colour(font.get("color"), i) or None, anchor=anchor)
        for i, (word, a, b) in enumerate(at)
        if word and math.isfinite(a) and math.isfinite(b)
    )


def mode_of(trace: Trace) -> str:
    """lines, markers, text, or several joined by +."""
    n_points = len(points(trace)[1])
    return str(trace.get("mode") or ("lines+markers" if n_points < 20 else "lines"))


def line_of(trace: Trace, colour: str) -> tuple[str, float, str | None]:
    """Colour, width and dash of a trace's line."""
    line = trace.get("line") or {}
    width = line.get("width")
    return (
        str(line.get("color") or _one_colour(trace) or colour),
        2.0 if width is None else float(width),
        line.get("dash"),
    )


def marker_of(trace: Trace, colour: str, i: int = 0) -> tuple[str, float, str, str | None, float]:
    """Colour, size, symbol, and colour and width of the outline, of the marker of point i."""
    marker = trace.get("marker") or {}
    line = marker.get("line") or {}
    size = _at(marker.get("size"), i)
    symbol = str(_at(marker.get("symbol"), i) or "circle")
    fill = str(_colour(marker.get("color"), i) or (trace.get("line") or {}).get("color") or colour)
    width = float(_at(line.get("width"), i) or (1.6 if symbol.endswith("-open") else 0.0))
    return fill, 6.0 if size is None else float(size), symbol, _colour(line.get("color"), i), width


def symbol(name: str, x: float, y: float, size: float) -> str:
    """The data of a marker's outline, `size` pixels wide."""
    r = size / 2
    corners: Sequence[tuple[float, float]]
    match name.removesuffix("-open"):
        case "circle":
            arc = f"a{svg.n(r)} {svg.n(r)} 0 1 0"
            return f"M{svg.n(x - r)} {svg.n(y)}{arc} {svg.n(2 * r)} 0{arc} {svg.n(-2 * r)} 0Z"
        case "square":
            corners = [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]
        case "diamond":
            corners = [(0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)]
        case "triangle-up":
            corners = [(0, -1.1), (1.05, 0.8), (-1.05, 0.8)]
        case "triangle-down":
            corners = [(0, 1.1), (1.05, -0.8), (-1.05, -0.8)]
        case "cross":
            corners = [(-0.4, -1.1), (0.4, -1.1), (0.4, -0.4), (1.1, -0.4), (1.1, 0.4), (0.4, 0.4)]
            corners = [*corners, (0.4, 1.1), (-0.4, 1.1), (-0.4, 0.4), (-1.1, 0.4), (-1.1, -0.4), (-0.4, -0.4)]
        case "x":
            a, b = 0.45, 1.0
            corners = [(0, -a), (b - a, -b), (b, -b + a), (a, 0), (b, b - a), (b - a, b)]
            corners = [*corners, (0, a), (-b + a, b), (-b, b - a), (-a, 0), (-b, -b + a), (-b + a, -b)]
        case "star":
            turn = [(math.pi * (k / 5 - 0.5), 1.3 if k % 2 == 0 else 0.55) for k in range(10)]
            corners = [(length * math.cos(angle), length * math.sin(angle)) for angle, length in turn]
        case "line-ew":
            corners = [(-1.3, -0.05), (1.3, -0.05), (1.3, 0.05), (-1.3, 0.05)]
        case "line-ns":
            corners = [(-0.05, -1.3), (0.05, -1.3), (0.05, 1.3), (-0.05, 1.3)]
        case other:
            raise CannotDrawError(f"the marker {other}")
    return "M" + "L".join(f"{svg.n(x + a * r)} {svg.n(y + b * r)}" for a, b in corners) + "Z"


def _scatter(trace: Trace, x: Axis, y: Axis, colour: str) -> str:
    given_x, given_y = points(trace)
    at_x, at_y = x.pixel(x.places(given_x)), y.pixel(y.places(given_y))
    mode, parts = mode_of(trace), []
    stroke, width, dash = line_of(trace, colour)
    fill = trace.get("fill") or "none"
    if fill not in ("none", "toself", "tozeroy"):
        raise CannotDrawError(f"a fill of kind {fill}")
    if fill != "none" and len(at_x):
        edge_x, edge_y = at_x, at_y
        if fill == "tozeroy":
            floor = float(y.pixel(max(0.0, min(y.low, y.high)) if y.kind != "log" else min(y.low, y.high)))
            edge_x, edge_y = np.append(at_x, [at_x[-1], at_x[0]]), np.append(at_y, [floor, floor])
        shape = svg.path(edge_x, edge_y, closed=True)
        parts.append(svg.element("path", d=shape, fill=trace.get("fillcolor") or stroke, stroke="none"))
    if "lines" in mode and width > 0 and len(at_x):
        shape = (trace.get("line") or {}).get("shape") or "linear"
        line_x, line_y = _stepped(at_x, at_y, shape)
        drawn = svg.path(line_x, line_y)
        parts.append(
            svg.element("path", d=drawn, fill="none", stroke_linejoin="round", **svg.stroke(stroke, width, dash))
        )
    if "markers" in mode:
        groups: dict[tuple[Any, ...], list[str]] = {}
        seen = set()
        for i, (a, b) in enumerate(zip(at_x.tolist(), at_y.tolist(), strict=True)):
            if not (math.isfinite(a) and math.isfinite(b)):
                continue
            fill_, size, name, edge, edge_width = marker_of(trace, colour, i)
            spot = (round(a), round(b), fill_, size, name)
            if len(at_x) > 1500 and spot in seen:  # nothing to see under another
                continue
            seen.add(spot)
            round_dot = name == "circle" and edge_width == 0
            look = (fill_, name, edge, edge_width, size if round_dot else None)
            groups.setdefault(look, []).append(f"M{svg.n(a)} {svg.n(b)}h0" if round_dot else symbol(name, a, b, size))
        opacity = (trace.get("marker") or {}).get("opacity")
        for (fill_, name, edge, edge_width, size), shapes in groups.items():
            data = "".join(shapes)
            if size is not None:  # a line of no length with round ends
                parts.append(
                    svg.element(
                        "path", d=data, stroke_linecap="round", fill="none", opacity=opacity, **svg.stroke(fill_, size)
                    )
                )
                continue
            hollow = name.endswith("-open")
            line = svg.stroke(fill_ if hollow else str(edge or fill_), edge_width) if edge_width else {}
            parts.append(svg.element("path", d=data, fill="none" if hollow else fill_, opacity=opacity, **line))
    return "".join(parts)


def _stepped(x: np.ndarray, y: np.ndarray, shape: str) -> tuple[np.ndarray, np.ndarray]:
    if shape in ("linear", "spline"):
        return x, y
    if shape not in ("hv", "vh"):
        raise CannotDrawError(f"a line of shape {shape}")
    long_x, long_y = np.repeat(x, 2), np.repeat(y, 2)
    return (long_x[1:], long_y[:-1]) if shape == "hv" else (long_x[:-1], long_y[1:])


def _bars(trace: Trace, x: Axis, y: Axis, colour: str, width: float) -> str:
    lying = trace.get("orientation") == "h"
    given = dict(zip("xy", points(trace), strict=True))
    along, across = (y, x) if lying else (x, y)
    middle = along.places(given[along.name[0]]) + float(trace.get("_shift") or 0)
    tops = across.places(given[across.name[0]])
    base = min(across.low, across.high) if across.kind == "log" else 0.0
    floor = float(across.pixel(base))
    groups: dict[tuple[Any, ...], list[str]] = {}
    line = (trace.get("marker") or {}).get("line") or {}
    for i, (at, top, wide) in enumerate(zip(middle, tops, _bar_widths(trace, len(middle), width), strict=True)):
        if not (math.isfinite(at) and math.isfinite(top)):
            continue
        ends = sorted((float(along.pixel(at - wide / 2)), float(along.pixel(at + wide / 2))))
        heights = sorted((floor, float(across.pixel(top))))
        left, right, low, high = (*heights, *ends) if lying else (*ends, *heights)
        if right - left < 0.05 or high - low < 0.05:
            continue
        fill = str(_colour((trace.get("marker") or {}).get("color"), i) or colour)
        shape = f"M{svg.n(left)} {svg.n(low)}H{svg.n(right)}V{svg.n(high)}H{svg.n(left)}Z"
        groups.setdefault((fill,), []).append(shape)
    edge = (
        svg.stroke(str(line.get("color") or "none"), float(_at(line.get("width"), 0) or 0)) if line.get("width") else {}
    )
    return "".join(svg.element("path", d="".join(d), fill=fill, **edge) for (fill,), d in groups.items())


def _bar_widths(trace: Trace, n: int, width: float) -> list[float]:
    given = trace.get("width")
    if given is None:
        return [width] * n
    return [float(given)] * n if isinstance(given, (int, float)) else [float(v) for v in values(given)]


def _error_ends(trace: Trace, letter: str, data: Sequence[Any]) -> list[np.ndarray]:
    """The lower and upper ends of a trace's error bars, none where it has no errors."""
    errors = trace.get(f"error_{letter}") or {}
    if errors.get("array") is None or errors.get("visible") is False:
        return []
    up = numbers(errors["array"])
    down = up if errors.get("arrayminus") is None else numbers(errors["arrayminus"])
    middle = numbers(data)
    return [middle - down[: len(middle)], middle + up[: len(middle)]]


def _error_bars(trace: Trace, x: Axis, y: Axis, colour: str) -> str:
    data = dict(zip("xy", points(trace), strict=True))
    parts = []
    for axis, other, letter in ((x, y, "x"), (y, x, "y")):
        ends = _error_ends(trace, letter, data[letter])
        if not ends:
            continue
        errors = trace[f"error_{letter}"]
        low, high = (axis.pixel(axis.places(end.tolist())) for end in ends)
        at = other.pixel(other.places(data["y" if letter == "x" else "x"]))
        cap = float(4 if errors.get("width") is None else errors["width"])
        shapes = []
        for a, b, c in zip(low.tolist(), high.tolist(), at.tolist(), strict=True):
            if not all(map(math.isfinite, (a, b, c))):
                continue
            lines = [((a, c), (b, c)), *([((e, c - cap), (e, c + cap)) for e in (a, b)] if cap else [])]
            for start, end in lines:
                p, q = (start, end) if letter == "x" else (start[::-1], end[::-1])
                shapes.append(f"M{svg.n(p[0])} {svg.n(p[1])}L{svg.n(q[0])} {svg.n(q[1])}")
        stroke = str(errors.get("color") or line_of(trace, colour)[0])
        thick = errors.get("thickness")
        line = svg.stroke(stroke, 2.0 if thick is None else float(thick))
        if shapes:
            parts.append(svg.element("path", d="".join(shapes), fill="none", **line))
    return "".join(parts)


def _at(value: Any, i: int) -> Any:
    """The i-th of several values, or the one for all."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    several = values(value)
    return several[i] if i < len(several) else None


def _colour(value: Any, i: int) -> str | None:
    found = _at(value, i)
    if found is not None and not isinstance(found, str):
        raise CannotDrawError("colours by a scale of numbers")
    return found


def _one_colour(trace: Trace) -> str | None:
    colour = (trace.get("marker") or {}).get("color")
    return colour if isinstance(colour, str) else None
