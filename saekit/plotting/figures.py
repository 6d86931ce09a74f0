"""saekit's figures: plotly's, with a static picture beside plotly's data for wherever plotly does not run.

A notebook keeps both. A front end that knows plotly's type shows the figure as ever; GitHub, nbviewer and nbconvert,
which do not, show the picture (image/svg+xml). Where plotly writes HTML with scripts instead, as in Colab, the picture
stands in that HTML until plotly has drawn.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import Any

import plotly.graph_objects as go

from .picture import draw_svg
from .picture_axes import CannotDrawError
from .picture_text import plain

SVG, HTML = "image/svg+xml", "text/html"


class Figure(go.Figure):  # type: ignore[misc]
    """A plotly figure that notebooks keep a static picture of."""

    def static_picture(self) -> str:
        """The figure as SVG without scripts, "" where it has something that has no static form.

        >>> from saekit.plotting.style import figure
        >>> figure("Loss").add_scatter(y=[2, 1]).static_picture()[:4]
        '<svg'
        """
        try:
            return draw_svg(self)
        except CannotDrawError:
            return ""

    def show(self, *args: Any, **kwargs: Any) -> None:
        if args or kwargs or not self._display():
            super().show(*args, **kwargs)

    def _repr_mimebundle_(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = super()._repr_mimebundle_(*args, **kwargs)
        return self._with_picture(bundle) if bundle else bundle

    def _ipython_display_(self) -> None:
        if not self._display():
            super()._ipython_display_()

    def _display(self) -> bool:
        """Whether the figure was shown in a notebook by plotly's default renderers, with its picture."""
        import plotly.io as pio
        from plotly.io.base_renderers import MimetypeRenderer

        names = (pio.renderers.default or "").split("+") if pio.renderers.render_on_display else []
        if not names or not all(name in pio.renderers for name in names):
            return False
        if not all(isinstance(pio.renderers[name], MimetypeRenderer) for name in names):
            return False
        from IPython.display import display

        display(self._repr_mimebundle_(), raw=True)  # type: ignore[no-untyped-call]
        return True

    def _with_picture(self, bundle: dict[str, Any]) -> dict[str, Any]:
        picture = self.static_picture()
        if not picture or SVG in bundle:
            return bundle
        if HTML in bundle and "<script" in bundle[HTML]:
            bundle = {**bundle, HTML: _until_drawn(picture, plain(self.layout.title.text or "Figure"), bundle[HTML])}
        title = plain(self.layout.title.text or "")
        return {"text/plain": f"Figure: {title}" if title else "Figure", **bundle, SVG: picture}


def subplots(**kwargs: Any) -> Figure:
    """Panels: plotly's make_subplots as a Figure of saekit's.

    >>> from saekit.plotting.figures import subplots
    >>> len(subplots(cols=2).layout.to_plotly_json()["xaxis2"]["domain"])
    2
    """
    from plotly.subplots import make_subplots

    figure: Figure = make_subplots(figure=Figure(), **kwargs)
    return figure


def data_uri(picture: str) -> str:
    """An SVG document as the address of an image."""
    return f"data:{SVG};base64,{base64.b64encode(picture.encode('utf8', 'replace')).decode('ascii')}"


def _until_drawn(picture: str, title: str, html: str) -> str:
    """Plotly's HTML after the picture, which a script takes away once plotly has drawn beside it."""
    name = f"saekit-{hashlib.sha256(picture.encode('utf8', 'replace')).hexdigest()[:12]}"
    image = f'<img src="{data_uri(picture)}" alt="{escape(title)}" style="max-width:100%">'
    script = (
        f'(function look(n){{var e=document.getElementById("{name}");'
        'if(e&&e.querySelector(".js-plotly-plot"))e.firstElementChild.remove();'
        "else if(n)setTimeout(look,200,n-1)})(100)"
    )
    return f'<div id="{name}">{image}{html}</div><script>{script}</script>'
