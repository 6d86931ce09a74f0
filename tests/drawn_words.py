"""What a figure draws of a word that somebody else chose."""

from __future__ import annotations

import html
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import Any

import plotly.graph_objects as go

HOSTILE = '<b>bold</b> <a href="javascript:alert(1)">link</a> $\\frac{1}{2}$ %{y} &lt; \u202e'
PLAIN = HOSTILE.replace("\u202e", "\ufffd")
READ_AS_MARKUP = ("<b>bold", "<a ", "$\\frac", "%{y} &", " &lt; ", "\u202e")


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings(item)
    elif hasattr(value, "__iter__"):
        for item in value:
            yield from strings(item)


def assert_literal(fig: go.Figure, times: int = 1) -> None:
    """The hostile word stands in at least so many texts of the figure, letter by letter, and nowhere as markup.

    Nor is any of it markup in the static picture.
    """
    found = list(strings(fig.to_plotly_json()))
    assert [(part, text) for text in found for part in READ_AS_MARKUP if part in text] == []
    assert sum(PLAIN in html.unescape(text) for text in found) >= times
    picture = fig.static_picture()
    tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(picture).iter()}
    assert tags <= {"svg", "g", "rect", "path", "text", "tspan", "clipPath", "image"} and "\u202e" not in picture
