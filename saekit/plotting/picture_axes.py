"""Axes of a static picture: which values they span, where a value lies, and their ticks."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .picture_text import number, plain, power


class CannotDrawError(Exception):
    """A figure has something that the static renderer does not draw."""


def values(data: Any) -> list[Any]:
    """The values of an array as plotly writes it: a list, a NumPy array, or bytes with a dtype."""
    if data is None:
        return []
    if isinstance(data, Mapping) and "bdata" in data:
        raw = base64.b64decode(data["bdata"])
        array = np.frombuffer(raw, np.dtype(data["dtype"]).newbyteorder("<"))
        if "shape" in data:
            array = array.reshape([int(size) for size in str(data["shape"]).split(",")])
        return array.tolist()  # type: ignore[no-any-return]
    return data.tolist() if hasattr(data, "tolist") else list(data)


def numbers(data: Any) -> np.ndarray:
    """The same as floats, nan for what is missing."""
    return np.array([math.nan if v is None else float(v) for v in values(data)], float)


class Axis:
    """One axis. `add` takes the data that it must show; `fit` then fixes its range and its pixels."""

    def __init__(self, name: str, layout: Mapping[str, Any]) -> None:
        self.name, self.layout = name, layout
        self.horizontal = name.startswith("x")
        self.kind: str = layout.get("type") or ""
        if self.kind not in ("", "-", "linear", "log", "category"):
            raise CannotDrawError(f"an axis of type {self.kind}")
        self.kind = "" if self.kind == "-" else self.kind
        self.categories: list[Any] = []
        self.least, self.most = math.inf, -math.inf
        self.low, self.high = 0.0, 1.0
        self.from_zero, self.padded, self.exact = False, False, False
        self.domain: Sequence[float] = layout.get("domain") or (0.0, 1.0)
        self.start = self.end = 0.0

    @property
    def reversed(self) -> bool:
        return self.layout.get("autorange") == "reversed"

    def places(self, data: Iterable[Any]) -> np.ndarray:
        """Data as numbers on this axis: log10 on a log axis, the number of the category on a category axis."""
        data = list(data)
        if not self.kind:
            words = [v for v in data if isinstance(v, str)]
            self.kind = "category" if words and not all(map(_is_number, words)) else "linear" if data else ""
        if self.kind == "category":
            for v in data:
                if v not in self.categories:
                    self.categories.append(v)
            return np.array([self.categories.index(v) for v in data], float)
        if any(hasattr(v, "year") for v in data):
            raise CannotDrawError("an axis of dates")
        found = np.array([math.nan if v is None else float(v) for v in data], float)
        if self.kind == "log":
            with np.errstate(divide="ignore", invalid="ignore"):
                found = np.where(found > 0, np.log10(found), math.nan)
        return found

    def add(self, places: np.ndarray, *, padded: bool = False, from_zero: bool = False) -> None:
        """Widens what is shown to the places (see `places`)."""
        found = places[np.isfinite(places)]
        if len(found):
            self.least, self.most = min(self.least, float(found.min())), max(self.most, float(found.max()))
        self.padded |= padded
        self.from_zero |= from_zero

    def fit(self, start: float, end: float, among: Sequence[Axis] = ()) -> None:
        """Fixes the range, by all that is shown on `among` where axes match, between two pixels."""
        self.start, self.end = start, end
        given = self.layout.get("range")
        if given is not None and given[0] is not None and given[1] is not None:
            self.low, self.high = float(given[0]), float(given[1])
            return
        self.low, self.high = self.least, self.most
        for other in among:
            self.low, self.high = min(self.low, other.least), max(self.high, other.most)
            self.padded |= other.padded
        if self.low > self.high:
            self.low, self.high = (0.0, 1.0) if self.kind != "category" else (0.0, 0.0)
        if self.kind == "category":
            self.low, self.high = -0.5, max(len(self.categories), 1) - 0.5
        else:
            zero = self.kind != "log" and (self.from_zero or self.layout.get("rangemode") == "tozero")
            if zero:
                self.low, self.high = min(self.low, 0.0), max(self.high, 0.0)
            span = self.high - self.low
            if span <= 0:
                span = abs(self.high) or 1.0
                self.low, self.high = self.low - (0 if zero and self.low == 0 else span / 2), self.high + span / 2
            pad = 0.0 if self.exact else (0.055 if self.padded or not self.horizontal else 0.0) * span
            self.low -= 0.0 if zero and self.low == 0 else pad
            self.high += 0.0 if zero and self.high == 0 else pad
        if self.reversed:
            self.low, self.high = self.high, self.low

    def pixel(self, places: Any) -> Any:
        """Pixels of places."""
        span = (self.high - self.low) or 1.0
        with np.errstate(invalid="ignore"):
            return self.start + (places - self.low) / span * (self.end - self.start)

    def ticks(self) -> list[tuple[float, str]]:
        """Place and label of every tick within the range."""
        if self.layout.get("showticklabels") is False and not self.layout.get("tickvals"):
            return []
        low, high = sorted((self.low, self.high))
        edge = 1e-6 * (high - low)
        return [(p, label) for p, label in self._all_ticks(low, high) if low - edge <= p <= high + edge]

    def _all_ticks(self, low: float, high: float) -> list[tuple[float, str]]:
        given, form = self.layout.get("tickvals"), self.layout.get("tickformat") or ""
        if given is not None:
            wanted = values(given)
            labels = values(self.layout.get("ticktext")) or [number(float(v), form) for v in wanted]
            return [(float(p), plain(label)) for p, label in zip(self.places(wanted), labels, strict=False)]
        if self.kind == "category":
            every = max(1, math.ceil(len(self.categories) / 40))
            return [(float(i), plain(c)) for i, c in enumerate(self.categories)][::every]
        if self.kind == "log":
            return self._log_ticks(low, high, form)
        given_step = self.layout.get("dtick")
        step = float(given_step) if isinstance(given_step, (int, float)) else 0.0
        if not step > 0:
            step = nice_step((high - low) / max(3.0, abs(self.end - self.start) / (78 if self.horizontal else 46)))
        first = math.ceil(low / step - 1e-9)
        steps = range(first, math.floor(high / step + 1e-9) + 1)
        return [(at, number(at, form)) for at in (round(i * step, 12) for i in steps[:60])]

    def _log_ticks(self, low: float, high: float, form: str) -> list[tuple[float, str]]:
        step, powers = self.layout.get("dtick"), self.layout.get("exponentformat") == "power"
        digits = (
            [1] if step == 1 or high - low > 3.2 else [1, 2, 5] if step == "D2" or high - low > 0.6 else range(1, 10)
        )
        every = max(1, math.ceil((high - low) / 8)) if list(digits) == [1] else 1
        decades = range(math.floor(low), math.ceil(high) + 1, every)

        def label(digit: int, e: int) -> str:
            if powers or (not form and not -4 < e < 7):
                return power(e) if digit == 1 else f"{digit}"
            return number(digit * 10.0**e, form)

        return [(e + math.log10(digit), label(digit, e)) for e in decades for digit in digits]


def nice_step(step: float) -> float:
    """The next of 1, 2, 5 times a power of ten that is not below `step`.

    >>> from saekit.plotting.picture_axes import nice_step
    >>> nice_step(0.3), nice_step(12)
    (0.5, 20.0)
    """
    scale = 10.0 ** math.floor(math.log10(step))
    return next(m * scale for m in (1.0, 2.0, 5.0, 10.0) if m * scale >= step * (1 - 1e-9))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
