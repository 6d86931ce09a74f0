"""Words and numbers of a static picture: plotly's markup as plain runs, widths without a font, tick labels.

Widths are estimates for a sans-serif font, a little on the wide side: the picture is drawn with whatever font a reader
has. Number formats are the part of d3's that saekit's figures use.
"""

from __future__ import annotations

import math
import re
import unicodedata
from html import unescape
from typing import NamedTuple

TEXT = "#7C7C7C"
"""Contrast 4.2 to white and 4.5 to #111, JupyterLab's dark page: near the best that one grey can do for both."""
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"
_NARROW, _WIDE = frozenset("iljftrI.,:;'|!()[]{}/\\- "), frozenset("mwMW@%—…")
_TAG = re.compile(r"<(/?)(b|i|br|sup|sub|em|strong|span|a)\b[^>]*>", re.I)
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_PREFIXES = {-12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "B", 12: "T"}
_FORMAT = re.compile(r"(?P<comma>,?)(?:\.(?P<digits>\d+))?(?P<trim>~?)(?P<kind>[%sfgder]?)")


class Run(NamedTuple):
    """Letters of one weight."""

    text: str
    bold: bool


def lines_of(markup: object) -> list[list[Run]]:
    """The lines of a text in plotly's markup, without tags and entities.

    >>> from saekit.plotting.picture_text import lines_of
    >>> lines_of("<b>a &lt; b</b><br>c")
    [[Run(text='a < b', bold=True)], [Run(text='c', bold=False)]]
    """
    lines: list[list[Run]] = [[]]
    bold, at, text = 0, 0, str(markup)
    for tag in [*_TAG.finditer(text), None]:
        words = unescape(text[at : tag.start() if tag else len(text)]).replace("\n", " ")
        if words:
            lines[-1].append(Run(words, bold > 0))
        if tag is None:
            break
        at, name = tag.end(), tag[2].lower()
        if name == "br":
            lines.append([])
        elif name in ("b", "strong"):
            bold += -1 if tag[1] else 1
    return lines


def plain(markup: object) -> str:
    """The words of a text in plotly's markup on one line."""
    return " ".join("".join(run.text for run in line) for line in lines_of(markup))


def width_of(text: str, size: float, bold: bool = False) -> float:
    """About how wide a text is drawn, in pixels."""
    return size * (1.06 if bold else 1.0) * sum(map(_advance, text))


def line_width(line: list[Run], size: float) -> float:
    """About how wide a line is drawn, in pixels."""
    return sum(width_of(run.text, size, run.bold) for run in line)


def _advance(character: str) -> float:
    if character in _NARROW:
        return 0.35
    if character in _WIDE:
        return 0.88
    if ord(character) < 0x250:
        return 0.69 if character.isupper() else 0.59
    if unicodedata.combining(character):
        return 0.0
    return 1.0 if unicodedata.east_asian_width(character) in "WF" else 0.6


def shortened(text: str, size: float, most: float) -> str:
    """The text, cut with an ellipsis where it is wider than `most` pixels."""
    if width_of(text, size) <= most:
        return text
    while text and width_of(text + "…", size) > most:
        text = text[:-1]
    return text.rstrip() + "…"


def number(value: float, form: str = "") -> str:
    """A value as a tick label, by a d3 format such as ".0%", ",d" or "~s"; without one, as few digits as it needs.

    >>> from saekit.plotting.picture_text import number
    >>> number(0.25), number(20000), number(0.5, ".0%"), number(1500, "~s"), number(1234, ",d")
    ('0.25', '20k', '50%', '1.5k', '1,234')
    """
    found = _FORMAT.fullmatch(form)
    if not math.isfinite(value):
        return ""
    if not form or found is None:
        return _si(value, None) if abs(value) >= 1e4 or 0 < abs(value) < 1e-3 else _minus(f"{value:.6g}")
    digits, kind = found["digits"], found["kind"]
    if kind == "s":
        return _si(value, None if found["trim"] else int(digits or 3))
    kind = {"d": "f", "r": "g"}.get(kind, kind or "g")
    digits = "0" if found["kind"] == "d" else digits or "6"
    text = format(value, f"{found['comma']}.{digits}{kind}")
    return _minus(re.sub(r"\.?0+(?=%?$)", "", text) if found["trim"] and "." in text else text)


def power(exponent: float) -> str:
    """Ten to the `exponent`, written with a superscript."""
    return "10" + f"{exponent:g}".translate(_SUPERSCRIPTS)


def _si(value: float, digits: int | None) -> str:
    exponent = 0 if value == 0 else max(-12, min(12, 3 * math.floor(math.log10(abs(value) * (1 + 1e-12)) / 3)))
    scaled = f"{value / 10.0**exponent:.{digits or 6}g}"
    return _minus(f"{float(scaled):g}" + _PREFIXES[exponent])


def _minus(text: str) -> str:
    return text.replace("-", "−") if text.startswith("-") else text
