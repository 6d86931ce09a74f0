"""Markdown as HTML for the text of offline pages, by markdown-it-py with everything unsafe switched off.

CommonMark and tables. HTML in the text stays text, images are not loaded, and links lead to the web only.
"""

from __future__ import annotations

import html
import re
from collections.abc import MutableMapping, Sequence
from functools import cache
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import OptionsDict

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def escape(text: str) -> str:
    """`text` for HTML content and attributes, control characters that are no whitespace shown by code.

    >>> from saekit.widgets.markdown import escape
    >>> escape("<b>\\x00")
    '&lt;b&gt;&lt;U+0000&gt;'
    """
    return html.escape(_without_control(text))


def to_html(text: str) -> str:
    """The text as HTML; headings begin at h2, since a page's title is its only h1.

    >>> from saekit.widgets.markdown import to_html
    >>> to_html("# The *gate*\\n\\n<img src=x>")
    '<h2>The <em>gate</em></h2>\\n<p>&lt;img src=x&gt;</p>'
    """
    return str(_parser().render(_without_control(text))).strip()


def _without_control(text: str) -> str:
    return _CONTROL.sub(lambda m: f"<U+{ord(m[0]):04X}>", text)


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}, renderer_cls=_Renderer)
    parser.enable("table").disable("image")
    parser.validateLink = lambda url: re.match(r"https?://", url, re.IGNORECASE) is not None  # type: ignore[method-assign]
    return parser


class _Renderer(RendererHTML):
    """What differs from plain CommonMark: heading levels, links' `rel`, and tables that scroll on a narrow page."""

    def heading_open(self, tokens: Sequence[Token], i: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        return f"<{_lowered(tokens[i].tag)}>"

    def heading_close(
        self, tokens: Sequence[Token], i: int, options: OptionsDict, env: MutableMapping[str, Any]
    ) -> str:
        return f"</{_lowered(tokens[i].tag)}>\n"

    def link_open(self, tokens: Sequence[Token], i: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        tokens[i].attrSet("rel", "noreferrer")
        return self.renderToken(tokens, i, options, env)

    def table_open(self, tokens: Sequence[Token], i: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        return '<div class="page-table"><table class="page">\n'

    def table_close(self, tokens: Sequence[Token], i: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        return "</table></div>\n"


def _lowered(tag: str) -> str:
    return f"h{min(int(tag[1:]) + 1, 6)}"
