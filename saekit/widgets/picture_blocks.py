"""Parts of a widget's static picture: HTML with styles in place, without scripts, that reads without its styles too.

A notebook keeps it beside the widget for wherever the widget does not run. Some hosts take the styles away (GitHub),
some the drawings; what is left are tables and words with the same numbers. Text has the host's colour, and fainter
things are that colour made fainter, so that it reads on light and on dark. Everything is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..plotting.figures import data_uri
from ..plotting.picture import draw_svg
from .base import shown
from .markdown import escape

ORANGE = "224,108,0"
LINE = "rgba(128,128,128,0.35)"
LEVELS = 8
"""Shades of a token's colour; neighbours of one shade are one element."""
_CELL = f"padding:2px 9px 2px 0;border:0;border-bottom:1px solid {LINE};vertical-align:top;background:none"
_TEXT = "white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:plaintext"


class Html(str):
    """HTML that is safe to show as it is; only this module makes it."""

    __slots__ = ()


def picture(title: str, about: str, *blocks: Html | None) -> Html:
    """A title, a line about it, and blocks below each other."""
    line = f' <span style="opacity:0.8">{escape(about)}</span>' if about else ""
    head = f'<p style="margin:0 0 6px"><b>{escape(title)}</b>{line}</p>'
    body = "".join(block for block in blocks if block)
    return Html(f'<div style="font-size:13px;line-height:1.5;max-width:76em;text-align:start">{head}{body}</div>')


def words(text: object) -> Html:
    """A line of words."""
    return Html(f'<p style="margin:4px 0;{_TEXT}">{escape(str(text))}</p>')


def heading(text: str) -> Html:
    """The name of what follows."""
    return Html(f'<p style="margin:10px 0 2px"><b>{escape(text)}</b></p>')


def table(columns: Mapping[str, Sequence[Any]], numeric: Iterable[str] = ()) -> Html | None:
    """A table of columns by their headings; None without rows. Values that are Html stay as they are."""
    right = set(numeric)
    length = max((len(values) for values in columns.values()), default=0)
    if not length:
        return None

    def cell(tag: str, name: str, value: Any) -> str:
        align = "right" if name in right else "left"
        inside = value if isinstance(value, Html) else escape("" if value is None else str(value))
        return f'<{tag} style="text-align:{align};{_CELL}">{inside}</{tag}>'

    head = "".join(cell("th", name, name) for name in columns)
    rows = ("".join(cell("td", name, values[i]) for name, values in columns.items()) for i in range(length))
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    start = f"<thead><tr>{head}</tr></thead>" if any(columns) else ""
    style = "border-collapse:collapse;border:0;margin:4px 0;font-size:13px"
    return Html(f'<table style="{style}">{start}<tbody>{body}</tbody></table>')


def side_by_side(*blocks: Html | None) -> Html | None:
    """Blocks beside each other, or below where there is no room."""
    some = [block for block in blocks if block]
    parts = "".join(f'<div style="display:inline-block;vertical-align:top;margin-right:28px">{b}</div>' for b in some)
    return Html(f"<div>{parts}</div>") if some else None


def coloured(
    tokens: Sequence[str], heats: Sequence[float], *, centre: int = -1, faint: Sequence[bool] = (), before: str = ""
) -> Html:
    """Text as tokens, each coloured by its heat from 0 to 1; the token `centre` in bold, `faint` ones fainter."""
    parts: list[str] = []
    run, look = "", ""
    for i, token in enumerate(tokens):
        heat = float(heats[i]) if i < len(heats) else 0.0
        level = math.ceil(LEVELS * min(heat, 1.0)) if math.isfinite(heat) and heat > 0 else 0
        style = f"background:rgba({ORANGE},{0.06 + 0.44 * level / LEVELS:.2f})" if level else ""
        style += ";opacity:0.6" if i < len(faint) and faint[i] else ""
        text = escape(line_breaks(token))
        text = f"<b>{text}</b>" if i == centre else text
        if style != look:
            parts.append(_styled(run, look))
            run, look = "", style
        run += text
    parts.append(_styled(run, look))
    start = f'<span style="opacity:0.8">{escape(before)} </span>' if before else ""
    return Html(f'<div style="margin:3px 0;{_TEXT}">{start}{"".join(parts)}</div>')


def line_breaks(token: str) -> str:
    """A token with its line breaks and tabs shown; after a line break the text goes on on a new line."""
    glyphs = shown(token)
    return glyphs.replace("↵", "↵\n") if "\n" in token else glyphs


def _styled(text: str, style: str) -> str:
    return f'<span style="{style.strip(";")}">{text}</span>' if style and text else text


def drawing(figure: Any, title: str, width: int) -> Html:
    """A figure as an image, with `title` where images are not shown."""
    source = data_uri(draw_svg(figure, width=width))
    return Html(f'<img src="{source}" alt="{escape(title)}" style="max-width:100%;background:none">')


def number(value: Any, digits: int = 3) -> str:
    """A number with `digits` digits, nothing for a missing one.

    >>> from saekit.widgets.picture_blocks import number
    >>> number(12345.678), number(0.012345), number(None), number(5)
    ('12,346', '0.0123', '', '5')
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    value = float(value)
    return f"{value:,.0f}" if abs(value) >= 10 ** (digits - 1) or value == int(value) else f"{value:.{digits}g}"


def percent(fraction: Any) -> str:
    """A fraction as a percentage with three digits.

    >>> from saekit.widgets.picture_blocks import percent
    >>> percent(0.012345), percent(1)
    ('1.23%', '100%')
    """
    return "" if fraction is None else f"{100 * float(fraction):.3g}%"
