"""How a widget is shown in a notebook: its static picture as an output of its own, before the live view.

The live view hides the picture while it runs (widgets/src/shared/kernel.ts). Where there is no live view (GitHub,
nbviewer, nbconvert, VS Code or JupyterLab without the kernel that made it), the picture is what is left. Two outputs
and not two types of one: JupyterLab shows an error in place of a view whose model is gone, and nothing of the other
types; and a picture of its own can be brought up to date without drawing the live view anew.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import Widget

HTML = "text/html"
SECONDS = 0.5
"""From a change to the picture being brought up to date: several changes are one."""
NOTE = '<p style="margin:6px 0;font-size:12px;opacity:0.8">A picture of the widget; run its cell to use it.</p>'
NOTHING = "<!-- the picture is the output before this one -->"


def in_a_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    from IPython import get_ipython

    return hasattr(get_ipython(), "kernel")


def publish(data: dict[str, Any], metadata: dict[str, Any] | None = None, **how: Any) -> None:
    """Sends an output to the notebook."""
    from IPython.display import publish_display_data

    publish_display_data(data, metadata, **how)  # type: ignore[no-untyped-call]


def with_its_rule(picture: str, name: str) -> str:
    """The picture under its name, with rules for JupyterLab: of picture and view one is hidden.

    The picture where the view after it is drawn, whatever the widget's own script does; the view where it is no more
    than an error that its model was not found.
    """
    area = f'.jp-OutputArea-child:has([data-saekit-picture="{name}"])'
    view = ".jp-OutputArea-child:not(:has(.jp-OutputArea-output *))"  # words alone: its error, or "Loading widget..."
    live = ":has(+.jp-OutputArea-child>.jp-OutputArea-output.lm-Widget .lm-Widget)"
    rules = f"{area}+{view},{area}{live}{{display:none}}"
    return f'<div data-saekit-picture="{name}">{picture}{NOTE}</div><style>{rules}</style>'


class ShownPicture:
    """The picture of one widget among a notebook's outputs."""

    def __init__(self, widget: Widget) -> None:
        self._widget, self._is_shown, self._drawn = widget, False, ""
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()

    def show(self, view: tuple[dict[str, Any], dict[str, Any]] | None) -> None:
        """Displays the picture, and the view after it."""
        name = self._widget.picture_id
        self._drawn, self._is_shown = self._widget.safe_picture(), True
        publish({HTML: with_its_rule(self._drawn, name)}, transient={"display_id": name})
        if view is not None:
            data, metadata = view
            publish({**data, HTML: NOTHING}, metadata)

    def changed(self) -> None:
        """Brings the picture up to date soon, where it is shown."""
        with self._lock:
            if self._is_shown and self._timer is None:
                self._timer = threading.Timer(SECONDS, self.update)
                self._timer.daemon = True
                self._timer.start()

    def update(self) -> None:
        """Brings the picture up to date, where it is shown and the widget is at rest."""
        with self._lock:
            self._timer = None
        if not self._is_shown or not self._widget.at_rest():
            return
        drawn, name = self._widget.safe_picture(), self._widget.picture_id
        if drawn != self._drawn:
            self._drawn = drawn
            data = {HTML: with_its_rule(drawn, name)}
            publish(data, transient={"display_id": name}, update=True)
