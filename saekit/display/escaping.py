"""Text as HTML content: nothing in a token, a label or a file name can become markup or turn the line around."""

from __future__ import annotations

import html
import re

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Controls that are no white space, marks that turn the text around them, and halves of a character."""


def escape(text: object) -> str:
    """`text` for HTML content and attributes, control characters that are no white space shown by code.

    >>> from saekit.display.escaping import escape
    >>> escape("<b>\\x00"), escape('"a" & \\u202eb')
    ('&lt;b&gt;&lt;U+0000&gt;', '&quot;a&quot; &amp; &lt;U+202E&gt;b')
    """
    return html.escape(_CONTROL.sub(lambda m: f"<U+{ord(m[0]):04X}>", str(text)))


def shortened(text: object, limit: int) -> str:
    """`text` on one line, cut to `limit` characters.

    >>> from saekit.display.escaping import shortened
    >>> shortened("one two\\n three", 9)
    'one two …'
    """
    line = re.sub(r"\s+", " ", str(text)[: 20 * limit]).strip()
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
