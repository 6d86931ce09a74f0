"""A heatmap on a static picture: its cells as the pixels of one small PNG, and its colour scale."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import picture_svg as svg
from .picture_axes import Axis, CannotDrawError, numbers, values

MAX_CELLS = 250_000
Trace = Mapping[str, Any]


def add_heatmap(trace: Trace, x: Axis, y: Axis) -> None:
    """Lets the axes show all cells."""
    for axis, found in zip((x, y), _cells(trace), strict=True):
        places = axis.places(found)
        half = _half_cell(places)
        axis.add(np.array([places.min() - half, places.max() + half]) if len(places) else places)
        axis.exact = True


def _cells(trace: Trace) -> tuple[list[Any], list[Any]]:
    z = np.array(values(trace.get("z")), dtype=object)
    if z.ndim != 2 or z.size > MAX_CELLS:
        raise CannotDrawError("a heatmap of this shape")
    x, y = values(trace.get("x")), values(trace.get("y"))
    return x or list(range(z.shape[1])), y or list(range(z.shape[0]))


def _half_cell(places: np.ndarray) -> float:
    return float(np.diff(places).mean()) / 2 if len(places) > 1 else 0.5


def limits(trace: Trace) -> tuple[float, float]:
    """The values at the ends of a heatmap's colour scale."""
    z = np.array([numbers(row) for row in values(trace.get("z"))])
    known = z[np.isfinite(z)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    return float(trace["zmin"] if trace.get("zmin") is not None else low), float(
        trace["zmax"] if trace.get("zmax") is not None else high
    )


def colours(trace: Trace, at: np.ndarray) -> np.ndarray:
    """Bytes of red, green, blue and opacity where the colour scale is from 0 to 1; nothing where `at` is nan."""
    scale = trace.get("colorscale")
    if not isinstance(scale, (list, tuple)):
        raise CannotDrawError(f"the colour scale {scale}")
    stops = np.array([float(position) for position, _ in scale])
    rgba = np.array([_rgba(str(colour)) for _, colour in scale])
    # Where two stops share a place, the later begins just after the earlier.
    stops = stops + 1e-9 * np.arange(len(stops))
    known = np.clip(np.nan_to_num(at, nan=0.0), 0, 1)
    found = np.stack([np.interp(known, stops, rgba[:, c]) for c in range(4)], axis=-1)
    found[..., 3] *= 255 * np.isfinite(at)
    picture: np.ndarray = np.rint(found).astype(np.uint8)
    return picture


def heatmap(trace: Trace, x: Axis, y: Axis) -> str:
    """The cells, without smoothing."""
    z = np.array([numbers(row) for row in values(trace.get("z"))])
    if not z.size:
        return ""
    low, high = limits(trace)
    picture = colours(trace, (z - low) / ((high - low) or 1.0))
    at_x, at_y = x.places(_cells(trace)[0]), y.places(_cells(trace)[1])
    half_x, half_y = _half_cell(at_x), _half_cell(at_y)
    left, right = (float(x.pixel(v)) for v in (at_x.min() - half_x, at_x.max() + half_x))
    top, bottom = (float(y.pixel(v)) for v in (at_y.min() - half_y, at_y.max() + half_y))
    if left > right:
        picture, left, right = picture[:, ::-1], right, left
    if top > bottom:
        picture, top, bottom = picture[::-1], bottom, top
    place: dict[str, Any] = {
        "x": left,
        "y": top,
        "width": right - left,
        "height": bottom - top,
        "preserveAspectRatio": "none",
    }
    return svg.element("image", href=svg.pixels(picture), style="image-rendering:pixelated", **place)


def _rgba(colour: str) -> tuple[float, float, float, float]:
    if colour.startswith("#") and len(colour) == 7:
        r, g, b = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        return r, g, b, 1.0
    parts = [float(part) for part in re.findall(r"[\d.]+", colour)]
    if not colour.startswith("rgb") or len(parts) not in (3, 4):
        raise CannotDrawError(f"the colour {colour}")
    return parts[0], parts[1], parts[2], parts[3] if len(parts) == 4 else 1.0
