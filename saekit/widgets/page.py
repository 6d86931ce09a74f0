"""One self-contained HTML page with text, tables, plots and working widgets, for reading without a network.

The page carries its own script (widgets/src/page.ts), which gives every widget its state and a model with no kernel
behind it. A content security policy forbids every request and every script but those written here, which it names by
their SHA-256. All text is escaped; nothing in a token, a label or a table can become HTML. Figures are static pictures
(plotting/picture.py); plotly's library, 4.5 MB, is on a page only for a figure that has no static form.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..arguments import checks_arguments
from ..atomic_io import atomic_write
from ..errors import ConfigError, DataError
from ..plotting.picture import draw_svg
from ..plotting.picture_axes import CannotDrawError
from .base import STATIC, Widget
from .markdown import escape, to_html

MAX_ROWS = 200
FIGURE_WIDTH = 948


@dataclass(frozen=True)
class Text:
    """Words on a page, in Markdown: CommonMark and tables, without HTML or images."""

    markdown: str


@checks_arguments
def save_page(path: str | Path, title: str, blocks: Iterable[Any]) -> Path:
    """The path of an HTML file that holds everything it shows and makes no request.

    A block is a `Text` or a str, a pandas DataFrame or Series, a plotly figure, a saekit widget, or an object of saekit
    as a notebook displays it, below its `.plot()` where it has one; of other results `.plot()` and `.to_frame()` are
    shown. Widgets keep the state they have now and answer clicks; a feature whose card was not embedded
    (`browser.embed([...])`) says so, and a widget from outside saekit is shown as text.
    Raises DataError for a block of another kind and FileError or DiskFullError when the file cannot be written.

    >>> path = sk.save_page(tmp_path / "page.html", "A title", ["Some *words*.", sk.highlight(model, sae, "a cat")])
    >>> "<em>words</em>" in path.read_text("utf8")
    True
    """
    if not isinstance(title, str):
        raise ConfigError("the title is no text", got=f"{title!r:.80}", accepted="a string", fix='title="My page"')
    if isinstance(blocks, (str, pd.DataFrame)) or not isinstance(blocks, Iterable):
        raise ConfigError("blocks is no list", got=type(blocks).__name__, accepted="a list", fix="pass [block]")
    page = _Page()
    for block in blocks:
        page.add(block)
    with atomic_write(path) as part:
        part.write_text(re.sub("[\ud800-\udfff]", "\ufffd", page.html(title)), "utf8")  # halves of characters
    return Path(path)


class _Page:
    """The blocks of one page as HTML, and the scripts they need."""

    def __init__(self) -> None:
        self._blocks: list[str] = []
        self._n_states = 0
        self._figures = False
        self._scripts: dict[str, None] = {}

    def add(self, block: Any) -> None:
        if isinstance(block, (str, Text)):
            words = block if isinstance(block, str) else block.markdown
            self._blocks.append(f'<div class="page-block page-text">{to_html(words)}</div>')
        elif isinstance(block, Widget):
            self._widget(block)
        elif isinstance(block, (pd.DataFrame, pd.Series)):
            self._table(block.to_frame() if isinstance(block, pd.Series) else block)
        elif hasattr(block, "to_plotly_json"):
            self._figure(block)
        elif hasattr(block, "plot") or hasattr(block, "to_frame") or _displayed(block):
            if hasattr(block, "plot"):
                self._figure(block.plot())
            if _displayed(block):
                self._blocks.append(f'<div class="page-block page-display">{block._repr_html_()}</div>')
            elif hasattr(block, "to_frame"):
                self._table(block.to_frame())
        else:
            raise DataError(
                f"a page cannot show a {type(block).__name__}",
                got=block,
                accepted="text, DataFrames, plotly figures, saekit's widgets and results, or .plot() or .to_frame()",
                fix="pass str(block) to show it as text",
            )

    def html(self, title: str) -> str:
        """The whole page."""
        scripts: list[tuple[str, str]] = []
        if self._figures:
            from plotly.offline import get_plotlyjs

            scripts.append(("", get_plotlyjs()))
        scripts += [("", script) for script in self._scripts]
        scripts.append((' type="module"', (STATIC / "page.js").read_text("utf8")))
        safe = [(kind, _inside_script(text)) for kind, text in scripts]
        hashes = " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for _, text in safe
        )
        policy = (
            f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; "
            "connect-src 'none'; base-uri 'none'; form-action 'none'"
        )
        tags = "\n".join(f"<script{kind}>{text}</script>" for kind, text in safe)
        style = (STATIC / "page.css").read_text("utf8").replace("</", "<\\/")
        return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="saekit">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<main>
<header class="page-head"><h1>{escape(title)}</h1><button type="button" id="page-theme">Dark theme</button></header>
{chr(10).join(self._blocks)}
<footer>Made with saekit. This page holds everything it shows and makes no request.</footer>
</main>
{tags}
</body>
</html>
"""

    def _widget(self, widget: Widget) -> None:
        if widget.static != STATIC:  # the page's script draws the widgets of saekit/static
            self._blocks.append(f'<div class="page-block page-widget"><pre>{escape(widget.text())}</pre></div>')
            return
        self._scripts |= dict.fromkeys(widget.page_scripts())
        attributes = f'data-widget="{widget.bundle}"'
        fallback = f"<noscript><pre>{escape(widget.text())}</pre></noscript>"
        self._blocks.append(
            f'<div class="page-block page-widget">{self._state(attributes, widget.page_state(), fallback)}</div>'
        )

    def _figure(self, figure: Any) -> None:
        try:
            drawn = draw_svg(figure, text="currentColor", width=FIGURE_WIDTH)
        except CannotDrawError:
            self._live_figure(figure)
        else:
            self._blocks.append(f'<div class="page-block page-figure">{drawn}</div>')

    def _live_figure(self, figure: Any) -> None:
        """A figure that plotly draws in the page."""
        self._figures = True
        content = json.loads(figure.to_json())
        state = {"data": content.get("data", []), "layout": content.get("layout", {})}
        self._blocks.append(f'<div class="page-block page-figure">{self._state("data-figure", state)}</div>')

    def _state(self, attributes: str, state: Any, inside: str = "") -> str:
        self._n_states += 1
        name = f"state-{self._n_states}"
        text = json.dumps(plain(state), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
        return (
            f'<div {attributes} data-state="{name}">{inside}</div>'
            f'<script type="application/json" id="{name}">{text}</script>'
        )

    def _table(self, frame: pd.DataFrame) -> None:
        shown = frame.head(MAX_ROWS)
        if not isinstance(shown.index, pd.RangeIndex) or shown.index.name:
            unnamed = shown.index.nlevels == 1 and not shown.index.name
            shown = shown.reset_index(allow_duplicates=True, names="" if unnamed else None)
        numeric = [pd.api.types.is_numeric_dtype(d) and not pd.api.types.is_bool_dtype(d) for d in shown.dtypes]
        kinds = [' class="num"' if is_number else "" for is_number in numeric]
        head = "".join(f'<th scope="col"{k}>{escape(str(c))}</th>' for k, c in zip(kinds, shown.columns, strict=True))
        body = "".join(
            f"<tr>{''.join(f'<td{k}>{escape(cell(value))}</td>' for k, value in zip(kinds, row, strict=True))}</tr>"
            for row in shown.itertuples(index=False, name=None)
        )
        note = f'<p class="page-note">The first {MAX_ROWS} of {len(frame):,} rows.</p>' if len(frame) > MAX_ROWS else ""
        table = f'<table class="page"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        self._blocks.append(f'<div class="page-block page-table">{table}{note}</div>')


def cell(value: Any) -> str:
    """A table cell's text: whole numbers with separators, others with four digits, lists joined, nothing for missing.

    >>> from saekit.widgets.page import cell
    >>> cell(12345), cell(0.123456), cell(float("nan")), cell(["a", "b"])
    ('12,345', '0.1235', '', 'a, b')
    """
    if isinstance(value, (list, tuple, np.ndarray)):
        return ", ".join(cell(v) for v in value)
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (int, np.integer)):
        return f"{value:,}"
    if isinstance(value, (float, np.floating)):
        number = float(value)
        if math.isnan(number):
            return ""
        return f"{number:,.0f}" if abs(number) >= 1e4 else f"{number:.4g}"
    return "" if value is None or value is pd.NA or value is pd.NaT else str(value)


def plain(value: Any) -> Any:
    """`value` as JSON values: bytes as {"$bytes": base64}, not-a-numbers as None."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"$bytes": base64.b64encode(value).decode("ascii")}
    if isinstance(value, (float, np.floating)):
        number = float(value)
        return number if math.isfinite(number) else None
    return int(value) if isinstance(value, np.integer) else value


def _displayed(block: Any) -> bool:
    """Whether it is an object of saekit with a display of its own, which is safe to show."""
    return hasattr(block, "_repr_html_") and any(c.__module__.startswith("saekit.") for c in type(block).__mro__)


def _inside_script(text: str) -> str:
    """The script with nothing in it that would end its element; in a JavaScript string the new form means the same."""
    return re.sub(r"</(script)|<!--", lambda m: f"<\\/{m[1]}" if m[1] else "<\\!--", text, flags=re.I)
