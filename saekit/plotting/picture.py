"""A figure as a static picture: SVG without scripts, for wherever plotly does not run.

A notebook on GitHub or in nbconvert's HTML, an offline page. Drawn here because plotly's own export needs a browser.
What saekit's figures use is drawn: scatter, bars, histograms and heatmaps with error bars, bands and words, on linear,
logarithmic and category axes, in panels, with legend, notes and lines; anything else is CannotDrawError, and nothing is
drawn wrongly. Text is grey and the ground transparent, as in `style`: it reads on white and on black.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import picture_marks as marks
from . import picture_svg as svg
from .picture_axes import Axis, CannotDrawError
from .picture_frame import (
    draw_axis,
    draw_colour_bar,
    draw_legend,
    draw_note,
    draw_shape,
    draw_title,
    label_room,
    legend_entries,
)
from .picture_text import FONT, TEXT, plain, width_of

WIDTH = 760
"""Pixels of a figure that does not say its own."""
UNDRAWN = ("images", "sliders", "updatemenus", "polar", "scene", "geo", "map", "mapbox", "ternary", "smith")


def draw_svg(figure: Any, *, text: str | None = None, width: int = WIDTH) -> str:
    """The figure (a plotly figure or its dict) as an SVG document; CannotDrawError for what has no static form.

    `text` is the colour of words in place of the figure's own; "currentColor" takes it from the page.

    >>> from saekit.plotting.picture import draw_svg
    >>> from saekit.plotting.style import figure
    >>> fig = figure("Loss")
    >>> ">Loss</text>" in draw_svg(fig.add_scatter(x=[1, 2], y=[2, 1]))
    True
    """
    content = figure.to_plotly_json() if hasattr(figure, "to_plotly_json") else figure
    return _Picture(content, text, width).draw()


@dataclass
class _Panel:
    """A pair of axes and what is drawn on it."""

    x: Axis
    y: Axis
    traces: list[tuple[marks.Trace, str, float]] = field(default_factory=list)


class _Picture:
    def __init__(self, content: Mapping[str, Any], text: str | None, width: int) -> None:
        raw = content.get("layout") or {}
        self.layout = merged((raw.get("template") or {}).get("layout") or {}, raw)
        for name in UNDRAWN:
            if raw.get(name):
                raise CannotDrawError(f"a figure with {name}")
        self.width, self.height = float(self.layout.get("width") or width), float(self.layout.get("height") or 450)
        font = self.layout.get("font") or {}
        self.size, self.colour = float(font.get("size") or 12), text or str(font.get("color") or TEXT)
        self.traces = [marks.counted(t) for t in content.get("data") or [] if t.get("visible", True) is True]
        self.axes: dict[str, Axis] = {}
        self.panels: dict[tuple[str, str], _Panel] = {}
        self.panels_of_traces()
        margin = {"l": 80, "r": 80, "t": 100, "b": 80, **(self.layout.get("margin") or {})}
        self.left, self.right = float(margin["l"]), self.width - float(margin["r"])
        self.top, self.bottom = float(margin["t"]), self.height - float(margin["b"])

    def axis(self, name: str) -> Axis:
        """The axis by plotly's short name, x or y2."""
        if name not in self.axes:
            long = f"{name[0]}axis{name[1:]}"
            general = ((self.layout.get("_template") or {}).get(f"{name[0]}axis")) or {}
            layout = merged(general, self.layout.get(long) or {})
            if layout.get("overlaying"):
                raise CannotDrawError("two axes on one side of a panel")
            self.axes[name] = Axis(name, layout)
        return self.axes[name]

    def panels_of_traces(self) -> None:
        names = [key for key in self.layout if key[1:5] == "axis" and key[0] in "xy"]
        for key in sorted(names):
            self.axis(key[0] + key[5:])
        way = list(self.layout.get("colorway") or [TEXT])
        n_bars: dict[tuple[str, str], int] = {}
        for trace in self.traces:
            marks.kind_of(trace)
            where = (trace.get("xaxis") or "x", trace.get("yaxis") or "y")
            n_bars[where] = n_bars.get(where, 0) + (trace.get("type") == "bar")
            self.panels.setdefault(where, _Panel(self.axis(where[0]), self.axis(where[1])))
        mode, done = self.layout.get("barmode") or "group", dict.fromkeys(n_bars, 0)
        for i, trace in enumerate(self.traces):
            where = (trace.get("xaxis") or "x", trace.get("yaxis") or "y")
            panel, wide = self.panels[where], 0.8
            if trace.get("type") == "bar" and n_bars[where] > 1 and mode != "overlay":
                if mode != "group" or trace.get("width") is not None:
                    raise CannotDrawError(f"bars in mode {mode}")
                wide = 0.8 / n_bars[where]
                trace = {**trace, "_shift": (done[where] - (n_bars[where] - 1) / 2) * wide}
                done[where] += 1
            marks.add_to_axes(trace, panel.x, panel.y, wide)
            panel.traces.append((trace, way[i % len(way)], wide))
        self.add_shapes()
        for name, axis in list(self.axes.items()):
            anchor = axis.layout.get("anchor")
            if anchor is None or anchor == "free":
                anchor = ("y" if axis.horizontal else "x") + name[1:]
            pair = (name, anchor) if axis.horizontal else (anchor, name)
            if pair not in self.panels and not any(name in where for where in self.panels):
                self.panels[pair] = _Panel(self.axis(pair[0]), self.axis(pair[1]))

    def draw(self) -> str:
        parts: list[str] = []
        self.fit()
        entries = legend_entries(self.layout, self.traces, [c for p in self.panels.values() for _, c, _ in p.traces])
        paper = self.layout.get("paper_bgcolor")
        if paper and not _is_clear(paper):
            parts.append(svg.element("rect", width=self.width, height=self.height, fill=paper))
        clips: list[str] = []
        for i, panel in enumerate(self.panels.values()):
            parts.append(self.panel(panel, i, clips))
        for shape in self.layout.get("shapes") or ():
            parts.append(draw_shape(shape, *(self.where(shape.get(f"{a}ref"), a == "x", of_shape=True) for a in "xy")))
        for note in self.layout.get("annotations") or ():
            places = self.where(note.get("xref")), self.where(note.get("yref"), False)
            parts.append(draw_note(note, *places, self.size, self.width))
        parts.append(draw_legend(entries, self.layout.get("legend") or {}, self, self.size, self.colour))
        parts.append(draw_title(self.layout.get("title") or {}, self.width, self.size, self.colour))
        body = "".join(parts)
        # The parts of several pictures on one page may not share a name.
        mark = hashlib.sha256((body + "".join(clips)).encode("utf8", "replace")).hexdigest()[:8]
        body = "".join(clips).replace("CLIP", mark) + body.replace("url(#CLIP", f"url(#{mark}")
        title = plain((self.layout.get("title") or {}).get("text") or "Figure")
        size = {"width": self.width, "height": self.height, "viewBox": f"0 0 {svg.n(self.width)} {svg.n(self.height)}"}
        look = {"font_family": FONT, "fill": self.colour, "role": "img", "aria_label": title}
        return svg.element("svg", body, xmlns="http://www.w3.org/2000/svg", **size, **look)

    def fit(self) -> None:
        """Fixes all axes, with room for labels at the left edge and below."""
        for _ in range(2):  # the second time with the labels' sizes known
            for axis in self.axes.values():
                low, high = axis.domain
                if axis.horizontal:
                    span = self.right - self.left
                    ends = self.left + low * span, self.left + high * span
                else:
                    span = self.bottom - self.top
                    ends = self.bottom - low * span, self.bottom - high * span
                axis.fit(*ends, among=self.matching(axis))
            self.make_room()
        for panel in self.panels.values():
            self.keep_square(panel)

    def matching(self, axis: Axis) -> list[Axis]:
        """The axes that share a range with this one."""
        group = axis.layout.get("matches") or axis.name
        found = [a for a in self.axes.values() if a.layout.get("matches") == group or a.name == group]
        for other in found:  # categories of one are those of all
            if other.categories and not axis.categories:
                axis.categories, axis.kind = other.categories, "category"
        return [a for a in found if a is not axis]

    def make_room(self) -> None:
        for axis in self.axes.values():
            if axis.layout.get("visible") is False:
                continue
            size = float((axis.layout.get("tickfont") or {}).get("size") or self.size)
            title = (axis.layout.get("title") or {}).get("text")
            if not axis.horizontal and axis.domain is not None and self.is_at_left(axis):
                widest = max((width_of(label, size) for _, label in axis.ticks()), default=0.0)
                self.left = max(self.left, min(widest + 12 + (24 if title else 0), self.width * 0.4))
            if (
                axis.horizontal
                and axis.domain is not None
                and axis.layout.get("side") != "top"
                and self.is_at_bottom(axis)
            ):
                self.bottom = min(self.bottom, self.height - (label_room(axis, size) + 14 + (26 if title else 0)))
        self.right = max(self.right, self.left + 60)

    def is_at_left(self, axis: Axis) -> bool:
        other = self.axes.get(axis.layout.get("anchor") or "x")
        return other is None or other.domain[0] < 0.02

    def is_at_bottom(self, axis: Axis) -> bool:
        other = self.axes.get(axis.layout.get("anchor") or "y")
        return other is None or other.domain[0] < 0.02

    def keep_square(self, panel: _Panel) -> None:
        """Narrows the longer axis where one unit must be as long on both."""
        x, y = panel.x, panel.y
        if y.layout.get("scaleanchor") != x.name and x.layout.get("scaleanchor") != y.name:
            return
        unit_x, unit_y = (abs(a.end - a.start) / (abs(a.high - a.low) or 1.0) for a in (x, y))
        unit = min(unit_x, unit_y)
        for axis, own in ((x, unit_x), (y, unit_y)):
            length, room = (axis.end - axis.start) * unit / own, axis.end - axis.start
            toward = axis.layout.get("constraintoward") or ("center" if axis.horizontal else "middle")
            slack = room - length
            axis.start += slack * {"left": 0.0, "bottom": 0.0, "right": 1.0, "top": 1.0}.get(toward, 0.5)
            axis.end = axis.start + length

    def panel(self, panel: _Panel, i: int, clips: list[str]) -> str:
        x, y = panel.x, panel.y
        left, right = sorted((x.start, x.end))
        top, bottom = sorted((y.start, y.end))
        ground = self.layout.get("plot_bgcolor")
        box: dict[str, Any] = {"x": left, "y": top, "width": right - left, "height": bottom - top}
        parts = [svg.element("rect", fill=ground, **box)] if ground and not _is_clear(ground) else []
        for axis, other in ((x, y), (y, x)):
            parts.append(draw_axis(axis, other, self.size, self.colour, self.labels_shown(axis, other)))
        clips.append(svg.element("clipPath", svg.element("rect", **box), id=f"CLIP{i}"))
        inside: list[str] = []
        free: list[str] = []
        words: list[str] = []
        for trace, colour, wide in panel.traces:
            drawn = marks.draw(trace, x, y, colour, wide)
            (free if trace.get("cliponaxis") is False else inside).append(drawn)
            words.append(marks.words(trace, x, y, colour))
            if marks.kind_of(trace) == "heatmap" and trace.get("showscale") is not False:
                parts.append(draw_colour_bar(trace, right, top, bottom, self.size))
        if any(inside):
            parts.append(svg.element("g", "".join(inside), clip_path=f"url(#CLIP{i})"))
        return "".join([*parts, *free, *words])

    def labels_shown(self, axis: Axis, other: Axis) -> bool:
        """False for an inner axis of panels that share one."""
        return axis.layout.get("showticklabels") is not False and other is not None

    def where(self, ref: str | None, horizontal: bool = True, *, of_shape: bool = False) -> Any:
        """A function from a position in a reference ("paper", "x2", "y domain") to a pixel.

        On a log axis a note gives the exponent, and a shape the value.
        """
        name = ref or "paper"
        start, end = (self.left, self.right) if horizontal else (self.bottom, self.top)
        if name == "paper":
            return lambda v: start + float(v) * (end - start)
        axis = self.axis(name.split()[0])
        if name.endswith("domain"):
            return lambda v: axis.start + float(v) * (axis.end - axis.start)
        return lambda v: float(axis.pixel(_place(axis, v, of_shape)))

    def add_shapes(self) -> None:
        """Lines and rectangles in the units of an axis are within what it shows."""
        for shape in self.layout.get("shapes") or ():
            for letter in "xy":
                ref = shape.get(f"{letter}ref") or "paper"
                if ref in self.axes:
                    ends = [_place(self.axes[ref], shape[f"{letter}{i}"], True) for i in (0, 1)]
                    self.axes[ref].add(np.array(ends))


def _place(axis: Axis, value: Any, of_shape: bool) -> float:
    if (axis.kind == "category" and isinstance(value, str)) or (of_shape and axis.kind == "log"):
        return float(axis.places([value])[0])
    return float(value)


def merged(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """Two layouts as one; what `high` says goes before. A template's axes hold for all: they are under _template."""
    found = dict(low)
    for key, value in high.items():
        if key == "template":
            continue
        if isinstance(value, Mapping) and isinstance(found.get(key), Mapping):
            value = merged(found[key], value)
        found[key] = value
    if "template" in high:
        found["_template"] = {name: low.get(name) for name in ("xaxis", "yaxis")}
    return found


def _is_clear(colour: str) -> bool:
    return colour.replace(" ", "").endswith(",0)") or colour == "transparent"
