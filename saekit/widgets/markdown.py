"""A small, safe subset of Markdown as HTML, for the text of offline pages.

Headings, paragraphs, lists, quotes, tables, code, bold, italics and links to the web. Everything else is text: no HTML
passes through, whatever it is. Knows nothing of pages or widgets.
"""

from __future__ import annotations

import html
import re

_INLINE = re.compile(
    r"(?P<code>`[^`]+`)|\[(?P<label>[^\]]+)\]\((?P<href>https?://[^\s()]+)\)"
    r"|\*\*(?P<bold>[^*]+)\*\*|(?<![\w*])\*(?P<italic>[^*\s][^*]*)\*(?![\w*])"
)
_ITEM = re.compile(r"(?:[-*]|(\d+)\.)\s+")


def escape(text: str) -> str:
    """`text` for HTML content and attributes, control characters that are no whitespace shown by code.

    >>> from saekit.widgets.markdown import escape
    >>> escape("<b>\\x00")
    '&lt;b&gt;&lt;U+0000&gt;'
    """
    seen = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\u202a-\u202e\u2066-\u2069]", lambda m: f"<U+{ord(m[0]):04X}>", text)
    return html.escape(seen)


def to_html(text: str) -> str:
    """The text as HTML made of nothing but the elements named above.

    >>> from saekit.widgets.markdown import to_html
    >>> to_html("# The *gate*\\n\\n<img src=x>")
    '<h2>The <em>gate</em></h2>\\n<p>&lt;img src=x&gt;</p>'
    """
    out: list[str] = []
    lines = text.replace("\r\n", "\n").split("\n")
    at = 0
    while at < len(lines):
        line = lines[at]
        if not line.strip():
            at += 1
        elif line.startswith("```"):
            end = next((i for i in range(at + 1, len(lines)) if lines[i].startswith("```")), len(lines))
            out.append(f"<pre><code>{escape(chr(10).join(lines[at + 1 : end]))}</code></pre>")
            at = end + 1
        elif heading := re.match(r"(#{1,3})\s+(.*)", line):
            level = len(heading[1]) + 1  # the page's title is the only h1
            out.append(f"<h{level}>{inline(heading[2])}</h{level}>")
            at += 1
        else:
            start, kind = at, _kind(line)
            at += 1
            while at < len(lines) and lines[at].strip() and _continues(kind, lines[at]):
                at += 1
            out.append(_block(kind, lines[start:at]))
    return "\n".join(out)


def inline(text: str) -> str:
    """One line's bold, italics, code and links as HTML; the rest escaped."""
    out, at = [], 0
    for m in _INLINE.finditer(text):
        out.append(escape(text[at : m.start()]))
        if m["code"]:
            out.append(f"<code>{escape(m['code'][1:-1])}</code>")
        elif m["href"]:
            out.append(f'<a href="{escape(m["href"])}" rel="noreferrer">{escape(m["label"])}</a>')
        elif m["bold"]:
            out.append(f"<strong>{inline(m['bold'])}</strong>")
        else:
            out.append(f"<em>{inline(m['italic'])}</em>")
        at = m.end()
    return "".join([*out, escape(text[at:])])


def _kind(line: str) -> str:
    if line.lstrip().startswith("|"):
        return "table"
    if line.startswith(">"):
        return "quote"
    if item := _ITEM.match(line):
        return "ol" if item[1] else "ul"
    return "p"


def _continues(kind: str, line: str) -> bool:
    if kind in ("ol", "ul"):  # an item may go on in indented lines
        return _kind(line) == kind or line.startswith("  ")
    return _kind(line) == kind and not line.startswith(("```", "# ", "## ", "### "))


def _block(kind: str, lines: list[str]) -> str:
    if kind == "table":
        rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
        ruled = len(rows) > 1 and all(re.fullmatch(r":?-+:?", cell) for cell in rows[1])
        head = "".join(f"<th>{inline(cell)}</th>" for cell in rows[0]) if ruled else ""
        body = "".join(
            f"<tr>{''.join(f'<td>{inline(cell)}</td>' for cell in row)}</tr>" for row in (rows[2:] if ruled else rows)
        )
        top = f"<thead><tr>{head}</tr></thead>" if head else ""
        return f'<div class="page-table"><table class="page">{top}<tbody>{body}</tbody></table></div>'
    if kind == "quote":
        return f"<blockquote>{inline(chr(10).join(re.sub(r'^> ?', '', line) for line in lines))}</blockquote>"
    if kind in ("ol", "ul"):
        items: list[str] = []
        for line in lines:
            if item := _ITEM.match(line):
                items.append(line[item.end() :])
            else:
                items[-1] += " " + line.strip()
        return f"<{kind}>{''.join(f'<li>{inline(item)}</li>' for item in items)}</{kind}>"
    return f"<p>{inline(' '.join(line.strip() for line in lines))}</p>"
