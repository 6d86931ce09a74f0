"""One look for every figure: transparent, one grey for text that reads on white and on black, two colours.

Orange is a feature's activation, blue what it is compared with by words or sign, grey the controls. The two colours are
distinguished by people with any kind of colour blindness (Okabe and Ito 2008) and stand out from white and from #111.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from typing import Any

import plotly.graph_objects as go

from .figures import Figure
from .picture_text import FONT as FONT
from .picture_text import TEXT as TEXT

ORANGE = "#E06C00"
BLUE = "#2F82D0"
GREY = "#8A8A8A"
DASHES = ("solid", "dash", "dot", "dashdot")
"""Line styles, for what colour alone cannot distinguish."""
PALETTE = (ORANGE, BLUE, GREY, "#C2479B", "#0B8F6A", "#7B61D6")
"""One for each kind of thing, contrast at least 3.3 to white and 4.0 to #111; SYMBOLS say the same without colour."""
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "star")

_UNWRITABLE = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f\\u202a-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")
"""Control characters, those that reverse the text around them, and halves of a character."""

_AXIS = {
    "gridcolor": "rgba(128,128,128,0.18)",
    "linecolor": "rgba(128,128,128,0.55)",
    "tickcolor": "rgba(128,128,128,0.55)",
    "zeroline": False,
    "showline": True,
    "ticks": "outside",
    "ticklen": 4,
    "automargin": True,
    "title": {"standoff": 8, "font": {"size": 13}},
    "tickfont": {"size": 12},
}

TEMPLATE = go.layout.Template(
    layout={
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "colorway": [ORANGE, BLUE, GREY],
        "font": {"family": FONT, "size": 13, "color": TEXT},
        "title": {
            "x": 0,
            "xref": "container",
            "xanchor": "left",
            "pad": {"l": 16},
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "font": {"size": 16},
            "subtitle": {"font": {"size": 13}},
        },
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "hovermode": "closest",
        "bargap": 0.08,
        "hoverlabel": {"bgcolor": "#333333", "bordercolor": "#333333", "font": {"family": FONT, "color": "#FFFFFF"}},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "bgcolor": "rgba(0,0,0,0)"},
        "margin": {"l": 64, "r": 24, "t": 80, "b": 56},
    }
)


def figure(title: str, subtitle: str = "", *, height: int = 380, fig: go.Figure | None = None) -> go.Figure:
    """A figure in saekit's look; the title and the subtitle are plain text."""
    fig = Figure() if fig is None else fig
    pad = {"t": 14, "l": 16}
    fig.update_layout(template=TEMPLATE, height=height, title={"text": f"<b>{literal(title)}</b>", "pad": pad})
    if subtitle:
        fig.update_layout(title={"subtitle": {"text": literal(subtitle)}})
    return fig


def literal(words: object) -> str:
    """`words` as plotly draws them letter by letter: no tags, links, entities, TeX or parts of a hover template.

    For every word that a user, a file or a model chose: labels, names, classes, formulas. Plotly knows few named
    entities, so quotes stay as they are.

    >>> from saekit.plotting.style import literal
    >>> literal('<b>"$x$" %{y}')
    '&lt;b&gt;"&#36;x&#36;" &#37;{y}'
    """
    text = _UNWRITABLE.sub("\ufffd", str(words))
    return escape(text, quote=False).replace("$", "&#36;").replace("%{", "&#37;{")


def faded(colour: str, opacity: float) -> str:
    """A colour of this module with an opacity, as CSS.

    >>> from saekit.plotting.style import faded
    >>> faded("#E06C00", 0.2)
    'rgba(224,108,0,0.2)'
    """
    r, g, b = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({r},{g},{b},{opacity:g})"


def band(x: Iterable[float], low: Iterable[float], high: Iterable[float], colour: str, name: str) -> go.Scatter:
    """The region between two lines."""
    forth = list(x)
    return go.Scatter(
        x=[*forth, *reversed(forth)],
        y=[*high, *reversed(list(low))],
        mode="lines",
        fill="toself",
        fillcolor=faded(colour, 0.2),
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
        name=name,
    )


def note(fig: go.Figure, text: str, **where: Any) -> None:
    """Plain text in the middle of a panel that has nothing else to show."""
    place = {"xref": "x domain", "yref": "y domain", "x": 0.5, "y": 0.5, **where}
    fig.add_annotation(text=literal(text), showarrow=False, **place)


def percent(fraction: float) -> str:
    """A fraction as a percentage with as many digits as it needs.

    >>> from saekit.plotting.style import percent
    >>> percent(0.5), percent(0.01), percent(0.00025)
    ('50%', '1%', '0.025%')
    """
    return f"{100 * fraction:.2g}%" if fraction < 0.995 else "100%"
