"""A display as one piece of HTML, and what is shown where one fails."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps
from typing import TypeVar

from .blocks import Block, note, preformatted
from .escaping import escape
from .style import CSS

T = TypeVar("T")


def document(title: str, about: str = "", *blocks: Block | None) -> str:
    """A display: its title, a line about it, and blocks below each other; None among them is left out.

    >>> from saekit.display import document, words
    >>> "on &lt;b&gt;</span></div><p>all is well</p></div>" in document("Evaluation", "on <b>", words("all is well"))
    True
    """
    line = f' <span class="saekit-muted">{escape(about)}</span>' if about else ""
    head = f'<div class="saekit-head"><strong class="saekit-title">{escape(title)}</strong>{line}</div>'
    body = "".join(block for block in blocks if block is not None)
    return f'<div class="saekit-display"><style>{CSS}</style>{head}{body}</div>'


def shown(display: Callable[[T], str]) -> Callable[[T], str]:
    """The display of a result, as its `_repr_html_`; where it fails, the result's text and a warning with the error."""

    @wraps(display)
    def html(result: T) -> str:
        try:
            return display(result)
        except Exception as e:  # the object is to be seen whatever is wrong with its picture
            name = type(result).__name__
            warnings.warn(f"the display of a {name} failed: {type(e).__name__}: {e}", stacklevel=2)
            return document(name, "", preformatted(repr(result)), note(f"shown as text: {type(e).__name__}: {e}"))

    return html
